"""`wallet export`: files for accountants, which no spreadsheet takes for anything but text and numbers."""

import asyncio
import csv
import json
import os
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.cli.terminal import ROOT, environment, wallet, wallet_on_a_terminal, wallet_process
from tests.rules.contract import bodies
from tests.rules.core.world import changed, command, open_account, recharge, result, reversal
from tests.worker.rig import Rig, open_rig
from wallet_schemas.events import EntryView
from wallet_schemas.queries import GetOrder, GetStatement, OrderAnswered, OrderDetail, Statement
from wallet_worker.accounting.table_file import TableWriter, UnwritableError
from wallet_worker.cli.exits import Exit
from wallet_worker.core.inbound import InboundMessage
from wallet_worker.core.orders import ORDER_SPECS
from wallet_worker.queries.answers import answer
from wallet_worker.store import snapshot as snapshots
from wallet_worker.store.database import READONLY_ROLE, Database

STATEMENT = ("export", "statement", "u-1", "TWD")
LINES = 7
# A serial number that is a formula to a spreadsheet.
FORMULA = "-2-3"


@pytest.fixture
async def worker(database_url: str) -> AsyncIterator[Rig]:
    """Give a worker on the test's database."""
    async with open_rig(database_url) as found:
        yield found


@pytest.fixture
async def paid_url(worker: Rig, database_url: str) -> str:
    """Give a database in which u-1 has seven lines of 100.00 TWD, in two batches; one is of an order named -2-3."""
    await worker.settle(open_account(serial_no="O-1", user_id="u-1"))
    for batch in ([FORMULA, "R-1", "R-2"], ["R-3", "R-4", "R-5", "R-6"]):
        await worker.settle(
            *(recharge(serial_no=item, user_id="u-1", amount="100.00", currency="TWD") for item in batch)
        )
        await worker.settle(
            *(result(payment_order_no=item, amount="100.00", currency="TWD") for item in batch)
        )
    return database_url


async def statement_of(url: str) -> Statement:
    """Return the statement as a worker answers it."""
    async with reading(url) as connection:
        page = await answer(connection, GetStatement(user_id="u-1", currency="TWD"))
    assert isinstance(page, Statement)
    return page


@asynccontextmanager
async def reading(url: str) -> AsyncIterator[asyncpg.Connection]:
    """Give what a worker answers queries from."""
    database = Database(url, role=READONLY_ROLE, application="wallet tests")
    await database.open()
    async with database.snapshot() as connection:
        yield connection
    await database.close()


def rows(text: str) -> list[dict[str, str]]:
    """Return the rows of a CSV file by the names of their columns."""
    return list(csv.DictReader(StringIO(text)))


def names(folder: Path) -> list[str]:
    """Return the names of the files in a folder, hidden ones too."""
    return [file.name for file in folder.iterdir()]


async def test_a_statement_is_the_one_that_a_worker_answers(paid_url: str) -> None:
    page = await statement_of(paid_url)

    as_csv = await wallet(*STATEMENT, WALLET_DATABASE_URL=paid_url)
    as_json = await wallet(*STATEMENT, "--format", "jsonl", WALLET_DATABASE_URL=paid_url)

    assert (as_csv.status, as_csv.err, as_json.status, as_json.err) == (0, "", 0, "")
    objects = [json.loads(line) for line in as_json.out.splitlines()]
    assert [EntryView.model_validate_json(json.dumps(item)) for item in objects] == page.entries
    assert objects[0]["serial_no"] == FORMULA
    objects[0]["serial_no"] = f"'{FORMULA}"
    assert rows(as_csv.out) == [{name: str(value) for name, value in item.items()} for item in objects]


