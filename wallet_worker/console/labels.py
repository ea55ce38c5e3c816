"""What the pages call things: one word for each state, verdict and action, never a colour alone."""

from collections.abc import Mapping
from enum import Enum

from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.predictions import PredictedOutcome
from wallet_worker.dead_letters.model.states import ACTS_ON, Action

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
    said = which.to_query()
    found = which.states or (ACTS_ON[action] if action else ())
    states = " or ".join(word(state) for state in found)
    parts = [f"{field_name(name)} {value}" for name, value in said.items() if name not in {"states", "ids"}]
    if which.ids:
        numbers = ", ".join(str(one) for one in which.ids[:TARGET_IDS_MAX])
        more = len(which.ids) - TARGET_IDS_MAX
        parts.append(f"number {numbers}" + (f" and {more} more" if more > 0 else ""))
    kind = f"{states} letters" if states else "letters in any state"
    return f"{kind} with {', '.join(parts)}" if parts else f"all {kind}"
