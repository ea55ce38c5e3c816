"""The words of the dead letters: what operators are shown, what they ask for, and why it is not done.

Everything here is a value. Times are UTC and aware. Texts that came from outside (detail, routing key, headers,
payload) are an attacker's: whoever shows them escapes them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum, auto
from typing import Any, Final, Self
from uuid import UUID

from wallet_schemas import times
from wallet_schemas.commands import Fault
from wallet_schemas.events import AccountView, OrderView
from wallet_worker.settings.operators import Role

NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
"""What somebody is called: in one spelling, so that nobody is two people, and no two look like one."""

COMMAND_LINE: Final = "cli, "
"""How `via` begins of whoever asks at the command line; the login follows."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks. Whoever calls the operations has made sure of it; `via` says how (`console`, `cli, root`).

    A name that is not like NAME may look at things, and do nothing.
    """

    name: str
    role: Role
    via: str = ""


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


class PredictedOutcome(StrEnum):
    """What a replay would do now."""

    WILL_APPLY = auto()
    """It would be applied: money or an account may move."""
    REPEATS = auto()
    """Its outcome is known already and would be repeated: nothing moves."""
    WILL_BE_REFUSED = auto()
    """A business no would become its outcome; `code` says which. Nothing moves."""
    CONFLICT = auto()
    """Its serial number belongs to something else: it would come back."""
    STILL_MALFORMED = auto()
    """It cannot be read, or its signature is wrong; `code` says which: it would come back."""
    COMES_BACK = auto()
    """It can be read and does not fit (`code`): it would be a dead letter again. Nothing moves."""
    WILL_WAIT = auto()
    """What it speaks of is not there yet: it would be parked, looked at again, and then come back."""
    HANDED_ON = auto()
    """It is for the gateway, as a pending order says it: the gateway decides, by its payment_order_no."""
    FAILS = auto()
    """The wallet's own code fails on it: it would come back as INTERNAL."""
    NOWHERE = auto()
    """It cannot be replayed, and the detail says why: nobody knows where it was published first, say."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a replay would do, decided by the wallet's own rules over what the database holds now."""

    verdict: PredictedOutcome
    code: str = ""
    """Why, where the verdict is no plain success: one of the codes."""
    detail: str = ""

    @property
    def label(self) -> str:
        """The prediction in a few words, for a person."""
        if self.verdict is PredictedOutcome.NOWHERE and self.detail:
            return f"cannot be replayed: {self.detail}"
        return _LABELS[self.verdict].format(code=self.code)


