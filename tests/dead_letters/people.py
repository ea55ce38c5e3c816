"""People with keys, whom the database knows, and what they sign."""

import hashlib
import json
import os
import pwd
from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import asyncpg
from nacl.secret import SecretBox
from nacl.signing import SigningKey

from wallet_worker.cli import operator_keys
from wallet_worker.core.proofs import OperatorKey, ProofAlgorithm, key_id_of
from wallet_worker.dead_letters.model.actors import Actor
from wallet_worker.dead_letters.model.plans import Plan
from wallet_worker.dead_letters.model.signing import Signature
from wallet_worker.dead_letters.operations import DeadLetterDesk
from wallet_worker.settings.operators import Role
from wallet_worker.store import operators

USUAL: Mapping[str, str] = {
    "vera": "viewer",
    "otto": "operator",
    "olga": "operator",
    "rita": "operator",
    "ann": "operator",
    "anna": "approver",
    "bob": "approver",
    "cora": "controller",
    pwd.getpwuid(os.getuid()).pw_name: "operator",  # whoever runs the tests
}


def key_of(name: str) -> SigningKey:
    """Return a person's own key."""
    return SigningKey(hashlib.sha256(f"the key of {name}".encode()).digest())


def public_of(name: str) -> OperatorKey:
    """Return the public half of a person's key."""
    public = bytes(key_of(name).verify_key)
    return OperatorKey(key_id_of(public), name, ProofAlgorithm.ED25519, public)


async def know(owner: asyncpg.Connection, people: Mapping[str, str] = USUAL) -> None:
    """Have the database know people by name and role, each with a key; who is known stays."""
    for name, role in people.items():
        if await operators.by_name(owner, name) is None:
            await operators.add(owner, name, role)
            await operators.add_key(owner, public_of(name))


async def signed(desk: DeadLetterDesk, actor: Actor, token: str, *, reason: str = "seen") -> Plan:
    """Have somebody sign a plan with their own key; return it."""
    statement = (await desk.to_sign(actor, token)).statement
    key = key_of(actor.name)
    proof = key.sign(statement.text).signature
    return await desk.sign(
        actor, token, Signature(key_id_of(bytes(key.verify_key)), statement.at, proof), reason=reason
    )


async def agreed(
    desk: DeadLetterDesk,
    owner: asyncpg.Connection,
    plan: Plan,
    *,
    by: str | None = None,
    reason: str = "seen",
) -> Plan:
    """Have whoever made a plan sign it, and anna too, or cora where a controller must; return it, ready."""
    await know(owner)
    needed = (await desk.to_sign(Actor("anna", Role.APPROVER, "tests"), plan.token)).role
    by = by or ("cora" if needed is Role.CONTROLLER else "anna")
    await know(owner, {plan.made_by: "operator", by: needed.name.lower()})
    await signed(desk, Actor(plan.made_by, Role.OPERATOR, "tests"), plan.token, reason=plan.reason)
    return await signed(desk, Actor(by, needed, "tests"), plan.token, reason=reason)


PASSPHRASE = "a long enough passphrase"


def key_file(folder: Path, name: str) -> Path:
    """Return the file of a person's key, as `wallet operators key make` writes it."""
    path = folder / f"{name}.key"
    path.write_text(_key_text(name))
    return path


@cache
def _key_text(name: str) -> str:
    salt, key = bytes(16), key_of(name)
    sealed = SecretBox(operator_keys._stretched(PASSPHRASE, salt)).encrypt(bytes(key))
    document = {
        "form": "wallet-operator-key-1",
        "name": name,
        "public": b64encode(bytes(key.verify_key)).decode(),
        "salt": b64encode(salt).decode(),
        "sealed": b64encode(sealed).decode(),
    }
    return json.dumps(document)
