"""`wallet send`."""

import asyncio
import json
import sys

import pytest

from tests.cli.terminal import ROOT, environment, wallet, wallet_on_a_terminal
from tests.client import gateway
from tests.client.impostor import impostor
from tests.workers import Workers
from wallet_schemas.codes import Code
from wallet_schemas.commands import Outcome
from wallet_schemas.encode import encode
from wallet_schemas.events import ACCOUNT_EXAMPLE, HOLD_EXAMPLE, TRANSFER_EXAMPLE
from wallet_schemas.names import WALLET_COMMANDS
from wallet_schemas.parse import COMMANDS
from wallet_schemas.queries import OrderDetail
from wallet_schemas.values import OrderStatus, OutcomeStatus, PaymentStatus
from wallet_worker.cli.exits import Exit
from wallet_worker.client import WalletClient


async def test_an_account_is_opened_and_the_outcome_is_json_for_a_program(
    running_url: str, user: str, serial_no: str
) -> None:
    result = await wallet(
        *("send", "open", user, "TWD", "--type", "savings", "--serial", serial_no),
        WALLET_AMQP_URL=running_url,
    )

    assert (result.status, result.err) == (0, "")
    outcome = Outcome.model_validate_json(result.out)
    assert (outcome.serial_no, outcome.code, outcome.duplicate) == (serial_no, Code.OK, False)
    assert json.loads(result.out)["result"]["account_type"] == "savings"


async def test_a_serial_number_that_was_made_is_said_and_can_be_used_again(
    running_url: str, user: str
) -> None:
    first = await wallet("send", "open", user, "TWD", WALLET_AMQP_URL=running_url)
    (line,) = first.err_lines
    serial_no = line.removeprefix("wallet: serial number ")
    again = await wallet("send", "open", user, "TWD", "--serial", serial_no, WALLET_AMQP_URL=running_url)

    item, two = Outcome.model_validate_json(first.out), Outcome.model_validate_json(again.out)
    assert item.serial_no == serial_no
    assert two == item.model_copy(update={"duplicate": True})
    assert (again.status, again.err) == (0, "")


async def test_the_serial_number_is_said_before_anything_is_sent(amqp_url: str) -> None:
    async with impostor(amqp_url, WALLET_COMMANDS) as worker:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "wallet_worker", "send", "open", "alice", "TWD"),
            cwd=ROOT,
            env=environment({"WALLET_AMQP_URL": amqp_url}),
            stderr=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
        )
        request = await worker.next()
        process.kill()
        _, err = await process.communicate()

    assert json.loads(request.body)["serial_no"] in err.decode()


async def test_a_refusal_is_status_1(running_url: str, user: str, serial_no: str) -> None:
    recharge = ("send", "recharge", user, "5", "TWD", "--serial", serial_no)

    refused = await wallet(*recharge, WALLET_AMQP_URL=running_url)
    conflict = await wallet(*recharge, "--via", "cash", WALLET_AMQP_URL=running_url)

    assert (refused.status, conflict.status) == (Exit.FOUND, Exit.FOUND)
    assert Outcome.model_validate_json(refused.out).code is Code.ACCOUNT_NOT_FOUND
    assert Outcome.model_validate_json(conflict.out).different == ["recharge_type"]


async def test_an_outcome_is_a_table_on_a_terminal(running_url: str, user: str, serial_no: str) -> None:
    result = await wallet_on_a_terminal(
        "send", "recharge", user, "5", "TWD", "--serial", serial_no, WALLET_AMQP_URL=running_url
    )

    assert result.status == Exit.FOUND
    assert serial_no in result.out
    assert "ACCOUNT_NOT_FOUND: the user has no account" in result.out
    assert "{" not in result.out


