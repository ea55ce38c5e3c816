"""Amounts keep their value on the way between text and minor units, or are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from iso4217 import Currency

from wallet_schemas import money

CURRENCIES = st.sampled_from(sorted(money.MINOR_DIGITS))
MINOR = st.integers(min_value=0, max_value=money.AMOUNT_MAX_MINOR)


@given(minor=MINOR, currency=CURRENCIES)
def test_minor_units_come_back_from_their_text(minor: int, currency: str) -> None:
    text = money.to_text(minor, currency)

    assert money.to_minor(text, currency) == minor
    assert len(text.partition(".")[2]) == money.minor_digits(currency)
    assert money.canonical(text, currency) == text


@given(minor=MINOR, currency=CURRENCIES, zeros=st.integers(min_value=0, max_value=30), data=st.data())
def test_every_spelling_of_an_amount_has_its_value(
    minor: int, currency: str, zeros: int, data: st.DataObject
) -> None:
    text = money.to_text(minor, currency)
    kept = data.draw(st.integers(min_value=len(text.rstrip("0")), max_value=len(text)))
    short = text[:kept].removesuffix(".") if "." in text else text
    spelling = "0" * zeros + short

    assert money.to_minor(spelling, currency) == minor
    assert money.canonical(spelling, currency) == text


@given(minor=st.integers(min_value=money.AMOUNT_MAX_MINOR + 1, max_value=10**60), currency=CURRENCIES)
def test_more_than_the_largest_amount_is_out_of_range(minor: int, currency: str) -> None:
    with pytest.raises(money.AmountOutOfRange):
        money.to_minor(money.to_text(minor, currency), currency)


@given(minor=st.integers(min_value=-money.AMOUNT_MAX_MINOR, max_value=-1), currency=CURRENCIES)
def test_below_zero_is_written_with_a_sign_and_never_read(minor: int, currency: str) -> None:
    text = money.to_text(minor, currency)

    assert text == "-" + money.to_text(-minor, currency)
    with pytest.raises(money.AmountMalformed):
        money.to_minor(text, currency)


@given(currency=CURRENCIES, data=st.data())
def test_a_digit_too_many_is_malformed(currency: str, data: st.DataObject) -> None:
    digits = money.minor_digits(currency) + 1
    fraction = data.draw(st.text(alphabet="0123456789", min_size=digits, max_size=40))

    with pytest.raises(money.AmountMalformed):
        money.to_minor(f"1.{fraction}", currency)


@given(text=st.text(max_size=20), currency=CURRENCIES)
def test_any_text_is_an_amount_or_malformed_or_out_of_range(text: str, currency: str) -> None:
    try:
        minor = money.to_minor(text, currency)
    except (money.AmountMalformed, money.AmountOutOfRange):
        return

    assert text.isascii()
    assert money.to_text(minor, currency) == money.canonical(text, currency)


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [
        ("100", "TWD", 10_000),
        ("100.0", "TWD", 10_000),
        ("100.00", "TWD", 10_000),
        ("0.01", "TWD", 1),
        ("0", "TWD", 0),
        ("0", "JPY", 0),
        ("000", "JPY", 0),
        ("100", "JPY", 100),
        ("1.234", "KWD", 1_234),
        ("1.2345", "CLF", 12_345),
        ("10000000000000.00", "TWD", money.AMOUNT_MAX_MINOR),
    ],
)
def test_amounts_have_the_digits_of_iso_4217(amount: str, currency: str, minor: int) -> None:
    assert money.to_minor(amount, currency) == minor


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        (0, "TWD", "0.00"),
        (5, "TWD", "0.05"),
        (-5, "TWD", "-0.05"),
        (10_000, "TWD", "100.00"),
        (0, "JPY", "0"),
        (7, "KWD", "0.007"),
    ],
)
def test_minor_units_are_written_with_the_digits_of_iso_4217(minor: int, currency: str, text: str) -> None:
    assert money.to_text(minor, currency) == text


@pytest.mark.parametrize(
    "amount", ["", ".", "1.", ".5", "+1", "-1", "1e3", "1,00", " 1", "1\n", "\u0661", "0x1"]
)
def test_what_is_no_amount_is_malformed(amount: str) -> None:
    with pytest.raises(money.AmountMalformed):
        money.to_minor(amount, "TWD")


def test_an_amount_of_any_length_is_answered() -> None:
    with pytest.raises(money.AmountOutOfRange):
        money.to_minor("9" * 1_000_000, "TWD")
    assert money.to_minor("0" * 1_000_000 + "1", "TWD") == 100


@pytest.mark.parametrize("currency", ["XYZ", "twd", "", "XAU", "XXX", "XTS"])
def test_no_amount_is_held_in_what_has_no_minor_unit(currency: str) -> None:
    with pytest.raises(money.UnknownCurrency):
        money.minor_digits(currency)
    with pytest.raises(money.UnknownCurrency):
        money.to_minor("1", currency)
    with pytest.raises(money.UnknownCurrency):
        money.to_text(1, currency)


@pytest.mark.parametrize(
    ("amount", "canonical"), [("01.50", "1.5"), ("1.00", "1"), ("0.0", "0"), ("9" * 30, "9" * 30)]
)
def test_amounts_in_unknown_currencies_have_one_spelling_too(amount: str, canonical: str) -> None:
    assert money.canonical(amount, "XYZ") == canonical


def test_every_iso_currency_with_a_minor_unit_is_known() -> None:
    assert {code: money.MINOR_DIGITS[code] for code in ("TWD", "USD", "EUR", "JPY", "KWD")} == {
        "TWD": 2,
        "USD": 2,
        "EUR": 2,
        "JPY": 0,
        "KWD": 3,
    }
    assert money.MINOR_DIGITS.keys() == {each.code for each in Currency if each.exponent is not None}
