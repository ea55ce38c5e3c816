"""Signing in and out, and the colours of the pages."""

import asyncio
import hashlib
import hmac
import secrets
from math import ceil
from urllib.parse import quote

import structlog
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from wallet_worker.console.dependencies import ConsoleState
from wallet_worker.console.request import (
    COOKIE,
    CSRF_FIELD,
    THEME_COOKIE,
    THEMES,
    Form,
    PageContext,
    cookie_name,
    of_person,
    page,
    read_form,
    safe_redirect,
    set_cookie,
)
from wallet_worker.console.security.devices import DEVICE_SECONDS, device_of, make_device
from wallet_worker.console.security.users import DUMMY_USER, PASSWORD_BYTES_MAX, UsersError

FORM_COOKIE = "wallet_console_form"
DEVICE_COOKIE = "wallet_console_device"
UNKNOWN = "(nobody of the users file)"
"""What the log has of a name that nobody has: people type their password where the name belongs."""
THEME_SECONDS = 365 * 86_400

log = structlog.get_logger(__name__)


async def form(parts: ConsoleState, request: Request) -> Response:
    """Show the form, or lead on whoever is signed in already."""
    target = safe_redirect(request.query_params.get("next", "/"))
    try:
        if of_person(parts, request) is not None:
            return RedirectResponse(target, 303)
        users = parts.users.users()
    except UsersError as exc:
        log.error("console.users_unreadable", reason=str(exc))
        return _form(
            parts, request, target, "The users file cannot be read; the console's log says why.", 503
        )
    fault = (
        None
        if users.by_name
        else "Nobody may sign in yet: `wallet console user add NAME` makes the first user."
    )
    return _form(parts, request, target, fault, 200)


async def sign_in(parts: ConsoleState, request: Request) -> Response:
    """Begin a session for whoever knows the password, or say no without saying what was wrong."""
    form = await read_form(request)
    target = safe_redirect(form.get("next", "/"))
    if not _is_own_form(parts, request, form):
        return _form(
            parts,
            request,
            target,
            "The form had gone stale, so nothing was looked at. Please try again.",
            403,
        )
    name = form.get("name").strip().lower()
    address = request.client.host if request.client else "unknown"
    try:
        user = parts.users.users().get(name)
    except UsersError as exc:
        log.error("console.users_unreadable", reason=str(exc))
        return _form(
            parts, request, target, "The users file cannot be read; the console's log says why.", 503
        )
    device = device_of(user, request.cookies.get(cookie_name(parts, DEVICE_COOKIE), ""))
    wait_seconds = parts.attempts.wait_seconds(name, address, device)
    if wait_seconds > 0:
        log.warning("console.sign_in_throttled", user=user.name if user else UNKNOWN, address=address)
        minutes = ceil(wait_seconds / 60)
        sentence = (
            f"Too many wrong tries. Wait {minutes} minute{'' if minutes == 1 else 's'}, then try again."
        )
        answer = _form(parts, request, target, sentence, 429)
        answer.headers["retry-after"] = str(ceil(wait_seconds))
        return answer
    # Counted before it is looked at: a hundred guesses at once are a hundred guesses.
    parts.attempts.failed(name, address, device)
    password = form.get("password")
    async with parts.hashing:
        knows = len(password) <= PASSWORD_BYTES_MAX and await asyncio.to_thread(
            (user or DUMMY_USER).knows, password
        )
    if user is None or not knows:
        log.warning("console.sign_in_refused", user=user.name if user else UNKNOWN, address=address)
        return _form(parts, request, target, "The name or the password is not right.", 403)
    parts.attempts.succeeded(name, address, device)
    log.info("console.signed_in", user=user.name, role=user.role.name.lower(), address=address)
    answer = RedirectResponse(target, 303)
    set_cookie(parts, answer, COOKIE, parts.sessions.begin(user.name, user.hash))
    if device is None:
        set_cookie(parts, answer, DEVICE_COOKIE, make_device(user), max_age=DEVICE_SECONDS)
    return answer


async def sign_out(visit: PageContext, _: Form) -> Response:
    """End the session."""
    visit.parts.sessions.end(visit.session)
    log.info("console.signed_out", user=visit.user.name)
    answer = RedirectResponse("/sign-in", 303)
    answer.delete_cookie(
        cookie_name(visit.parts, COOKIE),
        path="/",
        secure=visit.parts.origin.is_secure,
        httponly=True,
        samesite="lax",
    )
    answer.headers["clear-site-data"] = '"cache"'
    return answer


async def choose_theme(parts: ConsoleState, request: Request) -> Response:
    """Change the colours of the pages. Only a cookie changes, so no session is needed."""
    form = await read_form(request)
    theme = form.get("theme")
    answer = RedirectResponse(safe_redirect(form.get("next", "/")), 303)
    if theme in THEMES:
        set_cookie(parts, answer, THEME_COOKIE, theme, max_age=THEME_SECONDS)
    return answer


def _form(parts: ConsoleState, request: Request, target: str, fault: str | None, status: int) -> Response:
    token = request.cookies.get(cookie_name(parts, FORM_COOKIE)) or secrets.token_urlsafe(32)
    answer = page(
        parts,
        request,
        "sign_in.html",
        status,
        {
            "here": f"/sign-in?next={quote(target, safe='')}",
            "target": target,
            "fault": fault,
            "csrf": _signed(parts, token),
            "name": "",
        },
    )
    set_cookie(parts, answer, FORM_COOKIE, token)
    return answer


def _is_own_form(parts: ConsoleState, request: Request, form: Form) -> bool:
    token = request.cookies.get(cookie_name(parts, FORM_COOKIE), "")
    given = form.get(CSRF_FIELD).encode(errors="replace")
    return bool(token) and hmac.compare_digest(_signed(parts, token).encode(), given)


def _signed(parts: ConsoleState, token: str) -> str:
    return hmac.new(parts.form_key, token.encode(errors="replace"), hashlib.sha256).hexdigest()
