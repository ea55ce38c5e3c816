"""How much is measured: all of it, a little of everything in under two minutes, or as good as nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from tests.benchmarks.contest import Contestant
from tests.benchmarks.database_alone import Script
from tests.benchmarks.workloads import MANY_USERS, USERS, Workload

_BOTH: Final = (Contestant.OURS, Contestant.USUAL)


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of a benchmark. A backlog is `backlog_seconds` of what its contestant is thought to do.

    `latency_seconds` is by commands a second: it is as long as its p99 needs to be of many.
    """

    rounds: int
    backlog_seconds: float
    contests: Mapping[Workload, Sequence[Contestant]]
    database_scripts: Sequence[Script]
    database_clients: Sequence[int]
    database_count: int
    broker_count: int
    latency_seconds: Mapping[int, float]
    latency_contestants: Sequence[Contestant]
    mix_users: int = MANY_USERS
    grown_users: int = 0
    grown_orders_each: int = 0
    long_backlog: int = 0
    profile_seconds: float = 0.0

    def with_rounds(self, rounds: int) -> "Plan":
        """Return the plan with another number of rounds."""
        return replace(self, rounds=rounds)

    def users(self, workload: Workload) -> int:
        """Return how many users have an account before a run of this workload."""
        return self.mix_users if workload is Workload.MIX else USERS


FULL: Final = Plan(
    rounds=3,
    backlog_seconds=12,
    contests=MappingProxyType(
        {
            Workload.MIX: tuple(Contestant),
            Workload.MIX_FEW: (Contestant.OURS, Contestant.OURS_TWO),
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
    # At least 3,000 commands at 100 a second, of which the p99 is an aim.
    latency_seconds=MappingProxyType({10: 20, 100: 32, 500: 15, 1_000: 15}),
    latency_contestants=_BOTH,
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
    latency_seconds=MappingProxyType({100: 3}),
    latency_contestants=_BOTH,
)
