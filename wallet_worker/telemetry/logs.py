"""Structured logs: one line of JSON for programs, or coloured text for a person at a terminal."""

import logging
import sys

import structlog


def configure(log_format: str, level: str) -> None:
    """Configure every logger, the libraries' too: standard error, in one format ("json", "console" or "auto")."""
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Plain tracebacks: the pretty ones show each frame's variables, which are messages and balances, and take
    # seconds to draw, in which no other message is applied.
    render: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if console
        else structlog.processors.JSONRenderer(sort_keys=False)
    )
    formatting: list[structlog.typing.Processor] = [] if console else [structlog.processors.format_exc_info]
    numeric = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, *formatting, render],
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        # Writes a line at once: printed in two pieces, it would run into that of another process on the same stream.
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *formatting,
                render,
            ],
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(numeric, logging.WARNING))
    # The client library reports each lost connection once more, as an error with a traceback: ours say it already.
    for name in ("aiormq", "aio_pika"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
