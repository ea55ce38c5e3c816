"""Everything is taken in, once, also what cannot be decoded, and each letter says why it is here."""

import asyncio

import pytest
from pamqp.commands import Basic

from tests.dead_letters.conftest import OTTO, Desk
from tests.dead_letters.letters import arrived, headers, properties
from tests.journeys.messages import encoded, recharge, result
from tests.workers import until
from wallet_worker.broker.amqp.properties import unmarshal
from wallet_worker.dead_letters.intake.record import take_in
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.states import Action


@pytest.mark.need(2)
async def test_bytes_headers_and_properties_are_kept_as_they_came(desk: Desk) -> None:
    body = bytes(range(256)) * 300
    message_headers = headers("MALFORMED", "no JSON", x_theirs=bytearray(b"\xff\x00"))
    await desk.take_in(arrived(body, message_headers, message_id="M-1", app_id="them"))

    (letter_id,) = await desk.ids()
    whole = (await desk.operations.letter(OTTO, letter_id)).whole

    kept: Basic.Properties = unmarshal(
        await desk.owner.fetchval("SELECT properties FROM dead_letters WHERE letter_id = $1", letter_id)
    )
    assert whole.body == body
    assert (kept.message_id, kept.app_id, kept.headers) == (
        "M-1",
        "them",
        properties(message_headers).headers,
    )
    assert whole.headers["x-theirs"] == r"\xff\x00"
    assert (whole.exchange, whole.routing_key) == ("wallet.commands", "order.recharge")


@pytest.mark.need(2)
async def test_taking_in_twice_makes_one_record(desk: Desk) -> None:
    letter = arrived(recharge("user-1"))

    await desk.take_in(letter, letter)
    taken = await desk.take_in(letter)

    assert (taken.new, taken.known) == ((), 1)
    assert len(await desk.ids()) == 1
    assert await desk.owner.fetchval("SELECT times FROM dead_letter_attempts") == 3


@pytest.mark.need(2)
async def test_two_keepers_at_once_make_one_record(desk: Desk) -> None:
    letters = [arrived(recharge("user-1")) for _ in range(20)]

    ended = await asyncio.gather(
        *(desk.take_in(*several) for several in (letters, reversed(letters))), return_exceptions=True
    )

    assert len(await desk.ids()) == 20
    assert sum(isinstance(item, BaseException) for item in ended) <= 1  # who lost the race begins again


@pytest.mark.need(2)
async def test_the_brokers_own_marks_make_no_other_letter(desk: Desk) -> None:
    message_headers = headers()
    body = encoded(recharge("user-1"))

    await desk.take_in(
        arrived(body, message_headers),
        arrived(body, message_headers | {"x-delivery-count": 3, "x-acquired-count": 4}),
    )

    assert len(await desk.ids()) == 1


@pytest.mark.need(2)
async def test_two_letters_of_the_same_bytes_are_two(desk: Desk) -> None:
    body = encoded(recharge("user-1"))

    await desk.take_in(arrived(body, headers()), arrived(body, headers()))

    assert len(await desk.ids()) == 2


@pytest.mark.need(2)
async def test_what_was_closed_waits_again_when_it_is_sent_once_more(desk: Desk) -> None:
    letter = arrived(recharge("user-1"))
    again = arrived(letter.body, {}, redelivered=False)
    crash = arrived(letter.body, {}, redelivered=True)
    await desk.take_in(again)
    (letter_id,) = await desk.ids()
    plan = await desk.operations.plan(OTTO, Action.DISCARD, Filter(), reason="a test")
    await desk.operations.execute(OTTO, plan.token)

    await desk.take_in(crash)
    after_crash = await desk.state(letter_id)
    await desk.take_in(again)

    assert (after_crash, await desk.state(letter_id)) == ("discarded", "waiting")


@pytest.mark.need(3)
async def test_reason_detail_attempts_worker_and_trace(desk: Desk) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    message_headers = headers(
        "AMOUNT_MISMATCH", "the amount is not that of the order", source="payment.results", traceparent=trace
    )
    await desk.take_in(arrived(result("R-1"), message_headers))

    (letter_id,) = await desk.ids()
    found = await desk.operations.letter(OTTO, letter_id)

    assert (found.whole.line.reason, found.whole.line.detail) == (
        "AMOUNT_MISMATCH",
        "the amount is not that of the order",
    )
    assert (found.whole.worker, found.whole.trace_id) == ("0.0.0 test:1", trace.split("-")[1])
    (attempt,) = found.attempts
    assert attempt.first_seen.isoformat().startswith("2026-01-02T03:04:05")


@pytest.mark.need(5)
async def test_no_letter_appears_below_one_that_was_seen(desk: Desk) -> None:
    locked = """
        SELECT EXISTS (
            SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()
        )
    """
    async with desk.database.transaction() as connection:
        now = await connection.fetchval("SELECT clock_timestamp()")
        await take_in(connection, [arrived(recharge("user-1")) for _ in range(3)], now)
        later = [arrived(recharge("user-2")) for _ in range(2)]
        second = asyncio.create_task(desk.take_in(*later))
        waiting = asyncio.create_task(until(desk.owner, locked, True))  # noqa: FBT003 -- what the query says
        await asyncio.wait({second, waiting}, return_when=asyncio.FIRST_COMPLETED)
        seen = await desk.operations.count(OTTO, Filter())
    await second
    waiting.cancel()
    await asyncio.wait({waiting})

    first, last = [await desk.ids(Filter(user_id=user_id)) for user_id in ("user-1", "user-2")]
    assert seen == 0
    assert max(first) < min(last)
