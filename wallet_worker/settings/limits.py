"""A deployment's limits, as it writes them: JSON with decimal strings, by account type and currency."""

import re
from typing import Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from wallet_schemas.money import UnknownCurrency, minor_digits, to_text
from wallet_schemas.values import AccountType, OrderType
from wallet_worker.core.limits import ANY_TYPE, AccountLimits, Limits, OrderLimits

_ACCOUNT_TYPE = TypeAdapter(AccountType)


class _OrderLimitSettings(BaseModel):
    """Limits of one type of order, as decimal strings of the currency; all inclusive, and none where left out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    amount_min: str | None = None
    amount_max: str | None = None
    day_max: str | None = None

    def limits(self, currency: str) -> OrderLimits:
        limits = OrderLimits(
            amount_min_minor=_minor(self.amount_min, currency),
            amount_max_minor=_minor(self.amount_max, currency),
            day_max_minor=_minor(self.day_max, currency),
        )
        least = limits.amount_min_minor
        for most in (limits.amount_max_minor, limits.day_max_minor):
            if least is not None and most is not None and 0 < most < least:
                raise ValueError(f"amount_min {self.amount_min} is more than an order may be")
        return limits


class _AccountLimitSettings(BaseModel):
    """Limits of an account of one type and currency: of its balance, and of each type of order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    balance_max: str | None = None
    orders: dict[OrderType, _OrderLimitSettings] = Field(default_factory=dict)


class LimitSettings(BaseModel):
    """All limits: {"time_zone": "Asia/Taipei", "accounts": {"basic": {"TWD": {"balance_max": "100000.00", ...}}}}.

    The account type `*` is every type that is not named. A day begins at midnight of the time zone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    time_zone: str = "UTC"
    accounts: dict[str, dict[str, _AccountLimitSettings]] = Field(default_factory=dict)

    @field_validator("time_zone")
    @classmethod
    def _is_known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError) as exc:
            raise ValueError(f"no time zone is called {value!r}") from exc
        return value

    @field_validator("accounts")
    @classmethod
    def _can_be_of_accounts(
        cls, value: dict[str, dict[str, _AccountLimitSettings]]
    ) -> dict[str, dict[str, _AccountLimitSettings]]:
        """Refuse names that no account can have: what is misspelt would limit nothing, and nobody would know."""
        for account_type, by_currency in value.items():
            if account_type != ANY_TYPE:
                try:
                    _ACCOUNT_TYPE.validate_python(account_type)
                except ValidationError as exc:
                    raise ValueError(f"{account_type!r} is no type of account") from exc
            for currency in by_currency:
                _digits(currency)
        return value

    @model_validator(mode="after")
    def _can_be_read(self) -> Self:
        _ = self.limits  # an amount that is none is said at the start
        return self

    @property
    def limits(self) -> Limits:
        """The limits as the core knows them; raises ValueError for an amount that its currency cannot have."""
        return Limits(
            accounts={
                (account_type, currency): AccountLimits(
                    balance_max_minor=_minor(found.balance_max, currency),
                    orders={order_type: order.limits(currency) for order_type, order in found.orders.items()},
                )
                for account_type, by_currency in self.accounts.items()
                for currency, found in by_currency.items()
            },
            time_zone=ZoneInfo(self.time_zone),
        )


def _minor(amount: str | None, currency: str) -> int | None:
    return None if amount is None else limit_minor(amount, currency)


def limit_minor(amount: str, currency: str) -> int:
    """Return an amount of a setting in minor units; one of 0 allows nothing. Raises ValueError."""
    digits = _digits(currency)
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", amount) or len(amount.partition(".")[2]) > digits:
        raise ValueError(
            f"{amount!r} is no amount in {currency}: it should look like {to_text(10_000, currency)}"
        )
    whole, _, part = amount.partition(".")
    return int(whole + part.ljust(digits, "0"))


def _digits(currency: str) -> int:
    try:
        return minor_digits(currency)
    except UnknownCurrency as exc:
        raise ValueError(f"{currency} is no currency") from exc
