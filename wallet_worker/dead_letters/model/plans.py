"""Plans and operations as operators see them."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.predictions import Prediction
from wallet_worker.dead_letters.model.states import Action, LetterState, OperationState, PlanState


@dataclass(frozen=True, slots=True)
class ReplayPace:
    """How a replay goes about it.

    `canary` letters go first, and the rest only when all of those had a good outcome; 0: no canary. `rate_per_second`
    is the most that is published. It stops by itself when more than `stop_ratio` of the outcomes are failures, of at
    least 10. A failure came back, could not be delivered, or was refused though it was to be applied.
    """

    canary: int = 0
    rate_per_second: float = 50.0
    stop_ratio: float = 0.2


@dataclass(frozen=True, slots=True)
class PlannedLetter:
    """One letter of a plan."""

    letter_id: int
    serial_no: str | None
    prediction: Prediction


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that an edit changes; absent where the message has no such field."""

    field: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be done to exactly these letters, before anything is. `token` is what executes it, once."""

    token: str
    action: Action
    state: PlanState
    made_by: str
    made_at: datetime
    expires_at: datetime
    reason: str
    filter: Filter
    total: int
    """Letters that it acts on."""
    skipped: int
    """Letters that fit the filter and that the action does not fit, such as those being replayed already."""
    counts: tuple[tuple[Prediction, int], ...]
    """Letters by prediction (without its detail), most first."""
    sample: tuple[PlannedLetter, ...]
    pace: ReplayPace
    approved_by: str | None
    operation_id: UUID | None
    differences: tuple[Difference, ...] = ()
    """Of an edit."""
    edited_body: bytes | None = None
    states: tuple[tuple[LetterState, int], ...] = ()
    """Letters by the state that they are in now, most first."""

    @property
    def is_hopeless(self) -> bool:
        """Whether every letter that it sends is predicted to be a dead letter again."""
        return (
            self.action in {Action.REPLAY, Action.EDIT}
            and bool(self.counts)
            and all(prediction.comes_back for prediction, _ in self.counts)
        )


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that was executed, and how far it is."""

    operation_id: UUID
    action: Action
    state: OperationState
    actor: str
    approved_by: str | None
    reason: str
    filter: Filter
    pace: ReplayPace
    total: int
    ordered: int
    """Not published yet."""
    published: int
    """Published, without an outcome yet."""
    resolved: int
    failed: int
    cancelled: int
    standing: str
    """Where it stands, in a sentence."""
    started_at: datetime
    ended_at: datetime | None
    refused: int = 0
    """Of those with an outcome: refused, although they were predicted to be applied."""

    @property
    def finished(self) -> int:
        """Letters of which the end is known."""
        return self.resolved + self.failed + self.cancelled
