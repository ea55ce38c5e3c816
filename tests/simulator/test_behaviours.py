"""What each behaviour tells of a payment, and when."""

from datetime import datetime, timedelta
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from payment_simulator.behaviours import LATE_SECONDS, QR_SUFFIX, TABLE, Behaviour, behaviour_of_channel
from payment_simulator.decide import Answer, Payment, plan, respond
from payment_simulator.scenario import NAMED, Scenario
from tests.simulator.requests import HALF_PAST, NOON, request
from wallet_schemas import money
from wallet_schemas.parse import RESULTS, parse
from wallet_schemas.payments import PaymentInstructions, PaymentResult, PaymentReversal
from wallet_schemas.values import PaymentKind

M = TypeVar("M", PaymentInstructions, PaymentReversal)

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
    Behaviour.UNDERPAID: [(1, "succeeded", "99.00", "TWD", False)],
    Behaviour.OVERPAID: [(1, "succeeded", "110.00", "TWD", False)],
    Behaviour.STOPPABLE: [],
    Behaviour.UNSTOPPABLE: [],
    Behaviour.PAID_TWICE: [
        (1, "succeeded", "100.00", "TWD", False),
        (2, "succeeded", "100.00", "TWD", False),
    ],
    Behaviour.REF_REUSED: [(1, "succeeded", "100.00", "TWD", False)],
}

# Of charges and of what is paid out, what is told in seconds after the request: instructions, a status of the payment,
# or what stands of a dispute or return by which sequence.
BESIDE_CHARGES = {
    Behaviour.INSTRUCTED: [(1, "bank_transfer"), (2, "succeeded")],
    Behaviour.INSTRUCTED_LONG: [(1, "bank_transfer"), (1801, "succeeded")],
    Behaviour.INSTRUCTED_UNPAID: [(1, "bank_transfer"), (2, "failed")],
    Behaviour.CHARGEBACK: [(1, "succeeded"), (2, "opened 1"), (3, "moved 2"), (4, "settled 3")],
    Behaviour.DISPUTE_WON: [(1, "succeeded"), (2, "opened 1"), (3, "moved 2"), (4, "dropped 3")],
    Behaviour.SECOND_CHARGEBACK: [(1, "succeeded"), (2, "moved 1"), (3, "opened 2"), (4, "settled 3")],
    Behaviour.PART_CHARGEBACK: [(1, "succeeded"), (2, "moved 1, 40.00"), (3, "settled 2, 40.00")],
    Behaviour.LOST_THEN_WON: [(1, "succeeded"), (2, "settled 1"), (3, "dropped 2")],
    Behaviour.SHUFFLED_DISPUTE: [
        (1, "succeeded"),
        *(
            (4, told)
            for number, word in ((3, "dropped"), (2, "moved"), (1, "opened"))
            for told in [f"{word} {number}"] * 2
        ),
    ],
    Behaviour.RETURNED: [(1, "succeeded")],
    Behaviour.RETURN_UNDONE: [(1, "succeeded")],
}
BESIDE_PAYOUTS = {
    **{behaviour: [(1, "succeeded")] for behaviour in BESIDE_CHARGES},
    Behaviour.RETURNED: [(1, "succeeded"), (2, "settled 1")],
    Behaviour.RETURN_UNDONE: [(1, "succeeded"), (2, "settled 1"), (3, "dropped 2")],
}


def test_each_behaviour_has_a_row_in_a_table_above() -> None:
    assert {*TOLD, *BESIDE_CHARGES} == set(Behaviour)
    assert not TOLD.keys() & BESIDE_CHARGES.keys()


@pytest.mark.parametrize("kind", list(TABLE))
@pytest.mark.parametrize("behaviour", list(TOLD))
def test_a_behaviour_tells_what_its_row_says(kind: PaymentKind, behaviour: Behaviour) -> None:
    payment = plan(request(kind=kind, channel=behaviour.channel), NOON, TICKING)

    heard = [
        ((due_at - NOON) / SECOND, result.status, result.amount, result.currency, answer.forged)
        for answer, due_at, result in _notifications(payment)
    ]
    assert heard == TOLD[behaviour]
    assert payment.behaviour is behaviour


@pytest.mark.parametrize("kind", list(TABLE))
@pytest.mark.parametrize("behaviour", list(BESIDE_CHARGES))
def test_a_behaviour_tells_how_to_pay_before_and_what_comes_back_after(
    kind: PaymentKind, behaviour: Behaviour
) -> None:
    payment = plan(request(kind=kind, channel=behaviour.channel), NOON, TICKING)

    heard = [
        (round((due_at - NOON) / SECOND), _words(answer))
        for due_at, answer in sorted(
            ((answer.due_at, answer) for answer in payment.plan if answer.due_at is not None),
            key=lambda pair: pair[0],
        )
    ]
    assert heard == (BESIDE_CHARGES if kind is PaymentKind.CHARGE else BESIDE_PAYOUTS)[behaviour]


