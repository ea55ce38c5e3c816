"""Whether the ledger is what it must be, read from the live database line by line.

One snapshot, under the role that can only read, so that it is true of one moment and disturbs nobody. The database
itself reads every row and says which accounts and orders it suspects: those that are not known to be right. They are
then streamed here, account by account and order by order, and what is wrong with them is found and explained; a good
ledger costs no more than the reading. Every rule is checked again, also those that constraints of the database already
guarantee: a restored backup or a mended table may have lost them. Memory does not grow with the ledger: too many
suspects are not kept, everything is explained then; and the database sorts within some memory, then on its disk.
"""

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Self, TypeAlias
from uuid import UUID

import asyncpg

from wallet_schemas.money import MINOR_DIGITS, UnknownCurrency, to_text
from wallet_schemas.values import OrderStatus, OrderType
from wallet_worker.core.accounts import SystemName
from wallet_worker.store.errors import translate_errors
from wallet_worker.store.snapshot import chunks, snapshot

APPLICATION: Final = "wallet audit"
SHOWN_MAX: Final = 10  # findings of each kind: enough to see a pattern
SUSPECTS_MAX: Final = 100_000  # some 10 MB; where there are more, everything is read
# A pass over a table has two helpers, as reporting queries do, and sorts and groups a million rows in memory.
WHOLE_TABLES: Final = {"max_parallel_workers_per_gather": "2", "work_mem": "128MB"}
LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


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
    REFUNDS = "refunds", "only a recharge that succeeded is refunded, and all refunds are at most its amount"
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
class Finding:
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
class Report:
    """What was looked at and what was found: `found` counts all of it, `findings` are the first of each kind."""

    shown_max: int
    accounts: int = 0
    orders: int = 0
    commands: int = 0
    lines: int = 0
    seconds: float = 0.0
    found: Counter[Invariant] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not self.found

    def add(self, finding: Finding) -> None:
        """Count a finding, and keep it if it is one of the first of its kind."""
        self.found[finding.invariant] += 1
        if self.found[finding.invariant] <= self.shown_max:
            self.findings.append(finding)


@dataclass(frozen=True, slots=True)
class Progress:
    """How many lines were looked at, of how many; each is looked at twice, in its account and in its order."""

    done: int
    total: int


OnProgress: TypeAlias = Callable[[Progress], None]


async def audit(
    dsn: str, *, shown_max: int = SHOWN_MAX, on_progress: OnProgress = lambda _progress: None
) -> Report:
    """Return what is wrong with the ledger of a live database, as one moment saw it.

    Raises the errors of `store.errors`, if the database cannot be read.
    """
    begun = time.monotonic()
    report = Report(shown_max)
    with translate_errors():
        async with snapshot(dsn, APPLICATION, WHOLE_TABLES) as connection:
            counts = await connection.fetchrow(_COUNTS)
            report.accounts, report.orders, report.commands, report.lines = counts or (0, 0, 0, 0)
            on_progress(Progress(0, 2 * report.lines))
            await _check_all_accounts(connection, report)
            on_progress(Progress(report.lines, 2 * report.lines))
            await _check_all_orders(connection, report)
            on_progress(Progress(2 * report.lines, 2 * report.lines))
            await _find_twice(connection, report)
            await _find_wrong_accounts(connection, report)
            await _find_wrong_rows(connection, report)
            await find_unpaid(connection, None, report)
            await _find_wrong_reserves(connection, report)
            await _find_wrong_holds(connection, report)
            await find_too_many_refunds(connection, None, report)
            report.findings = await with_names(connection, report.findings)
    report.seconds = time.monotonic() - begun
    return report


_COUNTS = """
SELECT (SELECT count(*) FROM accounts), (SELECT count(*) FROM orders),
       (SELECT count(*) FROM commands), (SELECT count(*) FROM entries)
"""

_BALANCES = """
SELECT currency, sum(balance) FROM accounts GROUP BY currency
"""

