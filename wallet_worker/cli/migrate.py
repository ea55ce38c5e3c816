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
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; say whether this program works on the database.")
    ] = False,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Change nothing; list the revisions to come, and who works meanwhile."),
    ] = False,
) -> None:
    """Create or upgrade the schema and the roles in WALLET_DATABASE_URL. Safe to repeat.

    Tables are in a schema of their own, `wallet`; those of an older release are moved there out of `public`.
    Nothing is done if the server is not what the wallet needs; one line says each thing that is missing.

    Example: WALLET_DATABASE_URL=postgresql://owner:secret@localhost/wallet wallet migrate --login worker=worker
    """
    logins = _logins(login or [])
    url = environment.database_url()
    if check and plan:
        exits.end(exits.Exit.MISUSED, "--check and --plan are two questions: ask one")
    if check or plan:
        _look(url, plan=plan)
        return
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


def _look(url: str, *, plan: bool) -> None:
    """Print what is to come, or whether this program works on the database; end with FOUND if it does not."""
    from wallet_worker.store import schema_version

    revision, works_with, has_tables = exits.run(_revision(url))
    if revision is None and has_tables:
        exits.end(exits.Exit.FOUND, schema_version.NO_REVISION)
    coming = [] if schema_version.is_newer(revision) else schema_version.to_come(revision)
    if plan:
        for item in coming:
            others = (
                "a release that knows only older revisions must be stopped before"
                if item.works_with == item.revision
                else f"releases that know {item.works_with} go on"
            )
            terminal.print_result(f"{item.revision}  {item.title} ({others})")
        if not coming:
            terminal.print_result(f"nothing: the database is at revision {revision}")
        return
    why_not = [why] if (why := schema_version.why_not_current(revision, "program", works_with)) else []
    why_not += exits.run(_unmet(url))
    for sentence in why_not:
        terminal.print_status(sentence)
    if why_not:
        raise typer.Exit(exits.Exit.FOUND)
    terminal.print_result(f"this program works on the database, which is at revision {revision}")


async def _unmet(url: str) -> list[str]:
    from wallet_worker.store.requirements import Grade, check_but_revision, unmet

    return unmet(await check_but_revision(url, "owner"), Grade.REQUIRED)


async def _revision(url: str) -> tuple[str | None, str | None, bool]:
    from wallet_worker.store import schema_version
    from wallet_worker.store.errors import waited_for
    from wallet_worker.store.servers import connect
    from wallet_worker.store.session import look_at_tables

    with waited_for():
        connection = await connect(url)
        try:
            has_tables = await look_at_tables(connection) is not None
            revision = await schema_version.current_revision(connection)
            return revision, await schema_version.works_with(connection), has_tables
        finally:
            connection.terminate()


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
