"""The gateway's memory: one SQLite file with every payment and every answer, due or sent.

What is committed here survives the process, and the machine too (synchronous=FULL).
Times are integers of microseconds since 1970, so that they compare and are exact.
"""

import fcntl
import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self, TextIO

from payment_simulator.behaviours import Behaviour
from payment_simulator.decide import Answer, AnswerCause, Payment
from wallet_schemas.values import PaymentKind, PaymentStatus

SCHEMA_VERSION: Final = 1
BUSY_TIMEOUT_SECONDS: Final = 10  # a person may be reading the file with the sqlite3 shell

_SCHEMA: Final = """
BEGIN;
CREATE TABLE schema_version (
    version INTEGER NOT NULL
) STRICT;
CREATE TABLE payments (
    payment_order_no TEXT NOT NULL,
    kind TEXT NOT NULL,
    amount TEXT NOT NULL,
    currency TEXT NOT NULL,
    channel TEXT NOT NULL,
    mood TEXT NOT NULL,
    gateway_ref TEXT NOT NULL,
    received_at_us INTEGER NOT NULL,
    CONSTRAINT payments_pkey PRIMARY KEY (payment_order_no)
) STRICT, WITHOUT ROWID;
-- No foreign key to payments: a status request about a payment that was never heard of is answered too.
CREATE TABLE answers (
    answer_id INTEGER PRIMARY KEY,
    payment_order_no TEXT NOT NULL,
    cause TEXT NOT NULL,
    position INTEGER NOT NULL,
    status TEXT NOT NULL,
    occurred_at_us INTEGER NOT NULL,
    body BLOB NOT NULL,
    forged INTEGER NOT NULL,
    traceparent TEXT,
    due_at_us INTEGER, -- null: nobody is told, but a status request repeats it
    sent_at_us INTEGER,
    CONSTRAINT answers_sent_only_if_due CHECK (sent_at_us IS NULL OR due_at_us IS NOT NULL)
) STRICT;
CREATE INDEX answers_of_payment ON answers (payment_order_no) WHERE cause = 'plan';
CREATE INDEX answers_to_send ON answers (due_at_us) WHERE sent_at_us IS NULL AND due_at_us IS NOT NULL;
INSERT INTO schema_version (version) VALUES (1);
COMMIT;
"""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class StateUnusable(Exception):  # noqa: N818 - named after what is wrong
    """The file cannot be this gateway's memory; the text is for people."""


@dataclass(frozen=True, slots=True)
class DueAnswer:
    """An answer whose time has come, as it is to be published."""

    answer_id: int
    body: bytes
    forged: bool
    traceparent: str | None

    @property
    def type(self) -> str:
        """The type of the message: the first of its members, as this gateway writes it."""
        return self.body[: self.body.index(b",")].decode().split('"')[3]


class State:
    """The open file. It belongs to one process at a time, and to one thread at a time."""

    def __init__(self, connection: sqlite3.Connection, lock: TextIO) -> None:
        self._connection = connection
        self._lock = lock

    @classmethod
    def open(cls, path: Path) -> Self:
        """Return the memory in that file, which is made if it is missing; raises StateUnusable."""
        try:
            lock = path.with_name(path.name + ".lock").open("w", encoding="utf-8")
        except OSError as exc:
            raise StateUnusable(f"the state file {path} cannot be written: {exc.strerror}") from exc
        try:
            # Two gateways on one memory would each send all answers. The lock ends with the process.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            connection = _connect(path)
        except BlockingIOError as exc:
            lock.close()
            raise StateUnusable(f"the state file {path} is in use by another payment-simulator") from exc
        except (sqlite3.Error, StateUnusable) as exc:
            lock.close()
            raise StateUnusable(f"the state file {path} cannot be used: {exc}") from exc
        return cls(connection, lock)

    def close(self) -> None:
        """The file is closed, and free for another process."""
        self._connection.close()
        self._lock.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What is done inside is committed together at its end, or not at all."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def payments(self, numbers: Iterable[str]) -> dict[str, Payment]:
        """Return those of the payments that are known, by payment_order_no, with their plans."""
        wanted = json.dumps(list(numbers))
        rows = self._connection.execute(_PAYMENTS, (wanted,)).fetchall()
        if not rows:
            return {}
        plans: dict[str, list[Answer]] = defaultdict(list)
        for (
            number,
            position,
            status,
            occurred_at_us,
            body,
            forged,
            due_at_us,
            sent_at_us,
        ) in self._connection.execute(_PLANS, (wanted,)):
            plans[number].append(
                Answer(
                    payment_order_no=number,
                    cause=AnswerCause.PLAN,
                    position=position,
                    status=PaymentStatus(status),
                    occurred_at=_time(occurred_at_us),
                    body=body,
                    due_at=None if due_at_us is None else _time(due_at_us),
                    forged=bool(forged),
                    sent=sent_at_us is not None,
                )
            )
        return {
            number: Payment(
                payment_order_no=number,
                kind=PaymentKind(kind),
                amount=amount,
                currency=currency,
                channel=channel,
                behaviour=Behaviour(behaviour),
                gateway_ref=gateway_ref,
                received_at=_time(received_at_us),
                plan=tuple(plans[number]),
            )
            for number, kind, amount, currency, channel, behaviour, gateway_ref, received_at_us in rows
        }

    def add(self, payments: Iterable[Payment], answers: Iterable[tuple[Answer, str | None]]) -> None:
        """The payments are known, and the answers, each with its traceparent, wait to be sent.

        Expects a transaction. The plans of the payments must be among the answers.
        """
        self._connection.executemany(
            _ADD_PAYMENT,
            [
                (
                    p.payment_order_no,
                    p.kind,
                    p.amount,
                    p.currency,
                    p.channel,
                    p.behaviour,
                    p.gateway_ref,
                    _us(p.received_at),
                )
                for p in payments
            ],
        )
        self._connection.executemany(
            _ADD_ANSWER,
            [
                (
                    a.payment_order_no,
                    a.cause,
                    a.position,
                    a.status,
                    _us(a.occurred_at),
                    a.body,
                    a.forged,
                    traceparent,
                    None if a.due_at is None else _us(a.due_at),
                )
                for a, traceparent in answers
            ],
        )

    def due(self, now: datetime, limit: int) -> list[DueAnswer]:
        """Return the answers that are to be sent by now and are not, the longest due first."""
        return [
            DueAnswer(answer_id, body, bool(forged), traceparent)
            for answer_id, body, forged, traceparent in self._connection.execute(_DUE, (_us(now), limit))
        ]

    def next_due_at(self) -> datetime | None:
        """Return when the next answer is to be sent, perhaps a time in the past; None when there is none."""
        (due_at_us,) = self._connection.execute(_NEXT_DUE).fetchone()
        return None if due_at_us is None else _time(due_at_us)

    def mark_sent(self, answer_ids: Iterable[int], now: datetime) -> None:
        """The answers are not sent again. They are committed as sent."""
        sent_at_us = _us(now)
        with self.transaction():
            self._connection.executemany(_MARK_SENT, [(sent_at_us, answer_id) for answer_id in answer_ids])