# Accounts that are not known to be right, and those of which there are only lines. Where every line follows from the
# one before it, the last one's balance is the sum of all.
_SUSPECT_ACCOUNTS = """
SELECT account_id
FROM (
    SELECT account_id, max(line_no) AS last_line_no, sum(moved) AS moved, min(balance_after) AS lowest,
           bool_and(follows) AS chained
    FROM (
        SELECT account_id, line_no, moved, balance_after,
               (
                   line_no = row_number() OVER lines
                   AND balance_before = lag(balance_after, 1, 0::bigint) OVER lines
                   AND balance_after = balance_before + moved
                   AND created_at >= lag(created_at, 1, created_at) OVER lines
               ) IS TRUE AS follows
        FROM (
            SELECT account_id, line_no, balance_before, balance_after, created_at,
                   CASE direction WHEN 'credit' THEN amount ELSE -amount END AS moved
            FROM entries
        ) AS entry
        WINDOW lines AS (PARTITION BY account_id ORDER BY line_no)
    ) AS line
    GROUP BY account_id
) AS ledger
FULL JOIN accounts AS a USING (account_id)
WHERE (
    coalesce(ledger.chained, true)
    AND a.line_no = coalesce(ledger.last_line_no, 0)
    AND a.balance = coalesce(ledger.moved, 0)
    AND (a.kind <> 'user' OR least(a.balance, ledger.lowest) >= 0)
    AND a.reserved >= 0
    AND (a.reserved = 0 OR a.reserved <= a.balance)
) IS NOT TRUE
LIMIT $1
"""

# Orders that are not known to be right, and those of which there are only lines. A command without an order is a
# suspect without a number.
_SUSPECT_ORDERS = """
SELECT order_id
FROM (
    SELECT e.order_id, count(*) AS lines, min(e.amount) AS amount, max(e.amount) AS other_amount,
           min(a.currency) AS currency, max(a.currency) AS other_currency,
           max(a.account_id)  FILTER (WHERE e.direction = 'debit'  AND a.system_name IS NULL) AS payer,
           max(a.account_id)  FILTER (WHERE e.direction = 'credit' AND a.system_name IS NULL) AS payee,
           max(a.system_name) FILTER (WHERE e.direction = 'debit')  AS system_payer,
           max(a.system_name) FILTER (WHERE e.direction = 'credit') AS system_payee
    FROM entries e
    LEFT JOIN accounts a USING (account_id)
    GROUP BY e.order_id
) AS paid
FULL JOIN orders AS o USING (order_id)
FULL JOIN (
    SELECT serial_no, command_type
    FROM commands
    WHERE status = 'applied' AND command_type LIKE 'order.%'
) AS c USING (serial_no)
WHERE (
    c.command_type = 'order.' || o.order_type || '.v1'
    AND CASE
        WHEN o.status <> 'succeeded' OR o.order_type = 'release' THEN paid.lines IS NULL
        ELSE paid.lines = 2
            AND paid.amount = o.amount AND paid.other_amount = o.amount
            AND paid.currency = o.currency AND paid.other_currency = o.currency
            AND CASE
                WHEN o.order_type = 'recharge'
                    THEN paid.system_payer = 'clearing' AND paid.payee = o.account_id
                WHEN o.order_type IN ('withdraw', 'refund')
                    THEN paid.payer = o.account_id AND paid.system_payee = 'clearing'
                WHEN o.order_type IN ('transfer', 'capture')
                    THEN paid.payer = o.account_id AND paid.payee = o.counter_account_id
            END
    END
) IS NOT TRUE
LIMIT $1
"""


async def _suspects(connection: asyncpg.Connection, query: str) -> list[Any] | None:
    """Return whom the query suspects, or nothing at all if everybody is to be looked at.

    That is so where there are too many, and where the numbers are such that the database cannot add them.
    """
    try:
        async with connection.transaction():
            rows = await connection.fetch(query, SUSPECTS_MAX + 1)
    except asyncpg.NumericValueOutOfRangeError:
        return None
    return None if len(rows) > SUSPECTS_MAX else [row[0] for row in rows]


_BY_ACCOUNT = """
SELECT a.account_id, a.kind = 'user', a.currency, a.balance, a.reserved, a.line_no,
       e.line_no, e.direction = 'credit', e.amount, e.balance_before, e.balance_after, e.created_at
FROM accounts a
LEFT JOIN entries e ON e.account_id = a.account_id
WHERE $1::bigint[] IS NULL OR a.account_id = ANY ($1)
ORDER BY a.account_id, e.line_no
"""


