"""Scenarios: how often an ordinary channel meets each behaviour, how long everything takes, and in which order.

A scenario is a TOML file, or one of the named ones below. Sandbox channels keep their behaviour in every scenario,
and take its delays.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from payment_simulator.behaviours import TABLE, Behaviour
from wallet_schemas.faults import faults_of, joined
from wallet_schemas.values import PaymentKind

Share = Annotated[float, Field(ge=0, le=1)]
DelaySeconds = Annotated[float, Field(ge=0, le=86_400)]  # a day: what waits longer is no test any more


class ScenarioUnusable(ValueError):  # noqa: N818 - named after what is wrong
    """It is neither a known name nor a file with a scenario in it; the text is for people."""


class Override(BaseModel):
    """What is otherwise for one kind of payment; what is absent is as the scenario has it for all."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    delay_min_seconds: DelaySeconds | None = None
    delay_max_seconds: DelaySeconds | None = None
    late_after_seconds: DelaySeconds | None = None
    reordering_rate: Share | None = None
    rates: Mapping[Annotated[Behaviour, Field(strict=False)], Share] | None = None


class Scenario(BaseModel):
    """The gateway's character. With the same scenario, an order has the same fate in every run.

    `rates`: the share of payments on ordinary channels that meet each behaviour; what is left succeeds.
    `reordering_rate`: the share of payments whose results are sent last first, and one more delay later, so
    that the results of later payments overtake them.
    `late_after_seconds`: when the behaviour `late` answers, counted from the request; None: after its expires_at,
    or after two minutes where it has none.
    `payout`, `refund`: what is otherwise for them.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    seed: int = 0
    delay_min_seconds: DelaySeconds = 0.05
    delay_max_seconds: DelaySeconds = 0.5
    late_after_seconds: DelaySeconds | None = None
    reordering_rate: Share = 0.0
    rates: Mapping[Annotated[Behaviour, Field(strict=False)], Share] = Field(default_factory=dict)
    payout: Override | None = None
    refund: Override | None = None

    @model_validator(mode="after")
    def _can_happen(self) -> Self:
        for kind in TABLE:
            found = self.of(kind)
            if found.delay_min_seconds > found.delay_max_seconds:
                raise ValueError(f"delay_min_seconds is greater than delay_max_seconds, of {kind}")
            # The sum of ten shares written as decimals is not exact.
            if sum(found.rates.values()) > 1 + 1e-9:
                raise ValueError(f"the rates add up to more than 1, of {kind}")
        return self

    def of(self, kind: PaymentKind) -> "Scenario":
        """Return the scenario as it is for one kind of payment."""
        deviation = {PaymentKind.PAYOUT: self.payout, PaymentKind.REFUND: self.refund}.get(kind)
        if deviation is None:
            return self
        given = {name: value for name, value in deviation if value is not None}
        return self.model_copy(update=given | {"payout": None, "refund": None})


NAMED: Final[Mapping[str, Scenario]] = MappingProxyType(
    {
        "instant": Scenario(delay_min_seconds=0, delay_max_seconds=0),
        "calm": Scenario(),
        "everyday": Scenario(
            delay_min_seconds=0.2,
            delay_max_seconds=3,
            reordering_rate=0.02,
            rates={
                Behaviour.DECLINED: 0.05,
                Behaviour.UNKNOWN_THEN_SUCCEEDED: 0.01,
                Behaviour.DUPLICATE: 0.02,
                Behaviour.SILENT: 0.002,
                Behaviour.LATE: 0.002,
            },
        ),
        "rough": Scenario(
            delay_min_seconds=0,
            delay_max_seconds=2,
            reordering_rate=0.3,
            rates={
                Behaviour.DECLINED: 0.15,
                Behaviour.UNKNOWN_THEN_SUCCEEDED: 0.05,
                Behaviour.DUPLICATE: 0.10,
                Behaviour.CONTRADICTION: 0.02,
                Behaviour.WRONG_AMOUNT: 0.02,
                Behaviour.WRONG_CURRENCY: 0.01,
                Behaviour.BAD_SIGNATURE: 0.02,
                Behaviour.SILENT: 0.03,
                Behaviour.LATE: 0.02,
            },
        ),
    }
)
DEFAULT: Final = "calm"


def load(name_or_path: str) -> Scenario:
    """Return the scenario of that name, or the one in that TOML file; raises ScenarioUnusable."""
    if name_or_path in NAMED:
        return NAMED[name_or_path]
    path = Path(name_or_path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as exc:
        names = ", ".join(NAMED)
        raise ScenarioUnusable(f"{name_or_path!r} is no readable file, and none of: {names}") from exc
    try:
        return Scenario.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as exc:
        raise ScenarioUnusable(f"{path} is not TOML: {exc}") from exc
    except ValidationError as exc:
        raise ScenarioUnusable(f"{path}: {faults(exc)}") from exc


def faults(exc: ValidationError) -> str:
    """Return what is wrong, on one line, in the words of the wire."""
    return joined(faults_of(exc))
