"""What the messages of a batch speak of: all that has to be known before the first of them is decided."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias, get_args

from wallet_schemas.commands import (
    Capture,
    CloseAccount,
    FreezeAccount,
    Hold,
    OpenAccount,
    Recharge,
    Refund,
    Release,
    Transfer,
    UnfreezeAccount,
    Withdraw,
)
from wallet_schemas.payments import PaymentResult
from wallet_worker.core.accounts import AccountKey
from wallet_worker.core.inbound import DueOrder, InvalidMessage, Message

OfAnAccount: TypeAlias = (
    OpenAccount | FreezeAccount | UnfreezeAccount | CloseAccount | Recharge | Withdraw | Transfer | Hold
)


@dataclass(slots=True)
class Lookups:
    """The serial numbers, orders and accounts that messages name.

    `orders` are serial numbers of orders that must be there already: `paid` are those of which a result speaks, and
    `refunded` those whose refunds count. `closing` are accounts whose orders count. `currencies` are those of
    orders that may be made *and* paid in this batch.
    """

    serial_nos: set[str] = field(default_factory=set)
    orders: set[str] = field(default_factory=set)
    keys: set[AccountKey] = field(default_factory=set)
    paid: set[str] = field(default_factory=set)
    refunded: set[str] = field(default_factory=set)
    closing: set[AccountKey] = field(default_factory=set)
    currencies: set[str] = field(default_factory=set)


def lookups_for(messages: Sequence[Message | InvalidMessage]) -> Lookups:
    """Return what the messages name."""
    found = Lookups()
    for message in messages:
        # By type and not by `match`, which would ask each of a dozen classes in turn, for every message.
        if (look_up := LOOKUPS.get(type(message))) is not None:
            look_up(message, found)
    found.orders |= found.paid
    if found.paid:
        found.currencies = {
            message.currency
            for message in messages
            if isinstance(message, Recharge | Withdraw | Refund) and message.serial_no in found.paid
        }
    return found


def _of_a_result(message: PaymentResult, found: Lookups) -> None:
    found.paid.add(message.payment_order_no)


def _for_due_order(message: DueOrder, found: Lookups) -> None:
    found.orders.add(message.serial_no)


def _of_a_release(message: Release, found: Lookups) -> None:
    found.serial_nos.add(message.serial_no)
    found.orders.add(message.hold_serial_no)


def _of_a_capture(message: Capture, found: Lookups) -> None:
    found.serial_nos.add(message.serial_no)
    found.orders.add(message.hold_serial_no)
    found.keys.add(AccountKey(message.to_user_id, message.to_account_type, message.currency))


def _of_a_refund(message: Refund, found: Lookups) -> None:
    found.serial_nos.add(message.serial_no)
    found.orders.add(message.original_serial_no)
    found.refunded.add(message.original_serial_no)


def _of_a_transfer(message: Transfer, found: Lookups) -> None:
    _of_an_account(message, found)
    found.keys.add(AccountKey(message.to_user_id, message.to_account_type, message.currency))


def _for_close(message: CloseAccount, found: Lookups) -> None:
    _of_an_account(message, found)
    found.closing.add(AccountKey(message.user_id, message.account_type, message.currency))


def _of_an_account(message: OfAnAccount, found: Lookups) -> None:
    found.serial_nos.add(message.serial_no)
    found.keys.add(AccountKey(message.user_id, message.account_type, message.currency))


LOOKUPS: Mapping[type, Callable[[Any, Lookups], None]] = MappingProxyType(
    {
        PaymentResult: _of_a_result,
        DueOrder: _for_due_order,
        OpenAccount: _of_an_account,
        FreezeAccount: _of_an_account,
        UnfreezeAccount: _of_an_account,
        CloseAccount: _for_close,
        Recharge: _of_an_account,
        Withdraw: _of_an_account,
        Transfer: _of_a_transfer,
        Refund: _of_a_refund,
        Hold: _of_an_account,
        Capture: _of_a_capture,
        Release: _of_a_release,
    }
)
if set(LOOKUPS) != set(get_args(Message)):
    msg = f"nobody knows what is named by {set(get_args(Message)) ^ set(LOOKUPS)}"
    raise AssertionError(msg)
