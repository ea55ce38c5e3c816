"""The rules as they are shipped, and promtool to evaluate them over series that a test writes down."""

import asyncio
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

import wallet_worker
from tests.alarms import prometheus

RULES: Final = Path(wallet_worker.__file__).parent / "telemetry" / "prometheus-rules.yaml"
ALARMS: Final[dict[str, dict[str, Any]]] = {
    rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
}

_SAMPLE = re.compile(r'\{__name__="ALERTS", ([^}]*)\}')
_LABEL = re.compile(r'(\w+)="([^"]*)"')


async def ringing(series: Mapping[str, str], minute: int) -> dict[str, dict[str, str]]:
    """Return the labels of each alarm that rings at a minute.

    `series` are those of `promtool test rules`, a value for each minute, such as `1x10 stale`. promtool compares what
    rings with nothing, and prints what it has found instead.
    """
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": 'ALERTS{alertstate="firing"}', "eval_time": f"{minute}m", "exp_samples": []}
        ],
    }
    document = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", prefix="wallet-alarms-") as file:
        file.write(yaml.safe_dump(document, width=10_000))
        file.flush()
        status, answer = await _promtool("test", "rules", file.name)
    samples = [dict(_LABEL.findall(sample)) for sample in _SAMPLE.findall(answer)]
    assert status == (1 if samples else 0), answer
    return {sample["alertname"]: sample for sample in samples}


async def check() -> str:
    """Return what promtool says of the file of rules; fails if that is a fault."""
    status, answer = await _promtool("check", "rules", str(RULES))
    assert status == 0, answer
    return answer


async def _promtool(*arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        prometheus.need("promtool"),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()
