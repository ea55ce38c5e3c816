"""How a command ends: the exit statuses, and one line on standard error for everything that goes wrong."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import typer
from pydantic import ValidationError

from wallet_schemas.message import AMOUNT_DIGITS
from wallet_worker.cli.terminal import print_status

if TYPE_CHECKING:
    from wallet_worker.client import WalletError
    from wallet_worker.store.errors import StoreError

T = TypeVar("T")


class Exit(IntEnum):
    """The exit statuses of every command."""

    DONE = 0
    """It was done, or everything is in order."""
    FOUND = 1
    """The wallet refused it, or the check found something."""
    MISUSED = 2
    """An option, an argument or a setting is wrong; nothing was done."""
    UNAVAILABLE = 3
    """A server cannot be reached, or does not answer; nothing was done."""
    UNKNOWN = 4
    """A command was sent and no outcome came in time: send it again with the same serial number."""


EXIT_STATUSES = (
    "Exit status: 0 done, 1 refused or something was found, 2 wrong usage or settings, "
    "3 a server is away, 4 the outcome is unknown."
)


def end(status: Exit, reason: str) -> NoReturn:
    """End the command with one line on standard error."""
    print_status(reason)
    raise typer.Exit(status)


def end_misused(exc: ValidationError) -> NoReturn:
    """End the command with what is wrong with the fields of a message, in one line."""
    faults = (
        (
            ".".join(map(str, fault["loc"])) or ("amount" if fault["type"] == AMOUNT_DIGITS else ""),
            fault["msg"],
        )
        for fault in exc.errors(include_url=False, include_context=False)
    )
    end(Exit.MISUSED, "; ".join(f"{field}: {message}".removeprefix(": ") for field, message in faults))


def run(work: Coroutine[Any, Any, T]) -> T:
    """Return what the coroutine returns, or end the command with the one line that says why not."""
    with translate_errors():
        return asyncio.run(work)


@contextmanager
def translate_errors() -> Iterator[None]:
    """End the command, with one line and its exit status, for the failures that are nobody's bug."""
    from wallet_worker.broker.connection import BrokerUnavailableError, WrongUrlError
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
        end(*_of_store(exc))


def _of_wallet(exc: "WalletError") -> tuple[Exit, str]:
    from wallet_worker.client import (
        NotKnownYetError,
        NotSettledError,
        OutcomeUnknownError,
        QueryRefusedError,
        UnansweredError,
    )

    match exc:
        case QueryRefusedError():
            return Exit.FOUND, str(exc)
        case OutcomeUnknownError() | NotSettledError() | NotKnownYetError():
            return Exit.UNKNOWN, str(exc)
        case UnansweredError():
            return Exit.UNAVAILABLE, f"{exc}: is a worker running?"
        case _:
            return Exit.UNAVAILABLE, str(exc)


def _of_store(exc: "StoreError") -> tuple[Exit, str]:
    from wallet_worker.store.errors import InvariantBrokenError, UnavailableError, UnfitError

    match exc:
        case UnfitError():
            return (
                Exit.UNAVAILABLE,
                f"the database is not as this program needs it (`wallet migrate`?): {exc}",
            )
        case UnavailableError():
            return Exit.UNAVAILABLE, f"the database cannot be used: {exc}"
        case InvariantBrokenError():
            return Exit.FOUND, f"the database is not as this program needs it (`wallet migrate`?): {exc}"
        case _:
            return Exit.FOUND, f"the database refused: {exc}"
