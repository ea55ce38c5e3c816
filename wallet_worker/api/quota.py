"""How much one client may ask of one process: so many requests a second, and so many at once.

Counted here and by a monotonic clock: the libraries that were looked at count by the clock on the wall, or start a
thread each hundredth of a second.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from wallet_schemas.http import ApiCode
from wallet_worker.api.keys import Client
from wallet_worker.api.problems import RequestRefused

CLIENTS_MAX: Final = 10_000  # clients remembered; who has not asked for a second has nothing to remember


class _Window(NamedTuple):
    """How many requests there were in this second, and in the one before."""

    second: int
    now: int
    before: int


class Quota:
    """The requests of each client: in the last second, and under way."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._windows: dict[str, _Window] = {}
        self._under_way: Counter[str] = Counter()

    @contextmanager
    def of(self, client: Client) -> Iterator[dict[str, str]]:
        """Count a request while it is under way; give the headers that say what is left, if that is little.

        Raises Refused above one of the client's two limits.
        """
        left = self._left(client)
        policy = f'"client";q={client.rate};w=1'
        if left < 1:
            raise RequestRefused(
                ApiCode.QUOTA_EXCEEDED,
                f"{client.rate} requests a second",
                policy="client",
                headers={"ratelimit-policy": policy, "ratelimit": '"client";r=0;t=1', "retry-after": "1"},
            )
        if self._under_way[client.client] >= client.in_flight:
            raise RequestRefused(
                ApiCode.QUOTA_EXCEEDED,
                f"{client.in_flight} requests at once",
                policy="in-flight",
                headers={
                    "ratelimit-policy": f'"in-flight";q={client.in_flight};qu="concurrent-requests"',
                    "retry-after": "1",
                },
            )
        self._under_way[client.client] += 1
        try:
            if left * 2 > client.rate:
                yield {}
            else:
                yield {"ratelimit-policy": policy, "ratelimit": f'"client";r={int(left) - 1};t=1'}
        finally:
            self._under_way[client.client] -= 1
            if not self._under_way[client.client]:
                del self._under_way[client.client]

    def _left(self, client: Client) -> float:
        """Return how many requests the client has left in the second that ends now, and count this one."""
        at = self._clock()
        second = int(at)
        window = self._windows.pop(client.client, None) or _Window(second, 0, 0)
        if window.second != second:
            window = _Window(second, 0, window.now if window.second == second - 1 else 0)
        left = client.rate - window.now - window.before * (1 - (at - second))
        if left >= 1:
            window = window._replace(now=window.now + 1)
        self._windows[client.client] = window  # last in order, so the one forgotten last
        while len(self._windows) > CLIENTS_MAX:
            self._windows.pop(next(iter(self._windows)))
        return left
