"""How much is measured: all of it, a little of everything in under two minutes, or as good as nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from tests.benchmarks.contest import Contestant
from tests.benchmarks.database_alone import Script
from tests.benchmarks.workloads import Workload

_BOTH: Final = (Contestant.OURS, Contestant.USUAL)


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of a benchmark. A backlog is `backlog_seconds` of what its contestant is thought to do."""

    rounds: int
    backlog_seconds: float
    contests: Mapping[Workload, Sequence[Contestant]]
    database_scripts: Sequence[Script]
    database_clients: Sequence[int]
    database_count: int
    broker_count: int
    latency_rates: Sequence[int]
    latency_contestants: Sequence[Contestant]
    latency_seconds: float
    grown_users: int = 0
    grown_orders_each: int = 0
    long_backlog: int = 0
    profile_seconds: float = 0.0

    def with_rounds(self, rounds: int) -> "Plan":
        """Return the plan with another number of rounds."""
        return replace(self, rounds=rounds)


FULL: Final = Plan(
    rounds=3,
    backlog_seconds=12,
    contests=MappingProxyType(
        {
            Workload.MIX: tuple(Contestant),
            Workload.OPEN: _BOTH,
            Workload.RECHARGE: _BOTH,
            Workload.RESULTS: _BOTH,
            Workload.HOT: _BOTH,
            Workload.ZIPF: _BOTH,
            Workload.EVERY: (Contestant.OURS,),  # the others know recharges only
        }
    ),
    database_scripts=tuple(Script),
    database_clients=(1, 4, 16),
    database_count=16_000,
    broker_count=100_000,
    latency_rates=(10, 100, 500, 1_000),
    latency_contestants=_BOTH,
    latency_seconds=20,
    grown_users=1_000_000,
    grown_orders_each=5,
    long_backlog=1_000_000,
    profile_seconds=8,
)

QUICK: Final = Plan(
    rounds=1,
    backlog_seconds=3,
    contests=MappingProxyType({Workload.MIX: tuple(Contestant), Workload.HOT: (Contestant.OURS,)}),
    database_scripts=(Script.MIX,),
    database_clients=(1, 16),
    database_count=4_000,
    broker_count=20_000,
    latency_rates=(100,),
    latency_contestants=_BOTH,
    latency_seconds=3,
)
