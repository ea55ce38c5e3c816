"""Files whose content may change while a process runs: read again when they are other files than before."""

import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Final, Generic, TypeVar

LOOK_SECONDS: Final = 1.0
"""How often a file is looked at, at most: a look is a system call, and a batch may be a message."""

T = TypeVar("T")


class WatchedFile(Generic[T]):
    """What a file says, always as it stands now.

    `read` makes a value of its text, and raises ValueError with a sentence for a person. A file that has become
    unreadable or wrong leaves the value as it was, and `on_fault` is told once.
    """

    def __init__(
        self,
        path: Path,
        read: Callable[[str], T],
        *,
        on_fault: Callable[[Path, str], None] = lambda _path, _reason: None,
        on_change: Callable[[Path], None] = lambda _path: None,
    ) -> None:
        """Read the file for the first time; raises ValueError."""
        self._path = path
        self._read = read
        self._on_fault = on_fault
        self._on_change = on_change
        self._lock = Lock()
        self._look_at = 0.0
        self._mark: tuple[int, int, int] | None = None
        self._fault = ""
        self._value = self._load()

    @property
    def value(self) -> T:
        """What the file says."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            if self._marked() != self._mark:
                self.reload()
        return self._value

    def reload(self) -> None:
        """Read the file again, whether it has changed or not."""
        with self._lock:
            before = self._value
            try:
                self._value = self._load()
            except ValueError as exc:
                if str(exc) != self._fault:
                    self._fault = str(exc)
                    self._on_fault(self._path, self._fault)
                return
            self._fault = ""
            if self._value != before:
                self._on_change(self._path)

    def _load(self) -> T:
        self._mark = self._marked()  # before it is read: what is written meanwhile is read next time
        try:
            text = self._path.read_text(encoding="utf-8")
        except OSError as exc:
            raise ValueError(f"the file {self._path} cannot be read: {exc.strerror}") from None
        except UnicodeDecodeError:
            raise ValueError(f"the file {self._path} is no text") from None
        try:
            return self._read(text)
        except ValueError as exc:
            raise ValueError(f"the file {self._path}: {exc}") from None

    def _marked(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
