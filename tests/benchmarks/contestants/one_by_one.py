"""The usual way: one message, one transaction. The database's half of it, whatever brings the messages.

It does what the wallet does for each message: the dedupe row with the stored outcome, the order, both entries with
the balances before and after, both balances. It has no outbox: it publishes after the commit and before it
acknowledges, and a message that comes again finds its row and is published again as it was, so nothing is lost.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

import asyncpg

from wallet_schemas.codes import Code
from wallet_schemas.commands import OpenAccount, OpenAccountResult, Outcome, Recharge, RechargeResult
from wallet_schemas.encode import encode
from wallet_schemas.events import (
    AccountOpened,
    AccountView,
    EntryView,
    OrderFailed,
    OrderPending,
    OrderSucceeded,
    OrderView,
    OrderWithEntries,
)
from wallet_schemas.fingerprint import content, fingerprint
from wallet_schemas.keys import read_verifying_keys
from wallet_schemas.message import Message
from wallet_schemas.money import to_text
from wallet_schemas.names import PAYMENT_REQUESTS, WALLET_EVENTS, routing_key
from wallet_schemas.parse import COMMANDS, RESULTS, parse
from wallet_schemas.payments import PaymentProcessed, PaymentRequest, PaymentResult
from wallet_schemas.signature import Keys, verify
from wallet_schemas.values import (
    AccountStatus,
    Direction,
    OrderStatus,
    OrderType,
    OutcomeStatus,
    PaymentKind,
    PaymentStatus,
    ProcessingStatus,
)
from wallet_worker.core.ids import account_no, uuid7

AT_ONCE: Final = 16
EXPIRES_AFTER: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Out:
    """One message to be published."""

    exchange: str
    routing_key: str
    body: bytes
    correlation_id: str | None = None


@dataclass(frozen=True, slots=True)
class Asker:
    """Who wants an answer, if anybody does."""

    reply_to: str | None
    correlation_id: str | None

    def reply(self, message: Message) -> list[Out]:
        """Return the answer, if one was asked for."""
        if not self.reply_to:
            return []
        return [Out("", self.reply_to, encode(message), self.correlation_id)]


class _KnownError(Exception):
    """The serial number has its row already; nothing is written."""


def gateway_keys() -> Keys:
    """Return the keys that results are verified with."""
    return read_verifying_keys(Path(os.environ["WALLET_PAYMENT_KEYS_FILE"]).read_text())


async def pool(dsn: str) -> asyncpg.Pool:
    """Return as many connections as there are messages in hand."""
    return await asyncpg.create_pool(
        dsn,
        min_size=AT_ONCE,
        max_size=AT_ONCE,
        command_timeout=30,
        server_settings={"role": "wallet_worker"},
        reset=_keep,
    )


async def _keep(_: asyncpg.Connection) -> None:
    """Return a connection to the pool as it is: nobody here changes a session, and a reset is a round trip."""


_KNOWN = "SELECT status, code, result FROM commands WHERE serial_no = $1"

_INSERT_COMMAND = """
INSERT INTO commands (serial_no, command_type, fingerprint, content, status, code, result, created_at)
VALUES ($1, $2, $3, $4, 'applied', 'OK', $5, $6)
ON CONFLICT DO NOTHING
RETURNING serial_no
"""

_INSERT_ACCOUNT = """
INSERT INTO accounts (kind, account_no, user_id, account_type, currency, status, balance, reserved, line_no,
                      created_at, updated_at)
VALUES ('user', $1, $2, $3, $4, 'active', 0, 0, 0, $5, $5)
ON CONFLICT DO NOTHING
RETURNING account_id
"""

_ACCOUNT = """
SELECT account_id, account_no, created_at
FROM accounts
WHERE kind = 'user' AND user_id = $1 AND account_type = $2 AND currency = $3 AND status <> 'closed'
"""

_INSERT_ORDER = """
INSERT INTO orders (order_id, serial_no, order_type, account_id, amount, currency, status, code, channel, late,
                    expires_at, due_at, created_at, updated_at)
