"""The API put together: its parts, its addresses, and the process that serves them until it is told to stop."""

import asyncio
import gc
import resource
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import urlsplit
from uuid import uuid4

import structlog
import uvloop
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from typing_extensions import override

from wallet_schemas.http import (
    ANY_COMMAND,
    CHANGES,
    OPERATIONS,
    PAYMENT_RESULTS_PATH,
    WEBHOOKS,
    ApiCode,
    HttpOperation,
)
from wallet_schemas.names import PAYMENT_RESULTS, WALLET_COMMANDS
from wallet_worker.api import commands, door, events, pages, payments, reads, webhooks
from wallet_worker.api.events import Feed
from wallet_worker.api.load import Load
from wallet_worker.api.lookups import BatchedLookups, Waiters
from wallet_worker.api.metrics import ApiMetrics
from wallet_worker.api.parts import ApiState
from wallet_worker.api.problems import RequestRefused
from wallet_worker.api.quota import Quota
from wallet_worker.api.request import ApiRequest, GoneError, read_headers, request_id
from wallet_worker.api.who import USED_SECONDS, Keys
from wallet_worker.broker.addresses import login_of
from wallet_worker.broker.event_log import EventLog
from wallet_worker.client.rpc import Rpc
from wallet_worker.queries import answers
from wallet_worker.queries.answers import StoredOutcome
from wallet_worker.settings.settings import Settings
from wallet_worker.store import api_keys
from wallet_worker.store.api_keys import API_ROLE
from wallet_worker.store.database import Database
from wallet_worker.store.errors import StoreError, UnavailableError
from wallet_worker.store.requirements import ensure_fit, until_fit
from wallet_worker.store.schema_version import DatabaseNotReadyError
from wallet_worker.telemetry import endpoints
from wallet_worker.telemetry.health import Health
from wallet_worker.telemetry.server import CannotServeError, Server

CONNECTIONS: Final = 8
COLLECT_AFTER: Final = (20_000, 20, 50)  # requests are in no cycles and go as they came
KNOWN_SECONDS: Final = 0.25  # a look-up that takes longer is skipped: the worker looks again
WATCH_SECONDS: Final = 1.0
DRAIN_SECONDS: Final = 5.0  # those that wait for an outcome go on for so long, then they get their 202
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_GONE: Final = 499  # what the log says of a client that did not wait for its answer

_Handler: TypeAlias = Callable[[ApiState, ApiRequest, HttpOperation], Awaitable[Response]]
_OpenHandler: TypeAlias = Callable[[ApiState, ApiRequest], Awaitable[Response]]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Route:
    """Who serves one method of one path: an operation for keys, or something that needs none."""

    handler: _Handler | None = None
    operation: HttpOperation | None = None
    open_handler: _OpenHandler | None = None


async def _healthz(parts: ApiState, request: ApiRequest) -> Response:
    del parts, request
    return JSONResponse({"status": "alive"})


async def _readyz(parts: ApiState, request: ApiRequest) -> Response:
    del request
    is_ready = parts.health.is_ready and not parts.is_lame
    return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)


def _routes() -> dict[str, dict[str, _Route]]:
    """Return who serves what. No path has a parameter in it: what is named stands in the query."""
    handlers: dict[str, _Handler] = {operation.name: commands.change for operation in (*CHANGES, ANY_COMMAND)}
    handlers |= dict.fromkeys((operation.name for operation in WEBHOOKS), webhooks.manage)
    handlers |= {"getClient": reads.client, "listEvents": events.read}
    routes: dict[str, dict[str, _Route]] = {}
    for operation in OPERATIONS:
        handler = handlers.get(operation.name, reads.look)
        routes.setdefault(operation.path, {})[operation.method] = _Route(handler, operation)
    routes[PAYMENT_RESULTS_PATH] = {"POST": _Route(open_handler=payments.result)}
    routes["/healthz"] = {"GET": _Route(open_handler=_healthz)}
    routes["/readyz"] = {"GET": _Route(open_handler=_readyz)}
    for path, page in pages.PAGES.items():
        routes[path] = {"GET": _Route(open_handler=page)}
    return routes