async def test_what_is_malformed_is_one_line_and_not_sent(running_url: str, user: str) -> None:
    for arguments, field in (
        (("recharge", user, "1.005", "TWD"), "amount: TWD has 2 digits"),
        (("recharge", user, "-1", "TWD"), "No such option"),
        (("recharge", user, "1e3", "TWD"), "amount: "),
        (("recharge", user, "1", "twd"), "currency: "),
        (("open", "a b", "TWD"), "user_id: "),
        (("open", user, "TWD", "--serial", "no spaces"), "serial_no: "),
        (("open", user, "TWD", "--metadata", "no equals sign"), "NAME=TEXT"),
        (("recharge", user, "1", "TWD", "--no-wait", "--until-settled"), "--until-settled"),
        (("freeze", user, "TWD", ""), "reason: "),
        (("freeze", user, "TWD"), "REASON"),
        (("unfreeze", user, "TWD", "x" * 501), "reason: "),
        (("close", user, "twd", "why"), "currency: "),
        (("withdraw", user, "1.001", "TWD"), "amount: TWD has 2 digits"),
        (("withdraw", user, "1", "TWD", "--via", "Bank"), "payout_type: "),
        (("transfer", user, "a b", "1", "TWD"), "to_user_id: "),
        (("transfer", user, "1", "TWD"), "CURRENCY"),
        (("refund", "R 1", "1", "TWD"), "original_serial_no: "),
        (("refund", "R-1", "0", "TWD"), "amount: "),
        (("hold", user, "1", "TWD", "--expires-in", "0"), "expires_in_seconds: "),
        (("hold", user, "1", "TWD", "--expires-in", "3153600000"), "expires_in_seconds: "),
        (("hold", user, "1", "TWD", "--expires-in", "soon"), "--expires-in"),
        (("capture", "H 1", "shop", "1", "TWD"), "hold_serial_no: "),
        (("release", "H 1"), "hold_serial_no: "),
        (("release", "H-1", "--until-settled"), "No such option"),
        (("cancel", "R 1"), "target_serial_no: "),
        (("recharge", user, "1", "TWD", "--instrument", "4111111111111111"), "instrument: "),
        (("recharge", user, "1", "TWD", "--return-url", "javascript:alert(1)"), "return_url: "),
    ):
        result = await wallet("send", *arguments, WALLET_AMQP_URL=running_url)

        assert result.status == Exit.MISUSED, arguments
        assert field in result.err
        assert result.out == ""
        assert "serial number" not in result.err


