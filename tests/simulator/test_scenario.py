"""Scenarios, from names and from files."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from payment_simulator.behaviours import Behaviour
from payment_simulator.decide import plan
from payment_simulator.scenario import DEFAULT, NAMED, Scenario, ScenarioUnusable, load
from tests.simulator.requests import NOON, request
from wallet_schemas.values import PaymentKind


def test_a_name_is_a_scenario() -> None:
    assert load(DEFAULT) == NAMED[DEFAULT] == Scenario()


def test_a_file_is_a_scenario(tmp_path: Path) -> None:
    file = tmp_path / "black-friday.toml"
    file.write_text(
        """
        seed = 7
        delay_min_seconds = 0
        delay_max_seconds = 1.5
        late_after_seconds = 30
        reordering_rate = 0.1
        [rates]
        declined = 0.25
        silent = 0.01
        """
    )

    assert load(str(file)) == Scenario(
        seed=7,
        delay_min_seconds=0,
        delay_max_seconds=1.5,
        late_after_seconds=30,
        reordering_rate=0.1,
        rates={Behaviour.DECLINED: 0.25, Behaviour.SILENT: 0.01},
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("seed = ", "is not TOML"),
        ("speed = 7", "speed: This field is not known"),
        ("[rates]\ndeclned = 0.1", "rates.declned"),
        ("[rates]\ndeclined = 1.1", "rates.declined: Input should be less than or equal to 1"),
        ("[rates]\ndeclined = nan", "rates.declined"),
        ("[rates]\ndeclined = 0.6\nsilent = 0.5", "the rates add up to more than 1"),
        ("delay_min_seconds = 2", "delay_min_seconds is greater than delay_max_seconds"),
        ("delay_max_seconds = inf", "delay_max_seconds"),
    ],
)
def test_a_faulty_file_is_refused_in_one_line(tmp_path: Path, text: str, fault: str) -> None:
    file = tmp_path / "scenario.toml"
    file.write_text(text)

    with pytest.raises(ScenarioUnusable) as refusal:
        load(str(file))

    assert fault in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_what_is_neither_a_name_nor_a_file_is_refused_with_the_names() -> None:
    with pytest.raises(ScenarioUnusable, match="none of: instant, calm, everyday, rough"):
        load("ruogh")


def test_rates_may_add_up_to_exactly_one() -> None:
    tenths = dict.fromkeys(list(Behaviour)[:10], 0.1)  # as floats, their sum is not 1

    assert Scenario(rates=tenths).rates == tenths


def test_a_scenario_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        NAMED["rough"].seed = 1  # type: ignore[misc]


def test_payouts_and_refunds_may_be_otherwise(tmp_path: Path) -> None:
    file = tmp_path / "slow-bank.toml"
    file.write_text(
        """
        seed = 7
        delay_max_seconds = 1.5
        [rates]
        declined = 0.25
        [payout]
        delay_max_seconds = 60
        late_after_seconds = 30
        [refund.rates]
        silent = 1
        """
    )

    scenario = load(str(file))

    assert scenario.of(PaymentKind.CHARGE) == scenario
    payout, refund = scenario.of(PaymentKind.PAYOUT), scenario.of(PaymentKind.REFUND)
    assert (payout.seed, payout.delay_max_seconds, payout.late_after_seconds) == (7, 60, 30)
    assert payout.rates == {Behaviour.DECLINED: 0.25}
    assert (refund.delay_max_seconds, refund.rates) == (1.5, {Behaviour.SILENT: 1})
    assert plan(request(kind=PaymentKind.REFUND), NOON, scenario).behaviour is Behaviour.SILENT


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[payout]\ndelay_max_seconds = 0", "greater than delay_max_seconds, of payout"),
        ("[refund.rates]\nlate = 0.7\nsilent = 0.7", "add up to more than 1, of refund"),
        ("[status]\nreordering_rate = 0.5", "status: This field is not known"),
        ("[payout]\nseed = 1", "payout.seed: This field is not known"),
    ],
)
def test_what_cannot_happen_to_one_kind_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(text)

    with pytest.raises(ScenarioUnusable, match=re.escape(sentence)):
        load(str(file))
