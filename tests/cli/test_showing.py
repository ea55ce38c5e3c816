"""`wallet show`, and text from outside on a terminal."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import cycle

import pytest

from tests.cli.terminal import CommandResult, wallet, wallet_on_a_terminal
from tests.client import gateway
from tests.client.impostor import impostor
from wallet_schemas.codes import Code
from wallet_schemas.commands import Fault, NoResult, Outcome
from wallet_schemas.encode import encode
from wallet_schemas.events import ACCOUNT_EXAMPLE, HOLD_EXAMPLE, TRANSFER_EXAMPLE, OrderSucceeded
from wallet_schemas.message import Message
from wallet_schemas.names import WALLET_COMMANDS, WALLET_QUERIES
from wallet_schemas.queries import DATABASE_AWAY, FAULT, AccountList, OrderDetail, QueryRefused, Statement
from wallet_schemas.values import OrderStatus, OrderType, OutcomeStatus
from wallet_worker.cli.exits import Exit
from wallet_worker.client import WalletClient
from wallet_worker.text import printable

HOSTILE = "[red]x[/red] \x1b[2J\x9b1m \u202egnp.exe\r\nwallet: everything is in order \x07\x7f"


@pytest.fixture
async def paid(running_url: str, user: str, serial_no: str) -> str:
    """Give a user with three lines of 100.00 TWD; the first one's serial number ends with -1."""
    async with WalletClient(running_url) as client:
        await client.open_account(user, "TWD")
        for number in (1, 2, 3):
            text = f"{serial_no}-{number}"
            await client.recharge(user, "100.00", "TWD", "card", serial_no=text)
            await gateway.send_result(running_url, text)
            await client.wait_until_settled(text)
    return user


async def test_accounts_are_json_for_a_program_and_a_table_on_a_terminal(running_url: str, paid: str) -> None:
    for_a_program = await wallet("show", "account", paid, WALLET_AMQP_URL=running_url)
    on_a_terminal = await wallet_on_a_terminal("show", "account", paid, WALLET_AMQP_URL=running_url)
    asked_for = await wallet("show", "account", paid, "--table", WALLET_AMQP_URL=running_url)

    (account,) = AccountList.model_validate_json(for_a_program.out).accounts
    assert account.balance == "300.00"
    for table in (on_a_terminal, asked_for):
        assert table.status == 0
        assert account.account_no in table.out
        assert "300.00" in table.out
        assert "{" not in table.out


async def test_accounts_can_be_chosen(running_url: str, paid: str) -> None:
    none = await wallet("show", "account", paid, "--currency", "JPY", WALLET_AMQP_URL=running_url)
    result = await wallet("show", "account", paid, "--type", "basic", WALLET_AMQP_URL=running_url)

    assert (none.status, AccountList.model_validate_json(none.out).accounts) == (1, [])
    assert "is known yet" in none.err
    assert len(AccountList.model_validate_json(result.out).accounts) == 1


async def test_an_order_is_shown_with_its_outcome_and_entries(
    running_url: str, paid: str, serial_no: str
) -> None:
    show = ("show", "order", f"{serial_no}-1")

    for_a_program = await wallet(*show, WALLET_AMQP_URL=running_url)
    on_a_terminal = await wallet_on_a_terminal(*show, WALLET_AMQP_URL=running_url)

    detail = OrderDetail.model_validate_json(for_a_program.out)
    assert detail.order is not None
    assert detail.order.user_id == paid
    assert detail.order.order_id in on_a_terminal.out
    assert "+100.00" in on_a_terminal.out


async def shown(amqp_url: str, answer: Message, *words: str) -> CommandResult:
    """Return what `wallet show` says as tables when the wallet answers so."""
    async with impostor(amqp_url, WALLET_QUERIES) as worker, asyncio.TaskGroup() as group:
        running = group.create_task(wallet("show", *words, "--table", WALLET_AMQP_URL=amqp_url))
        await worker.reply(await worker.next(), encode(answer))
    result = running.result()
    assert result.status == 0
    assert "None" not in result.out
    return result


def detail(
    order: Mapping[str, object] | None, result: Mapping[str, object], entries: Sequence[object] = ()
) -> OrderDetail:
    outcome = {**Outcome.examples()[0], "serial_no": "S-1", "result": result}
    return OrderDetail.model_validate({"outcome": outcome, "order": order, "entries": [*entries]})


