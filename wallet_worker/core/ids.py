"""Identifiers, made from bytes that the shell drew at random and a time that it read.

Nothing here draws or reads a clock, so the same draw always gives the same identifiers.
"""

import hashlib
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

ENTROPY_BYTES = 48
"""What nearly every message needs at most: an order id, three event ids and an account number."""

_UUID_RANDOM_BYTES = 10
_EVENT_IDS = 3
_RANDOM_BITS = (1 << 80) - 1 & ~(0xF << 76) & ~(0x3 << 62)
_ACCOUNT_DIGITS = 10


class FreshIds(NamedTuple):
    """Everything that is fresh about one message: `ENTROPY_BYTES` random bytes and a spare account id.

    `account_id` comes from the database's sequence, ahead of time, because an account that a batch
    opens may be used by a later message of the same batch. A message that opens none leaves it unused.
    """

    entropy: bytes
    account_id: int = 0

    def order_id(self, at: datetime) -> UUID:
        """Return the id of the order that this message creates."""
        return uuid7(at, self.entropy[0:10])

    def event_id(self, at: datetime, number: int = 0) -> UUID:
        """Return the id of this message's outgoing message `number`: 0 to 2 for what nearly every message needs."""
        if number >= _EVENT_IDS:
            return self.further_id(at, number)
        start = _UUID_RANDOM_BYTES * (1 + number)
        return uuid7(at, self.entropy[start : start + _UUID_RANDOM_BYTES])

    def further_id(self, at: datetime, number: int) -> UUID:
        """Return another id of this message: of what the wallet makes beside what it was asked for, by a counter."""
        return uuid7(
            at, hashlib.sha256(self.entropy + number.to_bytes(4, "big")).digest()[:_UUID_RANDOM_BYTES]
        )

    def account_no(self, at: datetime) -> str:
        """Return the number of the account that this message opens."""
        return account_no(at, int.from_bytes(self.entropy[40:48], "big"))


def uuid7(at: datetime, random: bytes) -> UUID:
    """Return the UUID version 7 of a time and ten random bytes (RFC 9562, section 5.7)."""
    return UUID(int=_stamp(at) | (int.from_bytes(random, "big") & _RANDOM_BITS))


@lru_cache(maxsize=8)  # the messages of a batch have one time
def _stamp(at: datetime) -> int:
    """Return the bits of a UUID version 7 that are not random: the milliseconds, the version and the variant."""
    return (int(at.timestamp() * 1000) << 80) | (0x7 << 76) | (0x2 << 62)


def account_no(at: datetime, random: int) -> str:
    """Return an account number: the day, ten digits of `random`, and a Luhn check digit; 19 digits."""
    stem = f"{at:%Y%m%d}{random % 10**_ACCOUNT_DIGITS:0{_ACCOUNT_DIGITS}d}"
    return stem + luhn_digit(stem)


def luhn_digit(digits: str) -> str:
    """Return the check digit that makes `digits` valid (ISO/IEC 7812-1, annex B)."""
    total = 0
    for position, character in enumerate(reversed(digits)):
        digit = int(character)
        if position % 2 == 0:
            digit *= 2
            if digit > 9:  # noqa: PLR2004 -- the two digits of 10 to 18 are added up
                digit -= 9
        total += digit
    return str(-total % 10)


def is_account_no(text: str) -> bool:
    """Return whether `text` is 19 digits of which the last checks the others."""
    return len(text) == 19 and text.isascii() and text.isdigit() and luhn_digit(text[:-1]) == text[-1]  # noqa: PLR2004