VALUES ($1, $2, 'recharge', $3, $4, $5, 'pending', 'OK', $6, false, $7, $8::timestamptz + interval '1 minute', $8, $8)
"""

_ORDER = """
SELECT o.*, a.account_no, a.account_type, a.user_id
FROM orders o
JOIN accounts a USING (account_id)
WHERE o.serial_no = $1
"""

_LOCK_ORDER = """
SELECT o.*, a.account_no, a.account_type, a.user_id, a.balance, a.line_no
FROM orders o
JOIN accounts a USING (account_id)
WHERE o.serial_no = $1
FOR NO KEY UPDATE
"""

_LINE = "SELECT line_no, balance_before FROM entries WHERE order_id = $1 AND account_id = $2"

_LOCK_LANE = """
SELECT account_id, balance, line_no
FROM accounts
WHERE system_name = 'clearing' AND currency = $1
ORDER BY lane
LIMIT 1
FOR NO KEY UPDATE SKIP LOCKED
"""

_MOVE = """
UPDATE accounts a
SET balance = balance + n.change, line_no = line_no + 1, updated_at = $3
FROM unnest($1::bigint[], $2::bigint[]) AS n (account_id, change)
WHERE a.account_id = n.account_id
"""

_INSERT_ENTRIES = """
INSERT INTO entries (account_id, line_no, order_id, direction, amount, balance_before, balance_after, created_at)
VALUES ($1, $2, $3, 'debit', $4, $5::bigint, $5::bigint - $4, $9),
       ($6, $7, $3, 'credit', $4, $8::bigint, $8::bigint + $4, $9)
"""

_END_ORDER = """
UPDATE orders
SET status = $2::text, due_at = NULL,
    transacted_at = CASE WHEN $2 = 'succeeded' THEN $3::timestamptz END, updated_at = $3
WHERE order_id = $1
"""

_INSERT_RESULT = """
INSERT INTO payment_results (payment_order_no, fingerprint, status, amount, currency, gateway_ref, reason,
                             occurred_at, received_at, processing, code)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'processed', 'OK')
