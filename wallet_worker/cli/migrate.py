"""`wallet migrate`."""

from typing import TYPE_CHECKING, Annotated

import typer

from wallet_worker.cli import environment, exits, terminal
from wallet_worker.cli.doctor import Process

if TYPE_CHECKING:
    from wallet_worker.store.migrate import Revisions


def migrate(
    *,
    owner: Annotated[
        str | None,
        typer.Option(
            help="The login that everything belongs to afterwards, which is no superuser.", metavar="LOGIN"
        ),
    ] = None,
    login: Annotated[
        list[str] | None,
        typer.Option(
            help="A login and what it is for: it has the roles of that process then, and no other of the wallet's. "
            "Processes are those of `wallet doctor --for`. May be given several times.",
            metavar="LOGIN=PROCESS",
        ),
    ] = None,
) -> None:
    """Create or upgrade the schema and the roles in WALLET_DATABASE_URL. Safe to repeat.

    Tables are in a schema of their own, `wallet`; those of an older release are moved there out of `public`.
    Nothing is done if the server is not what the wallet needs; one line says each thing that is missing.

    Example: WALLET_DATABASE_URL=postgresql://owner:secret@localhost/wallet wallet migrate --login worker=worker
    """
    logins = _logins(login or [])
    url = environment.database_url()
    from wallet_worker.store.requirements import UnmetError

    try:
        before, after = exits.run(_migrate(url, owner, logins), ask_again="run it again, which is safe")
    except UnmetError as exc:
        for sentence in exc.sentences:
            terminal.print_status(sentence)
        raise typer.Exit(exits.Exit.FOUND) from None
    if before == after:
        terminal.print_result(f"the database was at revision {after} already")
    else:
        terminal.print_result(f"the database went from revision {before or 'none'} to {after}")


def _logins(texts: list[str]) -> dict[str, str]:
    """Return the kind of process of each login, or end the command."""
    found: dict[str, str] = {}
    for item in texts:
        name, _, process = item.rpartition("=")
        if not name or process not in {kind.value for kind in Process if kind is not Process.owner}:
            kinds = ", ".join(kind.value for kind in Process if kind is not Process.owner)
            exits.end(
                exits.Exit.MISUSED,
                f"--login is LOGIN=PROCESS, where the process is one of {kinds}: not {item}",
            )
        if name in found:
            exits.end(exits.Exit.MISUSED, f"--login names {name} twice: a login is for one process")
        found[name] = process
    return found


async def _migrate(url: str, owner: str | None, logins: dict[str, str]) -> "Revisions":
    from wallet_worker.store import migrate
    from wallet_worker.store.errors import InvariantBrokenError, StatementRejectedError, UnfitError

    try:
        return await migrate.migrate(url, owner=owner, logins=logins)
    except (InvariantBrokenError, UnfitError) as exc:
        raise StatementRejectedError(
            str(exc)
        ) from exc  # here it is the operator's privileges, and nothing of ours
