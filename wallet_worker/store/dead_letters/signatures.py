"""The table `dead_letter_signatures`: what people have signed of plans. Only a function of the owner's writes it."""

from datetime import datetime
from typing import NamedTuple

import asyncpg


class SignatureRow(NamedTuple):
    """What a person has signed of a plan: the request of whoever made it, or the approval of another."""

    token: str
    purpose: str
    name: str
    key_id: str
    digest: bytes
    signed_at: datetime
    proof: bytes


_SIGN = "SELECT dead_letter_plan_sign($1, $2, $3, $4, $5, $6, $7, $8, $9)"


async def sign(connection: asyncpg.Connection, signature: SignatureRow, *, reason: str, via: str) -> None:
    """Store a signature, and its line in the audit log. The database checks who signs which plan, and when."""
    await connection.execute(
        _SIGN,
        signature.token,
        signature.purpose,
        signature.digest,
        signature.name,
        signature.key_id,
        signature.signed_at,
        signature.proof,
        reason,
        via,
    )


_OF_PLAN = """
SELECT token, purpose, name, key_id, digest, signed_at, proof
FROM dead_letter_signatures
WHERE token = $1
ORDER BY purpose DESC
"""


async def of_plan(connection: asyncpg.Connection, token: str) -> list[SignatureRow]:
    """Return the signatures of a plan, the request first."""
    return [SignatureRow(**row) for row in await connection.fetch(_OF_PLAN, token)]
