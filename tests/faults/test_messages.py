"""Rows 14 to 17, 24 and 26 to 28 of docs/faults.md: what senders do wrong, clocks, too much at once."""

import asyncio
import itertools
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import asyncpg
import psutil
import pytest
from aiormq.abc import DeliveredMessage

from tests.faults.conftest import MakeWorld
from tests.faults.gateway import OCCURRED_AT, gateway_result
from tests.faults.model import Channel
from tests.faults.notebook import Kind, Note
from tests.faults.scale import BACKLOG, FULL, PROGRAM, with_limits
from tests.faults.test_broker_faults import WAIT_SECONDS, only_worker
from tests.faults.test_worker_deaths import one_batch_of, silent
from tests.faults.wire import Ears, Letter
from tests.faults.world import WORKER, World
from tests.journeys.messages import encoded, result, signed
from tests.journeys.upstream import COMMANDS, DEAD_LETTERS, RESULTS
from tests.workers import KEYS
from wallet_schemas import parse
from wallet_schemas.names import (
    ATTEMPTS_HEADER,
    BODY_BYTES_KEPT,
    BODY_BYTES_MAX,
    REASON_HEADER,
    SOURCE_HEADER,
)

CORPUS = Path(__file__).parents[1] / "rules" / "contract" / "corpus"


async def test_row_14_duplicates_at_once_on_two_workers_have_one_effect(make_world: MakeWorld) -> None:
    async with make_world(workers=2, accounts=3) as world:
        fresh = [*world.load.some(40), *(world.load.probe() for _ in range(10))]
        with_reply = [replace(letter, note=replace(letter.note, wants_reply=True)) for letter in fresh]
        copies = [letter for letter in with_reply for _ in range(10)]
        world.load._random.shuffle(copies)
        await one_batch_of(world, copies)
        await world.until("SELECT count(*) FROM commands", 3 + 50)

        assert await world.judge() == []
        sent = world.model().calls
        replies = Counter(sent[number].serial_no for number in world.heard.replies)
        assert {replies[item.note.serial_no] for item in fresh} == {10}, "each copy has a reply of its own"
        logs = [worker.log() for worker in world.workers.started]
        assert all('"repeated"' in log for log in logs), "both workers had copies"


async def test_row_15_results_before_their_commands_wait_for_them_and_reordered_ones_end_alike(
    make_world: MakeWorld,
) -> None:
    async with make_world(workers=2, accounts=5) as world:
        early = [world.load.recharge(Channel.EARLY) for _ in range(60)]
        late = [world.load.recharge(Channel.LATE) for _ in range(60)]
        results = [
            gateway_result(
                item.note.serial_no, "succeeded", item.note.fields["amount"], item.note.fields["currency"]
            )
            for item in early
        ]
        await world.sender.send_until_confirmed(results)
        await world.until("SELECT count(*) FROM parked_results", 60)

        await world.sender.send_until_confirmed([*early, *late])
        await world.until("SELECT count(*) FROM orders WHERE status = 'succeeded'", 120)

        assert await world.judge() == []


async def test_row_15_a_result_whose_order_never_comes_is_a_dead_letter_in_the_end(
    make_world: MakeWorld,
) -> None:
    """It is looked at again after 5 s, 30 s and 5 min; here after fractions of a second."""
    async with make_world(workers=1, accounts=1, program=with_limits("hasty-parking")) as world:
        orphan = gateway_result("R-nobody-asked", "succeeded", "1.00", "TWD", Kind.FORGED)
        await world.sender.send_until_confirmed([orphan])

        assert await world.judge() == []
        assert world.heard.dead_letters == {orphan.note.mark: {"ORDER_NOT_FOUND"}}


async def test_row_16_a_serial_number_with_other_content_is_flagged_and_never_applied(
    make_world: MakeWorld,
) -> None:
    async with make_world(workers=2, accounts=3) as world:
        first = world.load.some(50)
        await world.sender.send_until_confirmed(first)
        await world.until("SELECT count(*) FROM orders", 50)
        conflicts = [world.load.conflict(item.note.serial_no) for item in first for _ in range(2)]
        await one_batch_of(world, conflicts)

        assert await world.judge() == []
        assert world.heard.dead_letters == {conflict.note.mark: {"SERIAL_CONFLICT"} for conflict in conflicts}


