"""Who a request is from: the key it shows, looked up in the database and remembered for seconds."""

import asyncio
import hmac
import ipaddress
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from wallet_schemas.http import ApiCode
from wallet_worker.api import keys
from wallet_worker.api.keys import Client
from wallet_worker.api.lookups import AwayError, BatchedLookups
from wallet_worker.api.problems import RequestRefused, retry_after
from wallet_worker.store import api_keys
from wallet_worker.store.api_keys import ApiKey
from wallet_worker.store.database import Database
from wallet_worker.store.errors import StoreError

FRESH_SECONDS: Final = 5.0  # a key that was revoked opens no longer than this
REFRESH_SECONDS: Final = 2.5  # from this age on it is looked up again beside the requests
STALE_SECONDS: Final = 300.0  # while the database is away
LOOKUP_SECONDS: Final = 2.0
USED_SECONDS: Final = 60.0
REMEMBERED_MAX: Final = 10_000
FAILURES_MAX: Final = 20  # of one address within FAILURES_SECONDS; a key has 256 bits, this is about the load
FAILURES_SECONDS: Final = 60.0
_NETWORK_BITS: Final = 64
_NOBODY: Final = bytes(32)

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Remembered:
    """A key that opened: when it was looked up, and when it ends by itself, on the monotonic clock."""

    client: Client
    at: float
    ends: float


class Keys:
    """The keys that requests show. What was seen within the last seconds is not asked of the database again.

    Remembered by the digest of the whole key: a wrong secret under a known id takes the same way as an unknown id.
    """

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self._to_stored: dict[bytes, _Remembered] = {}
        self._lookups: BatchedLookups[ApiKey] = BatchedLookups(self._ask, LOOKUP_SECONDS)
        self._refreshing: dict[bytes, asyncio.Task[None]] = {}
        self._used: set[str] = set()
        self._failures: dict[str, deque[float]] = {}

    async def client(self, authorization: str | None, address: str) -> Client:
        """Return who shows this key; raises Refused, UNAUTHENTICATED or DATABASE_AWAY or QUOTA_EXCEEDED."""
        scheme, _, text = (authorization or "").partition(" ")
        claim = keys.read(text.strip(), self._to_stored) if scheme.lower() == "bearer" else None
        if claim is None:
            raise self._failed(address)
        client = self._to_stored.get(claim.digest)
        now = self._clock()
        if client is not None and now < client.ends:
            age = now - client.at
            if age >= REFRESH_SECONDS and claim.digest not in self._refreshing:
                task = asyncio.create_task(self._refresh(claim), name="key")
                self._refreshing[claim.digest] = task
                task.add_done_callback(lambda _: self._refreshing.pop(claim.digest, None))
            if age < FRESH_SECONDS:
                self._used.add(client.client.key_id)
                return client.client
        elif self._is_held_up(address):
            raise self._failed(address)
        try:
            found = await self._look_up(claim)
        except AwayError:
            if client is not None and now - client.at < STALE_SECONDS and now < client.ends:
                return client.client
            raise RequestRefused(ApiCode.DATABASE_AWAY, headers=retry_after(1)) from None
        if found is None:
            raise self._failed(address)
        self._used.add(found.key_id)
        return found

    async def flush_used(self) -> None:
        """Write down which keys were used since the last time, as far as the database is there."""
        used, self._used = self._used, set()
        if not used:
            return
        try:
            async with self._database.transaction() as connection:
                await api_keys.used(connection, used)
        except StoreError as exc:
            log.debug("keys.unnoted", reason=str(exc))

    @property
    def expiring(self) -> float:
        """In how many seconds the next of the keys that were seen lately ends; infinity if none does."""
        now = self._clock()
        return min((client.ends - now for client in self._to_stored.values()), default=float("inf"))

    async def _refresh(self, claim: keys.Claim) -> None:
        with suppress(AwayError):  # what is known holds for a while
            await self._look_up(claim)

    async def _look_up(self, claim: keys.Claim) -> Client | None:
        """Return the client that the database knows for a claim, and remember it; raises AwayError."""
        at = self._clock()  # before the question: what is revoked after it is not in the answer
        key = await self._lookups.find(claim.key_id)
        fits = hmac.compare_digest(claim.digest, key.digest if key is not None else _NOBODY)
        if key is None or not fits or key.left == timedelta(0):
            self._to_stored.pop(claim.digest, None)
            return None
        client = Client(
            client=key.client,
            key_id=key.key_id,
            scopes=frozenset(key.scopes),
            users=key.users,
            serial_prefix=key.serial_prefix,
            rate=key.rate or keys.RATE,
            in_flight=key.in_flight or keys.IN_FLIGHT,
            expires_at=key.expires_at,
        )
        ends = float("inf") if key.left is None else at + key.left.total_seconds()
        self._to_stored.pop(claim.digest, None)
        self._to_stored[claim.digest] = _Remembered(client, at, ends)
        while len(self._to_stored) > REMEMBERED_MAX:
            self._to_stored.pop(next(iter(self._to_stored)))
        return client

    async def _ask(self, key_ids: list[str]) -> Mapping[str, ApiKey]:
        async with self._database.connection() as connection:
            return await api_keys.find(connection, key_ids)

    def _failed(self, address: str) -> RequestRefused:
        """Return the refusal of whoever shows no key that opens, counted for their address."""
        place = _place(address)
        if self._is_held_up(address):
            return RequestRefused(
                ApiCode.QUOTA_EXCEEDED,
                "too many requests without a key that opens",
                policy="failures",
                headers={
                    "ratelimit-policy": f'"failures";q={FAILURES_MAX};w={FAILURES_SECONDS:g}',
                    "retry-after": "30",
                },
            )
        failures = self._failures.pop(place, None) or deque(maxlen=FAILURES_MAX)
        failures.append(self._clock())
        self._failures[place] = failures
        while len(self._failures) > REMEMBERED_MAX:
            self._failures.pop(next(iter(self._failures)))
        return RequestRefused(ApiCode.UNAUTHENTICATED, headers={"www-authenticate": 'Bearer realm="wallet"'})

    def _is_held_up(self, address: str) -> bool:
        failures = self._failures.get(_place(address))
        return (
            failures is not None
            and len(failures) == FAILURES_MAX
            and self._clock() - failures[0] < FAILURES_SECONDS
        )


def _place(address: str) -> str:
    """Return what stands for whoever has an address: itself, or the network of an IPv6 one."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if not isinstance(found, ipaddress.IPv6Address) or found.ipv4_mapped is not None:
        return str(getattr(found, "ipv4_mapped", None) or found)
    return str(ipaddress.IPv6Address(int(found) >> _NETWORK_BITS << _NETWORK_BITS))
