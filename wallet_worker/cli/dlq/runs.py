"""`wallet dlq`: commands that show and steer operations, and how a command ends that waits for one."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from wallet_worker.cli import exits, terminal
from wallet_worker.cli.dlq import tables
from wallet_worker.cli.dlq.options import (
    As,
    Why,
    ask,
)
from wallet_worker.cli.exits import Exit
from wallet_worker.cli.options import Json
from wallet_worker.dead_letters.model.actors import Actor
from wallet_worker.dead_letters.model.plans import Operation
from wallet_worker.dead_letters.model.states import OperationState

if TYPE_CHECKING:
    from wallet_worker.dead_letters.operations import DeadLetterDesk

WATCH_SECONDS = 0.5
KEEPER_SILENT = timedelta(seconds=30)
OperationId = Annotated[UUID, typer.Argument(metavar="OPERATION", help="The operation's id.")]


def operations(
    *,
    limit: Annotated[int, typer.Option(min=1, max=500, help="Rows to show.")] = 50,
    who: As = None,
    as_json: Json = None,
) -> None:
    """List operations, newest first.

    Example: wallet dlq operations
    """
    operations_ = ask(who, lambda desk, actor: desk.operations(actor, limit=limit))
    if terminal.wants_json(as_json):
        terminal.print_json({"operations": tables.document(operations_)})
    else:
        tables.print_operations(operations_)


def progress(
    operation: OperationId,
    *,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it has ended.")] = False,
    who: As = None,
    as_json: Json = None,
) -> None:
    """Show the progress of an operation.

    Exit status: 0 if all succeeded, 1 if some failed or were given up, or if it was stopped, 4 if it has not ended.

    Example: wallet dlq progress 019b7d4c-6f2e-7c3a-9d41-52c0e4a7b913 --wait
    """
    end_with(watched(who, operation, wait=wait), as_json=as_json)


def pause(operation: OperationId, *, why: Why, who: As = None, as_json: Json = None) -> None:
    """Pause a replay: nothing more is published until it is resumed.

    Example: wallet dlq pause 019b7d4c-6f2e-7c3a-9d41-52c0e4a7b913 --why "the gateway is slow"
    """
    _steer(who, lambda desk, actor: desk.pause(actor, operation, reason=why), as_json=as_json)


def resume(operation: OperationId, *, why: Why, who: As = None, as_json: Json = None) -> None:
    """Resume a paused replay.

    Example: wallet dlq resume 019b7d4c-6f2e-7c3a-9d41-52c0e4a7b913 --why "it is fast again"
    """
    _steer(who, lambda desk, actor: desk.resume(actor, operation, reason=why), as_json=as_json)


def stop(operation: OperationId, *, why: Why, who: As = None, as_json: Json = None) -> None:
    """Stop a replay: letters that were not published wait again.

    Example: wallet dlq stop 019b7d4c-6f2e-7c3a-9d41-52c0e4a7b913 --why "the wrong group"
    """
    _steer(who, lambda desk, actor: desk.stop(actor, operation, reason=why), as_json=as_json)


def _steer(
    who: str | None, work: "Callable[[DeadLetterDesk, Actor], Awaitable[Operation]]", *, as_json: bool | None
) -> None:
    _print_operation(ask(who, work), as_json=as_json)


def end_with(operation: Operation, *, as_json: bool | None) -> None:
    """Show an operation, and end the command with the status that it has."""
    _print_operation(operation, as_json=as_json)
    status = exit_status_of(operation)
    if status is not Exit.DONE:
        raise typer.Exit(status)


def exit_status_of(operation: Operation) -> Exit:
    """Return the exit status that says where an operation stands, whichever command shows it."""
    match operation.state:
        case OperationState.STOPPED:
            return Exit.FOUND
        case OperationState.DONE:
            return Exit.FOUND if operation.failed or operation.cancelled or operation.refused else Exit.DONE
        case OperationState.RUNNING | OperationState.PAUSED:
            return Exit.UNKNOWN


def watched(who: str | None, operation_id: UUID, *, wait: bool, is_ours: bool = False) -> Operation:
    """Return an operation, when it has ended or nobody goes on with it if that is waited for.

    `is_ours`: this command has begun it, so that it cannot end as if nothing was done.
    """
    try:
        return ask(who, lambda desk, actor: watch(desk, actor, operation_id, wait=wait))
    except (KeyboardInterrupt, typer.Exit) as exc:
        if isinstance(exc, typer.Exit) and not (is_ours and exc.exit_code == Exit.UNAVAILABLE):
            raise
        exits.end(Exit.UNKNOWN, f"it goes on without you: wallet dlq progress {operation_id}")


async def watch(desk: "DeadLetterDesk", actor: Actor, operation_id: UUID, *, wait: bool) -> Operation:
    """Return an operation: at once, or with `wait` when it has ended or is paused, showing its status meanwhile."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(
        TextColumn("outcomes"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not (wait and sys.stderr.isatty()),
    ) as bar:
        task = bar.add_task("outcomes", total=None)
        shown = ""
        while True:
            operation = await desk.operation(actor, operation_id)
            bar.update(task, completed=operation.finished, total=operation.total)
            if not wait or operation.ended_at is not None or operation.state is OperationState.PAUSED:
                return operation
            standing = await _standing(desk, actor, operation)
            if standing != shown:
                terminal.print_status(standing)
                shown = standing
            await asyncio.sleep(WATCH_SECONDS)


async def _standing(desk: "DeadLetterDesk", actor: Actor, operation: Operation) -> str:
    """Return where an operation stands; if no keeper is there to go on with it, that."""
    seen = (await desk.overview(actor)).keeper_seen
    if seen is None or datetime.now(UTC) - seen > KEEPER_SILENT:
        return "nobody goes on with it: no keeper is at work. Start a worker, or `wallet keeper`"
    return operation.standing


def _print_operation(operation: Operation, *, as_json: bool | None) -> None:
    if terminal.wants_json(as_json):
        terminal.print_json(tables.document(operation))
    else:
        tables.print_operation(operation)
