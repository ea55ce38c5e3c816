"""Messages on their way to the dead letters: as rows of the outbox, committed with everything else."""

import os
from datetime import datetime, timedelta

from wallet_schemas.codes import Code
from wallet_schemas.names import WALLET_DEAD_LETTERS
from wallet_worker.broker.amqp.properties import dead_letter, marshal
from wallet_worker.broker.amqp.seal import SealKey, seal
from wallet_worker.broker.inbox import Envelope
from wallet_worker.core.changes import OutboxMessage
from wallet_worker.core.endings import Ending
from wallet_worker.core.ids import uuid7
from wallet_worker.core.inbound import Source
from wallet_worker.store import orders, outbox, parked_results
from wallet_worker.store.clock import database_time
from wallet_worker.store.database import Database
from wallet_worker.worker.bounds import TIMINGS
from wallet_worker.worker.outbox import Outbox
from wallet_worker.worker.reporting import MessageResult


class DeadLettering:
    """Sends messages to the dead letters, under the name of this worker."""

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        *,
        worker: str,
        seal: SealKey | None = None,
        retry_after: timedelta = TIMINGS.retry_after,
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._worker = worker
        self._seal = seal
        self._retry_after = retry_after

    def outbox_message(self, envelope: Envelope, code: Code, detail: str, now: datetime) -> OutboxMessage:
        """Return the row of the outbox that brings a message to the dead letters, byte for byte."""
        properties = dead_letter(
            envelope.properties,
            code=code,
            detail=detail,
            source=envelope.incoming.source.value,
            exchange=envelope.exchange,
            routing_key=envelope.routing_key,
            attempts=envelope.deliveries + envelope.incoming.attempts + 1,
            first_seen=envelope.first_seen or now,
            worker=self._worker,
            sender=None if (sender := envelope.incoming.sender) is None else str(sender),
            dropped=envelope.dropped,
        )
        if self._seal is not None:
            seal(properties, envelope.incoming.body, self._seal)
        return OutboxMessage(
            message_id=uuid7(now, os.urandom(10)),
            exchange=WALLET_DEAD_LETTERS,
            routing_key=envelope.routing_key,
            body=envelope.incoming.body,
            properties=marshal(properties),
        )

    async def set_aside(self, envelope: Envelope, detail: str) -> list[MessageResult]:
        """Set a message aside on which the wallet failed, in a transaction of its own.

        A parked result that another worker has taken meanwhile is left to that worker, and has no ending here. An
        order that was due is not a message of any sender: it is looked at again later.
        """
        if envelope.incoming.source is Source.CLOCK:
            serial_no = envelope.incoming.body.decode()
            async with self._database.transaction() as connection:
                await orders.reschedule(connection, serial_no, self._retry_after)
            return [MessageResult(envelope, Ending.QUARANTINED, Code.INTERNAL, detail, serial_no)]
        parked_id = envelope.parked_id
        async with self._database.transaction() as connection:
            if parked_id is not None and not await parked_results.lock(connection, parked_id):
                return []
            now = await database_time(connection)
            row = self.outbox_message(envelope, Code.INTERNAL, detail, now)
            await outbox.insert(connection, [row], now)
            if parked_id is not None:
                await parked_results.delete(connection, [parked_id])
        await self._outbox.enqueue([row])
        return [MessageResult(envelope, Ending.QUARANTINED, Code.INTERNAL, detail, "")]
