"""The rules of the ledger, and what an audit finds where a rule is broken."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self
from uuid import UUID

from wallet_schemas.money import UnknownCurrency, to_text


class Invariant(StrEnum):
    """A rule of the ledger. `meaning` says it to a person."""

    meaning: str

    LINE_NUMBERS = "line_numbers", "an account's lines are numbered from 1 without gaps"
    LINE_CHAIN = "line_chain", "a line begins with the balance that the line before it left, the first with 0"
    LINE_ARITHMETIC = (
        "line_arithmetic",
        "a line's balance after is that before, plus its credit or less its debit",
    )
    LAST_LINE = "last_line", "an account's line_no is that of its last line"
    BALANCE = "balance", "an account's balance is what its last line left, and the sum of its entries"
    OVERDRAFT = "overdraft", "a user's balance is never below zero"
    RESERVE = "reserve", "what is reserved is not below zero and not above the balance"
    ACCOUNT_STATUS = "account_status", "an account is active, frozen or closed, and a closed one is empty"
    LINE_TIMES = "line_times", "an account's lines are in the order of their times"
    ORDER_ROW = (
        "order_row",
        "an order is on an account of its currency, late only if its money came, and due exactly while it waits",
    )
    RESULT = "result", "what came or left through the gateway did so by a result that says so, of that amount"
    RESERVED = "reserved", "what is reserved is what pending orders and active holds will take"
    HOLD = "hold", "a hold has left what was neither captured nor returned"
    REFUNDS = (
        "refunds",
        "only a recharge that succeeded is refunded, and all refunds that did not come back are at most its amount",
    )
    DEBT = (
        "debt",
        "an account owes what was lent and neither paid nor written off, and as much is receivable in all",
    )
    REVERSAL = (
        "reversal",
        "what stands of an order's disputes, recalls and returns is what the wallet has moved because of them",
    )
    GATEWAY_REF = (
        "gateway_ref",
        "where one id of the gateway's is one payment, it is that of the recharge that succeeded with it",
    )
    CURRENCY_SUM = "currency_sum", "all entries of a currency sum to zero"
    ORDER_SUM = "order_sum", "all entries of an order sum to zero"
    ORDER_ENTRIES = "order_entries", "an order that succeeded has exactly its entries, and any other has none"
    ORDER_COMMAND = "order_command", "an order has the applied command that asked for it"
    COMMAND_ORDER = "command_order", "an applied command has the order that it asked for"
    STRAY_LINE = "stray_line", "a line belongs to an account and to an order"
    UNIQUE = (
        "unique",
        "there is one account, order or command of a number, and one open account of an owner, type and currency",
    )

    def __new__(cls, value: str, meaning: str) -> Self:
        """Return the member: a string like any other, that knows what it means."""
        invariant = str.__new__(cls, value)
        invariant._value_ = value
        invariant.meaning = meaning
        return invariant


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFinding:
    """One place where a rule is broken. What is absent does not apply.

    `account` is the account's number, or the name, currency and lane of a system account.
    """

    invariant: Invariant
    detail: str
    account_id: int | None = None
    account: str | None = None
    line_no: int | None = None
    order_id: UUID | None = None
    serial_no: str | None = None


@dataclass(slots=True)
class AuditReport:
    """What was looked at and what was found: `found` counts all of it, `findings` are the first of each kind."""

    shown_max: int
    accounts: int = 0
    orders: int = 0
    commands: int = 0
    lines: int = 0
    seconds: float = 0.0
    counts: Counter[Invariant] = field(default_factory=Counter)
    findings: list[AuditFinding] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not self.counts

    def add(self, finding: AuditFinding) -> None:
        """Count a finding, and keep it if it is one of the first of its kind."""
        self.counts[finding.invariant] += 1
        if self.counts[finding.invariant] <= self.shown_max:
            self.findings.append(finding)


def as_text(minor: int, currency: str | None) -> str:
    """Return an amount for a person, in minor units if the currency is not what it should be."""
    try:
        return to_text(minor, currency or "")
    except UnknownCurrency:
        return str(minor)
