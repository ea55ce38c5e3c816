"""What a replay carries: the original's properties, less what made it a dead letter and what would multiply it."""

from typing import Final
from uuid import UUID

from pamqp.commands import Basic
from pamqp.common import FieldValue

from wallet_schemas.names import (
    ATTEMPTS_HEADER,
    DETAIL_HEADER,
    EXCHANGE_HEADER,
    FIRST_SEEN_HEADER,
    REASON_HEADER,
    REPLAY_COUNT_HEADER,
    REPLAY_ID_HEADER,
    ROUTING_KEY_HEADER,
    SEAL_HEADER,
    SIGNATURE_HEADER,
    SOURCE_HEADER,
    WORKER_HEADER,
)
from wallet_worker.broker.amqp import codec
from wallet_worker.broker.amqp.confirms import fresh_message_id
from wallet_worker.broker.amqp.properties import marshal, unmarshal

PROPERTIES_BYTES_MAX: Final = 128 * 1_024 - 8 - 12
"""One frame of an ordinary broker, less what stands around the properties: a larger one ends the connection."""

_OURS_BYTES_MAX: Final = 800
"""What a replay adds at most: its id, its number, a message_id, the keeper's name, and a signature."""

_NOT_REPLAYED: Final = frozenset(
    name.encode()
    for name in (
        "x-delivery-count",
        "x-acquired-count",
        # The broker would route a copy to each key that stands there.
        "CC",
        "BCC",
        REASON_HEADER,
        DETAIL_HEADER,
        SOURCE_HEADER,
        EXCHANGE_HEADER,
        ROUTING_KEY_HEADER,
        ATTEMPTS_HEADER,
        FIRST_SEEN_HEADER,
        WORKER_HEADER,
        SEAL_HEADER,
        REPLAY_ID_HEADER,
        REPLAY_COUNT_HEADER,
    )
)
_DEATHS: Final = (b"x-death", b"x-first-death-", b"x-last-death-")


def replayed(
    data: bytes,
    replay_id: UUID,
    number: int,
    *,
    is_new: bool,
    login: str | None = None,
    signature: str | None = None,
) -> Basic.Properties:
    """Return the original properties of a dead letter, as a replay carries them.

    The rule is docs/contract.md, section 10.

    What made it a dead letter is left out; `expiration` too, because an operator wants it to arrive. `user_id` is the
    keeper's own `login`, because the broker lets nobody publish in another user's name: a header says for whom. A
    `signature` takes the place of what was signed before. A message in its place is new: so is its message_id.
    """
    properties = unmarshal(data)
    ours: dict[str, FieldValue] = {REPLAY_ID_HEADER: str(replay_id), REPLAY_COUNT_HEADER: number}
    kept = (
        entry
        for entry in codec.entries(properties.headers or {})
        if entry[0] not in _NOT_REPLAYED
        and not entry[0].startswith(_DEATHS)
        and (signature is None or entry[0] != SIGNATURE_HEADER.encode())
    )
    if signature is not None:
        ours[SIGNATURE_HEADER] = signature
    properties.headers = codec.RawTable((*kept, *codec.entries(ours)))
    properties.delivery_mode = 2
    properties.user_id, properties.expiration = login, None
    if is_new or not properties.message_id:
        properties.message_id = fresh_message_id()
    return properties


def is_too_large(data: bytes) -> bool:
    """Return whether a replay with these original properties would not fit into one of the broker's frames."""
    if len(data) <= PROPERTIES_BYTES_MAX - _OURS_BYTES_MAX:
        return False
    # An edit has a message_id of ours, where the original may have had a shorter one.
    return len(marshal(replayed(data, UUID(int=0), 2**31 - 1, is_new=False))) > PROPERTIES_BYTES_MAX - 32
