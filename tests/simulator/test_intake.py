"""What requests lead to, in the memory: repeats, questions, conflicts, nonsense, restarts."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from payment_simulator.decide import RequestEnding
from payment_simulator.intake import IncomingRequest, Receipt, take
from payment_simulator.scenario import Scenario
from payment_simulator.state import State
from tests.simulator.requests import HALF_PAST, NOON, body, status_of
from wallet_schemas.parse import RESULTS, parse
from wallet_schemas.payments import PaymentResult

SECOND = timedelta(seconds=1)
TICKING = Scenario(delay_min_seconds=1, delay_max_seconds=1)


class Desk:
    """A gateway without a broker: it takes requests, and hands out the answers that are due."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.state = State.open(path)

    def take(self, *bodies: bytes, at: datetime = NOON) -> list[Receipt]:
        return take(self.state, TICKING, [IncomingRequest(item) for item in bodies], at)

    def send(self, at: datetime) -> list[PaymentResult]:
        """Return the answers that are due, which are sent then."""
        due = self.state.due(at, 1_000)
        self.state.mark_sent([answer.answer_id for answer in due], at)
        results = [parse(answer.body, RESULTS) for answer in due]
        return [result for result in results if isinstance(result, PaymentResult)]

    def restart(self) -> None:
        self.state.close()
        self.state = State.open(self._path)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "state.sqlite3")
    yield desk
    desk.state.close()


def test_a_request_is_answered_once_when_its_time_has_come(desk: Desk) -> None:
    desk.take(body())

    assert desk.send(NOON) == []
    assert desk.state.next_due_at() == NOON + SECOND
    assert [result.status for result in desk.send(NOON + SECOND)] == ["succeeded"]
    assert desk.send(NOON + 60 * SECOND) == []
    assert desk.state.next_due_at() is None


def test_answers_are_sent_in_the_order_in_which_they_are_due(desk: Desk) -> None:
    desk.take(body("R-2"), at=NOON + SECOND)
    desk.take(body("R-1"))

    assert [result.payment_order_no for result in desk.send(HALF_PAST)] == ["R-1", "R-2"]


def test_a_repeat_gets_the_same_answer_again_after_a_restart_too(desk: Desk) -> None:
    desk.take(body())
    first = desk.send(NOON + SECOND)
    desk.restart()

    (receipt,) = desk.take(body(), at=NOON + 60 * SECOND)

    assert receipt.ending is RequestEnding.REPEATED
    assert desk.send(NOON + 60 * SECOND) == first != []


def test_a_repeat_before_the_answer_leads_to_no_second_one(desk: Desk) -> None:
    desk.take(body(), body())
    desk.take(body())

    assert len(desk.send(HALF_PAST)) == 1


def test_a_repeat_of_a_contradiction_gets_both_answers_again_in_their_order(desk: Desk) -> None:
    contradiction = body(channel="sandbox_contradiction")
    desk.take(contradiction)
    first = desk.send(NOON + SECOND) + desk.send(NOON + 2 * SECOND)

    desk.take(contradiction, at=NOON + 60 * SECOND)

    assert desk.send(NOON + 60 * SECOND) == first
    assert [result.status for result in first] == ["succeeded", "failed"]


def test_what_was_due_before_a_restart_is_sent_after_it(desk: Desk) -> None:
    desk.take(body("R-1"), body("R-2"))
    desk.restart()

    assert [result.payment_order_no for result in desk.send(HALF_PAST)] == ["R-1", "R-2"]


def test_a_silent_payment_is_told_to_those_who_ask_and_to_nobody_else(desk: Desk) -> None:
    silent = {"channel": "sandbox_silent"}
    desk.take(body(**silent))
    desk.take(body(**silent), at=NOON + 10 * SECOND)
    unasked = desk.send(HALF_PAST)

    desk.take(status_of(**silent), status_of(**silent), at=HALF_PAST)
    answers = desk.send(HALF_PAST)

    assert unasked == []
    assert [(answer.status, answer.occurred_at) for answer in answers] == [("succeeded", NOON + SECOND)] * 2


def test_a_status_request_is_told_unknown_while_the_payment_goes_on(desk: Desk) -> None:
    desk.take(body(), status_of())

    (answer,) = desk.send(NOON)

    assert (answer.status, answer.reason) == ("unknown", "in progress")
    assert [later.gateway_ref for later in desk.send(HALF_PAST)] == [answer.gateway_ref]


def test_a_status_request_follows_the_payment_through_its_states(desk: Desk) -> None:
    wavering = {"channel": "sandbox_unknown_then_succeeded"}
    desk.take(body(**wavering))
    fields = {}

    for seconds in (0, 1, 2, 60):
        at = NOON + seconds * SECOND
        desk.send(at)
        desk.take(status_of(**wavering), at=at)
        (fields[seconds],) = desk.send(at)

    assert [(answer.status, answer.reason) for answer in fields.values()] == [
        ("unknown", "in progress"),
        ("unknown", "no answer from the issuer yet"),
        ("succeeded", None),
        ("succeeded", None),
    ]
    assert fields[2] == fields[60]


def test_a_status_request_for_a_late_payment_is_told_unknown_until_it_comes(desk: Desk) -> None:
    late = {"channel": "sandbox_late"}
    desk.take(body(**late))

    desk.take(status_of(**late), at=HALF_PAST)
    before = desk.send(HALF_PAST)
    after = desk.send(HALF_PAST + SECOND)

    assert [answer.status for answer in before + after] == ["unknown", "succeeded"]


