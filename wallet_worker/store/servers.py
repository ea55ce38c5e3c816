"""The servers that a database's address names: each is tried by itself, and never one with an older history.

A server that is promoted begins a new timeline. One that was primary before may come back, say that it is primary, and
know nothing of what was committed since. Whoever has seen a newer timeline refuses it; whoever has seen none, or has
just lost a server, looks at all of them and takes the newest.
"""

import asyncio
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit, urlunsplit

import asyncpg
import structlog

CONNECT_SECONDS: Final = 5.0
CONNECT_SECONDS_EACH: Final = 2.0  # where there are others to try: the driver's own limit is for all together

_TARGET: Final = "target_session_attrs"
_PRIMARIES: Final = frozenset({"primary", "read-write"})

# The first eight digits of a name of WAL are its timeline.
_TIMELINE: Final = "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"

log = structlog.get_logger(__name__)


class OldPrimaryError(asyncpg.InternalClientError):
    """The server says that it is primary, and a server with a newer timeline was seen."""


class Servers:
    """The servers of one address, and what this process knows of them.

    `generation` grows when a server with a newer timeline is seen: connections from before lead elsewhere.
    """

    def __init__(self, dsn: str) -> None:
        self._dsns = split(dsn)
        self._timeline = 0
        self._primary: str | None = None
        self.generation = 0

    async def connect(self, *_: object, **options: Any) -> asyncpg.Connection:
        """Return a connection to the primary, with the driver's options; raises what the driver raises.

        With one server it is to that one, whatever it is. The driver gives its pool's address, which is left out.
        """
        if len(self._dsns) == 1:
            opened: asyncpg.Connection = await asyncpg.connect(
                self._dsns[0], timeout=CONNECT_SECONDS, **options
            )
            return opened
        if self._primary is not None:
            try:
                found, timeline = await _look(self._primary, options)
            except Exception:  # noqa: BLE001 -- whatever it was, the others are looked at, and then it is said
                self.doubt()
            else:
                if timeline == self._timeline:
                    return found
                found.terminate()
        return await self._newest(options)

    def doubt(self) -> None:
        """Forget the server: the next connection looks at all of them."""
        self._primary = None

    async def _newest(self, options: dict[str, Any]) -> asyncpg.Connection:
        """Return a connection to the primary with the newest timeline."""
        looks = await asyncio.gather(*(_look(dsn, options) for dsn in self._dsns), return_exceptions=True)
        primaries = [
            (look[1], look[0], dsn)
            for look, dsn in zip(looks, self._dsns, strict=True)
            if not isinstance(look, BaseException)
        ]
        chosen = max(primaries, key=lambda primary: primary[0], default=None)
        for _, connection, _ in primaries:
            if chosen is None or connection is not chosen[1]:
                connection.terminate()
        if chosen is None:
            raise _most_informative([look for look in looks if isinstance(look, BaseException)])
        timeline, connection, dsn = chosen
        if timeline < self._timeline:
            connection.terminate()
            msg = (
                f"the server at {urlsplit(dsn).netloc.rpartition('@')[2]} is an old primary: it is on timeline "
                f"{timeline}, and {self._timeline} was seen"
            )
            raise OldPrimaryError(msg)
        if timeline > self._timeline:
            if self._timeline:
                log.warning("database.failed_over", timeline=timeline, before=self._timeline)
            self._timeline = timeline
            self.generation += 1
        self._primary = dsn
        return connection


_servers: Final[dict[str, Servers]] = {}
"""By address: all pools of a process know what one of them has seen."""


def servers_of(dsn: str) -> Servers:
    """Return the servers of an address; for the same address the same."""
    return _servers.setdefault(dsn, Servers(dsn))


async def connect(dsn: str, **options: Any) -> asyncpg.Connection:
    """Return a connection to the primary of an address; raises what the driver raises."""
    return await servers_of(dsn).connect(**options)


def split(dsn: str) -> tuple[str, ...]:
    """Return an address for each server of `dsn`, or `dsn` alone where the driver is to choose.

    The driver chooses where something else than a primary is wanted.
    """
    parts = urlsplit(dsn)
    login, at, hosts = parts.netloc.rpartition("@")
    wanted = parse_qs(parts.query).get(_TARGET, ["primary"])[-1]
    if "," not in hosts or wanted not in _PRIMARIES:
        return (dsn,)
    query = (
        parts.query if _TARGET in parts.query else "&".join(filter(None, [parts.query, f"{_TARGET}=primary"]))
    )
    return tuple(
        urlunsplit(parts._replace(netloc=f"{login}{at}{host.strip()}", query=query))
        for host in hosts.split(",")
    )


async def _look(dsn: str, options: dict[str, Any]) -> tuple[asyncpg.Connection, int]:
    """Return a connection to one server, which is a primary, and its timeline."""
    connection: asyncpg.Connection = await asyncpg.connect(dsn, timeout=CONNECT_SECONDS_EACH, **options)
    try:
        return connection, int(await connection.fetchval(_TIMELINE, timeout=CONNECT_SECONDS_EACH), 16)
    except BaseException:
        connection.terminate()
        raise


def _most_informative(failures: list[BaseException]) -> BaseException:
    """Return the failure that says most: that a password is wrong goes before that nobody listens."""
    return min(
        failures,
        key=lambda failure: (
            isinstance(failure, OSError | TimeoutError),
            isinstance(failure, asyncpg.TargetServerAttributeNotMatched),
        ),
    )
