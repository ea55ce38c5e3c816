"""How long faults last: seconds before a worker with shorter limits, or in `make faults` as long as it takes.

`WALLET_FAULTS=full` (which is `make faults`) runs the worker as it is, and waits for its real limits.
"""

import os
from typing import Final

from tests.faults.world import WORKER, sabotaged

FULL: Final = os.environ.get("WALLET_FAULTS") == "full"

PROGRAM: Final = WORKER if FULL else sabotaged("impatient")
"""A worker that finds a dead peer in its own time, or in the time that a suite has."""

PAST_THE_HEARTBEAT: Final = 40.0 if FULL else 8.0
"""After this, whoever said nothing was given up."""

FOUND_WITHIN: Final = 40.0 if FULL else 20.0
"""Within this, a worker says that a server fell silent: about 35 s are promised. A suite's machine has more to do."""

PAST_THE_STATEMENT: Final = 35.0 if FULL else 5.0
"""After this, every statement that the database did not answer was given up."""

PAST_THE_GRACE: Final = 45.0 if FULL else 12.0
"""After this, a topology that is wrong was given up."""

PAST_THE_RELAY: Final = 75.0 if FULL else 15.0
"""After this, what nobody confirmed was published again."""

TRIED_AGAIN_SECONDS: Final = 180.0 if FULL else 2.0
"""So long after it found no place for a dead letter of its own, the broker looks for one again."""

AWAY: Final = 11 * 60.0 if FULL else 4.0
"""How long a broker is away for long."""

BACKLOG: Final = 1_000_000 if FULL else 4_000
"""How many messages wait when nobody came for a day."""


def with_limits(name: str) -> tuple[str, ...]:
    """Return the program of a worker with a sabotage, and with shorter limits where this is no full run."""
    return sabotaged(name if FULL else f"impatient,{name}")
