"""`wallet dlq`: commands that show letters, groups, the audit log and the runbook."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from wallet_schemas.values import INTEGER_MAX
from wallet_worker.cli import exits, terminal
from wallet_worker.cli.dlq import tables
from wallet_worker.cli.dlq.options import (
    As,
    Number,
    ask,
    with_filter,
)
from wallet_worker.cli.exits import Exit
from wallet_worker.cli.options import Json, read_time
from wallet_worker.dead_letters.model.actors import Actor
from wallet_worker.dead_letters.model.filters import AuditFilter, Filter

if TYPE_CHECKING:
    from wallet_worker.dead_letters.operations import DeadLetterDesk


@with_filter()
def list_(
    *,
    which: Filter,
    after: Annotated[
        int | None,
        typer.Option(
            metavar="NUMBER", min=1, max=INTEGER_MAX, help="Continue after this letter (shows older ones)."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="Rows per page.")] = 50,
    every: Annotated[bool, typer.Option("--all", help="Show all pages.")] = False,
    who: As = None,
    as_json: Json = None,
) -> None:
    """List letters, newest first. --all --json prints one line per page.

    Example: wallet dlq list --state waiting --reason AMOUNT_MISMATCH
    """

    async def work(operations: "DeadLetterDesk", actor: Actor) -> int | None:
        following = after
        while True:
            page = await operations.letters(actor, which, after=following, limit=limit)
            if terminal.wants_json(as_json):
                terminal.print_json(tables.document(page))
            else:
                tables.print_letters(page.letters)
            following = page.next_after
            if following is None or not every:
                return following

    following = ask(who, work)
    if following is not None:
        terminal.print_status(f"there is more: --after {following}, or --all")


@with_filter(ids=False)
def groups(
    *,
    which: Filter,
    hours: Annotated[int, typer.Option(min=1, max=24 * 366, help="Hours that the chart shows.")] = 24,
    who: As = None,
    as_json: Json = None,
) -> None:
    """Count letters by reason and source, with a chart of arrivals.

    Example: wallet dlq groups --state waiting
    """
    groups_ = ask(
        who,
        lambda operations, actor: operations.groups(actor, which, span=timedelta(hours=hours), buckets=24),
    )
    if terminal.wants_json(as_json):
        terminal.print_json({"groups": tables.document(groups_)})
    else:
        tables.print_groups(groups_)


def status(*, who: As = None, as_json: Json = None) -> None:
    """Show counts, ages, keepers and running operations.

    Example: wallet dlq status
    """
    overview = ask(who, lambda operations, actor: operations.overview(actor))
    if terminal.wants_json(as_json):
        terminal.print_json(tables.document(overview))
    else:
        tables.print_overview(overview)


def show(
    number: Number,
    *,
    body: Annotated[
        Path | None,
        typer.Option("--body", metavar="FILE", help="Write the payload to this file, byte for byte."),
    ] = None,
    who: As = None,
    as_json: Json = None,
) -> None:
    """Show a letter, its order and account, what a replay would do now, and what is safe.

    Example: wallet dlq show 17
    """
    letter = ask(who, lambda operations, actor: operations.letter(actor, number), predicts=True)
    if body is not None:
        content = ask(who, lambda operations, actor: operations.payload(actor, number))
        try:
            body.write_bytes(content)
        except OSError as exc:
            exits.end(Exit.UNWRITTEN, f"{body} cannot be written: {exc.strerror}")
    if terminal.wants_json(as_json):
        terminal.print_json(tables.document(letter))
    else:
        tables.print_letter(letter)


@with_filter()
def export(
    *,
    which: Filter,
    who: As = None,
) -> None:
    """Write all matching letters as JSON lines, payloads in base64.

    Example: wallet dlq export --reason INTERNAL > letters.jsonl
    """

    async def work(operations: "DeadLetterDesk", actor: Actor) -> None:
        async for letter in operations.export(actor, which):
            terminal.print_json(tables.document(letter))

    ask(who, work)


def audit(
    *,
    of: Annotated[
        str | None, typer.Option("--of", metavar="NAME", help="Only actions of this person.")
    ] = None,
    action: Annotated[str | None, typer.Option(help="Only this action, such as 'execute replay'.")] = None,
    letter: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", min=1, max=INTEGER_MAX, help="Only actions on this letter."),
    ] = None,
    operation: Annotated[
        UUID | None, typer.Option(metavar="OPERATION", help="Only actions of this operation.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Only from this time on.")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Only before this time.")] = None,
    after: Annotated[
        int | None,
        typer.Option(
            metavar="NUMBER", min=1, max=INTEGER_MAX, help="Continue after this row (shows older ones)."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="Rows per page.")] = 100,
    everything: Annotated[
        bool, typer.Option("--export", help="Print all matching rows as JSON lines, oldest first.")
    ] = False,
    who: As = None,
    as_json: Json = None,
) -> None:
    """Show who did what, when and why, newest first.

    Example: wallet dlq audit --letter 17
    """
    which = AuditFilter(
        actor=of,
        action=action,
        letter_id=letter,
        operation_id=operation,
        since=read_time("--from", since),
        until=read_time("--to", until),
    )

    async def work(operations: "DeadLetterDesk", actor: Actor) -> int | None:
        if everything:
            async for row in operations.export_audit(actor, which):
                terminal.print_json(tables.document(row))
            return None
        page = await operations.audit(actor, which, after=after, limit=limit)
        if terminal.wants_json(as_json):
            terminal.print_json(tables.document(page))
        else:
            tables.print_audit(page.rows)
        return page.next_after

    following = ask(who, work)
    if following is not None:
        terminal.print_status(f"there is more: --after {following}")


def runbook(
    reason: Annotated[str | None, typer.Argument(metavar="CODE", help="A reason code. Default: all.")] = None,
    *,
    as_json: Json = None,
) -> None:
    """Show what a reason means, what is safe in each state, and whom to ask. Needs no server.

    `wallet dlq show` gives the advice for one letter as it stands now.

    Example: wallet dlq runbook AMOUNT_MISMATCH
    """
    from wallet_worker.dead_letters import runbook as book
    from wallet_worker.dead_letters.reasons import REASONS

    if reason is not None and reason.upper() not in REASONS:
        exits.end(Exit.MISUSED, f"{reason} is not a reason. The reasons are {', '.join(REASONS)}")
    lines = [line for code in ([reason.upper()] if reason else REASONS) for line in book.lines(code)]
    lines += book.common() if reason is None else []
    if terminal.wants_json(as_json):
        terminal.print_json({"runbook": tables.document(lines)})
    else:
        tables.print_runbook(lines)
