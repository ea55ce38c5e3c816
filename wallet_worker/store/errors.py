"""What can go wrong with the database, in the kinds that the wallet acts on.

Errors of the server and of its driver become these here and nowhere else, by the table in `store.sqlstate`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg

from wallet_worker.store.sqlstate import Cause, Rule, Verdict, rule_of

_FROM_THE_DRIVER: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
    EOFError,
)


class StoreError(Exception):
    """Anything below."""


class UnavailableError(StoreError):
    """The database is away, too slow, or read-only: pause and try again."""


class AccessDeniedError(UnavailableError):
    """The database is there and does not know the user, the password or this machine; somebody may be changing them."""


class CommitUnknownError(UnavailableError):
    """The database was lost while it committed: it was done, or nothing of it was. Look before doing it again."""


class UnfitError(UnavailableError):
    """The database is there, and its tables, privileges or settings are not those that this program needs."""


class ConflictError(StoreError):
    """Another worker was first, or both waited for each other: nothing was written, read again."""


class StatementRejectedError(StoreError):
    """The database will not have this: nothing was written, and trying again changes nothing."""


class InvariantBrokenError(StoreError):
    """A row was not as it must be: our bug. Stop, and acknowledge nothing."""


_WAITING: Final = {
    Cause.SERVER: UnavailableError,
    Cause.ACCESS: AccessDeniedError,
    Cause.SCHEMA: UnfitError,
}


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise the errors above instead of the driver's."""
    try:
        yield
    except _FROM_THE_DRIVER as exc:
        raise translated(exc) from exc


@contextmanager
def waited_for() -> Iterator[None]:
    """Raise the errors above for a step in which no message takes part: connecting, beginning, locking what is due.

    What would be a message's fault elsewhere is the infrastructure's here.
    """
    try:
        with translate_errors():
            yield
    except StatementRejectedError as exc:
        raise UnfitError(str(exc)) from exc


def translated(exc: BaseException) -> StoreError:
    """Return what an error of the server or of its driver means for the wallet."""
    rule = rule_of(exc)
    if rule is None:
        msg = f"{type(exc).__name__} is no error of the database"
        raise AssertionError(msg)
    text = _sentence(rule, exc)
    match rule.verdict:
        case Verdict.MESSAGE:
            return StatementRejectedError(text)
        case Verdict.BEGIN_AGAIN:
            return ConflictError(text)
        case Verdict.WAIT:
            return _WAITING[rule.cause](text)
        case Verdict.STOP:
            return InvariantBrokenError(text)


def _sentence(rule: Rule, exc: BaseException) -> str:
    """Return what happened, without the server's DETAIL, which has the row in it, balances and all.

    Of a race for a constraint it is the constraint's name, so that races can be counted.
    """
    if rule.verdict is Verdict.BEGIN_AGAIN and isinstance(exc, asyncpg.PostgresError) and exc.constraint_name:
        return str(exc.constraint_name)
    if isinstance(exc, OSError) and ": " in rule.meaning:
        return rule.meaning  # it says what the system would say
    text = (exc.strerror if isinstance(exc, OSError) else None) or str(exc.args[0] if exc.args else "")
    code = exc.sqlstate if isinstance(exc, asyncpg.PostgresError) else None
    return rule.meaning + (f": {text}" if text else "") + (f" (SQLSTATE {code})" if code else "")
