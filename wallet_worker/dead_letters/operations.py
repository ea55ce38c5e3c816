"""Everything that an operator can do with dead letters: what the command line and the console call.

Every method takes the actor first. It raises an OperationError whose text is a sentence for a person; then nothing
was changed. A StoreError means that the database is unavailable: nothing is lost, ask again. No method needs the
broker: what is to be published is written to the database, and a keeper publishes it.

    letters, groups, overview, letter      look
    plan, plan_edit -> token               say what would be done to exactly which letters
    to_sign, sign                          whoever made it asks for it, and a second person agrees
    execute(token)                         do it: write it in one transaction; keepers carry it out
    pause, resume, stop                    hold, go on, end
    operation, operations                  show the progress
"""

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from uuid import UUID

from wallet_schemas.signature import DEFAULT_ENVIRONMENT, Keys
from wallet_worker.core.context import Policy
from wallet_worker.dead_letters.desk import audit_log, browsing, executing, planning, signing
from wallet_worker.dead_letters.desk.session import Desk
from wallet_worker.dead_letters.model.actors import Actor
from wallet_worker.dead_letters.model.audit_log import AuditPage, AuditRow
from wallet_worker.dead_letters.model.filters import AuditFilter, Filter
from wallet_worker.dead_letters.model.letters import (
    PAGE_LETTERS,
    Group,
    LetterContent,
    LetterDetail,
    Overview,
    Page,
)
from wallet_worker.dead_letters.model.plans import Operation, Plan, ReplayPace
from wallet_worker.dead_letters.model.signing import Signature, ToSign
from wallet_worker.dead_letters.model.states import Action
from wallet_worker.settings.operators import ApprovalLimits
from wallet_worker.store import operators
from wallet_worker.store.database import Database
from wallet_worker.store.operators import KeyRow, KnownRole