@dataclass(slots=True)
class RunningAccount:
    """An account, and what its lines have come to so far. Amounts are minor units."""

    account_id: int
    is_user: bool
    currency: str
    balance: int
    reserved: int
    line_no: int
    last_line_no: int = 0
    left: int = 0
    moved: int = 0
    last_at: datetime = LONG_AGO


async def _check_all_accounts(connection: asyncpg.Connection, report: Report) -> None:
    """Check every account and its lines, and the sum of each currency."""
    # The entries of an account that nobody suspects sum to its balance.
    moved = Counter({currency: int(minor) for currency, minor in await connection.fetch(_BALANCES)})
    suspects = await _suspects(connection, _SUSPECT_ACCOUNTS)
    if suspects != []:
        async for account in _accounts_with_lines_checked(connection, suspects, report):
            check_account(account, report)
            moved[account.currency] += account.moved - account.balance
    for currency, sum_minor in sorted(moved.items()):
        if sum_minor:
            detail = f"the entries in {currency} sum to {_text(sum_minor, currency)}"
            report.add(Finding(invariant=Invariant.CURRENCY_SUM, detail=detail))


async def _accounts_with_lines_checked(
    connection: asyncpg.Connection, account_ids: Sequence[int] | None, report: Report
) -> AsyncIterator[RunningAccount]:
    """Yield these accounts, or all, each after its lines were checked."""
    account: RunningAccount | None = None
    async for rows in chunks(connection, _BY_ACCOUNT, account_ids):
        for (
            account_id, is_user, currency, balance, reserved, last_line_no,
            line_no, is_credit, amount, before, after, created_at,
        ) in rows:  # fmt: skip
            if account is None or account.account_id != account_id:
                if account is not None:
                    yield account
                account = RunningAccount(account_id, is_user, currency, balance, reserved, last_line_no)
            if line_no is not None:
                signed = amount if is_credit else -amount
                check_line(account, line_no, signed, before, after, created_at, report)
    if account is not None:
        yield account


def check_line(
    account: RunningAccount,
    line_no: int,
    signed: int,
    before: int,
    after: int,
    created_at: datetime,
    report: Report,
) -> None:
    """Find what is wrong with one line, coming after what `account` has come to, and have it come to this line."""

    def text(minor: int) -> str:
        return _text(minor, account.currency)

    def found(invariant: Invariant, detail: str) -> None:
        report.add(
            Finding(invariant=invariant, detail=detail, account_id=account.account_id, line_no=line_no)
        )

    if line_no != account.last_line_no + 1:
        where = f"line {account.last_line_no}" if account.last_line_no else "the beginning"
        found(Invariant.LINE_NUMBERS, f"line {line_no} comes after {where}")
    if before != account.left:
        found(Invariant.LINE_CHAIN, f"it begins with {text(before)}, and {text(account.left)} was left")
    if after != before + signed:
        found(Invariant.LINE_ARITHMETIC, f"{text(before)} and {text(signed)} are not {text(after)}")
    if account.is_user and after < 0:
        found(Invariant.OVERDRAFT, f"it leaves {text(after)}")
    if created_at < account.last_at:
        found(Invariant.LINE_TIMES, f"it is of {created_at}, and the line before it of {account.last_at}")
    account.last_line_no, account.left, account.last_at = line_no, after, created_at
    account.moved += signed


def check_account(account: RunningAccount, report: Report) -> None:
    """Find what is wrong with an account, all of whose lines were seen."""

    def text(minor: int) -> str:
        return _text(minor, account.currency)

    def found(invariant: Invariant, detail: str) -> None:
        report.add(Finding(invariant=invariant, detail=detail, account_id=account.account_id))

    if account.line_no != account.last_line_no:
        found(Invariant.LAST_LINE, f"its line_no is {account.line_no}, its last line {account.last_line_no}")
    if not account.balance == account.left == account.moved:
        found(
            Invariant.BALANCE,
            f"its balance is {text(account.balance)}, its last line left {text(account.left)}, "
            f"its entries sum to {text(account.moved)}",
        )
    if account.is_user and account.balance < 0:
        found(Invariant.OVERDRAFT, f"its balance is {text(account.balance)}")
    if account.reserved < 0 or (account.reserved > 0 and account.reserved > account.balance):
        found(Invariant.RESERVE, f"{text(account.reserved)} of {text(account.balance)} are reserved")


