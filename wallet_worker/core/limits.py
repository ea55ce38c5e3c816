"""Limits that a deployment sets: how large an order may be, how much a day, how much an account may hold.

They are data: for each account type and currency, so that a deployment adds an account type without code. A limit
is about commands only. What a payment gateway did collect is credited whatever the limit says, because the
money is there.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, tzinfo
from typing import NamedTuple

from wallet_schemas.commands import LimitName
from wallet_schemas.money import to_text
from wallet_schemas.values import OrderType
from wallet_worker.core.accounts import Account

ANY_TYPE = "*"
"""Stands in the place of an account type for all types that have no limits of their own."""


class Broken(NamedTuple):
    """Which limit an order would break: a sentence for a person, and in minor units the limit and what is left of it.

    `limit` is absent where an account may do nothing because no limits are set for its type.
    """

    message: str
    limit: LimitName | None = None
    allowed_minor: int = 0
    left_minor: int | None = None


@dataclass(frozen=True, slots=True)
class OrderLimits:
    """Limits of one type of order, in minor units, all inclusive; absent where there is none.

    `day_max_minor` is for the sum of the day's orders of this type that have not come to nothing.
    """

    amount_min_minor: int | None = None
    amount_max_minor: int | None = None
    day_max_minor: int | None = None


@dataclass(frozen=True, slots=True)
class AccountLimits:
    """Limits of an account of one type and currency."""

    balance_max_minor: int | None = None
    orders: Mapping[OrderType, OrderLimits] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """Everything that is limited, by account type (or `ANY_TYPE`) and currency; a day is one of `time_zone`."""

    accounts: Mapping[tuple[str, str], AccountLimits] = field(default_factory=dict)
    time_zone: tzinfo = UTC

    def of(self, account: Account) -> AccountLimits | None:
        """Return an account's limits: those of its type, else those of any type, else none."""
        if not self.accounts:
            return None
        own = self.accounts.get((account.account_type, account.currency))
        return own or self.accounts.get((ANY_TYPE, account.currency))

    def not_limited(self, account: Account) -> str | None:
        """Return why an account may do nothing: there are limits, and none for its type. None if it may.

        A type that somebody thinks of must not be a way around the limits of another.
        """
        types = {account_type for account_type, _ in self.accounts}
        if not types or ANY_TYPE in types or account.account_type in types:
            return None
        return f"no limits are set for accounts of the type {account.account_type}, so they may do nothing"

    @property
    def has_daily_limits(self) -> bool:
        """Whether anything is limited by the day."""
        return bool(self.counted_types)

    @property
    def counted_types(self) -> frozenset[OrderType]:
        """The types of orders of which something is limited by the day."""
        return frozenset(
            order_type
            for limits in self.accounts.values()
            for order_type, order_limits in limits.orders.items()
            if order_limits.day_max_minor is not None
        )

    def with_balance_limit(self, accounts: Iterable[Account]) -> list[int]:
        """Return the ids of the accounts whose balance is limited."""
        return [
            account.account_id
            for account in accounts
            if account.user_id and (limits := self.of(account)) and limits.balance_max_minor is not None
        ]

    def with_daily_limit(self, accounts: Iterable[Account]) -> list[int]:
        """Return the ids of the accounts whose orders of the day have to be summed up."""
        return [
            account.account_id
            for account in accounts
            if account.user_id
            and (limits := self.of(account))
            and any(order_limits.day_max_minor is not None for order_limits in limits.orders.values())
        ]

    def day_start(self, now: datetime) -> datetime:
        """Return when the day of `now` began."""
        today = now.astimezone(self.time_zone).date()
        return datetime.combine(today, time.min, self.time_zone).astimezone(UTC)

    def check_order(
        self, order_type: OrderType, amount_minor: int, account: Account, spent_minor: int
    ) -> Broken | None:
        """Return which limit an order of this account would break; None if it breaks none.

        `spent_minor` is the sum of the day's orders of this type, without this one.
        """
        if closed := self.not_limited(account):
            return Broken(closed)
        account_limits = self.of(account)
        limits = account_limits and account_limits.orders.get(order_type)
        if not limits:
            return None

        def text(minor: int) -> str:
            return f"{to_text(minor, account.currency)} {account.currency}"

        least, most, daily = limits.amount_min_minor, limits.amount_max_minor, limits.day_max_minor
        if least is not None and amount_minor < least:
            return Broken(f"a {order_type} is at least {text(least)}", LimitName.AMOUNT_MIN, least)
        if most is not None and amount_minor > most:
            return Broken(f"a {order_type} is at most {text(most)}", LimitName.AMOUNT_MAX, most)
        if daily is not None and spent_minor + amount_minor > daily:
            why = f"the {order_type} orders of a day are at most {text(daily)}"
            return Broken(why, LimitName.DAY_MAX, daily, max(0, daily - spent_minor))
        return None

    def check_balance(self, account: Account, amount_minor: int, expected_minor: int = 0) -> Broken | None:
        """Return which limit an account would break by receiving an amount; None if it breaks none.

        `expected_minor` is what it may receive besides: its recharges that wait for the gateway.
        """
        if closed := self.not_limited(account):
            return Broken(closed)
        limits = self.of(account)
        if limits is None or limits.balance_max_minor is None:
            return None
        most = limits.balance_max_minor
        held_minor = account.balance_minor + expected_minor
        if held_minor + amount_minor <= most:
            return None
        return Broken(
            f"the account may hold at most {to_text(most, account.currency)} {account.currency}",
            LimitName.BALANCE_MAX,
            most,
            max(0, most - held_minor),
        )
