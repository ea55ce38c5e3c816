"""The table `gateway_refs`: which order a payment is of, on channels where one id of the gateway's is one payment."""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from wallet_worker.core.changes import TakenRef

_FIND = """
SELECT channel, gateway_ref, order_id
FROM gateway_refs
JOIN unnest($1::text[], $2::text[]) AS wanted (channel, gateway_ref) USING (channel, gateway_ref)
"""


async def find(
    connection: asyncpg.Connection, wanted: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], UUID]:
    """Return the order of each payment that one has, by channel and the gateway's id."""
    rows = await connection.fetch(_FIND, [channel for channel, _ in wanted], [ref for _, ref in wanted])
    return {(row[0], row[1]): row[2] for row in rows}


_INSERT = """
INSERT INTO gateway_refs (channel, gateway_ref, order_id)
SELECT n.channel, n.gateway_ref, n.order_id
FROM unnest($1::text[], $2::text[], $3::uuid[]) AS n (channel, gateway_ref, order_id)
"""


async def insert(connection: asyncpg.Connection, taken: Sequence[TakenRef]) -> None:
    """Write which order each payment is of; raises ConflictError where another worker was first."""
    await connection.execute(
        _INSERT,
        [each.channel for each in taken],
        [each.gateway_ref for each in taken],
        [each.order_id for each in taken],
    )
