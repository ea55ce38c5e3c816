"""What holds for every request: whom it may come from, and what the answer tells the browser."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ALIVE = "/healthz"
ASSETS = "/assets/"
PATH_CHARACTERS_MAX = 512

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_SAFE_METHODS = frozenset({"GET", "HEAD"})
_IN_THE_AUDIT = re.compile(r"/(letters|audit)\.jsonl|/letters/[0-9]+/payload")
"""What is asked for as pages are and leaves a row in the asker's name."""

# Nothing that is not named is allowed: no inline script or style, no frame, nothing from elsewhere.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types console"
)

_HEADERS: Mapping[str, str] = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the console is reached by its people, such as https://console.example; absent: on this machine alone."""

    given: str | None

    @property
    def is_secure(self) -> bool:
        """Whether its cookies travel encrypted."""
        return self.given is not None and self.given.startswith("https://")

    def of(self, host: str) -> str | None:
        """Return the origin that pages under this Host header have; nothing, if the console is not reached so.

        Another name that leads here is somebody's try to be the same origin as the console (DNS rebinding).
        """
        if self.given is not None:
            scheme, _, own = self.given.partition("://")
            own = _without_usual_port(scheme, own)
            return f"{scheme}://{own}" if _without_usual_port(scheme, host.lower()) == own else None
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return None
        return f"http://{host.lower()}" if name in LOOPBACK else None


def _without_usual_port(scheme: str, netloc: str) -> str:
    """Return a name as browsers say it: they leave out the port that the scheme has anyway."""
    return netloc.removesuffix(_USUAL_PORTS.get(scheme, ""))


_USUAL_PORTS: Mapping[str, str] = {"http": ":80", "https": ":443"}


class Guard:
    """Answers what must not reach a page, and puts the headers that protect a page on every answer."""

    def __init__(self, app: ASGIApp, origin: Origin) -> None:
        self._app = app
        self._origin = origin
        self._headers = dict(_HEADERS)
        if origin.is_secure:
            self._headers["strict-transport-security"] = "max-age=31536000"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        fault = (
            None
            if scope["path"] == ALIVE
            else self._fault(scope["method"], scope["path"], Headers(scope=scope))
        )
        if fault is None:
            await self._app(scope, receive, protected)
        else:
            status, sentence = fault
            await PlainTextResponse(sentence + "\n", status)(scope, receive, protected)

    def _fault(self, method: str, path: str, headers: Headers) -> tuple[int, str] | None:
        """Return why this request goes no further."""
        if len(path) > PATH_CHARACTERS_MAX:
            return 404, "There is no such page: no address of the console is so long."
        own = self._origin.of(headers.get("host", ""))
        if own is None:
            return 421, "The console is not reached under this name. Its operator sets WALLET_CONSOLE_ORIGIN."
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if method in _SAFE_METHODS:
            if _IN_THE_AUDIT.fullmatch(path) and site in {"cross-site", "same-site"}:
                return (
                    403,
                    "Another site has led here, so nothing was given. Ask for it from the console's own pages.",
                )
            return None
        if origin is None and site is None:
            return 403, "The browser did not say where this form came from, so nothing was done."
        if (origin is not None and origin.lower() != own) or (site is not None and site != "same-origin"):
            return 403, "This form did not come from the console's own pages, so nothing was done."
        return None