def test_a_status_request_about_nothing_is_told_unknown_because_the_request_may_come_after_it(
    desk: Desk,
) -> None:
    desk.take(status_of("R-9"))
    (answer,) = desk.send(NOON)

    (receipt,) = desk.take(body("R-9"))

    assert (answer.status, answer.reason) == ("unknown", "no such payment")
    assert receipt.ending is RequestEnding.PLANNED
    assert [later.status for later in desk.send(HALF_PAST)] == ["succeeded"]


@pytest.mark.parametrize("kind", ["payout", "refund"])
def test_a_question_about_what_never_expires_is_answered_like_any_other(desk: Desk, kind: str) -> None:
    silent = {"channel": "sandbox_silent", "expires_at": None}
    desk.take(body("P-1", kind=kind, **silent), status_of("P-1", **silent))
    desk.take(status_of("P-1", **silent), at=HALF_PAST)

    answers = desk.send(HALF_PAST)

    assert [(answer.status, answer.reason) for answer in answers] == [
        ("unknown", "in progress"),
        ("succeeded", None),
    ]


def test_what_is_lost_is_unknown_whenever_one_asks(desk: Desk) -> None:
    lost = {"channel": "sandbox_lost"}
    desk.take(body(**lost))
    unasked = desk.send(HALF_PAST)

    desk.take(status_of(**lost), at=HALF_PAST)
    desk.take(status_of(**lost), at=HALF_PAST + SECOND)
    answers = desk.send(HALF_PAST + SECOND)

    assert unasked == []
    assert [(answer.status, answer.reason) for answer in answers] == [("unknown", "no trace of it")] * 2


def test_a_badly_signed_result_is_told_properly_to_those_who_ask(desk: Desk) -> None:
    forged = {"channel": "sandbox_bad_signature"}
    desk.take(body(**forged))
    unasked = desk.state.due(NOON + SECOND, 10)
    desk.send(NOON + SECOND)

    desk.take(body(**forged), at=NOON + SECOND)
    desk.take(status_of(**forged), at=NOON + SECOND)

    assert [answer.forged for answer in unasked] == [True]
    assert [answer.forged for answer in desk.state.due(NOON + SECOND, 10)] == [True, False]


def test_a_wrong_amount_is_insisted_on(desk: Desk) -> None:
    wrong = {"channel": "sandbox_wrong_amount"}
    desk.take(body(**wrong))
    first = desk.send(NOON + SECOND)

    desk.take(status_of(**wrong), at=HALF_PAST)

    assert desk.send(HALF_PAST) == first
    assert first[0].amount == "100.01"


@pytest.mark.parametrize(
    ("fields", "different"),
    [
        ({"amount": "100.01"}, "amount"),
        ({"currency": "USD"}, "currency"),
        ({"channel": "bank_transfer"}, "channel"),
        ({"kind": "payout"}, "kind"),
        ({"amount": "1.00", "currency": "USD"}, "amount, currency"),
    ],
)
def test_a_number_used_twice_is_a_conflict_and_changes_nothing(
    desk: Desk, fields: dict[str, str], different: str
) -> None:
    desk.take(body())

    (receipt,) = desk.take(body(**fields))

    assert receipt == Receipt(RequestEnding.CONFLICTING, "R-1", f"differs from the payment in: {different}")
    assert not receipt.ending.accepted
    assert [result.amount for result in desk.send(HALF_PAST)] == ["100.00"]


def test_a_repeat_may_differ_in_its_times(desk: Desk) -> None:
    desk.take(body())

    (receipt,) = desk.take(body(requested_at=HALF_PAST, expires_at=HALF_PAST + SECOND))

    assert receipt.ending is RequestEnding.REPEATED


def test_a_field_that_nobody_knows_is_passed_over(desk: Desk) -> None:
    """What the wallet says may gain fields within its version."""
    receipts = desk.take(body("R-1"), body("R-1").replace(b'"TWD"', b'"TWD", "colour": "red"'))

    assert [receipt.ending for receipt in receipts] == [RequestEnding.PLANNED, RequestEnding.REPEATED]


@pytest.mark.parametrize(
    "nonsense",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b'{"type": "payment.result.v1"}',
        b'{"type": "payment.request.v2"}',
        b'{"type": "payment.request.v1"}',
        body().replace(b'"100.00"', b"100.00"),
        body().replace(b"100.00", b"-1.00"),
        b"[" * 60_000,
    ],
)
def test_nonsense_is_not_accepted_and_its_neighbours_are(desk: Desk, nonsense: bytes) -> None:
    receipts = desk.take(body("R-1"), nonsense, body("R-2"))

    assert [receipt.ending for receipt in receipts] == [
        RequestEnding.PLANNED,
        RequestEnding.UNREADABLE,
        RequestEnding.PLANNED,
    ]
    assert receipts[1].detail
    assert len(desk.send(HALF_PAST)) == 2


def test_a_trace_context_goes_with_the_answers(desk: Desk) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    take(desk.state, TICKING, [IncomingRequest(body("R-1"), trace), IncomingRequest(body("R-2"))], NOON)

    assert [answer.traceparent for answer in desk.state.due(HALF_PAST, 10)] == [trace, None]


def test_nothing_of_a_batch_is_kept_when_it_fails(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(desk.state, "add", fail)
        with pytest.raises(RuntimeError):
            desk.take(body())

    (receipt,) = desk.take(body())
    assert receipt.ending is RequestEnding.PLANNED
