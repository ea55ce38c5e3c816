"""Parts of a batch are written one after the other, beside whatever else is done, and nothing goes on in secret."""

import asyncio
import gc
from datetime import UTC, datetime
from typing import cast

import asyncpg
import pytest

from wallet_worker.core.changes import Changes
from wallet_worker.store import save
from wallet_worker.store.errors import ConflictError, StatementRejectedError
from wallet_worker.store.save import PipelinedWriter

NOW = datetime(2026, 1, 2, tzinfo=UTC)
CONNECTION = cast("asyncpg.Connection", None)


class Writing:
    """Takes the place of the database: each part takes three turns of the loop, and fails if it is told to."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.names: dict[int, str] = {}
        self.failing: dict[str, Exception] = {}

    def part(self, name: str) -> Changes:
        changes = Changes()
        self.names[id(changes)] = name
        return changes

    async def save(self, _: asyncpg.Connection, changes: Changes, now: datetime) -> None:
        assert now == NOW
        name = self.names[id(changes)]
        self.log.append(f"{name} begins")
        try:
            for _turn in range(3):
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.log.append(f"{name} is cut off")
            raise
        if name in self.failing:
            raise self.failing[name]
        self.log.append(f"{name} is written")


@pytest.fixture
def writing(monkeypatch: pytest.MonkeyPatch) -> Writing:
    """Have whatever is saved go nowhere."""
    writing = Writing()
    monkeypatch.setattr(save, "changes", writing.save)
    return writing


async def test_a_part_is_written_while_something_else_is_done(writing: Writing) -> None:
    async with PipelinedWriter(CONNECTION, NOW) as saving:
        await saving.yield_control()
        first, two, last = writing.part("one"), writing.part("two"), writing.part("last")
        await saving.begin(first)
        writing.log.append("decided")
        await saving.yield_control()
        writing.log.append("decided")
        await saving.begin(two)
        await saving.end(last)

    assert writing.log == [
        "decided",
        "one begins",
        "decided",
        "one is written",
        "two begins",
        "two is written",
        "last begins",
        "last is written",
    ]


async def test_what_cannot_be_written_comes_out_of_the_next_call(writing: Writing) -> None:
    writing.failing["one"] = StatementRejectedError("no")
    first, two = writing.part("one"), writing.part("two")

    async def write() -> None:
        async with PipelinedWriter(CONNECTION, NOW) as saving:
            await saving.begin(first)
            await saving.end(two)

    with pytest.raises(StatementRejectedError):
        await write()
    assert writing.log == ["one begins"]


async def test_what_cannot_be_written_comes_out_where_the_block_is_left(writing: Writing) -> None:
    writing.failing["one"] = ConflictError("commands_pkey")
    first = writing.part("one")

    async def write() -> None:
        async with PipelinedWriter(CONNECTION, NOW) as saving:
            await saving.begin(first)

    with pytest.raises(ConflictError):
        await write()


@pytest.mark.parametrize("fails_too", [False, True])
async def test_a_failure_beside_the_writing_is_the_one_that_counts_and_waits_for_it(
    writing: Writing, caplog: pytest.LogCaptureFixture, *, fails_too: bool
) -> None:
    """The connection is in use until then: whoever rolls back must not meet the writing."""
    if fails_too:
        writing.failing["one"] = StatementRejectedError("no")
    first = writing.part("one")

    async def write() -> None:
        async with PipelinedWriter(CONNECTION, NOW) as saving:
            await saving.begin(first)
            await saving.yield_control()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await write()
    assert writing.log == (["one begins"] if fails_too else ["one begins", "one is written"])
    assert asyncio.all_tasks() == {asyncio.current_task()}
    gc.collect()
    assert caplog.text == ""  # asyncio complains of a failure that nobody has looked at


@pytest.mark.parametrize("after_a_failure", [False, True])
async def test_when_the_worker_is_cut_off_the_writing_is_too(
    writing: Writing, *, after_a_failure: bool
) -> None:
    """Also while a failure beside it waits for the writing."""
    first = writing.part("one")

    async def write() -> None:
        async with PipelinedWriter(CONNECTION, NOW) as saving:
            await saving.begin(first)
            await saving.yield_control()
            if after_a_failure:
                raise ZeroDivisionError
            await asyncio.Event().wait()

    saving = asyncio.create_task(write())
    for _turn in range(3):
        await asyncio.sleep(0)
    saving.cancel()

    with pytest.raises(asyncio.CancelledError):
        await saving
    assert writing.log == ["one begins", "one is cut off"]
    assert asyncio.all_tasks() == {asyncio.current_task()}
