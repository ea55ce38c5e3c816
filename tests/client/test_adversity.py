"""The client when the broker, the network or whoever answers is not as it should be."""

import asyncio
import logging

import aiormq
import pytest
from aiormq.abc import FieldTable

from tests.client.impostor import impostor
from tests.faults.proxy import Proxy, Way
from tests.servers.ports import free_ports
from wallet_schemas.codes import Code
from wallet_schemas.commands import NoResult, OpenAccount, Outcome
from wallet_schemas.encode import encode
from wallet_schemas.names import WALLET_COMMANDS, WALLET_QUERIES
from wallet_schemas.queries import AccountList
from wallet_schemas.values import OutcomeStatus
from wallet_worker.broker import topology
from wallet_worker.broker.addresses import WrongUrlError
from wallet_worker.client import (
    NotAcceptedError,
    OutcomeUnknownError,
    UnansweredError,
    WalletClient,
)

MOMENT_SECONDS = 0.2


def refusal(serial_no: str) -> bytes:
    """Return the body of an outcome, as good as any other."""
    return encode(
        Outcome(
            serial_no=serial_no,
            status=OutcomeStatus.REFUSED,
            code=Code.ACCOUNT_EXISTS,
            duplicate=False,
            result=NoResult(),
        )
    )


async def test_a_command_goes_out_as_the_contract_says(amqp_url: str) -> None:
    async with impostor(amqp_url, WALLET_COMMANDS) as worker, WalletClient(amqp_url) as wallet:
        call = asyncio.create_task(wallet.open_account("alice", "TWD", serial_no="O-1"))
        first = await worker.next()
        await worker.reply(first, refusal("O-1"))
        await call
        call = asyncio.create_task(wallet.open_account("alice", "TWD", serial_no="O-1"))
        second = await worker.next()
        await worker.reply(second, refusal("O-1"))
        await call

    properties = first.header.properties
    assert (properties.content_type, properties.delivery_mode) == ("application/json", 2)
    assert (first.routing_key, first.exchange) == ("account.open", WALLET_COMMANDS)
    assert properties.reply_to
    assert properties.message_id
    assert properties.message_id != second.header.properties.message_id
    assert first.body == second.body


async def test_replies_that_are_none_are_ignored(amqp_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "wallet_worker.client.rpc")
    good = refusal("O-1")
    async with impostor(amqp_url, WALLET_COMMANDS) as worker, WalletClient(amqp_url) as wallet:
        call = asyncio.create_task(wallet.open_account("alice", "TWD", serial_no="O-1"))
        request = await worker.next()
        await worker.reply(request, good, correlation_id="somebody else's \x1b[2J")
        await worker.reply(request, good, correlation_id="")
        await worker.reply(request, b"\xff no JSON")
        await worker.reply(request, encode(AccountList(accounts=[])))
        await worker.reply(request, good.replace(b"O-1", b"O-2"))
        await worker.reply(request, good.replace(b"false", b'"no"'))
        await worker.reply(request, good)
        await worker.reply(request, good)
        outcome = await call

    assert outcome.code is Code.ACCOUNT_EXISTS
    answers = [record.getMessage() for record in caplog.records if record.name == "wallet_worker.client.rpc"]
    assert sum("nobody waits for" in line for line in answers) >= 2
    assert sum("a reply that is none" in line for line in answers) == 4
    assert not any("\x1b" in line for line in answers)


async def test_replies_may_come_in_any_order(amqp_url: str) -> None:
    async with impostor(amqp_url, WALLET_COMMANDS) as worker, WalletClient(amqp_url) as wallet:
        calls = [
            asyncio.create_task(wallet.open_account("alice", "TWD", serial_no=number))
            for number in ("O-1", "O-2", "O-3")
        ]
        heard = [await worker.next() for _ in calls]
        for item in reversed(heard):
            await worker.reply(item, refusal(OpenAccount.model_validate_json(item.body).serial_no))
        outcomes = await asyncio.gather(*calls)

    assert [outcome.serial_no for outcome in outcomes] == ["O-1", "O-2", "O-3"]


async def test_a_late_reply_disturbs_nobody(amqp_url: str) -> None:
    async with impostor(amqp_url, WALLET_COMMANDS) as worker, WalletClient(amqp_url) as wallet:
        with pytest.raises(OutcomeUnknownError) as unknown:
            await wallet.open_account("alice", "TWD", serial_no="O-1", timeout_seconds=MOMENT_SECONDS)
        late = await worker.next()
        call = asyncio.create_task(wallet.open_account("alice", "TWD", serial_no="O-1"))
        request = await worker.next()
        await worker.reply(late, refusal("O-1"))
        await worker.reply(request, refusal("O-1").replace(b"false", b"true"))
        outcome = await call

    assert unknown.value.serial_no == "O-1"
    assert outcome.duplicate


