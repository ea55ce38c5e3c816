"""Each way of breaking the ledger is found, and nothing else is."""

from dataclasses import dataclass
from itertools import product

import asyncpg
import pytest

from tests.audit import ledger
from tests.audit.ledger import ALICE, BOB, EVE, corrupt
from tests.servers import Servers
from tests.servers.ports import free_ports
from wallet_worker.audit.findings import AuditReport, Invariant
from wallet_worker.audit.report import Progress, audit
from wallet_worker.store import snapshot as snapshots
from wallet_worker.store.errors import UnavailableError, UnfitError
from wallet_worker.store.reads import audit as reads

CHUNKS = (1, 3, 2_000)
"""Rows come in chunks that end inside accounts and orders, and in one."""

FEW, MANY = 0, 100_000
"""How many suspects may be kept: with few, everything is read and explained as soon as there is one."""

NONE = -1
"""Nobody may be suspected: everything is read and explained, also where all is well."""


@dataclass(frozen=True, slots=True)
class Damage:
    """Something done to the ledger, and what the audit must find: how often, and where, as people see it."""

    name: str
    statements: str
    found: dict[Invariant, int]
    where: set[tuple[Invariant, str]]


def on(invariant: Invariant, where: str) -> tuple[Invariant, str]:
    """Return where a rule is broken: an account's user, a line, or a serial number."""
    return invariant, where


