"""What a person or a program reads: lines, JSON and tables, with text from outside made harmless."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wallet_schemas.encode import encode
from wallet_schemas.message import Message
from wallet_worker.text import printable


def print_status(text: str) -> None:
    """Print a line to standard error: for a person, beside the command's product."""
    print(f"wallet: {printable(text)}", file=sys.stderr, flush=True)  # noqa: T201 -- this is how a command speaks


def print_result(text: str) -> None:
    """Print a line to standard output: the command's product."""
    print(printable(text), flush=True)  # noqa: T201 -- see say


def wants_json(option: bool | None) -> bool:  # noqa: FBT001 -- the value of --json/--table, absent if neither was given
    """Return whether the product is for a program: what was asked for, else whether nobody sees it."""
    return not sys.stdout.isatty() if option is None else option


def print_json(product: Message | dict[str, Any]) -> None:
    """Print a line of JSON to standard output, in ASCII, so that no text in it can steer a terminal."""
    document = json.loads(encode(product)) if isinstance(product, Message) else product
    print(json.dumps(document).replace("\x7f", "\\u007f"), flush=True)  # noqa: T201 -- see say


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()
) -> None:
    """Print a table to standard output, with the columns named in `right` aligned to the right."""
    table = Table(box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(Text(column), justify="right" if column in right else "left", overflow="fold")
    _print(title, table, rows)


def print_pairs(title: str, pairs: Iterable[tuple[str, str]]) -> None:
    """Print a table of names and values to standard output."""
    table = Table(box=box.SIMPLE_HEAD, show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    _print(title, table, pairs)


def _print(title: str, table: Table, rows: Iterable[Sequence[str]]) -> None:
    for row in rows:
        # As Text and not as str, in which rich would read its own markup.
        table.add_row(*(Text(printable(cell)) for cell in row))
    # Whoever reads it from a pipe or a file has no width: wide enough that nothing is folded.
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(Text(printable(title), style="bold"))
    console.print(table)