@pytest.mark.parametrize(("order_type", "status"), [*zip(OrderType, cycle(OrderStatus), strict=False)])
async def test_an_order_of_any_type_and_status_is_shown(
    amqp_url: str, order_type: OrderType, status: OrderStatus
) -> None:
    order = {**TRANSFER_EXAMPLE, "order_type": order_type.value, "status": status.value, "late": True}

    result = await shown(amqp_url, detail(order, TRANSFER_EXAMPLE), "order", "S-1")

    rows = [line.split() for line in result.out.splitlines()]
    assert ["order_type", order_type.value] in rows
    assert ["status", status.value] in rows
    assert ["to_user_id", "user-1002"] in rows
    assert ["late", "True"] in rows


async def test_a_hold_is_shown_with_what_remains_of_it(amqp_url: str) -> None:
    order = {**HOLD_EXAMPLE, "remaining": "12.34"}

    result = await shown(amqp_url, detail(order, HOLD_EXAMPLE), "order", "S-1")

    rows = [line.split() for line in result.out.splitlines()]
    assert ["remaining", "12.34"] in rows
    assert ["expires_at", "2026-01-09", "04:00:00.000000Z"] in rows


async def test_the_lines_of_a_transfer_say_whose_they_are(amqp_url: str) -> None:
    entries = OrderSucceeded.examples()[1]["data"]["entries"]

    result = await shown(amqp_url, detail(TRANSFER_EXAMPLE, TRANSFER_EXAMPLE, entries), "order", "S-1")

    rows = [line.split() for line in result.out.splitlines()]
    assert [
        (row[0], row[-2], row[-1]) for row in rows if row and row[0] in {e["account_no"] for e in entries}
    ] == [
        ("2026010204815162347", "-25.00", "75.00"),
        ("2026010207777777771", "+25.00", "25.00"),
    ]


async def test_what_was_done_to_an_account_is_shown_like_an_order(amqp_url: str) -> None:
    result = await shown(amqp_url, detail(None, {**ACCOUNT_EXAMPLE, "status": "frozen"}), "order", "S-1")

    rows = [line.split() for line in result.out.splitlines()]
    assert ["status", "frozen"] in rows
    assert ["available", "100.00"] in rows


async def test_frozen_and_closed_accounts_are_shown_as_what_they_are(amqp_url: str) -> None:
    accounts = [
        {**ACCOUNT_EXAMPLE, "id": 1, "status": "frozen", "available": "12.34"},
        {**ACCOUNT_EXAMPLE, "id": 2, "status": "closed", "currency": "USD"},
    ]

    result = await shown(amqp_url, AccountList.model_validate({"accounts": accounts}), "account", "user-1001")

    rows = [line.split() for line in result.out.splitlines() if "2026010204815162347" in line]
    assert [row[2:6] for row in rows] == [
        ["TWD", "100.00", "12.34", "frozen"],
        ["USD", "100.00", "100.00", "closed"],
    ]


async def test_a_serial_number_that_is_not_known_is_status_1(running_url: str) -> None:
    result = await wallet("show", "order", "nobody-sent-this", WALLET_AMQP_URL=running_url)

    assert (result.status, result.out) == (Exit.FOUND, "")
    (line,) = result.err_lines
    assert line.startswith("wallet: ORDER_NOT_FOUND: ")


async def test_a_statement_is_shown_page_by_page(running_url: str, paid: str) -> None:
    show = ("show", "statement", paid, "TWD", "--limit", "2")

    first = await wallet(*show, WALLET_AMQP_URL=running_url)
    second = await wallet(*show, "--after", "2", WALLET_AMQP_URL=running_url)
    every = await wallet(*show, "--all", WALLET_AMQP_URL=running_url)
    table = await wallet_on_a_terminal(*show, "--all", WALLET_AMQP_URL=running_url)

    page = Statement.model_validate_json(first.out)
    assert [line.line_no for line in page.entries] == [1, 2]
    assert first.err_lines == ["wallet: there is more: --after 2, or --all"]
    assert [line.line_no for line in Statement.model_validate_json(second.out).entries] == [3]
    pages = [Statement.model_validate_json(line) for line in every.out.splitlines()]
    assert [line.line_no for page in pages for line in page.entries] == [1, 2, 3]
    assert every.err == ""
    assert table.out.count("+100.00") == 3
    assert "0.00 before, 200.00 after" in table.out
    assert "200.00 before, 300.00 after" in table.out


