"""Dead letters as operators see them.

Everything here is a value. Times are UTC and aware. The detail, routing key, headers and payload of a letter are
untrusted text: whoever shows them escapes them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from wallet_schemas.events import AccountView, OrderView
from wallet_worker.dead_letters.model.audit_log import AuditRow
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.predictions import Prediction
from wallet_worker.dead_letters.model.states import LetterState, ReplayState
from wallet_worker.store.payment_results import GatewayResult

PAGE_LETTERS: Final = 50
PAGE_LETTERS_MAX: Final = 500


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
    results: tuple[GatewayResult, ...]
    """What the gateway reported of the order, oldest first."""


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
    seal: str = "unchecked"
    """Whether a worker's seal proves who set it aside: sealed, unsealed, unchecked, not by a worker."""


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
