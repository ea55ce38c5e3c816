"""The harness itself: in calm weather it finds nothing wrong, and in any weather it comes to an end."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, cast

import pytest

from tests.faults import chaos, load
from tests.faults import world as worlds
from tests.faults.conftest import MakeWorld
from tests.faults.load import Load
from tests.faults.model import Channel
from tests.faults.notebook import Answer
from tests.faults.wire import Letter, Sender
from tests.faults.world import NotQuietError
from tests.servers import Servers
from wallet_worker.core.orders import ORDER_SPECS
from wallet_worker.failpoints import Failpoint

SPENDING = {f"order.{verb}.v1" for verb in ("withdraw", "transfer", "refund", "hold", "capture", "release")}

COMMANDED = sum(not spec.is_own for spec in ORDER_SPECS.values())
"""How many types of orders a command asks for."""

KINDS_OF_ORDERS = """
SELECT count(DISTINCT o.order_type)
FROM orders o
JOIN accounts a USING (account_id)
WHERE a.user_id LIKE $1
"""

EXPIRED = "SELECT max(status) FROM orders WHERE status = 'expired' AND order_type = $1"


async def test_in_calm_weather_every_invariant_holds(make_world: MakeWorld) -> None:
    async with make_world(rate=100.0, expiring=True) as world:

        async def until_all_was_met() -> None:
            await world.until("SELECT count(*) > 250 FROM orders WHERE order_type = 'recharge'", wanted=True)
            for users in ("u-%", "rich-%"):
                await world.until(KINDS_OF_ORDERS, COMMANDED, users)
            for order_type in ("recharge", "hold"):
                await world.until(EXPIRED, "expired", order_type)
            await world.until("SELECT bool_or(late) FROM orders", wanted=True)

        await world.under_load(until_all_was_met)

        violations = await world.judge()

        assert violations == []
        model = world.model()
        assert {note.fields["type"] for note in model.spent.values() if note.expects == "OK"} == SPENDING
        assert {note.fields["type"] for note in model.spent.values() if note.expects != "OK"} == SPENDING
        assert model.poison
        assert model.conflicts
        assert model.calls.keys() == world.heard.replies.keys()
        assert world.heard.dead_letters.keys() >= model.poison.keys()


async def test_a_broker_that_stays_away_is_reported_and_not_waited_for(
    make_world: MakeWorld, breakable: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make_world(workers=1, accounts=1) as world:

        async def freeze_the_broker() -> None:
            monkeypatch.setattr(worlds, "QUIET_SECONDS", 0.5)
            breakable.broker.freeze()
            await asyncio.sleep(0.3)

        try:
            with pytest.raises(NotQuietError, match="the broker does not take the load"):
                await world.under_load(freeze_the_broker)
        finally:
            breakable.broker.thaw()
        assert not world.load._sending


async def test_a_load_that_the_broker_does_not_take_is_a_violation_in_the_report(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stuck(*_: object, **__: object) -> NoReturn:
        raise NotQuietError("the broker does not take the load")

    monkeypatch.setattr(chaos, "world", stuck)

    report = await chaos.run(cast("Servers", None), "", tmp_path, seed=7, minutes=1.0)

    assert [str(violation) for violation in report.violations] == [
        "invariant 8: the broker does not take the load"
    ]
    assert report.failures == []


@dataclass
class SlowSender:
    """Keeps what is sent, and confirms nothing until it may."""

    sent: list[Letter] = field(default_factory=list)
    confirming: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, letters: Sequence[Letter]) -> list[Answer]:
        self.sent += letters
        await self.confirming.wait()
        return [Answer.CONFIRMED for _ in letters]

    async def send_until_confirmed(self, letters: Sequence[Letter]) -> None:
        await self.send(letters)


async def test_what_must_be_sent_waits_while_a_slow_broker_holds_all_senders_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(load, "TICK_SECONDS", 0.001)
    monkeypatch.setattr(load, "SENDINGS_MAX", 3)
    sender, stopping = SlowSender(), asyncio.Event()
    slow = Load(cast("Sender", sender), 1, accounts=1, rate=1_000)
    running = asyncio.create_task(slow.run(stopping))
    async with asyncio.timeout(10):
        while len(slow._sending) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        opening = next(item.note for item in sender.sent if item.note.fields["user_id"].startswith("rich-"))

        slow.hear("account.opened.v1", opening.serial_no)
        (fortune,) = slow._due
        await asyncio.sleep(0.05)  # ticks enough to lose it
        sender.confirming.set()
        while fortune not in sender.sent:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        stopping.set()
        await running
        await slow.settle(1)


def test_a_report_says_how_much_of_each_kind_of_order_was_applied() -> None:
    statuses = [("order.hold.v1", "applied"), ("order.hold.v1", "refused"), ("account.open.v1", "applied")]
    statuses += [("order.recharge.v1", "applied")] * 2 + [("order.recharge.v1", "refused")]

    shares = chaos.accepted({"command_type": name, "status": status} for name, status in statuses)

    assert shares == {"hold": 50, "recharge": 67}
    report = chaos.Report(seed=7, minutes=1.0, accepted=shares)
    assert "applied, of a hundred of each kind: hold 50, recharge 67" in report.lines()


async def test_a_worker_that_dies_while_it_lets_orders_expire_leaves_them_to_the_next(
    make_world: MakeWorld,
) -> None:
    """Chaos lets orders expire for that: here is what it rests on."""
    async with make_world(workers=1, accounts=1, expiring=True) as world:
        unpaid = [world.load.recharge(Channel.SILENT) for _ in range(20)]
        await world.sender.send_until_confirmed(unpaid)
        async with asyncio.timeout(30):
            while len(world.heard.requests) < len(unpaid):  # noqa: ASYNC110 -- then all are acknowledged too
                await asyncio.sleep(0.05)

        assert await world.fleet.dies_at(world.fleet.slots[0], Failpoint.BEFORE_COMMIT, 20)

        assert await world.judge() == []
        assert await world.value("SELECT count(*) FROM orders WHERE status = 'expired'") == len(unpaid)