# Entries come with the currency of their account and, where that is a system account, its name.
_BY_ORDER = """
SELECT o.order_id, o.order_type, o.account_id, o.counter_account_id, o.amount, o.currency, o.status,
       c.status = 'applied' AND c.command_type = 'order.' || o.order_type || '.v1',
       e.account_id, e.direction = 'credit', e.amount, a.currency, a.system_name
FROM orders o
LEFT JOIN commands c ON c.serial_no = o.serial_no
LEFT JOIN entries e ON e.order_id = o.order_id
LEFT JOIN accounts a ON a.account_id = e.account_id
WHERE $1::uuid[] IS NULL OR o.order_id = ANY ($1)
ORDER BY o.order_id, e.account_id, e.line_no
"""


@dataclass(slots=True)  # not frozen: making a frozen one takes three times as long, and there may be millions
class _Order:
    """An order as its row has it. `was_asked_for`: its command is there, applied, and of its kind."""

    order_id: UUID
    order_type: str
    account_id: int
    counter_account_id: int | None
    amount: int
    currency: str
    status: str
    was_asked_for: bool | None


_Line: TypeAlias = tuple[int | str, str | None, int]
"""Of an entry: whose it is (an account_id, or a system account's name), in what currency, and what it moved."""


async def _check_all_orders(connection: asyncpg.Connection, report: Report) -> None:
    """Check every order with its entries and its command, and that no entry and no command is without its order."""
    suspects = await _suspects(connection, _SUSPECT_ORDERS)
    if suspects != []:
        await check_orders(connection, suspects, report)
        await find_stray_lines(connection, None, report)
        await _find_commands_without_order(connection, report)


async def check_orders(
    connection: asyncpg.Connection, order_ids: Sequence[UUID] | None, report: Report
) -> None:
    """Find what is wrong with these orders, or with all, with all of their entries and their commands."""
    order: _Order | None = None
    entries: list[_Line] = []
    async for rows in chunks(connection, _BY_ORDER, order_ids):
        for row in rows:
            order_id = row[0]
            if order is None or order.order_id != order_id:
                if order is not None:
                    _check_order(order, entries, report)
                order = _Order(order_id, *row[1:8])
                entries = []
            account_id = row[8]
            if account_id is not None:
                amount = row[10]
                entries.append((row[12] or account_id, row[11], amount if row[9] else -amount))
    if order is not None:
        _check_order(order, entries, report)


def _check_order(order: _Order, entries: list[_Line], report: Report) -> None:
    """Find what is wrong with an order, all of whose entries were seen."""

    def found(invariant: Invariant, detail: str) -> None:
        report.add(Finding(invariant=invariant, detail=detail, order_id=order.order_id))

    if not order.was_asked_for:
        found(Invariant.ORDER_COMMAND, f"no applied order.{order.order_type}.v1 has its serial number")
    wanted = _entries_wanted(order)
    if entries == wanted or entries[::-1] == wanted:
        return
    sum_minor = sum(line[2] for line in entries)
    if sum_minor:
        found(Invariant.ORDER_SUM, f"its entries sum to {_text(sum_minor, order.currency)}")
    if wanted is None or Counter(entries) != Counter(wanted):
        found(
            Invariant.ORDER_ENTRIES,
            f"it {order.status} and should have {_shown(wanted)}; it has {_shown(entries)}",
        )


def _entries_wanted(order: _Order) -> list[_Line] | None:
    """Return the entries that an order must have, as it stands; absent for an order that is not known here."""
    if order.status != OrderStatus.SUCCEEDED:
        return []
    match order.order_type:
        case OrderType.RECHARGE:
            return [
                (order.account_id, order.currency, order.amount),
                (SystemName.CLEARING.value, order.currency, -order.amount),
            ]
        case OrderType.WITHDRAW | OrderType.REFUND:
            return [
                (order.account_id, order.currency, -order.amount),
                (SystemName.CLEARING.value, order.currency, order.amount),
            ]
        case OrderType.TRANSFER | OrderType.CAPTURE if order.counter_account_id is not None:
            return [
                (order.account_id, order.currency, -order.amount),
                (order.counter_account_id, order.currency, order.amount),
            ]
        case OrderType.RELEASE:
            return []
        case _:
            return None


