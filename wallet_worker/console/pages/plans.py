"""Plans: what would be done to exactly which letters, a second person's yes, and doing it."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType

from starlette.responses import Response

from wallet_schemas.names import WALLET_COMMANDS
from wallet_worker.console import labels, query_params, untrusted_text
from wallet_worker.console.request import Form, PageContext, letter_id
from wallet_worker.console.security import passkeys
from wallet_worker.core.proofs import ProofAlgorithm
from wallet_worker.dead_letters import masking
from wallet_worker.dead_letters.model.errors import (
    ApprovalNeededError,
    InvalidEditError,
    NotAllowedError,
    NotPossibleError,
    StaleError,
)
from wallet_worker.dead_letters.model.plans import Operation, Plan, ReplayPace
from wallet_worker.dead_letters.model.signing import Signature
from wallet_worker.dead_letters.model.states import Action, LetterState, PlanState
from wallet_worker.settings.operators import Role

CANARY_MAX = 1_000_000  # more than any plan has letters

# What an action is for, where the filter does not say. An edit is planned on its letter's own page.
_STATES: Mapping[Action, tuple[LetterState, ...]] = MappingProxyType(
    {
        Action.REPLAY: (LetterState.WAITING,),
        Action.DISCARD: (LetterState.WAITING,),
        Action.RESTORE: (LetterState.DISCARDED,),
    }
)


async def plans(visit: PageContext) -> Response:
    """Show the plans that can still be executed."""
    return visit.show("plans.html", plans=await visit.parts.operations.plans(visit.actor))


async def new(visit: PageContext) -> Response:
    """Show the form for a plan of the letters that the query string names."""
    return await _form(visit, visit.params, None, 200)


async def make(visit: PageContext, form: Form) -> Response:
    """Plan, and show what would be done. Nothing is done."""
    fields = dict(form.items())
    try:
        action = _action(fields)
        which = query_params.letters(fields)
        pace = _pace(fields) if action is Action.REPLAY else None
    except ValueError as exc:
        return await _form(visit, fields, f"{exc}.", 400)
    try:
        plan = await visit.parts.operations.plan(
            visit.actor, action, which, reason=fields.get("why", ""), pace=pace
        )
    except NotPossibleError as exc:
        return await _form(visit, fields, str(exc), 409)
    return visit.go(f"/plans/{plan.token}")


async def edit(visit: PageContext) -> Response:
    """Show the form that makes a new message in a letter's place."""
    _want(visit, Role.OPERATOR, "A viewer cannot edit: ask an operator.")
    detail = await visit.parts.operations.letter(visit.actor, letter_id(visit))
    line = detail.whole.line
    if line.source != WALLET_COMMANDS:
        msg = (
            f"letter {line.letter_id} came from {line.source}: only commands can be edited, because nobody but the "
            "gateway can sign a payment result"
        )
        raise NotPossibleError(msg)
    body = untrusted_text.editable(detail.whole.pretty, detail.whole.body or b"")
    return visit.show(
        "edit.html", letter=detail, line=detail.whole.line, body=body, reason="", fault=None, faults=()
    )


async def make_edit(visit: PageContext, form: Form) -> Response:
    """Plan the new message, or show what is wrong with it."""
    number = letter_id(visit)
    # Browsers send line ends as CRLF, whatever stood there.
    body = form.get("body").replace("\r\n", "\n")
    try:
        plan = await visit.parts.operations.plan_edit(
            visit.actor, number, body.encode(errors="surrogatepass"), reason=form.get("why")
        )
    except (InvalidEditError, NotPossibleError) as exc:
        detail = await visit.parts.operations.letter(visit.actor, number)
        return visit.show(
            "edit.html",
            422,
            letter=detail,
            line=detail.whole.line,
            body=body,
            reason=form.get("why"),
            fault=str(exc),
            faults=exc.faults if isinstance(exc, InvalidEditError) else (),
        )
    return visit.go(f"/plans/{plan.token}")


async def plan(visit: PageContext) -> Response:
    """Show a plan, with what its reader may do with it."""
    return await _show(visit, await visit.parts.operations.plan_of(visit.actor, _token(visit)))


async def _show(visit: PageContext, shown: Plan, fault: str | None = None, status: int = 200) -> Response:
    return visit.show(
        "plan.html",
        status,
        plan=shown,
        verb=labels.ACTIONS[shown.action][0],
        meaning=labels.ACTIONS[shown.action][1],
        target=labels.target(shown.filter, shown.action),
        is_hopeless=shown.is_hopeless,
        is_mine=shown.made_by == visit.user.name,
        signing=await _signing(visit, shown),
        fault=fault,
        PlanState=PlanState,
        Action=Action,
        edited=None
        if shown.edited_body is None
        else untrusted_text.editable(
            masking.pretty(shown.edited_body, mask=visit.is_viewer), shown.edited_body
        ),
    )