_LABELS: Mapping[PredictedOutcome, str] = {
    PredictedOutcome.WILL_APPLY: "will apply",
    PredictedOutcome.REPEATS: "repeats the stored outcome",
    PredictedOutcome.WILL_BE_REFUSED: "will be refused with {code}",
    PredictedOutcome.CONFLICT: "conflict: the serial number was used for something else",
    PredictedOutcome.STILL_MALFORMED: "is still unreadable ({code})",
    PredictedOutcome.COMES_BACK: "would be a dead letter again ({code})",
    PredictedOutcome.WILL_WAIT: "will wait for its order, and then come back",
    PredictedOutcome.HANDED_ON: "is handed on to the gateway, which decides",
    PredictedOutcome.FAILS: "the wallet fails on it (INTERNAL)",
    PredictedOutcome.NOWHERE: "cannot be replayed",
}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters; everything that is given must fit. Nothing given: all.

    `serial_no` fits a payment's order number too. `user_id` fits every letter about a user: one that names the user,
    and one about an order of the user. `gateway_ref` and `order_id` fit what is about that payment and that order.
    `ids` are letters by number. `since` and `until` (before) are the time of arrival at the keeper. `seen_up_to` is the
    newest letter that somebody has seen: an action on what is shown leaves alone what has arrived since. It can be
    written as a query string and read again, so that a link can be sent.
    """

    states: tuple[LetterState, ...] = ()
    reason: str | None = None
    source: str | None = None
    message_type: str | None = None
    serial_no: str | None = None
    user_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    ids: tuple[int, ...] = ()
    seen_up_to: int | None = None
    gateway_ref: str | None = None
    order_id: UUID | None = None

    def to_query(self) -> dict[str, str]:
        """Return it as names and texts, without what is not given."""
        said: dict[str, str] = {}
        for one in fields(self):
            match getattr(self, one.name):
                case None | ():
                    continue
                case datetime() as time:
                    said[one.name] = time.isoformat()
                case tuple() as several:
                    said[one.name] = ",".join(str(each) for each in several)
                case text:
                    said[one.name] = str(text)
        return said

    @classmethod
    def from_query(cls, said: Mapping[str, str]) -> Self:
        """Return what `to_query` was called on; other names and empty texts are passed over.

        Raises ValueError, with a sentence for a person, where a value is none.
        """
        read: dict[str, Any] = {}
        for one in fields(cls):
            text = said.get(one.name, "").strip()
            if text:
                read[one.name] = _READERS.get(one.name, str)(text)
        return cls(**read)


def _read_states(text: str) -> tuple[LetterState, ...]:
    try:
        return tuple(LetterState(part.strip()) for part in text.split(",") if part.strip())
    except ValueError:
        msg = f"a state is one of {', '.join(LetterState)}"
        raise ValueError(msg) from None


def _read_ids(text: str) -> tuple[int, ...]:
    try:
        ids = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        msg = "ids are numbers, separated by commas"
        raise ValueError(msg) from None
    if any(not 0 < one < 2**63 for one in ids):
        msg = "an id is a number above zero"
        raise ValueError(msg)
    return ids


def _read_id(text: str) -> int:
    ids = _read_ids(text)
    if len(ids) != 1:
        msg = "this is one id"
        raise ValueError(msg)
    return ids[0]


def _read_time(text: str) -> datetime:
    try:
        return times.parse_typed(text)
    except times.NotATimeError:
        msg = "a time looks like 2026-01-31 or 2026-01-31T12:00:00Z"
        raise ValueError(msg) from None


def _read_order_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        msg = "an order_id looks like 019b7d4c-6f2e-7c3a-9d41-52c0e4a7b913"
        raise ValueError(msg) from None


_READERS: Mapping[str, Any] = {
    "order_id": _read_order_id,
    "states": _read_states,
    "ids": _read_ids,
    "seen_up_to": _read_id,
    "since": _read_time,
    "until": _read_time,
}


@dataclass(frozen=True, slots=True)
class LetterSummary:
    """A dead letter as a line of a list. What could not be read of it is absent."""

    letter_id: int
    state: LetterState
    reason: str
    """One of the codes, or one of `runbook.REASONS` for those that the broker set aside."""
    detail: str
    source: str
    """The queue that it was taken from, or would have gone to."""
    message_type: str | None
    serial_no: str | None
    """Its serial_no, or its payment_order_no."""
    user_id: str | None
    """Masked for viewers."""
    attempts: int
    replays: int
    first_seen: datetime
    arrived_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """Some letters, newest first; `next_after` is what gets the next page, absent on the last.

    Letters that arrive meanwhile do not move it: the next page goes on where this one ended.
    """

    letters: tuple[LetterSummary, ...]
    next_after: int | None


@dataclass(frozen=True, slots=True)
class Group:
    """The letters of one reason and source."""

    reason: str
    source: str
    count: int
    waiting: int
    first_seen: datetime
    last_seen: datetime
    series: tuple[int, ...]
    """Arrivals in each stretch of the time that was asked for, oldest first."""
    seen_up_to: int | None = None
    """The newest letter that was counted."""

    @property
    def seen(self) -> Filter:
        """What an action is planned with: the letters that were counted, and none that has arrived since."""
        return Filter(reason=self.reason, source=self.source, seen_up_to=self.seen_up_to)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One time that the message became a dead letter: at first, and after each replay that failed."""

    reason: str
    detail: str
    worker: str | None
    attempts: int
    first_seen: datetime
    arrived_at: datetime
    times: int
    """How often this very delivery came to the keeper; above 1 after a crash, or a sender's exact repeat."""
    replay_id: UUID | None


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


@dataclass(frozen=True, slots=True)
class Replay:
    """One replay of a letter, or the message that was sent in its place."""

    replay_id: UUID
    operation_id: UUID
    number: int
    """What it carries as x-wallet-replay-count."""
    is_edit: bool
    state: ReplayState
    predicted: Prediction
    code: str
    """The outcome's code once it is known, OK included."""
    detail: str
    serial_no: str | None
    """The new serial number, of an edit."""
    ordered_at: datetime
    published_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class LedgerView:
    """What the wallet knows of what the letter is about, now."""

    outcome: Mapping[str, Any] | None
    """The stored outcome of the serial number, as on the wire."""
    order: OrderView | None
    account: AccountView | None
    results: tuple[Mapping[str, Any], ...]
    """What the gateway has said of the order: status, amount, currency, gateway_ref, processing, code, times."""


