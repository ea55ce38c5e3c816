"""The versions of one command: the numbers under which it came, and those under which it was sent anew in an edit.

An edit leads from the number of its letter to a new one; what it has sent may be a letter again, and be edited too. A
number may have several letters: senders repeat. At most one version may ever be applied.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncpg

from wallet_schemas.codes import Code
from wallet_schemas.names import WALLET_COMMANDS
from wallet_worker.core.context import Policy
from wallet_worker.dead_letters.model.errors import NotPossibleError
from wallet_worker.dead_letters.model.predictions import PredictedOutcome, Prediction
from wallet_worker.dead_letters.model.states import LetterState
from wallet_worker.dead_letters.replay.predict import MOVES_NOTHING, NEVER_APPLIES, Replayable, predict
from wallet_worker.store import commands
from wallet_worker.store.dead_letters import letters as letters_table
from wallet_worker.store.dead_letters import replays as replays_table

_CHUNK: Final = 500  # letters predicted at once: bodies of 64 KiB each are 32 MB
_NAMED: Final = 10  # letters that one sentence names
_UNDONE: Final = frozenset({LetterState.WAITING, LetterState.REPLAYING})


@dataclass(frozen=True, slots=True)
class Lineage:
    """Which messages may still be applied beside a letter. `rules` and `keys` are the worker's own."""

    rules: Policy
    keys: Mapping[str, str]

    async def predicted(
        self, connection: asyncpg.Connection, rows: Sequence[asyncpg.Record]
    ) -> list[Prediction]:
        """Return what each of these messages would do now, each alone."""
        return await predict(connection, [_replayable(row) for row in rows], self.rules, self.keys)

    async def in_flight(
        self, connection: asyncpg.Connection, letter_ids: Sequence[int]
    ) -> list[asyncpg.Record]:
        """Return the replays and edits that are over, and of which a copy may still be on its way and be applied."""
        return await self._that_may_apply(connection, await replays_table.still_out(connection, letter_ids))

    async def superseded(
        self, connection: asyncpg.Connection, rows: Sequence[asyncpg.Record]
    ) -> dict[int, Prediction]:
        """Return, of these letters, those whose command was applied under another number, or may be."""
        numbers = {
            row["letter_id"]: row["serial_no"]
            for row in rows
            if row["source"] == WALLET_COMMANDS and row["serial_no"] is not None
        }
        edits = await _edits_around(connection, numbers.values())
        alive = {row["replay_id"] for row in await self._that_may_apply(connection, edits)}
        applied = await self._applied(connection, {row["letter_id"] for row in edits})
        found: dict[int, Prediction] = {}
        for letter_id, number in numbers.items() if edits else ():
            sent = [
                f"edited as {row['serial_no']} in letter {row['letter_id']}"
                for row in _competing_edits(edits, number)
                if row["replay_id"] in alive
            ]
            done = [
                f"applied as {row['replaces']}, letter {row['letter_id']}"
                for row in _leading_to(edits, number)
                if row["letter_id"] in applied
            ]
            if sent or done:
                found[letter_id] = Prediction(PredictedOutcome.NOT_REPLAYABLE, "", (sent or done)[-1])
        return found

    async def already_applied(
        self, connection: asyncpg.Connection, rows: Sequence[asyncpg.Record]
    ) -> dict[UUID, str]:
        """Return, of these replays, those that would send another version of what was applied, and why.

        What would move nothing is none of them.
        """
        numbers = {
            row["serial_no"]
            for row in rows
            if row["source"] == WALLET_COMMANDS and row["serial_no"] is not None
        }
        edits = await _edits_around(connection, numbers)
        applied = await self._applied(connection, {row["letter_id"] for row in edits})
        why = {
            number: f"applied as {row['replaces']}, letter {row['letter_id']}: both versions would be"
            for number in (numbers if applied else ())
            for row in _leading_to(edits, number)
            if row["letter_id"] in applied
        }
        late = [row for row in rows if row["source"] == WALLET_COMMANDS and row["serial_no"] in why]
        return {
            row["replay_id"]: why[row["serial_no"]]
            for row, said in zip(late, await self.predicted(connection, late), strict=True)
            if said.verdict not in MOVES_NOTHING
        }

    async def ensure_only_version(self, connection: asyncpg.Connection, letter: asyncpg.Record) -> None:
        """Raise NotPossibleError if the command of a letter was or may be applied otherwise, or was sent anew.

        A twin that was discarded holds up nothing: restored, it cannot be replayed while there is an edit. What a
        worker applies meanwhile is looked for last: a twin that has an outcome by then holds up nothing as a twin.
        """
        letter_id, number = letter["letter_id"], letter["serial_no"]
        if number is None:
            return
        edits = await _edits_around(connection, [number])
        for row in await self._that_may_apply(connection, _competing_edits(edits, number)):
            msg = (
                f"the command of letter {letter_id} was sent as {row['serial_no']} in the place of letter "
                f"{row['letter_id']}: an edit would send both versions"
            )
            raise NotPossibleError(msg)
        twins = await letters_table.twins(
            connection, _related_numbers(edits, number), WALLET_COMMANDS, letter_id
        )
        await self._refuse_twins(connection, letter_id, twins)
        leading = {row["letter_id"]: row["replaces"] for row in _leading_to(edits, number)}
        for one in await self._applied(connection, leading):
            msg = (
                f"the command of letter {letter_id} was applied as {leading[one]}, letter {one}: an edit would send "
                "both versions"
            )
            raise NotPossibleError(msg)

    async def _refuse_twins(
        self, connection: asyncpg.Connection, letter_id: int, twins: Sequence[asyncpg.Record]
    ) -> None:
        """Raise NotPossibleError if others of these letters may still be applied, naming some of them."""
        waiting: list[int] = []
        sent: list[int] = []
        for start in range(0, len(twins), _CHUNK):
            some = twins[start : start + _CHUNK]
            states = {row["letter_id"]: LetterState(row["state"]) for row in some}
            out = await self.in_flight(connection, list(states))
            on_the_way = {row["letter_id"] for row in out}
            edits_out = {row["letter_id"] for row in out if row["is_edit"]}
            undone = [one for one, state in states.items() if state in _UNDONE or one in on_the_way]
            rows = await letters_table.replayable(connection, undone)
            for row, said in zip(rows, await self.predicted(connection, rows), strict=True):
                twin = row["letter_id"]
                if said.verdict in MOVES_NOTHING and twin not in edits_out:
                    continue
                is_kept = states[twin] is LetterState.WAITING and twin not in on_the_way
                (waiting if is_kept else sent).append(twin)
        if not waiting and not sent:
            return
        then = [f"Discard {_named(waiting)} first."] if waiting else []
        then += [f"It can be edited when the outcome of {_named(sent)} is known."] if sent else []
        others = sorted(waiting + sent)
        msg = (
            f"{_named(others)} {'is' if len(others) == 1 else 'are'} the same command as letter {letter_id}, and may "
            f"still be applied: an edit would send both versions. {' '.join(then)}"
        )
        raise NotPossibleError(msg.removesuffix("."))

    async def _applied(self, connection: asyncpg.Connection, letter_ids: Collection[int]) -> set[int]:
        """Return those of these letters whose command was applied, under the number that the letter has.

        One that cannot be read does not use its number up: what was applied under it is the mended message.
        """
        ids, found = sorted(letter_ids), set[int]()
        for start in range(0, len(ids), _CHUNK):
            rows = await letters_table.replayable(connection, ids[start : start + _CHUNK])
            unreadable: list[asyncpg.Record] = []
            for row, said in zip(rows, await self.predicted(connection, rows), strict=True):
                if said.verdict is PredictedOutcome.REPEATS and said.code == Code.OK:
                    found.add(row["letter_id"])
                if said.verdict is PredictedOutcome.STILL_MALFORMED:
                    unreadable.append(row)
            _, known = await commands.known(connection, {row["serial_no"] for row in unreadable} - {None})
            done = {number for number, command in known.items() if command.code is Code.OK}
            found |= {row["letter_id"] for row in unreadable if row["serial_no"] in done}
        return found

    async def _that_may_apply(
        self, connection: asyncpg.Connection, rows: Sequence[asyncpg.Record]
    ) -> list[asyncpg.Record]:
        """Return those of these messages that were applied, or may be, however long they are on their way."""
        said = await self.predicted(connection, rows) if rows else []
        return [row for row, one in zip(rows, said, strict=True) if one.verdict not in NEVER_APPLIES]


