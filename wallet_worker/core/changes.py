"""What a decision is, and what is to be written of the decisions of a batch.

What is made for every message and only carried is a tuple: it costs a third of a frozen dataclass.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol
from uuid import UUID

from wallet_schemas.codes import Code
from wallet_schemas.payments import PaymentResult, PaymentReversal
from wallet_schemas.values import OutcomeStatus, ProcessingStatus
from wallet_worker.core.accounts import Account
from wallet_worker.core.endings import Ending
from wallet_worker.core.ledger import Entry, Posting
from wallet_worker.core.orders import Order
from wallet_worker.core.reversals import Reversal


class StoredCommand(NamedTuple):
    """A row of the table `commands`: what was asked under a serial number, and the outcome it has for ever.

    `content` and `result` are JSON texts, repeated as they are; of a refusal, `result` is its message and its details.
    `fingerprint` is of the content.
    """

    serial_no: str
    command_type: str
    fingerprint: bytes
    content: str
    status: OutcomeStatus
    code: Code
    result: str
    created_at: datetime
    sent_by: str | None = None


class StoredResult(NamedTuple):
    """A payment result as it was received, and what came of it."""

    result: PaymentResult
    fingerprint: bytes
    processing: ProcessingStatus
    code: Code
    received_at: datetime


class StoredReversal(NamedTuple):
    """A message about a reversal as it was received, and what came of it."""

    reversal: PaymentReversal
    fingerprint: bytes
    processing: ProcessingStatus
    code: Code
    received_at: datetime


class StoredInstructions(NamedTuple):
    """A row of the table `payment_instructions`: how the payer of an order pays, by what the gateway has said last.

    `body` is JSON, as an order's answer shows it. `fingerprint` is of the whole message.
    """

    serial_no: str
    order_id: UUID
    revision: int
    fingerprint: bytes
    body: str
    received_at: datetime


class TakenRef(NamedTuple):
    """A row of the table `gateway_refs`: the gateway's id of the payment that an order of a channel succeeded with."""

    channel: str
    gateway_ref: str
    order_id: UUID


class OutboxMessage(NamedTuple):
    """A row of the outbox: a message that is published once this is committed.

    `message_id` is the outbox's own; the AMQP message_id is fresh for each attempt. `properties` are marshalled AMQP
    properties, and there for dead letters only. `attempts` counts how often the relay has tried it. `seal` proves that
    a worker asks for a payment; it is absent of everything else, and without a key for seals.
    """

    message_id: UUID
    exchange: str
    routing_key: str
    body: bytes
    correlation_id: str | None = None
    traceparent: str | None = None
    properties: bytes | None = None
    attempts: int = 0
    seal: bytes | None = None


class MadeByWallet(Protocol):
    """Orders that the wallet makes itself, with their postings and the commands that stand for them."""

    @property
    def orders(self) -> Sequence[Order]: ...  # noqa: D102
    @property
    def postings(self) -> Sequence[Posting]: ...  # noqa: D102
    @property
    def commands(self) -> Sequence[StoredCommand]: ...  # noqa: D102


class Decision(NamedTuple):
    """Everything that one message does. What is absent stays as it is.

    `code` and `detail` give the reason wherever `ending` is not a plain success. `changed` are accounts whose
    reserve or status changed; accounts whose balance changed are in `postings`. Only a parked message has `due_at`.
    `own_commands` stand for the orders that the wallet makes itself, which are among `orders`.
    """

    ending: Ending
    code: Code = Code.OK
    detail: str = ""
    command: StoredCommand | None = None
    opened: Account | None = None
    orders: tuple[Order, ...] = ()
    changed: tuple[Account, ...] = ()
    postings: tuple[Posting, ...] = ()
    receipt: StoredResult | None = None
    outgoing: tuple[OutboxMessage, ...] = ()
    due_at: datetime | None = None
    own_commands: tuple[StoredCommand, ...] = ()
    reversal: Reversal | None = None
    reversal_receipt: StoredReversal | None = None
    instructions: StoredInstructions | None = None
    taken_ref: TakenRef | None = None

    def with_own(self, own: MadeByWallet) -> "Decision":
        """Return the decision with orders that the wallet makes itself, after its own; their events are told by it."""
        return self._replace(
            orders=(*self.orders, *own.orders),
            postings=(*self.postings, *own.postings),
            own_commands=(*self.own_commands, *own.commands),
        )


@dataclass(slots=True)
class Changes:
    """What is to be written. Rows that were there before are pairs: as read, and as they are now."""

    commands: list[StoredCommand] = field(default_factory=list)
    accounts_new: dict[int, Account] = field(default_factory=dict)
    accounts_moved: dict[int, tuple[Account, Account]] = field(default_factory=dict)
    orders_new: dict[str, Order] = field(default_factory=dict)
    orders_moved: dict[str, tuple[Order, Order]] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    receipts: list[StoredResult] = field(default_factory=list)
    reversals: dict[tuple[UUID, str], Reversal] = field(default_factory=dict)
    reversal_receipts: list[StoredReversal] = field(default_factory=list)
    instructions: dict[UUID, StoredInstructions] = field(default_factory=dict)
    taken_refs: list[TakenRef] = field(default_factory=list)
    outgoing: list[OutboxMessage] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (
            self.commands
            or self.accounts_new
            or self.accounts_moved
            or self.orders_new
            or self.orders_moved
            or self.entries
            or self.receipts
            or self.outgoing
        )

    def add(self, others: "Changes") -> None:
        """Merge `others` into this. No row may have moved in both."""
        self.commands += others.commands
        self.accounts_new |= others.accounts_new
        self.accounts_moved |= others.accounts_moved
        self.orders_new |= others.orders_new
        self.orders_moved |= others.orders_moved
        self.entries += others.entries
        self.receipts += others.receipts
        self.reversals |= others.reversals
        self.reversal_receipts += others.reversal_receipts
        self.instructions |= others.instructions
        self.taken_refs += others.taken_refs
        self.outgoing += others.outgoing
