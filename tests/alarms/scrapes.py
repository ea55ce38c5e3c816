"""What real processes show on /metrics, drawn out over time for promtool.

A fault run scrapes before and after a fault. Each state is drawn out: minutes of the first, then minutes of the second.
A gauge stays as it was scraped, a counter goes on as fast as it went between the scrapes, and the series of a process
that is gone end. So alarms that wait for minutes are tried on real samples in seconds.
"""

import math
from collections.abc import Mapping
from typing import Final, TypeAlias

from prometheus_client.parser import text_string_to_metric_families

from tests.workers import WorkerProcess

BEFORE_MINUTES: Final = 20
AFTER_MINUTES: Final = 120
COUNTERS: Final = ("_total", "_bucket", "_count", "_sum")
GROWING: Final = ("wallet_queue_not_empty_seconds",)
"""Gauges that are ages: while nothing changes they grow by a minute each minute."""

Scrape: TypeAlias = Mapping[str, float]
"""Values by series, as PromQL writes one."""


def parsed(text: str, instance: str) -> Scrape:
    """Return the wallet's series of one page of metrics, each with its process."""
    return {
        _series(sample.name, {**sample.labels, "instance": instance}): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("wallet_")
    }


async def scraped(processes: Mapping[str, WorkerProcess]) -> Scrape:
    """Return what all of these processes show now; one that is gone shows nothing."""
    found: dict[str, float] = {}
    for instance, process in processes.items():
        try:
            _, text = await process.get("/metrics")
        except OSError:
            continue
        found |= parsed(text, instance)
    return found


def drawn_out(before: Scrape, after: Scrape) -> dict[str, str]:
    """Return the series of a fault, for promtool."""
    return {name: _values(name, before.get(name), after.get(name)) for name in {**before, **after}}


def _values(name: str, before: float | None, after: float | None) -> str:
    head = [_text(before)] * BEFORE_MINUTES
    if after is None:
        return " ".join([*head, "stale"])
    step = 0.0
    if name.partition("{")[0].endswith(COUNTERS):
        step = max(after - (before or 0.0), 0.0)
    elif name.startswith(GROWING) and after > 0:
        step = 60.0
    return " ".join([*head, *(_text(after + step * minute) for minute in range(AFTER_MINUTES))])


def _text(value: float | None) -> str:
    if value is None:
        return "_"
    if math.isnan(value):
        return "NaN"
    return f"{value:.6f}"


def _series(name: str, labels: Mapping[str, str]) -> str:
    return name + "{" + ", ".join(f'{label}="{value}"' for label, value in labels.items()) + "}"
