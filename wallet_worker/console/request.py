"""One request of one person: who it is, what the form says, and how a page, or a refusal in a sentence, comes back."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar
from urllib.parse import parse_qsl, quote, urlsplit

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from wallet_worker.console.dependencies import ConsoleState
from wallet_worker.console.query_params import NUMBER_MAX, why_unreadable
from wallet_worker.console.security.sessions import Session
from wallet_worker.console.security.users import User, UsersError
from wallet_worker.dead_letters.model.actors import Actor
from wallet_worker.dead_letters.model.errors import NotAllowedError, NotFoundError, OperationError
from wallet_worker.settings.operators import Role
from wallet_worker.store.errors import (
    AccessDeniedError,
    ConflictError,
    InvariantBrokenError,
    StatementRejectedError,
    StoreError,
    UnavailableError,
    UnfitError,
)
from wallet_worker.store.sentences import explain

COOKIE = "wallet_console"
THEME_COOKIE = "wallet_console_theme"
THEMES = ("auto", "light", "dark")
CSRF_FIELD = "csrf"
LIVE_HEADER = "x-live"
"""Sent by a page that refreshes by itself: nobody clicked, so the session grows no older slower."""

FORM_FIELDS_MAX = 1_000

T = TypeVar("T")

log = structlog.get_logger(__name__)


class Form:
    """What a form says: each name with its first value, or all of them."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = pairs

    def get(self, name: str, default: str = "") -> str:
        """Return the first value of a name."""
        return next((value for key, value in self._pairs if key == name), default)

    def all(self, name: str) -> list[str]:
        """Return every value of a name."""
        return [value for key, value in self._pairs if key == name]

    def items(self) -> list[tuple[str, str]]:
        """Return everything, in order."""
        return list(self._pairs)


async def read_form(request: Request) -> Form:
    """Return the form of a request; raises HTTPException for what no page of ours sends."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise HTTPException(415, "The console takes forms of its own pages only.")
    try:
        pairs = parse_qsl(
            (await request.body()).decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=FORM_FIELDS_MAX,
        )
    except ValueError as exc:
        raise HTTPException(400, "The form cannot be read.") from exc
    if any("\0" in text for pair in pairs for text in pair):
        raise HTTPException(400, "The form has a NUL in it, which no field of it can hold.")
    return Form(pairs)


@dataclass(frozen=True, slots=True)
class PageContext:
    """One request of somebody who is signed in."""

    parts: ConsoleState
    request: Request
    session: Session
    user: User

    @property
    def actor(self) -> Actor:
        """Who asks the operations."""
        return Actor(self.user.name, self.user.role, "console")

    @property
    def is_viewer(self) -> bool:
        """Whether personal data is masked for them."""
        return self.user.role < Role.OPERATOR

    @property
    def params(self) -> Mapping[str, str]:
        """The query string: each name once, its values joined by commas where there are several."""
        joined: dict[str, str] = {}
        for name, value in self.request.query_params.multi_items():
            if value.strip():
                seen = value.replace("\0", "\ufffd")  # no text of the database can hold it
                joined[name] = f"{joined[name]},{seen}" if name in joined else seen
        return joined

    def can(self, role: Role) -> bool:
        """Return whether they may do what this role may."""
        return self.user.role >= role

    def show(self, template: str, status: int = 200, **values: Any) -> Response:
        """Return a page; what was to be said first waits for one that somebody opens, and does not refresh itself."""
        notices: list[tuple[str, str]] = []
        if LIVE_HEADER not in self.request.headers:
            notices, self.session.notices[:] = list(self.session.notices), []
        return page(
            self.parts,
            self.request,
            template,
            status,
            {**values, "visit": self, "notices": notices, "csrf": self.session.csrf},
        )

    def refuse(self, status: int, title: str, sentence: str) -> Response:
        """Return a page that says why something was not done."""
        return self.show("refused.html", status, title=title, sentence=sentence)

    def go(self, address: str, done: str | None = None) -> Response:
        """Return the way to another page after a form; `done` is what that page says first."""
        if done is not None:
            self.session.notices.append(("done", done))
        return RedirectResponse(address, 303)


def letter_id(visit: PageContext) -> int:
    """Return the letter's number of the address; raises NotFoundError for one that no letter can have."""
    number: int = visit.request.path_params["letter_id"]
    if not 0 < number <= NUMBER_MAX:
        msg = "There is no letter of this number."
        raise NotFoundError(msg)
    return number


Page: TypeAlias = Callable[[PageContext], Awaitable[Response]]
FormHandler: TypeAlias = Callable[[PageContext, Form], Awaitable[Response]]
Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


def page(
    parts: ConsoleState, request: Request, template: str, status: int, values: Mapping[str, Any]
) -> Response:
    """Return a rendered page, in the colours that its reader has chosen."""
    theme = request.cookies.get(cookie_name(parts, THEME_COOKIE), "auto")
    html = parts.templates.get_template(template).render(
        {
            "path": request.url.path,
            "here": current_url(request),
            "theme": theme if theme in THEMES else "auto",
            "params": {},
            "visit": None,
            "notices": [],
            **values,
        }
    )
    return HTMLResponse(html, status)


