"""Payment results that came before their order: written to `parked_results`, and taken from there when due."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime

import asyncpg

from wallet_worker.broker.amqp.properties import marshal, unmarshal
from wallet_worker.broker.inbox import Envelope, envelope
from wallet_worker.broker.sender_policy import SenderPolicy
from wallet_worker.core.changes import Decision
from wallet_worker.core.endings import Ending
from wallet_worker.core.inbound import Source
from wallet_worker.store import parked_results
from wallet_worker.store.database import Database
from wallet_worker.store.errors import ConflictError, UnavailableError, waited_for
from wallet_worker.store.parked_results import ParkedResult
from wallet_worker.worker.reporting import MessageResult


async def take_due(senders: SenderPolicy, connection: asyncpg.Connection, limit: int) -> list[Envelope]:
    """Lock and return up to `limit` parked results that are due."""
    return [
        envelope(
            Source.RESULTS,
            row.body,
            unmarshal(row.properties),
            senders,
            exchange=row.exchange,
            routing_key=row.routing_key,
            attempts=row.attempts,
            first_seen=row.first_seen,
            parked_id=row.parked_id,
        )
        for row in await parked_results.take_due(connection, limit)
    ]


def parked(envelope: Envelope, number: str, decision: Decision, now: datetime) -> ParkedResult:
    """Return the row of a result that is to wait for the order of this number."""
    return ParkedResult(
        payment_order_no=number,
        exchange=envelope.exchange,
        routing_key=envelope.routing_key,
        properties=marshal(envelope.properties),
        body=envelope.incoming.body,
        attempts=envelope.incoming.attempts + 1,
        first_seen=envelope.first_seen or now,
        due_at=decision.due_at or now,
        parked_id=envelope.parked_id or 0,
    )


async def save(
    connection: asyncpg.Connection, rows: Sequence[ParkedResult], results: Sequence[MessageResult]
) -> None:
    """Write the rows that are to wait, and delete those of `results` that no longer do."""
    fresh = [row for row in rows if not row.parked_id]
    again = [row for row in rows if row.parked_id]
    over = [
        parked_id
        for envelope, ending, *_ in results
        if (parked_id := envelope.parked_id) is not None and ending is not Ending.PARKED
    ]
    if fresh:
        await parked_results.insert(connection, fresh)
    if again:
        await parked_results.reschedule(connection, again)
    if over:
        await parked_results.delete(connection, over)


async def wake(database: Database, serial_nos: Collection[str], *, besides: Collection[bytes]) -> None:
    """Mark what was parked for these orders as due, but for the bodies `besides`.

    After a failure it becomes due by itself.
    """
    if serial_nos:
        with suppress(UnavailableError, ConflictError), waited_for():
            async with database.connection() as connection:
                await parked_results.wake(connection, serial_nos, besides)
