"""How a command ends: the exit statuses, and one line on standard error for everything that goes wrong."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, NoReturn, TypeVar

import typer

from wallet_worker.broker.connection import BrokerUnavailableError, WrongUrlError
from wallet_worker.broker.topology import TopologyError
from wallet_worker.cli.terminal import say
from wallet_worker.store.errors import InvariantBrokenError, StoreError, UnavailableError

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
    say(reason)
    raise typer.Exit(status)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Return what the coroutine returns, or end the command with the one line that says why not."""
    with told():
        return asyncio.run(work)


@contextmanager
def told() -> Iterator[None]:
    """End the command, with one line and its exit status, for the failures that are nobody's bug."""
    try:
        yield
    except WrongUrlError as exc:
        end(Exit.MISUSED, f"WALLET_AMQP_URL: {exc}")
    except BrokerUnavailableError as exc:
        end(Exit.UNAVAILABLE, str(exc))
    except TopologyError as exc:
        for fault in exc.faults:
            say(fault)
        raise typer.Exit(Exit.FOUND) from exc
    except UnavailableError as exc:
        end(Exit.UNAVAILABLE, f"the database cannot be used: {exc}")
    except InvariantBrokenError as exc:
        end(Exit.FOUND, f"the database is not as this program needs it (`wallet migrate`?): {exc}")
    except StoreError as exc:
        end(Exit.FOUND, f"the database refused: {exc}")
