"""A user's orders and the history of an account, a page at a time."""

from collections.abc import Mapping
from typing import Final

from pydantic import ValidationError
from starlette.responses import Response

from wallet_schemas.queries import FindOrders, GetHistory, History, OrderAnswered, OrderList, QueryRefused
from wallet_schemas.values import OrderStatus, OrderType
from wallet_worker.console import query_params
from wallet_worker.console.request import PageContext
from wallet_worker.dead_letters import masking
from wallet_worker.queries import answers

ORDERS_A_PAGE: Final = 50
LINES_A_PAGE: Final = 50
_UNREAD: Final = "No user, type, currency or time looks like this."


async def orders(visit: PageContext) -> Response:
    """Show a page of a user's orders, the newest first."""
    params = visit.params
    user_id = params.get("user_id", "").strip()
    found: OrderList | None = None
    fault, status = None, 200
    try:
        query = _orders(params, user_id)
    except (ValidationError, ValueError):
        fault, status = _UNREAD, 400
    else:
        async with visit.parts.reading.snapshot() as connection:
            answer = await answers.answer(connection, query)
        if isinstance(answer, QueryRefused):
            fault, status = answer.message, 400
        found = answer if isinstance(answer, OrderList) else None
        if found is not None:
            await visit.parts.operations.looked(visit.actor, "orders", {"user_id": user_id})
    return visit.show(
        "orders.html",
        status,
        params=params,
        user_id=user_id,
        orders=[_payee_masked(visit, order) for order in found.orders] if found else None,
        next_after=found.next_after if found else None,
        types=[kind.value for kind in OrderType],
        statuses=[state.value for state in OrderStatus],
        fault=fault,
    )


async def history(visit: PageContext) -> Response:
    """Show what moved on an account, the newest first, and what waits for a payment."""
    params = visit.params
    user_id = params.get("user_id", "").strip()
    found: History | None = None
    fault, status = None, 200
    if user_id:
        try:
            query = _history(params, user_id)
        except (ValidationError, ValueError):
            fault, status = _UNREAD, 400
        else:
            async with visit.parts.reading.snapshot() as connection:
                answer = await answers.answer(connection, query)
            if isinstance(answer, QueryRefused):
                fault, status = f"{answer.message[:1].upper()}{answer.message[1:]}.", 404
            found = answer if isinstance(answer, History) else None
            if found is not None:
                await visit.parts.operations.looked(visit.actor, "history", {"user_id": user_id})
    return visit.show(
        "history.html",
        status,
        params=params,
        user_id=user_id,
        history=found,
        masked=masking.masked if visit.is_viewer else str,
        fault=fault,
    )


def _payee_masked(visit: PageContext, order: OrderAnswered) -> OrderAnswered:
    """Return an order as the visitor may see it: it is of the user whom they asked about, and names a second one."""
    return masking.masked_view(order) if visit.is_viewer else order


def _orders(params: Mapping[str, str], user_id: str) -> FindOrders:
    """Return the query of a page of orders; raises ValueError, ValidationError is one."""
    times = query_params.letters({"since": params.get("from", ""), "until": params.get("to", "")})
    return FindOrders.model_validate(
        {"user_id": user_id, "limit": ORDERS_A_PAGE}
        | ({"order_types": [OrderType(params["order_type"])]} if params.get("order_type") else {})
        | ({"statuses": [OrderStatus(params["status"])]} if params.get("status") else {})
        | ({"from": times.since} if times.since else {})
        | ({"to": times.until} if times.until else {})
        | ({"after": params["after"]} if params.get("after") else {})
    )


def _history(params: Mapping[str, str], user_id: str) -> GetHistory:
    """Return the query of a page of history; raises ValueError, ValidationError is one."""
    return GetHistory.model_validate(
        {
            "user_id": user_id,
            "account_type": params.get("account_type") or "basic",
            "currency": params.get("currency", "").strip(),
            "limit": LINES_A_PAGE,
        }
        | ({"before_line_no": query_params.number(params["before"])} if params.get("before") else {})
    )
