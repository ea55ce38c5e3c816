"""What a person is asked to sign of a plan, and what comes back."""

from dataclasses import dataclass
from datetime import datetime

from wallet_worker.core.proofs import OperatorKey, SignedStatement
from wallet_worker.settings.operators import Role


@dataclass(frozen=True, slots=True)
class ToSign:
    """What this person would sign of a plan now, and the keys that it can be signed with."""

    statement: SignedStatement
    keys: tuple[OperatorKey, ...]
    role: Role
    """The least role of whoever signs."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What a person has signed with: the key, the time in the statement, and the proof."""

    key_id: str
    at: datetime
    proof: bytes
