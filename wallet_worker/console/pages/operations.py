"""Operations: what was executed, how far it is, and holding, going on with or ending it."""

from uuid import UUID

from starlette.responses import Response

from wallet_worker.console import labels
from wallet_worker.console.request import Form, PageContext, result_or_error
from wallet_worker.dead_letters.model.errors import NotFoundError
from wallet_worker.dead_letters.model.plans import Operation
from wallet_worker.dead_letters.model.states import Action, OperationState


async def operations(visit: PageContext) -> Response:
    """Show them, newest first."""
    return visit.show("operations.html", operations=await visit.parts.operations.operations(visit.actor))


async def operation(visit: PageContext) -> Response:
    """Show how far one is."""
    shown = await visit.parts.operations.operation(visit.actor, _id(visit))
    return visit.show(
        "operation.html",
        operation=shown,
        edited=await _edited(visit, shown),
        verb=labels.ACTIONS[shown.action][0],
        target=labels.target(shown.filter, shown.action),
        Action=Action,
        OperationState=OperationState,
    )


async def _edited(visit: PageContext, shown: Operation) -> tuple[int, str | None] | None:
    """Return the letter of an edit, and the serial number of the message that was sent in its place."""
    if shown.action is not Action.EDIT or len(shown.filter.ids) != 1:
        return None
    (letter_id,) = shown.filter.ids
    detail, _ = await result_or_error(visit.parts.operations.letter(visit.actor, letter_id))
    sent = (
        [replay.serial_no for replay in detail.replays if replay.operation_id == shown.operation_id]
        if detail
        else []
    )
    return letter_id, sent[0] if sent else None


async def pause(visit: PageContext, form: Form) -> Response:
    """Hold it."""
    shown = await visit.parts.operations.pause(visit.actor, _id(visit), reason=form.get("why"))
    return visit.go(f"/operations/{shown.operation_id}", "Paused: nothing more of it is published for now.")


async def resume(visit: PageContext, form: Form) -> Response:
    """Go on with it."""
    shown = await visit.parts.operations.resume(visit.actor, _id(visit), reason=form.get("why"))
    return visit.go(f"/operations/{shown.operation_id}", "It goes on.")


async def stop(visit: PageContext, form: Form) -> Response:
    """End it."""
    shown = await visit.parts.operations.stop(visit.actor, _id(visit), reason=form.get("why"))
    return visit.go(f"/operations/{shown.operation_id}", "Stopped: what was not published waits again.")


def _id(visit: PageContext) -> UUID:
    try:
        return UUID(visit.request.path_params["operation_id"])
    except ValueError:
        msg = "There is no operation of this number."
        raise NotFoundError(msg) from None
