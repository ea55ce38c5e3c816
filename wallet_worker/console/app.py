"""The console put together: its parts, its addresses, and the process that serves them."""

import asyncio
import secrets
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

import structlog
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp
from typing_extensions import override

from wallet_worker.console import rendering
from wallet_worker.console.dependencies import ConsoleState
from wallet_worker.console.pages import (
    audit,
    keys,
    ledger,
    letters,
    lists,
    operations,
    overview,
    plans,
    queue_health,
    sign_in,
    webhooks,
)
from wallet_worker.console.query_params import NUMBER_MAX
from wallet_worker.console.queues import Queues
from wallet_worker.console.request import FormHandler, Page, form_endpoint, of_person, page, page_endpoint
from wallet_worker.console.security.guard import ALIVE, ASSETS, LOOPBACK, Guard, Origin
from wallet_worker.console.security.login_throttle import Attempts
from wallet_worker.console.security.sessions import Sessions
from wallet_worker.console.security.users import UsersError, UsersFile
from wallet_worker.dead_letters.operations import DeadLetterDesk
from wallet_worker.settings.settings import Settings
from wallet_worker.store.database import READONLY_ROLE, Database
from wallet_worker.store.dead_letters.letters import OPERATOR_ROLE
from wallet_worker.store.errors import StoreError, UnavailableError
from wallet_worker.store.requirements import ensure_fit, until_fit
from wallet_worker.store.schema_version import DatabaseNotReadyError
from wallet_worker.telemetry.connections import BoundedConnection
from wallet_worker.telemetry.server import CannotServeError, Server

BODY_BYTES_MAX = 262_144  # an edited message of 64 KiB, each byte of it written as three
OPERATIONS_CONNECTIONS = 4
READING_CONNECTIONS = 3
_FOR_EVER = "public, max-age=31536000, immutable"  # for addresses that change with what is there
_FOR_A_DAY = "public, max-age=86400"  # for whoever asks without the version of what is there

log = structlog.get_logger(__name__)


class _LetterNumber(Convertor[int]):
    """A letter's number in an address: of as many digits as the largest has, so that no longer text is read as one."""

    regex = f"[0-9]{{1,{len(str(NUMBER_MAX))}}}"

    @override
    def convert(self, value: str) -> int:
        """Return the number."""
        return int(value)

    @override
    def to_string(self, value: int) -> str:
        """Return its digits."""
        return str(value)


register_url_convertor("letter", _LetterNumber())

_PAGES: Mapping[str, Page] = {
    "/": overview.overview,
    "/letters": letters.letters,
    "/letters.jsonl": letters.export,
    "/letters/{letter_id:letter}": letters.letter,
    "/letters/{letter_id:letter}/payload": letters.payload,
    "/letters/{letter_id:letter}/edit": plans.edit,
    "/plans": plans.plans,
    "/plans/new": plans.new,
    "/plans/{token}": plans.plan,
    "/keys": keys.keys,
    "/operations": operations.operations,
    "/operations/{operation_id}": operations.operation,
    "/audit": audit.audit,
    "/audit.jsonl": audit.export,
    "/accounts": ledger.accounts,
    "/orders": ledger.order,
    "/history": lists.history,
    "/webhooks": webhooks.webhooks,
    "/find": ledger.find,
    "/health": queue_health.health,
}

FORMS: Mapping[str, FormHandler] = {
    "/letters/{letter_id:letter}/notes": letters.note,
    "/letters/{letter_id:letter}/edit": plans.make_edit,
    "/plans": plans.make,
    "/plans/{token}/sign": plans.sign,
    "/keys": keys.show_public,
    "/plans/{token}/execute": plans.execute,
    "/operations/{operation_id}/pause": operations.pause,
    "/operations/{operation_id}/resume": operations.resume,
    "/operations/{operation_id}/stop": operations.stop,
    "/sign-out": sign_in.sign_out,
}

_OpenPage: TypeAlias = Callable[[ConsoleState, Request], Awaitable[Response]]
_OPEN: tuple[tuple[str, str, _OpenPage], ...] = (
    ("GET", "/sign-in", sign_in.form),
    ("POST", "/sign-in", sign_in.sign_in),
    ("POST", "/theme", sign_in.choose_theme),
)


