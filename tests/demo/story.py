"""The story: send everything, wait until all is quiet, and gather what there is to see."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import asyncpg
from aiormq.channel import Channel
from pamqp.commands import Basic

from tests.demo import look
from tests.demo.accounting import Found
from tests.demo.fates import ASKED_MOODS
from tests.demo.place import Place
from tests.demo.plan import Act, Plan, Sending
from tests.demo.processes import Gateway, Member
from tests.demo.screen import Phase, Screen
from tests.servers.server import ServerFailed
from wallet_schemas.codes import Code
from wallet_schemas.commands import Outcome
from wallet_schemas.events import AccountView, EntryView
from wallet_schemas.names import CONTENT_TYPE, WALLET_COMMANDS
from wallet_schemas.values import OrderStatus, OutcomeStatus
from wallet_worker.broker.connection import (
    CONNECTION_ERRORS,
    RPC_SECONDS,
    BrokerUnavailableError,
    open_channel,
    open_connection,
)
from wallet_worker.client import WalletClient, WalletError

IN_FLIGHT: Final = 400  # enough that the worker's batches grow; the client allows 500 unconfirmed
ANSWER_SECONDS: Final = 60.0  # nothing is sent twice by itself, so a slow machine must be given time
LOOK_EVERY_SECONDS: Final = 0.25
QUIET_SECONDS: Final = 30.0  # without anything new for so long, what is missing will not come
SLOW_CHANNELS: Final = tuple(
    channel for behaviour in ASKED_MOODS for channel in (behaviour.channel, behaviour.refund_channel)
)
BAD_ROUTING_KEY: Final = "order.recharge"

TITLES: Final = {
    Act.OPEN: "opening accounts",
    Act.RECHARGE: "recharging, with mistakes",
    Act.AGAIN: "repeating some commands",
    Act.SPEND: "withdrawing, transferring, refunding, holding",
    Act.USE: "capturing holds",
    Act.END: "unfreezing, closing, releasing",
    Act.LAST: "cancelling, using closed accounts and ended holds",
}
SETTLING: Final = "results of the gateway"


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
    except* (
        ServerFailed,
        WalletError,
        BrokerUnavailableError,
        asyncpg.PostgresError,
        *CONNECTION_ERRORS,
    ) as group:
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
        open_connection(here.amqp_url, "wallet demo: bad input") as connection,
        _database(here.database_url) as database,
    ):
        channel = await open_channel(connection, confirms=True)
        sender = Sender(wallet, channel, found, latencies)
        with screen.acts():
            await _act(Act.OPEN, plan, screen, sender, phases)
            with screen.phase(SETTLING, plan.settling) as phase:
                phases[SETTLING] = phase
                settling = Settling(phase, channel, database, gateway)
                async with asyncio.TaskGroup() as group:
                    watching = group.create_task(settling.watch(), name="settling")
                    await _act(Act.RECHARGE, plan, screen, sender, phases)
                    settled_meanwhile = phase.done
                    await _act(Act.AGAIN, plan, screen, sender, phases)
                    quiet = await settling.until(Status.is_paid)
                    await _act(Act.SPEND, plan, screen, sender, phases)
                    await _act(Act.USE, plan, screen, sender, phases)
                    quiet = await settling.until(Status.is_quiet) and quiet
                    await _act(Act.END, plan, screen, sender, phases)
                    await _act(Act.LAST, plan, screen, sender, phases)
                    quiet = await settling.until(Status.is_quiet) and quiet
                    watching.cancel()
        found.dead_letters = await look.dead_letters(here.amqp_url, {item.label for item in plan})
        found.commands = await look.commands(database)
        found.orders, found.late = await look.orders(database)
        found.balances_minor, found.reserved_minor = await look.balances_minor(database)
        user_id, currency = plan.accounts[0]
        pages = [page async for page in wallet.statement_pages(user_id, currency)]
    return Seen(
        found=found,
        phases=phases,
        latencies_seconds=sorted(latencies),
        account=pages[-1].account,
        entries=[entry for page in pages for entry in page.entries],
        quiet=quiet,
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
        for item in waiting:
            if item.command is None:
                await self._publish(item)
                phase.count("malformed")
                continue
            begun = time.perf_counter()
            outcome = await self._wallet.apply(item.command)
            self._latencies_seconds.append(time.perf_counter() - begun)
            self._found.answers[item.label] = outcome
            phase.count(_kind(outcome))

    async def _publish(self, sending: Sending) -> None:
        """The broker has what no client would send."""
        await self._channel.basic_publish(
            sending.body,
            exchange=WALLET_COMMANDS,
            routing_key=BAD_ROUTING_KEY,
            properties=Basic.Properties(content_type=CONTENT_TYPE, delivery_mode=2, message_id=sending.label),
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
    """Waits for the gateway, and for the wallet's own clock: looks, again and again, how far it is."""

    def __init__(
        self, phase: Phase, channel: Channel, database: asyncpg.Connection, gateway: Gateway
    ) -> None:
        self._phase = phase
        self._channel = channel
        self._database = database
        self._gateway = gateway
        self._looks: list[Status] = []
        self._looked = asyncio.Event()

    async def watch(self) -> None:
        """Never returns; the screen shows how far it is."""
        while True:
            self._looks.append(await self._look())
            self._looked.set()
            await asyncio.sleep(LOOK_EVERY_SECONDS)  # queues and tables send no signal

    async def until(self, is_reached: Callable[["Status"], bool]) -> bool:
        """Return whether it came so far, seen twice: False when nothing new has come for too long."""
        self._looks.clear()  # they are of the time before what was sent last
        changed_at = time.monotonic()
        while True:
            self._looked.clear()
            await self._looked.wait()
            now, last = self._looks[-1], self._looks[-2] if len(self._looks) > 1 else None
            # Twice the same: a batch in the worker's hands is in no queue.
            if now == last and is_reached(now):
                return True
            if now != last:
                changed_at = time.monotonic()
            elif time.monotonic() > changed_at + QUIET_SECONDS:
                return False

    async def _look(self) -> "Status":
        statuses = await look.statuses(self._database)
        self._phase.show(
            sum(
                number
                for status, number in statuses.items()
                if status not in {OrderStatus.PENDING, OrderStatus.ACTIVE}
            ),
            statuses,
        )
        return Status(
            statuses=statuses,
            unsettled=await look.unsettled(self._database, SLOW_CHANNELS),
            due=await look.due(self._database),
            unpublished=await look.outbox(self._database),
            depths=await look.depths(self._channel),
            answers_waiting=await asyncio.to_thread(self._gateway.answers_waiting),
        )


@dataclass(frozen=True, slots=True)
class Status:
    """How far it is: what still waits, and what has come."""

    statuses: Mapping[str, int]
    unsettled: int
    due: int
    unpublished: int
    depths: look.Depths
    answers_waiting: int

    def is_paid(self) -> bool:
        """Whether the gateway has spoken of everything of which it speaks at once."""
        return self.unsettled == 0 and self.depths.work == 0

    def is_quiet(self) -> bool:
        """Whether nothing is on its way any more, and nothing comes by itself."""
        return self.is_paid() and self.due == 0 and self.unpublished == 0 and self.answers_waiting == 0


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