@contextmanager
def settled_payments(path: Path, now: datetime) -> Iterator[Iterator[tuple[PaymentKind, bytes]]]:
    """Give the kind of each payment and the result that says the state it is in now, by payment_order_no.

    All of one moment, also while a gateway works on the memory. Payments in no state yet are left out.
    Raises StateUnusable, here or while they are read.
    """
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_SECONDS
        )
        try:
            _require_version(connection)
            rows = connection.execute(_BOOKS, (_us(now),))
            yield ((PaymentKind(kind), body) for kind, body, _ in rows)
        finally:
            connection.close()
    except (sqlite3.Error, StateUnusable) as exc:
        raise StateUnusable(f"the state file {path} cannot be read: {exc}") from exc


# The other columns are those of the row that has the greatest position, as SQLite promises for max().
_BOOKS: Final = """
SELECT payments.kind, answers.body, max(answers.position)
FROM payments
JOIN answers ON answers.payment_order_no = payments.payment_order_no AND answers.cause = 'plan'
WHERE answers.occurred_at_us <= ? AND answers.position >= 0 -- what is told beside the states is none
GROUP BY payments.payment_order_no
"""
_PAYMENTS: Final = """
SELECT payment_order_no, kind, amount, currency, channel, mood, gateway_ref, received_at_us
FROM payments
WHERE payment_order_no IN (SELECT value FROM json_each(?))
"""
_PLANS: Final = """
SELECT payment_order_no, position, status, occurred_at_us, body, forged, due_at_us, sent_at_us
FROM answers
WHERE cause = 'plan'
  AND payment_order_no IN (SELECT value FROM json_each(?))
ORDER BY answer_id
"""
_ADD_PAYMENT: Final = """
INSERT INTO payments (payment_order_no, kind, amount, currency, channel, mood, gateway_ref, received_at_us)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_ADD_ANSWER: Final = """
INSERT INTO answers
    (payment_order_no, cause, position, status, occurred_at_us, body, forged, traceparent, due_at_us)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_DUE: Final = """
SELECT answer_id, body, forged, traceparent
FROM answers
WHERE sent_at_us IS NULL
  AND due_at_us <= ?
ORDER BY due_at_us, answer_id
LIMIT ?
"""
_NEXT_DUE: Final = "SELECT min(due_at_us) FROM answers WHERE sent_at_us IS NULL AND due_at_us IS NOT NULL"
_MARK_SENT: Final = "UPDATE answers SET sent_at_us = ? WHERE answer_id = ?"


def _connect(path: Path) -> sqlite3.Connection:
    """Return a connection to the file, which has this program's schema then."""
    # Used by a thread other than the one that opens it, but never by two at once: see `app`.
    connection = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(
            "PRAGMA synchronous = FULL"
        )  # a batch costs one fsync; a request is acknowledged after it
        if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,):
            connection.executescript(_SCHEMA)
        _require_version(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _require_version(connection: sqlite3.Connection) -> None:
    """The file has the schema of this program, or StateUnusable is raised."""
    try:
        (version,) = connection.execute("SELECT version FROM schema_version").fetchone()
    except (sqlite3.OperationalError, TypeError):
        raise StateUnusable("it is another program's database") from None
    if version != SCHEMA_VERSION:
        raise StateUnusable(f"it has schema version {version}, and this program knows {SCHEMA_VERSION}")


def _us(time: datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND


def _time(us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=us)
