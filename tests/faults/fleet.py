"""Worker processes that are started again whenever they end, as an orchestrator would, and how each of them ended."""

import asyncio
import signal
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.workers import WorkerProcess, Workers

RESTART_SECONDS = 0.2
ANSWER_SECONDS = 5.0
LOG_LINES = 15


@dataclass(slots=True)
class Slot:
    """A place for one worker. `next_settings` are for the worker that comes next, and for it alone."""

    worker: WorkerProcess | None = None
    next_settings: dict[str, str] = field(default_factory=dict)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Fleet:
    """Keeps `size` workers running, all of them with these settings.

    A worker may end because it was killed or told to stop, and not otherwise: what ends by itself is a surprise.
    """

    def __init__(self, workers: Workers, size: int, settings: Mapping[str, str]) -> None:
        self._workers = workers
        self._settings = dict(settings)
        self.slots = [Slot() for _ in range(size)]
        self._expected: set[int] = set()
        self._stopping = False
        self.may_start = asyncio.Event()
        """Cleared to have none come after one that has ended, until it is set again."""
        self.may_start.set()
        self.kills = 0
        self.stops = 0
        self.surprises: list[str] = []
        self.may_crash = False
        """Whether dying by a signal is what the test is about."""
        self.crashes = 0
        self.died_at: Counter[str] = Counter()
        """How often a worker has killed itself at each failpoint."""

    @property
    def running(self) -> list[WorkerProcess]:
        """The workers there are at this moment."""
        return [
            slot.worker
            for slot in self.slots
            if slot.worker is not None and slot.worker.process.returncode is None
        ]

    async def run(self) -> None:
        """Keep the workers running until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number, slot in enumerate(self.slots):
                group.create_task(self._keep(slot), name=f"worker {number}")

    async def kill(self, slot: Slot, **next_settings: str) -> None:
        """The slot's worker is gone by SIGKILL; the next one starts with these settings beside its own."""
        if slot.worker is not None and slot.worker.process.returncode is None:
            slot.next_settings = next_settings
            self._expected.add(slot.worker.pid)
            self.kills += 1
            await slot.worker.kill()

    async def replace(self, slot: Slot) -> None:
        """The slot's worker is told to stop, and another comes when it has; fails if it does not end well."""
        worker = slot.worker
        if worker is None or worker.process.returncode is not None:
            return
        self._expected.add(worker.pid)
        self.stops += 1
        try:
            status = await worker.stop()
        except TimeoutError:
            self.surprises.append(f"a worker that was told to stop did not:\n{tail(worker)}")
            await worker.kill()
            return
        if status not in {0, -signal.SIGKILL}:  # another fault may have killed it meanwhile
            self.surprises.append(f"a worker that was told to stop ended with {status}:\n{tail(worker)}")

    async def dies_at(self, slot: Slot, failpoint: str, seconds: float) -> bool:
        """Have the slot's worker killed, and the next one kill itself at a failpoint; return whether it came there."""
        await self.kill(slot, WALLET_FAILPOINT=failpoint)
        slot.ended.clear()
        try:
            async with asyncio.timeout(seconds):
                await slot.ended.wait()
        except TimeoutError:
            await self.kill(slot)
            return False
        return True

    async def until_ready(self, seconds: float) -> None:
        """Wait until every slot has a worker that says that it is ready."""
        async with asyncio.timeout(seconds):
            while not await self.is_ready():  # noqa: ASYNC110 -- other processes send no signal
                await asyncio.sleep(0.05)

    async def is_ready(self) -> bool:
        """Return whether every slot has a worker that says that it is ready."""
        ready = await self.ready()
        return len(ready) == len(self.slots) and all(ready)

    async def ready(self) -> list[bool]:
        """Return what each running worker says of itself; False for one that does not answer in time."""
        return await asyncio.gather(*(_is_ready(worker) for worker in self.running))

    async def stop(self) -> None:
        """All workers are told to stop, and have; none comes after them."""
        self._stopping = True
        await asyncio.gather(*(self.replace(slot) for slot in self.slots))

    async def _keep(self, slot: Slot) -> None:
        while not self._stopping:
            await self.may_start.wait()
            settings, slot.next_settings = slot.next_settings, {}
            slot.worker = await self._workers.launch(**(self._settings | settings))
            status = await slot.worker.process.wait()
            slot.ended.set()
            if slot.worker.pid in self._expected:
                self._expected.discard(slot.worker.pid)
            elif status == -signal.SIGKILL and "WALLET_FAILPOINT" in settings:
                self.kills += 1
                self.died_at[settings["WALLET_FAILPOINT"].partition(":")[0]] += 1
            elif status < 0 and self.may_crash:
                self.crashes += 1
            else:
                self.surprises.append(f"a worker ended by itself with {status}:\n{tail(slot.worker)}")
            await asyncio.sleep(RESTART_SECONDS)


async def _is_ready(worker: WorkerProcess) -> bool:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await worker.is_ready()
    except (IndexError, ValueError, TimeoutError):  # it died or was frozen while it answered
        return False


def tail(worker: WorkerProcess) -> str:
    """Return the end of a worker's log."""
    return "\n".join(worker.log().splitlines()[-LOG_LINES:])
