"""The story: send everything, wait until all is quiet, and gather what there is to see."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import asyncpg
from aiormq.channel import Channel
from pamqp.commands import Basic

from payment_simulator.moods import Mood
from schemas.codes import Code
from schemas.commands import Outcome
from schemas.events import AccountView, EntryView
from schemas.names import CONTENT_TYPE, WALLET_COMMANDS
from schemas.values import OrderStatus, OutcomeStatus
from tests.demo import look
from tests.demo.accounting import Found
from tests.demo.place import Place
from tests.demo.plan import FATES, Act, Plan, Sending
from tests.demo.processes import Gateway, Member
from tests.demo.screen import Phase, Screen
from tests.servers.server import ServerFailed
from wallet_worker.broker.connection import (
    FAILURES,
    RPC_SECONDS,
    BrokerUnavailableError,
    connected,
    open_channel,
)
from wallet_worker.client import WalletClient, WalletError

IN_FLIGHT: Final = 400  # enough that the worker's batches grow; the client allows 500 unconfirmed
ANSWER_SECONDS: Final = 60.0  # nothing is sent twice by itself, so a slow machine must be given time
LOOK_EVERY_SECONDS: Final = 0.25
QUIET_SECONDS: Final = 30.0  # without anything new for so long, what is missing will not come
WAITING_CHANNELS: Final = tuple(mood.channel for mood in Mood if FATES[mood].waits)
BAD_ROUTING_KEY: Final = "order.recharge"

TITLES: Final = {
    Act.OPEN: "opening accounts",
    Act.RECHARGE: "recharging, well and badly",
    Act.AGAIN: "sending some again",
}
SETTLING: Final = "hearing from the gateway"


@dataclass(frozen=True, slots=True)
class Seen:
    """What is left to tell when the story is over."""

    found: Found
    phases: Mapping[Act | str, Phase]
    latencies_seconds: Sequence[float]  # of every answer, sorted
    account: AccountView  # the busiest one
    entries: Sequence[EntryView]  # all of it
    quiet: bool  # whether all came that had to
    settled_meanwhile: int  # orders that had ended when the last recharge was answered


class StoryBroken(Exception):  # noqa: N818 - named as what happened
    """The story could not be told to its end; the text is for a person."""


async def play(plan: Plan, here: Place, screen: Screen, workers: Sequence[Member], gateway: Gateway) -> Seen:
    """Return what was seen of the whole story; raises StoryBroken, as when a process ends in the middle."""
    seen: Seen | None = None
    broken: list[str] = []
    try:
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(_watch([*workers, gateway], screen), name="watch")
            seen = await _play(plan, here, screen, gateway)
            watching.cancel()
    except* (ServerFailed, WalletError, BrokerUnavailableError, asyncpg.PostgresError, *FAILURES) as group:
        broken = sorted({str(error) for error in _leaves(group)})
    if seen is None:
        raise StoryBroken("\n".join(broken))
    return seen


def _leaves(group: BaseExceptionGroup[Exception]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


async def _play(plan: Plan, here: Place, screen: Screen, gateway: Gateway) -> Seen:
    found = Found()
    phases: dict[Act | str, Phase] = {}
    latencies: list[float] = []
    async with (
        WalletClient(here.amqp_url, timeout_seconds=ANSWER_SECONDS, name="wallet demo") as wallet,
        connected(here.amqp_url, "wallet demo: bad input") as connection,
        _database(here.database_url) as database,
    ):
        channel = await open_channel(connection, confirms=True)
        sender = Sender(wallet, channel, found, latencies)
        with screen.acts():
            await _act(Act.OPEN, plan, screen, sender, phases)
            with screen.phase(SETTLING, plan.settling) as phase:
                phases[SETTLING] = phase
                settling = Settling(plan, phase, channel, database, gateway)
                async with asyncio.TaskGroup() as group:
                    settled = group.create_task(settling.until_quiet(), name="settling")
                    await _act(Act.RECHARGE, plan, screen, sender, phases)
                    settled_meanwhile = phase.done
                    await _act(Act.AGAIN, plan, screen, sender, phases)
                    settling.all_sent = True
        found.dead_letters = await look.dead_letters(here.amqp_url, {one.label for one in plan})
        found.commands = await look.commands(database)
        found.orders = await look.orders(database)
        found.balances_minor = await look.balances_minor(database)
        user_id, currency = plan.accounts[0]
        pages = [page async for page in wallet.statement_pages(user_id, currency)]
    return Seen(
        found=found,
        phases=phases,
        latencies_seconds=sorted(latencies),
        account=pages[-1].account,
        entries=[entry for page in pages for entry in page.entries],
        quiet=settled.result(),
        settled_meanwhile=settled_meanwhile,
    )


async def _act(
    act: Act, plan: Plan, screen: Screen, sender: "Sender", phases: dict[Act | str, Phase]
) -> None:
    with screen.phase(TITLES[act], len(plan.acts[act])) as phase:
        phases[act] = phase
        await sender.send(plan.acts[act], phase)


class Sender:
    """Sends, many at a time, and notes each answer and how long it took."""

    def __init__(
        self, wallet: WalletClient, channel: Channel, found: Found, latencies_seconds: list[float]
    ) -> None:
        self._wallet = wallet
        self._channel = channel
        self._found = found
        self._latencies_seconds = latencies_seconds

    async def send(self, sendings: Iterable[Sending], phase: Phase) -> None:
        """Every one of them has its answer, or, if it is no command, is with the broker."""
        waiting = iter(sendings)
        async with asyncio.TaskGroup() as group:
            for number in range(IN_FLIGHT):
                group.create_task(self._send_on(waiting, phase), name=f"sender {number}")

    async def _send_on(self, waiting: Iterable[Sending], phase: Phase) -> None:
        for one in waiting:
            if one.command is None:
                await self._publish(one)
                phase.count("not even commands")
                continue
            begun = time.perf_counter()
            outcome = await self._wallet.apply(one.command)
            self._latencies_seconds.append(time.perf_counter() - begun)
            self._found.answers[one.label] = outcome
            phase.count(_kind(outcome))

    async def _publish(self, one: Sending) -> None:
        """The broker has what no client would send."""
        await self._channel.basic_publish(
            one.body,
            exchange=WALLET_COMMANDS,
            routing_key=BAD_ROUTING_KEY,
            properties=Basic.Properties(content_type=CONTENT_TYPE, delivery_mode=2, message_id=one.label),
            mandatory=True,
            timeout=RPC_SECONDS,
        )


def _kind(outcome: Outcome) -> str:
    if outcome.duplicate:
        return "repeated"
    if outcome.code is Code.SERIAL_CONFLICT:
        return "conflicts"
    return "applied" if outcome.status is OutcomeStatus.APPLIED else "refused"


class Settling:
    """Waits for the gateway: looks, again and again, how far it is."""

    def __init__(
        self, plan: Plan, phase: Phase, channel: Channel, database: asyncpg.Connection, gateway: Gateway
    ) -> None:
        self._plan = plan
        self._phase = phase
        self._channel = channel
        self._database = database
        self._gateway = gateway
        self.all_sent = False

    async def until_quiet(self) -> bool:
        """Return whether everything came that had to: False when nothing new has come for too long."""
        last: Status | None = None
        changed_at = time.monotonic()
        while True:
            now = await self._look()
            done = self.all_sent and now.is_done(self._plan)
            if done and now == last:  # twice the same: a batch in the worker's hands is in no queue
                return True
            if now != last or not self.all_sent:
                last, changed_at = now, time.monotonic()
            elif time.monotonic() > changed_at + QUIET_SECONDS:
                return False
            await asyncio.sleep(LOOK_EVERY_SECONDS)  # queues and tables send no signal

    async def _look(self) -> "Status":
        statuses = await look.statuses(self._database)
        self._phase.show(
            sum(number for status, number in statuses.items() if status != OrderStatus.PENDING), statuses
        )
        return Status(
            unsettled=await look.unsettled(self._database, WAITING_CHANNELS),
            unpublished=await look.outbox(self._database),
            depths=await look.depths(self._channel),
            gateway_answers=await asyncio.to_thread(lambda: self._gateway.answers_sent),
        )


@dataclass(frozen=True, slots=True)
class Status:
    """How far it is: what still waits, and what has come."""

    unsettled: int
    unpublished: int
    depths: look.Depths
    gateway_answers: int

    def is_done(self, plan: Plan) -> bool:
        """Whether nothing is on its way any more, as far as can be seen from outside."""
        return (
            self.unsettled == 0
            and self.unpublished == 0
            and self.depths.work == 0
            and self.depths.dead_letters >= plan.dead_letters.total()
            and self.gateway_answers >= plan.gateway_answers
        )


async def _watch(members: Sequence[Member], screen: Screen) -> None:
    """Never returns; raises ServerFailed when one of the processes has ended."""
    while True:
        for member in members:
            member.check()
        screen.tick()
        await asyncio.sleep(LOOK_EVERY_SECONDS)


@asynccontextmanager
async def _database(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url, timeout=RPC_SECONDS)
    try:
        yield connection
    finally:
        await connection.close()
