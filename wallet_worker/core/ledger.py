"""Double entry: whatever raises one account lowers another by the same amount, line by line.

Every account counts the same way: a credit raises its balance, a debit lowers it. A user's balance is
what the wallet owes the user; the clearing account's is what the gateway owes the wallet, below zero.
So all entries of a currency sum to zero, and so do all balances.
"""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from wallet_schemas.events import EntryView
from wallet_schemas.money import to_text
from wallet_schemas.values import Direction, OrderType
from wallet_worker.core.accounts import Account

BALANCE_MAX_MINOR = 2**63 - 1
"""A balance is a PostgreSQL `bigint` of minor units."""


class BalanceOverflowError(Exception):
    """A posting would leave the range of a balance; nothing was posted."""


class Entry(NamedTuple):
    """One line of one account's statement. Amounts are minor units, `amount_minor` above zero."""

    account_id: int
    line_no: int
    order_id: UUID
    direction: Direction
    amount_minor: int
    balance_before_minor: int
    balance_after_minor: int
    created_at: datetime


class Posting(NamedTuple):
    """One movement: the two entries, which sum to zero, and both accounts as they are afterwards."""

    debit: Entry
    credit: Entry
    debited: Account
    credited: Account


def post(*, debit: Account, credit: Account, amount_minor: int, order_id: UUID, at: datetime) -> Posting:
    """Return the movement of `amount_minor` from one account to another of the same currency.

    Whether the debited account may pay is decided before; here only arithmetic is refused:
    raises BalanceOverflowError when a balance would leave 64 bits.
    """
    if debit.currency != credit.currency or debit.account_id == credit.account_id or amount_minor <= 0:
        msg = f"no posting of {amount_minor} from account {debit.account_id} to {credit.account_id}"
        raise ValueError(msg)
    debited_minor = debit.balance_minor - amount_minor
    credited_minor = credit.balance_minor + amount_minor
    if credited_minor > BALANCE_MAX_MINOR or debited_minor < -BALANCE_MAX_MINOR:
        raise BalanceOverflowError
    debited = debit.moved_to(debited_minor, at)
    credited = credit.moved_to(credited_minor, at)
    return Posting(
        debit=_line(Direction.DEBIT, debit, debited, amount_minor, order_id),
        credit=_line(Direction.CREDIT, credit, credited, amount_minor, order_id),
        debited=debited,
        credited=credited,
    )


def _line(direction: Direction, before: Account, after: Account, amount_minor: int, order_id: UUID) -> Entry:
    return Entry(
        account_id=after.account_id,
        line_no=after.line_no,
        order_id=order_id,
        direction=direction,
        amount_minor=amount_minor,
        balance_before_minor=before.balance_minor,
        balance_after_minor=after.balance_minor,
        created_at=after.updated_at,
    )


def view(entry: Entry, account: Account, order_type: OrderType) -> EntryView:
    """Return a line of a user's statement as docs/contract.md, section 7, has it."""
    return EntryView(
        account_no=account.account_no,
        line_no=entry.line_no,
        order_type=order_type,
        direction=entry.direction,
        amount=to_text(entry.amount_minor, account.currency),
        currency=account.currency,
        balance_before=to_text(entry.balance_before_minor, account.currency),
        balance_after=to_text(entry.balance_after_minor, account.currency),
        created_at=entry.created_at,
    )