def _shown(entries: Sequence[_Line] | None) -> str:
    if entries is None:
        return "entries that this audit does not know"
    if not entries:
        return "no entries"
    return " and ".join(
        f"{_text(minor, currency)} {currency} on {f'account {owner}' if isinstance(owner, int) else owner}"
        for owner, currency, minor in entries
    )


def _text(minor: int, currency: str | None) -> str:
    """Return an amount for a person, in minor units if the currency is not what it should be."""
    try:
        return to_text(minor, currency or "")
    except UnknownCurrency:
        return str(minor)


_STRAY_LINES = """
SELECT e.account_id, e.line_no, e.order_id, a.account_id IS NULL
FROM entries e
LEFT JOIN accounts a ON a.account_id = e.account_id
LEFT JOIN orders o ON o.order_id = e.order_id
WHERE (a.account_id IS NULL OR o.order_id IS NULL) AND ($1::uuid[] IS NULL OR e.order_id = ANY ($1))
ORDER BY e.account_id, e.line_no
"""


async def find_stray_lines(
    connection: asyncpg.Connection, order_ids: Sequence[UUID] | None, report: Report
) -> None:
    """Find the lines that are of these orders, or of any, and have no such order, or no account."""
    async for rows in chunks(connection, _STRAY_LINES, order_ids):
        for account_id, line_no, order_id, no_account in rows:
            report.add(
                Finding(
                    invariant=Invariant.STRAY_LINE,
                    detail=f"there is no such {'account' if no_account else 'order'}",
                    account_id=account_id,
                    line_no=line_no,
                    order_id=order_id,
                )
            )


_COMMANDS_WITHOUT_ORDER = """
SELECT c.serial_no, c.command_type
FROM commands c
LEFT JOIN orders o ON o.serial_no = c.serial_no
WHERE c.status = 'applied' AND c.command_type LIKE 'order.%' AND o.serial_no IS NULL
ORDER BY c.serial_no
"""


async def _find_commands_without_order(connection: asyncpg.Connection, report: Report) -> None:
    async for rows in chunks(connection, _COMMANDS_WITHOUT_ORDER):
        for serial_no, command_type in rows:
            detail = f"this {command_type} was applied and has no order"
            report.add(Finding(invariant=Invariant.COMMAND_ORDER, detail=detail, serial_no=serial_no))


_TWICE = """
SELECT account_id, NULL::uuid, NULL, count(*), 'accounts with this account_id'
FROM accounts
GROUP BY account_id
HAVING count(*) > 1
UNION ALL
SELECT max(account_id), NULL, NULL, count(*), 'open accounts of this owner, type and currency'
FROM accounts
WHERE kind = 'user' AND status <> 'closed'
GROUP BY user_id, account_type, currency
HAVING count(*) > 1
UNION ALL
SELECT NULL, order_id, NULL, count(*), 'orders with this order_id'
FROM orders
GROUP BY order_id
HAVING count(*) > 1
UNION ALL
SELECT NULL, NULL, serial_no, count(*), 'orders with this serial_no'
FROM orders
GROUP BY serial_no
HAVING count(*) > 1
UNION ALL
SELECT NULL, NULL, serial_no, count(*), 'commands with this serial_no'
FROM commands
GROUP BY serial_no
HAVING count(*) > 1
"""


async def _find_twice(connection: asyncpg.Connection, report: Report) -> None:
    async for rows in chunks(connection, _TWICE):
        for account_id, order_id, serial_no, times, what in rows:
            report.add(
                Finding(
                    invariant=Invariant.UNIQUE,
                    detail=f"there are {times} {what}",
                    account_id=account_id,
                    order_id=order_id,
                    serial_no=serial_no,
                )
            )


