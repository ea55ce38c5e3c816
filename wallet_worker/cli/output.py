"""Where the product of a long command goes, and how far it has come."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Annotated, Protocol

import typer

from wallet_worker.accounting.table_file import Format, UnwritableError, translate_write_errors
from wallet_worker.cli import exits
from wallet_worker.cli.exits import Exit

Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="The file to write. Default: standard output."),
]
Form = Annotated[Format, typer.Option("--format", help="CSV for spreadsheets, or JSON lines.")]


class OnProgress(Protocol):
    """Is told how much is done, of how much; no total: nobody knows."""

    def __call__(self, done: int, total: int | None) -> None:
        """It has been told."""


@contextmanager
def output_file(path: Path | None) -> Iterator[IO[str]]:
    """Give what the product is written to: standard output, or a file that is in its place only when it is whole.

    Until then it has another name beside it, and its owner alone can read it, then and later. If it cannot be
    written, the command ends with one line; if nobody reads standard output any more, with none.
    """
    try:
        with translate_write_errors():
            yield from _opened(path)
    except UnwritableError as exc:
        if path is None:
            raise  # as for everything that is printed, see `process`
        exits.end(Exit.UNWRITTEN, f"{path} cannot be written: {exc}")


def _opened(path: Path | None) -> Iterator[IO[str]]:
    if path is None:
        yield sys.stdout
        sys.stdout.flush()
    elif path.exists() and not path.is_file():  # a pipe or a device: nothing may take its place
        with path.open("w", encoding="utf-8", newline="") as file:
            yield file
    else:
        with NamedTemporaryFile(
            "w", encoding="utf-8", newline="", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            try:
                yield file
                file.close()
                os.replace(file.name, path)  # noqa: PTH105 -- the temporary file has a name and no Path
            except BaseException:
                with suppress(OSError):
                    os.unlink(file.name)  # noqa: PTH108 -- as above
                raise


@contextmanager
def progress(what: str, *, shown: bool, in_bytes: bool = False) -> Iterator[OnProgress]:
    """Give what is to be told of the progress; a bar shows it, if standard error is a terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    with Progress(
        TextColumn(what),
        BarColumn(bar_width=None),
        DownloadColumn() if in_bytes else MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not (shown and sys.stderr.isatty()),
    ) as bar:
        task = bar.add_task(what, total=None)

        def moved(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total)

        yield moved
