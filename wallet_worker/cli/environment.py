"""What a command takes from the environment: no more than it needs, so that a sender needs no database."""

import os
import re
from typing import Final, TypeVar

import structlog
from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsError

from wallet_worker.cli.exits import Exit, end
from wallet_worker.settings import names
from wallet_worker.settings.database_address import wrong_database_address
from wallet_worker.settings.settings import Settings
from wallet_worker.settings.sources import FromEnvironment, SecretFileError

_FIELD: Final = re.compile(r'for field "(\w+)"')

S = TypeVar("S", bound=BaseSettings)

log = structlog.get_logger(__name__)


class _Broker(FromEnvironment):
    amqp_url: SecretStr
    management_url: SecretStr | None = None


class _Database(FromEnvironment):
    database_url: SecretStr


class _Deployment(FromEnvironment):
    environment: str = Settings.model_fields["environment"].default


def deployment_name() -> str:
    """Return the name of the deployment, as it stands in what people sign, or end the command."""
    return _read(_Deployment).environment


def worker() -> Settings:
    """Return all settings, or end the command with a line for each that is missing or wrong."""
    return _read(Settings)


def worker_with_senders() -> Settings:
    """Return all settings of a process that decides or publishes, or end the command.

    Who may send, how requests are signed and how letters are sealed must have been said, if only that nobody cares.
    """
    settings = worker()
    if settings.missing_senders:
        end(Exit.MISUSED, "; ".join(settings.missing_senders))
    return settings


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
    if wrong := wrong_database_address(url):
        end(Exit.MISUSED, f"WALLET_DATABASE_URL: {wrong}")
    return url


def announce(settings: Settings) -> None:
    """Log the settings that are set, so that the log says by what a process goes; secrets are hidden."""
    from wallet_worker.settings.in_force import in_force

    settings_in_force = in_force(settings)
    log.info(
        "settings.in_force",
        set={setting.variable: setting.value for setting in settings_in_force if setting.is_set},
        default=[setting.variable for setting in settings_in_force if not setting.is_set],
    )


def _read(kind: type[S]) -> S:
    strangers = names.unknown(os.environ)
    if strangers:
        end(Exit.MISUSED, "; ".join(strangers))
    try:
        return kind()
    except ValidationError as exc:
        wrong = exc.errors(include_url=False, include_input=False)
        end(Exit.MISUSED, "; ".join(dict.fromkeys(names.fault(error, kind.__name__) for error in wrong)))
    except SecretFileError as exc:
        end(Exit.MISUSED, str(exc))
    except SettingsError as exc:
        # Its cause would show the value, which may be a secret; its own text names the field only.
        field = _FIELD.search(str(exc))
        end(Exit.MISUSED, names.not_json(field[1]) if field else "a setting is not valid JSON")
