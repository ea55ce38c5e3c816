"""The versions of one command: the numbers under which it came, and the new numbers that edits have given it.

An edit leads from the number of its letter to a new number. The message that an edit sends may become a letter again,
and be edited again. Several letters may have one number, because senders repeat. At most one version may ever be
applied.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar
from uuid import UUID

import asyncpg

from wallet_schemas.codes import Code
from wallet_schemas.names import WALLET_COMMANDS
from wallet_worker.dead_letters.model.errors import NotPossibleError
from wallet_worker.dead_letters.model.predictions import PredictedOutcome, Prediction
from wallet_worker.dead_letters.model.states import LetterState
from wallet_worker.dead_letters.replay.predict import MOVES_NOTHING, NEVER_APPLIES, Predictor, StoredMessage
from wallet_worker.store import commands
from wallet_worker.store.dead_letters import letters as letters_table
from wallet_worker.store.dead_letters import replays as replays_table
from wallet_worker.store.dead_letters.letters import DuplicateLetter, LetterMessage, WholeLetterRow
from wallet_worker.store.dead_letters.replays import InFlightReplay, OrderedReplay, SentEdit

_CHUNK: Final = 500  # letters predicted at once: bodies of 64 KiB each are 32 MB
_LISTED_MAX: Final = 10  # letters that one sentence names
_UNDONE: Final = frozenset({LetterState.WAITING, LetterState.REPLAYING})

M = TypeVar("M", bound=StoredMessage)


@dataclass(frozen=True, slots=True)
class Lineage:
    """Which messages may still be applied beside a letter, as its predictor says."""

    predictor: Predictor

    async def in_flight(
        self, connection: asyncpg.Connection, letter_ids: Sequence[int]
    ) -> list[InFlightReplay]:
        """Return the replays that are over and of which a copy may still be in flight and be applied."""
        return await self._that_may_apply(connection, await replays_table.in_flight(connection, letter_ids))

    async def superseded(
        self, connection: asyncpg.Connection, letters: Sequence[LetterMessage]
    ) -> dict[int, Prediction]:
        """Return, by letter id, the letters whose command was applied under another number, or may be."""
        numbers = {
            letter.letter_id: letter.serial_no
            for letter in letters
            if letter.source == WALLET_COMMANDS and letter.serial_no is not None
        }
        edits = await _edits_around(connection, numbers.values())
        alive = {edit.replay_id for edit in await self._that_may_apply(connection, edits)}
        applied = await self._applied(connection, {edit.letter_id for edit in edits})
        superseded: dict[int, Prediction] = {}
        for letter_id, number in numbers.items() if edits else ():
            sent = [
                f"edited as {edit.serial_no} in letter {edit.letter_id}"
                for edit in _competing_edits(edits, number)
                if edit.replay_id in alive
            ]
            done = [
                f"applied as {edit.replaces}, letter {edit.letter_id}"
                for edit in _leading_to(edits, number)
                if edit.letter_id in applied
            ]
            if sent or done:
                superseded[letter_id] = Prediction(PredictedOutcome.NOT_REPLAYABLE, "", (sent or done)[-1])
        return superseded

    async def already_applied(
        self, connection: asyncpg.Connection, ordered: Sequence[OrderedReplay]
    ) -> dict[UUID, str]:
        """Return, by replay id, why a replay would send another version of a command that was applied.

        A replay that would move nothing is left out.
        """
        numbered = [
            (replay, replay.serial_no)
            for replay in ordered
            if replay.source == WALLET_COMMANDS and replay.serial_no is not None
        ]
        numbers = {number for _, number in numbered}
        edits = await _edits_around(connection, numbers)
        applied = await self._applied(connection, {edit.letter_id for edit in edits})
        why = {
            number: f"applied as {edit.replaces}, letter {edit.letter_id}: both versions would be"
            for number in (numbers if applied else ())
            for edit in _leading_to(edits, number)
            if edit.letter_id in applied
        }
        late = [(replay, why[number]) for replay, number in numbered if number in why]
        predictions = await self.predictor.predict(connection, [replay for replay, _ in late])
        return {
            replay.replay_id: sentence
            for (replay, sentence), prediction in zip(late, predictions, strict=True)
            if prediction.verdict not in MOVES_NOTHING
        }

    async def ensure_only_version(self, connection: asyncpg.Connection, letter: WholeLetterRow) -> None:
        """Raise NotPossibleError if another version of a letter's command was applied, may be, or was sent.

        A discarded duplicate does not block the edit: once restored, it cannot be replayed while the edit exists.
        The predictor must not remember. What a worker applies meanwhile is read last, because a duplicate that has an
        outcome by then no longer blocks as a duplicate.
        """
        letter_id, number = letter.letter_id, letter.serial_no
        if number is None:
            return
        edits = await _edits_around(connection, [number])
        for edit in await self._that_may_apply(connection, _competing_edits(edits, number)):
            msg = (
                f"the command of letter {letter_id} was sent as {edit.serial_no} in the place of letter "
                f"{edit.letter_id}: an edit would send both versions"
            )
            raise NotPossibleError(msg)
        duplicates = await letters_table.duplicates(
            connection, _related_numbers(edits, number), WALLET_COMMANDS, letter_id
        )
        await self._refuse_duplicates(connection, letter_id, duplicates)
        leading = {edit.letter_id: edit.replaces for edit in _leading_to(edits, number)}
        for earlier in await self._applied(connection, leading):
            msg = (
                f"the command of letter {letter_id} was applied as {leading[earlier]}, letter {earlier}: an edit "
                "would send both versions"
            )
            raise NotPossibleError(msg)

    async def _refuse_duplicates(
        self, connection: asyncpg.Connection, letter_id: int, duplicates: Sequence[DuplicateLetter]
    ) -> None:
        """Raise NotPossibleError if duplicates of a letter may still be applied, naming some of them."""
        waiting: list[int] = []
        sent: list[int] = []
        for start in range(0, len(duplicates), _CHUNK):
            chunk = duplicates[start : start + _CHUNK]
            states = {duplicate.letter_id: LetterState(duplicate.state) for duplicate in chunk}
            in_flight = await self.in_flight(connection, list(states))
            flying = {replay.letter_id for replay in in_flight}
            flying_edits = {replay.letter_id for replay in in_flight if replay.is_edit}
            undone = [number for number, state in states.items() if state in _UNDONE or number in flying]
            letters = await letters_table.replayable(connection, undone)
            predictions = await self.predictor.predict(connection, letters)
            for letter, prediction in zip(letters, predictions, strict=True):
                duplicate_id = letter.letter_id
                if prediction.verdict in MOVES_NOTHING and duplicate_id not in flying_edits:
                    continue
                is_kept = states[duplicate_id] is LetterState.WAITING and duplicate_id not in flying
                (waiting if is_kept else sent).append(duplicate_id)
        if not waiting and not sent:
            return
        then = [f"Discard {_listed(waiting)} first."] if waiting else []
        then += [f"It can be edited when the outcome of {_listed(sent)} is known."] if sent else []
        others = sorted(waiting + sent)
        msg = (
            f"{_listed(others)} {'is' if len(others) == 1 else 'are'} the same command as letter {letter_id}, and may "
            f"still be applied: an edit would send both versions. {' '.join(then)}"
        )
        raise NotPossibleError(msg.removesuffix("."))

    async def _applied(self, connection: asyncpg.Connection, letter_ids: Collection[int]) -> set[int]:
        """Return those of these letters whose command was applied under the number of the letter.

        A letter that cannot be read does not use up its number: under that number, the mended message was applied.
        """
        ids, applied = sorted(letter_ids), set[int]()
        for start in range(0, len(ids), _CHUNK):
            letters = await letters_table.replayable(connection, ids[start : start + _CHUNK])
            predictions = await self.predictor.predict(connection, letters)
            unreadable: dict[int, str] = {}
            for letter, prediction in zip(letters, predictions, strict=True):
                if prediction.verdict is PredictedOutcome.REPEATS and prediction.code == Code.OK:
                    applied.add(letter.letter_id)
                if prediction.verdict is PredictedOutcome.STILL_MALFORMED and letter.serial_no is not None:
                    unreadable[letter.letter_id] = letter.serial_no
            _, stored = await commands.find(connection, set(unreadable.values()))
            done = {number for number, command in stored.items() if command.code is Code.OK}
            applied |= {letter_id for letter_id, number in unreadable.items() if number in done}
        return applied

    async def _that_may_apply(self, connection: asyncpg.Connection, messages: Sequence[M]) -> list[M]:
        """Return those of these messages that were applied, or may be, however long they are in flight."""
        predictions = await self.predictor.predict(connection, messages) if messages else []
        return [
            message
            for message, prediction in zip(messages, predictions, strict=True)
            if prediction.verdict not in NEVER_APPLIES
        ]


async def _edits_around(connection: asyncpg.Connection, numbers: Iterable[str]) -> list[SentEdit]:
    """Return the edits that were sent, or are about to be, and that lead from or to these numbers, over any steps."""
    visited = set(numbers)
    while visited:
        edits = await replays_table.edits_sent(connection, visited)
        related = {number for edit in edits for number in _ends(edit)}
        if related <= visited:
            return edits
        visited |= related
    return []


def _competing_edits(edits: Sequence[SentEdit], number: str) -> list[SentEdit]:
    """Return the edits that send the command of a number under another number, in its place or beside it.

    The edits that led to this number are left out: they are closed in its favour.
    """
    others = _related_numbers(edits, number) - _way_to(edits, number)
    return [edit for edit in edits if edit.serial_no in others]


def _leading_to(edits: Sequence[SentEdit], number: str) -> list[SentEdit]:
    """Return the edits through which a command has come to this number."""
    way = _way_to(edits, number)
    return [edit for edit in edits if edit.serial_no in way]


def _way_to(edits: Sequence[SentEdit], number: str) -> set[str]:
    """Return a number, and the numbers from which edits have led to it."""
    way = {number}
    while (
        more := {edit.replaces for edit in edits if edit.serial_no in way and edit.replaces is not None} - way
    ):
        way |= more
    return way


def _related_numbers(edits: Sequence[SentEdit], number: str) -> set[str]:
    """Return every number of the command that has this number."""
    related = {number}
    pairs = [_ends(edit) for edit in edits]
    while more := {end for pair in pairs if pair & related for end in pair} - related:
        related |= more
    return related


def _ends(edit: SentEdit) -> set[str]:
    """Return the new number of an edit, and the number of its letter if it has one."""
    return {edit.serial_no} if edit.replaces is None else {edit.replaces, edit.serial_no}


def _listed(letter_ids: Sequence[int]) -> str:
    """Return some of these letters, and how many more there are, as words of a sentence."""
    listed = ", ".join(str(letter_id) for letter_id in letter_ids[:_LISTED_MAX])
    more = len(letter_ids) - _LISTED_MAX
    return f"letter{'s' if len(letter_ids) > 1 else ''} {listed}{f' and {more:,} more' if more > 0 else ''}"
