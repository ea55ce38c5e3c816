"""The states of letters, replays, plans and operations, and the state into which each action puts a letter."""

from collections.abc import Mapping
from enum import StrEnum, auto
from typing import Final


class LetterState(StrEnum):
    """Where a dead letter stands."""

    WAITING = auto()
    """Nobody has done anything with it, or its last replay came back."""
    REPLAYING = auto()
    """A replay of it is ordered or published, and its outcome is not known."""
    RESOLVED = auto()
    """A replay had an outcome: the wallet's answer stands in the replay. A payment request was handed on."""
    DISCARDED = auto()
    """An operator has said that nothing is to be done. It is kept, and can be restored."""
    EDITED = auto()
    """A new message with a new serial number was sent in its place."""


class ReplayState(StrEnum):
    """Where one replay stands."""

    ORDERED = auto()
    """It is written down, and perhaps on its way."""
    PUBLISHED = auto()
    """The broker has confirmed it; its outcome is not known."""
    RESOLVED = auto()
    """The outcome is known; a payment request was handed on, as far as anybody can tell, and may still come back."""
    FAILED = auto()
    """It came back as a dead letter, or could not be delivered."""
    CANCELLED = auto()
    """It was stopped before it was published, or given up."""


class PlanState(StrEnum):
    """Whether a plan can be executed."""

    READY = auto()
    NEEDS_SIGNATURE = auto()
    """It needs two people, and whoever made it has not signed it."""
    NEEDS_APPROVAL = auto()
    """A second person has to sign it."""
    EXECUTED = auto()
    EXPIRED = auto()


class OperationState(StrEnum):
    """Where an operation stands."""

    RUNNING = auto()
    PAUSED = auto()
    """Somebody holds it; what is published goes on to its outcome."""
    STOPPED = auto()
    """It ended before its end, by a person or by its failures; what was not published is waiting again."""
    DONE = auto()


class Action(StrEnum):
    """What can be planned."""

    REPLAY = auto()
    DISCARD = auto()
    RESTORE = auto()
    """Wait again: what was discarded, or a replay or edit of which has been without an outcome for long."""
    EDIT = auto()


ACTS_ON: Final[Mapping[Action, tuple[LetterState, ...]]] = {
    Action.REPLAY: (LetterState.WAITING,),
    Action.DISCARD: (LetterState.WAITING,),
    Action.RESTORE: (LetterState.DISCARDED, LetterState.REPLAYING, LetterState.EDITED),
    Action.EDIT: (LetterState.WAITING,),
}
"""The states in which an action finds its letters."""


LEADS_TO: Final[Mapping[Action, LetterState]] = {
    Action.REPLAY: LetterState.REPLAYING,
    Action.DISCARD: LetterState.DISCARDED,
    Action.RESTORE: LetterState.WAITING,
    Action.EDIT: LetterState.EDITED,
}
"""The state into which an action puts them."""
