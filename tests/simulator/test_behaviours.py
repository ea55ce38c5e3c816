"""What each behaviour tells of a payment, and when."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from payment_simulator.behaviours import LATE_SECONDS, TABLE, Behaviour, behaviour_of_channel
from payment_simulator.decide import Answer, Payment, plan
from payment_simulator.scenario import NAMED, Scenario
from tests.simulator.requests import HALF_PAST, NOON, request
from wallet_schemas import money
from wallet_schemas.parse import RESULTS, parse
from wallet_schemas.payments import PaymentResult
from wallet_schemas.values import PaymentKind

SECOND = timedelta(seconds=1)
# Every delay is exactly a second, so that times can be written down.
TICKING = Scenario(delay_min_seconds=1, delay_max_seconds=1)

# behaviour: what is told, as (seconds after the request, status, amount, currency, forged); 1800 is the expiry
TOLD = {
    Behaviour.SUCCEEDED: [(1, "succeeded", "100.00", "TWD", False)],
    Behaviour.DECLINED: [(1, "failed", "100.00", "TWD", False)],
    Behaviour.UNKNOWN_THEN_SUCCEEDED: [
        (1, "unknown", "100.00", "TWD", False),
        (2, "succeeded", "100.00", "TWD", False),
    ],
    Behaviour.DUPLICATE: [
        (1, "succeeded", "100.00", "TWD", False),
        (1, "succeeded", "100.00", "TWD", False),
        (2, "succeeded", "100.00", "TWD", False),
    ],
    Behaviour.CONTRADICTION: [
        (1, "succeeded", "100.00", "TWD", False),
        (2, "failed", "100.00", "TWD", False),
    ],
    Behaviour.WRONG_AMOUNT: [(1, "succeeded", "100.01", "TWD", False)],
    Behaviour.WRONG_CURRENCY: [(1, "succeeded", "100.00", "USD", False)],
    Behaviour.BAD_SIGNATURE: [(1, "succeeded", "100.00", "TWD", True)],
    Behaviour.SILENT: [],
    Behaviour.LATE: [(1801, "succeeded", "100.00", "TWD", False)],
    Behaviour.FAILED_THEN_SUCCEEDED: [
        (1, "failed", "100.00", "TWD", False),
        (2, "succeeded", "100.00", "TWD", False),
    ],
    Behaviour.LOST: [],
}


@pytest.mark.parametrize("kind", list(TABLE))
@pytest.mark.parametrize("behaviour", list(Behaviour))
def test_a_behaviour_tells_what_its_row_says(kind: PaymentKind, behaviour: Behaviour) -> None:
    payment = plan(request(kind=kind, channel=behaviour.channel), NOON, TICKING)

    heard = [
        ((due_at - NOON) / SECOND, result.status, result.amount, result.currency, answer.forged)
        for answer, due_at, result in _notifications(payment)
    ]
    assert heard == TOLD[behaviour]
    assert payment.behaviour is behaviour


@pytest.mark.parametrize("behaviour", list(Behaviour))
def test_everything_that_is_told_of_a_payment_has_its_number_and_one_gateway_ref(
    behaviour: Behaviour,
) -> None:
    payment = plan(request("R-7", channel=behaviour.channel), NOON, TICKING)

    results = [_result(answer) for answer in payment.plan]
    assert {(result.payment_order_no, result.gateway_ref) for result in results} == {
        ("R-7", payment.gateway_ref)
    }


def test_a_repeated_result_is_the_same_bytes() -> None:
    payment = plan(request(channel="sandbox_duplicate"), NOON, NAMED["rough"])

    assert len(payment.plan) == 3
    assert len({answer.body for answer in payment.plan}) == 1


def test_a_silent_payment_succeeds_all_the_same() -> None:
    (answer,) = plan(request(channel="sandbox_silent"), NOON, TICKING).plan

    assert (answer.status, answer.occurred_at, answer.due_at) == ("succeeded", NOON + SECOND, None)


def test_a_late_payment_comes_after_the_expiry_even_if_the_request_came_after_it_too() -> None:
    received_at = HALF_PAST + timedelta(hours=1)

    (answer,) = plan(request(channel="sandbox_late"), received_at, TICKING).plan

    assert answer.due_at == received_at + SECOND


def test_a_late_payment_can_be_told_when_to_come() -> None:
    scenario = TICKING.model_copy(update={"late_after_seconds": 7.0})

    (answer,) = plan(request(channel="sandbox_late"), NOON, scenario).plan

    assert answer.due_at == NOON + 7 * SECOND


def test_a_late_payment_comes_before_the_calendar_ends() -> None:
    ages_from_now = datetime.fromisoformat("9999-12-31T23:59:59.999999Z")

    (answer,) = plan(request(channel="sandbox_late", expires_at=ages_from_now), NOON, TICKING).plan

    assert answer.due_at == NOON + timedelta(days=366) + SECOND


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"channel": "sandbox_declned"}, "no such sandbox channel: sandbox_declned"),
        ({"currency": "ZZZ"}, "currency not supported: ZZZ"),
        ({"amount": "1" * 30}, "amount out of range"),
        ({"amount": "1" * 30, "channel": "sandbox_wrong_amount"}, "amount out of range"),
    ],
)
def test_what_no_gateway_can_do_is_declined_with_the_reason(fields: dict[str, str], reason: str) -> None:
    payment = plan(request(**fields), NOON, TICKING)

    (answer,) = payment.plan
    assert payment.behaviour is Behaviour.DECLINED
    assert (answer.status, _result(answer).reason) == ("failed", reason)


@pytest.mark.parametrize(
    ("amount", "currency", "wrong"),
    [("5", "JPY", "6"), ("0.001", "KWD", "0.002"), ("10000000000000.00", "TWD", "9999999999999.99")],
)
def test_a_wrong_amount_is_one_minor_unit_off(amount: str, currency: str, wrong: str) -> None:
    payment = plan(request(channel="sandbox_wrong_amount", amount=amount, currency=currency), NOON, TICKING)

    assert _result(payment.plan[0]).amount == wrong


@pytest.mark.parametrize(
    ("amount", "currency", "wrong"),
    [("5", "JPY", ("0.05", "USD")), ("1.234", "KWD", ("12.34", "USD")), ("1.00", "USD", ("1.00", "EUR"))],
)
def test_a_wrong_currency_is_another_one_that_the_wallet_can_read(
    amount: str, currency: str, wrong: tuple[str, str]
) -> None:
    payment = plan(request(channel="sandbox_wrong_currency", amount=amount, currency=currency), NOON, TICKING)

    result = _result(payment.plan[0])
    assert (result.amount, result.currency) == wrong


def test_reordered_results_are_sent_last_first_and_none_before_it_happened() -> None:
    scenario = TICKING.model_copy(update={"reordering_rate": 1.0})

    payment = plan(request(channel="sandbox_contradiction"), NOON, scenario)

    heard = [(answer.status, answer.occurred_at - NOON) for answer, _, _ in _notifications(payment)]
    assert heard == [("failed", 2 * SECOND), ("succeeded", SECOND)]


def test_a_reordered_single_result_is_overtaken_by_those_of_later_payments() -> None:
    first = plan(request("R-1"), NOON, TICKING.model_copy(update={"reordering_rate": 1.0}))
    second = plan(request("R-2"), NOON + SECOND / 2, TICKING)

    assert _dues(first) > _dues(second)


def test_reordering_works_without_delays_too() -> None:
    scenario = NAMED["instant"].model_copy(update={"reordering_rate": 1.0})

    payment = plan(request(channel="sandbox_unknown_then_succeeded"), NOON, scenario)

    assert [answer.status for answer, _, _ in _notifications(payment)] == ["succeeded", "unknown"]


@settings(deadline=None)  # the machine may be busy with servers
@given(
    behaviour=st.sampled_from(Behaviour),
    number=st.from_regex(r"\A[A-Za-z0-9._:-]{1,64}\Z"),
    scenario=st.builds(
        Scenario,
        seed=st.integers(),
        delay_min_seconds=st.floats(0, 5),
        delay_max_seconds=st.floats(5, 100),
        late_after_seconds=st.none() | st.floats(0, 100),
        reordering_rate=st.floats(0, 1),
    ),
    currency=st.sampled_from(["TWD", "USD", "JPY", "KWD"]),
    minor=st.integers(1, money.AMOUNT_MAX_MINOR),
)
def test_whatever_is_told_is_well_formed_and_has_happened(
    behaviour: Behaviour, number: str, scenario: Scenario, currency: str, minor: int
) -> None:
    charge = request(
        number, channel=behaviour.channel, currency=currency, amount=money.to_text(minor, currency)
    )

    payment = plan(charge, NOON, scenario)

    for answer in payment.plan:
        result = _result(answer)  # the wallet's own parser takes it
        assert result.occurred_at == answer.occurred_at
        assert answer.occurred_at >= NOON
        assert answer.due_at is None or answer.due_at >= answer.occurred_at
    assert [answer.occurred_at for answer in payment.plan] == sorted(
        answer.occurred_at for answer in payment.plan
    )


def test_each_behaviour_has_a_channel_that_the_contract_allows() -> None:
    for behaviour in Behaviour:
        assert (
            behaviour_of_channel(request(channel=behaviour.channel).channel, PaymentKind.CHARGE) is behaviour
        )


@pytest.mark.parametrize("kind", list(TABLE))
def test_ordinary_channels_ask_for_no_behaviour(kind: PaymentKind) -> None:
    assert behaviour_of_channel("card", kind) is None
    assert behaviour_of_channel("declined", kind) is None


@pytest.mark.parametrize("behaviour", list(Behaviour))
def test_a_refund_can_have_another_behaviour_than_its_recharge(behaviour: Behaviour) -> None:
    channel = request(channel=behaviour.refund_channel).channel

    charge = plan(request("R-1", channel=channel), NOON, NAMED["rough"])
    refund = plan(request("F-1", kind=PaymentKind.REFUND, channel=channel), NOON, NAMED["rough"])

    assert (charge.behaviour, refund.behaviour) == (Behaviour.SUCCEEDED, behaviour)


@pytest.mark.parametrize("kind", [PaymentKind.PAYOUT, PaymentKind.REFUND])
def test_what_never_expires_is_late_after_a_time_of_its_own(kind: PaymentKind) -> None:
    outgoing = request(kind=kind, channel=Behaviour.LATE.channel, expires_at=None)

    (answer,) = plan(outgoing, NOON, TICKING).plan
    (notified,) = plan(outgoing, NOON, TICKING.model_copy(update={"late_after_seconds": 7.0})).plan

    assert answer.due_at == NOON + timedelta(seconds=LATE_SECONDS) + SECOND
    assert notified.due_at == NOON + 7 * SECOND


def _notifications(payment: Payment) -> list[tuple[Answer, datetime, PaymentResult]]:
    """Return what the wallet hears without asking, in the order of sending."""
    heard = [(answer, answer.due_at, _result(answer)) for answer in payment.plan if answer.due_at is not None]
    return sorted(heard, key=lambda value: value[1])


def _dues(payment: Payment) -> list[datetime]:
    return [due_at for _, due_at, _ in _notifications(payment)]


def _result(answer: Answer) -> PaymentResult:
    result = parse(answer.body, RESULTS)
    assert isinstance(result, PaymentResult)
    return result