DAMAGES = (
    Damage(
        "a line is missing from the numbering",
        """
        UPDATE entries
        SET line_no = 7
        WHERE account_id = 101 AND line_no = 3;
        UPDATE accounts
        SET line_no = 7
        WHERE account_id = 101
        """,
        {Invariant.LINE_NUMBERS: 1},
        {on(Invariant.LINE_NUMBERS, "alice 7")},
    ),
    Damage(
        "the numbering begins at 2",
        """
        UPDATE entries
        SET line_no = line_no + 10
        WHERE account_id = 101;
        UPDATE entries
        SET line_no = line_no - 9
        WHERE account_id = 101;
        UPDATE accounts
        SET line_no = 4
        WHERE account_id = 101
        """,
        {Invariant.LINE_NUMBERS: 1},
        {on(Invariant.LINE_NUMBERS, "alice 2")},
    ),
    Damage(
        "a line in the middle floats",
        """
        UPDATE entries
        SET balance_before = balance_before + 5, balance_after = balance_after + 5
        WHERE account_id = 101 AND line_no = 2
        """,
        {Invariant.LINE_CHAIN: 2},
        {on(Invariant.LINE_CHAIN, "alice 2"), on(Invariant.LINE_CHAIN, "alice 3")},
    ),
    Damage(
        "a first line does not begin with nothing",
        """
        UPDATE entries
        SET balance_before = balance_before + 5, balance_after = balance_after + 5
        WHERE account_id = 101;
        UPDATE accounts
        SET balance = balance + 5
        WHERE account_id = 101
        """,
        {Invariant.LINE_CHAIN: 1, Invariant.BALANCE: 1},
        {on(Invariant.LINE_CHAIN, "alice 1"), on(Invariant.BALANCE, "alice")},
    ),
    Damage(
        "a line does not add up",
        """
        UPDATE entries
        SET balance_after = balance_after + 5
        WHERE account_id = 102 AND line_no = 1;
        UPDATE entries
        SET balance_before = balance_before + 5
        WHERE account_id = 102 AND line_no = 2
        """,
        {Invariant.LINE_ARITHMETIC: 2},
        {on(Invariant.LINE_ARITHMETIC, "bob 1"), on(Invariant.LINE_ARITHMETIC, "bob 2")},
    ),
    Damage(
        "an account believes in a line too many",
        "UPDATE accounts SET line_no = line_no + 1 WHERE account_id = 101",
        {Invariant.LAST_LINE: 1},
        {on(Invariant.LAST_LINE, "alice")},
    ),
    Damage(
        "an account without lines believes in one",
        "UPDATE accounts SET line_no = 1 WHERE account_id = 103",
        {Invariant.LAST_LINE: 1},
        {on(Invariant.LAST_LINE, "eve")},
    ),
    Damage(
        "a balance was raised",
        "UPDATE accounts SET balance = balance + 1 WHERE account_id = 101",
        {Invariant.BALANCE: 1},
        {on(Invariant.BALANCE, "alice")},
    ),
    Damage(
        "a balance came from nowhere",
        "UPDATE accounts SET balance = 1 WHERE account_id = 103",
        {Invariant.BALANCE: 1},
        {on(Invariant.BALANCE, "eve")},
    ),
    Damage(
        "a lane of a system account was changed",
        """
        UPDATE accounts
        SET balance = balance - 1
        WHERE system_name = 'clearing' AND currency = 'JPY' AND lane = 1
        """,
        {Invariant.BALANCE: 1},
        {on(Invariant.BALANCE, "clearing JPY lane 1")},
    ),
    Damage(
        "a recharge took the money away",
        """
        UPDATE entries
        SET direction = CASE direction WHEN 'credit' THEN 'debit' ELSE 'credit' END,
            balance_before = -balance_before, balance_after = -balance_after
        WHERE order_id IN (SELECT order_id FROM orders
        WHERE account_id = 102);
        UPDATE accounts
        SET balance = -balance
        WHERE currency = 'JPY'
        """,
        {Invariant.OVERDRAFT: 3, Invariant.ORDER_ENTRIES: 2},
        {
            on(Invariant.OVERDRAFT, "bob 1"),
            on(Invariant.OVERDRAFT, "bob 2"),
            on(Invariant.OVERDRAFT, "bob"),
            on(Invariant.ORDER_ENTRIES, "R-4"),
            on(Invariant.ORDER_ENTRIES, "R-5"),
        },
    ),
    Damage(
        "more is reserved than there is",
        "UPDATE accounts SET reserved = balance + 1 WHERE account_id = 101",
        {Invariant.RESERVE: 1, Invariant.RESERVED: 1},
        {on(Invariant.RESERVE, "alice"), on(Invariant.RESERVED, "alice")},
    ),
    Damage(
        "less than nothing is reserved",
        "UPDATE accounts SET reserved = -1 WHERE account_id = 103",
        {Invariant.RESERVE: 1, Invariant.RESERVED: 1},
        {on(Invariant.RESERVE, "eve"), on(Invariant.RESERVED, "eve")},
    ),
    Damage(
        "a contra entry is gone",
        """
        DELETE FROM entries e
        USING accounts a, orders o
        WHERE a.account_id = e.account_id
        AND o.order_id = e.order_id AND a.kind = 'system' AND o.serial_no = 'R-3';
        UPDATE accounts
        SET balance = balance + 300, line_no = 1
        WHERE system_name = 'clearing' AND currency = 'TWD' AND lane = 1
        """,
        {Invariant.CURRENCY_SUM: 1, Invariant.ORDER_SUM: 1, Invariant.ORDER_ENTRIES: 1},
        {
            on(Invariant.CURRENCY_SUM, ""),
            on(Invariant.ORDER_SUM, "R-3"),
            on(Invariant.ORDER_ENTRIES, "R-3"),
        },
    ),
    Damage(
        "a contra entry is in another currency",
        """
        UPDATE entries
        SET account_id = (
                SELECT account_id FROM accounts WHERE system_name = 'clearing' AND currency = 'JPY' AND lane = 1
            ),
            line_no = 2, balance_before = -500, balance_after = -700
        FROM orders o WHERE o.order_id = entries.order_id AND o.serial_no = 'R-2' AND direction = 'debit';
        UPDATE accounts
        SET balance = 0, line_no = 0
        WHERE system_name = 'clearing' AND currency = 'TWD' AND lane = 0;
        UPDATE accounts
        SET balance = -700, line_no = 2
        WHERE system_name = 'clearing' AND currency = 'JPY' AND lane = 1
        """,
        {Invariant.CURRENCY_SUM: 2, Invariant.ORDER_ENTRIES: 1},
        {on(Invariant.CURRENCY_SUM, ""), on(Invariant.ORDER_ENTRIES, "R-2")},
    ),
    Damage(
        "an order succeeded without entries",
        "UPDATE orders SET status = 'succeeded', due_at = NULL, transacted_at = now() WHERE serial_no = 'R-6'",
        {Invariant.ORDER_ENTRIES: 1, Invariant.RESULT: 1},
        {on(Invariant.ORDER_ENTRIES, "R-6"), on(Invariant.RESULT, "R-6")},
    ),
    Damage(
        "an order failed with entries",
        "UPDATE orders SET status = 'failed', transacted_at = NULL WHERE serial_no = 'R-1'",
        {Invariant.ORDER_ENTRIES: 1},
        {on(Invariant.ORDER_ENTRIES, "R-1")},
    ),
    Damage(
        "an order has another amount than its entries",
        "UPDATE orders SET amount = amount + 1 WHERE serial_no = 'R-5'",
        {Invariant.ORDER_ENTRIES: 1, Invariant.RESULT: 1},
        {on(Invariant.ORDER_ENTRIES, "R-5"), on(Invariant.RESULT, "R-5")},
    ),
    Damage(
        "an order is another account's",
        "UPDATE orders SET account_id = 103 WHERE serial_no = 'R-1'",
        {Invariant.ORDER_ENTRIES: 1},
        {on(Invariant.ORDER_ENTRIES, "R-1")},
    ),
    Damage(
        "an order is in another currency",
        "UPDATE orders SET currency = 'XXX' WHERE serial_no = 'R-1'",
        {Invariant.ORDER_ENTRIES: 1, Invariant.ORDER_ROW: 1, Invariant.RESULT: 1},
        {
            on(Invariant.ORDER_ENTRIES, "R-1"),
            on(Invariant.ORDER_ROW, "R-1"),
            on(Invariant.RESULT, "R-1"),
        },
    ),
    Damage(
        "an order is of a kind that nobody knows",
        "UPDATE orders SET order_type = 'gift' WHERE serial_no = 'R-1'",
        {Invariant.ORDER_ENTRIES: 1, Invariant.ORDER_COMMAND: 1},
        {on(Invariant.ORDER_ENTRIES, "R-1"), on(Invariant.ORDER_COMMAND, "R-1")},
    ),
    Damage(
        "an order's command is gone",
        "DELETE FROM commands WHERE serial_no = 'R-8'",
        {Invariant.ORDER_COMMAND: 1},
        {on(Invariant.ORDER_COMMAND, "R-8")},
    ),
    Damage(
        "an order's command was refused",
        "UPDATE commands SET status = 'refused', code = 'ACCOUNT_NOT_FOUND' WHERE serial_no = 'R-1'",
        {Invariant.ORDER_COMMAND: 1},
        {on(Invariant.ORDER_COMMAND, "R-1")},
    ),
    Damage(
        "an order's command asked for something else",
        "UPDATE commands SET command_type = 'account.open.v1' WHERE serial_no = 'R-1'",
        {Invariant.ORDER_COMMAND: 1},
        {on(Invariant.ORDER_COMMAND, "R-1")},
    ),
    Damage(
        "an applied command has no order",
        "UPDATE commands SET status = 'applied', code = 'OK' WHERE serial_no = 'R-refused'",
        {Invariant.COMMAND_ORDER: 1},
        {on(Invariant.COMMAND_ORDER, "R-refused")},
    ),
    Damage(
        "an order is gone, its lines are not",
        "DELETE FROM orders WHERE serial_no = 'R-3'",
        {Invariant.STRAY_LINE: 2, Invariant.COMMAND_ORDER: 1},
        {
            on(Invariant.STRAY_LINE, "alice 3"),
            on(Invariant.STRAY_LINE, "clearing TWD lane 1 2"),
            on(Invariant.COMMAND_ORDER, "R-3"),
        },
    ),
    Damage(
        "an account is gone, its lines are not",
        "DELETE FROM accounts WHERE account_id = 102",
        {
            Invariant.STRAY_LINE: 2,
            Invariant.CURRENCY_SUM: 1,
            Invariant.ORDER_ENTRIES: 2,
            Invariant.ORDER_ROW: 2,
        },
        {
            on(Invariant.STRAY_LINE, "None 1"),
            on(Invariant.STRAY_LINE, "None 2"),
            on(Invariant.CURRENCY_SUM, ""),
            on(Invariant.ORDER_ENTRIES, "R-4"),
            on(Invariant.ORDER_ENTRIES, "R-5"),
            on(Invariant.ORDER_ROW, "R-4"),
            on(Invariant.ORDER_ROW, "R-5"),
        },
    ),
    Damage(
        "an order that waits is on no account",
        "UPDATE orders SET account_id = 999 WHERE serial_no = 'R-6'",
        {Invariant.ORDER_ROW: 1},
        {on(Invariant.ORDER_ROW, "R-6")},
    ),
    Damage(
        "balances are such that adding to them leaves 64 bits",
        """
        UPDATE entries
        SET balance_after = 9223372036854775807
        WHERE account_id = 101 AND line_no = 1;
        UPDATE entries
        SET balance_before = 9223372036854775807
        WHERE account_id = 101 AND line_no = 2
        """,
        {Invariant.LINE_ARITHMETIC: 2},
        {on(Invariant.LINE_ARITHMETIC, "alice 1"), on(Invariant.LINE_ARITHMETIC, "alice 2")},
    ),
    Damage(
        "the gateway said that another amount came",
        "UPDATE payment_results SET amount = '1.01' WHERE payment_order_no = 'R-1'",
        {Invariant.RESULT: 1},
        {on(Invariant.RESULT, "R-1")},
    ),
    Damage(
        "the gateway said that the amount came in another currency",
        "UPDATE payment_results SET amount = '100', currency = 'JPY' WHERE payment_order_no = 'R-1'",
        {Invariant.RESULT: 1},
        {on(Invariant.RESULT, "R-1")},
    ),
    Damage(
        "what the gateway said is no amount",
        "UPDATE payment_results SET amount = repeat('9', 140000) WHERE payment_order_no = 'R-1'",
        {Invariant.RESULT: 1},
        {on(Invariant.RESULT, "R-1")},
    ),
    Damage(
        "two orders have one serial number",
        """
        ALTER TABLE orders DROP CONSTRAINT orders_serial_no_key CASCADE;
        DELETE FROM commands WHERE serial_no = 'R-6';
        UPDATE orders SET serial_no = 'R-7' WHERE serial_no = 'R-6'
        """,
        {Invariant.UNIQUE: 1},
        {on(Invariant.UNIQUE, "R-7")},
    ),
    Damage(
        "an order is there twice",
        """
        ALTER TABLE orders DROP CONSTRAINT orders_serial_no_key CASCADE;
        ALTER TABLE orders DROP CONSTRAINT orders_pkey CASCADE;
        INSERT INTO orders SELECT * FROM orders WHERE serial_no = 'R-1'
        """,
        {Invariant.UNIQUE: 2},
        {on(Invariant.UNIQUE, "R-1")},
    ),
    Damage(
        "a command is there twice",
        """
        ALTER TABLE commands DROP CONSTRAINT commands_pkey CASCADE;
        INSERT INTO commands SELECT * FROM commands WHERE serial_no = 'R-1'
        """,
        {Invariant.UNIQUE: 1},
        {on(Invariant.UNIQUE, "R-1")},
    ),
    Damage(
        "an owner has two open accounts of a type and currency",
        """
        DROP INDEX accounts_open_key;
        UPDATE accounts SET user_id = 'alice' WHERE account_id = 103
        """,
        {Invariant.UNIQUE: 1},
        {on(Invariant.UNIQUE, "eve")},
    ),
    Damage(
        "an account is there twice",
        """
        DROP INDEX accounts_open_key;
        ALTER TABLE accounts DROP CONSTRAINT accounts_account_no_key;
        ALTER TABLE accounts DROP CONSTRAINT accounts_pkey CASCADE;
        INSERT INTO accounts SELECT * FROM accounts WHERE account_id = 103
        """,
        {Invariant.UNIQUE: 2},
        {on(Invariant.UNIQUE, "eve")},
    ),
    Damage(
        "an account has a currency that is none",
        "UPDATE accounts SET currency = 'ZZZ' WHERE account_id = 102",
        {Invariant.CURRENCY_SUM: 2, Invariant.ORDER_ENTRIES: 2, Invariant.ORDER_ROW: 2},
        {
            on(Invariant.CURRENCY_SUM, ""),
            *(
                on(rule, order)
                for rule in (Invariant.ORDER_ENTRIES, Invariant.ORDER_ROW)
                for order in ("R-4", "R-5")
            ),
        },
    ),
)


