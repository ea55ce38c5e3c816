"""The settings in force, as a person or a log may see them: every secret is left out."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, SecretStr

from wallet_worker.broker.addresses import redact_url
from wallet_worker.settings.names import PREFIX
from wallet_worker.settings.settings import Settings
from wallet_worker.settings.sources import FILE


class Setting(NamedTuple):
    """One setting: its variable, its value as text, and whether it is set or the default."""

    variable: str
    value: str
    is_set: bool


def in_force(settings: Settings, environment: Mapping[str, str] = os.environ) -> list[Setting]:
    """Return every setting, in order."""
    names = {name.upper() for name in environment}
    return [
        Setting(variable, _shown(name, getattr(settings, name)), bool({variable, variable + FILE} & names))
        for name in type(settings).model_fields
        for variable in [f"{PREFIX}{name}".upper()]
    ]


def _shown(name: str, value: Any) -> str:
    match value:
        case None:
            return ""
        case SecretStr():
            return redact_url(value.get_secret_value()) if name.endswith("_url") else "(hidden)"
        case BaseModel():
            return json.dumps(value.model_dump(mode="json", exclude_defaults=True))
        case dict() if any(isinstance(member, SecretStr) for member in value.values()):
            return f"(hidden; keys {', '.join(sorted(value))})"
        case dict():
            return json.dumps({str(key): _plain(member) for key, member in value.items()}) if value else ""
        case tuple():
            return ",".join(str(member) for member in value)
        case Path():
            return str(value)
        case _:
            return str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_defaults=True)
    if isinstance(value, tuple):
        return list(value)
    return getattr(value, "name", value).lower() if hasattr(value, "name") else value
