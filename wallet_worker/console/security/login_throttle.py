"""How often somebody may try to sign in: a bound for each name from each address, for each address, for each name.

A device that a name has signed in with before has a bound of its own instead, which no stranger can use up.
"""

import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

NETWORK_BITS = 64  # of an IPv6 address: whoever has one has all of its network, and could try from each

SPAN_SECONDS = 900.0
KEYS_MAX = (
    10_000  # of failures remembered; an attacker with more names or addresses makes us forget the oldest
)


@dataclass(frozen=True, slots=True)
class ThrottleBounds:
    """Failures within SPAN_SECONDS, after which no password is looked at any more.

    The bound of a name alone is far higher than that of a name from one address: somebody who guesses from
    elsewhere should not be able to lock a colleague out with a handful of tries.
    """

    name_at_address: int = 5
    address: int = 30
    name: int = 50
    device: int = 5


class Attempts:
    """The failures of the last while."""

    def __init__(self, clock: Callable[[], float], bounds: ThrottleBounds | None = None) -> None:
        self._clock = clock
        self._bounds = bounds or ThrottleBounds()
        self._failures: dict[bytes, deque[float]] = {}

    def wait_seconds(self, name: str, address: str, device: str | None = None) -> float:
        """Return how long nobody of this name and address, or with this device, may try; 0 if somebody may now."""
        return max(self._wait(key, bound) for key, bound in self._keys(name, address, device))

    def failed(self, name: str, address: str, device: str | None = None) -> None:
        """Count a wrong password, or a wrong name; counted before it is looked at, and `succeeded` takes it back."""
        for key, bound in self._keys(name, address, device):
            failures = self._failures.pop(key, None) or deque(maxlen=bound)
            failures.append(self._clock())
            self._failures[key] = failures  # last in order, so the one forgotten last
        while len(self._failures) > KEYS_MAX:
            self._failures.pop(next(iter(self._failures)))

    def succeeded(self, name: str, address: str, device: str | None = None) -> None:
        """Forget the failures of this name at this address or device, and of the others the last, which was none."""
        (both, _), *others = self._keys(name, address, device)
        self._failures.pop(both, None)
        for key, _ in others:
            failures = self._failures.get(key)
            if failures:
                failures.pop()

    def _keys(self, name: str, address: str, device: str | None) -> tuple[tuple[bytes, int], ...]:
        if device is not None:
            return ((_key("device", name, device), self._bounds.device),)
        address = _place(address)
        return (
            (_key("both", name, address), self._bounds.name_at_address),
            (_key("address", address), self._bounds.address),
            (_key("name", name), self._bounds.name),
        )

    def _wait(self, key: bytes, bound: int) -> float:
        failures = self._failures.get(key)
        if not failures or len(failures) < bound:
            return 0.0
        return max(0.0, failures[0] + SPAN_SECONDS - self._clock())


def _key(*parts: str) -> bytes:
    """Return what stands for a name or an address: of one size however long it is, and no password in the clear."""
    return hashlib.sha256("\0".join(parts).encode(errors="replace")).digest()


def _place(address: str) -> str:
    """Return what stands for whoever has an address: itself, or the network of an IPv6 one."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if not isinstance(found, IPv6Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(IPv6Address(int(found) >> NETWORK_BITS << NETWORK_BITS))