def app(parts: ConsoleState) -> ASGIApp:
    """Return the console's pages, guarded: Starlette's own answers to what fails or is too large, too."""
    # Deeds first: where a page has the same address, the method decides.
    routes: list[BaseRoute] = [
        *(Route(path, form_endpoint(parts, deed), methods=["POST"]) for path, deed in FORMS.items()),
        *(Route(path, page_endpoint(parts, read), methods=["GET"]) for path, read in _PAGES.items()),
        *(Route(path, _open(parts, serve), methods=[method]) for method, path, serve in _OPEN),
        Route(ALIVE, _alive),
        Route(ASSETS + "{name}", _asset),
    ]
    pages = Starlette(
        routes=routes,
        exception_handlers={HTTPException: _refusal(parts), Exception: _failure},
        max_body_size=BODY_BYTES_MAX,
    )
    return Guard(pages, parts.origin)


def _open(parts: ConsoleState, serve: _OpenPage) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return await serve(parts, request)

    return endpoint


async def _alive(_: Request) -> Response:
    return PlainTextResponse("alive\n")


_ASSETS = {path.name: path for path in rendering.ASSETS_FOLDER.iterdir()}


async def _asset(request: Request) -> Response:
    """Give a file of the pages; there are no others under this address."""
    path = _ASSETS.get(request.path_params["name"])
    if path is None:
        raise HTTPException(404)
    kept = _FOR_EVER if "v" in request.query_params else _FOR_A_DAY
    return FileResponse(path, headers={"cache-control": kept})


def _refusal(parts: ConsoleState) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def refuse(request: Request, exc: Exception) -> Response:
        status = exc.status_code if isinstance(exc, HTTPException) else 500
        title, sentence = _REFUSALS.get(status, ("This cannot be done", ""))
        if isinstance(exc, HTTPException) and status not in _REFUSALS:
            sentence = exc.detail
        try:
            visit = of_person(parts, request)
        except UsersError:
            visit = None
        if visit is not None:
            return visit.refuse(status, title, sentence)
        return page(parts, request, "refused.html", status, {"title": title, "sentence": sentence})

    return refuse


_REFUSALS: Mapping[int, tuple[str, str]] = {
    404: ("There is no such page", "The address may be old, or mistyped."),
    405: ("This cannot be asked this way", "Open the page again, and use what stands there."),
    413: ("This form is too large", "A message of the wallet has at most 64 KiB. Nothing was done."),
}


async def _failure(request: Request, exc: Exception) -> Response:
    """Answer that the fault is ours, without a template and without a word of what it was."""
    log.error("console.failed", path=request.url.path, exc_info=exc)
    return PlainTextResponse(
        "The console failed on this page; its log says why. What you asked for was done whole or not at all.\n",
        500,
    )


def parts_of(settings: Settings) -> ConsoleState:
    """Return what a console is made from; raises CannotServeError where it would be open to what it should not be."""
    origin = Origin(settings.console_origin)
    if origin.given is None and settings.console_host not in LOOPBACK:
        msg = (
            f"WALLET_CONSOLE_HOST is {settings.console_host}: to be reached from elsewhere, the console needs "
            "WALLET_CONSOLE_ORIGIN, the address in its people's browsers, such as https://console.example"
        )
        raise CannotServeError(msg)
    _warn(settings, origin)
    dsn = settings.database_url.get_secret_value()
    operating = Database(
        dsn, role=OPERATOR_ROLE, application="wallet console", size_max=OPERATIONS_CONNECTIONS
    )
    reading = Database(dsn, role=READONLY_ROLE, application="wallet console", size_max=READING_CONNECTIONS)
    return ConsoleState(
        operations=DeadLetterDesk(
            operating, settings.rules, settings.keys, settings.dead_letter_limits, settings.environment
        ),
        operating=operating,
        reading=reading,
        queues=Queues(settings.amqp_url.get_secret_value(), time.monotonic),
        users=UsersFile(settings.console_users),
        sessions=Sessions(
            idle_seconds=settings.console_idle_seconds,
            whole_seconds=settings.console_session_seconds,
            clock=time.monotonic,
        ),
        attempts=Attempts(time.monotonic),
        origin=origin,
        templates=rendering.environment(),
        form_key=secrets.token_bytes(32),
    )


