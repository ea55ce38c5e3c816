"""An API that does something on purpose that no API may do: `python -m tests.api.sabotaged_api NAME`.

The sabotage is done here, to the modules of this process; nothing in the API knows of it.
"""

import sys
import time
from collections.abc import Callable
from typing import Any, Final
from uuid import uuid4

import pytest

from wallet_schemas.commands import Command, Outcome
from wallet_schemas.http import ApiCode, HttpOperation
from wallet_worker.api import commands
from wallet_worker.api.problems import RequestRefused

put = pytest.MonkeyPatch().setattr  # fails where there is no such name any more


def answers_before_the_confirm() -> None:
    """Say that a command was applied as soon as it is sent, whatever the broker says."""
    real = commands._send

    async def send(parts: Any, request: Any, command: Command, wait: float) -> tuple[Outcome, bytes]:
        try:
            return await real(parts, request, command, wait)
        except RequestRefused as refused:
            if refused.code is not ApiCode.OUTCOME_UNKNOWN:
                raise
            outcome = next(
                Outcome.model_validate({**example, "serial_no": command.serial_no})
                for example in Outcome.examples()
                if "account_no" in example["result"]
            )
            return outcome, b"{}"

    put(commands, "_send", send)


def makes_numbers() -> None:
    """Make a serial number for a command that has none."""
    real = commands.read_command

    def read(body: bytes, request: Any, operation: Any) -> Command:
        if request.header(b"idempotency-key") is None:
            request.headers[b"idempotency-key"] = uuid4().hex.encode()
        return real(body, request, operation)

    put(commands, "read_command", read)


def asks_for_no_scope() -> None:
    """Let every key do everything."""
    put(HttpOperation, "scopes", frozenset())
    put(commands, "_check_scope", lambda *_: None)


def clock_ahead() -> None:
    """Have this process's clock an hour ahead of everybody's."""
    real = time.time
    put(time, "time", lambda: real() + 3_600)


SABOTAGES: Final[dict[str, Callable[[], None]]] = {
    each.__name__: each
    for each in (answers_before_the_confirm, makes_numbers, asks_for_no_scope, clock_ahead)
}


def main(name: str) -> None:
    """Do the sabotage, then be an API."""
    SABOTAGES[name]()
    from wallet_worker.cli import main as wallet

    sys.argv = ["wallet", "api"]
    wallet()


if __name__ == "__main__":
    main(sys.argv[1])
