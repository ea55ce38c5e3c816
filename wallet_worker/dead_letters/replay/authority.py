"""Whether an operation may be carried out: what its plan says, and who has signed that.

Rows prove nothing: whoever has an operator's password of the database can write some of them. A plan that needs two
people has two signatures over everything that it does, and each is verified here with a public key that only the
database's owner can write. The desk asks this when it executes, and a keeper before it publishes.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg

from wallet_schemas import money
from wallet_schemas.fingerprint import content
from wallet_schemas.message import JsonObject, MoneyFields
from wallet_schemas.names import DEFAULT_ACCOUNT_TYPE, WALLET_COMMANDS
from wallet_schemas.parse import COMMANDS, RESULTS, Malformed, Unreadable, load, parse
from wallet_worker.core.proofs import NotProvenError, ProofPurpose, SignedStatement, verify
from wallet_worker.dead_letters.model.states import Action
from wallet_worker.settings.operators import ApprovalLimits, Role
from wallet_worker.store import operators
from wallet_worker.store.dead_letters import letters as letters_table
from wallet_worker.store.dead_letters import operations as operations_table
from wallet_worker.store.dead_letters import plans as plans_table
from wallet_worker.store.dead_letters import signatures
from wallet_worker.store.dead_letters.letters import LetterDigest, LetterMessage
from wallet_worker.store.dead_letters.operations import OperationRow
from wallet_worker.store.dead_letters.plans import PlanRow
from wallet_worker.store.dead_letters.replays import OrderedReplay
from wallet_worker.store.operators import KeyRow

SUBJECT: Final = "plan"
FOUR_EYES_WINDOW: Final = timedelta(hours=1)
"""What one person does to letters within this time is counted together."""

_KEPT_MAX: Final = 100  # operations that run at once are few
_ACCOUNT_TYPES: Final = ("account_type", "to_account_type")
_PARTIES: Final = ("account_type", "currency", "to_account_type", "to_user_id", "type", "user_id")


def plan_digest(plan: PlanRow, letters: Mapping[int, LetterDigest]) -> bytes:
    """Return the SHA-256 of everything that a plan does, and of the messages of its letters."""
    contents = {
        "token": plan.token,
        "action": plan.action,
        "made_by": plan.made_by,
        "made_at": plan.made_at.astimezone(UTC).isoformat(),
        "expires_at": plan.expires_at.astimezone(UTC).isoformat(),
        "reason": plan.reason,
        "canary": plan.canary,
        "rate": plan.rate,
        "stop_ratio": plan.stop_ratio,
        "edited_body": None if plan.edited_body is None else hashlib.sha256(plan.edited_body).hexdigest(),
        "letters": [
            [
                letter_id,
                letters[letter_id].body_digest.hex() if letter_id in letters else "",
                verdict,
                code,
            ]
            for letter_id, verdict, code in zip(plan.letter_ids, plan.verdicts, plan.codes, strict=True)
        ],
    }
    return hashlib.sha256(json.dumps(contents, sort_keys=True, separators=(",", ":")).encode()).digest()


async def digest_of(connection: asyncpg.Connection, plan: PlanRow) -> bytes:
    """Return what is signed of a plan, as it stands in the database now."""
    return plan_digest(plan, await letters_table.digests(connection, plan.letter_ids))


async def ensure_signed(
    connection: asyncpg.Connection, plan: PlanRow, letters: Mapping[int, LetterDigest], environment: str
) -> None:
    """Return if whoever made the plan and another person have signed it; raises NotProvenError."""
    found = {ProofPurpose(row.purpose): row for row in await signatures.of_plan(connection, plan.token)}
    keys = await operators.keys(connection, [row.key_id for row in found.values()])
    digest = plan_digest(plan, letters)
    approver = await approver_of(connection, plan)
    for purpose, least in ((ProofPurpose.REQUEST, Role.OPERATOR), (ProofPurpose.APPROVAL, approver)):
        row = found.get(purpose)
        if row is None:
            who = plan.made_by if purpose is ProofPurpose.REQUEST else "a second person"
            msg = f"{who} has not signed the plan {plan.token}"
            raise NotProvenError(msg)
        if (row.name == plan.made_by) is not (purpose is ProofPurpose.REQUEST):
            msg = f"the {purpose} of the plan {plan.token} is signed by {row.name}, and it is {plan.made_by}'s plan"
            raise NotProvenError(msg)
        if row.digest != digest:
            msg = f"the plan {plan.token} is not what {row.name} has signed"
            raise NotProvenError(msg)
        key = ensure_may_sign(keys.get(row.key_id), row.key_id, least)
        statement = SignedStatement(
            SUBJECT, environment, purpose, plan.token, digest, row.name, row.signed_at
        )
        verify(key.key, statement, row.proof)


def ensure_may_sign(key: KeyRow | None, key_id: str, least: Role) -> KeyRow:
    """Return a key whose person has the role that a signature needs; raises NotProvenError."""
    if key is None:
        msg = f"nobody has the key {key_id}"
        raise NotProvenError(msg)
    if key.is_revoked:
        msg = f"the key {key_id} of {key.key.name} is revoked"
        raise NotProvenError(msg)
    if Role[key.role.upper()] < least:
        msg = f"{key.key.name} is {key.role} now, and this needs the signature of an {least.name.lower()}"
        raise NotProvenError(msg)
    return key


async def approver_of(connection: asyncpg.Connection, plan: PlanRow) -> Role:
    """Return the role that approves a plan: a controller where an edit is about others than its letter."""
    return Role.CONTROLLER if await parties_changed(connection, plan) else Role.APPROVER


async def parties_changed(connection: asyncpg.Connection, plan: PlanRow) -> list[str]:
    """Return which of type, users, accounts and currency the edit of a plan changes, ascending.

    Raises NotProvenError if it is no edit of one letter.
    """
    if plan.edited_body is None:
        return []
    letters = await letters_table.replayable(connection, plan.letter_ids)
    try:
        (letter,) = letters
        return changed_parties(letter.body, plan.edited_body)
    except (ValueError, Unreadable) as exc:
        msg = f"the plan {plan.token} is not the edit of one letter into one command"
        raise NotProvenError(msg) from exc


def changed_parties(before: bytes, after: bytes) -> list[str]:
    """Return which of type, users, accounts and currency differ in a new message from its letter's, ascending.

    What cannot be read of the letter differs. Raises Unreadable if the new message is no command.
    """
    new = content(parse(after, COMMANDS))
    try:
        written = load(before)
    except Malformed:
        written = {}
    old = dict.fromkeys(_ACCOUNT_TYPES, DEFAULT_ACCOUNT_TYPE) | written if written else {}
    return [name for name in _PARTIES if name in {*new, *written} and old.get(name) != new.get(name)]


@dataclass(frozen=True, slots=True)
class SinglePersonShare:
    """What one person would have done alone within the window, a plan included. Amounts are in minor units."""

    letters: int
    minor: Mapping[str, int]

    def exceeds(self, limits: ApprovalLimits) -> bool:
        """Return whether it is more than one person may do; a currency without a limit is, once another has one."""
        return self.letters > limits.single_person_max or any(
            minor > limits.single_person_minor.get(currency, 0) for currency, minor in self.minor.items()
        )


async def share_of(
    connection: asyncpg.Connection,
    limits: ApprovalLimits,
    action: Action,
    letter_ids: Sequence[int],
    recent: int,
    recent_replays: Sequence[int],
) -> SinglePersonShare:
    """Return the share of one person with a plan of these letters, after what the person has done alone."""
    letters = len(letter_ids) + recent
    if not limits.single_person_minor or action is not Action.REPLAY or letters > limits.single_person_max:
        return SinglePersonShare(letters, {})
    minor: Counter[str] = Counter()
    for message in await letters_table.replayable(connection, [*letter_ids, *recent_replays]):
        minor.update(_minor_of(message))
    return SinglePersonShare(letters, minor)


def _minor_of(letter: LetterMessage) -> dict[str, int]:
    """Return the amount of a message in minor units by its currency, if it is one with an amount."""
    try:
        message: JsonObject = parse(letter.body, COMMANDS if letter.source == WALLET_COMMANDS else RESULTS)
        return {message.currency: message.amount_minor} if isinstance(message, MoneyFields) else {}
    except (Unreadable, money.AmountOutOfRange, money.UnknownCurrency):
        return {}  # the wallet will not apply it either


def needs_two(
    action: Action, share: SinglePersonShare, limits: ApprovalLimits, *, has_unsealed: bool
) -> bool:
    """Return whether a plan needs two people: an edit, what may be forged, and what exceeds one person's limit."""
    sends = action in {Action.REPLAY, Action.EDIT}
    return action is Action.EDIT or (sends and has_unsealed) or share.exceeds(limits)


