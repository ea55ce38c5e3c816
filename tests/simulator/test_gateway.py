"""The whole gateway, as a process, on a real broker."""

import asyncio
import json
import sqlite3
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.servers.ports import free_ports
from tests.simulator.requests import body, status_of
from tests.simulator.world import KEYS, Received, Wallet, by_order, cable, gateway
from wallet_schemas import names, signature
from wallet_worker.broker import topology

INSTANT = ("--scenario", "instant")


@pytest.fixture
def state(tmp_path: Path) -> tuple[str, str]:
    return ("--state", str(tmp_path / "state.sqlite3"))


async def test_a_result_is_published_as_the_contract_says(
    amqp_url: str, wallet: Wallet, state: tuple[str, str]
) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await wallet.listen()
    async with gateway(amqp_url, *state, *INSTANT):
        await wallet.ask(body("R-1", channel="sandbox_duplicate"), headers={"traceparent": trace})
        results = await wallet.results(3)

    for received in results:
        assert received.message.exchange == names.PAYMENT_RESULTS
        assert received.message.routing_key == "payment.result"
        assert received.properties.content_type == "application/json"
        assert received.properties.delivery_mode == 2
        assert received.headers["traceparent"] == trace
        signature.verify(received.headers[names.SIGNATURE_HEADER], received.message.body, KEYS)
        assert ",kid=test-2026," in received.headers[names.SIGNATURE_HEADER]  # the first key
    assert len({received.properties.message_id for received in results}) == 3
    assert len({received.message.body for received in results}) == 1


async def test_a_bad_signature_is_one_of_a_known_key_that_does_not_fit(
    amqp_url: str, wallet: Wallet, state: tuple[str, str]
) -> None:
    await wallet.listen()
    async with gateway(amqp_url, *state, *INSTANT):
        await wallet.ask(body(channel="sandbox_bad_signature"))
        unasked = await wallet.result()
        await wallet.ask(status_of(channel="sandbox_bad_signature"))
        result = await wallet.result()

    with pytest.raises(signature.BadSignature, match="no signature fits the body"):
        signature.verify(unasked.headers[names.SIGNATURE_HEADER], unasked.message.body, KEYS)
    signature.verify(result.headers[names.SIGNATURE_HEADER], result.message.body, KEYS)
    assert result.message.body == unasked.message.body


async def test_a_silent_payment_is_told_when_asked(
    amqp_url: str, wallet: Wallet, state: tuple[str, str]
) -> None:
    await wallet.listen()
    async with gateway(amqp_url, *state, *INSTANT):
        await wallet.ask(body("R-1", channel="sandbox_silent"), body("R-2"))
        first = await wallet.result()
        await wallet.ask(status_of("R-1", channel="sandbox_silent"))
        second = await wallet.result()

    assert [first.result.payment_order_no, second.result.payment_order_no] == ["R-2", "R-1"]
    assert second.result.status == "succeeded"


async def test_repeats_get_the_same_answer_after_a_restart_with_another_seed(
    amqp_url: str, wallet: Wallet, state: tuple[str, str]
) -> None:
    orders = [body(f"R-{number}") for number in range(20)]
    await wallet.listen()
    async with gateway(amqp_url, *state, "--delay-min-seconds", "0") as first:
        await wallet.ask(*orders)
        before = await wallet.results(len(orders))
        assert await first.terminate() == 0

    async with gateway(amqp_url, *state, "--scenario", "rough", "--seed", "99"):
        await wallet.ask(*orders)
        after = await wallet.results(len(orders))

    assert by_order(before) == by_order(after)


async def test_nothing_is_lost_or_answered_differently_when_the_gateway_is_killed(
    amqp_url: str, wallet: Wallet, state: tuple[str, str]
) -> None:
    orders = {f"R-{number}": body(f"R-{number}") for number in range(600)}
    delays = ("--delay-min-seconds", "0", "--delay-max-seconds", "1")
    received: list[Received] = []
    await wallet.listen()

    for kill_after in (20, 150, 150):
        async with gateway(amqp_url, *state, *delays) as doomed:
            await wallet.ask(*list(orders.values())[len(received) : len(received) + 200])
            received += await wallet.results(kill_after)
            await doomed.kill()
    async with gateway(amqp_url, *state, *delays):
        await wallet.ask(*orders.values())
        while len(by_order(received)) < len(orders):
            received.append(await wallet.result())
        repeated: list[Received] = []
        await wallet.ask(*orders.values())
        while len(by_order(repeated)) < len(orders):
            repeated.append(await wallet.result())

    assert {number: set(bodies) for number, bodies in by_order(received + repeated).items()} == {
        number: {bodies[0]} for number, bodies in by_order(received).items()
    }


async def test_answers_that_fell_due_while_the_gateway_was_dead_are_sent_when_it_is_back(
    amqp_url: str, wallet: Wallet, tmp_path: Path, state: tuple[str, str]
) -> None:
    await wallet.listen()
    async with gateway(amqp_url, *state, "--late-after-seconds", "3600") as first:
        await wallet.ask(body("R-1", channel="sandbox_late"), status_of("R-1", channel="sandbox_late"))
        finished = await wallet.result()
        await first.kill()

    with closing(sqlite3.connect(tmp_path / "state.sqlite3", isolation_level=None)) as memory:
        memory.execute("UPDATE answers SET due_at_us = due_at_us - 3600 * 1000000")  # an hour passes
    async with gateway(amqp_url, *state):
        result = await wallet.result()
        while result.message.body == finished.message.body:  # killed between sending and marking it as sent
            result = await wallet.result()

    assert [finished.result.status, result.result.status] == ["unknown", "succeeded"]
    assert finished.result.gateway_ref == result.result.gateway_ref


