"""A batch: what it looks up, and its decisions, in parts that can be written one after the other."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple, cast

from wallet_schemas.commands import AnyCommand, Recharge, RechargeV2
from wallet_schemas.message import MoneyFields
from wallet_schemas.payments import PaymentInstructions, PaymentResult, PaymentReversal
from wallet_schemas.values import PaymentStatus
from wallet_worker.core import commands, orders
from wallet_worker.core.accounts import SystemKey
from wallet_worker.core.changes import Changes, Decision
from wallet_worker.core.context import DecisionContext, Policy
from wallet_worker.core.decide import decide
from wallet_worker.core.facts import Facts
from wallet_worker.core.ids import ENTROPY_BYTES, FreshIds
from wallet_worker.core.inbound import DueOrder, InboundMessage, InvalidMessage, Message
from wallet_worker.core.lookups import Lookups
from wallet_worker.core.orders import OrderSpec
from wallet_worker.core.reversals import REVERSAL_ACCOUNTS


class MessageFailedError(Exception):
    """Our own code failed on a message. Nothing was decided about the messages after it."""


class Part(NamedTuple):
    """Decisions of a batch, and what may be written once they are made.

    `start` is the position in the batch of the first decision.
    """

    start: int
    decisions: Sequence[Decision]
    changes: Changes
    is_last: bool


def lookups_for(messages: Sequence[Message | InvalidMessage]) -> Lookups:
    """Return what has to be loaded before these messages can be decided."""
    lookups = Lookups()
    moving: list[tuple[AnyCommand, OrderSpec]] = []
    for message in messages:
        handler = commands.HANDLERS.get(type(message))  # type: ignore[arg-type]  # of any other type there is none
        if handler is not None:
            handler.lookups(lookups, message)
            if handler.order_type is not None:
                spec = orders.ORDER_SPECS[handler.order_type]
                if spec.system_names:
                    moving.append((cast("AnyCommand", message), spec))
        elif isinstance(message, PaymentResult):
            lookups.paid.add(message.payment_order_no)
            if message.status is PaymentStatus.SUCCEEDED:
                lookups.gateway_refs.append((message.payment_order_no, message.gateway_ref))
        elif isinstance(message, PaymentReversal):
            lookups.orders.add(message.payment_order_no)
            lookups.reversed.add(message.payment_order_no)
            lookups.refunded.add(message.payment_order_no)
        elif isinstance(message, PaymentInstructions):
            lookups.orders.add(message.payment_order_no)
            lookups.instructed.add(message.payment_order_no)
        elif isinstance(message, DueOrder):
            lookups.orders.add(message.serial_no)
    lookups.orders |= lookups.paid
    _add_of_new_orders(lookups, moving)
    return lookups


def _add_of_new_orders(lookups: Lookups, moving: Sequence[tuple[AnyCommand, OrderSpec]]) -> None:
    """Add what commands need whose orders move money in this very batch."""
    # An order of this very batch may be paid in it too; an order that no gateway pays moves its money at once.
    lookups.system_accounts |= {
        SystemKey(name, message.currency)
        for message, spec in moving
        if isinstance(message, MoneyFields) and (spec.payment is None or message.serial_no in lookups.paid)
        for name in spec.system_names
    }
    # And disputed in it, too.
    if lookups.reversed:
        lookups.system_accounts |= {
            SystemKey(name, message.currency)
            for message, _ in moving
            if isinstance(message, MoneyFields) and message.serial_no in lookups.reversed
            for name in REVERSAL_ACCOUNTS
        }
    lookups.channels = {
        message.serial_no: message.recharge_type
        for message, _ in moving
        if isinstance(message, Recharge | RechargeV2) and message.serial_no in lookups.paid
    }


def account_ids_wanted(messages: Sequence[Message | InvalidMessage]) -> int:
    """Return how many fresh account ids these messages need."""
    needing = {kind for kind, handler in commands.HANDLERS.items() if handler.needs_account_id}
    return sum(type(message) in needing for message in messages)


def decide_all(
    batch: Sequence[tuple[InboundMessage, Message | InvalidMessage]],
    facts: Facts,
    rules: Policy,
    now: datetime,
    *,
    entropy: bytes,
    account_ids: Iterator[int],
    flush_every: int,
    yield_every: int,
) -> Iterator[Part | None]:
    """Decide each message in order of arrival, over what the decisions before it left in `facts`.

    Yields a part after every `flush_every` messages and after the last, and None after every `yield_every`: a moment
    for the caller to look after what is being written. `entropy` has `ENTROPY_BYTES` for each message, `account_ids`
    an id for each account that is opened. Raises MessageFailedError.
    """
    needing = {kind for kind, handler in commands.HANDLERS.items() if handler.needs_account_id}
    decisions: list[Decision] = []
    start = 0
    for position, (incoming, message) in enumerate(batch):
        if position and position % flush_every == 0:
            yield Part(start, decisions, facts.take_flushable(), is_last=False)
            decisions, start = [], position
        elif position % yield_every == 0:
            yield None
        draw = FreshIds(
            entropy[position * ENTROPY_BYTES : (position + 1) * ENTROPY_BYTES],
            next(account_ids) if type(message) in needing else 0,
        )
        try:
            decision = decide(message, facts, DecisionContext(rules, incoming, draw, now))
            facts.apply(decision)
        except Exception as exc:
            # The one place where a bug of ours is a message's fault: its neighbours must not pay for it.
            msg = f"{type(exc).__name__}: {exc}"
            raise MessageFailedError(msg) from exc
        decisions.append(decision)
    yield Part(start, decisions, facts.take_remaining(), is_last=True)
