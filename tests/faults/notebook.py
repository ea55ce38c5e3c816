"""What was sent, noted before it was sent, and what the broker said to it: a file that outlives whoever wrote it.

A line is written and flushed to the disk *before* the message leaves; so the file names everything that may have
reached the broker, and the checker believes the file alone.
"""

import asyncio
import json
import os
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum, auto
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self


class Kind(StrEnum):
    """What a message is meant to be; the checker knows what must become of each."""

    OPEN = auto()
    RECHARGE = auto()
    SPEND = auto()
    """Any other order: what it is stands in its `type`."""
    TURN = auto()
    """A freeze, an unfreeze or a closing of an account that nobody uses for anything else."""
    CONFLICT = auto()
    """A serial number that was applied, with other content: a dead letter, and nothing moves."""
    POISON = auto()
    """Nothing that a wallet could read: a dead letter, byte for byte."""
    RESULT = auto()
    """What the gateway says of an order, signed."""
    FORGED = auto()
    """A result that must become a dead letter: a bad signature, or another amount."""
    PERHAPS = auto()
    """A result that is a dead letter if others overtook it, and says nothing new if not."""


class Answer(StrEnum):
    """What the broker said to a publish."""

    CONFIRMED = auto()
    REFUSED = auto()
    """Returned, or nacked: it is nowhere."""
    UNKNOWN = auto()
    """No answer came: it may be there or not."""


@dataclass(frozen=True, slots=True)
class Note:
    """One message, sent perhaps several times. `fields` are of the command; empty for what is none.

    `expects` is the code of the outcome that a command must get, if it gets one; several, with `|` between, where
    that depends on what came before it. Of a message that must become a dead letter, or may, it is the reason; `OK`
    is none, and leaves the reason to a test that looks at it itself. Each sending of a command with `wants_reply`
    has its number as its correlation_id.
    """

    kind: Kind
    serial_no: str
    body: bytes
    fields: dict[str, str] = field(default_factory=dict)
    expects: str = "OK"
    wants_reply: bool = False

    @property
    def mark(self) -> str:
        """What tells bodies apart."""
        return mark(self.body)


def mark(body: bytes) -> str:
    """Return what tells bodies apart."""
    return sha256(body).hexdigest()


class Notebook:
    """Writes the file. The same body may be noted again: it is sent again then."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("a", encoding="utf-8")
        self._written = 0
        self._on_disk = 0
        self._flushing = asyncio.Lock()

    async def before_sending(self, notes: Sequence[Note]) -> list[int]:
        """Return the numbers under which these notes are on the disk now."""
        numbers = []
        for note in notes:
            self._written += 1
            numbers.append(self._written)
            line = {
                "number": self._written,
                "kind": note.kind,
                "serial_no": note.serial_no,
                "fields": note.fields,
                "expects": note.expects,
                "wants_reply": note.wants_reply,
                "body": b64encode(note.body).decode(),
            }
            self._file.write(json.dumps(line) + "\n")
        await self._flush(self._written)
        return numbers

    def after_sending(self, numbers: Sequence[int], answers: Sequence[Answer]) -> None:
        """Note what the broker said. Flushed with the next note: a lost answer is an unknown one."""
        for number, answer in zip(numbers, answers, strict=True):
            self._file.write(json.dumps({"number": number, "answer": answer}) + "\n")

    def write_out(self) -> None:
        """Leave everything that was noted in the file, in whole lines, for who reads it now."""
        self._file.flush()

    async def _flush(self, number: int) -> None:
        """The lines up to this one are on the disk; whoever comes first flushes for all who wrote until then."""
        async with self._flushing:
            if self._on_disk >= number:
                return
            written = self._written
            self._file.flush()
            await asyncio.to_thread(os.fsync, self._file.fileno())
            self._on_disk = written

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def read(path: Path) -> Iterator[tuple[Note, Answer]]:
    """Return every sending in the file, with what the broker said; without an answer it is unknown.

    The first has the number 1.
    """
    notes: dict[int, Note] = {}
    answers: dict[int, Answer] = {}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            body = json.loads(line)
            if "answer" in body:
                answers[body["number"]] = Answer(body["answer"])
            else:
                notes[body["number"]] = Note(
                    Kind(body["kind"]),
                    body["serial_no"],
                    b64decode(body["body"]),
                    body["fields"],
                    body["expects"],
                    body["wants_reply"],
                )
    for number, note in notes.items():
        yield note, answers.get(number, Answer.UNKNOWN)