async def _signing(visit: PageContext, shown: Plan) -> Mapping[str, object] | None:
    """Return what the reader signs a plan with; None where it is not the reader's turn."""
    is_mine = shown.made_by == visit.user.name
    turns = {PlanState.NEEDS_SIGNATURE: is_mine, PlanState.NEEDS_APPROVAL: not is_mine}
    if not turns.get(shown.state, False) or not visit.can(Role.OPERATOR if is_mine else Role.APPROVER):
        return None
    to_sign = await visit.parts.operations.to_sign(visit.actor, shown.token)
    if not visit.can(to_sign.role):
        return None
    origin = visit.parts.origin.of(visit.request.headers.get("host", ""))
    usable = [
        key for key in to_sign.keys if key.algorithm is ProofAlgorithm.WEBAUTHN and key.origin == origin
    ]
    return {
        "at": to_sign.statement.at.isoformat(),
        "options": passkeys.signing_options(to_sign.statement, usable) if usable else None,
        "has_file": any(key.algorithm is ProofAlgorithm.ED25519 for key in to_sign.keys),
        "has_key": bool(to_sign.keys),
    }


async def sign(visit: PageContext, form: Form) -> Response:
    """Store the reader's signature: of whoever made the plan, or of the second person."""
    token = _token(visit)
    to_sign = await visit.parts.operations.to_sign(visit.actor, token)
    try:
        credential_id = passkeys.credential_of(form.get("proof"))
        at = datetime.fromisoformat(form.get("at"))
        key = next(key for key in to_sign.keys if key.credential_id == credential_id)
    except (ValueError, StopIteration):
        msg = "this needs your passkey, and the browser sent no answer of one that the wallet knows as yours"
        raise NotAllowedError(msg) from None
    if at.tzinfo is None:
        msg = "the form has gone stale: open the plan again"
        raise StaleError(msg)
    signature = Signature(key.key_id, at, form.get("proof").encode())
    shown = await visit.parts.operations.sign(
        visit.actor, token, signature, reason=form.get("why") or _OWN_REASON
    )
    if shown.made_by == visit.user.name:
        return visit.go(f"/plans/{shown.token}", "You have signed it. Another person has to approve it now.")
    return visit.go(f"/plans/{shown.token}", f"You have approved it; {shown.made_by} was waiting for that.")


_OWN_REASON = "my own plan"


async def execute(visit: PageContext, _: Form) -> Response:
    """Do what was planned, once, and show how far it is."""
    try:
        operation = await visit.parts.operations.execute(visit.actor, _token(visit))
    except (StaleError, ApprovalNeededError) as exc:
        shown = await visit.parts.operations.plan_of(visit.actor, _token(visit))
        return await _show(visit, shown, str(exc), 409)
    return visit.go(f"/operations/{operation.operation_id}", _done(operation))


def _done(operation: Operation) -> str:
    letters = f"{operation.total} letter{'' if operation.total == 1 else 's'}"
    match operation.action:
        case Action.REPLAY:
            return f"The replay of {letters} is written down. A keeper carries it out, also if you leave this page."
        case Action.EDIT:
            return "The new message is written down. A keeper sends it, also if you leave this page."
        case Action.DISCARD:
            return f"{letters} discarded. They are kept, and can be restored."
        case Action.RESTORE:
            return f"{letters} restored: they wait again."


async def _form(visit: PageContext, fields: Mapping[str, str], fault: str | None, status: int) -> Response:
    _want(visit, Role.OPERATOR, "A viewer looks and does nothing: ask an operator to plan this.")
    try:
        action = _action(fields)
        which = query_params.letters(fields)
    except ValueError as exc:
        return visit.refuse(400, "This cannot be planned", f"{exc}.")
    if not which.states and not which.ids:
        which = replace(which, states=_STATES[action])
    count = await visit.parts.operations.count(visit.actor, which)
    return visit.show(
        "plan_new.html",
        status,
        action=action,
        verb=labels.ACTIONS[action][0],
        meaning=labels.ACTIONS[action][1],
        which=which,
        query=which.to_query(),
        target=labels.target(which, action),
        total=count,
        pace=ReplayPace(),
        fields=fields,
        limits=visit.parts.operations.limits,
        fault=fault,
        Action=Action,
    )


def _action(fields: Mapping[str, str]) -> Action:
    """Return which action is asked for; raises ValueError."""
    for action in _STATES:
        if fields.get("action", "replay") == action.value:
            return action
    msg = "what can be planned is a replay, a discard or a restore"
    raise ValueError(msg)


def _pace(fields: Mapping[str, str]) -> ReplayPace:
    """Return how a replay is to go about it; raises ValueError."""
    usual = ReplayPace()
    try:
        canary = query_params.number(fields.get("canary"))
        return ReplayPace(
            canary=usual.canary if canary is None else min(canary, CANARY_MAX),
            rate_per_second=float(fields.get("rate") or usual.rate_per_second),
            stop_ratio=float(fields.get("stop_percent") or usual.stop_ratio * 100) / 100,
        )
    except ValueError:
        msg = "the canary, the rate and the ratio are numbers"
        raise ValueError(msg) from None


def _want(visit: PageContext, role: Role, sentence: str) -> None:
    """Raise NotAllowedError for those whose role is below; the operations refuse them too, only later."""
    if not visit.can(role):
        raise NotAllowedError(sentence)


def _token(visit: PageContext) -> str:
    return str(visit.request.path_params["token"])
