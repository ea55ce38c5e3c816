"""Which command ends with which exit status, and when: one table for all commands.

`python -m wallet_worker.cli.exit_table` writes the page beside this module; a test keeps it in step, and reaches each
cell with real servers. A command without a row of its own has that of the longest beginning of its name.
"""

import sys
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Final

from wallet_worker.cli.exits import Exit

PAGE: Final = Path(__file__).parent / "EXIT_STATUSES.md"


class CommandEvent(Enum):
    """What may happen to a command; the value says it to a person."""

    DONE = "it is done, or everything is in order"
    HELP = "`--help`"
    FOUND = "something is wrong with what was looked at"
    REFUSED = "the wallet refuses it, or it is not allowed"
    NOT_FOUND = "there is no such thing"
    BAD_USAGE = "an option, an argument or a file is wrong"
    BAD_SETTING = "a setting is missing or wrong"
    DATABASE_AWAY = "the database is away"
    DATABASE_LOCKED = "the database is busy: a lock is not given in time"
    DATABASE_DENIES = "the database does not let the command look"
    COMMIT_LOST = "the database is lost while it commits"
    BROKER_AWAY = "the broker is away"
    NO_ANSWER = "no worker answers a query"
    OUTCOME_UNKNOWN = "the outcome does not come in time"
    OUTPUT_FULL = "the output cannot be written: the disk is full"
    OUTPUT_CLOSED = "nobody reads the output"
    INTERRUPTED = "Ctrl-C"


_ANY: Final = {
    CommandEvent.HELP: Exit.DONE,
    CommandEvent.BAD_USAGE: Exit.MISUSED,
    CommandEvent.OUTPUT_FULL: Exit.UNWRITTEN,
    CommandEvent.OUTPUT_CLOSED: Exit.UNWRITTEN,
}
_SETTINGS: Final = {**_ANY, CommandEvent.BAD_SETTING: Exit.MISUSED}
_DATABASE: Final = {
    **_SETTINGS,
    CommandEvent.DONE: Exit.DONE,
    CommandEvent.DATABASE_AWAY: Exit.UNAVAILABLE,
    CommandEvent.DATABASE_LOCKED: Exit.UNAVAILABLE,
    CommandEvent.DATABASE_DENIES: Exit.UNAVAILABLE,
    CommandEvent.INTERRUPTED: Exit.INTERRUPTED,
}
_WRITES: Final = {**_DATABASE, CommandEvent.COMMIT_LOST: Exit.UNKNOWN}
_BROKER: Final = {
    **_SETTINGS,
    CommandEvent.DONE: Exit.DONE,
    CommandEvent.BROKER_AWAY: Exit.UNAVAILABLE,
    CommandEvent.INTERRUPTED: Exit.INTERRUPTED,
}
# What runs until it is stopped waits for servers that are away; the log says why it ends by itself, with 1.
_SERVICE: Final = {
    **_SETTINGS,
    CommandEvent.DONE: Exit.DONE,
    CommandEvent.FOUND: Exit.FOUND,
    CommandEvent.INTERRUPTED: Exit.DONE,
}
_FILE: Final = {**_ANY, CommandEvent.DONE: Exit.DONE}

