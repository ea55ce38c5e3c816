"""How broker, database and workers are doing."""

from starlette.responses import Response

from wallet_worker.console import lookups
from wallet_worker.console.request import Visit, or_sentence


async def health(visit: Visit) -> Response:
    """Show it; what is away is said in a sentence, and the rest is there."""
    depths = await visit.parts.queues.depths()
    condition, database_fault = await or_sentence(_condition(visit))
    overview, _ = (
        await or_sentence(visit.parts.operations.overview(visit.actor))
        if condition is not None
        else (None, None)
    )
    return visit.show(
        "health.html", depths=depths, condition=condition, database_fault=database_fault, overview=overview
    )


async def _condition(visit: Visit) -> lookups.Condition:
    async with visit.parts.reading.connection() as connection:
        return await lookups.condition(connection)
