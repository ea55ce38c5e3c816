"""The process of a command: whatever happens, it ends with an exit status of the table and at most a sentence.

Standard output that cannot be written is neither a finding of the command nor a fault of the database: it has an exit
status of its own. A pipe whose reader has gone is nobody's fault and is not mentioned.
"""

import io
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

import typer
from pydantic import ValidationError
from typer.core import TyperGroup
from typing_extensions import override

from wallet_schemas.faults import sentence
from wallet_worker.accounting.table_file import UnwritableError, translate_write_errors
from wallet_worker.cli.exits import A_FAULT, Exit, end
from wallet_worker.cli.terminal import print_status

log = logging.getLogger(__name__)


class WalletGroup(TyperGroup):
    """The command `wallet`, and how its process ends."""

    @override
    def main(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> Any:
        """End the process with the exit status of the command; never with a traceback."""
        with _streams():
            status = self._status(list(sys.argv[1:] if args is None else args), *more, **options)
        sys.exit(status)

    def _status(self, arguments: list[str], *more: Any, **options: Any) -> int:
        try:
            _check_texts(arguments, os.environ)
            try:
                super().main(arguments, *more, **options)
            finally:
                sys.stdout.flush()
        except UnwritableError as exc:
            if not isinstance(exc.__cause__, BrokenPipeError):
                print_status(f"standard output cannot be written: {exc}")
            return Exit.UNWRITTEN
        except typer.Exit as exc:
            return exc.exit_code
        except SystemExit as exc:
            status = exc.code if isinstance(exc.code, int) else Exit.DONE
            if status == Exit.INTERRUPTED:
                print_status("interrupted")
            return status
        except Exception as exc:
            # The outermost frame: nothing of ours is above it, and a person is in front of it.
            log.exception("a command failed")
            if sys.flags.dev_mode:
                traceback.print_exc()
            print_status(
                f"{A_FAULT}. `python -X dev -m wallet_worker {' '.join(arguments[:2])} …` shows where it is"
            )
            del exc
            return Exit.BROKEN
        return Exit.DONE

    @override
    def invoke(self, ctx: Any) -> Any:
        """Run the command; one that asks a person and is not answered ends as interrupted.

        A wrong value is answered in the words that the wire has for it, and not in those of the option parser.
        """
        try:
            return super().invoke(ctx)
        except typer.BadParameter as exc:
            if isinstance(exc.__cause__, ValidationError):
                wrong = exc.__cause__.errors(include_url=False, include_input=False)
                exc.message = "; ".join(dict.fromkeys(map(sentence, wrong)))
            raise
        except (typer.Abort, EOFError):
            end(Exit.INTERRUPTED, "it asked, and was not answered; nothing was done")


def _check_texts(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """End the command where an argument or a setting is not UTF-8, which no server could be asked with."""
    for number, text in enumerate(arguments, start=1):
        if not _is_text(text):
            end(Exit.MISUSED, f"argument {number} is not UTF-8: {text}")
    for name, value in environment.items():
        if name.startswith("WALLET_") and not _is_text(value):
            end(Exit.MISUSED, f"{name} is not UTF-8")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def _streams() -> Iterator[None]:
    """Raise UnwritableError from standard output, and silence a standard error that cannot be written."""
    output, errors = sys.stdout, sys.stderr
    sys.stdout = cast("TextIO", _Output(output))
    sys.stderr = cast("TextIO", _Errors(errors))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = output, errors
        _forget_unwritten(output)


def _forget_unwritten(output: object) -> None:
    """Leave nothing for the interpreter to write at its end, where it would complain and choose a status itself."""
    if not isinstance(output, io.TextIOWrapper) or output is not sys.__stdout__:
        return  # that of a test, or none
    try:
        output.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, output.fileno())
            os.close(nowhere)


class _Output:
    """Standard output. It may have been closed before the process began."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        if stream is not None:
            _set_encoding(stream)

    def write(self, text: str) -> int:
        """Write it; raises UnwritableError."""
        if self._stream is None:
            raise UnwritableError("it is closed")
        with translate_write_errors():
            return self._stream.write(text)

    def writelines(self, lines: Any) -> None:
        """Write them; raises UnwritableError."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write what waits; raises UnwritableError."""
        if self._stream is not None:
            with translate_write_errors():
                self._stream.flush()

    def isatty(self) -> bool:
        """Whether a person sees it."""
        return self._stream is not None and self._stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Errors:
    """Standard error, which nobody may read or can."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        if stream is not None:
            _set_encoding(stream)

    def write(self, text: str) -> int:
        """Write it, if it can be."""
        if self._stream is not None:
            with suppress(OSError):
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write what waits, if it can be."""
        if self._stream is not None:
            with suppress(OSError):
                self._stream.flush()

    def isatty(self) -> bool:
        """Whether a person sees it."""
        return self._stream is not None and self._stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _set_encoding(stream: TextIO) -> None:
    """Write files and pipes in UTF-8 whatever the locale is, and escape what a terminal cannot show."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is None:
        return
    if stream.isatty():
        reconfigure(errors="backslashreplace")
    else:
        reconfigure(encoding="utf-8", errors="backslashreplace")