async def test_a_span_is_told_with_the_balances_around_it(paid_url: str, tmp_path: Path) -> None:
    (moment,) = {entry.created_at for entry in (await statement_of(paid_url)).entries[3:]}
    boundary = moment.isoformat()
    file = tmp_path / "alice.csv"

    async def told(*span: str) -> tuple[list[str], str, str]:
        finished = await wallet(*STATEMENT, *span, "-o", str(file), "--json", WALLET_DATABASE_URL=paid_url)
        assert finished.status == 0
        report = json.loads(finished.out)
        numbers = [row["line_no"] for row in rows(file.read_text())]
        assert (report["file"], report["lines"]) == (str(file), len(numbers))
        return numbers, report["opening_balance"], report["closing_balance"]

    assert await told() == (["1", "2", "3", "4", "5", "6", "7"], "0.00", "700.00")
    assert await told("--from", boundary) == (["4", "5", "6", "7"], "300.00", "700.00")
    assert await told("--to", boundary) == (["1", "2", "3"], "0.00", "300.00")
    assert await told("--from", boundary, "--to", boundary) == ([], "300.00", "300.00")
    assert await told("--from", f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}") == (
        [],
        "700.00",
        "700.00",
    )
    assert await told("--to", "2020-01-01") == ([], "0.00", "0.00")


async def test_a_file_is_told_to_people_in_a_sentence_with_a_bar(paid_url: str, tmp_path: Path) -> None:
    finished = await wallet_on_a_terminal(
        *STATEMENT, "-o", str(tmp_path / "a.csv"), WALLET_DATABASE_URL=paid_url
    )
    piped = await wallet(*STATEMENT, "-o", str(tmp_path / "a.csv"), "--table", WALLET_DATABASE_URL=paid_url)

    assert finished.status == 0
    assert "a.csv: 7 lines of account " in " ".join(finished.out.split())
    assert "7/7" in finished.out
    assert piped.out.endswith(", 0.00 TWD before them, 700.00 TWD after\n")
    assert piped.err == ""


async def test_a_closed_account_is_exported_by_its_number(
    paid_url: str, owner: asyncpg.Connection, worker: Rig
) -> None:
    old = (await statement_of(paid_url)).account.account_no
    await owner.execute("ALTER TABLE accounts DROP CONSTRAINT accounts_closed_is_empty")
    await owner.execute("UPDATE accounts SET status = 'closed' WHERE user_id = 'u-1'")
    await worker.settle(open_account(serial_no="O-2", user_id="u-1"))

    newest = await wallet(*STATEMENT, "--format", "jsonl", WALLET_DATABASE_URL=paid_url)
    by_number = await wallet(*STATEMENT, "--format", "jsonl", "--account", old, WALLET_DATABASE_URL=paid_url)

    assert (newest.status, newest.out) == (0, "")
    assert len(by_number.out.splitlines()) == LINES


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (("u-2", "TWD"), Exit.FOUND, "wallet: ACCOUNT_NOT_FOUND: the user has no such account"),
        (("u-1", "JPY"), Exit.FOUND, "wallet: ACCOUNT_NOT_FOUND: the user has no such account"),
        (
            ("u-1", "TWD", "--account", "1"),
            Exit.FOUND,
            "wallet: ACCOUNT_NOT_FOUND: the user has no such account",
        ),
        (
            ("u 1", "TWD"),
            Exit.MISUSED,
            "wallet: user_id: Should be of letters, digits and . _ : @ + - only, beginning with a letter or digit",
        ),
        (
            ("u-1", "TWD", "--from", "yesterday"),
            Exit.MISUSED,
            "yesterday: Should be a time such as 2026-01-31",
        ),
        (
            ("u-1", "TWD", "--from", "2026-02-01", "--to", "2026-01-01"),
            Exit.MISUSED,
            "it is before --from: nothing could be in between",
        ),
        (
            ("u-1", "TWD", "-o", "/nowhere/a.csv"),
            Exit.UNWRITTEN,
            "wallet: /nowhere/a.csv cannot be written: No such",
        ),
        (("u-1", "TWD", "-o", "/"), Exit.UNWRITTEN, "wallet: / cannot be written: Is a directory"),
        (
            ("u-1", "TWD", "-o", "/dev/full"),
            Exit.UNWRITTEN,
            "wallet: /dev/full cannot be written: No space left",
        ),
    ],
)
async def test_what_is_wrong_is_said(
    paid_url: str, arguments: tuple[str, ...], status: Exit, sentence: str
) -> None:
    refused = await wallet("export", "statement", *arguments, WALLET_DATABASE_URL=paid_url)

    assert (refused.status, refused.out) == (status, "")
    assert sentence in " ".join(refused.err.split())