def _replayable(row: asyncpg.Record) -> Replayable:
    # Without an exchange it goes nowhere, whatever it says of itself.
    return Replayable(row["source"] if row["exchange"] is not None else "", row["body"], row["properties"])


async def _edits_around(connection: asyncpg.Connection, numbers: Iterable[str]) -> list[asyncpg.Record]:
    """Return the edits of which a copy was sent, or is about to be, that have to do with these numbers."""
    known = set(numbers)
    while known:
        rows = await replays_table.edits_sent(connection, known)
        found = {one for row in rows for one in (row["replaces"], row["serial_no"]) if one is not None}
        if found <= known:
            return rows
        known |= found
    return []


def _competing_edits(edits: Sequence[asyncpg.Record], number: str) -> list[asyncpg.Record]:
    """Return the edits that send the command of a number under another, in its place or beside it.

    Those that led to this number are none: they are closed in its favour.
    """
    others = _related_numbers(edits, number) - _way_to(edits, number)
    return [row for row in edits if row["serial_no"] in others]


def _leading_to(edits: Sequence[asyncpg.Record], number: str) -> list[asyncpg.Record]:
    """Return the edits through which a command has come to this number."""
    way = _way_to(edits, number)
    return [row for row in edits if row["serial_no"] in way]


def _way_to(edits: Sequence[asyncpg.Record], number: str) -> set[str]:
    """Return a number, and those from which edits have led to it."""
    way = {number}
    while more := {row["replaces"] for row in edits if row["serial_no"] in way} - way - {None}:
        way |= more
    return way


def _named(letter_ids: Sequence[int]) -> str:
    """Return some of these letters, and how many there are besides, as words of a sentence."""
    named = ", ".join(str(one) for one in letter_ids[:_NAMED])
    more = len(letter_ids) - _NAMED
    return f"letter{'s' if len(letter_ids) > 1 else ''} {named}{f' and {more:,} more' if more > 0 else ''}"


def _related_numbers(edits: Sequence[asyncpg.Record], number: str) -> set[str]:
    """Return every number of the command that has this one."""
    found = {number}
    ends = [{row["replaces"], row["serial_no"]} - {None} for row in edits]
    while more := {one for pair in ends if pair & found for one in pair} - found:
        found |= more
    return found