async def test_row_17_every_file_of_the_corpus_is_a_dead_letter_byte_for_byte_and_work_goes_on(
    make_world: MakeWorld,
) -> None:
    """From either queue, at once, for the reason that the contract has for it; good messages come last in both."""
    files = [path for path in sorted(CORPUS.rglob("*")) if path.is_file() and path.parent != CORPUS]
    bodies = {path.read_bytes() for path in files} | {b"x" * 2**20, b"[" * 2**20}
    poison = [Letter(Note(Kind.POISON, "", body), queue) for body in bodies for queue in ACCEPTED]
    async with make_world(workers=1, accounts=5) as world:
        worker = only_worker(world)
        async with dead_letters_by_source(world) as letters:
            await world.sender.send_until_confirmed(poison)
            await world.sender.send_until_confirmed(world.load.some(20))  # their results follow them
            await world.until("SELECT count(*) FROM orders WHERE status = 'succeeded'", 20)

            assert await world.judge() == []
            async with asyncio.timeout(WAIT_SECONDS):
                while len(letters) < len(poison):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
        assert len(bodies) > 150
        assert letters == {(item.exchange, kept(item.note.body)): [(reason(item), 1)] for item in poison}
        assert worker.process.returncode == 0


ACCEPTED = {COMMANDS: parse.COMMANDS, RESULTS: parse.RESULTS}


def kept(body: bytes) -> bytes:
    """Return what a dead letter has of a body: the beginning, where it is larger than a message may be."""
    return body if len(body) <= BODY_BYTES_MAX else body[:BODY_BYTES_KEPT]


def reason(letter: Letter) -> str:
    """Return why a body is no message for its queue, by the contract's own parser."""
    with pytest.raises(parse.Unreadable) as refused:
        parse.parse(letter.note.body, ACCEPTED[letter.exchange])
    return refused.value.code.value


Letters: TypeAlias = dict[tuple[str, bytes], list[tuple[str, int]]]
"""Source and body to reason and attempts, of each dead letter."""


@asynccontextmanager
async def dead_letters_by_source(world: World) -> AsyncIterator[Letters]:
    """Give what is heard of dead letters in a queue beside their own, as long as the block lasts."""
    letters: Letters = defaultdict(list)

    async def hear(message: DeliveredMessage) -> None:
        headers = message.header.properties.headers or {}
        why = (str(headers[REASON_HEADER]), int(str(headers[ATTEMPTS_HEADER])))
        letters[str(headers[SOURCE_HEADER]), message.body].append(why)

    ears = Ears(world.amqp_url, "harness.dead-letters", hear, exchange=DEAD_LETTERS)
    await ears.declare()
    listening = asyncio.create_task(ears.run(), name="dead letters by source")
    try:
        yield letters
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    assert ears.failures == []


JUMPING_CLOCK = """
CREATE SCHEMA jumping;
CREATE TABLE jumping.by (span interval);
INSERT INTO jumping.by VALUES ('0');
CREATE FUNCTION jumping.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE SECURITY DEFINER
    AS 'SELECT pg_catalog.clock_timestamp() + span FROM jumping.by';
GRANT USAGE ON SCHEMA jumping TO PUBLIC;
"""


async def test_row_24_a_clock_that_jumps_an_hour_changes_no_outcome_and_no_order(
    make_world: MakeWorld,
) -> None:
    """The worker takes its time from the database, and there the function that tells it is ours, and jumps.

    The machine's own clock cannot be set for one server alone. The worker's is set ahead in its own process.
    """
    async with make_world(workers=2, accounts=5, program=with_limits("clock-ahead,jumping-clock")) as world:
        owner = await asyncpg.connect(world.database_url)
        await owner.execute(JUMPING_CLOCK)
        for slot in world.fleet.slots:
            await world.fleet.kill(slot)

        async def jump() -> None:
            # Ahead in the end: what was put off while the clock was ahead is due when the time has come again.
            for span in ("1 hour", "-1 hour", "1 hour"):
                await asyncio.sleep(2)
                await owner.execute("UPDATE jumping.by SET span = $1::text::interval", span)
                await world.healed()

        await world.under_load(jump)
        backwards = await owner.fetchval(
            "SELECT count(*) FROM (SELECT created_at < lag(created_at) OVER (PARTITION BY account_id ORDER BY line_no)"
            " AS backwards FROM entries) lines WHERE backwards"
        )
        spread = await owner.fetchval("SELECT max(created_at) - min(created_at) > '50 min' FROM commands")
        await owner.close()

        assert await world.judge() == []
        assert backwards == 0
        assert spread, "the jump was seen"


