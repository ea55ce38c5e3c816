"""What the messages of a batch speak of: all that has to be known before the first of them is decided."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from schemas.commands import Capture, CloseAccount, OpenAccount, Refund, Release, Transfer
from schemas.payments import PaymentResult
from wallet_worker.core.accounts import AccountKey
from wallet_worker.core.reading import Due, Readable


@dataclass(slots=True)
class Named:
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


def named(messages: Iterable[Readable]) -> Named:
    """Return what the messages name."""
    found = Named()
    made: list[tuple[str, str]] = []
    for message in messages:
        match message:
            case PaymentResult():
                found.paid.add(message.payment_order_no)
                continue
            case Due():
                found.orders.add(message.serial_no)
                continue
            case Release():
                found.orders.add(message.hold_serial_no)
            case Capture():
                found.orders.add(message.hold_serial_no)
                found.keys.add(AccountKey(message.to_user_id, message.to_account_type, message.currency))
            case Refund():
                found.orders.add(message.original_serial_no)
                found.refunded.add(message.original_serial_no)
                made.append((message.serial_no, message.currency))
            case _:
                key = AccountKey(message.user_id, message.account_type, message.currency)
                found.keys.add(key)
                match message:
                    case Transfer():
                        payee = AccountKey(message.to_user_id, message.to_account_type, message.currency)
                        found.keys.add(payee)
                    case CloseAccount():
                        found.closing.add(key)
                    case OpenAccount():
                        pass
                    case _:
                        made.append((message.serial_no, message.currency))
        found.serial_nos.add(message.serial_no)
    found.orders |= found.paid
    found.currencies = {currency for serial_no, currency in made if serial_no in found.paid}
    return found
