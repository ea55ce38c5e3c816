"""What a decision needs beside the message and the facts: all of it values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from wallet_schemas.names import DEFAULT_CURRENCIES
from wallet_worker.core.channels import Channel, channel_of
from wallet_worker.core.ids import FreshIds
from wallet_worker.core.inbound import InboundMessage
from wallet_worker.core.limits import Limits
from wallet_worker.core.senders import Senders

INQUIRY_AGES = (
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=12),
)


@dataclass(frozen=True, slots=True)
class Policy:
    """What a deployment may choose.

    `currencies` are those that an order may be in. A recharge is waited for `recharge_expires_after` long, or as its
    channel says. The gateway is asked about an order when it is as old as each of `inquiry_ages`, or of those of its
    channel; once the last is past, again and again with that much time between.
    """

    currencies: frozenset[str] = frozenset(DEFAULT_CURRENCIES)
    recharge_expires_after: timedelta = timedelta(hours=24)
    inquiry_ages: tuple[timedelta, ...] = INQUIRY_AGES
    ask_after_by_channel: Mapping[str, tuple[timedelta, ...]] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    senders: Senders | None = None
    account_types: frozenset[str] | None = None
    channels: Mapping[str, Channel] = field(default_factory=dict)

    @property
    def has_unique_refs(self) -> bool:
        """Whether one id of the gateway's is one payment on any channel."""
        return any(channel.refs_unique for channel in self.channels.values())

    def channel(self, name: str) -> Channel:
        """Return the rules of a channel."""
        return channel_of(self.channels, name)

    def recharge_expires_at(self, channel: str, created_at: datetime) -> datetime:
        """Return until when a recharge is waited for, if the gateway says nothing else."""
        after = self.channel(channel).expires_after if self.channels else None
        return created_at + (self.recharge_expires_after if after is None else after)

    def next_inquiry_at(
        self, channel: str, created_at: datetime, expires_at: datetime | None, now: datetime
    ) -> datetime:
        """Return when to look next at an order that waits for the gateway: to ask, or because it expires."""
        ages = self.ask_after_by_channel.get(channel, self.inquiry_ages)
        asked_at = next((time for age in ages if (time := created_at + age) > now), now + ages[-1])
        return min(asked_at, expires_at) if expires_at else asked_at


class DecisionContext(NamedTuple):
    """The policy, how the message arrived, its fresh ids, and the database's time."""

    rules: Policy
    incoming: InboundMessage
    draw: FreshIds
    now: datetime
