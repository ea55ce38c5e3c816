"""Records as JSON: what the command line and the console write of them is one format."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from wallet_worker.dead_letters.model.predictions import Prediction


def document(value: Any) -> Any:
    """Return a record as JSON has it: times as RFC 3339, bytes in base64, every field by its name."""
    match value:
        case BaseModel():
            return value.model_dump(mode="json")
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case UUID():
            return str(value)
        case bytes():
            return b64encode(value).decode()
        case Enum():
            return value.name.lower() if isinstance(value, int) else value.value
        case Mapping():
            return {str(document(name)): document(member) for name, member in value.items()}
        case list() | tuple():
            return [document(inner_value) for inner_value in value]
        case Prediction():
            return {
                "verdict": value.verdict.value,
                "code": value.code,
                "label": value.label,
                "detail": value.detail,
            }
        case _ if is_dataclass(value):
            return {field.name: document(getattr(value, field.name)) for field in fields(value)}
        case _:
            return value