_WRONG_ACCOUNTS = """
SELECT account_id, currency, status, balance, reserved
FROM accounts
WHERE status NOT IN ('active', 'frozen', 'closed') OR (status = 'closed' AND (balance <> 0 OR reserved <> 0))
ORDER BY account_id
"""


async def _find_wrong_accounts(connection: asyncpg.Connection, report: Report) -> None:
    async for rows in chunks(connection, _WRONG_ACCOUNTS):
        for account_id, currency, status, balance, reserved in rows:
            detail = (
                f"it is {status} with {_text(balance, currency)}, {_text(reserved, currency)} of it reserved"
            )
            report.add(Finding(invariant=Invariant.ACCOUNT_STATUS, detail=detail, account_id=account_id))


_WRONG_ROWS = """
SELECT o.order_id, o.status, o.currency, a.currency, o.late, o.due_at
FROM orders o
LEFT JOIN accounts a USING (account_id)
WHERE o.currency IS DISTINCT FROM a.currency
   OR (o.late AND o.status <> 'succeeded')
   OR (o.status IN ('pending', 'active')) <> (o.due_at IS NOT NULL)
ORDER BY o.order_id
"""


async def _find_wrong_rows(connection: asyncpg.Connection, report: Report) -> None:
    async for rows in chunks(connection, _WRONG_ROWS):
        for order_id, status, currency, account_currency, late, due_at in rows:
            when = f"due at {due_at}" if due_at else "never due"
            how = f"{status}, late" if late else status
            where = f"an account in {account_currency}" if account_currency else "no account"
            detail = f"it is {how}, {when}, in {currency} on {where}"
            report.add(Finding(invariant=Invariant.ORDER_ROW, detail=detail, order_id=order_id))


# A result that fits its order, however its amount is spelled: "100", "100.0" and "100.00" are one. What has more digits
# than any amount of the wallet's is not read as a number.
_UNPAID = """
SELECT o.order_id, o.order_type, o.amount, o.currency
FROM orders o
WHERE o.status = 'succeeded' AND o.order_type IN ('recharge', 'withdraw', 'refund')
  AND ($3::uuid[] IS NULL OR o.order_id = ANY ($3))
  AND NOT EXISTS (
      SELECT
      FROM payment_results r
      JOIN unnest($1::text[], $2::bigint[]) AS known (currency, units) USING (currency)
      WHERE r.payment_order_no = o.serial_no AND r.status = 'succeeded' AND r.currency = o.currency
        AND CASE
            WHEN r.amount ~ '^0*[0-9]{1,16}([.][0-9]{1,8})?$' THEN r.amount::numeric * known.units = o.amount
        END
  )
ORDER BY o.order_id
"""


async def find_unpaid(
    connection: asyncpg.Connection, order_ids: Sequence[UUID] | None, report: Report
) -> None:
    """Find which of these orders, or of all, moved money through the gateway without a result that says so."""
    units = [10**digits for digits in MINOR_DIGITS.values()]
    async for rows in chunks(connection, _UNPAID, list(MINOR_DIGITS), units, order_ids):
        for order_id, order_type, amount, currency in rows:
            detail = (
                f"no result of the gateway says that this {order_type} of {_text(amount, currency)} succeeded"
            )
            report.add(Finding(invariant=Invariant.RESULT, detail=detail, order_id=order_id))


_WRONG_RESERVES = """
WITH taken AS (
    SELECT account_id, sum(CASE order_type WHEN 'hold' THEN remaining ELSE amount END) AS minor
    FROM orders
    WHERE (order_type = 'hold' AND status = 'active')
       OR (order_type IN ('withdraw', 'refund') AND status = 'pending')
    GROUP BY account_id
)
SELECT a.account_id, a.currency, a.reserved, coalesce(t.minor, 0)::bigint
FROM accounts a
LEFT JOIN taken t USING (account_id)
WHERE a.reserved <> coalesce(t.minor, 0)
ORDER BY a.account_id
"""


async def _find_wrong_reserves(connection: asyncpg.Connection, report: Report) -> None:
    async for rows in chunks(connection, _WRONG_RESERVES):
        for account_id, currency, reserved, taken in rows:
            detail = (
                f"{_text(reserved, currency)} are reserved, and its orders will take {_text(taken, currency)}"
            )
            report.add(Finding(invariant=Invariant.RESERVED, detail=detail, account_id=account_id))


