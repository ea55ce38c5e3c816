"""Everything that an operator can do with dead letters: the one module that command line and console call.

Every method takes the actor first and raises `records.OperationError` with a sentence for a person when it will not;
then nothing was changed. A StoreError means that the database is away: nothing is lost, ask again. No method needs
the broker: what is to be published is written down, and a keeper publishes it.

    letters, groups, overview, letter      look
    plan, plan_edit -> token               say what would be done to exactly which letters
    approve                                a second person agrees
    execute(token)                         do it: write it down in one transaction; keepers carry it out
    pause, resume, stop                    hold, go on, end
    operation, operations                  how far it is
"""

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from uuid import UUID

from wallet_worker.core.circumstances import Rules
from wallet_worker.dead_letters.records import (
    Action,
    Actor,
    AuditFilter,
    AuditPage,
    AuditRow,
    Filter,
    Group,
    LetterDetail,
    LetterWhole,
    Limits,
    Operation,
    Overview,
    Pace,
    Page,
    Plan,
)
from wallet_worker.store.database import Database

PAGE_LETTERS = 50
PAGE_LETTERS_MAX = 500


class Operations:
    """What operators do. `database` is opened under `store.database.OPERATOR_ROLE`, and closed by whoever opened it.

    `rules` and `keys` are the worker's own: predictions are made with them.
    """

    def __init__(
        self, database: Database, rules: Rules, keys: Mapping[str, str], limits: Limits | None = None
    ) -> None:
        self._database = database
        self._rules = rules
        self._keys = keys
        self.limits = limits or Limits()

    async def letters(
        self, actor: Actor, which: Filter, *, after: int | None = None, limit: int = PAGE_LETTERS
    ) -> Page:
        """Return letters, newest first; `after` is a page's `next_after`."""
        raise NotImplementedError

    async def count(self, actor: Actor, which: Filter) -> int:
        """Return how many letters fit."""
        raise NotImplementedError

    async def groups(
        self, actor: Actor, which: Filter, *, span: timedelta = timedelta(hours=24), buckets: int = 24
    ) -> list[Group]:
        """Return the letters by reason and source, those with the most waiting first.

        Each has its arrivals in the last `span`, in `buckets` stretches.
        """
        raise NotImplementedError

    async def overview(self, actor: Actor) -> Overview:
        """Return depths, ages and what is going on."""
        raise NotImplementedError

    async def letter(self, actor: Actor, letter_id: int) -> LetterDetail:
        """Return all about one letter, what the wallet knows of it, and what a replay would do now.

        Raises NotFoundError.
        """
        raise NotImplementedError

    async def plan(
        self, actor: Actor, action: Action, which: Filter, *, reason: str, pace: Pace | None = None
    ) -> Plan:
        """Return what a replay, discard or restore of the letters that fit now would do; nothing is done.

        The plan is of these very letters, whatever arrives later. Raises NotAllowedError for viewers, and
        NotPossibleError if there is none, there are too many, or `reason` is empty.
        """
        raise NotImplementedError

    async def plan_edit(self, actor: Actor, letter_id: int, body: bytes, *, reason: str) -> Plan:
        """Return the plan of sending `body` as a new message in the place of a letter.

        The body must be a command that the schema allows, with a serial number that nobody has used. A payment result
        cannot be edited: the gateway's signature would not fit. Raises InvalidEditError, and what `plan` does.
        """
        raise NotImplementedError

    async def plan_of(self, actor: Actor, token: str) -> Plan:
        """Return a plan by its token; raises NotFoundError."""
        raise NotImplementedError

    async def plans(self, actor: Actor, *, awaiting_approval: bool = False) -> list[Plan]:
        """Return the plans that can still be executed, newest first, perhaps only those that need somebody's yes."""
        raise NotImplementedError

    async def approve(self, actor: Actor, token: str, *, reason: str) -> Plan:
        """Note that a second person agrees; returns the plan, ready now.

        Raises NotAllowedError if the actor is no approver, or made the plan; StaleError; NotFoundError.
        """
        raise NotImplementedError

    async def execute(self, actor: Actor, token: str) -> Operation:
        """Do what was planned, once: it is written down in one transaction, and keepers carry it out.

        Predictions are made again first. Raises StaleError if a letter or a prediction has changed (then plan again),
        or the token is old or used; ApprovalNeededError; NotAllowedError; NotFoundError. The same token executed
        twice, at once or later, is done once; the second is told who did it and when.
        """
        raise NotImplementedError

    async def pause(self, actor: Actor, operation_id: UUID, *, reason: str) -> Operation:
        """Publish nothing more of it for now; raises NotPossibleError if it is not running."""
        raise NotImplementedError

    async def resume(self, actor: Actor, operation_id: UUID, *, reason: str) -> Operation:
        """Go on with what was paused; raises NotPossibleError if it is not."""
        raise NotImplementedError

    async def stop(self, actor: Actor, operation_id: UUID, *, reason: str) -> Operation:
        """End it: what was not published waits again, what was goes on to its outcome.

        Raises NotPossibleError if it has ended.
        """
        raise NotImplementedError

    async def operation(self, actor: Actor, operation_id: UUID) -> Operation:
        """Return how far an operation is; raises NotFoundError."""
        raise NotImplementedError

    async def operations(self, actor: Actor, *, limit: int = 50) -> list[Operation]:
        """Return the operations, newest first."""
        raise NotImplementedError

    async def note(self, actor: Actor, letter_id: int, text: str) -> AuditRow:
        """Keep a note with a letter; raises NotAllowedError for viewers, NotFoundError, NotPossibleError if empty."""
        raise NotImplementedError

    def export(self, actor: Actor, which: Filter) -> AsyncIterator[LetterWhole]:
        """Give every letter that fits, newest first, whole; masked for viewers."""
        raise NotImplementedError

    async def audit(
        self, actor: Actor, which: AuditFilter, *, after: int | None = None, limit: int = 100
    ) -> AuditPage:
        """Return audit rows, newest first; `after` is a page's `next_after`."""
        raise NotImplementedError

    def export_audit(self, actor: Actor, which: AuditFilter) -> AsyncIterator[AuditRow]:
        """Give every audit row that fits, oldest first."""
        raise NotImplementedError