async def test_a_statement_can_be_of_a_span_of_time(running_url: str, paid: str) -> None:
    show = ("show", "statement", paid, "TWD")
    tomorrow = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}"

    none = await wallet(*show, "--from", tomorrow, WALLET_AMQP_URL=running_url)
    some = await wallet(
        *show, "--from", "2026-01-01T00:00:00+08:00", "--to", tomorrow, WALLET_AMQP_URL=running_url
    )
    wrong = await wallet(*show, "--to", HOSTILE.replace("\n", " "), WALLET_AMQP_URL=running_url)
    never = await wallet(*show, "--to", "9999-12-31T23:59:59-12:00", WALLET_AMQP_URL=running_url)

    assert Statement.model_validate_json(none.out).entries == []
    assert len(Statement.model_validate_json(some.out).entries) == 3
    assert (wrong.status, never.status) == (Exit.MISUSED, Exit.MISUSED)
    assert_harmless(wrong)


async def test_without_a_worker_a_query_is_unanswered(amqp_url: str) -> None:
    result = await wallet("show", "account", "alice", "--timeout", "0.2", WALLET_AMQP_URL=amqp_url)

    assert result.status == Exit.UNAVAILABLE
    assert result.err_lines == ["wallet: no answer came within 0.2 s: is a worker running?"]


def assert_harmless(result: CommandResult) -> None:
    """Nothing in what was said steers a terminal, as HOSTILE would, or fakes a line."""
    written = result.out + result.err
    for evil in ("\x1b[2J", "\x9b", "\u202e", "\x07", "\x7f", "\nwallet: everything is in order"):
        assert evil not in written.replace("\r", "")


async def test_a_hostile_refusal_is_shown_harmlessly(amqp_url: str) -> None:
    async with impostor(amqp_url, WALLET_QUERIES) as worker:
        for run in (wallet, wallet_on_a_terminal):
            running = run("show", "account", "alice", WALLET_AMQP_URL=amqp_url)
            async with asyncio.TaskGroup() as group:
                task = group.create_task(running)
                refusal = QueryRefused(code=Code.INTERNAL, message=HOSTILE)
                await worker.reply(await worker.next(), encode(refusal))

            assert_harmless(task.result())
            assert "[red]x[/red]" in task.result().out + task.result().err


@pytest.mark.parametrize(("message", "status"), [(DATABASE_AWAY, Exit.UNAVAILABLE), (FAULT, Exit.BROKEN)])
async def test_a_fault_of_the_wallet_is_not_told_as_a_server_that_is_away(
    amqp_url: str, message: str, status: Exit
) -> None:
    async with impostor(amqp_url, WALLET_QUERIES) as worker, asyncio.TaskGroup() as group:
        task = group.create_task(wallet("show", "account", "alice", WALLET_AMQP_URL=amqp_url))
        await worker.reply(await worker.next(), encode(QueryRefused(code=Code.INTERNAL, message=message)))

    assert (task.result().status, task.result().err) == (status, f"wallet: {message}\n")


async def test_a_hostile_outcome_is_shown_harmlessly(amqp_url: str) -> None:
    outcome = Outcome(
        serial_no="O-1",
        status=OutcomeStatus.REFUSED,
        code=Code.MALFORMED,
        duplicate=False,
        result=NoResult(),
        different=[HOSTILE],
        faults=[Fault(field=HOSTILE, message=HOSTILE)],
    )
    async with impostor(amqp_url, WALLET_COMMANDS) as worker:
        for run in (wallet, wallet_on_a_terminal):
            running = run("send", "open", "alice", "TWD", "--serial", "O-1", WALLET_AMQP_URL=amqp_url)
            async with asyncio.TaskGroup() as group:
                task = group.create_task(running)
                await worker.reply(await worker.next(), encode(outcome))

            assert_harmless(task.result())
            assert "[red]x[/red]" in task.result().out
            assert task.result().status == Exit.FOUND


async def test_json_says_what_the_wallet_said_whatever_that_was(amqp_url: str) -> None:
    refusal = Outcome(
        serial_no="O-1",
        status=OutcomeStatus.REFUSED,
        code=Code.MALFORMED,
        duplicate=False,
        result=NoResult(),
        faults=[Fault(field="", message=HOSTILE)],
    )
    async with impostor(amqp_url, WALLET_COMMANDS) as worker, asyncio.TaskGroup() as group:
        task = group.create_task(
            wallet("send", "open", "alice", "TWD", "--serial", "O-1", WALLET_AMQP_URL=amqp_url)
        )
        await worker.reply(await worker.next(), encode(refusal))

    result = task.result()
    assert result.out.isascii()
    assert Outcome.model_validate_json(result.out) == refusal


def test_plain_text_is_left_alone() -> None:
    assert printable("Zażółć 錢包 [not markup] \\x1b") == "Zażółć 錢包 [not markup] \\x1b"


def test_what_is_not_printable_is_shown_as_an_escape() -> None:
    assert printable("a\x1b[2Jb\u202ec\nd\x9b") == "a\\x1b[2Jb\\u202ec\\nd\\x9b"
