"""Settings are read from the environment, and a wrong one is said without showing it."""

import pytest
from pydantic import ValidationError

from wallet_worker.settings import Settings


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WALLET_AMQP_URL", "amqp://wallet:amqp-secret@broker/")
    monkeypatch.setenv("WALLET_DATABASE_URL", "postgresql://wallet:database-secret@database/wallet")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("DATABASE_URL", "mysql://wallet:database-secret@database/wallet", "postgresql://"),
        ("AMQP_URL", "http://wallet:amqp-secret@broker/", "amqp://"),
        ("AMQP_URL", "amqp://[", "amqp://"),
        ("PAYMENT_KEYS", '{"k1": ""}', "anyone could sign"),
        ("CURRENCIES", "TWD,TWX", "TWX"),
        ("HTTP_PORT", "70000", "65535"),
        ("LOG_LEVEL", "loud", "debug"),
        ("DLQ_ROLES", '{"anna": "queen"}', "viewer, operator, approver"),
        ("RECHARGE_EXPIRES_SECONDS", "0", "greater"),
    ],
)
def test_a_wrong_setting_is_named_and_no_secret_is_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"WALLET_{name}", value)

    with pytest.raises(ValidationError) as caught:
        Settings()

    assert said in str(caught.value)
    assert name.lower() in str(caught.value)
    assert "secret" not in str(caught.value).replace("anyone could sign with it", "")


def test_currencies_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WALLET_CURRENCIES", "TWD, JPY")

    assert Settings().rules.currencies == {"TWD", "JPY"}


def test_no_secret_is_shown_by_the_settings_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WALLET_PAYMENT_KEYS", '{"k1": "signing-secret"}')

    assert "secret" not in repr(Settings()).replace("SecretStr", "")
    assert Settings().keys == {"k1": "signing-secret"}
