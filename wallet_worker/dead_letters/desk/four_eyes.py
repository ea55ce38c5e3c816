"""Four eyes: how many letters one person may act on alone."""

from datetime import datetime

import asyncpg

from wallet_worker.dead_letters.desk.inputs import storable_text
from wallet_worker.dead_letters.desk.session import Desk
from wallet_worker.dead_letters.model.actors import COMMAND_LINE, Actor
from wallet_worker.dead_letters.model.errors import StaleError
from wallet_worker.dead_letters.model.states import Action
from wallet_worker.dead_letters.replay.authority import FOUR_EYES_WINDOW, needs_two
from wallet_worker.store.dead_letters import operations as operations_table


async def needs_second_person(
    desk: Desk,
    connection: asyncpg.Connection,
    actor: Actor,
    action: Action,
    letters: int,
    now: datetime,
    *,
    has_unsealed: bool,
) -> bool:
    """Return whether a plan of so many letters needs two people."""
    recent = await _recent_actions(connection, actor, now)
    return needs_two(action, letters, recent, desk.limits, has_unsealed=has_unsealed)


async def check_four_eyes(
    desk: Desk, connection: asyncpg.Connection, actor: Actor, letters: int, now: datetime
) -> None:
    """Raise StaleError if the actor has acted on too many letters alone by now to act on these as well.

    Until the transaction ends, nobody else executes under one of the actor's names.
    """
    login = _login(actor)
    await operations_table.claim_actor(connection, _names(actor))  # two at once do not both fit
    recent = await _recent_actions(connection, actor, now)
    if recent + letters > desk.limits.single_person_max:
        who = (
            actor.name if login is None else f"{actor.name}, or the login {login.removeprefix(COMMAND_LINE)},"
        )
        msg = (
            f"{who} has acted on {recent:,} letters alone within the hour, and with these {letters:,} "
            f"that is more than {desk.limits.single_person_max:,}: plan again, and a second person approves"
        )
        raise StaleError(msg)


async def _recent_actions(connection: asyncpg.Connection, actor: Actor, now: datetime) -> int:
    """Count letters acted on within the four-eyes window without approval, by this actor or this login."""
    names = _names(actor)
    vias = {f"{COMMAND_LINE}{name}" for name in names}
    return await operations_table.single_person_actions(connection, names, vias, now - FOUR_EYES_WINDOW)


def _login(actor: Actor) -> str | None:
    """Return `via` of an actor at the command line, as it is stored; None for an actor who signed in elsewhere."""
    via = storable_text(actor.via)
    return via if via.startswith(COMMAND_LINE) else None


def _names(actor: Actor) -> set[str]:
    """Return the actor's name, and the name of the login at the command line if there is one."""
    login = _login(actor)
    return {actor.name} if login is None else {actor.name, login.removeprefix(COMMAND_LINE).lower()}
