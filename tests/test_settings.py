"""Settings are read from the environment, and a wrong one is said without showing it."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsError

from wallet_schemas.values import OrderType
from wallet_worker.core.context import INQUIRY_AGES
from wallet_worker.core.limits import ANY_TYPE, AccountLimits, OrderLimits
from wallet_worker.settings.in_force import in_force
from wallet_worker.settings.settings import Settings
from wallet_worker.settings.sources import SECRETS, SecretFileError


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WALLET_AMQP_URL", "amqp://wallet:amqp-secret@broker/")
    monkeypatch.setenv("WALLET_DATABASE_URL", "postgresql://wallet:database-secret@database/wallet")


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("DATABASE_URL", "mysql://wallet:database-secret@database/wallet", "postgresql://"),
        ("AMQP_URL", "http://wallet:amqp-secret@broker/", "amqp://"),
        ("AMQP_URL", "amqp://[", "amqp://"),
        ("AMQP_URL", "amqp://wallet:amqp-secret@one/v, amqp://wallet:amqp-secret@two/w", "the same vhost"),
        ("AMQP_URL", "amqps://wallet:amqp-secret@one/v amqp://wallet:amqp-secret@two/v", "the same scheme"),
        ("PAYMENT_KEYS", '{"k1": ""}', "less than 16 bytes"),
        ("CURRENCIES", "TWD,TWX", "TWX"),
        ("HTTP_PORT", "70000", "65535"),
        ("LOG_LEVEL", "loud", "debug"),
        ("RECHARGE_EXPIRES_SECONDS", "0", "greater"),
    ],
)
def test_a_wrong_setting_is_named_and_no_secret_is_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(f"WALLET_{name}", value)

    with pytest.raises(ValidationError) as caught:
        Settings()

    assert sentence in str(caught.value)
    assert name.lower() in str(caught.value)
    assert "secret" not in str(caught.value).replace("the secret of", "")


NUMBERS = [name for name, field in Settings.model_fields.items() if field.annotation in {int, float}]


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e308", "9" * 5_000, "-1"])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_is_none_or_has_no_end_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"WALLET_{name.upper()}", value)

    with pytest.raises(ValidationError, match=name):
        Settings()


def test_currencies_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WALLET_CURRENCIES", "TWD, JPY")

    assert Settings().rules.currencies == {"TWD", "JPY"}


def test_no_secret_is_shown_by_the_settings_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WALLET_PAYMENT_KEYS", '{"k1": "a-signing-secret"}')

    assert "secret" not in repr(Settings()).replace("SecretStr", "")
    assert Settings().keys["k1"].material == b"a-signing-secret"


# When the gateway is asked


def test_the_ages_at_which_the_gateway_is_asked_are_separated_by_commas(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert Settings().rules.inquiry_ages == INQUIRY_AGES

    monkeypatch.setenv("WALLET_PAYMENT_INQUIRY_SECONDS", "1, 60,3600")
    monkeypatch.setenv(
        "WALLET_PAYMENT_INQUIRY_SECONDS_BY_CHANNEL", '{"card": [30], "bank_transfer": [600, 86400]}'
    )

    rules = Settings().rules
    assert rules.inquiry_ages == (timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1))
    assert rules.ask_after_by_channel == {
        "card": (timedelta(seconds=30),),
        "bank_transfer": (timedelta(minutes=10), timedelta(days=1)),
    }


GROWING = "it should be seconds, each more than the one before, such as [60, 300]"


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("", GROWING),
        (",", GROWING),
        ("0", GROWING),
        ("-1,60", GROWING),
        ("60,60", GROWING),
        ("300,60", GROWING),
        ("60,soon", "valid integer"),
        ("60.5", "valid integer"),
        ("60,99999999999999", "at most 31622400 seconds, a year"),
    ],
)
def test_ages_that_are_none_are_said_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, value: str, sentence: str
) -> None:
    monkeypatch.setenv("WALLET_PAYMENT_INQUIRY_SECONDS", value)

    with pytest.raises(ValidationError, match="payment_inquiry_seconds") as caught:
        Settings()

    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"card": []}, GROWING),
        ({"card": [0]}, GROWING),
        ({"card": [60], "bank_transfer": [2, 1]}, GROWING),
        ({"card": 60}, "valid tuple"),
        ({"card": ["soon"]}, "valid integer"),
        ({"Card": [60]}, "should match pattern"),
        ([60], "valid dictionary"),
    ],
)
def test_ages_of_a_channel_that_are_none_are_said_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, value: object, sentence: str
) -> None:
    monkeypatch.setenv("WALLET_PAYMENT_INQUIRY_SECONDS_BY_CHANNEL", json.dumps(value))

    with pytest.raises(ValidationError, match="payment_inquiry_seconds_by_channel") as caught:
        Settings()

    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("WALLET_CONSOLE_PROXIES", "*", "it should be addresses"),
        ("WALLET_API_PROXIES", "10.0.0.5, *", "it should be addresses"),
        ("WALLET_DLQ_SINGLE_PERSON_AMOUNTS", '{"TWD": "1.001"}', "is no amount in TWD"),
        ("WALLET_DLQ_SINGLE_PERSON_AMOUNTS", '{"XXQ": "1"}', "XXQ is no currency"),
    ],
)
def test_proxies_and_amounts_of_one_person_are_said_to_be_wrong(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(ValidationError, match=sentence):
        Settings()


def test_amounts_of_one_person_are_in_minor_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WALLET_DLQ_SINGLE_PERSON_AMOUNTS", '{"TWD": "5000.5", "JPY": "100"}')

    assert dict(Settings().dead_letter_limits.single_person_minor) == {"TWD": 500_050, "JPY": 100}


# Limits


def test_nothing_is_limited_where_nothing_is_set() -> None:
    assert Settings().rules.limits.accounts == {}


def test_limits_are_amounts_of_their_currency_by_type_of_account(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {
        "time_zone": "Asia/Taipei",
        "accounts": {
            "basic": {
                "TWD": {
                    "balance_max": "100000.00",
                    "orders": {
                        "withdraw": {"amount_min": "100", "amount_max": "20000.5", "day_max": "50000.00"}
                    },
                },
                "JPY": {"balance_max": "5000"},
            },
            "*": {"KWD": {"orders": {"transfer": {"amount_max": "1.005"}, "hold": {"day_max": "0"}}}},
        },
    }
    monkeypatch.setenv("WALLET_LIMITS", json.dumps(limits))

    found = Settings().rules.limits

    assert found.time_zone == ZoneInfo("Asia/Taipei")
    assert found.accounts == {
        ("basic", "TWD"): AccountLimits(
            10_000_000, {OrderType.WITHDRAW: OrderLimits(10_000, 2_000_050, 5_000_000)}
        ),
        ("basic", "JPY"): AccountLimits(5_000),
        (ANY_TYPE, "KWD"): AccountLimits(
            None,
            {
                OrderType.TRANSFER: OrderLimits(amount_max_minor=1_005),
                OrderType.HOLD: OrderLimits(day_max_minor=0),
            },
        ),
    }


def _of(account_type: str = "basic", currency: str = "TWD", **limits: Any) -> dict[str, Any]:
    return {"accounts": {account_type: {currency: limits}}}


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        ({"time_zone": "Asia/Atlantis"}, "no time zone is called 'Asia/Atlantis'"),
        ({"time_zone": ""}, "no time zone is called ''"),
        ({"time_zone": "../etc/passwd"}, "no time zone is called"),
        ({"zone": "UTC"}, "zone"),
        (_of(balance_max="1.001"), "'1.001' is no amount in TWD: it should look like 100.00"),
        (_of(currency="JPY", balance_max="1.5"), "'1.5' is no amount in JPY: it should look like 10000"),
        (_of(balance_max="-1"), "'-1' is no amount in TWD"),
        (_of(balance_max="1e3"), "'1e3' is no amount in TWD"),
        (_of(balance_max="1,000"), "'1,000' is no amount in TWD"),
        (_of(balance_max="\u0661"), "is no amount in TWD"),
        (_of(balance_max=100), "valid string"),
        (_of(balance_max=100.0), "valid string"),
        (_of(balance="100"), "balance"),
        (_of(currency="TWX", balance_max="1"), "TWX is no currency"),
        (_of(currency="twd", balance_max="1"), "twd is no currency"),
        (_of(currency="TWX"), "TWX is no currency"),
        (_of(account_type="Basic"), "'Basic' is no type of account"),
        (_of(account_type=""), "'' is no type of account"),
        (_of(orders={"gift": {}}), "gift"),
        (_of(orders={"withdraw": {"month_max": "1"}}), "month_max"),
        (_of(orders={"withdraw": {"day_max": "many"}}), "'many' is no amount in TWD"),
    ],
)
def test_limits_that_are_none_are_said_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, limits: dict[str, Any], sentence: str
) -> None:
    monkeypatch.setenv("WALLET_LIMITS", json.dumps(limits))

    with pytest.raises(ValidationError, match="limits") as caught:
        Settings()

    assert sentence in str(caught.value)


@pytest.mark.parametrize("name", ["WALLET_LIMITS", "WALLET_PAYMENT_INQUIRY_SECONDS_BY_CHANNEL"])
def test_a_setting_that_is_no_json_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, '{"basic": ')

    with pytest.raises(SettingsError, match=name.removeprefix("WALLET_").lower()) as caught:
        Settings()

    assert "basic" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "name", "secret"),
    [
        ("WALLET_AMQP_URL", "amqp_url", "amqps://wallet:of-a-file@broker/"),
        ("WALLET_DATABASE_URL", "database_url", "postgresql://wallet:of-a-file@database/wallet"),
        ("WALLET_MANAGEMENT_URL", "management_url", "https://monitor:of-a-file@broker:15671"),
    ],
)
def test_a_secret_comes_from_a_file_too_and_not_from_two_places(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, name: str, secret: str
) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{secret}\n")
    monkeypatch.setenv(f"{variable}_FILE", str(file))
    monkeypatch.delenv(variable, raising=False)

    read = Settings()
    monkeypatch.setenv(variable, secret.replace("of-a-file", "of-the-environment"))
    with pytest.raises(SecretFileError) as both:
        Settings()

    assert getattr(read, name).get_secret_value() == secret
    assert f"{variable} and {variable}_FILE are both set" in str(both.value)
    assert "of-" not in repr(read) + str(both.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "cannot be read: No such file or directory"), (b"\xff\xfesecret", "is no text")],
)
def test_a_file_of_a_secret_that_cannot_be_used_is_named_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, sentence: str
) -> None:
    file = tmp_path / "database-url"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.delenv("WALLET_DATABASE_URL")
    monkeypatch.setenv("WALLET_DATABASE_URL_FILE", str(file))

    with pytest.raises(SecretFileError) as raised:
        Settings()

    assert str(raised.value) == f"WALLET_DATABASE_URL_FILE: {file} {sentence}"


def test_every_secret_of_the_settings_may_be_in_a_file() -> None:
    secret = {name for name, field in Settings.model_fields.items() if "Secret" in str(field.annotation)}

    assert secret - SECRETS == {"payment_keys"}  # whose file is WALLET_PAYMENT_KEYS_FILE
    assert "payment_keys_file" in Settings.model_fields


# Channels


def test_channels_have_rules_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "WALLET_CHANNELS",
        '{"bank_transfer": {"expires_seconds": 60, "amounts": "any", "gateway_refs": "unique", "inquiry_seconds": [5],'
        ' "hosts": ["pay.example", "line:"], "late_credit_days": 0}, "*": {"expires_max_seconds": 9}}',
    )

    rules = Settings().rules

    channel = rules.channel("bank_transfer")
    assert (channel.expires_after, channel.any_amount, channel.refs_unique) == (
        timedelta(minutes=1),
        True,
        True,
    )
    assert (channel.hosts, channel.late_credit_max) == (frozenset({"pay.example", "line:"}), None)
    assert rules.ask_after_by_channel == {"bank_transfer": (timedelta(seconds=5),)}
    assert rules.channel("card").expires_max_after == timedelta(seconds=9)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ('{"card": {"amounts": "any"}}', "needs gateway_refs"),
        ('{"Card": {}}', "is no channel"),
        ('{"card": {"hosts": ["https://pay.example"]}}', "is no host"),
        ('{"card": {"inquiry_seconds": [60, 5]}}', GROWING),
        ('{"card": {"expires_seconds": 0}}', "greater than or equal to 1"),
        ('{"card": {"expires": 5}}', "not permitted"),
    ],
)
def test_rules_of_channels_that_are_none_are_said(
    monkeypatch: pytest.MonkeyPatch, value: str, sentence: str
) -> None:
    monkeypatch.setenv("WALLET_CHANNELS", value)

    with pytest.raises(ValidationError, match="channels") as caught:
        Settings()

    assert sentence in str(caught.value)


def test_channels_are_among_the_settings_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WALLET_CHANNELS", '{"card": {"gateway_refs": "unique"}}')

    shown = {setting.variable: setting.value for setting in in_force(Settings())}

    assert shown["WALLET_CHANNELS"] == '{"card": {"gateway_refs": "unique"}}'
