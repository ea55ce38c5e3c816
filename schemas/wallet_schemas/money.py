"""Amounts: decimal strings on the wire, integers of minor units inside, never floats.

How many minor digits a currency has is taken from the ISO 4217 table in the package `iso4217`.
"""

import re
from types import MappingProxyType
from typing import Final

from iso4217 import Currency

# A 9,000-fold margin below a 64-bit integer, so that sums of amounts cannot overflow soon either.
AMOUNT_MAX_MINOR: Final = 10**15
_WHOLE_DIGITS_MAX: Final = len(str(AMOUNT_MAX_MINOR))

# Gold, the testing code and their like have no minor unit in ISO 4217, so nobody can hold an amount of them.
MINOR_DIGITS: Final = MappingProxyType(
    {currency.code: currency.exponent for currency in Currency if currency.exponent is not None}
)

_AMOUNT: Final = re.compile(r"([0-9]+)(?:\.([0-9]+))?")


class UnknownCurrency(ValueError):  # noqa: N818 - named after what is wrong
    """The text is not an ISO 4217 currency with a minor unit."""


class AmountMalformed(ValueError):  # noqa: N818
    """The text is not an amount, or has more minor digits than its currency."""


class AmountOutOfRange(ValueError):  # noqa: N818
    """The amount is well-formed and above AMOUNT_MAX_MINOR."""


def minor_digits(currency: str) -> int:
    """Return the number of digits that the currency has after the point, or raise UnknownCurrency."""
    try:
        return MINOR_DIGITS[currency]
    except KeyError:
        raise UnknownCurrency(f"{currency[:8]!r} is no ISO 4217 currency with a minor unit") from None


def to_minor(amount: str, currency: str) -> int:
    """Return the amount in minor units, from 0 to AMOUNT_MAX_MINOR.

    Zero is read too, because balances may be zero.
    Raises AmountMalformed, AmountOutOfRange or UnknownCurrency.
    """
    digits = minor_digits(currency)
    whole, fraction = _split(amount)
    if len(fraction) > digits:
        raise AmountMalformed(f"{currency} has {digits} digits after the point, not {len(fraction)}")
    # The length is looked at first: int() is slow with thousands of digits, or refuses them.
    if (
        len(whole) > _WHOLE_DIGITS_MAX
        or (minor := int(whole + fraction.ljust(digits, "0"))) > AMOUNT_MAX_MINOR
    ):
        raise AmountOutOfRange(f"the amount is above {to_text(AMOUNT_MAX_MINOR, currency)} {currency}")
    return minor


def to_text(minor: int, currency: str) -> str:
    """Return minor units as a decimal string with exactly the currency's digits; below zero it has a sign."""
    digits = minor_digits(currency)
    if digits == 0:
        return str(minor)
    sign = "-" if minor < 0 else ""
    text = str(abs(minor)).rjust(digits + 1, "0")
    return f"{sign}{text[:-digits]}.{text[-digits:]}"


def canonical(amount: str, currency: str) -> str:
    """Return the one spelling that all spellings of the same well-formed amount share, however large it is.

    In a currency known to ISO it has the currency's digits. Otherwise it has no trailing zeros.
    """
    whole, fraction = _split(amount)
    digits = MINOR_DIGITS.get(currency)
    fraction = fraction.rstrip("0") if digits is None else fraction.ljust(digits, "0")
    return f"{whole}.{fraction}" if fraction else whole


def _split(amount: str) -> tuple[str, str]:
    """Return the digits before the point without needless zeros, and those after it, perhaps none."""
    match = _AMOUNT.fullmatch(amount)
    if match is None:
        raise AmountMalformed(
            "an amount is written with digits, and a point with digits after it where needed"
        )
    whole, fraction = match.groups(default="")
    return whole.lstrip("0") or "0", fraction
