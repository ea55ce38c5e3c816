"""Webhooks as clients manage them: where their events are posted, and what became of each."""

import secrets
from datetime import timedelta
from typing import Final, TypeVar, cast

import asyncpg
import structlog
from starlette.responses import Response

from wallet_schemas.encode import encode
from wallet_schemas.http import (
    ApiCode,
    CreateWebhook,
    DeliveryState,
    DisableWebhook,
    EnableWebhook,
    FindWebhookDeliveries,
    HttpOperation,
    ReplayWebhook,
    RotateWebhook,
    TestWebhook,
    UpdateWebhook,
    WebhookDelivery,
    WebhookDeliveryList,
    WebhookEndpoint,
    WebhookEndpointList,
    WebhookEndpointView,
    WebhookReplayed,
    WebhookState,
)
from wallet_schemas.message import Message
from wallet_schemas.names import CONTENT_TYPE
from wallet_schemas.parse import Malformed, UnsupportedType, load, validate
from wallet_worker.api import reads
from wallet_worker.api.keys import Client
from wallet_worker.api.parts import ApiState
from wallet_worker.api.problems import RequestRefused, malformed, retry_after
from wallet_worker.api.request import ApiRequest
from wallet_worker.core.visibility import wrong_pattern
from wallet_worker.core.webhooks import SECRET_BYTES, secret_of, trial_event, wrong_url
from wallet_worker.store import clock, webhooks
from wallet_worker.store.errors import StoreError
from wallet_worker.store.webhooks import Endpoint, EndpointDelivery, NewDelivery

_DISABLED: Final = "disabled by its client"

M = TypeVar("M", bound=Message)

log = structlog.get_logger(__name__)


async def manage(parts: ApiState, request: ApiRequest, operation: HttpOperation) -> Response:
    """Return what became of a change of the client's webhooks, or what there is of them."""
    client = cast("Client", request.client)
    if operation.method == "GET":
        message = reads.read_query(request.parameters(), operation)
    else:
        request.check_media()
        message = _body(await request.body(), operation.takes[0])
    _check(parts, message)
    try:
        async with parts.database.transaction() as connection:
            found = await _answer(connection, client, message)
    except StoreError as exc:
        log.info("webhooks.unmanaged", reason=str(exc))
        raise RequestRefused(ApiCode.DATABASE_AWAY, headers=retry_after(1)) from exc
    if request.method == "POST":
        log.info(
            "api.webhook",
            client=client.client,
            key_id=client.key_id,
            what=message.type,
            request_id=request.request_id,
        )
    return Response(encode(found), operation.applied, None, CONTENT_TYPE)


def _body(body: bytes, kind: type[Message]) -> Message:
    try:
        found = load(body)
        found.setdefault("type", kind.TYPE)
        return validate(found, {kind.TYPE: kind})
    except (Malformed, UnsupportedType) as exc:
        raise RequestRefused(exc.code, faults=exc.faults) from None


def _check(parts: ApiState, message: Message) -> None:
    """Refuse an address that nothing may be posted to, and events that there are none of."""
    if isinstance(message, CreateWebhook | UpdateWebhook):
        reason = None if message.url is None else wrong_url(message.url, parts.webhooks_networks)
        if reason is not None:
            raise malformed("url", f"Cannot be posted to: {reason}")
        wrong = wrong_pattern(message.types or ())
        if wrong is not None:
            raise malformed("types", f"No event is called {wrong}")
    if isinstance(message, ReplayWebhook) and (message.event_id is None) == (message.since is None):
        raise malformed("event_id", "Name an event_id, or since when")