SENT: list[tuple[tuple[str, ...], dict[str, object]]] = [
    (
        (
            "recharge",
            "alice",
            "1.00",
            "TWD",
            "--instrument",
            "pm_1",
            "--return-url",
            "https://shop.example/1",
        ),
        {
            "type": "order.recharge.v2",
            "user_id": "alice",
            "account_type": "basic",
            "amount": "1.00",
            "currency": "TWD",
            "recharge_type": "card",
            "instrument": "pm_1",
            "return_url": "https://shop.example/1",
        },
    ),
    (
        ("withdraw", "alice", "1.00", "TWD", "--instrument", "ba_1"),
        {
            "type": "order.withdraw.v2",
            "user_id": "alice",
            "account_type": "basic",
            "amount": "1.00",
            "currency": "TWD",
            "payout_type": "bank_transfer",
            "instrument": "ba_1",
        },
    ),
    (
        ("cancel", "R-1", "--reason", "left"),
        {"type": "order.cancel.v1", "target_serial_no": "R-1", "reason": "left"},
    ),
    (
        ("open", "alice", "TWD", "--type", "savings", "--metadata", "a=b=c", "--metadata", "d="),
        {
            "type": "account.open.v1",
            "user_id": "alice",
            "account_type": "savings",
            "currency": "TWD",
            "metadata": {"a": "b=c", "d": ""},
        },
    ),
    (
        ("freeze", "alice", "TWD", "chargeback reported"),
        {
            "type": "account.freeze.v1",
            "user_id": "alice",
            "account_type": "basic",
            "currency": "TWD",
            "reason": "chargeback reported",
        },
    ),
    (
        ("unfreeze", "alice", "TWD", "--", "-"),
        {
            "type": "account.unfreeze.v1",
            "user_id": "alice",
            "account_type": "basic",
            "currency": "TWD",
            "reason": "-",
        },
    ),
    (
        ("close", "alice", "TWD", "asked for", "--type", "savings"),
        {
            "type": "account.close.v1",
            "user_id": "alice",
            "account_type": "savings",
            "currency": "TWD",
            "reason": "asked for",
        },
    ),
    (
        ("recharge", "alice", "1.00", "TWD", "--via", "convenience_store"),
        {
            "type": "order.recharge.v1",
            "user_id": "alice",
            "account_type": "basic",
            "amount": "1.00",
            "currency": "TWD",
            "recharge_type": "convenience_store",
        },
    ),
    (
        ("withdraw", "alice", "1.00", "TWD"),
        {
            "type": "order.withdraw.v1",
            "user_id": "alice",
            "account_type": "basic",
            "amount": "1.00",
            "currency": "TWD",
            "payout_type": "bank_transfer",
        },
    ),
    (
        ("transfer", "alice", "bob", "1.00", "TWD", "--type", "savings", "--to-type", "bonus"),
        {
            "type": "order.transfer.v1",
            "user_id": "alice",
            "account_type": "savings",
            "to_user_id": "bob",
            "to_account_type": "bonus",
            "amount": "1.00",
            "currency": "TWD",
        },
    ),
    (
        ("refund", "R-1", "1.00", "TWD"),
        {"type": "order.refund.v1", "original_serial_no": "R-1", "amount": "1.00", "currency": "TWD"},
    ),
    (
        ("hold", "alice", "1.00", "TWD"),
        {
            "type": "order.hold.v1",
            "user_id": "alice",
            "account_type": "basic",
            "amount": "1.00",
            "currency": "TWD",
            "expires_in_seconds": 86_400,
        },
    ),
    (
        ("capture", "H-1", "shop", "1.00", "TWD"),
        {
            "type": "order.capture.v1",
            "hold_serial_no": "H-1",
            "amount": "1.00",
            "currency": "TWD",
            "to_user_id": "shop",
            "to_account_type": "basic",
        },
    ),
    (("release", "H-1"), {"type": "order.release.v1", "hold_serial_no": "H-1"}),
]


def test_there_is_a_command_line_for_each_command() -> None:
    assert {body["type"] for _, body in SENT} == set(COMMANDS)


async def test_each_command_line_sends_its_command(amqp_url: str) -> None:
    async with impostor(amqp_url, WALLET_COMMANDS) as worker:
        for arguments, body in SENT:
            words = ("send", arguments[0], "--serial", "S-1", "--no-wait", *arguments[1:])
            result = await wallet(*words, WALLET_AMQP_URL=amqp_url)
            request = await worker.next()

            assert (result.status, result.out) == (0, ""), arguments
            assert json.loads(request.body) == body | {"serial_no": "S-1"}


@pytest.mark.parametrize(
    ("result", "shows"),
    [
        (TRANSFER_EXAMPLE, ("to_user_id", "user-1002", "2026-01-02 04:00:00.000000Z")),
        (HOLD_EXAMPLE, ("remaining", "50.00", "expires_at", "2026-01-09 04:00:00.000000Z", "active")),
        ({**ACCOUNT_EXAMPLE, "status": "frozen"}, ("frozen", "available")),
        ({**ACCOUNT_EXAMPLE, "status": "closed"}, ("closed",)),
    ],
)
async def test_what_was_made_is_shown_whatever_it_is(
    amqp_url: str, result: dict[str, object], shows: tuple[str, ...]
) -> None:
    outcome = Outcome.model_validate({**Outcome.examples()[0], "serial_no": "S-1", "result": result})
    async with impostor(amqp_url, WALLET_COMMANDS) as worker, asyncio.TaskGroup() as group:
        running = group.create_task(
            wallet("send", "release", "H-1", "--serial", "S-1", "--table", WALLET_AMQP_URL=amqp_url)
        )
        await worker.reply(await worker.next(), encode(outcome))

    finished = running.result()
    assert finished.status == 0
    assert [text for text in shows if text not in finished.out] == []
    assert "None" not in finished.out


