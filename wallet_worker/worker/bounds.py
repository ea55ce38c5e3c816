"""How much a worker takes at once, how often it tries, and how long it waits; each limit with its reason."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Bounds:
    """Counts and sizes."""

    # A thousand do 4 to 7 % more, alone; two workers then wait for each other's accounts half of the time. A setting.
    batch_max: int = 500
    flush_every: int = 125
    """Messages whose changes are written while the next are decided: smaller parts are more statements."""
    yield_every: int = 6
    """Messages decided, in a third of a millisecond, before the part that is being written is looked after."""
    races_max: int = 20
    """Races that one message loses in a row; then a lock is held for long, and waiting is right."""
    batch_races_max: int = 5
    """Races that a batch loses in a row before it is halved."""
    crashes_max: int = 3
    """Deaths of a worker with a suspect in hand before the suspect is set aside."""
    account_ids_reserved: int = 1_000
    """Ids reserved at once: a round trip for every thousand accounts opened."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Times between attempts."""

    sweep_seconds: float = 1.0
    """Between two looks at the parked results and the orders that are due."""
    gauge_seconds: float = 15.0
    """Between two updates of the gauges of waiting orders."""
    races_seconds: float = 9.0
    """Two locks that were not given in time: one is held for long, and that is to be reported."""
    retry_after: timedelta = timedelta(hours=1)
    """Until an order is looked at again on which the wallet failed when it was due."""


BOUNDS = Bounds()
TIMINGS = Timings()