def _words(answer: Answer) -> str:
    match parse(answer.body, RESULTS):
        case PaymentInstructions() as message:
            return str(message.action)
        case PaymentReversal() as message:
            part = "" if message.amount == "100.00" else f", {message.amount}"
            return f"{message.status} {message.sequence}{part}"
        case _:
            return _result(answer).status


def test_instructions_say_how_long_it_can_be_paid_by_them() -> None:
    long, usual, unsaid = (
        _read(plan(request(channel=behaviour.channel), NOON, TICKING).plan[0], PaymentInstructions)
        for behaviour in (Behaviour.INSTRUCTED_LONG, Behaviour.INSTRUCTED, Behaviour.INSTRUCTED_UNPAID)
    )

    assert (long.expires_at, usual.expires_at, unsaid.expires_at) == (
        HALF_PAST + timedelta(days=1),
        HALF_PAST,
        None,
    )


def test_on_a_channel_with_qr_the_instructions_have_a_code() -> None:
    payment = plan(request(channel=Behaviour.INSTRUCTED.channel + QR_SUFFIX), NOON, TICKING)

    message = _read(payment.plan[0], PaymentInstructions)
    assert (payment.behaviour, message.action) == (Behaviour.INSTRUCTED, "qr_code")
    assert message.qr_payload == f"https://pay.example/{payment.gateway_ref}"


@pytest.mark.parametrize("kind", list(TABLE))
@pytest.mark.parametrize(
    ("behaviour", "status"), [(Behaviour.STOPPABLE, "failed"), (Behaviour.UNSTOPPABLE, "succeeded")]
)
def test_what_waits_to_be_cancelled_is_decided_by_the_first_request_to_cancel(
    kind: PaymentKind, behaviour: Behaviour, status: str
) -> None:
    payment = plan(request(kind=kind, channel=behaviour.channel), NOON, TICKING)
    cancelling = request(kind=PaymentKind.CANCEL, channel=behaviour.channel)

    first = respond(cancelling, payment, NOON + 5 * SECOND, TICKING)
    again = respond(cancelling, first.changed, NOON + 9 * SECOND, TICKING)
    asked = respond(request(kind=PaymentKind.STATUS), first.changed, NOON + 9 * SECOND, TICKING)

    (answer,) = first.answers
    assert (answer.status, answer.due_at) == (status, NOON + 5 * SECOND)
    assert _result(answer).gateway_ref == payment.gateway_ref
    assert again.changed is None
    assert again.answers[0].body == asked.answers[0].body == answer.body
    assert respond(request(kind=PaymentKind.STATUS), payment, NOON + SECOND * 5, TICKING).answers[
        0
    ].status == ("unknown")


@pytest.mark.parametrize("behaviour", [Behaviour.SUCCEEDED, Behaviour.DECLINED, Behaviour.LOST])
def test_what_is_under_way_is_not_stopped(behaviour: Behaviour) -> None:
    payment = plan(request(channel=behaviour.channel), NOON, TICKING)

    cancelled = respond(request(kind=PaymentKind.CANCEL), payment, NOON + 2 * SECOND, TICKING)
    asked = respond(request(kind=PaymentKind.STATUS), payment, NOON + 2 * SECOND, TICKING)

    assert cancelled == asked


def test_two_payments_of_one_order_have_two_refs_and_one_ref_may_be_of_all_orders() -> None:
    twice = [_result(answer) for answer in plan(request(channel="sandbox_paid_twice"), NOON, TICKING).plan]
    reused = [
        _result(plan(request(number, channel="sandbox_ref_reused"), NOON, TICKING).plan[0])
        for number in ("R-1", "R-2")
    ]

    assert len({result.gateway_ref for result in twice}) == 2
    assert len({result.gateway_ref for result in reused}) == 1


def test_all_turns_of_a_dispute_have_one_ref() -> None:
    payment = plan(request(channel="sandbox_chargeback"), NOON, TICKING)

    assert len({_read(answer, PaymentReversal).reversal_ref for answer in payment.plan[1:]}) == 1


@pytest.mark.parametrize("behaviour", sorted(set(Behaviour) - {Behaviour.PAID_TWICE, Behaviour.REF_REUSED}))
def test_everything_that_is_told_of_a_payment_has_its_number_and_one_gateway_ref(
    behaviour: Behaviour,
) -> None:
    payment = plan(request("R-7", channel=behaviour.channel), NOON, TICKING)

    results = [_result(answer) for answer in payment.plan if answer.position >= 0]
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
        result = parse(answer.body, RESULTS)  # the wallet's own parser takes it
        assert isinstance(result, PaymentResult | PaymentInstructions | PaymentReversal)
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


def _read(answer: Answer, kind: type[M]) -> M:
    message = parse(answer.body, RESULTS)
    assert isinstance(message, kind)
    return message
