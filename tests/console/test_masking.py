"""What a viewer sees of a message: what is known to tell nothing of anybody, and nothing else."""

import json
from datetime import UTC, datetime

import pytest

from wallet_schemas.events import ACCOUNT_EXAMPLE, PENDING_ORDER_EXAMPLE, AccountView, OrderView
from wallet_worker.dead_letters import masking
from wallet_worker.dead_letters.desk import views
from wallet_worker.dead_letters.model.actors import Actor
from wallet_worker.dead_letters.model.letters import Attempt, LedgerView, LetterDetail, RunbookLine
from wallet_worker.dead_letters.model.predictions import PredictedOutcome, Prediction
from wallet_worker.dead_letters.model.states import LetterState
from wallet_worker.settings.operators import Role
from wallet_worker.store.dead_letters.letters import LetterRow

VERA, OTTO = Actor("vera", Role.VIEWER, "tests"), Actor("otto", Role.OPERATOR, "tests")
WHO = "alice@example.com"
NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    "content",
    [
        {"email": WHO},
        {"to": {"name": WHO}},
        {"entries": [{"user_id": WHO}, [WHO]]},
        {"user_id": [WHO]},
        {"user_id": {"type": [WHO]}},
        {"type": WHO},
        {"amount": f"1.00 {WHO}"},
        {"phone": 886912345678, "note": WHO},
        {WHO: 1},
        {"metadata": {"status": WHO}},
    ],
    ids=str,
)
@pytest.mark.need(13)
def test_a_viewer_sees_no_value_and_no_name_that_is_not_known(content: dict[str, object]) -> None:
    body = json.dumps({"type": "order.recharge.v1", "amount": "1.00"} | content).encode()

    seen = masking.pretty(body, mask=True)

    assert seen is not None
    assert WHO not in seen
    assert "alice" not in seen
    assert "88691" not in seen
    assert WHO in (masking.pretty(body, mask=False) or "")


@pytest.mark.need(13)
def test_a_viewer_sees_what_a_message_is_about() -> None:
    fields = {"type": "order.recharge.v1", "amount": "1.00", "currency": "TWD", "user_id": "somebody-real"}

    assert json.loads(masking.pretty(json.dumps(fields).encode(), mask=True) or "") == fields | {
        "user_id": "so…"
    }


@pytest.mark.parametrize(
    ("text", "seen"), [("42", "…"), ("", "…"), ("alice", "…"), ("somebody", "so…"), (None, None)]
)
@pytest.mark.need(13)
def test_nothing_is_shown_of_a_short_name(text: str | None, seen: str | None) -> None:
    assert masking.masked(text) == seen


@pytest.mark.need(13)
def test_a_viewer_sees_no_number_of_an_account_beside_a_masked_message() -> None:
    order = OrderView.model_validate(PENDING_ORDER_EXAMPLE)
    account = AccountView.model_validate(ACCOUNT_EXAMPLE)
    transfer = order.model_copy(update={"to_user_id": WHO, "to_account_no": account.account_no})

    seen = masking.masked_view(transfer), masking.masked_view(account)

    assert all(number not in repr(seen) for number in (order.account_no, account.account_no, WHO))
    assert (seen[0].amount, seen[1].balance) == (order.amount, account.balance)


@pytest.mark.need(13)
def test_headers_that_quote_the_sender_are_masked_and_their_names_too() -> None:
    headers = {
        "x-wallet-detail": f"{WHO}: no such field",
        "x-wallet-reason": "MALFORMED",
        f"x-wallet-{WHO}": "x",
        "x-death": WHO,
        "x-wallet-source": WHO,
    }

    seen = masking.masked_headers(headers)

    assert "alice" not in repr(seen)
    assert seen["x-wallet-reason"] == "MALFORMED"
    assert len(seen) == len(headers)


@pytest.mark.need(13)
def test_a_line_of_a_list_says_what_its_code_means_and_not_what_the_message_said() -> None:
    row = LetterRow(
        letter_id=1,
        state=LetterState.WAITING,
        reason="MALFORMED",
        detail=f"{WHO}: no such field",
        source="wallet.commands",
        message_type=WHO,
        serial_no="R-1",
        user_id="somebody-real",
        attempts=1,
        replays=0,
        first_seen=NOW,
        arrived_at=NOW,
        updated_at=NOW,
    )

    seen = views.line(row, VERA)

    assert "alice" not in repr(seen)
    assert "does not match the schema of its type" in seen.detail
    assert views.line(row, OTTO).detail == row.detail


@pytest.mark.need(13)
def test_attempts_and_the_prediction_say_what_their_code_means() -> None:
    notified = LetterDetail(
        whole=None,  # type: ignore[arg-type]
        attempts=(Attempt("MALFORMED", WHO, None, 1, NOW, NOW, 1, None),),
        replays=(),
        truth=LedgerView(None, None, None, ()),
        prediction=Prediction(PredictedOutcome.STILL_MALFORMED, "MALFORMED", WHO),
        runbook=RunbookLine("MALFORMED", "", "", ""),
        audit=(),
    )

    assert "alice" not in repr(views.seen_by(VERA, notified))
    assert views.seen_by(OTTO, notified) is notified


@pytest.mark.need(13)
def test_an_edit_shows_a_viewer_which_known_fields_change() -> None:
    changes: list[dict[str, str | None]] = [
        {"field": "amount", "before": "1.0", "after": "1.00"},
        {"field": WHO, "before": WHO, "after": None},
        {"field": "(the whole message)", "before": None, "after": WHO},
    ]

    seen = views.differences(changes, VERA)

    assert (seen[0].field, seen[0].before, seen[0].after) == ("amount", "1.0", "1.00")
    assert "alice" not in repr(seen)
