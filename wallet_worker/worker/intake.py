"""Where the messages of a batch come from: the inbox, or a table."""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, TypeAlias

import asyncpg

from wallet_worker.broker.inbox import Envelope
from wallet_worker.store.errors import waited_for

TakeDue: TypeAlias = Callable[[asyncpg.Connection, int], Awaitable[Sequence[Envelope]]]
"""Lock and return up to so many due messages of a table."""


class Arrived(NamedTuple):
    """Messages that were taken from the inbox."""

    envelopes: Sequence[Envelope]

    async def take(self, _: asyncpg.Connection) -> Sequence[Envelope]:
        """Return the messages."""
        return self.envelopes

    def halves(self, taken: Sequence[Envelope]) -> "tuple[Arrived, Arrived]":
        """Return the first and the second half."""
        return Arrived(taken[: len(taken) // 2]), Arrived(taken[len(taken) // 2 :])


class DueRows(NamedTuple):
    """Up to `limit` rows of a table that are due, each locked by the transaction that applies it."""

    take_due: TakeDue
    limit: int

    async def take(self, connection: asyncpg.Connection) -> Sequence[Envelope]:
        """Lock and return the rows that are due. A failure to do so is not a message's fault."""
        with waited_for():
            return await self.take_due(connection, self.limit)

    def halves(self, taken: Sequence[Envelope]) -> "tuple[DueRows, DueRows]":
        """Return two that take half of the rows each, whichever are due then."""
        return self._replace(limit=len(taken) // 2), self._replace(limit=len(taken) - len(taken) // 2)
