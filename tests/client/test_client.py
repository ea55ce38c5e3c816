"""The client and a real worker."""

import asyncio

import asyncpg
import pytest

from tests.client import gateway
from tests.workers import Workers, until
from wallet_schemas.codes import Code
from wallet_schemas.commands import OpenAccount, OpenAccountResult, RechargeResult
from wallet_schemas.values import OrderStatus, OutcomeStatus, PaymentStatus
from wallet_worker.client import (
    NotKnownYetError,
    NotSettledError,
    OutcomeUnknownError,
    QueryRefusedError,
    UnansweredError,
    WalletClient,
    new_serial_no,
)

MOMENT_SECONDS = 0.2


async def test_an_account_is_opened_and_its_outcome_is_typed(
    running_url: str, user: str, serial_no: str
) -> None:
    async with WalletClient(running_url) as wallet:
        outcome = await wallet.open_account(user, "TWD", serial_no=serial_no, metadata={"campaign": "spring"})
        found = await wallet.account(user)

    assert (outcome.serial_no, outcome.status, outcome.code) == (serial_no, OutcomeStatus.APPLIED, Code.OK)
    assert isinstance(outcome.result, OpenAccountResult)
    assert [account.account_no for account in found.accounts] == [outcome.result.account_no]


async def test_the_same_serial_number_again_gets_the_same_outcome(
    running_url: str, user: str, serial_no: str
) -> None:
    async with WalletClient(running_url) as wallet:
        await wallet.open_account(user, "TWD")
        first = await wallet.recharge(user, "100", "TWD", "card", serial_no=serial_no)
        again = await wallet.recharge(user, "100.00", "TWD", "card", serial_no=serial_no)
        other = await wallet.recharge(user, "100.01", "TWD", "card", serial_no=serial_no)

    assert isinstance(first.result, RechargeResult)
    assert (first.duplicate, again.duplicate) == (False, True)
    assert again == first.model_copy(update={"duplicate": True})
    assert (other.status, other.code, other.different) == (
        OutcomeStatus.REFUSED,
        Code.SERIAL_CONFLICT,
        ["amount"],
    )


async def test_a_refusal_is_an_outcome(running_url: str) -> None:
    async with WalletClient(running_url) as wallet:
        outcome = await wallet.recharge("nobody", "1.00", "TWD", "card")

    assert (outcome.status, outcome.code) == (OutcomeStatus.REFUSED, Code.ACCOUNT_NOT_FOUND)


async def test_a_command_that_is_malformed_is_refused_before_it_is_sent(amqp_url: str) -> None:
    async with WalletClient(amqp_url) as wallet:
        with pytest.raises(ValueError, match="TWD has 2 digits after the point"):
            await wallet.recharge("alice", "1.005", "TWD", "card")


async def test_after_a_time_out_the_same_serial_number_gets_the_outcome(
    amqp_url: str, workers: Workers, owner: asyncpg.Connection
) -> None:
    async with WalletClient(amqp_url) as wallet:
        with pytest.raises(OutcomeUnknownError, match=r"no answer came .* serial number O-1") as unknown:
            await wallet.open_account("alice", "TWD", serial_no="O-1", timeout_seconds=MOMENT_SECONDS)
        await workers.start()
        outcome = await wallet.open_account("alice", "TWD", serial_no=unknown.value.serial_no)

    assert (outcome.status, outcome.duplicate) == (OutcomeStatus.APPLIED, True)
    assert await owner.fetchval("SELECT count(*) FROM accounts WHERE kind = 'user'") == 1


async def test_of_many_calls_at_once_each_gets_its_own_outcome(running_url: str, serial_no: str) -> None:
    numbers = [f"{serial_no}-{number}" for number in range(1_000)]

    async with WalletClient(running_url, timeout_seconds=60) as wallet:
        outcomes = await asyncio.gather(
            *(wallet.open_account(number, "TWD", serial_no=number) for number in numbers)
        )

    assert [outcome.serial_no for outcome in outcomes] == numbers
    users = [outcome.result.user_id for outcome in outcomes if isinstance(outcome.result, OpenAccountResult)]
    assert users == numbers


async def test_a_command_can_be_left_with_the_broker(
    amqp_url: str, workers: Workers, owner: asyncpg.Connection
) -> None:
    command = OpenAccount(serial_no=new_serial_no(), user_id="alice", currency="TWD")

    async with WalletClient(amqp_url) as wallet:
        await wallet.submit(command)
        await workers.start()
        await until(owner, "SELECT count(*) FROM commands WHERE serial_no = $1", 1, command.serial_no)
        detail = await wallet.order(command.serial_no)

    assert detail.outcome.status is OutcomeStatus.APPLIED


