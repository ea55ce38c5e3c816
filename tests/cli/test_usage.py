"""Whatever is given to an option that it does not take is answered with status 2, in words for people."""

from collections.abc import Iterator
from typing import Any

import typer

from tests.cli.terminal import wallet
from tests.words import assert_for_people
from wallet_worker.cli import app
from wallet_worker.cli.exits import Exit

NONSENSE = "no such thing"


def _options(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Give each option that takes a value, as it is typed after the names of its command."""
    for option in command.params:
        if option.param_type_name == "option" and not option.is_flag and not getattr(option, "count", False):
            yield (*path, option.opts[0])
    for name, child in getattr(command, "commands", {}).items():
        yield from _options(child, (*path, name))


# Each name once: what one command says of it, the others say too. Any text names a file.
OPTIONS = {
    words[-1]: words for words in sorted(_options(typer.main.get_command(app))) if words[-1] != "--file"
}


def test_there_are_options() -> None:
    assert len(OPTIONS) > 40


async def test_nonsense_for_any_option_is_misuse_in_words_for_people() -> None:
    for words in OPTIONS.values():
        ended = await wallet(*words, NONSENSE)

        assert ended.status == Exit.MISUSED, (words, ended)
        assert_for_people(ended.err)
