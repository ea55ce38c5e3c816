"""What all messages have in common: they are frozen and strict.

What is sent to the wallet is closed: a field that is not named is an error, and a new field is a new version of the
type. What the wallet says may gain fields within its version: whoever reads it passes over names that it does not know.
"""

from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, TypeAlias, cast

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import override

from wallet_schemas import money

# The type of an error that only the whole can find, and that belongs to the field `amount`.
AMOUNT_DIGITS: Final = "amount_digits"
# The type of an error that only the whole can find, and that belongs to the field which its context names.
FIELD_OF_WHOLE: Final = "field_of_whole"


Body: TypeAlias = dict[str, Any]
"""A JSON object that is about to be written: texts, numbers, enumerations, and objects and lists of them."""


class JsonObject(BaseModel):
    """A JSON object inside a message."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        # In Python a field like `from` goes by another name too; on the wire it does not, see `parse`.
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )


class Message(JsonObject):
    """A whole message: its class has the field `type` with the one value that it may have."""

    TYPE: ClassVar[str]
    type: str

    @override
    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        default = cls.model_fields["type"].default
        if isinstance(default, str):
            cls.TYPE = default

    @classmethod
    def examples(cls) -> list[dict[str, Any]]:
        """Return messages of this class as they look on the wire; the schemas show them."""
        extra = cls.model_config.get("json_schema_extra")
        if not isinstance(extra, dict):
            raise TypeError(f"{cls.__name__} has no examples")
        return list(cast("list[dict[str, Any]]", extra["examples"]))


OPEN: Final = ConfigDict(extra="ignore")
"""The configuration of what the wallet says: it does not forbid other members."""


class OutboundObject(JsonObject):
    """A JSON object inside of what the wallet says; members that are not known here are passed over."""

    model_config = OPEN


class OutboundMessage(Message):
    """A whole message that the wallet says; members that are not known here are passed over."""

    model_config = OPEN


class MoneyFields(JsonObject):
    """A part with an amount, spelt as its sender likes, in a currency; the part itself has the two fields."""

    if TYPE_CHECKING:
        amount: str
        currency: str

    @property
    def amount_minor(self) -> int:
        """The amount in minor units; raises money.AmountOutOfRange, or money.UnknownCurrency."""
        return money.to_minor(self.amount, self.currency)

    @model_validator(mode="after")
    def _amount_has_the_digits_of_its_currency(self) -> Self:
        # A currency that ISO does not know makes nothing malformed: it is refused, like one not allowed.
        digits = money.MINOR_DIGITS.get(self.currency)
        if digits is not None and len(self.amount.partition(".")[2]) > digits:
            raise PydanticCustomError(
                AMOUNT_DIGITS,
                "{currency} has {digits} digits after the point",
                {"currency": self.currency, "digits": digits},
            )
        return self
