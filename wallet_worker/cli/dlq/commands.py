"""`wallet dlq`: dead letters, looked at, replayed, discarded, edited. All it does, `dead_letters.operations` does."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from wallet_worker.cli import exits, terminal
from wallet_worker.cli.dlq import tables as showing
from wallet_worker.cli.dlq.options import (
    Arrived,
    ArrivedBefore,
    As,
    GatewayRef,
    Ids,
    Number,
    OfUser,
    OrderId,
    Reason,
    SeenUpTo,
    Serial,
    Source,
    State,
    Type,
    Why,
    ask,
    filtered,
)
from wallet_worker.cli.exits import Exit
from wallet_worker.cli.options import Json, read_time
from wallet_worker.dead_letters.model.actors import Actor
from wallet_worker.dead_letters.model.filters import AuditFilter, Filter
from wallet_worker.dead_letters.model.plans import Operation, Plan, ReplayPace
from wallet_worker.dead_letters.model.states import Action, OperationState

if TYPE_CHECKING:
    from wallet_worker.dead_letters.operations import DeadLetterDesk

WATCH_SECONDS = 0.5
KEEPER_SILENT = timedelta(seconds=30)

app = typer.Typer(
    no_args_is_help=True,
    help="Show, replay, discard or edit dead letters. Needs WALLET_DATABASE_URL and, to predict "
    "what a worker would do, that worker's other settings.",
    epilog="Exit status: 0 done, 1 it was refused, or some replays failed or were given up, 2 wrong usage or settings, "
    "3 the database is away, 4 it goes on without this command.",
)

Token = Annotated[str, typer.Argument(metavar="TOKEN", help="The plan's token.")]
OperationId = Annotated[UUID, typer.Argument(metavar="OPERATION", help="The operation's id.")]
Execute = Annotated[
    str | None, typer.Option("--execute", metavar="TOKEN", help="Execute the plan with this token.")
]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until every outcome is known.")]
WhyPlanned = Annotated[str, typer.Option("--why", metavar="TEXT", help="Reason for the audit log.")]


# Looking


@app.command("list")
def list_(
    *,
    state: State = None,
    reason: Reason = None,
    source: Source = None,
    type_: Type = None,
    serial: Serial = None,
    user: OfUser = None,
    gateway_ref: GatewayRef = None,
    order_id: OrderId = None,
    ids: Ids = None,
    since: Arrived = None,
    until: ArrivedBefore = None,
    after: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Continue after this letter (shows older ones).")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="Rows per page.")] = 50,
    every: Annotated[bool, typer.Option("--all", help="Show all pages.")] = False,
    who: As = None,
    as_json: Json = None,
) -> None:
    """List letters, newest first. --all --json prints one line per page.

    Example: wallet dlq list --state waiting --reason AMOUNT_MISMATCH
    """
    which = filtered(
        state,
        reason,
        source,
        type_,
        serial,
        user,
        ids,
        since,
        until,
        gateway_ref=gateway_ref,
        order_id=order_id,
    )

    async def work(operations: "DeadLetterDesk", actor: Actor) -> int | None:
        following = after
        while True:
            page = await operations.letters(actor, which, after=following, limit=limit)
            if terminal.wants_json(as_json):
                terminal.tell_json(showing.document(page))
            else:
                showing.tell_letters(page.letters)
            following = page.next_after
            if following is None or not every:
                return following

    following = ask(who, work)
    if following is not None:
        terminal.print_status(f"there is more: --after {following}, or --all")


@app.command()
def groups(
    *,
    state: State = None,
    reason: Reason = None,
    source: Source = None,
    type_: Type = None,
    serial: Serial = None,
    user: OfUser = None,
    gateway_ref: GatewayRef = None,
    order_id: OrderId = None,
    since: Arrived = None,
    until: ArrivedBefore = None,
    hours: Annotated[int, typer.Option(min=1, max=24 * 366, help="Hours that the chart shows.")] = 24,
    who: As = None,
    as_json: Json = None,
) -> None:
    """Count letters by reason and source, with a chart of arrivals.

    Example: wallet dlq groups --state waiting
    """
    which = filtered(
        state,
        reason,
        source,
        type_,
        serial,
        user,
        None,
        since,
        until,
        gateway_ref=gateway_ref,
        order_id=order_id,
    )
    found = ask(
        who,
        lambda operations, actor: operations.groups(actor, which, span=timedelta(hours=hours), buckets=24),
    )
    if terminal.wants_json(as_json):
        terminal.tell_json({"groups": showing.document(found)})
    else:
        showing.tell_groups(found)


@app.command()
def status(*, who: As = None, as_json: Json = None) -> None:
    """Show counts, ages, keepers and running operations.

    Example: wallet dlq status
    """
    found = ask(who, lambda operations, actor: operations.overview(actor))
    if terminal.wants_json(as_json):
        terminal.tell_json(showing.document(found))
    else:
        showing.tell_overview(found)


@app.command()
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
    found = ask(who, lambda operations, actor: operations.letter(actor, number), predicts=True)
    if body is not None:
        content = ask(who, lambda operations, actor: operations.payload(actor, number))
        try:
            body.write_bytes(content)
        except OSError as exc:
            exits.end(Exit.MISUSED, f"{body} cannot be written: {exc.strerror}")
    if terminal.wants_json(as_json):
        terminal.tell_json(showing.document(found))
    else:
        showing.tell_letter(found)


@app.command()
def export(
    *,
    state: State = None,
    reason: Reason = None,
    source: Source = None,
    type_: Type = None,
    serial: Serial = None,
    user: OfUser = None,
    gateway_ref: GatewayRef = None,
    order_id: OrderId = None,
    ids: Ids = None,
    since: Arrived = None,
    until: ArrivedBefore = None,
    who: As = None,
) -> None:
    """Write all matching letters as JSON lines, payloads in base64.

    Example: wallet dlq export --reason INTERNAL > letters.jsonl
    """
    which = filtered(
        state,
        reason,
        source,
        type_,
        serial,
        user,
        ids,
        since,
        until,
        gateway_ref=gateway_ref,
        order_id=order_id,
    )

    async def work(operations: "DeadLetterDesk", actor: Actor) -> None:
        async for one in operations.export(actor, which):
            terminal.tell_json(showing.document(one))

    ask(who, work)


@app.command()
def audit(
    *,
    of: Annotated[
        str | None, typer.Option("--of", metavar="NAME", help="Only actions of this person.")
    ] = None,
    action: Annotated[str | None, typer.Option(help="Only this action, such as 'execute replay'.")] = None,
    letter: Annotated[int | None, typer.Option(metavar="NUMBER", help="Only actions on this letter.")] = None,
    operation: Annotated[
        UUID | None, typer.Option(metavar="OPERATION", help="Only actions of this operation.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Only from this time on.")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Only before this time.")] = None,
    after: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Continue after this row (shows older ones).")
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
                terminal.tell_json(showing.document(row))
            return None
        page = await operations.audit(actor, which, after=after, limit=limit)
        if terminal.wants_json(as_json):
            terminal.tell_json(showing.document(page))
        else:
            showing.tell_audit(page.rows)
        return page.next_after

    following = ask(who, work)
    if following is not None:
        terminal.print_status(f"there is more: --after {following}")


@app.command()
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
    lines = [one for each in ([reason.upper()] if reason else REASONS) for one in book.lines(each)]
    lines += book.common() if reason is None else []
    if terminal.wants_json(as_json):
        terminal.tell_json({"runbook": showing.document(lines)})
    else:
        showing.tell_runbook(lines)


# Planning and doing


@app.command()
def plan(
    token: Annotated[
        str | None, typer.Argument(metavar="TOKEN", help="A plan's token. Default: all plans.")
    ] = None,
    *,
    awaiting: Annotated[bool, typer.Option("--awaiting", help="Only plans that await approval.")] = False,
    who: As = None,
    as_json: Json = None,
) -> None:
    """Show a plan, or all plans that can still be executed.

    Example: wallet dlq plan --awaiting
    """

    async def work(operations: "DeadLetterDesk", actor: Actor) -> Sequence[Plan]:
        if token is not None:
            return [await operations.plan_of(actor, token)]
        return await operations.plans(actor, awaiting_approval=awaiting)

    for one in ask(who, work):
        _tell_plan(one, as_json=as_json)


@app.command()
def replay(
    *,
    execute: Execute = None,
    state: State = None,
    reason: Reason = None,
    source: Source = None,
    type_: Type = None,
    serial: Serial = None,
    user: OfUser = None,
    gateway_ref: GatewayRef = None,
    order_id: OrderId = None,
    ids: Ids = None,
    since: Arrived = None,
    until: ArrivedBefore = None,
    seen_up_to: SeenUpTo = None,
    why: WhyPlanned = "",
    canary: Annotated[
        int, typer.Option(min=0, help="Replay this many first; continue only if all succeed.")
    ] = 0,
    rate: Annotated[float, typer.Option(min=0.01, max=10_000, help="At most this many per second.")] = 50.0,
    stop_at: Annotated[
        float, typer.Option(min=0.001, max=1, help="Stop if more than this share of the outcomes fails.")
    ] = 0.2,
    wait: Wait = True,
    who: As = None,
    as_json: Json = None,
) -> None:
    """Plan a replay, or execute a plan. A keeper does the work, also if this command is interrupted.

    Exit status: 0 if all succeeded, 1 if some failed or were given up, or if the operation was stopped or refused,
    4 if it continues without this command.

    Example: wallet dlq replay --reason INTERNAL --canary 5 --why "mended in 1.4.2"
    """
    which = filtered(
        state,
        reason,
        source,
        type_,
        serial,
        user,
        ids,
        since,
        until,
        seen_up_to,
        gateway_ref=gateway_ref,
        order_id=order_id,
    )
    pace = ReplayPace(canary, rate, stop_at)
    _plan_or_do(Action.REPLAY, execute, which, why, pace, wait=wait, who=who, as_json=as_json)


@app.command()
def discard(
    *,
    execute: Execute = None,
    state: State = None,
    reason: Reason = None,
    source: Source = None,
    type_: Type = None,
    serial: Serial = None,
    user: OfUser = None,
    gateway_ref: GatewayRef = None,
    order_id: OrderId = None,
    ids: Ids = None,
    since: Arrived = None,
    until: ArrivedBefore = None,
    seen_up_to: SeenUpTo = None,
    why: WhyPlanned = "",
    who: As = None,
    as_json: Json = None,
) -> None:
    """Plan or execute a discard. Discarded letters are kept and can be restored.

    Example: wallet dlq discard --ids 17 --why "paid back by the gateway, ref 90211"
    """
    which = filtered(
        state,
        reason,
        source,
        type_,
        serial,
        user,
        ids,
        since,
        until,
        seen_up_to,
        gateway_ref=gateway_ref,
        order_id=order_id,
    )
    _plan_or_do(Action.DISCARD, execute, which, why, None, wait=True, who=who, as_json=as_json)


@app.command()
def restore(
    *,
    execute: Execute = None,
    state: State = None,
    reason: Reason = None,
    source: Source = None,
    type_: Type = None,
    serial: Serial = None,
    user: OfUser = None,
    gateway_ref: GatewayRef = None,
    order_id: OrderId = None,
    ids: Ids = None,
    since: Arrived = None,
    until: ArrivedBefore = None,
    seen_up_to: SeenUpTo = None,
    why: WhyPlanned = "",
    who: As = None,
    as_json: Json = None,
) -> None:
    """Plan or execute a restore: letters wait again.

    Restores discarded letters, and letters whose replay or edit has had no outcome for 15 minutes. --state discarded,
    replaying or edited narrows it.

    Example: wallet dlq restore --state discarded --reason INTERNAL --why "the gateway has not paid them back"
    """
    which = filtered(
        state,
        reason,
        source,
        type_,
        serial,
        user,
        ids,
        since,
        until,
        seen_up_to,
        gateway_ref=gateway_ref,
        order_id=order_id,
    )
    _plan_or_do(Action.RESTORE, execute, which, why, None, wait=True, who=who, as_json=as_json)


@app.command()
def edit(
    number: Annotated[
        int | None, typer.Argument(metavar="NUMBER", min=1, help="The letter's number.")
    ] = None,
    *,
    body: Annotated[
        Path | None, typer.Option("--body", metavar="FILE", help="The new message; - for standard input.")
    ] = None,
    execute: Execute = None,
    why: WhyPlanned = "",
    wait: Wait = True,
    who: As = None,
    as_json: Json = None,
) -> None:
    """Plan or execute an edit: a new message, with a new serial number, replaces a letter.

    A second person must approve.

    Example: wallet dlq edit 17 --body mended.json --why "the sender's amount had three digits"
    """
    if execute is not None:
        _do(Action.EDIT, execute, wait=wait, who=who, as_json=as_json)
        return
    if number is None or body is None:
        exits.end(Exit.MISUSED, "an edit needs the letter's number and --body FILE, or --execute TOKEN")
    try:
        content = sys.stdin.buffer.read() if str(body) == "-" else body.read_bytes()
    except OSError as exc:
        exits.end(Exit.MISUSED, f"{body} cannot be read: {exc.strerror}")
    made = ask(who, lambda operations, actor: operations.plan_edit(actor, number, content, reason=why))
    _tell_plan(made, as_json=as_json)


@app.command()
def approve(token: Token, *, why: Why, who: As = None, as_json: Json = None) -> None:
    """Approve another person's plan.

    Works under your own login's name only, and WALLET_DLQ_ROLES must make that name an approver. Otherwise use the
    console.

    Example: wallet dlq approve 18dbc249d246 --why "looked at five of them"
    """
    agreed = ask(
        who,
        lambda operations, actor: operations.approve(actor, token, reason=why),
        predicts=True,
        in_person=True,
    )
    _tell_plan(agreed, as_json=as_json)


@app.command()
def note(
    number: Number,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The note.")],
    *,
    who: As = None,
    as_json: Json = None,
) -> None:
    """Add a note to a letter.

    Example: wallet dlq note 17 "asked the gateway, ticket 4711"
    """
    row = ask(who, lambda operations, actor: operations.note(actor, number, text))
    if terminal.wants_json(as_json):
        terminal.tell_json(showing.document(row))
    else:
        showing.tell_audit([row])


# Operations


@app.command()
def operations(
    *,
    limit: Annotated[int, typer.Option(min=1, max=500, help="Rows to show.")] = 50,
    who: As = None,
    as_json: Json = None,
) -> None:
    """List operations, newest first.

    Example: wallet dlq operations
    """
    found = ask(who, lambda desk, actor: desk.operations(actor, limit=limit))
    if terminal.wants_json(as_json):
        terminal.tell_json({"operations": showing.document(found)})
    else:
        showing.tell_operations(found)


@app.command()
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
    _end_with(_watched(who, operation, wait=wait), as_json=as_json)


@app.command()
def pause(operation: OperationId, *, why: Why, who: As = None, as_json: Json = None) -> None:
    """Pause a replay: nothing more is published until it is resumed.

    Example: wallet dlq pause 019b7d4c-6f2e-7c3a-9d41-52c0e4a7b913 --why "the gateway is slow"
    """
    _steer(who, lambda desk, actor: desk.pause(actor, operation, reason=why), as_json=as_json)


@app.command()
def resume(operation: OperationId, *, why: Why, who: As = None, as_json: Json = None) -> None:
    """Resume a paused replay.

    Example: wallet dlq resume 019b7d4c-6f2e-7c3a-9d41-52c0e4a7b913 --why "it is fast again"
    """
    _steer(who, lambda desk, actor: desk.resume(actor, operation, reason=why), as_json=as_json)


@app.command()
def stop(operation: OperationId, *, why: Why, who: As = None, as_json: Json = None) -> None:
    """Stop a replay: letters that were not published wait again.

    Example: wallet dlq stop 019b7d4c-6f2e-7c3a-9d41-52c0e4a7b913 --why "the wrong group"
    """
    _steer(who, lambda desk, actor: desk.stop(actor, operation, reason=why), as_json=as_json)


def _plan_or_do(
    action: Action,
    token: str | None,
    which: Filter,
    why: str,
    pace: ReplayPace | None,
    *,
    wait: bool,
    who: str | None,
    as_json: bool | None,
) -> None:
    if token is not None:
        _do(action, token, wait=wait, who=who, as_json=as_json)
        return
    made = ask(who, lambda desk, actor: desk.plan(actor, action, which, reason=why, pace=pace), predicts=True)
    _tell_plan(made, as_json=as_json)


def _do(action: Action, token: str, *, wait: bool, who: str | None, as_json: bool | None) -> None:
    """Execute a plan, and stay until its end if wanted."""
    from wallet_worker.store.errors import UnavailableError

    async def work(desk: "DeadLetterDesk", actor: Actor) -> Operation:
        made = await desk.plan_of(actor, token)
        if made.action is not action:
            exits.end(
                Exit.MISUSED, f"{token} is the plan of a {made.action.value}, and not of a {action.value}"
            )
        try:
            return await desk.execute(actor, token)
        except UnavailableError as exc:  # at its commit perhaps
            again = f"execute {token} again: it is done once"
            exits.end(
                Exit.UNKNOWN, f"nobody knows whether it was done; {again}. The database cannot be used: {exc}"
            )

    begun = ask(who, work, predicts=True)
    terminal.print_status(f"operation {begun.operation_id}")
    ended = _watched(who, begun.operation_id, wait=wait, is_ours=True) if begun.ended_at is None else begun
    _end_with(ended, as_json=as_json)


def _end_with(one: Operation, *, as_json: bool | None) -> None:
    """Show an operation, and end the command with the status that it has."""
    _tell_operation(one, as_json=as_json)
    status = _status_of(one)
    if status is not Exit.DONE:
        raise typer.Exit(status)


def _status_of(one: Operation) -> Exit:
    """Return the exit status that says where an operation stands, whichever command shows it."""
    match one.state:
        case OperationState.STOPPED:
            return Exit.FOUND
        case OperationState.DONE:
            return Exit.FOUND if one.failed or one.cancelled else Exit.DONE
        case OperationState.RUNNING | OperationState.PAUSED:
            return Exit.UNKNOWN


def _steer(
    who: str | None, work: "Callable[[DeadLetterDesk, Actor], Awaitable[Operation]]", *, as_json: bool | None
) -> None:
    _tell_operation(ask(who, work), as_json=as_json)


def _watched(who: str | None, operation_id: UUID, *, wait: bool, is_ours: bool = False) -> Operation:
    """Return an operation, when it has ended or nobody goes on with it if that is waited for.

    `is_ours`: this command has begun it, so that it cannot end as if nothing was done.
    """
    try:
        return ask(who, lambda desk, actor: _watch(desk, actor, operation_id, wait=wait))
    except (KeyboardInterrupt, typer.Exit) as exc:
        if isinstance(exc, typer.Exit) and not (is_ours and exc.exit_code == Exit.UNAVAILABLE):
            raise
        exits.end(Exit.UNKNOWN, f"it goes on without you: wallet dlq progress {operation_id}")


async def _watch(desk: "DeadLetterDesk", actor: Actor, operation_id: UUID, *, wait: bool) -> Operation:
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
        said = ""
        while True:
            one = await desk.operation(actor, operation_id)
            bar.update(task, completed=one.finished, total=one.total)
            if not wait or one.ended_at is not None or one.state is OperationState.PAUSED:
                return one
            standing = await _standing(desk, actor, one)
            if standing != said:
                terminal.print_status(standing)
                said = standing
            await asyncio.sleep(WATCH_SECONDS)


async def _standing(desk: "DeadLetterDesk", actor: Actor, one: Operation) -> str:
    """Return where an operation stands; if no keeper is there to go on with it, that."""
    seen = (await desk.overview(actor)).keeper_seen
    if seen is None or datetime.now(UTC) - seen > KEEPER_SILENT:
        return "nobody goes on with it: no keeper is at work. Start a worker, or `wallet keeper`"
    return one.standing


def _tell_plan(one: Plan, *, as_json: bool | None) -> None:
    if terminal.wants_json(as_json):
        terminal.tell_json(showing.document(one))
    else:
        showing.tell_plan(one)


def _tell_operation(one: Operation, *, as_json: bool | None) -> None:
    if terminal.wants_json(as_json):
        terminal.tell_json(showing.document(one))
    else:
        showing.tell_operation(one)
