"""Where settings come from: the environment, and for each secret also a file that the environment names."""

import os
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from typing_extensions import override

PREFIX: Final = "WALLET_"
FILE: Final = "_FILE"

SECRETS: Final = frozenset({"amqp_url", "database_url", "management_url"})
"""Settings that are secrets, or have one in them. The keys have files of their own."""


class SecretFileError(Exception):
    """A file that should hold a secret cannot be used; the text names the variable, and has no secret in it."""


class FromEnvironment(BaseSettings):
    """Settings from variables `WALLET_…`; a secret may be in the file that `WALLET_…_FILE` names.

    Reading them raises pydantic's ValidationError, which names each wrong one, SettingsError or SecretFileError.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True
    )

    @override
    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what is given, then the files of secrets, then the environment."""
        return init_settings, _SecretFiles(settings_cls), env_settings


class _SecretFiles(PydanticBaseSettingsSource):
    @override
    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False

    @override
    def __call__(self) -> dict[str, Any]:
        """Return the content of each file that is named, without the end of its last line."""
        found: dict[str, Any] = {}
        for name in sorted(SECRETS & self.settings_cls.model_fields.keys()):
            variable = f"{PREFIX}{name.upper()}"
            path = os.environ.get(variable + FILE)
            if not path:
                continue
            if os.environ.get(variable):
                raise SecretFileError(
                    f"{variable} and {variable}{FILE} are both set: which is meant is not known"
                )
            try:
                found[name] = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
            except OSError as exc:
                raise SecretFileError(f"{variable}{FILE}: {path} cannot be read: {exc.strerror}") from None
            except UnicodeDecodeError:
                raise SecretFileError(f"{variable}{FILE}: {path} is no text") from None
        return found
