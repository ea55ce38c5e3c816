"""The versions of one command: the numbers under which it came, and those under which it was sent anew in an edit.

An edit leads from the number of its letter to a new one; what it has sent may be a letter again, and be edited too. A
number may have several letters: senders repeat. At most one version may ever be applied.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from schemas.names import WALLET_COMMANDS
from wallet_worker.core.circumstances import Rules
from wallet_worker.dead_letters.prediction import MOVES_NOTHING, NEVER_APPLIES, Replayable, predict
from wallet_worker.dead_letters.records import LetterState, NotPossibleError, Prediction, Verdict
from wallet_worker.store import dead_letters as letters_table
from wallet_worker.store import dead_letters_replays as replays_table

_CHUNK: Final = 500  # letters predicted at once: bodies of 64 KiB each are 32 MB
_UNDONE: Final = frozenset({LetterState.WAITING, LetterState.REPLAYING})


@dataclass(frozen=True, slots=True)
class Versions:
    """Which messages may still be applied beside a letter. `rules` and `keys` are the worker's own."""

    rules: Rules
    keys: Mapping[str, str]

    async def predicted(
        self, connection: asyncpg.Connection, rows: Sequence[asyncpg.Record]
    ) -> list[Prediction]:
        """Return what each of these messages would do now, each alone."""
        return await predict(connection, [_replayable(row) for row in rows], self.rules, self.keys)

    async def still_out(
        self, connection: asyncpg.Connection, letter_ids: Sequence[int]
    ) -> list[asyncpg.Record]:
        """Return the replays and edits that are over, and of which a copy may still be on its way and be applied."""
        return await self._that_may_apply(connection, await replays_table.still_out(connection, letter_ids))

    async def sent_otherwise(
        self, connection: asyncpg.Connection, rows: Sequence[asyncpg.Record]
    ) -> dict[int, Prediction]:
        """Return, of these letters, those whose command was sent under another number, which was applied or may be."""
        numbers = {
            row["letter_id"]: row["serial_no"]
            for row in rows
            if row["source"] == WALLET_COMMANDS and row["serial_no"] is not None
        }
        edits = await _edits_around(connection, numbers.values())
        alive = {row["replay_id"] for row in await self._that_may_apply(connection, edits)}
        found: dict[int, Prediction] = {}
        for letter_id, number in numbers.items() if alive else ():
            for row in _rivals(edits, number):
                if row["replay_id"] in alive:
                    sent = f"edited as {row['serial_no']} in letter {row['letter_id']}"
                    found[letter_id] = Prediction(Verdict.NOWHERE, "", sent)
        return found

    async def refuse_another(self, connection: asyncpg.Connection, letter: asyncpg.Record) -> None:
        """Raise NotPossibleError if the command of a letter may be applied from another one, or was sent anew there.

        A twin that was discarded holds up nothing: restored, it cannot be replayed while there is an edit.
        """
        letter_id, number = letter["letter_id"], letter["serial_no"]
        if number is None:
            return
        edits = await _edits_around(connection, [number])
        for row in await self._that_may_apply(connection, _rivals(edits, number)):
            msg = (
                f"the command of letter {letter_id} was sent as {row['serial_no']} in the place of letter "
                f"{row['letter_id']}: an edit would send both versions"
            )
            raise NotPossibleError(msg)
        twins = await letters_table.twins(connection, _family(edits, number), WALLET_COMMANDS, letter_id)
        for start in range(0, len(twins), _CHUNK):
            await self._refuse_twins(connection, letter_id, twins[start : start + _CHUNK])

    async def _refuse_twins(
        self, connection: asyncpg.Connection, letter_id: int, twins: Sequence[asyncpg.Record]
    ) -> None:
        states = {row["letter_id"]: LetterState(row["state"]) for row in twins}
        out = await self.still_out(connection, list(states))
        on_the_way = {row["letter_id"] for row in out}
        edits_out = {row["letter_id"] for row in out if row["is_edit"]}
        undone = [one for one, state in states.items() if state in _UNDONE or one in on_the_way]
        rows = await letters_table.replayable(connection, undone)
        for row, said in zip(rows, await self.predicted(connection, rows), strict=True):
            twin = row["letter_id"]
            if said.verdict in MOVES_NOTHING and twin not in edits_out:
                continue
            if states[twin] is LetterState.WAITING and twin not in on_the_way:
                then = f"Discard letter {twin} first"
            else:
                then = f"Letter {letter_id} can be edited when the outcome of letter {twin} is known"
            msg = (
                f"letter {twin} is the same command, {row['serial_no']}, and may still be applied: an edit would send "
                f"both versions. {then}"
            )
            raise NotPossibleError(msg)

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


def _rivals(edits: Sequence[asyncpg.Record], number: str) -> list[asyncpg.Record]:
    """Return the edits that send the command of a number under another, in its place or beside it.

    Those that led to this number are none: they are closed in its favour.
    """
    way_here = {number}
    while (
        more := {
            row["replaces"] for row in edits if row["serial_no"] in way_here and row["replaces"] is not None
        }
        - way_here
    ):
        way_here |= more
    others = _family(edits, number) - way_here
    return [row for row in edits if row["serial_no"] in others]


def _family(edits: Sequence[asyncpg.Record], number: str) -> set[str]:
    """Return every number of the command that has this one."""
    found = {number}
    ends = [{row["replaces"], row["serial_no"]} - {None} for row in edits]
    while more := {one for pair in ends if pair & found for one in pair} - found:
        found |= more
    return found