def _warn(settings: Settings, origin: Origin) -> None:
    """Warn of settings that this console can be run with, and should not be."""
    if origin.given is not None and not origin.is_secure and urlsplit(origin.given).hostname not in LOOPBACK:
        log.warning(
            "console.not_encrypted", detail="passwords travel in the clear: WALLET_CONSOLE_ORIGIN is no https"
        )
    if origin.is_secure and not settings.console_proxies:
        # The console speaks no TLS itself: somebody does before it.
        log.warning(
            "console.proxy_unnamed",
            detail="WALLET_CONSOLE_ORIGIN is https, so a proxy stands before the console: without its address in "
            "WALLET_CONSOLE_PROXIES everybody counts as the proxy, and one who guesses holds up all",
        )
    if not settings.payment_keys:
        log.warning(
            "console.no_payment_keys",
            detail="WALLET_PAYMENT_KEYS is empty: payment results are predicted as if all were BAD_SIGNATURE",
        )
    _warn_of_readable(settings.console_users)


def _warn_of_readable(users: Path) -> None:
    """Warn if other users of this machine can read the hashes of the passwords."""
    with suppress(OSError):
        if users.stat().st_mode & 0o077:
            log.warning(
                "console.users_readable", file=str(users), detail="others may read the hashes: chmod 600"
            )


async def open_databases(parts: ConsoleState) -> None:
    """Open both pools. A database that is away is connected to when a page needs it."""
    for database in (parts.operating, parts.reading):
        try:
            await database.open()
        except UnavailableError as exc:
            log.warning("database.waiting", reason=str(exc))
        except StoreError as exc:
            log.error("database.unfit", reason=str(exc), detail="has `wallet migrate` been run?")


async def close_databases(parts: ConsoleState) -> None:
    """Leave no connection open."""
    for database in (parts.operating, parts.reading):
        await database.close()


def run(settings: Settings) -> int:
    """Serve the console until SIGTERM or SIGINT; return its exit status: 0 stopped, 1 cannot serve."""
    try:
        return uvloop.run(_serve(settings, parts_of(settings)))
    except CannotServeError as exc:
        log.error("console.cannot_serve", reason=str(exc))
        return 1


def _announce_ready(host: str, port: int) -> None:
    name = f"[{host}]" if ":" in host else host
    log.info("console.ready", address=f"http://{name}:{port}/")


async def _check_later(dsn: str, stopping: asyncio.Event, stop: Callable[[], None]) -> None:
    """Check a database that was away at the start once it is back; stop serving if it is not what the console needs."""
    try:
        await until_fit(dsn, "console", stopping)
    except DatabaseNotReadyError:
        stop()
        raise


async def _serve(settings: Settings, parts: ConsoleState) -> int:
    config = uvicorn.Config(
        app(parts),
        host=settings.console_host,
        port=settings.console_port,
        http=BoundedConnection,
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        # Whose word on a client's address is believed: nobody's, unless a proxy is named.
        proxy_headers=bool(settings.console_proxies),
        forwarded_allow_ips=list(settings.console_proxies or ()),
        timeout_graceful_shutdown=5,
    )
    server = Server(config, on_listening=_announce_ready)

    def stop() -> None:
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    dsn, stopping = settings.database_url.get_secret_value(), asyncio.Event()
    checking: asyncio.Task[None] | None = None
    try:
        try:
            await ensure_fit(dsn, "console")
        except StoreError as exc:
            log.warning("database.waiting", reason=str(exc))
            checking = asyncio.create_task(_check_later(dsn, stopping, stop), name="database")
        await open_databases(parts)
        await server.serve()
        stopping.set()
        if checking is not None:
            await checking
    except DatabaseNotReadyError as exc:
        raise CannotServeError(str(exc)) from exc
    except SystemExit as exc:  # uvicorn's way of saying that it could not bind
        msg = f"the port {settings.console_port} cannot be opened"
        raise CannotServeError(msg) from exc
    finally:
        stopping.set()
        await close_databases(parts)
    log.info("console.stopped")
    return 0
