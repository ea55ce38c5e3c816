"""The feed: events after a cursor, as a page or as server-sent events.

Each process reads the end of the log once, for all who ask, and keeps the newest events in memory; only while somebody
asks. What is older is read from the log itself. A reader that is slow reads from there, too: nothing waits for it here.
"""

import asyncio
import re
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from hashlib import sha256
from itertools import islice
from typing import Final, NamedTuple, cast

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from wallet_schemas.codes import Code
from wallet_schemas.commands import Fault
from wallet_schemas.http import EVENT_STREAM_TYPE, EVENTS_MAX, OLDEST, ApiCode, GetEvents, HttpOperation
from wallet_schemas.http import Scope as KeyScope
from wallet_schemas.names import CONTENT_TYPE
from wallet_worker.api import reads
from wallet_worker.api.keys import Client
from wallet_worker.api.metrics import ApiMetrics
from wallet_worker.api.parts import ApiState
from wallet_worker.api.problems import RequestRefused, retry_after
from wallet_worker.api.request import ApiRequest
from wallet_worker.backoff import Backoff
from wallet_worker.broker.connection import BrokerUnavailableError
from wallet_worker.broker.event_log import LAST, EventLog
from wallet_worker.core.visibility import FeedEvent, Interest, wrong_pattern

KEPT_MAX: Final = 10_000  # events in memory, and
KEPT_BYTES_MAX: Final = 32 * 2**20  # their size
IDLE_SECONDS: Final = 60.0  # nobody has asked for so long: the log is read no more
FIRST_SECONDS: Final = 2.0  # a log of which nothing comes within this time is empty
AWAY_SECONDS: Final = 3.0  # how long a request waits for the log to answer
BEHIND_SECONDS: Final = 1.0  # how far one process may be behind another, whose cursor it is shown
PASSED_OVER_MAX: Final = (
    20_000  # events that one page looks at; a page that finds nothing says how far it came
)
PAGE_BYTES_MAX: Final = 2**20
STREAMS_MAX: Final = 200
STREAMS_OF_CLIENT_MAX: Final = 5
COMMENT_SECONDS: Final = 15.0  # proxies close what is silent
KEY_SECONDS: Final = 5.0  # how long a stream goes on with a key that was revoked
_RETRY: Final = b"retry: 2000\n\n"
_CURSOR: Final = re.compile(r"([1-9][0-9]{0,18})-([0-9a-f]{8})")

log = structlog.get_logger(__name__)


class Place(NamedTuple):
    """Where a reader stands: how many events of the log it has passed, and the mark of the last of them.

    The mark says that the log is still the one that the cursor was given out for. It is absent where there is no last
    event to compare with.
    """

    passed: int
    mark: str | None = None

    @override
    def __str__(self) -> str:
        return f"{self.passed}-{self.mark}" if self.mark else "0"


def place_after(event: FeedEvent) -> Place:
    """Return the place after an event."""
    return Place(event.offset + 1, sha256(event.body).hexdigest()[:8])


class Piece(NamedTuple):
    """What lies after a place: events, whether the log has more, and the place after everything that was looked at."""

    events: Sequence[tuple[FeedEvent, bytes]]
    after: Place
    more: bool


def _away() -> RequestRefused:
    return RequestRefused(ApiCode.EVENTS_AWAY, headers=retry_after(1))


class ExpiredError(Exception):
    """The log does not have what follows a cursor: it is too old, or of another log."""


