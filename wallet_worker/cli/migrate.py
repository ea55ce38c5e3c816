"""`wallet migrate`."""

from typing import TYPE_CHECKING

import typer

from wallet_worker.cli import environment, exits, terminal

if TYPE_CHECKING:
    from wallet_worker.store.migrate import Revisions


def migrate() -> None:
    """Create or upgrade the schema and the roles in WALLET_DATABASE_URL. Safe to repeat.

    Nothing is done if the server is not what the wallet needs; one line says each thing that is missing.

    Example: WALLET_DATABASE_URL=postgresql://owner:secret@localhost/wallet wallet migrate
    """
    url = environment.database_url()
    from wallet_worker.store.requirements import UnmetError

    try:
        before, after = exits.run(_migrate(url))
    except UnmetError as exc:
        for sentence in exc.sentences:
            terminal.print_status(sentence)
        raise typer.Exit(exits.Exit.FOUND) from None
    if before == after:
        terminal.print_result(f"the database was at revision {after} already")
    else:
        terminal.print_result(f"the database went from revision {before or 'none'} to {after}")


async def _migrate(url: str) -> "Revisions":
    from wallet_worker.store import migrate
    from wallet_worker.store.errors import InvariantBrokenError, StatementRejectedError, UnfitError

    try:
        return await migrate.migrate(url)
    except (InvariantBrokenError, UnfitError) as exc:
        raise StatementRejectedError(
            str(exc)
        ) from exc  # here it is the operator's privileges, and nothing of ours
