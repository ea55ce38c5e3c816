"""`wallet audit`, as operators and their scripts see it. What it finds is tested in tests/audit."""

import json

import asyncpg

from tests.audit import ledger
from tests.cli.terminal import wallet, wallet_on_a_terminal
from wallet_worker.cli.exits import Exit


async def test_a_clean_ledger_is_status_0_and_one_line(database_url: str, owner: asyncpg.Connection) -> None:
    await ledger.write(owner)

    for_a_program = await wallet("audit", WALLET_DATABASE_URL=database_url)
    as_a_table = await wallet("audit", "--table", WALLET_DATABASE_URL=database_url)
    on_a_terminal = await wallet_on_a_terminal("audit", WALLET_DATABASE_URL=database_url)

    report = json.loads(for_a_program.out)
    assert (for_a_program.status, for_a_program.err) == (0, "")
    assert (report["clean"], report["lines"], report["findings"]) == (True, 10, [])
    (line,) = as_a_table.out.splitlines()
    assert line.startswith("everything is in order: 10 lines, 7 accounts, 8 orders and 11 commands in ")
    assert on_a_terminal.status == 0
    assert "everything is in order: 10 lines" in on_a_terminal.out
    assert "20/20" in on_a_terminal.out  # the progress bar: each line in its account, and in its order


async def test_what_is_found_is_status_1_with_the_first_of_each_kind(
    database_url: str, owner: asyncpg.Connection
) -> None:
    await ledger.write(owner)
    await ledger.corrupt(
        owner,
        """
        UPDATE accounts SET line_no = line_no + 1;
        UPDATE orders SET amount = amount + 1 WHERE serial_no = 'R-5'
        """,
    )

    for_a_program = await wallet("audit", "--show", "2", WALLET_DATABASE_URL=database_url)
    on_a_terminal = await wallet_on_a_terminal("audit", "--show", "2", WALLET_DATABASE_URL=database_url)

    report = json.loads(for_a_program.out)
    assert (for_a_program.status, on_a_terminal.status) == (Exit.FOUND, Exit.FOUND)
    assert report["found"] == {"last_line": 7, "order_entries": 1, "result": 1}
    assert [item["rule"] for item in report["findings"]] == [
        "last_line",
        "last_line",
        "order_entries",
        "result",
    ]
    assert report["findings"][2]["serial_no"] == "R-5"
    assert "9 findings in 10 lines" in on_a_terminal.out
    assert "order R-5" in on_a_terminal.out
    assert "an account's line_no is that of its last line" in on_a_terminal.out
