"""What every operation works with: the database, the worker's rules and keys, and the limits of a deployment."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import update_wrapper
from typing import Any, Final, ParamSpec, TypeVar

import asyncpg

from wallet_schemas.signature import Keys
from wallet_worker.core.context import Policy
from wallet_worker.dead_letters.model.errors import BusyError, NotFoundError
from wallet_worker.dead_letters.replay.lineage import Lineage
from wallet_worker.dead_letters.replay.predict import Predictor
from wallet_worker.settings.operators import ApprovalLimits
from wallet_worker.store.database import Database
from wallet_worker.store.dead_letters import letters as letters_table
from wallet_worker.store.dead_letters.letters import RowFilter, WholeLetterRow
from wallet_worker.store.errors import ConflictError

_CONFLICTS_MAX: Final = 3  # each may wait as long as the database allows for a lock
_CONFLICT_SECONDS: Final = 0.1

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Desk:
    """What operators work at. `database` is opened under OPERATOR_ROLE, and closed by its opener.

    `rules` and `keys` are the worker's own: predictions are made with them.
    """

    database: Database
    rules: Policy
    keys: Keys
    limits: ApprovalLimits
    environment: str
    """The deployment, as it stands in what people sign."""

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[asyncpg.Connection]:
        """Give a connection for searching: it sees one state of the database and only reads."""
        async with self.database.snapshot() as connection:
            await custom_plans(connection)
            yield connection

    def lineage(self, *, remembers: bool) -> Lineage:
        """Return a new lineage; with `remembers`, for one plan: it predicts each message once."""
        return Lineage(Predictor(self.rules, self.keys, remembers=remembers))


async def custom_plans(connection: asyncpg.Connection) -> None:
    """Plan each statement of the transaction for its arguments: most parts of a filter are absent."""
    await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")


async def whole_letter(connection: asyncpg.Connection, letter_id: int) -> WholeLetterRow:
    """Return a letter with its content; raises NotFoundError."""
    rows = await letters_table.wholes(connection, RowFilter(ids=[letter_id]), after=None, limit=1)
    if not rows:
        msg = f"there is no dead letter {letter_id}"
        raise NotFoundError(msg)
    return rows[0]


def retry_on_conflict(work: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Return `work`, which begins again after each lost race; raises BusyError after the third."""

    async def retried(*args: P.args, **kwargs: P.kwargs) -> T:
        for conflict in range(_CONFLICTS_MAX):
            try:
                return await work(*args, **kwargs)
            except ConflictError:
                await asyncio.sleep(_CONFLICT_SECONDS * conflict)
        msg = "somebody else is at these letters; nothing was done. Try it again in a moment"
        raise BusyError(msg)

    update_wrapper(retried, work)
    return retried