TABLE: Final[Mapping[str, Mapping[CommandEvent, Exit]]] = MappingProxyType(
    {
        # A migration waits for locks.
        "migrate": {
            # It has looked, and names each privilege that the login lacks.
            event: Exit.FOUND if event is CommandEvent.DATABASE_DENIES else status
            for event, status in _WRITES.items()
            if event is not CommandEvent.DATABASE_LOCKED
        },
        "doctor": {
            **_SETTINGS,
            CommandEvent.DONE: Exit.DONE,
            CommandEvent.FOUND: Exit.FOUND,
            CommandEvent.DATABASE_AWAY: Exit.UNAVAILABLE,
            CommandEvent.DATABASE_LOCKED: Exit.UNAVAILABLE,
            CommandEvent.INTERRUPTED: Exit.INTERRUPTED,
        },
        "settings": {**_SETTINGS, CommandEvent.DONE: Exit.DONE},
        "keys": {**_ANY, CommandEvent.DONE: Exit.DONE},
        "api": _SERVICE,
        "api key": _WRITES,
        "api key list": _DATABASE,
        "api key rotate": {**_WRITES, CommandEvent.NOT_FOUND: Exit.FOUND},
        "api key revoke": {**_WRITES, CommandEvent.NOT_FOUND: Exit.FOUND},
        "webhooks": _SERVICE,
        "webhooks list": _DATABASE,
        **{
            f"webhooks {name}": {**_WRITES, CommandEvent.NOT_FOUND: Exit.FOUND}
            for name in ("add", "rotate", "enable", "disable", "replay")
        },
        "webhooks deliveries": {**_DATABASE, CommandEvent.NOT_FOUND: Exit.FOUND},
        "operators": {**_WRITES, CommandEvent.REFUSED: Exit.FOUND, CommandEvent.NOT_FOUND: Exit.FOUND},
        "operators add": {**_WRITES, CommandEvent.REFUSED: Exit.FOUND},
        "operators list": _DATABASE,
        "operators log": _DATABASE,
        "operators key make": {**_ANY, CommandEvent.DONE: Exit.DONE},
        "topology": {**_BROKER, CommandEvent.FOUND: Exit.FOUND},
        "topology users": _SETTINGS,
        "worker": _SERVICE,
        "keeper": _SERVICE,
        "console": _SERVICE,
        "console user": {**_FILE, CommandEvent.NOT_FOUND: Exit.MISUSED},
        "console user add": _FILE,
        "console user list": _FILE,
        "send": {
            **_BROKER,
            CommandEvent.REFUSED: Exit.FOUND,
            CommandEvent.OUTCOME_UNKNOWN: Exit.UNKNOWN,
            CommandEvent.INTERRUPTED: Exit.UNKNOWN,
        },
        "show": {**_BROKER, CommandEvent.NOT_FOUND: Exit.FOUND, CommandEvent.NO_ANSWER: Exit.UNAVAILABLE},
        "show orders": {**_BROKER, CommandEvent.NO_ANSWER: Exit.UNAVAILABLE},  # an empty list is an answer
        "audit": {**_DATABASE, CommandEvent.FOUND: Exit.FOUND},
        "reconcile": {**_DATABASE, CommandEvent.FOUND: Exit.FOUND, CommandEvent.NOT_FOUND: Exit.MISUSED},
        "export": _DATABASE,
        "export statement": {**_DATABASE, CommandEvent.NOT_FOUND: Exit.FOUND},
        "dlq": _DATABASE,
        "dlq export": _WRITES,  # the export has a row in the audit log
        "dlq show": {**_DATABASE, CommandEvent.NOT_FOUND: Exit.FOUND},
        "dlq plan": {**_DATABASE, CommandEvent.NOT_FOUND: Exit.FOUND},
        "dlq replay": {**_WRITES, CommandEvent.REFUSED: Exit.FOUND, CommandEvent.NOT_FOUND: Exit.FOUND},
        "dlq discard": {**_WRITES, CommandEvent.REFUSED: Exit.FOUND, CommandEvent.NOT_FOUND: Exit.FOUND},
        "dlq restore": {**_WRITES, CommandEvent.REFUSED: Exit.FOUND, CommandEvent.NOT_FOUND: Exit.FOUND},
        "dlq edit": {**_WRITES, CommandEvent.REFUSED: Exit.FOUND, CommandEvent.NOT_FOUND: Exit.FOUND},
        "dlq sign": {**_WRITES, CommandEvent.REFUSED: Exit.FOUND, CommandEvent.NOT_FOUND: Exit.FOUND},
        "dlq approve": {**_WRITES, CommandEvent.REFUSED: Exit.FOUND, CommandEvent.NOT_FOUND: Exit.FOUND},
        "dlq note": {**_WRITES, CommandEvent.NOT_FOUND: Exit.FOUND},
        # It goes on without the command.
        "dlq progress": {
            **_DATABASE,
            CommandEvent.NOT_FOUND: Exit.FOUND,
            CommandEvent.INTERRUPTED: Exit.UNKNOWN,
        },
        "dlq pause": {**_WRITES, CommandEvent.NOT_FOUND: Exit.FOUND},
        "dlq resume": {**_WRITES, CommandEvent.NOT_FOUND: Exit.FOUND},
        "dlq stop": {**_WRITES, CommandEvent.NOT_FOUND: Exit.FOUND},
        "dlq runbook": {**_ANY, CommandEvent.DONE: Exit.DONE},
    }
)


