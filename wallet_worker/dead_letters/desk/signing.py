"""Signing plans: whoever made one signs that he asks for it, and another person that he agrees."""

from datetime import timedelta
from typing import Final

import asyncpg

from wallet_worker.core.proofs import NotProvenError, ProofPurpose, SignedStatement, verify
from wallet_worker.dead_letters.desk.inputs import normalise_token, storable_text, validate_reason
from wallet_worker.dead_letters.desk.plan_checks import lock_usable_plan, verify_unchanged
from wallet_worker.dead_letters.desk.refusals import no_plan, require_role
from wallet_worker.dead_letters.desk.session import Desk, retry_on_conflict
from wallet_worker.dead_letters.model.actors import Actor
from wallet_worker.dead_letters.model.errors import NotAllowedError, NotPossibleError, StaleError
from wallet_worker.dead_letters.model.signing import Signature, ToSign
from wallet_worker.dead_letters.model.states import Action
from wallet_worker.dead_letters.replay.authority import (
    SUBJECT,
    approver_of,
    digest_of,
    ensure_may_sign,
    parties_changed,
)
from wallet_worker.settings.operators import Role
from wallet_worker.store import operators
from wallet_worker.store.clock import database_time
from wallet_worker.store.dead_letters import plans as plans_table
from wallet_worker.store.dead_letters import signatures
from wallet_worker.store.dead_letters.plans import PlanRow
from wallet_worker.store.dead_letters.signatures import SignatureRow

SIGNED_WITHIN: Final = timedelta(minutes=10)
"""How long after it was asked for a signature is taken; the database goes by the same."""


async def to_sign(desk: Desk, actor: Actor, token: str) -> ToSign:
    """Return what the actor would sign of a plan now; without keys where there is nothing to sign."""
    async with desk.snapshot() as connection:
        plan = await plans_table.by_token(connection, normalise_token(token))
        if plan is None:
            raise no_plan(token)
        now = (await database_time(connection)).replace(microsecond=0)
        statement = SignedStatement(
            SUBJECT,
            desk.environment,
            _purpose(plan, actor),
            plan.token,
            await digest_of(connection, plan),
            actor.name,
            now,
        )
        keys = [row.key for row in await operators.keys_of(connection, actor.name) if not row.is_revoked]
        role = await _least_role(connection, plan, statement.purpose)
    return ToSign(statement, tuple(keys), role)


async def _least_role(connection: asyncpg.Connection, plan: PlanRow, purpose: ProofPurpose) -> Role:
    """Return the least role of whoever signs a plan; raises NotAllowedError if nobody may."""
    if purpose is ProofPurpose.REQUEST:
        return Role.OPERATOR
    try:
        return await approver_of(connection, plan)
    except NotProvenError as exc:
        raise NotAllowedError(str(exc)) from exc


def _purpose(plan: PlanRow, actor: Actor) -> ProofPurpose:
    return ProofPurpose.REQUEST if plan.made_by == actor.name else ProofPurpose.APPROVAL


@retry_on_conflict
async def sign(desk: Desk, actor: Actor, token: str, signature: Signature, *, reason: str) -> PlanRow:
    """Store a person's signature of a plan as it is now; return the plan."""
    require_role(actor, Role.OPERATOR)
    reason, token = validate_reason(reason), normalise_token(token)
    async with desk.database.transaction() as connection:
        plan = await lock_usable_plan(connection, token)
        purpose = _purpose(plan, actor)
        least = await _least_role(connection, plan, purpose)
        if actor.role < least and least is Role.CONTROLLER:
            changed = ", ".join(await parties_changed(connection, plan))
            msg = f"the new message has another {changed} than its letter: a controller must approve that"
            raise NotAllowedError(msg)
        require_role(actor, least)
        if not plan.needs_two:
            msg = "this plan needs nobody's approval"
            raise NotPossibleError(msg)
        await _ensure_turn(connection, plan, purpose)
        if not abs(await database_time(connection) - signature.at) <= SIGNED_WITHIN:
            msg = (
                f"what was signed is older than {SIGNED_WITHIN.seconds // 60} minutes: look at the plan again"
            )
            raise StaleError(msg)
        await verify_unchanged(desk, connection, plan, Action(plan.action))
        digest = await digest_of(connection, plan)
        await _ensure_proven(desk, connection, actor, plan, digest, signature, purpose, least)
        row = SignatureRow(
            token, purpose, actor.name, signature.key_id, digest, signature.at, signature.proof
        )
        await signatures.sign(connection, row, reason=reason, via=storable_text(actor.via))
        return plan._replace(
            approved_by=actor.name if purpose is ProofPurpose.APPROVAL else plan.approved_by,
            is_requested=True,
        )


async def _ensure_turn(connection: asyncpg.Connection, plan: PlanRow, purpose: ProofPurpose) -> None:
    """Raise an OperationError unless this is the signature that the plan waits for."""
    signed = {ProofPurpose(row.purpose): row.name for row in await signatures.of_plan(connection, plan.token)}
    if purpose in signed:
        msg = (
            "you have signed this plan already, and a second person must approve it: it is your own"
            if purpose is ProofPurpose.REQUEST
            else f"{signed[purpose]} has approved this plan already"
        )
        raise StaleError(msg)
    if purpose is ProofPurpose.APPROVAL and ProofPurpose.REQUEST not in signed:
        msg = f"{plan.made_by} has not signed this plan yet (`wallet dlq sign {plan.token} --key FILE`)"
        raise NotPossibleError(msg)


async def _ensure_proven(
    desk: Desk,
    connection: asyncpg.Connection,
    actor: Actor,
    plan: PlanRow,
    digest: bytes,
    signature: Signature,
    purpose: ProofPurpose,
    least: Role,
) -> None:
    """Raise NotAllowedError unless the signature is the actor's own, over the plan as it is now."""
    statement = SignedStatement(
        SUBJECT, desk.environment, purpose, plan.token, digest, actor.name, signature.at
    )
    keys = await operators.keys(connection, [signature.key_id])
    try:
        key = ensure_may_sign(keys.get(signature.key_id), signature.key_id, least)
        verify(key.key, statement, signature.proof)
    except NotProvenError as exc:
        raise NotAllowedError(str(exc)) from exc