async def test_row_26_a_result_that_no_key_signed_moves_nothing_and_is_told(make_world: MakeWorld) -> None:
    async with make_world(workers=1, accounts=1) as world:
        (order,) = [world.load.recharge(Channel.SILENT)]
        await world.sender.send_until_confirmed([order])
        await world.until("SELECT count(*) FROM orders", 1)
        number, fields = order.note.serial_no, order.note.fields

        def forged(gateway_ref: str) -> bytes:
            answer = result(
                number, amount=fields["amount"], currency=fields["currency"], gateway_ref=gateway_ref,
                occurred_at=OCCURRED_AT,
            )  # fmt: skip
            return encoded(answer)

        good = signed(forged("edited"))
        attempts = [
            (forged("unsigned"), {}),
            (forged("wrong"), {"x-signature": signed(forged("wrong"), secret="a guess")}),
            (forged("unknown"), {"x-signature": signed(forged("unknown"), key_id="k9")}),
            (forged("edited").replace(b"edited", b"Edited"), {"x-signature": good}),
            (forged("truncated"), {"x-signature": good[:-1]}),
            (forged("empty"), {"x-signature": ""}),
        ]
        letters = [Letter(Note(Kind.FORGED, number, body), RESULTS, headers) for body, headers in attempts]
        await world.sender.send_until_confirmed(letters)

        assert await world.judge(pending=1) == []
        assert world.heard.dead_letters == {letter.note.mark: {"BAD_SIGNATURE"} for letter in letters}
        heard = [line for line in only_log(world, "message.ended") if line["code"] == "BAD_SIGNATURE"]
        assert [line["number"] for line in heard] == [number] * len(attempts), "each is told"
        assert not any(secret in only_worker_log(world) for secret in KEYS.values())


async def test_row_27_a_long_backlog_is_worked_off_at_a_steady_rate_in_steady_memory(
    make_world: MakeWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four thousand messages in the suite, where little can be seen of either; a million in `make faults`."""
    async with make_world(workers=1, accounts=100, program=WORKER) as world:
        worker = only_worker(world)
        worker.freeze()
        for _ in range(BACKLOG // 500):
            await world.sender.send_until_confirmed(silent(world, 500))
        worker.thaw()
        marks: list[tuple[float, int]] = []
        patience_seconds = max(120.0, BACKLOG / 200)
        for share in (0.25, 0.5, 0.75, 1.0):
            await until_at_least(world, int(BACKLOG * share), seconds=patience_seconds)
            marks.append((time.monotonic(), resident_bytes(worker.pid)))

        quarters = [later - before for (before, _), (later, _) in itertools.pairwise(marks)]
        rate = BACKLOG * 0.75 / (marks[-1][0] - marks[0][0])
        with capsys.disabled():
            print(  # noqa: T201 -- the measurement
                f"\nbacklog of {BACKLOG:,}: {rate:,.0f} commands/s, quarters of {[round(q, 1) for q in quarters]} s, "
                f"memory {[f'{rss / 2**20:.0f} MiB' for _, rss in marks]}"
            )
        assert await world.judge(pending=BACKLOG, patience_seconds=patience_seconds) == []
        assert marks[-1][1] < marks[0][1] * 1.3 + 2**25
        if FULL:  # a rate is measured alone, and not among other tests
            assert max(quarters) < 1.5 * min(quarters) + 1


async def test_row_28_one_account_for_all_is_about_as_fast_as_many(
    make_world: MakeWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    """Within ten per cent in `make faults`. In the suite, among other tests, it is only measured."""
    count = 40_000 if FULL else 1_000
    turns = (1, 200, 1, 200) if FULL else (1, 200)
    seconds: dict[int, list[float]] = {1: [], 200: []}
    async with make_world(workers=1, accounts=200, program=PROGRAM) as world:
        worker = only_worker(world)
        everyone = world.load.accounts
        for turn, accounts in enumerate(turns, 1):
            world.load.accounts = everyone[:accounts]
            worker.freeze()
            orders = world.load.some(count)
            for start in range(0, count, 500):
                await world.sender.send_until_confirmed(orders[start : start + 500])
            begun = time.monotonic()
            worker.thaw()
            await world.until("SELECT count(*) FROM orders WHERE status = 'succeeded'", turn * count)
            seconds[accounts].append(time.monotonic() - begun)
        assert await world.judge() == []

    hot, spread = min(seconds[1]), min(seconds[200])
    with capsys.disabled():
        print(f"\n{count:,} recharges: one account {hot:.1f} s, 200 accounts {spread:.1f} s")  # noqa: T201
    if FULL:
        assert hot < spread * 1.1


async def test_row_28_nobody_waits_for_the_end_of_one_account_s_backlog(make_world: MakeWorld) -> None:
    """Everybody is answered in turn: that is seen in the order of the events, and takes no clock."""
    async with make_world(workers=1, accounts=20) as world:
        hot, *others = world.load.accounts
        orders = [
            world.load.recharge(Channel.SILENT, hot if number % 20 else others[number // 20 % len(others)])
            for number in range(1_200)
        ]
        await one_batch_of(world, orders)
        await world.until("SELECT count(*) FROM orders", 1_200)

        assert await world.judge(pending=1_200) == []
        answered = [number for number, event in world.heard.events if event == "order.pending.v1"]
        assert answered == [order.note.serial_no for order in orders]


async def until_at_least(world: World, orders: int, *, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while int(str(await world.value("SELECT count(*) FROM orders") or 0)) < orders:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


def resident_bytes(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)


def only_log(world: World, event: str) -> list[dict[str, object]]:
    (worker,) = world.workers.started
    return worker.events(event)


def only_worker_log(world: World) -> str:
    (worker,) = world.workers.started
    return worker.log()