class DeadLetterDesk:
    """The operations of one deployment. `database` is opened under OPERATOR_ROLE, and closed by its opener.

    `rules` and `keys` are the worker's own: predictions are made with them.
    """

    def __init__(
        self,
        database: Database,
        rules: Policy,
        keys: Keys,
        limits: ApprovalLimits | None = None,
        environment: str = DEFAULT_ENVIRONMENT,
    ) -> None:
        self.limits = limits or ApprovalLimits()
        self._desk = Desk(database, rules, keys, self.limits, environment)

    # Looking

    async def letters(
        self, actor: Actor, which: Filter, *, after: int | None = None, limit: int = PAGE_LETTERS
    ) -> Page:
        """Return letters, newest first; `after` is a page's `next_after`."""
        return await browsing.letters(self._desk, actor, which, after=after, limit=limit)

    async def count(self, actor: Actor, which: Filter) -> int:  # noqa: ARG002 -- every role may count
        """Return how many letters fit."""
        return await browsing.count(self._desk, which)

    async def groups(
        self,
        actor: Actor,  # noqa: ARG002 -- a group contains no personal data
        which: Filter,
        *,
        span: timedelta = timedelta(hours=24),
        buckets: int = 24,
    ) -> list[Group]:
        """Return the letters by reason and source, the group with the most waiting first.

        Each has its arrivals of the last `span`, in `buckets` buckets of equal length.
        """
        return await browsing.groups(self._desk, which, span=span, buckets=buckets)

    async def overview(self, actor: Actor) -> Overview:  # noqa: ARG002 -- see groups
        """Return depths, ages and what is in progress."""
        return await browsing.overview(self._desk)

    async def letter(self, actor: Actor, letter_id: int) -> LetterDetail:
        """Return a letter, what the wallet knows of it, and what a replay would do now; raises NotFoundError."""
        return await browsing.letter(self._desk, actor, letter_id)

    def export(self, actor: Actor, which: Filter) -> AsyncIterator[LetterContent]:
        """Yield every letter that fits with its content, newest first, masked for viewers; the audit log has it."""
        return browsing.export(self._desk, actor, which)

    async def payload(self, actor: Actor, letter_id: int) -> bytes:
        """Return a letter's payload, byte for byte; the audit log has it.

        Raises NotAllowedError for viewers, and NotFoundError.
        """
        return await browsing.payload(self._desk, actor, letter_id)

    # Planning

    async def plan(
        self, actor: Actor, action: Action, which: Filter, *, reason: str, pace: ReplayPace | None = None
    ) -> Plan:
        """Return what a replay, discard or restore of the letters that fit now would do; nothing is done.

        The plan is of these letters, whatever arrives later. Raises NotAllowedError for viewers, and NotPossibleError
        if no letter fits, too many fit, or `reason` is empty.
        """
        return await planning.plan(self._desk, actor, action, which, reason=reason, pace=pace)

    async def plan_edit(self, actor: Actor, letter_id: int, body: bytes, *, reason: str) -> Plan:
        """Return the plan of sending `body` as a new message in the place of a letter.

        The body must be a command that the schema allows, with a serial number that was never used. A payment result
        cannot be edited: the gateway's signature would not fit. Raises InvalidEditError, and what `plan` raises.
        """
        return await planning.plan_edit(self._desk, actor, letter_id, body, reason=reason)

    async def plan_of(self, actor: Actor, token: str) -> Plan:
        """Return a plan by its token; raises NotFoundError."""
        return await planning.plan_of(self._desk, actor, token)

    async def plans(self, actor: Actor, *, awaiting_approval: bool = False) -> list[Plan]:
        """Return the plans that can still be executed, newest first; perhaps only those that await approval."""
        return await planning.plans(self._desk, actor, awaiting_approval=awaiting_approval)

    async def to_sign(self, actor: Actor, token: str) -> ToSign:
        """Return what this person would sign of a plan now, and the keys that it can be signed with.

        Whoever made the plan signs that he asks for it; everybody else, that he approves. Raises NotFoundError.
        """
        return await signing.to_sign(self._desk, actor, token)

    async def sign(self, actor: Actor, token: str, signature: Signature, *, reason: str) -> Plan:
        """Store a person's signature of a plan, and return the plan: after the second one it is ready.

        The signature is verified, and again by whoever executes. Raises NotAllowedError if it is not the actor's own or
        the actor may not; StaleError if a letter or a prediction has changed since, or it was signed long ago;
        NotPossibleError if it is not the turn of this signature; NotFoundError.
        """
        return await planning.sign(self._desk, actor, token, signature, reason=reason)

    async def keys_of(self, actor: Actor) -> list[KeyRow]:
        """Return the actor's own keys, revoked ones too, oldest first."""
        async with self._desk.snapshot() as connection:
            return await operators.keys_of(connection, actor.name)

    async def role_of(self, name: str) -> KnownRole:
        """Return what the database knows of a name: its role, and whether there are operators at all."""
        async with self._desk.snapshot() as connection:
            return await operators.role_of(connection, name)

    # Acting

    async def execute(self, actor: Actor, token: str) -> Operation:
        """Do what was planned, once: it is written in one transaction, and keepers carry it out.

        Predictions are made again first. Raises StaleError if a letter or a prediction has changed (plan again then),
        or the token is old or used; ApprovalNeededError; NotAllowedError; NotFoundError. A token that is executed
        twice, at once or later, takes effect once; the second caller reads who executed it and when.
        """
        return await executing.execute(self._desk, actor, token)

    async def pause(self, actor: Actor, operation_id: UUID, *, reason: str) -> Operation:
        """Publish nothing more of it for now; raises NotPossibleError if it is not running."""
        return await executing.pause(self._desk, actor, operation_id, reason=reason)

    async def resume(self, actor: Actor, operation_id: UUID, *, reason: str) -> Operation:
        """Go on with a paused operation; raises NotPossibleError if it is not paused."""
        return await executing.resume(self._desk, actor, operation_id, reason=reason)

    async def stop(self, actor: Actor, operation_id: UUID, *, reason: str) -> Operation:
        """End it: what is not published waits again, the rest goes on to its outcome.

        Raises NotPossibleError if it has ended.
        """
        return await executing.stop(self._desk, actor, operation_id, reason=reason)

    async def operation(self, actor: Actor, operation_id: UUID) -> Operation:
        """Return the progress of an operation; raises NotFoundError."""
        return await executing.operation(self._desk, actor, operation_id)

    async def operations(self, actor: Actor, *, limit: int = 50) -> list[Operation]:
        """Return the operations, newest first."""
        return await executing.operations(self._desk, actor, limit=limit)

    async def note(self, actor: Actor, letter_id: int, text: str) -> AuditRow:
        """Keep a note with a letter; raises NotAllowedError for viewers, NotFoundError, NotPossibleError if empty."""
        return await audit_log.note(self._desk, actor, letter_id, text)

    # The audit log

    async def looked(self, actor: Actor, what: str, about: Mapping[str, str | int]) -> None:
        """Write into the audit log, before it is shown, that the actor reads something about a person.

        `what` is a noun, `about` whose or which one it is.
        """
        await audit_log.looked(self._desk, actor, what, about)

    async def audit(
        self, actor: Actor, which: AuditFilter, *, after: int | None = None, limit: int = 100
    ) -> AuditPage:
        """Return audit rows, newest first; `after` is a page's `next_after`."""
        return await audit_log.page(self._desk, actor, which, after=after, limit=limit)

    def export_audit(self, actor: Actor, which: AuditFilter) -> AsyncIterator[AuditRow]:
        """Yield every audit row that fits, oldest first; the export's own row is the newest, if it fits."""
        return audit_log.export(self._desk, actor, which)