async def test_a_lost_connection_leaves_the_outcome_unknown_and_the_next_call_connects_anew(
    amqp_url: str,
) -> None:
    async with (
        Proxy(amqp_url) as proxy,
        impostor(amqp_url, WALLET_COMMANDS) as worker,
        WalletClient(proxy.url) as wallet,
    ):
        calls = [
            asyncio.create_task(wallet.open_account("alice", "TWD", serial_no=f"O-{number}"))
            for number in range(100)
        ]
        heard = [await worker.next() for _ in calls]
        proxy.reset()
        failures = await asyncio.gather(*calls, return_exceptions=True)
        again = asyncio.create_task(wallet.open_account("alice", "TWD", serial_no="O-1"))
        await worker.reply(await worker.next(), refusal("O-1"))
        outcome = await again

    assert len(heard) == 100
    assert {type(failure) for failure in failures} == {OutcomeUnknownError}
    numbers = [failure.serial_no for failure in failures if isinstance(failure, OutcomeUnknownError)]
    assert numbers == [f"O-{number}" for number in range(100)]
    assert all("the connection to the broker was lost" in str(failure) for failure in failures)
    assert outcome.serial_no == "O-1"


async def test_a_call_waits_for_the_broker_to_come_back(amqp_url: str) -> None:
    async with (
        Proxy(amqp_url) as proxy,
        impostor(amqp_url, WALLET_COMMANDS) as worker,
        WalletClient(proxy.url) as wallet,
    ):
        lost = asyncio.create_task(wallet.open_account("alice", "TWD", serial_no="O-0"))
        await worker.next()
        proxy.refuse()
        with pytest.raises(OutcomeUnknownError):
            await lost
        with pytest.raises(NotAcceptedError) as refused:
            await wallet.open_account("alice", "TWD", serial_no="O-1", timeout_seconds=1)
        call = asyncio.create_task(wallet.open_account("alice", "TWD", serial_no="O-1", timeout_seconds=30))
        proxy.heal()
        await worker.reply(await worker.next(), refusal("O-1"))
        outcome = await call

    assert "the broker at" in str(refused.value)
    assert refused.value.serial_no == "O-1"
    assert outcome.serial_no == "O-1"


async def test_a_confirm_that_is_lost_leaves_the_outcome_unknown(amqp_url: str) -> None:
    """The broker has the command, and the client never hears of it."""
    async with (
        Proxy(amqp_url) as proxy,
        impostor(amqp_url, WALLET_COMMANDS) as worker,
        WalletClient(proxy.url) as wallet,
    ):
        proxy.cut_at = b"O-cut"
        with pytest.raises(OutcomeUnknownError):
            await wallet.open_account("alice", "TWD", serial_no="O-cut")
        arrived = await worker.next()

    assert b"O-cut" in arrived.body


async def test_a_network_that_swallows_everything_ends_a_call_in_time(amqp_url: str) -> None:
    async with Proxy(amqp_url) as proxy, WalletClient(proxy.url) as wallet:
        proxy.black_hole(Way.BOTH)
        with pytest.raises(OutcomeUnknownError, match="no answer came within"):
            await wallet.open_account("alice", "TWD", serial_no="O-1", timeout_seconds=MOMENT_SECONDS)
        with pytest.raises(UnansweredError):
            await wallet.account("alice", timeout_seconds=MOMENT_SECONDS)
        proxy.reset()


async def test_calls_under_way_end_when_the_client_is_closed(amqp_url: str) -> None:
    async with impostor(amqp_url, WALLET_COMMANDS) as worker:
        async with WalletClient(amqp_url) as wallet:
            call = asyncio.create_task(wallet.open_account("alice", "TWD", serial_no="O-1"))
            await worker.next()
        with pytest.raises(OutcomeUnknownError):
            await call
        with pytest.raises(NotAcceptedError, match="the client is closed"):
            await wallet.account("alice")


async def test_a_call_that_is_cancelled_is_cancelled(amqp_url: str) -> None:
    async with impostor(amqp_url, WALLET_COMMANDS) as worker, WalletClient(amqp_url) as wallet:
        call = asyncio.create_task(wallet.open_account("alice", "TWD", serial_no="O-1"))
        request = await worker.next()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        other = asyncio.create_task(wallet.open_account("alice", "TWD", serial_no="O-2"))
        await worker.reply(request, refusal("O-1"))
        await worker.reply(await worker.next(), refusal("O-2"))

        assert (await other).serial_no == "O-2"


