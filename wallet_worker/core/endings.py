"""The closed set of endings: what may become of a message, and what each asks of the shell.

Every ending is reached inside the batch's transaction, and every message is acknowledged after the
commit; the table says what else the commit must hold, so that nothing is lost once the broker forgets.
"""

from collections.abc import Mapping
from enum import StrEnum, auto
from types import MappingProxyType


class Ending(StrEnum):
    """What became of one message."""

    APPLIED = auto()
    """It changed something, and its outcome is stored."""
    REFUSED = auto()
    """A business no; it is the stored outcome from now on."""
    REPEATED = auto()
    """It was answered before, or says what is known already: nothing moved."""
    CONFLICT = "conflicted"  # the value is a label of metrics, which keep their names
    """It reuses a serial number for something else: nothing moved, an operator is told."""
    REJECTED = auto()
    """No outcome can be given to it: malformed, forged, contradicting, not matching its order."""
    PARKED = auto()
    """It came before what it speaks of, and is looked at again later."""
    QUARANTINED = "set_aside"  # likewise
    """The wallet failed on it, repeatedly and on it alone."""


class Disposition(StrEnum):
    """What must be in the database before the message may be acknowledged."""

    ACKNOWLEDGE = auto()
    """Nothing beside what the decision wrote."""
    DEAD_LETTER = auto()
    """The message itself, byte for byte, on its way to the dead letters."""
    RETRY_LATER = auto()
    """The message itself, with the time when it is due again."""


DISPOSITIONS: Mapping[Ending, Disposition] = MappingProxyType(
    {
        Ending.APPLIED: Disposition.ACKNOWLEDGE,
        Ending.REFUSED: Disposition.ACKNOWLEDGE,
        Ending.REPEATED: Disposition.ACKNOWLEDGE,
        Ending.CONFLICT: Disposition.DEAD_LETTER,
        Ending.REJECTED: Disposition.DEAD_LETTER,
        Ending.PARKED: Disposition.RETRY_LATER,
        Ending.QUARANTINED: Disposition.DEAD_LETTER,
    }
)

if set(DISPOSITIONS) != set(Ending):
    msg = f"an ending has no disposition: {set(Ending) - set(DISPOSITIONS)}"
    raise AssertionError(msg)
