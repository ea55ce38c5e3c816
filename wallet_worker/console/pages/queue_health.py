"""How broker, database and workers are doing."""

from datetime import UTC, datetime

from starlette.responses import Response

from wallet_worker.console.request import PageContext, result_or_error
from wallet_worker.console.warnings import warnings
from wallet_worker.store.reads.console import DatabaseHealth
from wallet_worker.store.reads.console import database_health as read_database_health


async def health(visit: PageContext) -> Response:
    """Show it; what is away is said in a sentence, and the rest is there."""
    depths = await visit.parts.queues.depths()
    condition, database_fault = await result_or_error(database_health(visit))
    overview, _ = (
        await result_or_error(visit.parts.operations.overview(visit.actor))
        if condition is not None
        else (None, None)
    )
    return visit.show(
        "health.html",
        warnings=warnings(depths, overview, condition, datetime.now(UTC)),
        depths=depths,
        condition=condition,
        database_fault=database_fault,
        overview=overview,
    )


async def database_health(visit: PageContext) -> DatabaseHealth:
    """Return how the database is doing; raises a StoreError."""
    async with visit.parts.reading.connection() as connection:
        return await read_database_health(connection)
