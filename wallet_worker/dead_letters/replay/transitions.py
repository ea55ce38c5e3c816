"""How operations and their replays change state without a person: each function runs in the caller's transaction."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import asyncpg
import structlog

from wallet_worker.dead_letters.model.states import LetterState, OperationState, ReplayState
from wallet_worker.store.clock import database_time
from wallet_worker.store.dead_letters import audit, letters, operations, replays
from wallet_worker.store.dead_letters.audit import KeeperEntry
from wallet_worker.store.dead_letters.operations import OperationRow
from wallet_worker.store.dead_letters.replays import ReplayEnd, ReplayProgress

log = structlog.get_logger(__name__)


async def fail(
    connection: asyncpg.Connection, operation_id: UUID, failed: Mapping[UUID, str], now: datetime
) -> int:
    """End replays that are not published, and have their letters wait again; return how many."""
    ends = [ReplayEnd(replay_id, ReplayState.FAILED, "", why) for replay_id, why in failed.items()]
    ended = await replays.end(connection, ends, now)
    await letters.move(
        connection,
        [row.letter_id for row in ended],
        before=(LetterState.REPLAYING.value, LetterState.EDITED.value),
        after=LetterState.WAITING.value,
        now=now,
    )
    deeds = [
        KeeperEntry("replay failed", failed[row.replay_id], row.letter_id, operation_id) for row in ended
    ]
    await audit.insert_of_keeper(connection, deeds, now)
    return len(ended)


async def stop(connection: asyncpg.Connection, operation_id: UUID, why: str, now: datetime) -> None:
    """Stop an operation by itself, and have what is not published wait again."""
    standing = f"it has stopped by itself: {why}"
    await operations.move(
        connection,
        operation_id,
        before=OperationState.RUNNING.value,
        after=OperationState.STOPPED.value,
        standing=standing,
        now=now,
    )
    await cancel_unpublished(connection, operation_id, standing, now)
    await audit.insert_of_keeper(connection, [KeeperEntry("stop", why, operation_id=operation_id)], now)
    log.error("replay.stopped", operation=str(operation_id), reason=why)


async def hold(connection: asyncpg.Connection, operation_id: UUID, why: str) -> bool:
    """Pause a running operation that cannot go on, until a person has looked; return whether it was running."""
    now = await database_time(connection)
    paused = await operations.move(
        connection,
        operation_id,
        before=OperationState.RUNNING.value,
        after=OperationState.PAUSED.value,
        standing=f"paused by itself, because it fails: {why}",
        now=now,
    )
    if paused:
        await audit.insert_of_keeper(connection, [KeeperEntry("pause", why, operation_id=operation_id)], now)
    return paused


async def end_stopped(
    connection: asyncpg.Connection, row: OperationRow, counts: ReplayProgress, now: datetime
) -> None:
    """Cancel what is not published, and end the operation once every outcome is known."""
    operation_id, stopped = row.operation_id, OperationState.STOPPED.value
    released = 0
    if counts.ordered:
        released = await cancel_unpublished(connection, operation_id, row.standing, now)
        await replays.assume_published(connection, operation_id, now)
    if counts.ordered == released and not counts.published:
        await operations.move(
            connection,
            operation_id,
            before=stopped,
            after=stopped,
            standing=row.standing,
            now=now,
            ended=True,
        )


async def wait_or_end(
    connection: asyncpg.Connection, operation_id: UUID, counts: ReplayProgress, now: datetime
) -> None:
    """End a running operation of which nothing is left to publish, if every outcome is known."""
    if counts.published:
        standing = f"everything is published; waiting for {counts.published:,} outcomes"
        await operations.set_status_text(connection, operation_id, standing)
        return
    standing = "done: every outcome is known"
    if counts.cancelled:
        standing = f"done; {counts.cancelled:,} given up without an outcome"
    await operations.move(
        connection,
        operation_id,
        before=OperationState.RUNNING.value,
        after=OperationState.DONE.value,
        standing=standing,
        now=now,
        ended=True,
    )
    log.info("replay.done", operation=str(operation_id), resolved=counts.resolved, failed=counts.failed)


async def cancel_unpublished(
    connection: asyncpg.Connection, operation_id: UUID, detail: str, now: datetime
) -> int:
    """Cancel the ordered replays of which no copy can be in flight; return how many letters wait again."""
    letter_ids = await replays.cancel(connection, operation_id, detail, now)
    if letter_ids:
        await letters.move(
            connection,
            letter_ids,
            before=(LetterState.REPLAYING.value, LetterState.EDITED.value),
            after=LetterState.WAITING.value,
            now=now,
            replays=-1,
        )
    return len(letter_ids)
