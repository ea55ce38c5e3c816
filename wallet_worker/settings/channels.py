"""A deployment's channels, as it writes them: JSON by recharge_type or payout_type."""

import re
from datetime import timedelta
from itertools import pairwise
from typing import Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from wallet_schemas.values import ChannelType
from wallet_worker.core.channels import ANY_CHANNEL, Channel

AGE_MAX_SECONDS: Final = 366 * 86_400  # what an order waits for longer than a year nobody remembers

_CHANNEL_TYPE: Final[TypeAdapter[str]] = TypeAdapter(ChannelType)
_HOST: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|[a-z][a-z0-9+.-]*:")


class ChannelSettings(BaseModel):
    """Rules of one channel, such as {"expires_seconds": 259200}; what is left out has its default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    expires_seconds: int | None = Field(default=None, ge=1, le=AGE_MAX_SECONDS)
    expires_max_seconds: int = Field(default=5_184_000, ge=1, le=AGE_MAX_SECONDS)
    inquiry_seconds: tuple[int, ...] | None = None
    hosts: tuple[str, ...] | None = None
    amounts: Literal["exact", "any"] = "exact"
    gateway_refs: Literal["free", "unique"] = "free"
    late_credit_days: int = Field(default=30, ge=0, le=36_600)

    @field_validator("inquiry_seconds")
    @classmethod
    def _ages_grow(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None:
            check_ages(value)
        return value

    @field_validator("hosts")
    @classmethod
    def _are_hosts(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for host in value or ():
            if not _HOST.fullmatch(host):
                msg = (
                    f"{host!r} is no host in small letters, such as pay.acme.example, and no scheme of an app, such "
                    "as line:"
                )
                raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _is_safe(self) -> Self:
        if self.amounts == "any" and self.gateway_refs != "unique":
            raise ValueError(
                'amounts "any" needs gateway_refs "unique": only by its id are two payments of one order told apart'
            )
        return self

    @property
    def channel(self) -> Channel:
        """The rules as the core knows them."""
        return Channel(
            expires_after=None if self.expires_seconds is None else timedelta(seconds=self.expires_seconds),
            expires_max_after=timedelta(seconds=self.expires_max_seconds),
            hosts=None if self.hosts is None else frozenset(self.hosts),
            any_amount=self.amounts == "any",
            refs_unique=self.gateway_refs == "unique",
            late_credit_max=timedelta(days=self.late_credit_days) if self.late_credit_days else None,
        )


def check_ages(seconds: tuple[int, ...]) -> None:
    """Raise ValueError unless these are ages in seconds at which a payment can be asked about."""
    if not seconds or seconds[0] < 1 or any(earlier >= other for earlier, other in pairwise(seconds)):
        raise ValueError("it should be seconds, each more than the one before, such as [60, 300]")
    if seconds[-1] > AGE_MAX_SECONDS:
        raise ValueError(f"it should be at most {AGE_MAX_SECONDS} seconds, a year")


def checked_names(channels: dict[str, ChannelSettings]) -> dict[str, ChannelSettings]:
    """Return the channels; raises ValueError for a name that no order can have: what is misspelt would rule nothing."""
    for name in channels:
        if name != ANY_CHANNEL:
            try:
                _CHANNEL_TYPE.validate_python(name)
            except ValidationError as exc:
                raise ValueError(f"{name!r} is no channel") from exc
    return channels