@dataclass(frozen=True, slots=True)
class RunbookLine:
    """What the night shift needs to know of one letter, or of every letter with one reason in one state."""

    reason: str
    meaning: str
    safe: str
    """What is true, and what can be done."""
    ask: str
    when: str = ""
    """The state in which the advice is given, in words."""
    advice: str = ""
    """The name of the advice."""


@dataclass(frozen=True, slots=True)
class AuditRow:
    """Who did what, when and why. Rows are never changed. Notes are rows too (action `note`, the text in `reason`)."""

    audit_id: int
    at: datetime
    actor: str
    role: str
    via: str
    action: str
    reason: str
    letter_id: int | None
    operation_id: UUID | None
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LetterContent:
    """A dead letter as it was taken in. For viewers, personal data is masked and `body` is absent."""

    line: LetterSummary
    exchange: str | None
    """Where a replay is published; absent if that is not known."""
    routing_key: str
    body: bytes | None
    body_bytes: int
    pretty: str | None
    """The payload as indented JSON, if it is JSON."""
    properties: Mapping[str, str]
    """The AMQP properties that were set, less the headers, as text."""
    headers: Mapping[str, str]
    """Every header of the message as text, those that say why it is here among them."""
    worker: str | None
    trace_id: str | None
    edit_of: int | None
    """The letter in whose place this message was sent."""


@dataclass(frozen=True, slots=True)
class LetterDetail:
    """All about one letter: itself, its past, what the wallet knows of it, what a replay would do, what is safe."""

    whole: LetterContent
    attempts: tuple[Attempt, ...]
    """Oldest first."""
    replays: tuple[Replay, ...]
    """Oldest first."""
    truth: LedgerView
    prediction: Prediction
    runbook: RunbookLine
    audit: tuple[AuditRow, ...]
    """Everything done with it and the notes, oldest first."""
    same_number: int = 0
    """How many other letters have its serial number."""


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


class PlanState(StrEnum):
    """Whether a plan can be executed."""

    READY = auto()
    NEEDS_APPROVAL = auto()
    EXECUTED = auto()
    EXPIRED = auto()


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


class OperationState(StrEnum):
    """Where an operation stands."""

    RUNNING = auto()
    PAUSED = auto()
    """Somebody holds it; what is published goes on to its outcome."""
    STOPPED = auto()
    """It ended before its end, by a person or by its failures; what was not published is waiting again."""
    DONE = auto()


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

    @property
    def finished(self) -> int:
        """Letters of which the end is known."""
        return self.resolved + self.failed + self.cancelled


@dataclass(frozen=True, slots=True)
class Overview:
    """The state of all of it in a few numbers. What the broker did not tell is absent."""

    states: Mapping[LetterState, int]
    oldest_waiting: datetime | None
    last_arrival: datetime | None
    keeper_seen: datetime | None
    """When a keeper last said that it is at work: minutes ago means that none is."""
    keeper_standing: str
    """What the keeper last said of itself, such as that the broker is away."""
    depths: Mapping[str, int]
    """Messages ready in each queue, as the keeper last saw them."""
    running: int
    awaiting_approval: int


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which audit rows."""

    actor: str | None = None
    action: str | None = None
    letter_id: int | None = None
    operation_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Some audit rows, newest first."""

    rows: tuple[AuditRow, ...]
    next_after: int | None


class OperationError(Exception):
    """Why something is not done; the text is a sentence for the person who asked. Nothing was changed."""


class NotAllowedError(OperationError):
    """The actor's role may not, or it must be somebody else."""


class NotFoundError(OperationError):
    """There is no such letter, plan or operation."""


class StaleError(OperationError):
    """What was planned is not so any more: a token that is old or used, letters or predictions that changed."""


class BusyError(StaleError):
    """Somebody else is at the same letters at this moment; the same can be asked again."""


class NotPossibleError(OperationError):
    """The letter or operation is not in a state in which this can be done."""


class ApprovalNeededError(OperationError):
    """A second person must approve first."""


class InvalidEditError(OperationError):
    """The edited message is none that the wallet takes; `faults` say why."""

    def __init__(self, sentence: str, faults: tuple[Fault, ...] = ()) -> None:
        super().__init__(sentence)
        self.faults = faults