def row_of(command: str) -> Mapping[CommandEvent, Exit] | None:
    """Return how a command ends, by the words of its name; absent if the table does not know it."""
    words = command.split()
    for length in range(len(words), 0, -1):
        found = TABLE.get(" ".join(words[:length]))
        if found is not None:
            return found
    return None


def page(commands: Iterable[str]) -> str:
    """Return the page for these commands."""
    names = sorted(commands)
    lines = [
        "# Exit statuses",
        "",
        "Each command ends with one of these. A program may go by them: 1 always means that the command has looked,",
        "and 3 that it could not look. The sentence on standard error says why.",
        "",
        "| status | means |",
        "|---|---|",
        *(f"| {status.value} | {(_MEANINGS[status])} |" for status in Exit),
        "",
        "Statuses 5 and 6 may come from every command. What was written before the output failed is not whole.",
        "",
        "| command | " + " | ".join(event.value for event in CommandEvent) + " |",
        "|---|" + "---|" * len(CommandEvent),
        *(
            f"| `{name}` | {' | '.join(_cell(row_of(name) or {}, event) for event in CommandEvent)} |"
            for name in names
        ),
        "",
        "An empty cell cannot happen: the command does not use that server, or has nothing to find.",
        "",
        "- `wallet worker`, `wallet keeper` and `wallet console` wait for a server that is away. They end with 1 where",
        "  they cannot go on, and their log says why.",
        "- `wallet dlq replay`, `edit` and `progress` end with 1 where replays failed or were given up, and with 4",
        "  while it goes on without the command, also at Ctrl-C once a plan was executed.",
        "- A command that changes something ends with 4 where the database was lost while it committed: it was done,",
        "  or nothing of it was. The sentence says how to find out.",
        "- `wallet migrate` waits for locks, however long others hold them.",
        "- `wallet send` ends with 4 where the outcome is not known: send it again with the same serial number.",
        "- `wallet audit --follow` waits for the database. It ends with 3 if it was stopped before it had checked",
        "  anything.",
        "",
    ]
    return "\n".join(lines)


def _cell(row: Mapping[CommandEvent, Exit], event: CommandEvent) -> str:
    status = row.get(event)
    return "" if status is None else str(status.value)


_MEANINGS: Final[Mapping[Exit, str]] = MappingProxyType(
    {
        Exit.DONE: "It was done, or everything is in order.",
        Exit.FOUND: "The wallet refused it, there is no such thing, or the check found something.",
        Exit.MISUSED: "An option, an argument, a file or a setting is wrong. Nothing was done.",
        Exit.UNAVAILABLE: "A server is away, busy, or does not let the command do this. Nothing was looked at, and "
        "nothing was done.",
        Exit.UNKNOWN: "It was sent or begun, and the outcome is not known yet. The sentence says how to ask again.",
        Exit.UNWRITTEN: "The output could not be written: a full disk, a folder that is not there, or a pipe that "
        "nobody reads.",
        Exit.BROKEN: "A fault of the program. Whether anything was done is not known.",
        Exit.INTERRUPTED: "Ctrl-C, by a person who did not wait.",
    }
)


def every_command() -> list[str]:
    """Return the name of each command that does something."""
    from typer.core import TyperGroup
    from typer.main import get_command

    from wallet_worker.cli import app

    def names(group: TyperGroup, path: tuple[str, ...]) -> Iterable[str]:
        for name, command in group.commands.items():
            if isinstance(command, TyperGroup):
                if command.invoke_without_command:
                    yield " ".join((*path, name))
                yield from names(command, (*path, name))
            else:
                yield " ".join((*path, name))

    root = get_command(app)
    return list(names(root, ())) if isinstance(root, TyperGroup) else []


if __name__ == "__main__":
    PAGE.write_text(page(every_command()), encoding="utf-8")
    sys.stdout.write(f"written: {PAGE.name}\n")
