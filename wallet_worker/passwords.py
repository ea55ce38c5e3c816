"""Whether a password is one of those that are guessed first."""

from collections.abc import Iterable
from typing import Final

GUESSES_LOG10_MIN: Final = 8
"""As a power of ten. Whoever tries fewer needs no special machines, even against argon2id."""
_WEIGHED_CHARACTERS: Final = 72  # zxcvbn takes no more; what comes after makes a password no easier


def is_guessable(password: str, known: Iterable[str] = ()) -> bool:
    """Return whether a password is common, a name that is known, a pattern of the keyboard, or close to these."""
    from zxcvbn import (
        zxcvbn,  # its lists of words take 50 ms to load, and nobody but a new password needs them
    )

    weighed = zxcvbn(password[:_WEIGHED_CHARACTERS], user_inputs=[*known, "wallet"])
    return float(weighed["guesses_log10"]) < GUESSES_LOG10_MIN
