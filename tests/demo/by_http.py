"""A scene over HTTP, by nothing but `curl`: an account, a recharge, the same again, its statement, its events."""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from payment_simulator.behaviours import Behaviour
from tests.demo import processes
from tests.demo.processes import CommandFailed, Member
from tests.demo.screen import Screen
from tests.servers.private import Folder

CURL_SECONDS: Final = 60
LINE_MAX: Final = 300
USER: Final = "carla"
_MONEY: Final = json.dumps(
    {"user_id": USER, "amount": "100.00", "currency": "TWD", "recharge_type": Behaviour.SUCCEEDED.channel}
)
_CHANGE: Final = '-H "Content-Type: application/json" -H "Idempotency-Key: {number}" -d {body}'


@dataclass(frozen=True, slots=True)
class Line:
    """One call: what follows the address of the API, and what its answer has in it."""

    says: str
    path: str
    options: str
    answer: str


def _change(says: str, path: str, number: str, body: str, answer: str) -> Line:
    return Line(says, path, _CHANGE.format(number=number, body=shlex.quote(body)), answer)


SCENE: Final = (
    _change(
        "open an account",
        "/v1/accounts",
        "curl-open",
        json.dumps({"user_id": USER, "currency": "TWD"}),
        '"status":"applied"',
    ),
    _change("recharge it", "/v1/recharges", "curl-recharge", _MONEY, '"order_status":"pending"'),
    _change("the same again: nothing more", "/v1/recharges", "curl-recharge", _MONEY, '"duplicate":true'),
    Line(
        "wait for the payment",
        "/v1/orders?serial_no=curl-recharge",
        '-H "Prefer: wait=25"',
        '"status":"succeeded"',
    ),
    Line("the statement", f"/v1/statements?user_id={USER}&currency=TWD", "", '"closing_balance":"100.00"'),
    Line(
        "what the world was told",
        f"/v1/events?after=oldest&user_id={USER}&types=order.succeeded",
        '-H "Prefer: wait=25"',
        '"order.succeeded.v1"',
    ),
)


class Api(Member):
    """The HTTP API, and a key that opens it."""

    def __init__(
        self, folder: Folder, *, environment: Mapping[str, str], port: int, health_port: int
    ) -> None:
        self.address = f"http://127.0.0.1:{port}"
        super().__init__(
            folder,
            name="api",
            arguments=["wallet_worker", "api"],
            environment={
                **environment,
                "WALLET_HTTP_HOST": "127.0.0.1",
                "WALLET_API_PORT": str(port),
                "WALLET_API_HEALTH_PORT": str(health_port),
            },
            port=health_port,
            pages=("/readyz", "/metrics"),
        )


def make_key(folder: Folder, environment: Mapping[str, str]) -> str:
    """Return a new key of an upstream service."""
    status, result = processes.wallet(folder, environment, "api", "key", "add", "demo", "--role", "upstream")
    if status:
        raise CommandFailed(f"`wallet api key add` ended with status {status}:\n{result}")
    return result.splitlines()[-1].strip()


def play(screen: Screen, api: Api, key: str) -> None:
    """Show each line and the beginning of its answer; raises CommandFailed where an answer is not as it should be."""
    screen.say("")
    screen.say("Over HTTP, by curl", style="bold")
    if shutil.which("curl") is None:
        screen.say("  there is no curl on this machine: this scene is left out", style="yellow")
        return
    for line in SCENE:
        following: str | None = line.path
        command, answer, status = "", "", 0
        while following is not None and line.answer not in answer:
            path = following
            command, answer, status = _run(api, key, path, line.options)
            screen.say(f"  # {line.says}")
            screen.say(f"  {command}")
            screen.say(f"    {answer[:LINE_MAX]}", style="green")
            following = _next_page(path, answer)
        if status or line.answer not in answer:
            raise CommandFailed(f"{line.says}: {command}\nwas answered with\n{answer}")


def _run(api: Api, key: str, path: str, options: str) -> tuple[str, str, int]:
    """Return a line of curl as it is shown, its answer, and its exit status."""
    options = f' -H "Authorization: Bearer $KEY" {options}'.rstrip()
    command = f"curl --silent --show-error {shlex.quote(api.address + path)}{options}"
    ended = subprocess.run(
        ["/bin/sh", "-c", command],
        env={"PATH": os.environ["PATH"], "KEY": key},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=CURL_SECONDS,
        check=False,
    )
    return command, ended.stdout, ended.returncode


def _next_page(path: str, answer: str) -> str | None:
    """Return where the events go on after a page; absent where there are no more. A page looks at so many at most."""
    found = re.search(r'"next_after":"([^"]+)","more":true', answer)
    return re.sub(r"after=[^&]+", f"after={found[1]}", path) if found else None
