"""`wallet reconcile`, as accountants and their scripts see it. What it finds is tested in tests/reconcile."""

import asyncio
import csv
import json
from io import StringIO
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.cli.terminal import wallet, wallet_on_a_terminal, wallet_process
from tests.reconcile.files import line
from tests.rules.core.world import open_account, recharge, result
from tests.worker.rig import open_rig
from wallet_schemas.settlement import COLUMNS
from wallet_worker.cli import app
from wallet_worker.cli.exits import Exit

HOSTILE = line(payment_order_no="-1-2", gateway_ref="=cmd|' /C calc'!A0 \x1b[2J")


@pytest.fixture
async def paid_url(database_url: str) -> str:
    """Give a database in which R-1 and R-2 are paid, on January 2nd 2026 by the gateway's time."""
    async with open_rig(database_url) as wallet:
        await wallet.settle(open_account())
        await wallet.settle(recharge(), recharge(serial_no="R-2"))
        await wallet.settle(result(), result(payment_order_no="R-2", gateway_ref="gw-2"))
    return database_url


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Give where the settlement file of a test is; R-1 and R-2 are in it."""
    path = tmp_path / "settlement.csv"
    write(path, line(), line(payment_order_no="R-2", gateway_ref="gw-2"))
    return path


def content(path: Path) -> bytes:
    return path.read_bytes()


def write(path: Path, *lines: str) -> None:
    path.write_text("\n".join([",".join(COLUMNS), *lines]) + "\n", encoding="utf-8")


async def test_two_sides_that_agree_are_status_0_and_one_line(paid_url: str, file: Path) -> None:
    compared = ("reconcile", str(file), "--from", "2026-01-02", "--to", "2026-01-03")

    for_a_program = await wallet(*compared, WALLET_DATABASE_URL=paid_url)
    as_a_table = await wallet(*compared, "--table", WALLET_DATABASE_URL=paid_url)
    without_a_span = await wallet("reconcile", str(file), "--table", WALLET_DATABASE_URL=paid_url)
    on_a_terminal = await wallet_on_a_terminal(*compared, WALLET_DATABASE_URL=paid_url)

    report = json.loads(for_a_program.out)
    assert (for_a_program.status, for_a_program.err) == (0, "")
    assert (report["clean"], report["lines"], report["findings"]) == (True, 2, [])
    assert (report["from"], report["to"]) == ("2026-01-02T00:00:00.000000Z", "2026-01-03T00:00:00.000000Z")
    assert report["verdicts"] == {
        "matched": 2,
        "missing_here": 0,
        "missing_there": 0,
        "different_kind": 0,
        "different_amount": 0,
        "different_status": 0,
        "different_ref": 0,
        "duplicate": 0,
        "bad_line": 0,
    }
    (sentence,) = as_a_table.out.splitlines()
    assert sentence.startswith("both sides agree: 2 lines in ")
    assert "what is missing in the file was not looked for (--from, --to)" in without_a_span.out
    assert on_a_terminal.status == 0
    assert "both sides agree: 2 lines in " in on_a_terminal.out
    size = len(content(file))
    assert f"{size}/{size} bytes" in on_a_terminal.out  # the progress bar


async def test_what_was_not_looked_for_is_not_nought(paid_url: str, file: Path) -> None:
    finished = await wallet("reconcile", str(file), WALLET_DATABASE_URL=paid_url)

    report = json.loads(finished.out)
    assert (report["from"], report["to"]) == (None, None)
    assert "missing_there" not in report["verdicts"]


async def test_differences_are_status_1_with_the_first_of_each_kind(paid_url: str, file: Path) -> None:
    strangers = [line(payment_order_no=f"X-{number}") for number in range(5)]
    write(file, line(amount="100.01"), HOSTILE, "nonsense", *strangers)
    compared = ("reconcile", str(file), "--show", "2", "--from", "2026-01-01")

    for_a_program = await wallet(*compared, WALLET_DATABASE_URL=paid_url)
    on_a_terminal = await wallet_on_a_terminal(*compared, WALLET_DATABASE_URL=paid_url)

    report = json.loads(for_a_program.out)
    assert (for_a_program.status, on_a_terminal.status) == (Exit.FOUND, Exit.FOUND)
    assert {name: times for name, times in report["verdicts"].items() if times} == {
        "missing_here": 6,
        "missing_there": 1,
        "different_amount": 1,
        "bad_line": 1,
    }
    assert [(item["verdict"], item["line_no"], item["payment_order_no"]) for item in report["findings"]] == [
        ("different_amount", 2, "R-1"),
        ("missing_here", 3, "-1-2"),
        ("bad_line", 4, None),
        ("missing_here", 5, "X-0"),
        ("missing_there", None, "R-2"),
    ]
    assert report["findings"][0]["detail"] == "100.01 TWD there, 100.00 TWD here"
    assert "differences in 8 lines" in on_a_terminal.out
    assert "the wallet has no such order" in on_a_terminal.out
    assert "\x1b[2J" not in on_a_terminal.out


async def test_all_findings_are_written_so_that_no_spreadsheet_runs_them(
    paid_url: str, file: Path, tmp_path: Path
) -> None:
    strangers = [line(payment_order_no=f"X-{number}") for number in range(30)]
    write(file, line(amount="100.01"), HOSTILE, *strangers)
    differences = tmp_path / "differences.csv"

    finished = await wallet("reconcile", str(file), "-o", str(differences), WALLET_DATABASE_URL=paid_url)

    written = list(csv.DictReader(StringIO(differences.read_text())))
    assert len(json.loads(finished.out)["findings"]) == 11
    assert len(written) == 32
    assert {"verdict": "different_amount", "amount": "100.01", "order_amount": "100.00"}.items() <= written[
        0
    ].items()
    assert written[1]["payment_order_no"] == "'-1-2"
    assert written[1]["gateway_ref"].startswith("'=cmd")


async def test_the_file_may_come_from_standard_input(
    paid_url: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WALLET_DATABASE_URL", paid_url)

    finished = await asyncio.to_thread(CliRunner().invoke, app, ["reconcile", "-"], input=content(file))

    assert finished.exit_code == 0
    assert json.loads(finished.stdout)["lines"] == 2


@pytest.mark.parametrize(
    ("written", "answer"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is not a settlement file: it is empty"),
        (
            b"a,b,c\n1,2,3\n",
            "is not a settlement file: its first line has to name each of the columns payment_order_no",
        ),
        (b"\x1f\x8b\x08", "is not a settlement file: it seems to be a gzip archive: unpack it first"),
    ],
)
async def test_a_file_that_is_none_is_status_2_and_one_line(
    paid_url: str, tmp_path: Path, written: bytes | None, answer: str
) -> None:
    file = tmp_path / "settlement.csv"
    if written is not None:
        file.write_bytes(written)

    refused = await wallet("reconcile", str(file), WALLET_DATABASE_URL=paid_url)

    assert (refused.status, refused.out) == (Exit.MISUSED, "")
    (sentence,) = refused.err_lines
    assert sentence.startswith(f"wallet: {file} {answer}")


async def test_a_folder_is_no_file(paid_url: str, tmp_path: Path) -> None:
    refused = await wallet("reconcile", str(tmp_path), WALLET_DATABASE_URL=paid_url)

    assert (refused.status, refused.err) == (
        Exit.MISUSED,
        f"wallet: {tmp_path} cannot be read: Is a directory\n",
    )


async def test_a_database_that_is_away_is_status_3(file: Path, tmp_path: Path) -> None:
    nowhere = f"postgresql://nobody@localhost/none?host={tmp_path}"

    finished = await wallet_process("reconcile", str(file), WALLET_DATABASE_URL=nowhere)

    assert (finished.status, finished.out) == (Exit.UNAVAILABLE, "")
    (sentence,) = finished.err_lines
    assert sentence.startswith("wallet: the database cannot be used: ")
