"""From messages to bytes."""

from schemas.message import Message


def encode(message: Message) -> bytes:
    """Return the message as compact JSON in UTF-8."""
    return message.__pydantic_serializer__.to_json(message)
