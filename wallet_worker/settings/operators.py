"""Who operates the wallet, and what may be done without a second person."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
"""What somebody is called: in one spelling, so that nobody is two people, and no two look like one."""


class Role(IntEnum):
    """What a person may do; each may all that stands before it."""

    VIEWER = 1
    """Looks. Personal data is masked."""
    OPERATOR = 2
    """Plans, executes, pauses, stops, discards, restores, writes notes; sees payloads whole."""
    APPROVER = 3
    """Approves, as the second person, what somebody else has planned."""
    CONTROLLER = 4
    """Approves also what an approver may not: an edit that is about somebody or something else than its letter."""


@dataclass(frozen=True, slots=True)
class ApprovalLimits:
    """What a deployment may choose.

    More than `single_person_max` letters need a second person, as does the replay of more than `single_person_minor`,
    and an edit always. A plan can be executed for
    `plan_life_seconds`. A letter that was replayed `replays_max` times is not replayed any more.
    """

    single_person_max: int = 100
    single_person_minor: Mapping[str, int] = field(default_factory=dict)
    """In minor units, by currency. Empty: the amounts of messages do not count."""
    plan_life_seconds: int = 3_600
    replays_max: int = 10
    plan_max: int = 50_000
