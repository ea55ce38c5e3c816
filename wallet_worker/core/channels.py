"""What a deployment says of a channel, which is a recharge_type or payout_type."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

ANY_CHANNEL: Final = "*"


@dataclass(frozen=True, slots=True)
class Channel:
    """The rules of one channel; where one is absent, that of the deployment as a whole counts.

    A recharge is waited for `expires_after`, and the gateway may move that to `expires_max_after` its making. Of the
    addresses in instructions, those of https have one of these `hosts`, and of any other scheme its name and a colon
    stands there; absent, any may stand in them.

    `any_amount`: a success with another amount credits what came. `refs_unique`: one gateway_ref is one payment. A
    success later than `late_credit_max` after the order has ended is for an operator; absent, none is too late.
    """

    expires_after: timedelta | None = None
    expires_max_after: timedelta = timedelta(days=60)
    hosts: frozenset[str] | None = None
    any_amount: bool = False
    refs_unique: bool = False
    late_credit_max: timedelta | None = timedelta(days=30)

    def foreign(self, urls: Iterable[str]) -> str | None:
        """Return the host, or the scheme, of the first address that may not be shown to a payer."""
        if self.hosts is None:
            return None
        return next((place for url in urls if (place := _place(url)) not in self.hosts), None)


_DEFAULT: Final = Channel()


def _place(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return url
    return (host or "") if parts.scheme == "https" else f"{parts.scheme}:"


def channel_of(channels: Mapping[str, Channel], name: str) -> Channel:
    """Return the rules of a channel: its own, else those of every other, else the defaults."""
    return channels.get(name) or channels.get(ANY_CHANNEL) or _DEFAULT
