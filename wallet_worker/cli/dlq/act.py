"""`wallet dlq`: commands that plan, approve and execute, and notes."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wallet_schemas.values import INTEGER_MAX
from wallet_worker.cli import exits, terminal
from wallet_worker.cli import operator_keys as keys
from wallet_worker.cli.dlq import tables
from wallet_worker.cli.dlq.options import (
    As,
    Number,
    Why,
    ask,
    with_filter,
)
from wallet_worker.cli.dlq.runs import end_with, watched
from wallet_worker.cli.exits import Exit
from wallet_worker.cli.options import Json
from wallet_worker.dead_letters.model.actors import Actor
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.plans import Operation, Plan, ReplayPace
from wallet_worker.dead_letters.model.states import Action

if TYPE_CHECKING:
    from wallet_worker.dead_letters.model.signing import ToSign
    from wallet_worker.dead_letters.operations import DeadLetterDesk

KeyFile = Annotated[
    Path, typer.Option("--key", metavar="FILE", help="Your key, as `wallet operators key make` wrote it.")
]
FromStdin = Annotated[
    bool, typer.Option("--passphrase-stdin", help="Read the key's passphrase from standard input.")
]
Token = Annotated[str, typer.Argument(metavar="TOKEN", help="The plan's token.")]
Execute = Annotated[
    str | None, typer.Option("--execute", metavar="TOKEN", help="Execute the plan with this token.")
]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until every outcome is known.")]
_PLANS = "`wallet dlq plan` shows the plans that there are"
WhyPlanned = Annotated[str, typer.Option("--why", metavar="TEXT", help="Reason for the audit log.")]


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

    made_plan = ask(who, work)
    for planned in made_plan:
        _print_plan(planned, as_json=as_json)
    if not made_plan:
        terminal.print_status("no plan can be executed now")


@with_filter(seen_up_to=True)
def replay(
    *,
    execute: Execute = None,
    which: Filter,
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
    pace = ReplayPace(canary, rate, stop_at)
    _plan_or_do(Action.REPLAY, execute, which, why, pace, wait=wait, who=who, as_json=as_json)


@with_filter(seen_up_to=True)
def discard(
    *,
    execute: Execute = None,
    which: Filter,
    why: WhyPlanned = "",
    who: As = None,
    as_json: Json = None,
) -> None:
    """Plan or execute a discard. Discarded letters are kept and can be restored.

    Example: wallet dlq discard --ids 17 --why "paid back by the gateway, ref 90211"
    """
    _plan_or_do(Action.DISCARD, execute, which, why, None, wait=True, who=who, as_json=as_json)


@with_filter(seen_up_to=True)
def restore(
    *,
    execute: Execute = None,
    which: Filter,
    why: WhyPlanned = "",
    who: As = None,
    as_json: Json = None,
) -> None:
    """Plan or execute a restore: letters wait again.

    Restores discarded letters, and letters whose replay or edit has had no outcome for 15 minutes. --state discarded,
    replaying or edited narrows it.

    Example: wallet dlq restore --state discarded --reason INTERNAL --why "the gateway has not paid them back"
    """
    _plan_or_do(Action.RESTORE, execute, which, why, None, wait=True, who=who, as_json=as_json)


def edit(
    number: Annotated[
        int | None, typer.Argument(metavar="NUMBER", min=1, max=INTEGER_MAX, help="The letter's number.")
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

    You sign the plan (`wallet dlq sign`), and a second person must approve it.

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
    planned = ask(
        who,
        lambda operations, actor: operations.plan_edit(actor, number, content, reason=why),
        ask_again=_PLANS,
    )
    _print_plan(planned, as_json=as_json)


def sign(
    token: Token,
    *,
    key: KeyFile,
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="Reason. Default: the plan's own.")] = "",
    who: As = None,
    passphrase_stdin: FromStdin = False,
    as_json: Json = None,
) -> None:
    """Sign your own plan, so that a second person can approve it. Needed for plans that need two people.

    Example: wallet dlq sign 18dbc249d246 --key ann.key
    """
    _sign(token, key, why, who, is_own=True, passphrase_stdin=passphrase_stdin, as_json=as_json)


def approve(
    token: Token,
    *,
    key: KeyFile,
    why: Why,
    who: As = None,
    passphrase_stdin: FromStdin = False,
    as_json: Json = None,
) -> None:
    """Approve another person's plan, with your own key.

    Shows the plan, then asks for the passphrase of the key. The database must know the key, and its owner as an
    approver (`wallet operators list`). Without a key file, approve in the console with a passkey.

    Example: wallet dlq approve 18dbc249d246 --key bob.key --why "looked at five of them"
    """
    _sign(token, key, why, who, is_own=False, passphrase_stdin=passphrase_stdin, as_json=as_json)


def _sign(
    token: str,
    key: Path,
    why: str,
    who: str | None,
    *,
    is_own: bool,
    passphrase_stdin: bool,
    as_json: bool | None,
) -> None:
    """Show a plan, and store a person's signature of exactly that; the key says whose."""
    from wallet_worker.core.proofs import ProofPurpose
    from wallet_worker.dead_letters.model.signing import Signature

    who = who or keys.owner_of(key)

    async def seen(desk: "DeadLetterDesk", actor: Actor) -> "tuple[Plan, ToSign]":
        return await desk.plan_of(actor, token), await desk.to_sign(actor, token)

    planned, to_sign = ask(who, seen)
    if (to_sign.statement.purpose is ProofPurpose.REQUEST) is not is_own:
        exits.end(
            Exit.FOUND,
            f"the plan is {planned.made_by}'s own: another person approves it, and {planned.made_by} signs it"
            if not is_own
            else f"{planned.made_by} has made this plan and signs it; you can approve it",
        )
    if not terminal.wants_json(as_json):
        tables.print_plan(planned)
    opened = keys.opened(key, from_stdin=passphrase_stdin)
    signature = Signature(opened.key_id, to_sign.statement.at, opened.sign(to_sign.statement.text))
    agreed = ask(
        who,
        lambda operations, actor: operations.sign(actor, token, signature, reason=why or planned.reason),
        predicts=True,
        ask_again=_PLANS,
    )
    _print_plan(agreed, as_json=as_json)


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
        terminal.print_json(tables.document(row))
    else:
        tables.print_audit([row])


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
    planned = ask(
        who,
        lambda desk, actor: desk.plan(actor, action, which, reason=why, pace=pace),
        predicts=True,
        ask_again=_PLANS,
    )
    _print_plan(planned, as_json=as_json)


def _do(action: Action, token: str, *, wait: bool, who: str | None, as_json: bool | None) -> None:
    """Execute a plan, and stay until its end if wanted."""

    async def work(desk: "DeadLetterDesk", actor: Actor) -> Operation:
        planned = await desk.plan_of(actor, token)
        if planned.action is not action:
            exits.end(
                Exit.MISUSED, f"{token} is the plan of a {planned.action.value}, and not of a {action.value}"
            )
        return await desk.execute(actor, token)

    begun = ask(who, work, predicts=True, ask_again=f"execute {token} again, which is done once")
    terminal.print_status(f"operation {begun.operation_id}")
    ended = watched(who, begun.operation_id, wait=wait, is_ours=True) if begun.ended_at is None else begun
    end_with(ended, as_json=as_json)


def _print_plan(plan: Plan, *, as_json: bool | None) -> None:
    if terminal.wants_json(as_json):
        terminal.print_json(tables.document(plan))
    else:
        tables.print_plan(plan)
