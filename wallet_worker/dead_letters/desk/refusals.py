"""Why something is not done, in a sentence for the person who asked."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC
from typing import Final
from uuid import UUID

import asyncpg

from wallet_worker.dead_letters.model.actors import NAME, Actor
from wallet_worker.dead_letters.model.errors import NotAllowedError, NotFoundError
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.predictions import Prediction
from wallet_worker.dead_letters.model.states import ACTS_ON, Action, LetterState
from wallet_worker.settings.operators import Role
from wallet_worker.store import operators
from wallet_worker.store.dead_letters import letters as letters_table
from wallet_worker.store.dead_letters import replays as replays_table
from wallet_worker.store.dead_letters.letters import LetterStatus
from wallet_worker.store.dead_letters.replays import OutstandingReplay
from wallet_worker.text import readable


def require_role(actor: Actor, role: Role) -> None:
    """Raise NotAllowedError if the actor's role may not, or the actor's name is not a name."""
    if not NAME.fullmatch(actor.name):
        msg = (
            f"{readable(actor.name)[:64]!a} is no name: small letters a to z, digits and ._@-, 64 at most, "
            "a letter or digit first"
        )
        raise NotAllowedError(msg)
    if actor.role < role:
        msg = f"{actor.name} is {_A[actor.role]}; this needs {_A[role]}"
        raise NotAllowedError(msg)


_A: Final = {
    Role.VIEWER: "a viewer",
    Role.OPERATOR: "an operator",
    Role.APPROVER: "an approver",
    Role.CONTROLLER: "a controller",
}


async def ensure_operator(connection: asyncpg.Connection, actor: Actor) -> None:
    """Raise NotAllowedError if the database has operators, and the actor is none of them.

    What a file or the command line says of a role gives nobody what the database's owner has not given.
    """
    known = await operators.role_of(connection, actor.name)
    if known.are_there and (known.role is None or Role[known.role.upper()] < Role.OPERATOR):
        what = "not in the database's list of operators" if known.role is None else f"a {known.role} there"
        msg = f"{actor.name} is {what}: its owner adds people with `wallet operators add`"
        raise NotAllowedError(msg)


def no_plan(token: str) -> NotFoundError:
    """Return the error of a plan that does not exist."""
    return NotFoundError(f"there is no plan {token[:64]!r}")


def no_operation(operation_id: UUID) -> NotFoundError:
    """Return the error of an operation that does not exist."""
    return NotFoundError(f"there is no operation {operation_id}")


async def explain_empty(
    connection: asyncpg.Connection,
    action: Action,
    which: Filter,
    fitting: Sequence[LetterStatus],
    not_replayable: Sequence[Prediction] = (),
) -> str:
    """Return why an action finds no letter."""
    if not fitting:
        return f"there is no dead letter {which.ids[0]}" if len(which.ids) == 1 else "no letter fits"
    if len(fitting) == 1:
        (letter,) = fitting
        for row in await replays_table.outstanding(connection, [letter.letter_id]):
            return _of_outstanding(row)
        if LetterState(letter.state) in ACTS_ON[action] and action is not Action.RESTORE:
            return (
                f"letter {letter.letter_id} was replayed {letter.replays} times and is not replayed any more"
                if not not_replayable
                else f"letter {letter.letter_id} {not_replayable[0].label}"
            )
        return f"letter {letter.letter_id} is {letter.state}: there is nothing to {action}"
    states = Counter(row.state for row in fitting)
    summary = ", ".join(f"{count:,} {state}" for state, count in states.most_common())
    return f"none of the {len(fitting):,} letters that fit can be {_DONE[action]}: {summary}"


_DONE: Final = {
    Action.REPLAY: "replayed",
    Action.DISCARD: "discarded",
    Action.RESTORE: "restored",
    Action.EDIT: "edited",
}


async def explain_stale(connection: asyncpg.Connection, lost: Sequence[int]) -> str:
    """Return what has become of letters since they were planned."""
    for row in await replays_table.outstanding(connection, lost):
        return f"{_of_outstanding(row)}. {len(lost):,} letters have changed since: plan again."
    rows = await letters_table.page(connection, letters_table.RowFilter(ids=lost[:1]), after=None, limit=1)
    state = rows[0].state if rows else "gone"
    return f"letter {lost[0]} is {state} now; {len(lost):,} letters have changed since: plan again"


def _of_outstanding(row: OutstandingReplay) -> str:
    when = f"{row.ordered_at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
    return (
        f"letter {row.letter_id} is being replayed already: {row.actor} ordered it at {when} "
        f"(operation {row.operation_id})"
    )
