"""How a command ends: the exit statuses, and one line on standard error for everything that goes wrong."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import typer
from pydantic import ValidationError

from wallet_schemas.codes import Code
from wallet_schemas.faults import faults_of, joined
from wallet_worker.cli.terminal import print_status

if TYPE_CHECKING:
    from wallet_worker.client import WalletError
    from wallet_worker.store.errors import StoreError

T = TypeVar("T")


class Exit(IntEnum):
    """The exit statuses of every command; `exit_table` says which command ends with which, and when."""

    DONE = 0
    """It was done, or everything is in order."""
    FOUND = 1
    """The wallet refused it, it does not exist, or the check found something."""
    MISUSED = 2
    """An option, an argument, a file or a setting is wrong; nothing was done."""
    UNAVAILABLE = 3
    """A server is away, busy, or does not let the command do this: nothing was looked at, and nothing was done."""
    UNKNOWN = 4
    """It was sent or begun, and the outcome is not known yet: the sentence says how to ask again."""
    UNWRITTEN = 5
    """The output could not be written: a full disk, a folder that is not there, or a pipe that nobody reads."""
    BROKEN = 6
    """A fault of the program."""
    INTERRUPTED = 130
    """Ctrl-C."""


EXIT_STATUSES = (
    "Exit status: 0 done, 1 refused, not found or something was found, 2 wrong usage or settings, "
    "3 could not look: a server is away or busy, 4 the outcome is unknown, 5 the output could not be written, "
    "6 a fault of the program, 130 interrupted."
)


A_FAULT: Final = "this is a fault of the program; whether anything was done is not known"
LOOK_FIRST: Final = "look before you do it again"


def end(status: Exit, reason: str) -> NoReturn:
    """End the command with one line on standard error."""
    print_status(reason)
    raise typer.Exit(status)


def end_misused(exc: ValidationError) -> NoReturn:
    """End the command with what is wrong with the fields of a message, in one line."""
    end(Exit.MISUSED, joined(faults_of(exc)))


def run(work: Coroutine[Any, Any, T], *, ask_again: str = LOOK_FIRST) -> T:
    """Return what the coroutine returns, or end the command with the one line that says why not.

    `ask_again` is a clause that says how to find out what was done, where the database was lost during a commit.
    """
    with translate_errors(ask_again=ask_again):
        return asyncio.run(work)


@contextmanager
def translate_errors(*, ask_again: str = LOOK_FIRST) -> Iterator[None]:
    """End the command, with one line and its exit status, for the failures that are nobody's bug."""
    from wallet_worker.broker.addresses import WrongUrlError
    from wallet_worker.broker.connection import BrokerUnavailableError
    from wallet_worker.client import WalletError
    from wallet_worker.store.errors import StoreError

    try:
        yield
    except WrongUrlError as exc:
        end(Exit.MISUSED, f"WALLET_AMQP_URL: {exc}")
    except BrokerUnavailableError as exc:
        end(Exit.UNAVAILABLE, str(exc))
    except WalletError as exc:
        end(*_of_wallet(exc))
    except StoreError as exc:
        end(*_of_store(exc, ask_again))


def _of_wallet(exc: "WalletError") -> tuple[Exit, str]:
    from wallet_schemas.queries import FAULT
    from wallet_worker.client import (
        InvalidRequestError,
        NotKnownYetError,
        NotSettledError,
        OutcomeUnknownError,
        QueryRefusedError,
        UnansweredError,
    )

    match exc:
        case InvalidRequestError():
            return Exit.MISUSED, str(exc)
        case QueryRefusedError(code=Code.INTERNAL, message=message):
            return Exit.BROKEN if message == FAULT else Exit.UNAVAILABLE, message
        case QueryRefusedError(code=Code.MALFORMED | Code.UNSUPPORTED_TYPE):
            return Exit.MISUSED, str(exc)
        case QueryRefusedError():
            return Exit.FOUND, str(exc)
        case OutcomeUnknownError() | NotSettledError() | NotKnownYetError():
            return Exit.UNKNOWN, str(exc)
        case UnansweredError():
            return Exit.UNAVAILABLE, f"{exc}: is a worker running?"
        case _:
            return Exit.UNAVAILABLE, str(exc)


def _of_store(exc: "StoreError", ask_again: str) -> tuple[Exit, str]:
    """Return how a command ends that the database did not answer. It never counts as something that was found."""
    from wallet_worker.store.errors import (
        CommitUnknownError,
        ConflictError,
        InvariantBrokenError,
        UnavailableError,
        UnfitError,
    )
    from wallet_worker.store.sentences import OF_THE_ADDRESS, explain

    reason = explain(exc)
    match exc:
        case CommitUnknownError():
            return (
                Exit.UNKNOWN,
                f"whether it was done is not known: {ask_again}. The database cannot be used: {reason}",
            )
        case InvariantBrokenError():
            return Exit.BROKEN, f"{A_FAULT}: {reason}"
        case UnfitError() if reason.startswith(OF_THE_ADDRESS):
            return Exit.MISUSED, f"WALLET_DATABASE_URL: {reason}"
        case UnfitError():
            advice = "`wallet doctor` says what is missing; after an update, run `wallet migrate`"
            return Exit.UNAVAILABLE, f"the database is not as this program needs it: {reason}. {advice}"
        case ConflictError():
            return (
                Exit.UNAVAILABLE,
                f"the database is busy: {reason}; nothing was looked at or done, try again",
            )
        case UnavailableError():
            return Exit.UNAVAILABLE, f"the database cannot be used: {reason}"
        case _:
            return Exit.UNAVAILABLE, f"the database refused: {reason}"
