"""From messages to bytes."""

from wallet_schemas.message import JsonObject


def encode(message: JsonObject) -> bytes:
    """Return the message, or a part of one, as compact JSON in UTF-8."""
    return message.__pydantic_serializer__.to_json(message)