async def test_a_statement_comes_in_pages_without_a_gap(running_url: str, user: str, serial_no: str) -> None:
    async with WalletClient(running_url) as wallet:
        await wallet.open_account(user, "TWD")
        for number in range(5):
            text = f"{serial_no}-{number}"
            await wallet.recharge(user, "100.00", "TWD", "card", serial_no=text)
            await gateway.send_result(running_url, text)
            await wallet.wait_until_settled(text)

        pages = [page async for page in wallet.statement_pages(user, "TWD", limit=2)]
        rest = await wallet.statement(user, "TWD", after_line_no=3)

    lines = [line for page in pages for line in page.entries]
    assert [len(page.entries) for page in pages] == [2, 2, 1]
    assert [line.line_no for line in lines] == [1, 2, 3, 4, 5]
    assert [line.balance_before for line in lines] == ["0.00", *(line.balance_after for line in lines[:-1])]
    assert [page.closing_balance for page in pages] == ["200.00", "400.00", "500.00"]
    assert rest.entries == lines[3:]


async def test_a_large_page_is_read_whole(amqp_url: str, workers: Workers, owner: asyncpg.Connection) -> None:
    """A thousand lines are more than a message may have that is sent to the wallet."""
    await workers.start()
    async with WalletClient(amqp_url, timeout_seconds=60) as wallet:
        await wallet.open_account("alice", "TWD")
        await wallet.recharge("alice", "100.00", "TWD", "card", serial_no="R-1")
        await owner.execute(
            """
            INSERT INTO entries
            SELECT account_id, n, order_id, 'credit', 1, n - 1, n, now()
            FROM orders, generate_series(1, 1000) n
            """
        )

        pages = [page async for page in wallet.statement_pages("alice", "TWD", limit=1_000)]

    assert [line.line_no for page in pages for line in page.entries] == list(range(1, 1_001))


async def test_settled_returns_when_the_gateway_has_spoken(
    running_url: str, user: str, serial_no: str
) -> None:
    async with WalletClient(running_url) as wallet:
        await wallet.open_account(user, "TWD")
        await wallet.recharge(user, "100.00", "TWD", "card", serial_no=serial_no)
        waiting = asyncio.create_task(wallet.wait_until_settled(serial_no))
        await gateway.send_result(running_url, serial_no, status=PaymentStatus.FAILED)
        failed = await waiting

    assert failed.order is not None
    assert failed.order.status is OrderStatus.FAILED


async def test_settled_ends_with_what_there_is_when_the_time_is_over(
    running_url: str, user: str, serial_no: str
) -> None:
    async with WalletClient(running_url) as wallet:
        await wallet.open_account(user, "TWD")
        await wallet.recharge(user, "100.00", "TWD", "card", serial_no=serial_no)
        with pytest.raises(NotSettledError) as late:
            await wallet.wait_until_settled(serial_no, timeout_seconds=MOMENT_SECONDS)

    assert late.value.order.order is not None
    assert late.value.order.order.status is OrderStatus.PENDING


async def test_a_command_that_is_still_in_its_queue_is_waited_for(
    running_url: str, user: str, serial_no: str
) -> None:
    """A query may be answered before the command: "not found" once led to a second payment under a new number."""
    async with WalletClient(running_url) as wallet:
        await wallet.open_account(user, "TWD")
        waiting = asyncio.create_task(wallet.wait_until_settled(serial_no))
        with pytest.raises(QueryRefusedError, match="not known yet"):
            await wallet.order(serial_no)
        await wallet.recharge(user, "100.00", "TWD", "card", serial_no=serial_no)
        await gateway.send_result(running_url, serial_no)
        found = await waiting

    assert found.order is not None
    assert found.order.status is OrderStatus.SUCCEEDED


async def test_what_is_not_known_when_the_time_is_over_is_not_known_yet(
    running_url: str, serial_no: str
) -> None:
    async with WalletClient(running_url) as wallet:
        with pytest.raises(NotKnownYetError, match="not known yet") as late:
            await wallet.wait_until_settled(serial_no, timeout_seconds=MOMENT_SECONDS)

    assert late.value.serial_no == serial_no
    assert "same serial number" in str(late.value)
    assert "not found" not in str(late.value).lower()


async def test_what_cannot_be_settled_is_settled(running_url: str) -> None:
    async with WalletClient(running_url) as wallet:
        refused = await wallet.recharge("nobody", "1.00", "TWD", "card")
        found = await wallet.wait_until_settled(str(refused.serial_no))

    assert (found.order, found.outcome.code) == (None, Code.ACCOUNT_NOT_FOUND)


async def test_a_query_that_cannot_be_answered_is_refused_with_its_code(
    running_url: str, serial_no: str
) -> None:
    async with WalletClient(running_url) as wallet:
        with pytest.raises(QueryRefusedError) as order:
            await wallet.order(serial_no)
        with pytest.raises(QueryRefusedError) as statement:
            await wallet.statement("nobody", "TWD")
        nobody = await wallet.account("nobody")

    assert order.value.code is Code.ORDER_NOT_FOUND
    assert statement.value.code is Code.ACCOUNT_NOT_FOUND
    assert nobody.accounts == []


async def test_a_query_without_a_worker_is_unanswered(amqp_url: str) -> None:
    async with WalletClient(amqp_url) as wallet:
        with pytest.raises(UnansweredError, match="no answer came within"):
            await wallet.account("alice", timeout_seconds=MOMENT_SECONDS)
