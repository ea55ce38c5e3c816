"""What a command takes from the environment: no more than it needs, so that a sender needs no database."""

from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from wallet_worker.cli.exits import Exit, end
from wallet_worker.settings.settings import Settings

_DATABASE_SCHEMES = frozenset({"postgresql", "postgres"})
_FROM_ENVIRONMENT = SettingsConfigDict(
    env_prefix="WALLET_", frozen=True, extra="ignore", hide_input_in_errors=True
)

S = TypeVar("S", bound=BaseSettings)


class _Broker(BaseSettings):
    model_config = _FROM_ENVIRONMENT
    amqp_url: SecretStr
    management_url: SecretStr | None = None


class _Database(BaseSettings):
    model_config = _FROM_ENVIRONMENT
    database_url: SecretStr


def worker() -> Settings:
    """Return all settings, or end the command with a line for each that is missing or wrong."""
    return _read(Settings)


class _Desk(Settings):
    """All settings, for whoever needs the database and no broker."""

    amqp_url: SecretStr = SecretStr("amqp://nobody/")


def desk() -> Settings:
    """Return all settings but the broker's, which is not asked for, or end the command."""
    database_url()
    return _read(_Desk)


def amqp_url() -> str:
    """Return the broker's address, or end the command."""
    return _read(_Broker).amqp_url.get_secret_value()


def management_url() -> str | None:
    """Return the address of the management API, if one is set."""
    url = _read(_Broker).management_url
    return url.get_secret_value() if url else None


def database_url() -> str:
    """Return the database's address, or end the command."""
    url = _read(_Database).database_url.get_secret_value()
    try:
        scheme = urlsplit(url).scheme
    except ValueError:
        scheme = ""
    if scheme not in _DATABASE_SCHEMES:
        end(
            Exit.MISUSED,
            "WALLET_DATABASE_URL is no address of a database: "
            "it should look like postgresql://user:password@host:5432/name",
        )
    return url


def _read(kind: type[S]) -> S:
    try:
        return kind()
    except ValidationError as exc:
        end(Exit.MISUSED, "; ".join(_fault(kind, error) for error in exc.errors(include_url=False)))
    except SettingsError as exc:
        # Its cause would show the value, which may be a secret; its own text names the field only.
        end(Exit.MISUSED, f"a setting is no JSON: {exc}")


def _fault(kind: type[BaseSettings], error: Any) -> str:
    """Return what is wrong with one variable, without its value, which may be a secret."""
    name = f"WALLET_{error['loc'][0]}".upper() if error["loc"] else kind.__name__
    return f"{name} is not set" if error["type"] == "missing" else f"{name}: {error['msg']}"