def current_url(request: Request) -> str:
    """Return the address of this page, to come back to."""
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def safe_redirect(address: str) -> str:
    """Return an address if it is one of the console's own pages, else the first page: links must not lead elsewhere."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return "/"
    is_own = (
        not parts.scheme and not parts.netloc and address.startswith("/") and not address.startswith("//")
    )
    return address if is_own and "\\" not in address and address.isprintable() else "/"


def cookie_name(parts: ConsoleState, name: str) -> str:
    """Return what a cookie is called: behind https a name that only this very host could have set."""
    return f"__Host-{name}" if parts.origin.is_secure else name


def set_cookie(parts: ConsoleState, response: Response, name: str, value: str, **more: Any) -> None:
    """Set a cookie that no script can read and no other site can send in a form."""
    response.set_cookie(
        cookie_name(parts, name),
        value,
        path="/",
        secure=parts.origin.is_secure,
        httponly=True,
        samesite="lax",  # not strict: a link that a colleague sent should open signed in
        **more,
    )


def of_person(parts: ConsoleState, request: Request) -> PageContext | None:
    """Return the visit of whoever sent this, if they are signed in and still may be; raises UsersError."""
    token = request.cookies.get(cookie_name(parts, COOKIE))
    if not token:
        return None
    session = parts.sessions.find(token, touch=LIVE_HEADER not in request.headers)
    if session is None:
        return None
    user = parts.users.users().get(session.name)
    if user is None or user.hash != session.password_hash:
        parts.sessions.end(session)  # removed, or has a new password
        return None
    return PageContext(parts, request, session, user)


def page_endpoint(parts: ConsoleState, read: Page) -> Endpoint:
    """Return the endpoint of a page for people who are signed in."""

    async def endpoint(request: Request) -> Response:
        visit = _visit(parts, request)
        if not isinstance(visit, PageContext):
            return visit
        if why_not := why_unreadable(request.url.path, request.query_params.multi_items()):
            return visit.refuse(400, "This address cannot be read", why_not)
        return await _answered(visit, read(visit))

    return endpoint


def form_endpoint(parts: ConsoleState, deed: FormHandler) -> Endpoint:
    """Return the endpoint of a form for people who are signed in, sent by one of our pages in this session."""

    async def endpoint(request: Request) -> Response:
        form = await read_form(request)
        visit = _visit(parts, request)
        if not isinstance(visit, PageContext):
            return visit
        if not visit.session.fits(form.get(CSRF_FIELD)):
            log.warning("console.forged_form", user=visit.user.name, path=request.url.path)
            return visit.refuse(
                403,
                "This form has gone stale",
                "It belongs to another session. Nothing was done; open the page again.",
            )
        return await _answered(visit, deed(visit, form), is_deed=True)

    return endpoint


def _visit(parts: ConsoleState, request: Request) -> PageContext | Response:
    try:
        visit = of_person(parts, request)
    except UsersError as exc:
        log.error("console.users_unreadable", reason=str(exc))
        visit = None
    if visit is not None:
        return visit
    back = current_url(request) if request.method == "GET" else "/"
    return RedirectResponse(f"/sign-in?next={quote(back, safe='')}" if back != "/" else "/sign-in", 303)


async def _answered(visit: PageContext, answer: Awaitable[Response], *, is_deed: bool = False) -> Response:
    """Return the answer, or a page with the sentence that says why it failed."""
    try:
        return await answer
    except NotAllowedError as exc:
        return visit.refuse(403, "You may not do this", str(exc))
    except NotFoundError as exc:
        return visit.refuse(404, "There is no such thing", str(exc))
    except OperationError as exc:
        return visit.refuse(409, "Nothing was done", str(exc))
    except ConflictError as exc:
        log.info("console.lost_race", path=visit.request.url.path, reason=str(exc))
        return visit.refuse(409, "Nothing was done", _LOST)
    except InvariantBrokenError:
        raise  # a fault of ours, and told as one
    except StoreError as exc:
        log.warning("console.database", path=visit.request.url.path, reason=str(exc))
        return visit.refuse(503, _title_of(exc), _of_store(exc, is_deed=is_deed))


def _title_of(exc: StoreError) -> str:
    match exc:
        case AccessDeniedError():
            return "The database lets nobody in"
        case UnfitError() | StatementRejectedError():
            return "The database is not as it has to be"
        case _:
            return "The database is away"


_LOST = "Somebody else is at these letters; nothing was done. Look at them again in a moment."


def _of_store(exc: StoreError, *, is_deed: bool) -> str:
    """Return what a person can do about the database."""
    if isinstance(exc, ConflictError):
        return _LOST
    if isinstance(exc, UnfitError) or not isinstance(exc, UnavailableError):
        return (
            f"The database is not as this program needs it (has `wallet migrate` been run?): {explain(exc)}. "
            "`wallet doctor` says what is missing. "
            "Dead letters are safe meanwhile."
        )
    if isinstance(exc, AccessDeniedError):
        return (
            "It is there, and does not take the user or the password of WALLET_DATABASE_URL, or nobody from this "
            "machine. Whoever runs the console can mend it. Dead letters are safe in their queue meanwhile."
        )
    if is_deed:
        return (
            "It could not be reached, or not to the end. What you asked for was done whole or not at all: look at the "
            "plan, the operation or the audit page once it is back. Executing a plan again is safe, it is done once."
        )
    return "It cannot be reached now. Dead letters are safe in their queue meanwhile. Reload this page to try again."


async def result_or_error(awaited: Awaitable[T]) -> tuple[T | None, str | None]:
    """Return what was asked for, or the sentence why it is not there: for pages of several parts."""
    try:
        return await awaited, None
    except InvariantBrokenError as exc:
        log.error("console.failed", exc_info=exc)
        return None, "The wallet has a fault here; the console's log says where."
    except StoreError as exc:
        return None, _of_store(exc, is_deed=False)
