"""What the pages call things: one word for each state, verdict and action, never a colour alone."""

from collections.abc import Mapping
from enum import Enum

from wallet_worker.dead_letters.records import Action, Filter, Verdict

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
}

ACTIONS: Mapping[Action, tuple[str, str]] = {
    Action.REPLAY: ("Replay", "sends each letter again, byte for byte, to where it was published first"),
    Action.DISCARD: (
        "Discard",
        "sets letters aside for good reasons: nothing is sent, they are kept and can be restored",
    ),
    Action.RESTORE: (
        "Restore",
        "has letters wait again that were discarded, or are replaying without an outcome for long",
    ),
    Action.EDIT: (
        "Edit",
        "sends a new message with a new serial number in a letter's place, and closes the letter",
    ),
}

_CLASSES: Mapping[Verdict, str] = {
    Verdict.WILL_APPLY: "moves",
    Verdict.REPEATS: "still",
    Verdict.WILL_BE_REFUSED: "refused",
    Verdict.CONFLICT: "bad",
    Verdict.STILL_MALFORMED: "bad",
    Verdict.COMES_BACK: "bad",
    Verdict.WILL_WAIT: "waits",
    Verdict.HANDED_ON: "moves",
    Verdict.FAILS: "bad",
    Verdict.NOWHERE: "bad",
}


def word(value: object) -> str:
    """Return a member of an enum as it is read: lower case, with spaces."""
    text = value.name.lower() if isinstance(value, Enum) and not isinstance(value, str) else str(value)
    return text.replace("_", " ")


def field_name(name: str) -> str:
    """Return what a field of a filter is called."""
    return _FIELDS.get(name, name.replace("_", " "))


def verdict_class(verdict: Verdict) -> str:
    """Return the kind of a verdict, for its colour and its mark."""
    return _CLASSES[verdict]


def target(which: Filter) -> str:
    """Return what a filter means, in words: it stands in every confirmation."""
    said = which.to_query()
    states = " or ".join(word(state) for state in which.states)
    parts = [f"{field_name(name)} {value}" for name, value in said.items() if name not in {"states", "ids"}]
    if which.ids:
        numbers = ", ".join(str(one) for one in which.ids[:TARGET_IDS_MAX])
        more = len(which.ids) - TARGET_IDS_MAX
        parts.append(f"number {numbers}" + (f" and {more} more" if more > 0 else ""))
    kind = f"{states} letters" if states else "letters in any state"
    return f"{kind} with {', '.join(parts)}" if parts else f"all {kind}"
