"""Structured logs on standard error: for people on a terminal, one JSON object a line otherwise."""

import logging
import sys
from enum import StrEnum

import structlog


class Level(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How it is written."""

    AUTO = "auto"  # for people if standard error is a terminal
    CONSOLE = "console"
    JSON = "json"


def configure(level: Level, form: LogFormat) -> None:
    """What is logged from now on, by this program and by its libraries, is written to standard error."""
    console = form is LogFormat.CONSOLE or (form is LogFormat.AUTO and sys.stderr.isatty())
    least = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    # Of the libraries only what is unusual: aiormq's debug level has every frame.
    logging.basicConfig(handlers=[handler], level=max(least, logging.WARNING), force=True)
    # What it says of a lost connection at length, the gateway says in one line.
    logging.getLogger("aiormq.connection").setLevel(logging.CRITICAL)