async def test_a_query_that_nobody_can_get_was_not_accepted(amqp_url: str) -> None:
    async with aiormq.connect(amqp_url) as connection:
        channel = await connection.channel()
        await channel.queue_unbind(WALLET_QUERIES, WALLET_QUERIES, "#")

    async with WalletClient(amqp_url) as wallet:
        with pytest.raises(NotAcceptedError, match="no queue for it"):
            await wallet.account("alice")


async def test_a_command_that_the_broker_refuses_was_not_accepted(bare_url: str) -> None:
    """A queue that is full refuses, as the wallet's own queues do."""
    async with aiormq.connect(bare_url) as connection:
        channel = await connection.channel()
        for exchange in (WALLET_COMMANDS, WALLET_QUERIES):
            await channel.exchange_declare(exchange, exchange_type="topic", durable=True)
        full: FieldTable = {"x-max-length": 1, "x-overflow": "reject-publish"}
        await channel.queue_declare(WALLET_COMMANDS, durable=True, arguments=full)
        await channel.queue_bind(WALLET_COMMANDS, WALLET_COMMANDS, "#")
        await channel.basic_publish(b"the one that fits", routing_key=WALLET_COMMANDS)

    async with WalletClient(bare_url) as wallet:
        with pytest.raises(NotAcceptedError, match="did not take it") as refused:
            await wallet.open_account("alice", "TWD", serial_no="O-1")
        command = OpenAccount(serial_no="O-1", user_id="alice", currency="TWD")
        with pytest.raises(NotAcceptedError, match="did not take it"):
            await wallet.submit(command)

    assert refused.value.serial_no == "O-1"


async def test_a_channel_that_is_refused_is_left_and_the_calls_that_wait_on_it_are_answered(
    amqp_url: str,
) -> None:
    """A cluster that chose a leader as a channel was opened may refuse all that it publishes, and no other channel."""
    command = OpenAccount(serial_no="O-1", user_id="alice", currency="TWD")
    async with aiormq.connect(amqp_url) as connection:
        channel = await connection.channel()
        await channel.queue_delete(WALLET_COMMANDS)
        full: FieldTable = {"x-max-length": 0, "x-overflow": "reject-publish"}
        await channel.queue_declare(WALLET_COMMANDS, durable=True, arguments=full)
        await channel.queue_bind(WALLET_COMMANDS, WALLET_COMMANDS, "#")
    async with impostor(amqp_url, WALLET_QUERIES) as worker, WalletClient(amqp_url) as wallet:
        waiting = asyncio.create_task(wallet.account("alice"))
        query = await worker.next()
        used = [wallet._rpc._session]

        for _ in range(3):
            with pytest.raises(NotAcceptedError, match="did not take it"):
                await wallet.submit(command)
            used.append(wallet._rpc._session)
        await worker.reply(query, encode(AccountList(accounts=[])))
        await waiting

    first, second, third, fourth = (session for session in used if session is not None)
    assert first is second, "it is left by the next call, which opens another"
    assert third is fourth is not first, "and not for each refusal"
    assert first.channel.is_closed
    assert not wallet._rpc._left


async def test_an_exchange_that_is_taken_away_is_found_at_the_next_call(amqp_url: str) -> None:
    async with aiormq.connect(amqp_url) as connection, WalletClient(amqp_url) as wallet:
        channel = await connection.channel()
        await channel.exchange_delete(WALLET_QUERIES)
        with pytest.raises(UnansweredError, match="connection"):
            await wallet.account("alice")
        with pytest.raises(NotAcceptedError, match="wallet topology apply"):
            await wallet.account("alice", timeout_seconds=1)
        await topology.apply(amqp_url)
        with pytest.raises(UnansweredError, match="no answer"):
            await wallet.account("alice", timeout_seconds=1)


async def test_a_broker_without_a_wallet_is_said_at_once(bare_url: str) -> None:
    with pytest.raises(NotAcceptedError, match=r"wallet topology apply.*no exchange 'wallet.commands'"):
        async with WalletClient(bare_url):
            pass


async def test_a_broker_that_is_away_is_said_at_once() -> None:
    (port,) = free_ports(1)

    with pytest.raises(NotAcceptedError, match="cannot be reached"):
        async with WalletClient(f"amqp://guest:guest@127.0.0.1:{port}/"):
            pass


async def test_an_address_that_is_none_is_said_at_once() -> None:
    with pytest.raises(WrongUrlError, match="is no address of a broker"):
        async with WalletClient("http://127.0.0.1/"):
            pass