async def test_a_command_that_is_left_with_the_broker_is_applied(
    running_url: str, user: str, serial_no: str
) -> None:
    result = await wallet(
        "send",
        "open",
        user,
        "TWD",
        "--no-wait",
        "--serial",
        serial_no,
        WALLET_AMQP_URL=running_url,
    )
    again = await wallet("send", "open", user, "TWD", "--serial", serial_no, WALLET_AMQP_URL=running_url)

    assert (result.status, result.out) == (0, "")
    assert result.err_lines == [f"wallet: sent; its outcome: wallet show order {serial_no}"]
    assert Outcome.model_validate_json(again.out).duplicate


async def test_without_a_worker_the_outcome_is_unknown_and_the_serial_number_is_said(
    amqp_url: str, workers: Workers
) -> None:
    command = ("send", "open", "alice", "TWD", "--serial", "O-1")

    unknown = await wallet(*command, "--timeout", "0.2", WALLET_AMQP_URL=amqp_url)
    await workers.start()
    known = await wallet(*command, WALLET_AMQP_URL=amqp_url)

    assert (unknown.status, unknown.out) == (Exit.UNKNOWN, "")
    (line,) = unknown.err_lines
    assert "no answer came within 0.2 s; send it again with the same serial number O-1" in line
    outcome = Outcome.model_validate_json(known.out)
    assert (outcome.status, outcome.duplicate) == (OutcomeStatus.APPLIED, True)


async def _recharged(url: str, user: str, serial_no: str, status: PaymentStatus) -> tuple[int, list[str]]:
    """Return how `--until-settled` ends and the lines it prints, with a gateway that says `status`."""
    async with WalletClient(url) as client:
        await client.open_account(user, "TWD")
        recharge = ("send", "recharge", user, "100", "TWD", "--serial", serial_no, "--until-settled")
        running = asyncio.create_task(wallet(*recharge, WALLET_AMQP_URL=url))
        await gateway.send_result(url, serial_no, status=status)
        result = await running
    return result.status, result.out.splitlines()


async def test_until_settled_waits_for_the_money(running_url: str, user: str, serial_no: str) -> None:
    status, lines = await _recharged(running_url, user, serial_no, PaymentStatus.SUCCEEDED)

    outcome, detail = Outcome.model_validate_json(lines[0]), OrderDetail.model_validate_json(lines[1])
    assert status == 0
    assert outcome.serial_no == serial_no
    assert detail.order is not None
    assert detail.order.status is OrderStatus.SUCCEEDED
    assert [entry.balance_after for entry in detail.entries] == ["100.00"]


async def test_until_settled_ends_with_status_1_when_no_money_comes(
    running_url: str, user: str, serial_no: str
) -> None:
    status, lines = await _recharged(running_url, user, serial_no, PaymentStatus.FAILED)

    detail = OrderDetail.model_validate_json(lines[1])
    assert status == Exit.FOUND
    assert detail.order is not None
    assert detail.order.status is OrderStatus.FAILED


async def test_until_settled_does_not_wait_for_ever(running_url: str, user: str, serial_no: str) -> None:
    async with WalletClient(running_url) as client:
        await client.open_account(user, "TWD")

    result = await wallet(
        *("send", "recharge", user, "100", "TWD", "--serial", serial_no),
        *("--until-settled", "--settle-timeout", "0.2"),
        WALLET_AMQP_URL=running_url,
    )

    assert result.status == Exit.UNKNOWN
    assert Outcome.model_validate_json(result.out).code is Code.OK
    (line,) = result.err_lines
    assert f"the order {serial_no} still waits for its payment" in line
