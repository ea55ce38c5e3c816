"""Messages that were handed out before: a worker may have died of one of them.

    seen        which of them were counted before: each was in hand when a worker died
    count       each attempt, before the message is touched
    apply       the suspects alone, the others together
    clear       the counts, when the messages have ended

A message is set aside when workers have died of it too often. A fault of the database counts nothing: no worker died.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from wallet_worker.broker.inbox import Envelope
from wallet_worker.store import crash_suspects
from wallet_worker.store.database import Database
from wallet_worker.store.errors import ConflictError, InvariantBrokenError, StoreError, UnavailableError
from wallet_worker.worker.bounds import BOUNDS
from wallet_worker.worker.dead_lettering import DeadLettering
from wallet_worker.worker.reporting import MessageResult

Apply = Callable[[Sequence[Envelope]], Awaitable[list[MessageResult]]]


class Quarantine:
    """Applies redelivered messages, so that the one which kills workers does not take its neighbours with it."""

    def __init__(
        self,
        database: Database,
        dead_lettering: DeadLettering,
        apply: Apply,
        *,
        crashes_max: int = BOUNDS.crashes_max,
    ) -> None:
        self._database = database
        self._dead_lettering = dead_lettering
        self._apply = apply
        self._crashes_max = crashes_max
        self._attempts: dict[bytes, int] = {}
        """What this process has counted and not finished: a fault of the database counts nothing twice."""

    async def process(self, envelopes: Sequence[Envelope]) -> list[MessageResult]:
        """Apply messages that were handed out before.

        A message that was counted before was in hand when a worker died: it goes alone. The others only waited in a
        dying worker, however often, and go together.
        """
        fingerprints = [fingerprint(envelope) for envelope in envelopes]
        async with self._database.connection() as connection:
            # What this very process counted was interrupted by a fault of the database: no worker died of it.
            suspects = await crash_suspects.seen(connection, fingerprints) - self._attempts.keys()
        results: list[MessageResult] = []
        together: list[Envelope] = []
        for envelope, mark in zip(envelopes, fingerprints, strict=True):
            if mark in suspects:
                results += await self._process_counted(together)
                results += await self._process_counted([envelope])
                together = []
            else:
                together.append(envelope)
        return results + await self._process_counted(together)

    async def _process_counted(self, envelopes: Sequence[Envelope]) -> list[MessageResult]:
        """Apply messages of which a worker may die, and count the attempt before they are touched."""
        if not envelopes:
            return []
        fingerprints = {fingerprint(envelope) for envelope in envelopes}
        try:
            if uncounted := fingerprints - self._attempts.keys():
                async with self._database.connection() as connection:
                    self._attempts |= await crash_suspects.count_attempt(connection, uncounted)
            deaths = self._attempts[fingerprint(envelopes[0])] - 1
            if len(envelopes) == 1 and deaths >= self._crashes_max:
                results = await self._dead_lettering.set_aside(
                    envelopes[0], f"a worker died of it {deaths} times"
                )
            else:
                results = await self._apply(envelopes)
            await self._clear(fingerprints)
        except ConflictError as exc:
            msg = f"the suspects are locked: {exc}"
            raise UnavailableError(msg) from exc
        except (InvariantBrokenError, asyncio.CancelledError):
            # The worker ends in order, by its own will: it does not die of these messages.
            with suppress(StoreError):
                await self._clear(fingerprints)
            raise
        for mark in fingerprints:
            del self._attempts[mark]
        return results

    async def _clear(self, fingerprints: set[bytes]) -> None:
        async with self._database.connection() as connection:
            await crash_suspects.clear(connection, fingerprints)


def fingerprint(envelope: Envelope) -> bytes:
    """Return what a message is known by among the suspects.

    Its sender's message_id is part of it: the same body, sent often and in the hands of many workers, is not a
    suspect for that.
    """
    sent = f"{envelope.incoming.source}\0{envelope.properties.message_id or ''}\0"
    return hashlib.sha256(sent.encode(errors="surrogateescape") + envelope.incoming.body).digest()
