"""What the pages call things: one word for each state, verdict and action, never a colour alone."""

from collections.abc import Mapping
from enum import Enum

from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.letters import Group
from wallet_worker.dead_letters.model.plans import Operation
from wallet_worker.dead_letters.model.predictions import PredictedOutcome
from wallet_worker.dead_letters.model.states import ACTS_ON, Action, OperationState

TARGET_IDS_MAX = 12

_FIELDS: Mapping[str, str] = {
    "states": "state",
    "reason": "reason",
    "source": "source",
    "message_type": "type",
    "serial_no": "serial number",
    "user_id": "user",
    "since": "arrived since",
    "until": "arrived before",
    "ids": "numbers",
    "seen_up_to": "no newer than letter",
    "gateway_ref": "gateway's reference",
    "order_id": "order",
}

ACTIONS: Mapping[Action, tuple[str, str]] = {
    Action.REPLAY: ("Replay", "sends each letter again, byte for byte, to where it was published first"),
    Action.DISCARD: (
        "Discard",
        "sets letters aside for good reasons: nothing is sent, they are kept and can be restored",
    ),
    Action.RESTORE: (
        "Restore",
        "has letters wait again that were discarded, or are replaying or edited without an outcome for long",
    ),
    Action.EDIT: (
        "Edit",
        "sends a new message with a new serial number in a letter's place, and closes the letter",
    ),
}

_CLASSES: Mapping[PredictedOutcome, str] = {
    PredictedOutcome.WILL_APPLY: "moves",
    PredictedOutcome.REPEATS: "still",
    PredictedOutcome.WILL_BE_REFUSED: "refused",
    PredictedOutcome.CONFLICT: "bad",
    PredictedOutcome.STILL_MALFORMED: "bad",
    PredictedOutcome.WOULD_DEAD_LETTER: "bad",
    PredictedOutcome.WOULD_PARK: "waits",
    PredictedOutcome.FORWARDED: "moves",
    PredictedOutcome.WOULD_CRASH: "bad",
    PredictedOutcome.NOT_REPLAYABLE: "bad",
}


_SECURITY = frozenset({"BAD_SIGNATURE", "UNKNOWN"})
_MONEY = frozenset({"payment.results", "payment.requests"})


def concern(group: Group) -> str:
    """Return what the waiting letters of a group are about: security, money, or nothing of either."""
    if not group.waiting:
        return ""
    if group.reason in _SECURITY:
        return "security"
    return "money" if group.source in _MONEY else ""


def gravity(group: Group) -> int:
    """Return where a group stands in a list: security before money, money before the rest."""
    return {"security": 0, "money": 1, "": 2}[concern(group)]


def ending(operation: Operation) -> tuple[str, str]:
    """Return the kind of an operation's state, for its colour and mark, and the state in words.

    Done is green only where nothing failed: that every outcome is known is no success.
    """
    went_badly = [
        f"{count:,} {what}"
        for count, what in (
            (operation.failed, "failed"),
            (operation.refused, "refused"),
            (operation.cancelled, "cancelled"),
        )
        if count
    ]
    state = operation.state.value
    if not went_badly:
        return state, state
    if operation.state is OperationState.DONE and operation.failed == operation.total:
        return "failed", "failed"
    kind = "failed" if operation.failed or operation.refused else "cancelled"
    return (kind if operation.state is OperationState.DONE else state), f"{state}, {', '.join(went_badly)}"


_DETAILS: Mapping[str, str] = {
    "made_by": "planned by",
    "approved_by": "approved by",
    "letters": "letters",
    "skipped": "left out",
    "filter": "which",
    "predictions": "predicted",
}


def detail(name: str, value: object) -> str:
    """Return one detail of the audit as a person reads it; empty for what is absent."""
    if value is None or value in ("", {}, []):
        return ""
    label = _DETAILS.get(name, word(name))
    return f"{label} {_in_words(value)}"


def _in_words(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case {"verdict": str(verdict), **rest}:
            code = rest.get("code")
            return (
                (f"{rest['letters']} " if rest.get("letters") is not None else "")
                + word(verdict)
                + (f" ({code})" if code and code != "OK" else "")
            )
        case Mapping():
            clauses = [
                f"{field_name(str(name))} {_in_words(member)}"
                for name, member in value.items()
                if member is not None
            ]
            return ", ".join(clauses)
        case list() | tuple():
            return "; ".join(_in_words(member) for member in value)
        case _:
            return str(value)


def word(value: object) -> str:
    """Return a member of an enum as it is read: lower case, with spaces."""
    text = value.name.lower() if isinstance(value, Enum) and not isinstance(value, str) else str(value)
    return text.replace("_", " ")


def field_name(name: str) -> str:
    """Return what a field of a filter is called."""
    return _FIELDS.get(name, name.replace("_", " "))


def is_hopeless(verdict: PredictedOutcome) -> bool:
    """Return whether a letter with this prediction is one again after its replay."""
    return _CLASSES[verdict] == "bad"


def verdict_class(verdict: PredictedOutcome) -> str:
    """Return the kind of a verdict, for its colour and its mark."""
    return _CLASSES[verdict]


def target(which: Filter, action: Action | None = None) -> str:
    """Return what a filter means, in words: it stands in every confirmation.

    Where it says no state, an action finds the letters of its own states and leaves the others alone.
    """
    query = which.to_query()
    found = which.states or (ACTS_ON[action] if action else ())
    states = " or ".join(word(state) for state in found)
    parts = [f"{field_name(name)} {value}" for name, value in query.items() if name not in {"states", "ids"}]
    if which.ids:
        numbers = ", ".join(str(letter_id) for letter_id in which.ids[:TARGET_IDS_MAX])
        more = len(which.ids) - TARGET_IDS_MAX
        parts.append(f"number {numbers}" + (f" and {more} more" if more > 0 else ""))
    kind = f"{states} letters" if states else "letters in any state"
    return f"{kind} with {', '.join(parts)}" if parts else f"all {kind}"
