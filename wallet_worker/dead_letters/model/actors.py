"""Who acts on dead letters."""

from dataclasses import dataclass
from typing import Final

from wallet_worker.settings.operators import NAME, Role

__all__ = ["COMMAND_LINE", "NAME", "Actor"]

COMMAND_LINE: Final = "cli, "
"""How `via` begins of whoever asks at the command line; the login follows."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks. Whoever calls the operations has made sure of it; `via` says how (`console`, `cli, root`).

    A name that is not like NAME may look at things, and do nothing.
    """

    name: str
    role: Role
    via: str = ""
    role_given: bool = True
    """Whether somebody has given them the role; if not, the audit says so, and not a role that nobody gave."""
