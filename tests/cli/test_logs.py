"""Lines of the log on a stream that several processes have."""

import io
import logging
import sys

import pytest
import structlog
from typing_extensions import override

from wallet_worker.telemetry import logs


class Stream(io.StringIO):
    """Keeps each write apart, as another process could come between any two."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []

    @override
    def write(self, text: str) -> int:
        self.writes.append(text)
        return len(text)


def test_a_line_is_written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    logs.configure("json", "info")

    structlog.get_logger("test").info("batch.settled", size=2)
    structlog.get_logger("test").info("worker.stopped")

    assert len(stream.writes) == 2
    assert all(line.startswith('{"') and line.endswith("}\n") for line in stream.writes)
