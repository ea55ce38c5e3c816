"""Where clients have their events posted, and what became of each."""

from typing import Final

from starlette.responses import Response

from wallet_worker.console import query_params
from wallet_worker.console.request import PageContext
from wallet_worker.store import webhooks as stored
from wallet_worker.store.webhooks import EndpointDelivery

DELIVERIES_A_PAGE: Final = 50
STATES: Final = ("waiting", "delivered", "given_up")


async def webhooks(visit: PageContext) -> Response:
    """Show every endpoint, and the deliveries of one."""
    params = visit.params
    client, name = params.get("client", ""), params.get("name", "")
    state = params.get("state", "")
    deliveries: list[EndpointDelivery] | None = None
    fault, status = None, 200
    try:
        before = query_params.number(params.get("before"))
        if state and state not in STATES:
            raise ValueError("No delivery is in such a state")  # noqa: TRY301 -- said as the others are
    except ValueError as exc:
        before, state, fault, status = None, "", f"{exc}.", 400
    async with visit.parts.operating.connection() as connection:
        endpoints = await stored.endpoints(connection)
        chosen = next((item for item in endpoints if (item.client, item.name) == (client, name)), None)
        backlog = await stored.backlog(connection)
        if chosen is not None:
            deliveries = await stored.deliveries(
                connection, chosen.endpoint_id, state=state or None, before=before, limit=DELIVERIES_A_PAGE
            )
    if name and chosen is None:
        fault, status = "There is no such endpoint.", 404
    return visit.show(
        "webhooks.html",
        status,
        params=params,
        endpoints=endpoints,
        chosen=chosen,
        backlog=backlog,
        deliveries=deliveries,
        states=STATES,
        a_page=DELIVERIES_A_PAGE,
        fault=fault,
    )