USERS = {
    ledger.account_no(ALICE): "alice",
    ledger.account_no(BOB): "bob",
    ledger.account_no(EVE): "eve",
    ledger.account_no(104): "carol",
    ledger.account_no(105): "dave",
}


def seen(report: AuditReport) -> set[tuple[Invariant, str]]:
    """Return where a report says that rules are broken, with the users' names for their account numbers."""
    found = set()
    for finding in report.findings:
        account = USERS.get(finding.account or "", str(finding.account))
        if finding.account_id is None:
            where = finding.serial_no or ""
        else:
            where = account if finding.line_no is None else f"{account} {finding.line_no}"
        found.add((finding.invariant, where))
    return found


@pytest.mark.parametrize(("chunk_rows", "suspects_max"), [*product(CHUNKS, [NONE]), (2_000, MANY)])
async def test_a_good_ledger_is_clean(
    clean_url: str, chunk_rows: int, suspects_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "CHUNK_ROWS", chunk_rows)
    monkeypatch.setattr(reads, "SUSPECTS_MAX", suspects_max)

    report = await audit(clean_url)

    assert report.clean
    assert report.findings == []
    assert (report.accounts, report.orders, report.commands, report.lines) == (7, 8, 11, 10)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.name)
async def test_damage_is_found_where_it_is(
    clean_url: str, owner: asyncpg.Connection, damage: Damage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await corrupt(owner, damage.statements)

    for chunk_rows, suspects_max in (*product(CHUNKS, [MANY]), (2_000, FEW)):
        monkeypatch.setattr(snapshots, "CHUNK_ROWS", chunk_rows)
        monkeypatch.setattr(reads, "SUSPECTS_MAX", suspects_max)
        report = await audit(clean_url)

        assert report.counts == damage.found
        assert seen(report) == damage.where


# What only orders of the other types can have wrong with them.
OTHER_DAMAGES = (
    Damage(
        "a closed account still has money",
        "UPDATE accounts SET status = 'closed' WHERE account_id = 105",
        {Invariant.ACCOUNT_STATUS: 1},
        {on(Invariant.ACCOUNT_STATUS, "dave")},
    ),
    Damage(
        "an account is neither open nor closed",
        "UPDATE accounts SET status = 'zombie' WHERE account_id = 103",
        {Invariant.ACCOUNT_STATUS: 1},
        {on(Invariant.ACCOUNT_STATUS, "eve")},
    ),
    Damage(
        "a line is older than the one before it",
        "UPDATE entries SET created_at = created_at - interval '1 day' WHERE account_id = 104 AND line_no = 3",
        {Invariant.LINE_TIMES: 1},
        {on(Invariant.LINE_TIMES, "carol 3")},
    ),
    Damage(
        "an order waits and is never looked at",
        "UPDATE orders SET due_at = NULL WHERE serial_no = 'F-1'",
        {Invariant.ORDER_ROW: 1},
        {on(Invariant.ORDER_ROW, "F-1")},
    ),
    Damage(
        "an order has failed and is late",
        "UPDATE orders SET late = true WHERE serial_no = 'R-7'",
        {Invariant.ORDER_ROW: 1},
        {on(Invariant.ORDER_ROW, "R-7")},
    ),
    Damage(
        "an order is in another currency than its account",
        "UPDATE orders SET currency = 'JPY' WHERE serial_no = 'R-7'",
        {Invariant.ORDER_ROW: 1},
        {on(Invariant.ORDER_ROW, "R-7")},
    ),
    Damage(
        "nobody ever said that a withdrawal succeeded",
        "UPDATE payment_results SET status = 'unknown' WHERE payment_order_no = 'W-1'",
        {Invariant.RESULT: 1},
        {on(Invariant.RESULT, "W-1")},
    ),
    Damage(
        "something is reserved for nothing",
        "UPDATE accounts SET reserved = reserved + 1 WHERE account_id = 104",
        {Invariant.RESERVED: 1},
        {on(Invariant.RESERVED, "carol")},
    ),
    Damage(
        "a refund was forgotten when it failed",
        "UPDATE orders SET status = 'failed', due_at = NULL WHERE serial_no = 'F-1'",
        {Invariant.RESERVED: 1},
        {on(Invariant.RESERVED, "carol")},
    ),
    Damage(
        "a recharge is refunded twice",
        """
        UPDATE orders SET amount = 901 WHERE serial_no = 'F-1';
        UPDATE accounts SET reserved = reserved + 851, balance = balance WHERE account_id = 104
        """,
        {Invariant.REFUNDS: 1, Invariant.RESERVE: 1},
        {on(Invariant.REFUNDS, "A-1"), on(Invariant.RESERVE, "carol")},
    ),
    Damage(
        "what is refunded is no recharge",
        "UPDATE orders SET about_serial_no = 'W-1' WHERE serial_no = 'F-1'",
        {Invariant.REFUNDS: 1},
        {on(Invariant.REFUNDS, "W-1")},
    ),
    Damage(
        "what is refunded never succeeded",
        "UPDATE orders SET about_serial_no = 'R-7', amount = 50 WHERE serial_no = 'F-1'",
        {Invariant.REFUNDS: 1},
        {on(Invariant.REFUNDS, "R-7")},
    ),
    Damage(
        "somebody owes what was never lent",
        "UPDATE accounts SET debt = 5 WHERE account_id = 103",
        {Invariant.DEBT: 2},
        {on(Invariant.DEBT, "eve"), on(Invariant.DEBT, "")},
    ),
    Damage(
        "a dispute stands and nothing was charged back",
        """
        INSERT INTO reversals (order_id, reversal_ref, reversal_id, kind, status, sequence, amount, moved, fingerprint,
                               created_at, updated_at)
        SELECT order_id, 'dp-1', order_id, 'dispute', 'moved', 1, 100, 100, sha256('dp-1'), now(), now()
        FROM orders
        WHERE serial_no = 'R-1'
        """,
        {Invariant.REVERSAL: 1},
        {on(Invariant.REVERSAL, "R-1")},
    ),
    Damage(
        "a payment is said to be of an order that has another",
        "INSERT INTO gateway_refs SELECT 'card', 'gw-elsewhere', order_id FROM orders WHERE serial_no = 'R-1'",
        {Invariant.GATEWAY_REF: 1},
        {on(Invariant.GATEWAY_REF, "R-1")},
    ),
    Damage(
        "more came than was credited",
        "UPDATE orders SET received = amount + 1 WHERE serial_no = 'R-1'",
        {Invariant.ORDER_ENTRIES: 1, Invariant.RESULT: 1},
        {on(Invariant.ORDER_ENTRIES, "R-1"), on(Invariant.RESULT, "R-1")},
    ),
    Damage(
        "a hold has more left than it may",
        """
        UPDATE orders SET remaining = 201 WHERE serial_no = 'H-1';
        UPDATE accounts SET reserved = reserved + 1 WHERE account_id = 104
        """,
        {Invariant.HOLD: 1},
        {on(Invariant.HOLD, "H-1")},
    ),
    Damage(
        "a hold is captured, and something of it was not",
        """
        UPDATE orders SET status = 'captured', remaining = 0, due_at = NULL WHERE serial_no = 'H-1';
        UPDATE accounts SET reserved = 50 WHERE account_id = 104
        """,
        {Invariant.HOLD: 1},
        {on(Invariant.HOLD, "H-1")},
    ),
    Damage(
        "a hold is released, and nobody released it",
        "UPDATE orders SET status = 'released' WHERE serial_no = 'H-3'",
        {Invariant.HOLD: 1},
        {on(Invariant.HOLD, "H-3")},
    ),
    Damage(
        "a hold has expired, and still has something left",
        "UPDATE orders SET remaining = 1 WHERE serial_no = 'H-3'",
        {Invariant.HOLD: 1},
        {on(Invariant.HOLD, "H-3")},
    ),
    Damage(
        "a transfer is another payee's",
        "UPDATE orders SET counter_account_id = 101 WHERE serial_no = 'T-1'",
        {Invariant.ORDER_ENTRIES: 1},
        {on(Invariant.ORDER_ENTRIES, "T-1")},
    ),
    Damage(
        "a transfer has no payee",
        "UPDATE orders SET counter_account_id = NULL WHERE serial_no = 'T-1'",
        {Invariant.ORDER_ENTRIES: 1},
        {on(Invariant.ORDER_ENTRIES, "T-1")},
    ),
    Damage(
        "a capture has another amount than its entries",
        """
        UPDATE orders SET amount = 99 WHERE serial_no = 'C-1';
        UPDATE orders SET remaining = 201 WHERE serial_no = 'H-1';
        UPDATE accounts SET reserved = reserved + 1 WHERE account_id = 104
        """,
        {Invariant.ORDER_ENTRIES: 1},
        {on(Invariant.ORDER_ENTRIES, "C-1")},
    ),
    Damage(
        "a withdrawal was credited",
        "UPDATE orders SET order_type = 'recharge' WHERE serial_no = 'W-1'",
        {Invariant.ORDER_ENTRIES: 1, Invariant.ORDER_COMMAND: 1},
        {on(Invariant.ORDER_ENTRIES, "W-1"), on(Invariant.ORDER_COMMAND, "W-1")},
    ),
    Damage(
        "a release moved money",
        "UPDATE entries SET order_id = lpad('28', 32, '0')::uuid WHERE order_id = lpad('22', 32, '0')::uuid",
        {Invariant.ORDER_ENTRIES: 2},
        {on(Invariant.ORDER_ENTRIES, "L-1"), on(Invariant.ORDER_ENTRIES, "T-1")},
    ),
)


async def test_orders_of_every_type_that_are_right_are_clean(
    clean_url: str, owner: asyncpg.Connection
) -> None:
    await ledger.write_every_order(owner)

    report = await audit(clean_url)

    assert (report.clean, report.orders, report.lines) == (True, 17, 18), report.findings


@pytest.mark.parametrize("damage", OTHER_DAMAGES, ids=lambda damage: damage.name)
async def test_damage_to_the_other_orders_is_found_and_nothing_else(
    clean_url: str, owner: asyncpg.Connection, damage: Damage
) -> None:
    await ledger.write_every_order(owner)
    await corrupt(owner, damage.statements)

    report = await audit(clean_url)

    assert report.counts == damage.found
    assert seen(report) == damage.where


# What is done to one row at a time.
MEDDLED = {
    "accounts": {
        "balance": "balance + 1",
        "currency": "'ZZZ'",
        "kind": "CASE kind WHEN 'user' THEN 'system' ELSE 'user' END",
        "line_no": "line_no - 1",
        "reserved": "reserved - 1",
        "system_name": "'other'",
    },
    "commands": {
        "command_type": "'order.hold.v1'",
        "serial_no": "serial_no || '?'",
        "status": "'refused', code = 'LIMIT_EXCEEDED'",
    },
    "entries": {
        "account_id": "103",
        "amount": "amount + 1",
        "balance_after": "balance_after - 1",
        "balance_before": "balance_before + 1",
        "created_at": "created_at - interval '1 day'",
        "direction": "CASE direction WHEN 'credit' THEN 'debit' ELSE 'credit' END",
        "line_no": "line_no + 100",
        "order_id": "gen_random_uuid()",
    },
    "orders": {
        "account_id": "103",
        "amount": "amount + 1",
        "counter_account_id": "103",
        "currency": "'JPY'",
        "order_id": "gen_random_uuid()",
        "order_type": "CASE order_type WHEN 'transfer' THEN 'withdraw' ELSE 'transfer' END",
        "serial_no": "serial_no || '?'",
        "status": "CASE status WHEN 'succeeded' THEN 'failed' ELSE 'succeeded' END",
    },
}


async def test_whatever_is_wrong_is_suspected(
    clean_url: str, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ledger.write_every_order(owner)
    await corrupt(owner, "UPDATE accounts SET updated_at = now()")  # no trigger and no check is left
    for table in MEDDLED:
        await owner.execute(f"CREATE TABLE good_{table} AS TABLE {table}")

    for table, changes in MEDDLED.items():
        for row, (column, value) in product((2, 9), changes.items()):
            await owner.execute(
                f"""
                UPDATE {table} SET {column} = {value}
                WHERE ctid = (SELECT ctid FROM {table} ORDER BY {table}::text OFFSET {row} LIMIT 1)
                """  # noqa: S608 -- text of this file
            )
            monkeypatch.setattr(reads, "SUSPECTS_MAX", MANY)
            of_suspects = await audit(clean_url, shown_max=MANY)
            monkeypatch.setattr(reads, "SUSPECTS_MAX", NONE)
            of_all = await audit(clean_url, shown_max=MANY)
            await owner.execute(f"DELETE FROM {table}; INSERT INTO {table} TABLE good_{table}")  # noqa: S608

            assert (column, set(of_suspects.findings)) == (column, set(of_all.findings))
            assert of_suspects.counts == of_all.counts


def test_each_rule_has_damage_that_breaks_it() -> None:
    assert {invariant for damage in (*DAMAGES, *OTHER_DAMAGES) for invariant in damage.found} == set(
        Invariant
    )


async def test_an_empty_database_is_clean(database_url: str) -> None:
    report = await audit(database_url)

    assert report.clean
    assert report.lines == 0


async def test_however_the_gateway_writes_an_amount_it_is_that_amount(
    clean_url: str, owner: asyncpg.Connection
) -> None:
    for serial_no, spelled in {"R-1": "1", "R-2": "2.0", "R-3": "0003.00", "R-4": "0400"}.items():
        await owner.execute(
            "UPDATE payment_results SET amount = $2 WHERE payment_order_no = $1", serial_no, spelled
        )

    assert (await audit(clean_url)).clean


async def test_all_is_counted_and_the_first_are_kept(clean_url: str, owner: asyncpg.Connection) -> None:
    await corrupt(
        owner,
        """
        UPDATE accounts SET line_no = line_no + 1;
        UPDATE orders SET amount = amount + 1 WHERE status = 'succeeded'
        """,
    )

    report = await audit(clean_url, shown_max=2)
    none = await audit(clean_url, shown_max=0)

    assert report.counts == {Invariant.LAST_LINE: 7, Invariant.ORDER_ENTRIES: 5, Invariant.RESULT: 5}
    assert [finding.invariant for finding in report.findings] == [
        rule for rule in (Invariant.LAST_LINE, Invariant.ORDER_ENTRIES, Invariant.RESULT) for _ in range(2)
    ]
    assert (none.clean, none.findings) == (False, [])


async def test_progress_goes_up_to_the_end(clean_url: str) -> None:
    moved: list[Progress] = []

    await audit(clean_url, on_progress=moved.append)

    assert moved == [Progress(done=0, total=20), Progress(done=10, total=20), Progress(done=20, total=20)]


async def test_the_audit_sees_one_moment(clean_url: str, owner: asyncpg.Connection) -> None:
    async with snapshots.snapshot(clean_url, "wallet tests") as connection:
        before = await connection.fetchval("SELECT sum(balance) FROM accounts")
        await owner.execute("UPDATE accounts SET balance = balance + 1")
        after = await connection.fetchval("SELECT sum(balance) FROM accounts")

    assert (before, after) == (0, 0)
    assert (await audit(clean_url)).counts == {Invariant.BALANCE: 7}


async def test_the_audit_can_only_read(clean_url: str) -> None:
    async with snapshots.snapshot(clean_url, "wallet tests") as connection:
        await connection.execute("SET TRANSACTION READ WRITE")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("UPDATE accounts SET balance = 0")


async def test_a_database_that_was_never_migrated_is_no_clean_one(servers: Servers) -> None:
    async with servers.database() as empty_url:
        with pytest.raises(UnfitError, match="accounts"):
            await audit(empty_url)


async def test_a_database_that_is_away_is_said() -> None:
    (port,) = free_ports(1)

    with pytest.raises(UnavailableError):
        await audit(f"postgresql://nobody@127.0.0.1:{port}/none")
