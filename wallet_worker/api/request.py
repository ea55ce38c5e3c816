"""One request as the handlers see it: its headers read once, its body within its bounds, its preferences."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope

from wallet_schemas.http import WAIT_SECONDS_MAX, ApiCode
from wallet_schemas.names import BODY_BYTES_MAX
from wallet_worker.api.keys import Client
from wallet_worker.api.problems import RequestRefused, malformed

BODY_SECONDS: Final = 10.0
PARAMETERS_MAX: Final = 40
_DISCARD_BYTES_MAX: Final = 4 * BODY_BYTES_MAX
_DISCARD_SECONDS: Final = 1.0

_ONCE: Final = frozenset(
    {
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"host",
        b"idempotency-key",
        b"transfer-encoding",
        b"x-signature",
    }
)
"""Headers of which two would be two meanings: what a proxy before us read is perhaps the other."""

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_PREFERENCE: Final = re.compile(r'\s*([a-z-]+)\s*(?:=\s*"?([A-Za-z0-9.-]*)"?)?\s*(?:;.*)?')
_MEDIA: Final = re.compile(rb'application/json(\s*;\s*charset\s*=\s*"?utf-8"?)?\s*', re.IGNORECASE)


class GoneError(Exception):
    """The client left before its request was whole."""


class Preferences(NamedTuple):
    """What a client would like (RFC 7240): how long to wait, absent where it says nothing, and what to answer.

    `settled`: wait for the end of an order's payment, and not for how the payer pays.
    """

    wait: float | None = None
    respond_async: bool = False
    representation: bool = False
    settled: bool = False


@dataclass(slots=True)
class ApiRequest:
    """A request. `address` is the client's, through the proxies that are believed; `client` is there once known."""

    scope: Scope
    receive: Receive
    request_id: str
    headers: dict[bytes, bytes]
    address: str
    client: Client | None = None
    serial_no: str | None = None
    operation: str = "none"
    body_is_read: bool = False
    answer_headers: dict[str, str] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """The method, in capitals."""
        return str(self.scope["method"])

    @property
    def path(self) -> str:
        """The path as it was sent: an escape in it does not spell a path of ours."""
        raw: bytes = self.scope["raw_path"]
        return raw.decode("ascii")

    @property
    def is_gone(self) -> bool:
        """Whether the client has closed the connection, as far as it is known."""
        has_left: Callable[[], bool] | None = self.scope.get("wallet.is_gone")
        return has_left is not None and has_left()

    @property
    def preferences(self) -> Preferences:
        """What the client would like; what cannot be read is not there, as the RFC has it."""
        text = self.headers.get(b"prefer")
        if not text:
            return Preferences()
        found: dict[str, str] = {}
        for part in text.decode("latin-1").lower().split(","):
            match = _PREFERENCE.fullmatch(part)
            if match is not None:
                found.setdefault(match[1], match[2] or "")
        wait = found.get("wait", "")
        return Preferences(
            min(float(wait), WAIT_SECONDS_MAX) if re.fullmatch("[0-9]{1,9}", wait) else None,
            "respond-async" in found,
            found.get("return") == "representation",
            found.get("until") == "settled",
        )

    def header(self, name: bytes) -> str | None:
        """Return a header as text; absent where the request has none."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def parameters(self) -> dict[str, str]:
        """Return the parameters of the address; raises Refused for what is not read the same by everybody."""
        query: bytes = self.scope["query_string"]
        if not query:
            return {}
        try:
            pairs = parse_qsl(
                query.decode("ascii"),
                keep_blank_values=True,
                strict_parsing=True,
                errors="strict",
                max_num_fields=PARAMETERS_MAX,
            )
        except ValueError:  # UnicodeDecodeError is one
            raise malformed(
                "", "The address's query is not application/x-www-form-urlencoded in UTF-8"
            ) from None
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [name for name, _ in pairs]
            repeated = next(name for name in names if names.count(name) > 1)
            raise RequestRefused(ApiCode.PARAMETER_REPEATED, repeated[:64])
        return found

    def check_media(self) -> None:
        """Refuse a body that is not said to be JSON as it is."""
        coding = self.headers.get(b"content-encoding")
        if coding is not None and coding.strip().lower() != b"identity":
            raise RequestRefused(ApiCode.MEDIA_TYPE, "Content-Encoding is not taken: send the body as it is")
        if not _MEDIA.fullmatch(self.headers.get(b"content-type", b"").strip()):
            raise RequestRefused(ApiCode.MEDIA_TYPE, "Content-Type must be application/json")

    async def body(self) -> bytes:
        """Return the whole body, of at most BODY_BYTES_MAX bytes, within BODY_SECONDS; raises Refused or GoneError."""
        if self.length > BODY_BYTES_MAX:
            raise RequestRefused(ApiCode.TOO_LARGE)
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while True:
                    message = await self.receive()
                    if message["type"] != "http.request":
                        raise GoneError
                    part = message.get("body", b"")
                    size += len(part)
                    if size > BODY_BYTES_MAX:
                        raise RequestRefused(ApiCode.TOO_LARGE)
                    parts.append(part)
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            raise RequestRefused(
                ApiCode.READ_TIMEOUT, f"the body was not whole after {BODY_SECONDS:g} s"
            ) from None
        self.body_is_read = True
        return b"".join(parts)

    @property
    def length(self) -> int:
        """What Content-Length says, or 0."""
        text = self.headers.get(b"content-length", b"0")
        if not _LENGTH.fullmatch(text):
            raise RequestRefused(ApiCode.BAD_REQUEST, "Content-Length is no number")
        return int(text)

    async def discard_body(self) -> bool:
        """Return whether nothing of the request is left to come: the connection can then be used again.

        A small body is read and thrown away, so that closing the connection does not take the answer with it. One that
        the client asked leave for is not asked for.
        """
        if self.body_is_read or (self.length == 0 and b"transfer-encoding" not in self.headers):
            return True
        if b"expect" in self.headers or self.length > _DISCARD_BYTES_MAX:
            return False
        size = 0
        try:
            async with asyncio.timeout(_DISCARD_SECONDS):
                while size <= _DISCARD_BYTES_MAX:
                    message = await self.receive()
                    if message["type"] != "http.request":
                        return False
                    size += len(message.get("body", b""))
                    if not message.get("more_body", False):
                        self.body_is_read = True
                        return True
        except TimeoutError:
            return False
        return False


def read_headers(scope: Scope) -> dict[bytes, bytes]:
    """Return the headers by name, those of several lines joined; raises Refused where two would be two meanings."""
    found: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in found:
            if name in _ONCE:
                raise RequestRefused(
                    ApiCode.BAD_REQUEST, f"the header {name.decode('latin-1')} stands there twice"
                )
            found[name] += b", " + value
        else:
            found[name] = value
    if b"host" not in found and scope["http_version"] == "1.1":
        raise RequestRefused(ApiCode.BAD_REQUEST, "the header Host is missing")
    if found.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
        raise RequestRefused(ApiCode.BAD_REQUEST, "Transfer-Encoding is not taken, but for chunked")
    return found


def request_id(headers: dict[bytes, bytes]) -> str | None:
    """Return the X-Request-Id of the caller, if it is one that a log can have."""
    value = headers.get(b"x-request-id")
    return value.decode() if value is not None and _REQUEST_ID.fullmatch(value) else None
