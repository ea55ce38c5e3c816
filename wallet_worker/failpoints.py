"""Named places where a test can have the worker die, to prove that it may die there.

    WALLET_FAILPOINT=after_commit          the process kills itself, with SIGKILL, when it first passes there
    WALLET_FAILPOINT=after_commit:7        … when it passes there for the seventh time

The last line of its log says so. Unset, which is how every worker runs, a failpoint is a call of an empty function for
each batch.
"""

import os
import signal
import sys
from collections.abc import Callable, Mapping
from enum import StrEnum, auto

import structlog

VARIABLE = "WALLET_FAILPOINT"

log = structlog.get_logger(__name__)


class Failpoint(StrEnum):
    """A place between two steps of a batch's life, or of a dead letter's."""

    BEFORE_COMMIT = auto()
    """Everything of a batch is written, and nothing is committed."""
    AFTER_COMMIT = auto()
    """A batch is committed, and not acknowledged."""
    AFTER_ACKNOWLEDGE = auto()
    """A batch is acknowledged; what it promised may not be published yet."""
    AFTER_PUBLISH = auto()
    """The broker has confirmed messages whose outbox rows are still there."""
    AFTER_TAKING_IN = auto()
    """Dead letters are in the database, and not acknowledged."""
    AFTER_REPLAY = auto()
    """The broker has confirmed replays that are not marked as published."""


class UnknownFailpointError(Exception):
    """The environment names a place that there is not."""


def read(environment: Mapping[str, str]) -> Callable[[Failpoint], None]:
    """Return what is to be called with each failpoint that is passed.

    Raises UnknownFailpointError.
    """
    wanted = environment.get(VARIABLE)
    if not wanted:
        return _go_on
    name, _, count = wanted.partition(":")
    try:
        place, left = Failpoint(name), int(count or 1)
    except ValueError as exc:
        msg = f"{VARIABLE}={wanted}: there are {', '.join(Failpoint)}, each with or without :NUMBER"
        raise UnknownFailpointError(msg) from exc

    def die_there(passed: Failpoint) -> None:
        nonlocal left
        left -= passed is place
        if left <= 0 and passed is place:
            log.critical(
                "failpoint.reached", failpoint=place.value, detail=f"{VARIABLE}={wanted} ends this worker"
            )
            os.kill(os.getpid(), signal.SIGKILL)

    return die_there


def _go_on(_: Failpoint) -> None:
    pass


def _read_here() -> Callable[[Failpoint], None]:
    """Return what this process's environment has it do; a place that there is not ends it, with a sentence."""
    try:
        return read(os.environ)
    except UnknownFailpointError as exc:
        sys.stderr.write(f"wallet: {exc}\n")
        raise SystemExit(2) from None


failpoint = _read_here()
"""Called by the worker in each of the places."""
