"""What a replay would do now."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Final

from wallet_schemas.codes import Code


class PredictedOutcome(StrEnum):
    """What a replay would do now."""

    WILL_APPLY = auto()
    """It would be applied: money or an account may move."""
    REPEATS = auto()
    """Its outcome is known already and would be repeated: nothing moves."""
    WILL_BE_REFUSED = auto()
    """A business no would become its outcome; `code` says which. Nothing moves."""
    CONFLICT = auto()
    """Its serial number belongs to something else: it would come back."""
    STILL_MALFORMED = auto()
    """It cannot be read, or its signature is wrong; `code` says which: it would come back."""
    WOULD_DEAD_LETTER = "comes_back"
    """It can be read and does not fit (`code`): it would be a dead letter again. Nothing moves."""
    WOULD_PARK = "will_wait"
    """What it speaks of is not there yet: it would be parked, looked at again, and then come back."""
    FORWARDED = "handed_on"
    """It is for the gateway, as a pending order says it: the gateway decides, by its payment_order_no."""
    WOULD_CRASH = "fails"
    """The wallet's own code fails on it: it would come back as INTERNAL."""
    NOT_REPLAYABLE = "nowhere"
    """It cannot be replayed, and the detail says why: nobody knows where it was published first, say."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a replay would do, decided by the wallet's own rules over what the database holds now."""

    verdict: PredictedOutcome
    code: str = ""
    """Why the verdict is not a plain success: one of the codes."""
    detail: str = ""

    @property
    def comes_back(self) -> bool:
        """Whether the letter is one again after its replay, or cannot be replayed."""
        return self.verdict in _COMES_BACK

    @property
    def label(self) -> str:
        """The prediction in a few words, for a person."""
        if self.verdict is PredictedOutcome.NOT_REPLAYABLE and self.detail:
            return f"cannot be replayed: {self.detail}"
        if self.verdict is PredictedOutcome.STILL_MALFORMED and self.code not in _UNREADABLE:
            return f"is still rejected ({self.code})"  # it can be read, and nothing shows that its sender may send it
        return _LABELS[self.verdict].format(code=self.code)


_UNREADABLE: Final = frozenset({Code.MALFORMED.value, Code.UNSUPPORTED_TYPE.value})


_COMES_BACK: Final = frozenset(
    {
        PredictedOutcome.CONFLICT,
        PredictedOutcome.STILL_MALFORMED,
        PredictedOutcome.WOULD_DEAD_LETTER,
        PredictedOutcome.WOULD_CRASH,
        PredictedOutcome.NOT_REPLAYABLE,
    }
)

_LABELS: Mapping[PredictedOutcome, str] = {
    PredictedOutcome.WILL_APPLY: "will apply",
    PredictedOutcome.REPEATS: "repeats the stored outcome",
    PredictedOutcome.WILL_BE_REFUSED: "will be refused with {code}",
    PredictedOutcome.CONFLICT: "conflict: the serial number was used for something else",
    PredictedOutcome.STILL_MALFORMED: "is still unreadable ({code})",
    PredictedOutcome.WOULD_DEAD_LETTER: "would be a dead letter again ({code})",
    PredictedOutcome.WOULD_PARK: "will wait for its order, and then come back",
    PredictedOutcome.FORWARDED: "is handed on to the gateway, which decides",
    PredictedOutcome.WOULD_CRASH: "the wallet fails on it (INTERNAL)",
    PredictedOutcome.NOT_REPLAYABLE: "cannot be replayed",
}
