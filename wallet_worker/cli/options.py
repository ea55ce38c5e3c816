"""Options and arguments that several commands have in common."""

from typing import Annotated

import typer

User = Annotated[str, typer.Argument(metavar="USER", help="The user's id.")]
Currency = Annotated[str, typer.Argument(metavar="CURRENCY", help="ISO 4217 code, such as TWD.")]
Type = Annotated[str, typer.Option("--type", help="The account's type.")]
Timeout = Annotated[float, typer.Option(min=0.001, help="Seconds to wait for the wallet's answer.")]
Json = Annotated[
    bool | None,
    typer.Option(
        "--json/--table",
        help="One line of JSON, or tables. By default tables on a terminal and JSON elsewhere.",
        show_default=False,
    ),
]
