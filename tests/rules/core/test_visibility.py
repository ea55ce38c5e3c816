"""Which events somebody may see, and what of them."""

import json
from typing import Any

import pytest

from wallet_schemas.events import EVENTS, AccountOpened, CommandRefused, OrderSucceeded
from wallet_worker.core.visibility import KINDS, FeedEvent, Interest, matches, wrong_pattern

OPENED = AccountOpened.examples()[0]
TRANSFER = OrderSucceeded.examples()[1]
REFUSED = CommandRefused.examples()[0]


def event(content: object, kind: str = "order.succeeded") -> FeedEvent:
    return FeedEvent(0, kind, json.dumps(content).encode())


def shown(content: object, interest: Interest, kind: str = "order.succeeded") -> dict[str, Any] | None:
    body = interest.shown(event(content, kind))
    return None if body is None else json.loads(body)


@pytest.mark.parametrize("example", [example for kind in EVENTS for example in kind.examples()])
def test_whoever_may_see_all_users_sees_each_event_as_it_is(example: dict[str, Any]) -> None:
    assert shown(example, Interest()) == example


def test_of_a_transfer_a_limited_key_sees_its_own_users_entry_alone() -> None:
    payer, payee = TRANSFER["data"]["entries"]

    of_payer = shown(TRANSFER, Interest(reach="user-1001"))
    of_payee = shown(TRANSFER, Interest(reach="user-1002"))
    of_both = shown(TRANSFER, Interest(reach="user-"))

    assert of_payer is not None
    assert of_payee is not None
    assert of_payer["data"]["entries"] == [payer]
    assert of_payee["data"]["entries"] == [payee]
    assert of_both == TRANSFER
    assert shown(TRANSFER, Interest(reach="user-2")) is None


def test_what_names_no_user_is_shown_to_no_limited_key() -> None:
    assert shown(REFUSED, Interest(), "command.refused") == REFUSED
    assert shown(REFUSED, Interest(reach=""), "command.refused") is None
    assert shown(REFUSED, Interest(reach="user-1002"), "command.refused") is None


@pytest.mark.parametrize(
    "content",
    ["no event", [], {}, {"event_id": 5, "data": {"user_id": "user-1"}}, {"data": {"user_id": "user-1"}}],
)
def test_what_is_no_event_is_shown_to_nobody(content: object) -> None:
    assert shown(content, Interest()) is None
    assert Interest().shown(FeedEvent(0, "order.pending", b"\xff{")) is None


def test_events_are_chosen_by_kind_number_and_user() -> None:
    for interest, is_shown in (
        (Interest(("account.*",)), True),
        (Interest(("order.*", "account.opened")), True),
        (Interest(("order.*",)), False),
        (Interest(serial_no=OPENED["serial_no"]), True),
        (Interest(serial_no="R-1"), False),
        (Interest(user_id="user-1001"), True),
        (Interest(user_id="user-100"), False),
    ):
        assert (shown(OPENED, interest, "account.opened") is not None) == is_shown, interest
    assert shown(TRANSFER, Interest(user_id="user-1002")) is not None  # who receives the money


def test_an_event_is_shown_on_one_line() -> None:
    body = json.dumps(OPENED, indent=2).encode()

    for reach in (None, "user-"):
        found = Interest(reach=reach).shown(FeedEvent(0, "account.opened", body))
        assert found is not None
        assert b"\n" not in found
        assert json.loads(found) == OPENED


def test_a_pattern_is_right_where_some_event_may_match_it() -> None:
    assert wrong_pattern(["*", "order.*", "account.opened", *KINDS]) is None
    for wrong in ("order", "orders.*", "order.pendin", "*.opened", "order*", "", "ORDER.*", "order..*"):
        assert wrong_pattern(["order.*", wrong]) == wrong
    assert matches("order.*", "order.pending")
    assert not matches("order.*", "orders.pending")