@dataclass(frozen=True, slots=True)
class _Allowed:
    """What an operation may publish."""

    action: Action
    letter_ids: frozenset[int]
    edited_body: bytes | None


@dataclass(slots=True)
class Authority:
    """What a keeper asks before it publishes. An operation is judged once, and each of its replays by that."""

    limits: ApprovalLimits
    environment: str
    _allowed: dict[UUID, _Allowed] = field(default_factory=dict)

    async def why_not(
        self, connection: asyncpg.Connection, operation: OperationRow, replays: Sequence[OrderedReplay]
    ) -> str | None:
        """Return why these replays of an operation must not be published; None if they may be."""
        allowed = self._allowed.get(operation.operation_id)
        if allowed is None:
            try:
                allowed = await self._judged(connection, operation)
            except NotProvenError as exc:
                return str(exc)
            while len(self._allowed) >= _KEPT_MAX:
                del self._allowed[next(iter(self._allowed))]
            self._allowed[operation.operation_id] = allowed
        for replay in replays:
            if replay.letter_id not in allowed.letter_ids:
                return f"letter {replay.letter_id} is not one of its plan"
            if replay.is_edit is not (allowed.action is Action.EDIT):
                return f"what is to be sent for letter {replay.letter_id} is not of its plan"
            if replay.is_edit and replay.body != allowed.edited_body:
                return f"the new message for letter {replay.letter_id} is not that of its plan"
        return None

    async def _judged(self, connection: asyncpg.Connection, operation: OperationRow) -> _Allowed:
        """Return what an operation may publish; raises NotProvenError."""
        plan = await plans_table.by_token(connection, operation.token)
        if plan is None or plan.operation_id != operation.operation_id or plan.action != operation.action:
            msg = f"it is not the execution of a plan: {operation.token}"
            raise NotProvenError(msg)
        if operation.started_at > plan.expires_at:
            msg = f"the plan {plan.token} had expired when it was executed"
            raise NotProvenError(msg)
        known = await operators.role_of(connection, operation.actor)
        if known.are_there and (known.role is None or Role[known.role.upper()] < Role.OPERATOR):
            msg = f"{operation.actor}, who has executed it, is no operator"
            raise NotProvenError(msg)
        letters = await letters_table.digests(connection, plan.letter_ids)
        action = Action(plan.action)
        has_unsealed = any(letter.is_unsealed for letter in letters.values())
        if has_unsealed and len(plan.letter_ids) > 1:
            msg = "a letter of it may be forged, and such a letter is never sent with others"
            raise NotProvenError(msg)
        share = await self._share(connection, operation, action, plan.letter_ids)
        if plan.needs_two or needs_two(action, share, self.limits, has_unsealed=has_unsealed):
            await ensure_signed(connection, plan, letters, self.environment)
        return _Allowed(action, frozenset(plan.letter_ids), plan.edited_body)

    async def _share(
        self,
        connection: asyncpg.Connection,
        operation: OperationRow,
        action: Action,
        letter_ids: Sequence[int],
    ) -> SinglePersonShare:
        """Return what the person has done alone within the hour up to an operation, the operation included."""
        began: datetime = operation.started_at
        names, since = [operation.actor], began - FOUR_EYES_WINDOW
        recent = await operations_table.single_person_actions(connection, names, [], since, before=began)
        replays = await operations_table.single_person_replays(connection, names, [], since, before=began)
        return await share_of(connection, self.limits, action, letter_ids, recent, replays)
