"""The first page: what waits, for how long, why, and what is being done about it."""

from datetime import UTC, datetime

from starlette.responses import Response

from wallet_worker.console import labels
from wallet_worker.console.pages.queue_health import database_health
from wallet_worker.console.request import PageContext, result_or_error
from wallet_worker.console.warnings import warnings
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.states import LetterState

GROUPS_MAX = 30
OPERATIONS_MAX = 5


async def overview(visit: PageContext) -> Response:
    """Show it; what cannot be seen now is said in a sentence, and the rest is there."""
    operations, actor = visit.parts.operations, visit.actor
    numbers, fault = await result_or_error(operations.overview(actor))
    groups, _ = await result_or_error(operations.groups(actor, Filter())) if fault is None else (None, fault)
    recent, _ = (
        await result_or_error(operations.operations(actor, limit=OPERATIONS_MAX))
        if fault is None
        else (None, fault)
    )
    condition, _ = await result_or_error(database_health(visit)) if fault is None else (None, fault)
    depths = await visit.parts.queues.depths()
    return visit.show(
        "overview.html",
        warnings=warnings(depths, numbers, condition, datetime.now(UTC)),
        overview=numbers,
        groups=sorted(groups or [], key=labels.gravity)[:GROUPS_MAX],
        groups_more=max(0, len(groups or []) - GROUPS_MAX),
        operations=recent or [],
        depths=depths,
        fault=fault,
        LetterState=LetterState,
    )