async def test_a_request_is_acknowledged_only_after_its_commit(
    amqp_url: str, wallet: Wallet, tmp_path: Path, state: tuple[str, str]
) -> None:
    async with gateway(amqp_url, *state, *INSTANT) as doomed:
        await doomed.event("broker.connected")
        hold = sqlite3.connect(tmp_path / "state.sqlite3", isolation_level=None)
        hold.execute("BEGIN IMMEDIATE")  # no commit but this one's can happen now
        await wallet.ask(body())
        await _until_empty(wallet, names.PAYMENT_REQUESTS)  # the gateway has it
        await doomed.kill()
        hold.close()

    assert (await wallet.letter(names.PAYMENT_REQUESTS)).body == body()


async def test_sigterm_sends_what_is_due_and_leaves_nothing_taken_and_undone(
    amqp_url: str, wallet: Wallet, state: tuple[str, str]
) -> None:
    async with gateway(amqp_url, *state, *INSTANT) as stopped:
        await stopped.event("broker.connected")
        await wallet.ask(*(body(f"R-{number}") for number in range(300)))
        assert await stopped.terminate() == 0

    requests_left, results = (
        await wallet.depth(names.PAYMENT_REQUESTS),
        await wallet.depth(names.PAYMENT_RESULTS),
    )
    assert requests_left + results == 300
    assert "simulator.drain_cut_short" not in "".join(stopped.lines)


async def test_nonsense_becomes_a_dead_letter_byte_for_byte_and_its_neighbours_are_answered(
    amqp_url: str, wallet: Wallet, state: tuple[str, str]
) -> None:
    nonsense = b'{"type": "payment.request.v1", "payment_order_no": "R-2", "amount": 1e400}'
    await wallet.listen()
    async with gateway(amqp_url, *state, *INSTANT) as running:
        await wallet.ask(body("R-1"), nonsense, body("R-3"), body("R-1", amount="1.00"))
        rejections = [await running.event("request.rejected") for _ in range(2)]
        letters = [(await wallet.letter(names.WALLET_DEAD_LETTERS)).body for _ in range(2)]
        results = await wallet.results(2)

    assert letters == [nonsense, body("R-1", amount="1.00")]
    assert {received.result.payment_order_no for received in results} == {"R-1", "R-3"}
    assert [(event["ending"], event["payment_order_no"]) for event in rejections] == [
        ("unreadable", "R-2"),
        ("conflicting", "R-1"),
    ]


async def test_the_gateway_comes_back_by_itself_when_the_connection_is_cut(
    amqp_url: str, wallet: Wallet, state: tuple[str, str]
) -> None:
    await wallet.listen()
    async with cable(amqp_url) as line, gateway(line.url, *state, *INSTANT) as running:
        await running.event("broker.connected")
        await line.cut()
        await running.event("broker.lost")
        await wallet.ask(body())
        await line.plug()

        assert (await wallet.result()).result.status == "succeeded"


async def test_the_gateway_comes_back_by_itself_when_its_queue_is_deleted_and_made_again(
    amqp_url: str, wallet: Wallet, state: tuple[str, str]
) -> None:
    await wallet.listen()
    async with gateway(amqp_url, *state, *INSTANT) as running:
        await running.event("broker.connected")
        await wallet.channel.queue_delete(names.PAYMENT_REQUESTS)
        lost = await running.event("broker.lost")
        await topology.apply(amqp_url)
        await wallet.ask(body())

        assert (await wallet.result()).result.status == "succeeded"
    assert "the consumer was lost" in lost["reason"]


async def test_a_result_without_a_route_is_kept_and_sent_when_there_is_one(
    amqp_url: str, wallet: Wallet, state: tuple[str, str]
) -> None:
    await wallet.channel.queue_unbind(names.PAYMENT_RESULTS, names.PAYMENT_RESULTS, "#")
    await wallet.channel.exchange_delete(names.WALLET_UNROUTED)  # else it would take what has no route
    await wallet.listen()
    async with gateway(amqp_url, *state, *INSTANT) as running:
        await wallet.ask(body())
        refused = await running.event("answers.refused")
        await topology.apply(amqp_url)

        assert (await wallet.result()).result.status == "succeeded"
    assert refused["reason"] == "returned: NO_ROUTE"


async def test_health_is_good_while_requests_are_consumed_and_bad_while_not(
    amqp_url: str, wallet: Wallet, state: tuple[str, str]
) -> None:
    (port,) = free_ports(1)
    await wallet.listen()
    async with (
        cable(amqp_url) as line,
        gateway(line.url, *state, *INSTANT, WALLET_SIMULATOR_HTTP_PORT=str(port)) as running,
    ):
        await wallet.ask(body())
        await wallet.result()
        await wallet.ask(body("R-2"))
        await wallet.result()
        good = await asyncio.to_thread(_health, port)
        await line.cut()
        await running.event("broker.lost")
        bad = await asyncio.to_thread(_health, port)

    assert good[0] == 200
    assert good[1]["requests"]["planned"] == 2
    assert bad[0] == 503
    assert bad[1]["consuming"] is False


def _health(port: int) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


async def _until_empty(wallet: Wallet, queue: str) -> None:
    async with asyncio.timeout(30):
        while await wallet.depth(queue):
            pass
