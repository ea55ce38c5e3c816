"""Double entry: whatever raises one account lowers another by the same amount, line by line.

Every account counts the same way: a credit raises its balance, a debit lowers it. A user's balance is
what the wallet owes the user; the clearing account's is what the gateway owes the wallet, below zero.
So all entries of a currency sum to zero, and so do all balances.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from wallet_schemas.events import EntryView
from wallet_schemas.message import Body
from wallet_schemas.money import to_text
from wallet_schemas.times import to_text as time_text
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


class Movement(NamedTuple):
    """What is to change on one account: above zero a credit, below zero a debit, in minor units."""

    account: Account
    minor: int


class Posting(NamedTuple):
    """What an order moved: the entries, which sum to zero, and the account of each as it is afterwards.

    Without entries it is an account of which only the debt has changed.
    """

    entries: tuple[Entry, ...]
    accounts: tuple[Account, ...]


def post(movements: Sequence[Movement], *, order_id: UUID, at: datetime) -> Posting:
    """Return the posting of movements on different accounts of one currency, which sum to zero.

    Whether a debited account may pay is decided before. Raises BalanceOverflowError when a balance would leave 64
    bits.
    """
    entries: list[Entry] = []
    accounts: list[Account] = []
    total_minor = 0
    for account, minor in movements:
        total_minor += minor
        balance_minor = account.balance_minor + minor
        if not -BALANCE_MAX_MINOR <= balance_minor <= BALANCE_MAX_MINOR:
            raise BalanceOverflowError
        moved = account.moved_to(balance_minor, at)
        accounts.append(moved)
        entries.append(
            Entry(
                account.account_id,
                moved.line_no,
                order_id,
                Direction.CREDIT if minor > 0 else Direction.DEBIT,
                abs(minor),
                account.balance_minor,
                balance_minor,
                moved.updated_at,
            )
        )
        if not minor or account.currency != movements[0].account.currency:
            raise _not_a_posting(movements)
    if total_minor or not accounts or len({account.account_id for account in accounts}) < len(accounts):
        raise _not_a_posting(movements)
    return Posting(tuple(entries), tuple(accounts))


def _not_a_posting(movements: Sequence[Movement]) -> ValueError:
    moved = ", ".join(f"{minor} on account {account.account_id}" for account, minor in movements)
    return ValueError(f"this is not a posting: {moved or 'nothing moves'}")


def body(entry: Entry, account: Account, order_type: OrderType, serial_no: str) -> Body:
    """Return a line of a user's statement as docs/contract.md, section 7, has it, for JSON."""
    currency = account.currency
    return {
        "account_no": account.account_no,
        "line_no": entry.line_no,
        "serial_no": serial_no,
        "order_type": order_type,
        "direction": entry.direction,
        "amount": to_text(entry.amount_minor, currency),
        "currency": currency,
        "balance_before": to_text(entry.balance_before_minor, currency),
        "balance_after": to_text(entry.balance_after_minor, currency),
        "created_at": time_text(entry.created_at),
    }


def view(entry: Entry, account: Account, order_type: OrderType, serial_no: str) -> EntryView:
    """Return the same line as a model, for whoever reads its fields."""
    return EntryView.model_validate(body(entry, account, order_type, serial_no), strict=False)


def bodies(posting: Posting, order_type: OrderType, serial_no: str) -> list[Body]:
    """Return the lines of users' statements that a posting made, in its order."""
    return [
        body(entry, account, order_type, serial_no)
        for entry, account in zip(posting.entries, posting.accounts, strict=True)
        if account.account_no
    ]
