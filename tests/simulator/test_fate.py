"""A payment's fate hangs on the seed and its number, not on the order of arrival, the batches or restarts."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from payment_simulator.behaviours import Behaviour
from payment_simulator.decide import Payment, RequestEnding, plan
from payment_simulator.intake import IncomingRequest, take
from payment_simulator.scenario import NAMED
from payment_simulator.state import State
from tests.simulator.requests import NOON, body, request, status_of

ROUGH = NAMED["rough"]
# `late` counts from expires_at otherwise, and then not all times are relative to the arrival.
STEADY = ROUGH.model_copy(update={"late_after_seconds": 60.0})
HOUR = timedelta(hours=1)

type_of_fate = tuple[Behaviour, str, tuple[tuple[str, timedelta, timedelta | None, bool], ...]]


def test_a_fate_is_the_same_in_every_release() -> None:
    """A seed noted in a bug report must mean the same payments next year."""
    payment = plan(request("R-20260102-000001"), NOON, ROUGH.model_copy(update={"seed": 7}))

    assert payment.gateway_ref == "sim_a54b08e54dd7cce9c84a74cc"
    assert payment.behaviour is Behaviour.SUCCEEDED
    assert [answer.due_at for answer in payment.plan] == [NOON + timedelta(microseconds=1_975_186)]


@settings(deadline=None)  # an example waits for a disk that others use too
@given(
    numbers=st.lists(st.from_regex(r"\A[A-Za-z0-9._:-]{1,64}\Z"), min_size=1, max_size=20, unique=True),
    seed=st.integers(),
    data=st.data(),
)
def test_a_fate_does_not_depend_on_arrival_batches_or_restarts(
    numbers: list[str], seed: int, data: st.DataObject
) -> None:
    scenario = STEADY.model_copy(update={"seed": seed})
    one_by_one = {number: _fate(plan(request(number), NOON, scenario)) for number in numbers}
    repeats = data.draw(st.lists(st.sampled_from(numbers), max_size=10))
    arrivals = data.draw(st.permutations(numbers + repeats))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(arrivals)), max_size=5)))

    with TemporaryDirectory() as folder:
        path = Path(folder) / "state.sqlite3"
        for hour, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(arrivals)], strict=True)):
            state = State.open(path)
            take(
                state,
                scenario,
                [IncomingRequest(body(number)) for number in arrivals[start:end]],
                NOON + hour * HOUR,
            )
            state.close()
        state = State.open(path)
        known = state.payments(numbers)
        state.close()

    assert {number: _fate(payment) for number, payment in known.items()} == one_by_one


@settings(deadline=None)  # an example waits for a disk that others use too
@given(
    events=st.lists(
        st.tuples(
            st.sampled_from(["R-1", "R-2", "R-3"]),
            st.sampled_from(["request", "status", "conflict", "nonsense"]),
        ),
        max_size=30,
    ),
    data=st.data(),
)
def test_a_batch_is_equal_to_the_same_requests_one_by_one(
    events: list[tuple[str, str]], data: st.DataObject
) -> None:
    bodies = [_body(number, what) for number, what in events]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(bodies)), max_size=4)))
    batches = [bodies[start:end] for start, end in zip([0, *cuts], [*cuts, len(bodies)], strict=True)]

    assert _run(batches) == _run([[item] for item in bodies])


def test_the_rates_are_those_of_the_scenario() -> None:
    payments = 20_000
    met = Counter(plan(request(f"R-{number}"), NOON, ROUGH).behaviour for number in range(payments))

    for behaviour, rate in ROUGH.rates.items():
        # Three standard deviations are at most 0.76 % here; and the draw is always the same.
        assert met[behaviour] / payments == pytest.approx(rate, abs=0.008), behaviour
    assert met[Behaviour.SUCCEEDED] / payments == pytest.approx(1 - sum(ROUGH.rates.values()), abs=0.01)


def test_another_seed_is_another_fate() -> None:
    fates = {_fate(plan(request(), NOON, STEADY.model_copy(update={"seed": seed}))) for seed in range(20)}

    assert len(fates) == 20


def test_a_sandbox_channel_has_its_behaviour_in_every_scenario() -> None:
    behaviours = {plan(request(f"R-{n}", channel="sandbox_late"), NOON, ROUGH).behaviour for n in range(100)}

    assert behaviours == {Behaviour.LATE}


def _fate(payment: Payment) -> type_of_fate:
    """Return everything about a payment that is no time of the day."""
    return (
        payment.behaviour,
        payment.gateway_ref,
        tuple(
            (
                answer.status,
                answer.occurred_at - payment.received_at,
                None if answer.due_at is None else answer.due_at - payment.received_at,
                answer.forged,
            )
            for answer in payment.plan
        ),
    )


def _body(number: str, what: str) -> bytes:
    match what:
        case "status":
            return status_of(number)
        case "conflict":
            return body(number, amount="1.00")
        case "nonsense":
            return b"{"
        case _:
            return body(number)


def _run(batches: Sequence[Sequence[bytes]]) -> tuple[list[RequestEnding], list[tuple[object, ...]]]:
    """Return the endings and all rows of answers of a gateway that got these batches at noon."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "state.sqlite3"
        state = State.open(path)
        endings = [
            receipt.ending
            for batch in batches
            for receipt in take(state, STEADY, [IncomingRequest(item) for item in batch], NOON)
        ]
        rows = state._connection.execute(
            "SELECT payment_order_no, cause, position, body, forged, due_at_us FROM answers"
            " ORDER BY answer_id"
        ).fetchall()
        state.close()
    return endings, rows