_WRONG_HOLDS = """
SELECT h.order_id, h.currency, h.status, h.amount, h.remaining, u.captured, u.released
FROM orders h
CROSS JOIN LATERAL (
    SELECT coalesce(sum(amount) FILTER (WHERE order_type = 'capture'), 0)::bigint AS captured,
           coalesce(sum(amount) FILTER (WHERE order_type = 'release'), 0)::bigint AS released
    FROM orders
    WHERE about_serial_no = h.serial_no
) u
WHERE h.order_type = 'hold'
  AND CASE h.status
          WHEN 'active'   THEN h.remaining <> h.amount - u.captured OR h.remaining = 0 OR u.released > 0
          WHEN 'captured' THEN h.remaining <> 0 OR u.captured <> h.amount
          WHEN 'released' THEN h.remaining <> 0 OR u.captured + u.released <> h.amount
          ELSE h.remaining <> 0 OR u.captured >= h.amount OR u.released > 0
      END
ORDER BY h.order_id
"""


async def _find_wrong_holds(connection: asyncpg.Connection, report: Report) -> None:
    async for rows in chunks(connection, _WRONG_HOLDS):
        for order_id, currency, status, amount, remaining, captured, released in rows:
            detail = (
                f"it is {status} with {_text(remaining or 0, currency)} left: of {_text(amount, currency)}, "
                f"{_text(captured, currency)} were captured and {_text(released, currency)} released"
            )
            report.add(Finding(invariant=Invariant.HOLD, detail=detail, order_id=order_id))


_TOO_MANY_REFUNDS = """
WITH refunded AS (
    SELECT DISTINCT about_serial_no
    FROM orders
    WHERE order_type = 'refund' AND ($1::uuid[] IS NULL OR order_id = ANY ($1))
)
SELECT o.order_id, o.order_type, o.status, o.currency, o.amount, sum(r.amount)::bigint
FROM refunded
JOIN orders o ON o.serial_no = refunded.about_serial_no
JOIN orders r ON r.about_serial_no = o.serial_no
WHERE r.order_type = 'refund' AND r.status <> 'failed'
GROUP BY o.order_id, o.order_type, o.status, o.currency, o.amount
HAVING sum(r.amount) > o.amount OR o.order_type <> 'recharge' OR o.status <> 'succeeded'
ORDER BY o.order_id
"""


async def find_too_many_refunds(
    connection: asyncpg.Connection, order_ids: Sequence[UUID] | None, report: Report
) -> None:
    """Find the orders of which more is refunded than may be, of those that these refunds are about, or of all."""
    async for rows in chunks(connection, _TOO_MANY_REFUNDS, order_ids):
        for order_id, order_type, status, currency, amount, refunded in rows:
            detail = (
                f"{_text(refunded, currency)} are refunded of this {order_type}, which is {status} "
                f"with {_text(amount, currency)}"
            )
            report.add(Finding(invariant=Invariant.REFUNDS, detail=detail, order_id=order_id))


_ACCOUNT_NAMES = """
SELECT account_id, coalesce(account_no, concat_ws(' ', system_name, currency, 'lane', lane))
FROM accounts
WHERE account_id = ANY ($1::bigint[])
"""

_SERIAL_NOS = """
SELECT order_id, serial_no FROM orders WHERE order_id = ANY ($1::uuid[])
"""


async def with_names(connection: asyncpg.Connection, findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings with the names by which people know accounts and orders: for a few, not for every row."""
    found = list(findings)
    account_ids = [one.account_id for one in found if one.account_id is not None]
    order_ids = [one.order_id for one in found if one.order_id is not None]
    accounts = {row[0]: row[1] for row in await connection.fetch(_ACCOUNT_NAMES, account_ids)}
    serial_nos = {row[0]: row[1] for row in await connection.fetch(_SERIAL_NOS, order_ids)}
    return [
        replace(
            one,
            account=None if one.account_id is None else accounts.get(one.account_id),
            serial_no=one.serial_no if one.order_id is None else serial_nos.get(one.order_id),
        )
        for one in found
    ]