ON CONFLICT DO NOTHING
"""


class Ledger:
    """Applies one message in one transaction, and says what is to be published for it.

    Raises wallet_schemas.parse.Unreadable, or wallet_schemas.signature.BadSignature, for what is to be rejected.
    """

    def __init__(self, connections: asyncpg.Pool, keys: Keys) -> None:
        self._pool = connections
        self._keys = keys

    async def command(self, body: bytes, asker: Asker) -> list[Out]:
        """Apply a command, or find what became of it before."""
        message = parse(body, COMMANDS)
        if not isinstance(message, OpenAccount | Recharge):
            raise AssertionError(message)  # noqa: TRY004 -- not an argument's mistake
        try:
            match message:
                case OpenAccount():
                    return await self._open(message, asker)
                case Recharge():
                    return await self._recharge(message, asker)
        except _KnownError:
            return await self._again(message.serial_no, asker)

    async def result(self, body: bytes, headers: Mapping[str, object], asker: Asker) -> list[Out]:
        """Apply a payment result to its order."""
        message = parse(body, RESULTS)
        if not isinstance(message, PaymentResult):
            raise AssertionError(message)  # noqa: TRY004 -- not an argument's mistake
        verify(headers.get("x-signature"), body, self._keys)
        now = datetime.now(UTC)
        async with self._pool.acquire() as connection, connection.transaction():
            order = await connection.fetchrow(_LOCK_ORDER, message.payment_order_no)
            if order is None:
                raise LookupError(message.payment_order_no)
            if order["status"] == message.status.value:
                written = await connection.fetchrow(_LINE, order["order_id"], order["account_id"])
                again = _ended(order, message.status, order["updated_at"], dict(written) if written else None)
                return [_event(again), *asker.reply(_processed(message, ProcessingStatus.DUPLICATE))]
            if order["status"] != "pending":
                raise ValueError(message.payment_order_no)
            if message.amount_minor != order["amount"] or message.currency != order["currency"]:
                raise ValueError(message.payment_order_no)
            if message.status is PaymentStatus.SUCCEEDED:
                lane = await connection.fetchrow(_LOCK_LANE, order["currency"])
                if lane is None:
                    raise LookupError(_LOCK_LANE)
                amount = order["amount"]
                ids = [lane["account_id"], order["account_id"]]
                await connection.execute(_MOVE, ids, [-amount, amount], now)
                await connection.execute(
                    _INSERT_ENTRIES,
                    lane["account_id"],
                    lane["line_no"] + 1,
                    order["order_id"],
                    amount,
                    lane["balance"],
                    order["account_id"],
                    order["line_no"] + 1,
                    order["balance"],
                    now,
                )
            await connection.execute(_END_ORDER, order["order_id"], message.status.value, now)
            await connection.execute(
                _INSERT_RESULT,
                message.payment_order_no,
                fingerprint(content(message)),
                message.status.value,
                message.amount,
                message.currency,
                message.gateway_ref,
                message.reason,
                message.occurred_at,
                now,
            )
        line = {"line_no": order["line_no"] + 1, "balance_before": order["balance"]}
        event = _event(_ended(order, message.status, now, line))
        return [event, *asker.reply(_processed(message, ProcessingStatus.PROCESSED))]

    async def _open(self, message: OpenAccount, asker: Asker) -> list[Out]:
        now = datetime.now(UTC)
        fields = content(message)
        result = OpenAccountResult(
            user_id=message.user_id,
            account_type=message.account_type,
            currency=message.currency,
            account_no=account_no(now, int.from_bytes(os.urandom(8), "big")),
        )
        async with self._pool.acquire() as connection, connection.transaction():
            account_id = await connection.fetchval(
                _INSERT_ACCOUNT, result.account_no, result.user_id, result.account_type, result.currency, now
            )
            text = result.model_dump_json()
            if account_id is None or not await connection.fetchval(
                _INSERT_COMMAND,
                message.serial_no,
                message.type,
                fingerprint(fields),
                json.dumps(fields),
                text,
                now,
            ):
                raise _KnownError
        return [
            _event(_opened(message.serial_no, result, now)),
            *asker.reply(_outcome(message.serial_no, result)),
        ]

    async def _recharge(self, message: Recharge, asker: Asker) -> list[Out]:
        now = datetime.now(UTC)
        fields = content(message)
        order_id = uuid7(now, os.urandom(10))
        amount = to_text(message.amount_minor, message.currency)
        result = RechargeResult(
            user_id=message.user_id,
            account_type=message.account_type,
            amount=amount,
            currency=message.currency,
            recharge_type=message.recharge_type,
            serial_no=message.serial_no,
            order_status=OrderStatus.PENDING,
        )
        async with self._pool.acquire() as connection, connection.transaction():
            account = await connection.fetchrow(
                _ACCOUNT, message.user_id, message.account_type, message.currency
            )
            if account is None:
                raise LookupError(message.user_id)
            text = result.model_dump_json()
            if not await connection.fetchval(
                _INSERT_COMMAND,
                message.serial_no,
                message.type,
                fingerprint(fields),
                json.dumps(fields),
                text,
                now,
            ):
                raise _KnownError
            await connection.execute(
                _INSERT_ORDER,
                order_id,
                message.serial_no,
                account["account_id"],
                message.amount_minor,
                message.currency,
                message.recharge_type,
                now + EXPIRES_AFTER,
                now,
            )
        order = _Order(
            order_id,
            message.serial_no,
            message.user_id,
            account["account_no"],
            message.account_type,
            amount,
            message.currency,
            message.recharge_type,
            now,
        )
        return [*_asked(order), *asker.reply(_outcome(message.serial_no, result))]

    async def _again(self, serial_no: str, asker: Asker) -> list[Out]:
        """Return what was published for a command that was applied before, and perhaps never arrived."""
        async with self._pool.acquire() as connection:
            known = await connection.fetchrow(_KNOWN, serial_no)
            order = await connection.fetchrow(_ORDER, serial_no)
            if known is None:
                raise LookupError(serial_no)
            if order is None:
                result = OpenAccountResult.model_validate_json(known["result"])
                account = await connection.fetchrow(
                    _ACCOUNT, result.user_id, result.account_type, result.currency
                )
                again = [] if account is None else [_event(_opened(serial_no, result, account["created_at"]))]
                return [*again, *asker.reply(_outcome(serial_no, result, duplicate=True))]
        amount = to_text(order["amount"], order["currency"])
        again = _asked(
            _Order(
                order["order_id"],
                serial_no,
                order["user_id"],
                order["account_no"],
                order["account_type"],
                amount,
                order["currency"],
                order["channel"],
                order["created_at"],
            )
        )
        answer = RechargeResult.model_validate_json(known["result"])
        return [*again, *asker.reply(_outcome(serial_no, answer, duplicate=True))]


@dataclass(frozen=True, slots=True)
class _Order:
    """A recharge that waits for its money."""

    order_id: UUID
    serial_no: str
    user_id: str
    account_no: str
    account_type: str
    amount: str
    currency: str
    channel: str
    at: datetime


def _event_id(serial_no: str, at: datetime) -> str:
    """Return the same id for the same event, however often it is made."""
    return str(uuid7(at, hashlib.sha256(serial_no.encode()).digest()[:10]))


def _opened(serial_no: str, result: OpenAccountResult, at: datetime) -> AccountOpened:
    view = AccountView(
        user_id=result.user_id,
        account_no=result.account_no,
        account_type=result.account_type,
        currency=result.currency,
        balance=to_text(0, result.currency),
        available=to_text(0, result.currency),
        status=AccountStatus.ACTIVE,
        created_at=at,
        updated_at=at,
    )
    return AccountOpened(event_id=_event_id(serial_no, at), occurred_at=at, serial_no=serial_no, data=view)


def _asked(order: _Order) -> list[Out]:
    """Return the event of an accepted recharge, and what the gateway is asked."""
    view = OrderView(
        order_id=str(order.order_id),
        serial_no=order.serial_no,
        user_id=order.user_id,
        account_no=order.account_no,
        account_type=order.account_type,
        order_type=OrderType.RECHARGE,
        amount=order.amount,
        currency=order.currency,
        channel=order.channel,
        status=OrderStatus.PENDING,
        code=Code.OK,
        transacted_at=None,
        created_at=order.at,
        updated_at=order.at,
        expires_at=order.at + EXPIRES_AFTER,
    )
    event = OrderPending(
        event_id=_event_id(order.serial_no, order.at),
        occurred_at=order.at,
        serial_no=order.serial_no,
        data=view,
    )
    request = PaymentRequest(
        payment_order_no=order.serial_no,
        kind=PaymentKind.CHARGE,
        amount=order.amount,
        currency=order.currency,
        channel=order.channel,
        requested_at=order.at,
        expires_at=order.at + EXPIRES_AFTER,
    )
    return [_event(event), Out(PAYMENT_REQUESTS, routing_key(request.type), encode(request))]


def _ended(
    order: asyncpg.Record, status: PaymentStatus, at: datetime, line: Mapping[str, int] | None
) -> OrderSucceeded | OrderFailed:
    """Return the event of an order's end; `line` is the user's, and matters only if money moved."""
    succeeded = status is PaymentStatus.SUCCEEDED and line is not None
    amount = to_text(order["amount"], order["currency"])
    entries: list[EntryView] = []
    if succeeded and line is not None:
        entries.append(
            EntryView(
                account_no=order["account_no"],
                line_no=line["line_no"],
                serial_no=order["serial_no"],
                order_type=OrderType.RECHARGE,
                direction=Direction.CREDIT,
                amount=amount,
                currency=order["currency"],
                balance_before=to_text(line["balance_before"], order["currency"]),
                balance_after=to_text(line["balance_before"] + order["amount"], order["currency"]),
                created_at=at,
            )
        )
    view = OrderWithEntries(
        order_id=str(order["order_id"]),
        serial_no=order["serial_no"],
        user_id=order["user_id"],
        account_no=order["account_no"],
        account_type=order["account_type"],
        order_type=OrderType.RECHARGE,
        amount=amount,
        currency=order["currency"],
        channel=order["channel"],
        status=OrderStatus(status.value),
        code=Code.OK if succeeded else Code.PAYMENT_FAILED,
        transacted_at=at if succeeded else None,
        created_at=order["created_at"],
        updated_at=at,
        expires_at=order["expires_at"],
        entries=entries or None,
    )
    serial_no = order["serial_no"]
    event_id = _event_id(serial_no, at)
    if succeeded:
        return OrderSucceeded(event_id=event_id, occurred_at=at, serial_no=serial_no, data=view)
    return OrderFailed(event_id=event_id, occurred_at=at, serial_no=serial_no, data=view)


def _outcome(
    serial_no: str, result: OpenAccountResult | RechargeResult, *, duplicate: bool = False
) -> Outcome:
    return Outcome(
        serial_no=serial_no, status=OutcomeStatus.APPLIED, code=Code.OK, duplicate=duplicate, result=result
    )


def _processed(message: PaymentResult, status: ProcessingStatus) -> PaymentProcessed:
    return PaymentProcessed(payment_order_no=message.payment_order_no, processing_status=status, code=Code.OK)


def _event(event: Message) -> Out:
    return Out(WALLET_EVENTS, routing_key(event.type), encode(event))
