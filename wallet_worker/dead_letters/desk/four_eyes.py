"""Four eyes: how many letters one person may act on alone."""

from collections.abc import Sequence
from datetime import datetime

import asyncpg

from wallet_schemas import money
from wallet_worker.dead_letters.desk.inputs import storable_text
from wallet_worker.dead_letters.desk.session import Desk
from wallet_worker.dead_letters.model.actors import COMMAND_LINE, Actor
from wallet_worker.dead_letters.model.errors import StaleError
from wallet_worker.dead_letters.model.states import Action
from wallet_worker.dead_letters.replay.authority import (
    FOUR_EYES_WINDOW,
    SinglePersonShare,
    needs_two,
    share_of,
)
from wallet_worker.store.dead_letters import operations as operations_table


async def needs_second_person(
    desk: Desk,
    connection: asyncpg.Connection,
    actor: Actor,
    action: Action,
    letter_ids: Sequence[int],
    now: datetime,
    *,
    has_unsealed: bool,
) -> bool:
    """Return whether a plan of these letters needs two people."""
    share = await _share(desk, connection, actor, action, letter_ids, now)
    return needs_two(action, share, desk.limits, has_unsealed=has_unsealed)


async def check_four_eyes(
    desk: Desk,
    connection: asyncpg.Connection,
    actor: Actor,
    action: Action,
    letter_ids: Sequence[int],
    now: datetime,
) -> None:
    """Raise StaleError if the actor has done too much alone by now to act on these letters as well.

    Until the transaction ends, nobody else executes under one of the actor's names.
    """
    login = _login(actor)
    await operations_table.claim_actor(connection, _names(actor))  # two at once do not both fit
    share = await _share(desk, connection, actor, action, letter_ids, now)
    letters, recent = len(letter_ids), share.letters - len(letter_ids)
    if share.letters <= desk.limits.single_person_max and share.exceeds(desk.limits):
        sums = ", ".join(
            f"{money.to_text(minor, currency)} {currency}" for currency, minor in share.minor.items()
        )
        msg = (
            f"with these letters {actor.name} would have replayed {sums} alone within the hour, and that is more than "
            "one person may: plan again, and a second person approves"
        )
        raise StaleError(msg)
    if share.exceeds(desk.limits):
        who = (
            actor.name if login is None else f"{actor.name}, or the login {login.removeprefix(COMMAND_LINE)},"
        )
        msg = (
            f"{who} has acted on {recent:,} letters alone within the hour, and with these {letters:,} "
            f"that is more than {desk.limits.single_person_max:,}: plan again, and a second person approves"
        )
        raise StaleError(msg)


async def _share(
    desk: Desk,
    connection: asyncpg.Connection,
    actor: Actor,
    action: Action,
    letter_ids: Sequence[int],
    now: datetime,
) -> SinglePersonShare:
    """Return what this actor, or this login, has done within the four-eyes window without approval, and these."""
    names, since = _names(actor), now - FOUR_EYES_WINDOW
    vias = {f"{COMMAND_LINE}{name}" for name in names}
    recent = await operations_table.single_person_actions(connection, names, vias, since)
    replays = await operations_table.single_person_replays(connection, names, vias, since)
    return await share_of(connection, desk.limits, action, letter_ids, recent, replays)


def _login(actor: Actor) -> str | None:
    """Return `via` of an actor at the command line, as it is stored; None for an actor who signed in elsewhere."""
    via = storable_text(actor.via)
    return via if via.startswith(COMMAND_LINE) else None


def _names(actor: Actor) -> set[str]:
    """Return the actor's name, and the name of the login at the command line if there is one."""
    login = _login(actor)
    return {actor.name} if login is None else {actor.name, login.removeprefix(COMMAND_LINE).lower()}