async def test_a_database_that_is_away_is_status_3_and_leaves_no_file(tmp_path: Path) -> None:
    nowhere = f"postgresql://nobody@localhost/none?host={tmp_path}"

    finished = await wallet(*STATEMENT, "-o", str(tmp_path / "a.csv"), WALLET_DATABASE_URL=nowhere)

    assert finished.status == Exit.UNAVAILABLE
    (line,) = finished.err_lines
    assert line.startswith("wallet: the database cannot be used: ")
    assert names(tmp_path) == []


async def test_a_file_is_replaced_only_by_a_whole_one(
    paid_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.csv"
    file.write_text("last month's")
    monkeypatch.setattr(snapshots, "CHUNK_ROWS", 2)
    written: list[int] = []

    def full(self: TableWriter, table: object) -> None:
        written.append(1)
        if len(written) > 1:
            raise UnwritableError("No space left on device")
        original(self, table)  # type: ignore[arg-type]

    original = TableWriter.write
    with monkeypatch.context() as patch:
        patch.setattr(TableWriter, "write", full)
        broken = await wallet(*STATEMENT, "-o", str(file), WALLET_DATABASE_URL=paid_url)
    left = (file.read_text(), names(tmp_path))
    whole = await wallet(*STATEMENT, "-o", str(file), WALLET_DATABASE_URL=paid_url)

    assert len(written) == 2
    assert (broken.status, broken.err) == (
        Exit.UNWRITTEN,
        f"wallet: {file} cannot be written: No space left on device\n",
    )
    assert left == ("last month's", ["a.csv"])
    assert whole.status == 0
    assert len(rows(file.read_text())) == LINES
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_whoever_reads_only_the_first_lines_sees_no_complaint(paid_url: str) -> None:
    reading, writing = os.pipe()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "wallet_worker",
        *STATEMENT,
        cwd=ROOT,
        env=environment({"WALLET_DATABASE_URL": paid_url}),
        stdout=writing,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(writing)
    os.close(reading)

    _, complaint = await process.communicate()

    assert complaint == b""


async def test_a_process_writes_what_it_writes_in_a_test(paid_url: str) -> None:
    finished = await wallet_process(*STATEMENT, WALLET_DATABASE_URL=paid_url)

    assert (finished.status, finished.err) == (0, "")
    assert len(rows(finished.out)) == LINES


ORDERS = ("export", "orders", "--format", "jsonl")


@pytest.fixture
async def orders_url(worker: Rig, database_url: str) -> str:
    """Give a database with an order of every type, of u-1 and u-2."""
    await worker.settle(*(open_account(serial_no=f"O-{user}", user_id=user) for user in ("u-1", "u-2")))
    await worker.settle(
        recharge(serial_no=FORMULA, amount="100.00"), recharge(serial_no="R-1", user_id="u-2")
    )
    await worker.settle(result(payment_order_no=FORMULA))
    await worker.settle(
        command_like(bodies.WITHDRAW, amount="10.00"),
        command_like(bodies.TRANSFER, amount="10.00"),
        command_like(bodies.REFUND, original_serial_no=FORMULA, amount="10.00"),
        command_like(bodies.HOLD, amount="20.00"),
        command_like(bodies.CAPTURE, amount="5.00"),
        command_like(bodies.HOLD, serial_no="H-2", amount="10.00"),
        command_like(bodies.RELEASE, hold_serial_no="H-2"),
    )
    return database_url


def command_like(good: bodies.JsonObject, **changes: str) -> InboundMessage:
    """Return a command as it arrives."""
    return command(changed(good, changes))


async def assert_answered(url: str, objects: list[dict[str, Any]]) -> None:
    """Assert that each exported order is the one that a worker answers."""
    async with reading(url) as connection:
        for item in objects:
            detail = await answer(connection, GetOrder(serial_no=item["serial_no"]))
            assert isinstance(detail, OrderDetail)
            assert OrderAnswered.model_validate_json(json.dumps(item)) == detail.order


async def test_orders_that_the_wallet_makes_itself_are_exported_as_a_worker_answers_them(
    worker: Rig, database_url: str
) -> None:
    await worker.settle(
        open_account(), recharge(), result(), command_like(bodies.WITHDRAW, amount="60.00"), reversal()
    )

    told = await wallet(*ORDERS, WALLET_DATABASE_URL=database_url)

    objects = {item["order_type"]: item for item in map(json.loads, told.out.splitlines())}
    assert objects.keys() == {"recharge", "withdraw", "chargeback", "advance"}
    assert objects["chargeback"]["original_serial_no"] == objects["recharge"]["serial_no"]
    assert (objects["chargeback"]["reversal_ref"], objects["recharge"]["reversed_amount"]) == (
        "dp-1",
        "100.00",
    )
    await assert_answered(database_url, list(objects.values()))


EVERY = [FORMULA, "R-1", "W-1", "T-1", "RF-1", "H-1", "C-1", "H-2", "L-1"]


async def test_orders_are_those_that_a_worker_answers(orders_url: str) -> None:
    as_json = await wallet(*ORDERS, WALLET_DATABASE_URL=orders_url)
    as_csv = await wallet("export", "orders", WALLET_DATABASE_URL=orders_url)

    assert (as_json.status, as_json.err, as_csv.status, as_csv.err) == (0, "", 0, "")
    objects = [json.loads(line) for line in as_json.out.splitlines()]
    assert sorted(item["serial_no"] for item in objects) == sorted(EVERY)
    assert {item["order_type"] for item in objects} == {
        order_type for order_type, spec in ORDER_SPECS.items() if not spec.is_own
    }
    await assert_answered(orders_url, objects)
    table = {row["serial_no"]: row for row in rows(as_csv.out)}
    assert set(table) == {f"'{FORMULA}", *EVERY[1:]}
    assert table["RF-1"]["original_serial_no"] == f"'{FORMULA}"
    assert (table["C-1"]["hold_serial_no"], table["C-1"]["to_user_id"]) == ("H-1", "u-2")
    assert (table["H-1"]["remaining"], table["H-1"]["channel"], table["W-1"]["channel"]) == (
        "15.00",
        "",
        "bank_transfer",
    )


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ((), EVERY),
        (("--type", "hold"), ["H-1", "H-2"]),
        (("--type", "hold", "--type", "transfer"), ["H-1", "H-2", "T-1"]),
        (("--status", "pending"), ["R-1", "W-1", "RF-1"]),
        (("--status", "active", "--status", "released"), ["H-1", "H-2"]),
        (("--type", "hold", "--status", "active"), ["H-1"]),
        (("--user", "u-2"), ["R-1", "T-1", "C-1"]),
        (("--user", "nobody"), []),
        (("--from", "2020-01-01", "--to", "2020-01-02"), []),
        (("--to", "9000-01-01"), EVERY),
    ],
)
async def test_orders_can_be_chosen(
    orders_url: str, tmp_path: Path, options: tuple[str, ...], chosen: list[str]
) -> None:
    file = tmp_path / "orders.jsonl"

    finished = await wallet(*ORDERS, *options, "-o", str(file), WALLET_DATABASE_URL=orders_url)

    found = [json.loads(line)["serial_no"] for line in file.read_text().splitlines()]
    assert sorted(found) == sorted(chosen)
    assert json.loads(finished.out) == {"file": str(file), "orders": len(chosen)}


async def test_orders_come_by_the_time_when_they_were_made_however_they_are_read(
    orders_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await wallet(*ORDERS, WALLET_DATABASE_URL=orders_url)
    monkeypatch.setattr(snapshots, "CHUNK_ROWS", 2)

    in_chunks = await wallet(*ORDERS, WALLET_DATABASE_URL=orders_url)

    times = [json.loads(line)["created_at"] for line in whole.out.splitlines()]
    assert times == sorted(times)
    assert in_chunks.out == whole.out


async def test_a_status_that_is_none_is_misused(orders_url: str) -> None:
    finished = await wallet("export", "orders", "--status", "lost", WALLET_DATABASE_URL=orders_url)

    assert (finished.status, finished.out) == (Exit.MISUSED, "")
    assert "'lost' is not one of" in finished.err