class Api:
    """The ASGI application: one request in, one answer out, whatever fails."""

    def __init__(self, parts: ApiState, *, is_secure: bool) -> None:
        self._parts = parts
        self._routes = _routes()
        self._headers = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
        if is_secure:
            self._headers.append((b"strict-transport-security", b"max-age=31536000"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        began = time.monotonic()
        address = scope["client"][0] if scope.get("client") else "unknown"
        request = ApiRequest(scope, receive, str(uuid4()), {}, address)
        code = "OK"
        try:
            request.headers = read_headers(scope)
            request.request_id = request_id(request.headers) or request.request_id
            response = await self._reply(request)
        except RequestRefused as refused:
            code = refused.code.value
            response = refused.answer(request.request_id)
        except GoneError:
            self._note(request, _GONE, "GONE", began)
            return
        except Exception as exc:
            log.error("api.failed", request_id=request.request_id, operation=request.operation, exc_info=exc)
            code = ApiCode.FAULT.value
            response = RequestRefused(ApiCode.FAULT, serial_no=request.serial_no).answer(request.request_id)
        headers = response.raw_headers
        named = {name for name, _ in headers}
        headers.extend(header for header in self._headers if header[0] not in named)
        headers.append((b"x-request-id", request.request_id.encode()))
        for name, value in request.answer_headers.items():
            response.headers[name] = value
        try:
            if not request.body_is_read and not await request.discard_body():
                response.headers["connection"] = "close"
        except RequestRefused:
            response.headers["connection"] = "close"
        is_gone = request.is_gone
        await response(scope, receive, send)
        self._note(request, _GONE if is_gone else response.status_code, code, began, response)

    async def _reply(self, request: ApiRequest) -> Response:
        """Return the answer to a request; raises Refused."""
        methods = self._routes.get(request.path)
        if methods is None:
            if request.path.startswith(pages.PROBLEMS):
                methods = {"GET": _Route(open_handler=pages.problem)}
            else:
                raise RequestRefused(ApiCode.NO_SUCH_PATH)
        route = methods.get(request.method)
        if route is None:
            raise RequestRefused(ApiCode.METHOD_NOT_ALLOWED, headers={"allow": ", ".join(sorted(methods))})
        if route.open_handler is not None:
            request.operation = request.path if request.path in self._routes else pages.PROBLEMS
            return await route.open_handler(self._parts, request)
        operation, handler = route.operation, route.handler
        if operation is None or handler is None:
            raise AssertionError(request.path)
        request.operation = operation.name
        client = request.client = await self._parts.keys.client(
            request.header(b"authorization"), request.address
        )
        if operation.scopes and not operation.scopes & client.scopes:
            raise RequestRefused(
                ApiCode.FORBIDDEN, f"{operation.name} needs {' or '.join(sorted(operation.scopes))}"
            )
        with self._parts.quota.of(client) as left:
            request.answer_headers.update(left)
            return await handler(self._parts, request, operation)

    def _note(
        self, request: ApiRequest, status: int, code: str, began: float, response: Response | None = None
    ) -> None:
        seconds = time.monotonic() - began
        metrics = self._parts.metrics
        metrics.answered(request.operation, status, seconds)
        if code != "OK" and status in _AT_THE_DOOR:
            metrics.refused_at_the_door.labels(reason=code).inc()
        if request.method == "POST":
            client = request.client
            log.info(
                "api.command",
                request_id=request.request_id,
                client=client.client if client else None,
                key_id=client.key_id if client else None,
                address=request.address,
                operation=request.operation,
                serial_no=request.serial_no,
                status=status,
                code=code,
                duplicate=response is not None and "idempotent-replayed" in response.headers,
                milliseconds=round(seconds * 1_000, 1),
            )


_AT_THE_DOOR: Final = frozenset({400, 401, 403, 404, 405, 408, 413, 414, 415, 429, 431})


class ApiHealth(Health):
    """Ready once keys could be read, while the broker or the database is there: each serves half of the purpose."""

    @property
    @override
    def is_ready(self) -> bool:
        """Whether requests are answered as they should be, at least some of them."""
        missing = self.reasons.keys()
        return "keys" not in missing and not {"broker", "database"} <= missing


def parts_of(settings: Settings) -> ApiState:
    """Return what a process is made of; nothing is connected yet."""
    rpc = Rpc(
        settings.amqp_url.get_secret_value(), name="wallet api", exchanges=(WALLET_COMMANDS, PAYMENT_RESULTS)
    )
    database = Database(
        settings.database_url.get_secret_value(),
        role=API_ROLE,
        application="wallet api",
        size_max=CONNECTIONS,
    )

    async def look_up(numbers: list[str]) -> dict[str, StoredOutcome]:
        async with database.connection() as connection:
            return await answers.stored_outcomes(connection, numbers)

    async def settled(numbers: Iterable[str]) -> set[str]:
        async with database.connection() as connection:
            return await answers.settled(connection, numbers)

    async def payable(numbers: Iterable[str]) -> set[str]:
        async with database.connection() as connection:
            return await answers.payable(connection, numbers)

    async def answered(numbers: Iterable[str]) -> set[str]:
        async with database.connection() as connection:
            return await answers.answered(connection, numbers)

    metrics = ApiMetrics()
    feed = Feed(EventLog(settings.amqp_url.get_secret_value(), name="wallet api: events"), metrics)
    health = ApiHealth()
    health.expect("broker", "database", "keys")
    return ApiState(
        rpc=rpc,
        database=database,
        health=health,
        keys=Keys(database, time.monotonic),
        quota=Quota(time.monotonic),
        load=Load(rpc, in_flight_max=settings.api_in_flight, queue_max=settings.api_queue_max),
        known=BatchedLookups(look_up, KNOWN_SECONDS),
        settled=Waiters(settled),
        payable=Waiters(payable),
        answered=Waiters(answered),
        feed=feed,
        metrics=metrics,
        webhooks_networks=settings.webhooks_networks or (),
        payment_keys=settings.keys,
        login=login_of(settings.amqp_url.get_secret_value()),
        senders=settings.sender_policy,
        wait_seconds=settings.api_wait_seconds,
        signature_age_seconds=settings.api_signature_age_seconds,
    )


def check(settings: Settings) -> bool:
    """Return whether clients speak TLS; raises CannotServeError where keys would travel in the clear."""
    if (settings.api_tls_certificate is None) != (settings.api_tls_key is None):
        raise CannotServeError(
            "WALLET_API_TLS_CERTIFICATE and WALLET_API_TLS_KEY are set together, or neither"
        )
    reached_at = urlsplit(settings.api_url or "")
    is_https = reached_at.scheme == "https"
    # A container listens everywhere, and whoever runs it says that only this machine gets through.
    is_local = settings.api_host in _LOOPBACK or reached_at.hostname in _LOOPBACK
    if settings.api_tls_certificate is None and not is_https and not is_local:
        msg = (
            f"WALLET_API_HOST is {settings.api_host}, and keys would travel in the clear: set "
            "WALLET_API_TLS_CERTIFICATE and WALLET_API_TLS_KEY, or WALLET_API_URL=https://… where a proxy speaks TLS"
        )
        raise CannotServeError(msg)
    if is_https and settings.api_tls_certificate is None and not settings.api_proxies:
        log.warning(
            "api.proxy_unnamed",
            detail="WALLET_API_URL is https, so a proxy stands before the API: without its address in "
            "WALLET_API_PROXIES everybody counts as the proxy",
        )
    return is_https or settings.api_tls_certificate is not None


def run(settings: Settings) -> int:
    """Serve the API until SIGTERM or SIGINT; return its exit status: 0 stopped, 1 cannot serve."""
    try:
        is_secure = check(settings)
        _allow_connections()
        gc.collect()
        gc.freeze()  # modules and classes stay until the end and are not looked at again
        gc.set_threshold(*COLLECT_AFTER)
        return uvloop.run(_serve(settings, is_secure=is_secure))
    except CannotServeError as exc:
        log.error("api.cannot_serve", reason=str(exc))
        return 1


def _allow_connections() -> None:
    """Raise the limit of open files to what this user may have: each connection is a file."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(settings: Settings, *, is_secure: bool) -> int:
    parts = parts_of(settings)
    app: ASGIApp = Api(parts, is_secure=is_secure)
    server = Server(
        door.config(
            app,
            certificate=str(settings.api_tls_certificate) if settings.api_tls_certificate else None,
            key=str(settings.api_tls_key) if settings.api_tls_key else None,
            proxies=settings.api_proxies or (),
            drain_seconds=DRAIN_SECONDS * 3,
        )
    )
    stopping = asyncio.Event()
    dsn = settings.database_url.get_secret_value()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    listening = _listen(settings.api_host, settings.api_port)
    watched = endpoints.server(settings.http_host, settings.api_health_port, parts.health, parts.metrics)
    try:
        checks = await _open_database(parts, dsn)
        async with asyncio.TaskGroup() as tasks:
            beside = [
                tasks.create_task(_check_later(dsn, stopping, checks=checks), name="database"),
                tasks.create_task(parts.load.watch(), name="load"),
                tasks.create_task(_watch(parts, server), name="watch"),
                tasks.create_task(_serving(watched), name="health"),
            ]
            serving = tasks.create_task(server.serve(sockets=[listening]), name="serve")
            host, port = listening.getsockname()[:2]
            log.info(
                "api.ready", address=f"{'https' if settings.api_tls_certificate else 'http'}://{host}:{port}"
            )
            await _stop(parts, server, stopping, settings.api_lame_seconds)
            await serving
            watched.should_exit = True
            for task in beside[:-1]:
                task.cancel()
    except* CannotServeError as group:
        raise _first(group) from None
    finally:
        await parts.feed.close()
        await parts.rpc.close()
        await parts.database.close()
    log.info("api.stopped")
    return 0


async def _stop(parts: ApiState, server: Server, stopping: asyncio.Event, lame_seconds: float) -> None:
    """Wait until the process is told to stop; take no more then, and answer what was taken."""
    await stopping.wait()
    parts.is_lame = True
    log.info("api.draining", lame_seconds=lame_seconds)
    await asyncio.sleep(lame_seconds)
    parts.is_stopping = True
    server.should_exit = True
    parts.feed.stop()

    def give_up() -> None:
        parts.rpc.stop_waiting()
        parts.settled.stop()
        parts.payable.stop()
        parts.answered.stop()

    asyncio.get_running_loop().call_later(DRAIN_SECONDS, give_up)


async def _serving(server: Server) -> None:
    try:
        await server.serve()
    except SystemExit as exc:  # uvicorn's way of saying that it could not bind
        raise CannotServeError("the port WALLET_API_HEALTH_PORT cannot be opened") from exc


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; several processes may listen on one port, and the system spreads what comes."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind((host, port))
    except OSError as exc:
        raise CannotServeError(f"{host}:{port} cannot be opened: {exc}") from exc
    return listening


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    exc: BaseException = group
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return exc


async def _check_later(dsn: str, stopping: asyncio.Event, *, checks: bool) -> None:
    """Check a database that was away at the start once it is back; raises CannotServeError."""
    if not checks:
        return
    try:
        await until_fit(dsn, "api", stopping)
    except DatabaseNotReadyError as exc:
        raise CannotServeError(str(exc)) from exc


async def _open_database(parts: ApiState, dsn: str) -> bool:
    """Open the pool; return whether the database is unavailable, which is then connected to when it is needed.

    Raises CannotServeError where it is not what the API needs.
    """
    is_away = False
    try:
        await ensure_fit(dsn, "api")
    except DatabaseNotReadyError as exc:
        raise CannotServeError(str(exc)) from exc
    except StoreError:
        is_away = True
    try:
        await parts.database.open()
    except UnavailableError as exc:
        log.warning("database.waiting", reason=str(exc))
    except StoreError as exc:
        log.error("database.unfit", reason=str(exc), detail="has `wallet migrate` been run?")
    return is_away


async def _watch(parts: ApiState, server: Server) -> None:
    """Update once a second what `/readyz` and `/metrics` show of broker, database and keys, for ever."""
    health, metrics = parts.health, parts.metrics
    noted = time.monotonic()
    is_reported = False
    while True:
        parts.load.notice()
        if parts.load.failure is None:
            health.ready("broker")
        else:
            health.unready("broker", parts.load.failure)
        try:
            async with asyncio.timeout(WATCH_SECONDS * 5), parts.database.connection() as connection:
                await api_keys.find(connection, ())
        except (StoreError, TimeoutError) as exc:
            reason = str(exc) or "the database does not answer in time"
            if health.unready("database", reason) or not is_reported:
                log.warning("database.waiting", reason=reason)
            is_reported = True
        else:
            if health.ready("database"):
                log.info("database.connected")
            health.ready("keys")
        metrics.waiting.set(parts.load.waiting)
        metrics.connections.set(len(server.server_state.connections))
        metrics.lookup_queries.set(parts.known.queries)
        metrics.broker_ready.set(int(parts.load.failure is None))
        metrics.key_expires_seconds.set(parts.keys.expiring)
        metrics.event_streams.set(parts.feed.streams)
        metrics.event_log_ready.set(int(parts.feed.failure is None) if parts.feed.is_read else float("nan"))
        if time.monotonic() - noted >= USED_SECONDS:
            noted = time.monotonic()
            await parts.keys.flush_used()
        await asyncio.sleep(WATCH_SECONDS)
