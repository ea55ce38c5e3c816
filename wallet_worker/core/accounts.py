"""Accounts as the core sees them: a user's balance, or one lane of a system account."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from wallet_schemas.events import AccountView
from wallet_schemas.message import Body
from wallet_schemas.money import to_text
from wallet_schemas.times import to_text as time_text
from wallet_schemas.values import AccountStatus


class AccountKey(NamedTuple):
    """What a command names an account by. At most one account of a key is not closed."""

    user_id: str
    account_type: str
    currency: str


class SystemName(StrEnum):
    """The wallet's own accounts, the other side of what users own."""

    CLEARING = "clearing"
    """What the payment gateway owes the wallet: falls by what users were credited, rises by pay-outs."""
    RECEIVABLES = "receivables"
    """What users owe the wallet: below zero by the sum of all debts."""
    LOSSES = "losses"
    """What the wallet has written off, below zero."""
    ADJUSTMENTS = "adjustments"
    """What operators have given away, below zero, or taken back."""
    FEES = "fees"
    """What the wallet has earned."""


class SystemKey(NamedTuple):
    """A system account in one currency, whichever of its lanes this batch was given."""

    name: SystemName
    currency: str


@dataclass(frozen=True, slots=True)
class Account:
    """One account row. Amounts are minor units; `available` = `balance_minor` less `reserved_minor`.

    `debt_minor` is what the wallet has lent a user because a debit that cannot be refused found too little: whoever
    owes has nothing available. Only `core.debts` changes it.

    `line_no` is the number of its last entry, 0 while it has none. A system account has no number and
    no key of a user; each of its rows is one lane, so that workers do not queue behind one lock.
    """

    account_id: int
    currency: str
    balance_minor: int
    line_no: int
    updated_at: datetime
    status: AccountStatus = AccountStatus.ACTIVE
    reserved_minor: int = 0
    account_no: str = ""
    user_id: str = ""
    account_type: str = ""
    created_at: datetime | None = None
    debt_minor: int = 0

    @property
    def key(self) -> AccountKey:
        """What a command would name this account by."""
        return AccountKey(self.user_id, self.account_type, self.currency)

    @property
    def recency(self) -> tuple[bool, float, int]:
        """A sort key: the newest account of a key has the largest.

        The account that is not closed is the newest, then the one opened last. Ids are handed out ahead of time, so
        they only break ties.
        """
        opened_at = self.created_at.timestamp() if self.created_at else 0.0
        return (self.status is not AccountStatus.CLOSED, opened_at, self.account_id)

    @property
    def available_minor(self) -> int:
        """The balance without what is reserved."""
        return self.balance_minor - self.reserved_minor

    def moved_to(self, balance_minor: int, at: datetime) -> "Account":
        """Return the account one statement line later, with the balance after that line.

        Times never run backwards along a statement, whatever the clock does: a span of time is
        always a span of lines.
        """
        # Every field by name: `replace` takes twice as long, and this is done for every line.
        return Account(
            account_id=self.account_id,
            currency=self.currency,
            balance_minor=balance_minor,
            line_no=self.line_no + 1,
            updated_at=max(at, self.updated_at),
            status=self.status,
            reserved_minor=self.reserved_minor,
            account_no=self.account_no,
            user_id=self.user_id,
            account_type=self.account_type,
            created_at=self.created_at,
            debt_minor=self.debt_minor,
        )

    def reserving(self, amount_minor: int, at: datetime) -> "Account":
        """Return the account with `amount_minor` more of its balance reserved; below zero, less."""
        return replace(
            self, reserved_minor=self.reserved_minor + amount_minor, updated_at=max(at, self.updated_at)
        )


class StatusChange(StrEnum):
    """What a command does to the status of an account."""

    FREEZE = "account.freeze"
    UNFREEZE = "account.unfreeze"
    CLOSE = "account.close"


ACCOUNT_TRANSITIONS: Mapping[tuple[AccountStatus, StatusChange], AccountStatus | None] = MappingProxyType(
    {
        (AccountStatus.ACTIVE, StatusChange.FREEZE): AccountStatus.FROZEN,
        (AccountStatus.ACTIVE, StatusChange.UNFREEZE): AccountStatus.ACTIVE,
        (AccountStatus.ACTIVE, StatusChange.CLOSE): AccountStatus.CLOSED,
        (AccountStatus.FROZEN, StatusChange.FREEZE): AccountStatus.FROZEN,
        (AccountStatus.FROZEN, StatusChange.UNFREEZE): AccountStatus.ACTIVE,
        (AccountStatus.FROZEN, StatusChange.CLOSE): AccountStatus.CLOSED,
        (AccountStatus.CLOSED, StatusChange.FREEZE): None,
        (AccountStatus.CLOSED, StatusChange.UNFREEZE): None,
        (AccountStatus.CLOSED, StatusChange.CLOSE): None,
    }
)
"""The life of an account: the status after each change, or None where the change is refused.

A frozen account may be frozen again, for another reason. A closed account stays closed; opening the same key again
makes another account.
"""

if set(ACCOUNT_TRANSITIONS) != {(status, change) for status in AccountStatus for change in StatusChange}:
    raise AssertionError("the life of an account is not total")


def transition(account: Account, change: StatusChange, at: datetime) -> Account | None:
    """Return the account after a change of status, or None if it is closed. Whether it may close is decided before."""
    status = ACCOUNT_TRANSITIONS[account.status, change]
    if status is None:
        return None
    return replace(account, status=status, updated_at=max(at, account.updated_at))


def diagram() -> str:
    """Return the life of an account as a mermaid state diagram, as it stands in ARCHITECTURE.md."""
    lines = ["stateDiagram-v2", "    [*] --> active: account.open"]
    lines += [
        f"    {status} --> {to}: {change}" for (status, change), to in ACCOUNT_TRANSITIONS.items() if to
    ]
    return "\n".join(lines)


def opened(account_id: int, account_no: str, key: AccountKey, at: datetime) -> Account:
    """Return a new, empty, active account."""
    return Account(
        account_id=account_id,
        currency=key.currency,
        balance_minor=0,
        line_no=0,
        updated_at=at,
        account_no=account_no,
        user_id=key.user_id,
        account_type=key.account_type,
        created_at=at,
    )


def body(account: Account, *, with_debt: bool = False) -> Body:
    """Return a user's account as docs/contract.md, section 7, has it, for JSON; `with_debt`: also where it is zero."""
    if account.created_at is None:
        msg = f"account {account.account_id} is a system account, which nobody outside is shown"
        raise ValueError(msg)
    shown: Body = {
        "user_id": account.user_id,
        "account_no": account.account_no,
        "account_type": account.account_type,
        "currency": account.currency,
        "balance": to_text(account.balance_minor, account.currency),
        "available": to_text(account.available_minor, account.currency),
    }
    if account.debt_minor or with_debt:
        shown["debt"] = to_text(account.debt_minor, account.currency)
    shown["status"] = account.status
    shown["created_at"] = time_text(account.created_at)
    shown["updated_at"] = time_text(account.updated_at)
    return shown


def view(account: Account) -> AccountView:
    """Return the same account as a model, for whoever reads its fields."""
    return AccountView.model_validate(body(account), strict=False)