class Feed:
    """The log of events, for all requests of one process."""

    def __init__(self, log_of_events: EventLog, metrics: ApiMetrics) -> None:
        self._log = log_of_events
        self._metrics = metrics
        self._kept: deque[FeedEvent] = deque()
        self._bytes = 0
        self._end: Place | None = None
        self._changed = asyncio.Event()
        self._tail: asyncio.Task[None] | None = None
        self._asked_at = 0.0
        self._readers = 0
        self._streams: Counter[str] = Counter()
        self.is_stopping = False
        self.failure: str | None = None

    async def close(self) -> None:
        """Close the log."""
        if self._tail is not None:
            self._tail.cancel()
            await asyncio.gather(self._tail, return_exceptions=True)
        await self._log.close()

    def stop(self) -> None:
        """End every stream and every wait."""
        self.is_stopping = True
        self._change()

    @property
    def is_read(self) -> bool:
        """Whether this process reads the log now."""
        return self._tail is not None

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return self._streams.total()

    @contextmanager
    def stream_of(self, client: str) -> Iterator[None]:
        """Count a stream while it is open; raises RequestRefused above the limits."""
        if self.streams >= STREAMS_MAX:
            raise RequestRefused(
                ApiCode.OVERLOADED, "too many streams of events are open", headers=retry_after(5)
            )
        if self._streams[client] >= STREAMS_OF_CLIENT_MAX:
            raise RequestRefused(
                ApiCode.QUOTA_EXCEEDED,
                f"{STREAMS_OF_CLIENT_MAX} streams of events at once",
                policy="streams",
                headers={
                    "ratelimit-policy": f'"streams";q={STREAMS_OF_CLIENT_MAX};qu="concurrent-requests"',
                    "retry-after": "5",
                },
            )
        self._streams[client] += 1
        try:
            yield
        finally:
            self._streams[client] -= 1
            if not self._streams[client]:
                del self._streams[client]

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Read the end of the log; raises RequestRefused where the log does not answer in time."""
        loop = asyncio.get_running_loop()
        self._readers += 1
        try:
            if self._tail is None:
                self._tail = asyncio.create_task(self._follow(), name="event log")
            try:
                async with asyncio.timeout(AWAY_SECONDS):
                    while self._end is None and not self.is_stopping:
                        await self.signal.wait()
            except TimeoutError:
                log.info("events.away", reason=self.failure)
                raise _away() from None
            yield
        finally:
            self._readers -= 1
            self._asked_at = loop.time()

    @property
    def end(self) -> Place:
        """The place after the newest event; raises RequestRefused while it is not known."""
        if self._end is None:
            raise _away()
        return self._end

    @property
    def signal(self) -> asyncio.Event:
        """Set once something has changed: there is an event more, or the process stops."""
        return self._changed

    async def piece(self, place: Place | None, interest: Interest, limit: int) -> Piece:
        """Return what lies after a place, or from the oldest event on where there is none, at most `limit` events.

        Raises ExpiredError, or RequestRefused where the log does not answer.
        """
        if place is None:
            if not self.end.passed:
                return Piece((), self.end, more=False)
        else:
            if place.passed > self.end.passed:
                await self._catch_up(place.passed)
            if place.passed == self.end.passed and place.mark in {None, self.end.mark}:
                return Piece((), self.end, more=False)
            # The event before the place is looked at, too: it has to be the one of the mark.
            first = self._kept[0].offset if self._kept else self.end.passed
            if place.passed > first or (place.passed == first and place.mark is None):
                index = max(place.passed - 1, first) - first
                return self._sift(islice(self._kept, index, None), place, interest, limit)
        try:
            return await self._read(place, interest, limit)
        except BrokerUnavailableError as exc:
            log.info("events.unread", reason=str(exc))
            raise _away() from exc

    async def _catch_up(self, passed: int) -> None:
        try:
            async with asyncio.timeout(BEHIND_SECONDS):
                while self.end.passed < passed and not self.is_stopping:
                    await self.signal.wait()
        except TimeoutError:
            raise ExpiredError from None

    async def _read(self, place: Place | None, interest: Interest, limit: int) -> Piece:
        """Return a piece from the log itself."""
        end = self.end.passed
        found: list[FeedEvent] = []
        wanted = 0
        first = 0 if place is None else max(0, place.passed - 1)
        async with self._log.reader(first) as reader:
            while not found or (found[-1].offset + 1 < end and len(found) < PASSED_OVER_MAX):
                batch = await reader.next(AWAY_SECONDS)
                if not batch:
                    raise BrokerUnavailableError("nothing came of the log of events")
                events = [FeedEvent(*event) for event in batch]
                found += events
                wanted += sum(interest.shown(event) is not None for event in events)
                if wanted > limit:  # one of them may be the event before the place
                    break
        return self._sift(iter(found), place, interest, limit)

    def _sift(
        self, events: Iterator[FeedEvent], place: Place | None, interest: Interest, limit: int
    ) -> Piece:
        """Return the events after a place that are wanted; raises ExpiredError where the place is not in the log."""
        shown: list[tuple[FeedEvent, bytes]] = []
        size = 0
        origin = after = place
        for event in events:
            if place is not None:
                expected = place.passed - 1 if after is place and place.mark is not None else place.passed
                if after is place and event.offset != expected:
                    raise ExpiredError
                if event.offset < place.passed:
                    if place_after(event) != place:
                        raise ExpiredError
                    place = after = Place(place.passed)
                    continue
            body = interest.shown(event)
            if body is not None:
                size += len(body)
                if shown and size > PAGE_BYTES_MAX:
                    break
                shown.append((event, body))
            after = place_after(event)
            if len(shown) == limit:
                break
        if after is None or after.mark is None:
            after = origin or Place(0)
        return Piece(shown, after, more=after.passed < self.end.passed)

    # The end of the log

    async def _follow(self) -> None:
        """Keep the newest events, until nobody has asked for a while."""
        loop = asyncio.get_running_loop()
        pause = Backoff()
        never = asyncio.Event()
        self._asked_at = loop.time()
        try:
            while self._readers or loop.time() - self._asked_at < IDLE_SECONDS:
                try:
                    await self._session(pause)
                except BrokerUnavailableError as exc:
                    if self.failure is None:
                        log.warning("events.waiting", reason=str(exc))
                    self.failure = str(exc)
                    await pause.wait(never)
        finally:
            self._tail = None
            self._forget()
            self.failure = None
            await self._log.close()

    async def _session(self, pause: Backoff) -> None:
        """Follow the log on one connection: on from what is kept, or from the newest events that there are."""
        loop = asyncio.get_running_loop()
        start = LAST if self._end is None or self._end.mark is None else self._end.passed - 1
        async with self._log.reader(start) as reader:
            batch = await reader.next(FIRST_SECONDS)
            if self._kept and (not batch or place_after(FeedEvent(*batch[0])) != self._end):
                self._forget()  # it is another log, or so much was written meanwhile that ours is no longer in it
                return
            if self.failure is not None:
                log.info("events.connected")
            self.failure = None
            pause.reset()
            if self._end is None:
                self._end = Place(0)
            self._keep([FeedEvent(*event) for event in (batch[1:] if self._kept else batch)])
            while self._readers or loop.time() - self._asked_at < IDLE_SECONDS:
                self._keep([FeedEvent(*event) for event in await reader.next(COMMENT_SECONDS)])

    def _keep(self, events: Sequence[FeedEvent]) -> None:
        if events:
            self._kept.extend(events)
            self._bytes += sum(len(event.body) for event in events)
            self._end = place_after(events[-1])
            while len(self._kept) > KEPT_MAX or self._bytes > KEPT_BYTES_MAX:
                self._bytes -= len(self._kept.popleft().body)
        self._change()

    def _forget(self) -> None:
        self._kept.clear()
        self._bytes = 0
        self._end = None

    def _change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


async def read(parts: ApiState, request: ApiRequest, operation: HttpOperation) -> Response:
    """Return the events after a cursor, as the client accepts them."""
    client = cast("Client", request.client)
    query = cast("GetEvents", reads.read_query(request.parameters(), operation))
    if query.user_id is not None and not client.reaches(query.user_id):
        raise RequestRefused(ApiCode.USER_OUT_OF_REACH)
    wrong = wrong_pattern(query.types or ())
    if wrong is not None:
        fault = Fault(field="types", message=f"No event is called {wrong}")
        raise RequestRefused(Code.MALFORMED, faults=(fault,))
    interest = Interest(tuple(query.types or ()), query.serial_no, query.user_id, client.users)
    after = query.after
    is_stream = EVENT_STREAM_TYPE in (request.header(b"accept") or "").lower()
    if is_stream:
        after = _last_event_id(request) or after
    async with parts.feed.reading():
        place = parts.feed.end if after is None else _place(after)
        if is_stream:
            return EventStream(parts, request, interest, place)
        piece = await _awaited(parts, request, place, interest, query.limit)
    parts.metrics.events.labels(how="page").inc(len(piece.events))
    return Response(_page(piece), 200, None, CONTENT_TYPE)


def _last_event_id(request: ApiRequest) -> str | None:
    """Return the cursor with which a browser takes a stream up again."""
    text = request.header(b"last-event-id")
    if text is not None and text != "0" and not _CURSOR.fullmatch(text):
        raise RequestRefused(
            Code.MALFORMED, faults=(Fault(field="Last-Event-ID", message="Should be a cursor of an event"),)
        )
    return text


def _place(cursor: str) -> Place | None:
    if cursor == OLDEST:
        return None
    found = _CURSOR.fullmatch(cursor)
    return Place(int(found[1]), found[2]) if found else Place(0)


async def _awaited(
    parts: ApiState, request: ApiRequest, place: Place | None, interest: Interest, limit: int
) -> Piece:
    """Return a piece, and wait for the first event as long as the client prefers, where there is none yet."""
    wait = request.preferences.wait or 0.0
    if wait:
        request.answer_headers["preference-applied"] = f"wait={wait:g}"
    loop = asyncio.get_running_loop()
    until = loop.time() + wait
    while True:
        signal = parts.feed.signal
        piece = await _piece(parts.feed, place, interest, limit)
        if piece.events or piece.more or loop.time() >= until or parts.feed.is_stopping:
            return piece
        place = piece.after
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await signal.wait()


async def _piece(feed: Feed, place: Place | None, interest: Interest, limit: int) -> Piece:
    try:
        return await feed.piece(place, interest, limit)
    except ExpiredError:
        raise RequestRefused(ApiCode.CURSOR_EXPIRED) from None


def _page(piece: Piece) -> bytes:
    items = b",".join(
        b'{"cursor":"%b","event":%b}' % (str(place_after(event)).encode(), body)
        for event, body in piece.events
    )
    return b'{"type":"event.page.v1","events":[%b],"next_after":"%b","more":%b}' % (
        items,
        str(piece.after).encode(),
        b"true" if piece.more else b"false",
    )


class EventStream(Response):
    """Server-sent events after a place, until the client leaves, its key is closed, or the process stops."""

    media_type = EVENT_STREAM_TYPE

    def __init__(self, parts: ApiState, request: ApiRequest, interest: Interest, place: Place | None) -> None:
        super().__init__()
        del self.headers["content-length"]
        self.headers["x-accel-buffering"] = "no"  # a proxy would else wait until it has more
        self._parts = parts
        self._request = request
        self._interest = interest
        self._place = place
        self._counted = parts.feed.stream_of(cast("Client", request.client).client)
        self._counted.__enter__()

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(_gone(receive), name="client")
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": _RETRY, "more_body": True})
            async with self._parts.feed.reading():
                await self._stream(send, gone)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except RequestRefused as refused:  # the log is away, the cursor is too old, the key was closed
            closing = b'event: closed\ndata: {"code":"%b"}\n\n' % refused.code.value.encode()
            await send({"type": "http.response.body", "body": closing, "more_body": False})
        finally:
            self._counted.__exit__(None, None, None)
            gone.cancel()

    async def _stream(self, send: Send, gone: "asyncio.Task[None]") -> None:
        feed = self._parts.feed
        loop = asyncio.get_running_loop()
        sent_at = checked_at = loop.time()
        while not gone.done() and not feed.is_stopping:
            if loop.time() - checked_at >= KEY_SECONDS:
                await self._check_key()
                checked_at = loop.time()
            changed = asyncio.create_task(feed.signal.wait(), name="events")  # of what is known now
            try:
                piece = await _piece(feed, self._place, self._interest, EVENTS_MAX)
                self._place = piece.after
                if piece.events:
                    sent_at = loop.time()
                    self._parts.metrics.events.labels(how="stream").inc(len(piece.events))
                    body = b"".join(_sent(event, shown) for event, shown in piece.events)
                    await send({"type": "http.response.body", "body": body, "more_body": True})
                elif loop.time() - sent_at >= COMMENT_SECONDS:
                    sent_at = loop.time()
                    # With the cursor, so that who hears nothing for long does not fall out of the log.
                    comment = b": still here\nid: %b\n\n" % str(self._place).encode()
                    await send({"type": "http.response.body", "body": comment, "more_body": True})
                if not piece.more:
                    await asyncio.wait(
                        {changed, gone}, timeout=KEY_SECONDS, return_when=asyncio.FIRST_COMPLETED
                    )
            finally:
                changed.cancel()

    async def _check_key(self) -> None:
        """Go on only while the key opens, and opens this."""
        request = self._request
        client = await self._parts.keys.client(request.header(b"authorization"), request.address)
        if KeyScope.EVENTS_READ not in client.scopes:
            raise RequestRefused(ApiCode.FORBIDDEN)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _sent(event: FeedEvent, body: bytes) -> bytes:
    kind = event.content.get("type")
    name = kind.encode() if isinstance(kind, str) and kind.isprintable() else b"event"
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (str(place_after(event)).encode(), name, body)