async def _answer(connection: asyncpg.Connection, client: Client, message: Message) -> Message:
    name = client.client
    match message:
        case CreateWebhook():
            secret = secret_of(secrets.token_bytes(SECRET_BYTES))
            is_new = await webhooks.insert(
                connection,
                name,
                message.name,
                message.url,
                message.types,
                users=client.users,
                secret=secret,
                created_by=f"key {client.key_id}",
            )
            if not is_new:
                raise RequestRefused(ApiCode.WEBHOOK_EXISTS)
            return await _shown(connection, name, message.name, secret)
        case UpdateWebhook():
            _found(
                await webhooks.change(
                    connection, name, message.name, url=message.url, kinds=message.types, users=client.users
                )
            )
            return await _shown(connection, name, message.name)
        case RotateWebhook():
            secret = secret_of(secrets.token_bytes(SECRET_BYTES))
            overlap = timedelta(seconds=message.overlap_seconds)
            _found(await webhooks.rotate(connection, name, message.name, secret, overlap))
            return await _shown(connection, name, message.name, secret)
        case ReplayWebhook():
            endpoint = await _endpoint(connection, name, message.name)
            count = await webhooks.replay(
                connection,
                endpoint.endpoint_id,
                event_id=message.event_id,
                since=message.since,
                delivered_too=message.delivered_too,
            )
            return WebhookReplayed(name=message.name, replayed=count)
        case FindWebhookDeliveries():
            endpoint = await _endpoint(connection, name, message.name)
            before = None if message.after is None else int(message.after)
            state = None if message.state is None else message.state.value
            rows = await webhooks.deliveries(
                connection, endpoint.endpoint_id, state=state, before=before, limit=message.limit
            )
            following = str(rows[-1].delivery_id) if len(rows) == message.limit else None
            return WebhookDeliveryList(deliveries=[_delivery(row) for row in rows], next_after=following)
        case EnableWebhook() | DisableWebhook() | TestWebhook():
            return await _named(connection, name, message)
        case _:
            found = await webhooks.endpoints(connection, name)
            return WebhookEndpointList(endpoints=[view(item) for item in found])


async def _named(
    connection: asyncpg.Connection, client: str, message: EnableWebhook | DisableWebhook | TestWebhook
) -> Message:
    match message.type:
        case "webhook.enable.v1":
            _found(await webhooks.enable(connection, client, message.name))
        case "webhook.disable.v1":
            _found(await webhooks.disable(connection, client, message.name, _DISABLED))
        case _:
            endpoint = await _endpoint(connection, client, message.name)
            event_id, kind, body = trial_event(await clock.database_time(connection), secrets.token_bytes(10))
            await webhooks.deliver(connection, [NewDelivery(endpoint.endpoint_id, event_id, kind, body)])
    return await _shown(connection, client, message.name)


def _found(is_there: bool) -> None:  # noqa: FBT001 -- what the statement before it says
    if not is_there:
        raise RequestRefused(ApiCode.WEBHOOK_NOT_FOUND)


async def _endpoint(connection: asyncpg.Connection, client: str, name: str) -> Endpoint:
    found = await webhooks.endpoint(connection, client, name)
    if found is None:
        raise RequestRefused(ApiCode.WEBHOOK_NOT_FOUND)
    return found


async def _shown(
    connection: asyncpg.Connection, client: str, name: str, secret: str | None = None
) -> WebhookEndpoint:
    return WebhookEndpoint(endpoint=view(await _endpoint(connection, client, name)), secret=secret)


def view(endpoint: Endpoint) -> WebhookEndpointView:
    """Return an endpoint as its client sees it."""
    return WebhookEndpointView(
        name=endpoint.name,
        url=endpoint.url,
        types=list(endpoint.kinds),
        users=endpoint.users,
        state=WebhookState(endpoint.state),
        why=endpoint.why,
        failing_since=endpoint.failing_since,
        older_secret_until=endpoint.older_until,
        created_at=endpoint.created_at,
        updated_at=endpoint.updated_at,
    )


def _delivery(row: EndpointDelivery) -> WebhookDelivery:
    return WebhookDelivery(
        event_id=row.event_id,
        event_type=row.kind,
        state=DeliveryState(row.state),
        attempts=row.attempts,
        next_at=row.next_at if row.state == DeliveryState.WAITING.value else None,
        attempted_at=row.attempted_at,
        status=row.status,
        answer=row.answer,
        created_at=row.created_at,
    )
