"""Letters into their tables, each once, and the replays that have come back to the records that they began with."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from wallet_worker.dead_letters.model.states import ReplayState
from wallet_worker.dead_letters.reasons import UNKNOWN
from wallet_worker.store.dead_letters import arrivals as arrivals_table
from wallet_worker.store.dead_letters import audit, letters, replays
from wallet_worker.store.dead_letters.arrivals import Arrival
from wallet_worker.store.dead_letters.audit import KeeperEntry
from wallet_worker.store.dead_letters.replays import ReplayEnd
from wallet_worker.store.errors import ConflictError

KEEPER: Final = "keeper"
"""Who the audit says has done what nobody ordered."""


@dataclass(frozen=True, slots=True)
class TakenIn:
    """What became of some letters: how many are new, came back from a replay, or were known already."""

    new: tuple[Arrival, ...]
    came_back: tuple[Arrival, ...]
    known: int
    failed: int
    """Replays that have ended so: of an edit that came back too, and of none that had failed before."""


async def take_in(connection: asyncpg.Connection, arrivals: Sequence[Arrival], now: datetime) -> TakenIn:
    """Write letters that are not known; the caller commits, and acknowledges only then.

    Raises LostRaceError if another keeper has just written one of them: begin again.
    """
    known = await arrivals_table.ids_of_keys(connection, [arrival.key for arrival in arrivals])
    fresh: dict[bytes, Arrival] = {}
    again: list[Arrival] = []
    for arrival in arrivals:
        if arrival.key in known or arrival.key in fresh:
            again.append(arrival)
        else:
            fresh[arrival.key] = arrival
    claims = await _claims(connection, list(fresh.values()))
    new, returned, failed = await _write(connection, list(fresh.values()), claims, now)
    if again:
        await arrivals_table.count_again(connection, [arrival.key for arrival in again])
        # What was closed waits again when its sender repeats it; the broker's own repeat is no such wish.
        await _reopen(
            connection,
            [known[arrival.key] for arrival in again if arrival.key in known and not arrival.redelivered],
            now,
        )
    return TakenIn(tuple(new), tuple(returned), len(again), failed)


@dataclass(frozen=True, slots=True)
class _Claim:
    """The replay that a letter really comes from."""

    replay_id: UUID
    letter_id: int
    is_edit: bool


async def _claims(connection: asyncpg.Connection, arrivals: Sequence[Arrival]) -> dict[bytes, _Claim]:
    """Return, by key, the replays that letters come from, without ids that the keeper did not write."""
    claimed = {arrival.replay_id for arrival in arrivals if arrival.replay_id is not None}
    if not claimed:
        return {}
    replays_by_id = await replays.claimed(connection, claimed)
    return {
        arrival.key: _Claim(arrival.replay_id, row.letter_id, row.is_edit)
        for arrival in arrivals
        if arrival.replay_id is not None
        and (row := replays_by_id.get(arrival.replay_id)) is not None
        and row.body_digest == arrival.body_digest
    }


async def _write(
    connection: asyncpg.Connection, fresh: Sequence[Arrival], claims: dict[bytes, _Claim], now: datetime
) -> tuple[list[Arrival], list[Arrival], int]:
    """Write what is not known; return what made a record, what came back to one, and how many replays have failed."""
    returned = [arrival for arrival in fresh if arrival.key in claims and not claims[arrival.key].is_edit]
    new = [arrival for arrival in fresh if arrival.key not in claims or claims[arrival.key].is_edit]
    places = {arrival.key: claims[arrival.key].letter_id for arrival in returned}
    if new:
        await arrivals_table.claim_ids(connection)
    if returned:
        # In the order in which operators lock them too.
        await letters.lock(connection, set(places.values()))
    if new:
        ids = await arrivals_table.reserve_ids(connection, len(new))
        places |= {arrival.key: letter_id for arrival, letter_id in zip(new, ids, strict=True)}
        await arrivals_table.insert_all(
            connection,
            [
                (
                    places[arrival.key],
                    arrival,
                    claims[arrival.key].letter_id if arrival.key in claims else None,
                )
                for arrival in new
            ],
            now,
        )
        await arrivals_table.note_names(connection, [(places[arrival.key], arrival) for arrival in new])
    if not fresh:
        return [], [], 0
    attempts = [
        (places[arrival.key], arrival, claims[arrival.key].replay_id if arrival.key in claims else None)
        for arrival in fresh
    ]
    written = await arrivals_table.note_attempts(
        connection, sorted(attempts, key=lambda attempt: attempt[1].key), now
    )
    if len(written) != len(fresh):
        msg = "another keeper took in the same letter at the same moment"
        raise ConflictError(msg)
    return new, returned, await _fail_replays(connection, fresh, claims, places, now)


async def _fail_replays(
    connection: asyncpg.Connection,
    fresh: Sequence[Arrival],
    claims: dict[bytes, _Claim],
    places: dict[bytes, int],
    now: datetime,
) -> int:
    """End the replays that came back, and have their letters wait again; return how many have ended."""
    back = [arrival for arrival in fresh if arrival.key in claims]
    if not back:
        return 0
    ends = {
        claims[arrival.key].replay_id: ReplayEnd(
            claims[arrival.key].replay_id, ReplayState.FAILED, arrival.reason, arrival.detail
        )
        for arrival in back
    }
    ended = {row.replay_id: row for row in await replays.came_back(connection, list(ends.values()), now)}
    first: dict[int, Arrival] = {}
    late: dict[int, Arrival] = {}
    for arrival in back:
        claim = claims[arrival.key]
        if not claim.is_edit:
            (first if claim.replay_id in ended else late).setdefault(places[arrival.key], arrival)
    # A replay that was over, and yet another copy of it comes back: somebody should look. Also when the broker says
    # that it may have handed this one out before: its key is new, so nobody has taken it in.
    await _reopen(connection, [letter_id for letter_id in late if letter_id not in first], now)
    await arrivals_table.came_back(connection, list((late | first).items()), now)
    deeds = [
        KeeperEntry("replay failed", row.code, row.letter_id, row.operation_id) for row in ended.values()
    ]
    if deeds:
        await audit.insert_of_keeper(connection, deeds, now)
    return len(ended)


async def _reopen(connection: asyncpg.Connection, letter_ids: Sequence[int], now: datetime) -> None:
    if not letter_ids:
        return
    reopened = await arrivals_table.reopen(connection, set(letter_ids), now)
    if reopened:
        deeds = [KeeperEntry("reopen", "it arrived again", letter_id) for letter_id in reopened]
        await audit.insert_of_keeper(connection, deeds, now)


def without_parsed_fields(letter: Arrival) -> Arrival:
    """Return a letter with its bytes and without the fields that were parsed from them: every database stores that."""
    return replace(
        letter,
        reason=UNKNOWN,
        detail="what could be read of it cannot be kept; the bytes are",
        routing_key="",
        exchange=None,
        message_type=None,
        serial_no=None,
        user_id=None,
        trace_id=None,
        worker=None,
        replay_id=None,
        users=frozenset(),
        orders=frozenset(),
        gateway_refs=frozenset(),
    )
