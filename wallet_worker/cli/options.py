"""Options and arguments that several commands have in common."""

import math
from datetime import datetime
from typing import Annotated

import typer

from wallet_schemas import times
from wallet_worker.text import printable

User = Annotated[str, typer.Argument(metavar="USER", help="The user's id.")]
Currency = Annotated[str, typer.Argument(metavar="CURRENCY", help="ISO 4217 code, such as TWD.")]
Type = Annotated[str, typer.Option("--type", help="The account's type.")]


def finite(value: float | None) -> float | None:
    """Return a number of seconds; raise typer.BadParameter for infinity and for what is not a number."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter("it should be a number of seconds")
    return value


Timeout = Annotated[
    float, typer.Option(min=0.001, callback=finite, help="Seconds to wait for the wallet's answer.")
]
Json = Annotated[
    bool | None,
    typer.Option(
        "--json/--table",
        help="Print JSON or tables. Default: tables on a terminal, JSON elsewhere.",
        show_default=False,
    ),
]
Since = Annotated[
    str | None,
    typer.Option("--from", metavar="TIME", help="Only from this time on: 2026-01-31, or with a time of day."),
]
Until = Annotated[
    str | None,
    typer.Option("--to", metavar="TIME", help="Only before this time. Without an offset: UTC."),
]


def read_span(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    """Return the instants of --from and --to; a span that ends before it begins is refused, not empty."""
    begin, end = read_time("--from", since), read_time("--to", until)
    if begin is not None and end is not None and end < begin:
        raise typer.BadParameter("it is before --from: nothing could be in between", param_hint="--to")
    return begin, end


def read_time(option: str, text: str | None) -> datetime | None:
    """Return the instant; without an offset it is UTC, and a day is its beginning."""
    if text is None:
        return None
    try:
        return times.parse_typed(text)
    except times.NotATimeError as exc:
        raise typer.BadParameter(f"{printable(text)}: {exc}", param_hint=option) from None
