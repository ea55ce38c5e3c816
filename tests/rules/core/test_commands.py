"""Each serial number has one outcome, and the world is told with exactly the contract's fields."""

import re
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from tests.rules.contract.bodies import JsonObject
from tests.rules.core.world import (
    NOW,
    World,
    capture,
    command,
    events,
    freeze,
    hold,
    open_account,
    recharge,
    release,
    replies,
    requests,
    result,
    told,
    transfer,
    withdraw,
)
from wallet_schemas.codes import Code
from wallet_schemas.names import PAYMENT_REQUESTS, WALLET_EVENTS
from wallet_schemas.values import AccountStatus, OrderStatus, OrderType, PaymentStatus
from wallet_worker.core import accounts, orders
from wallet_worker.core.context import Policy
from wallet_worker.core.endings import Ending
from wallet_worker.core.facts import Facts
from wallet_worker.core.ids import is_account_no
from wallet_worker.core.inbound import InboundMessage
from wallet_worker.core.orders import Effect

SAID_AT = "2026-01-02T03:04:05.000006Z"
SAID_NEXT_DAY = "2026-01-03T03:04:05.000006Z"
UUID_7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def _world() -> World:
    """Return a wallet with an account of u-1."""
    world = World()
    world.tell(open_account())
    world.outgoing.clear()
    return world


# What is told


def test_opening_an_account_tells_the_account_and_the_outcome() -> None:
    world = World()

    decision = world.tell_one(open_account("upstream"))

    number, event_id = world.user().account_no, str(decision.outgoing[0].message_id)
    assert is_account_no(number)
    assert number.startswith("20260102")
    assert UUID_7.fullmatch(event_id)
    account = {
        "user_id": "u-1",
        "account_no": number,
        "account_type": "basic",
        "currency": "TWD",
        "balance": "0.00",
        "available": "0.00",
        "status": "active",
        "created_at": SAID_AT,
        "updated_at": SAID_AT,
    }
    assert [(item.exchange, item.routing_key, item.correlation_id, item.body) for item in told(decision)] == [
        (
            WALLET_EVENTS,
            "account.opened",
            None,
            {
                "type": "account.opened.v1",
                "event_id": event_id,
                "occurred_at": SAID_AT,
                "serial_no": "O-1",
                "data": account,
            },
        ),
        (
            "",
            "upstream",
            "c-1",
            {
                "type": "command.outcome.v1",
                "serial_no": "O-1",
                "status": "applied",
                "code": "OK",
                "duplicate": False,
                "result": {
                    "object": "account_opened",
                    "user_id": "u-1",
                    "account_type": "basic",
                    "currency": "TWD",
                    "account_no": number,
                },
            },
        ),
    ]
    assert decision.ending is Ending.APPLIED


def test_a_recharge_tells_the_order_the_payment_request_and_the_outcome() -> None:
    world = _world()

    decision = world.tell_one(recharge("upstream", amount="100"))

    order_id = str(world.orders["R-1"].order_id)
    assert UUID_7.fullmatch(order_id)
    order = {
        "order_id": order_id,
        "serial_no": "R-1",
        "user_id": "u-1",
        "account_no": world.user().account_no,
        "account_type": "basic",
        "order_type": "recharge",
        "amount": "100.00",
        "currency": "TWD",
        "channel": "card",
        "status": "pending",
        "code": "OK",
        "transacted_at": None,
        "created_at": SAID_AT,
        "updated_at": SAID_AT,
        "expires_at": SAID_NEXT_DAY,
    }
    assert [(item.exchange, item.routing_key, item.correlation_id, item.body) for item in told(decision)] == [
        (
            WALLET_EVENTS,
            "order.pending",
            None,
            {
                "type": "order.pending.v1",
                "event_id": str(decision.outgoing[0].message_id),
                "occurred_at": SAID_AT,
                "serial_no": "R-1",
                "data": order,
            },
        ),
        (
            PAYMENT_REQUESTS,
            "payment.request",
            None,
            {
                "type": "payment.request.v1",
                "payment_order_no": "R-1",
                "kind": "charge",
                "amount": "100.00",
                "currency": "TWD",
                "channel": "card",
                "requested_at": SAID_AT,
                "expires_at": SAID_NEXT_DAY,
                "user_id": "u-1",
                "account_no": world.user().account_no,
            },
        ),
        (
            "",
            "upstream",
            "c-1",
            {
                "type": "command.outcome.v1",
                "serial_no": "R-1",
                "status": "applied",
                "code": "OK",
                "duplicate": False,
                "result": {
                    "object": "recharge",
                    "user_id": "u-1",
                    "account_type": "basic",
                    "amount": "100.00",
                    "currency": "TWD",
                    "recharge_type": "card",
                    "serial_no": "R-1",
                    "order_status": "pending",
                },
            },
        ),
    ]
    assert world.entries == []


def test_a_refusal_tells_the_code_and_an_empty_outcome() -> None:
    world = World()

    decision = world.tell_one(recharge("upstream"))

    event, reply = told(decision)
    assert (event.exchange, event.routing_key) == (WALLET_EVENTS, "command.refused")
    assert event.body == {
        "type": "command.refused.v1",
        "event_id": str(decision.outgoing[0].message_id),
        "occurred_at": SAID_AT,
        "serial_no": "R-1",
        "data": {
            "command_type": "order.recharge.v1",
            "code": "ACCOUNT_NOT_FOUND",
            "message": "the user has no account of this type and currency",
        },
    }
    assert reply.body == {
        "type": "command.outcome.v1",
        "serial_no": "R-1",
        "status": "refused",
        "code": "ACCOUNT_NOT_FOUND",
        "duplicate": False,
        "result": {"object": "none"},
        "message": "the user has no account of this type and currency",
    }
    assert decision.ending is Ending.REFUSED


@pytest.mark.parametrize(
    ("currency", "amount", "shown"),
    [("TWD", "7", "7.00"), ("USD", "0.1", "0.10"), ("JPY", "500", "500"), ("KWD", "1.5", "1.500")],
)
def test_amounts_are_told_with_the_digits_of_their_currency(currency: str, amount: str, shown: str) -> None:
    world = World()
    world.tell(open_account(currency=currency))

    decision = world.tell_one(recharge("upstream", currency=currency, amount=amount))

    assert events(decision)[0]["data"]["amount"] == shown
    assert requests(decision)[0]["amount"] == shown
    assert replies(decision)[0]["result"]["amount"] == shown


def test_a_deployment_chooses_how_long_a_recharge_is_waited_for() -> None:
    world = World(rules=Policy(recharge_expires_after=timedelta(minutes=30)))
    world.tell(open_account())

    decision = world.tell_one(recharge())

    assert world.orders["R-1"].expires_at == NOW + timedelta(minutes=30)
    assert requests(decision)[0]["expires_at"] == "2026-01-02T03:34:05.000006Z"


def test_a_deployment_chooses_its_currencies() -> None:
    world = World(rules=Policy(currencies=frozenset({"CHF"})))

    assert world.tell_one(open_account(currency="CHF")).code is Code.OK
    assert world.tell_one(open_account(serial_no="O-2")).code is Code.CURRENCY_NOT_SUPPORTED


def test_an_account_type_that_is_left_out_is_basic() -> None:
    world = World()

    world.tell(open_account(account_type=...))

    assert world.user().account_type == "basic"


@pytest.mark.parametrize(
    "arrived",
    [
        open_account(user_id="u-2"),
        open_account(serial_no="O-2"),  # refused: ACCOUNT_EXISTS
        recharge(serial_no="R-1"),  # a repeat
        recharge(serial_no="R-1", amount="7"),  # a conflict
        recharge(amount=100),  # malformed
        result(),
        result(payment_order_no="R-9", attempts=3),
        result(keys={}),
        result(reason="\0"),
    ],
)
def test_nobody_is_answered_who_did_not_ask(arrived: InboundMessage) -> None:
    world = _world()
    world.tell(recharge())

    assert replies(world.tell_one(arrived)) == []
    assert len(replies(world.tell_one(arrived._replace(reply_to="upstream")))) == 1


def test_a_trace_is_carried_through_to_everything_that_is_told() -> None:
    world = _world()
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    decision = world.tell_one(recharge("upstream")._replace(traceparent=trace))

    assert {item.traceparent for item in decision.outgoing} == {trace}


def test_no_two_messages_of_a_decision_have_the_same_id() -> None:
    decision = _world().tell_one(recharge("upstream"))

    ids = {item.message_id for item in decision.outgoing} | {order.order_id for order in decision.orders}
    assert len(ids) == 4


# Repeats and conflicts


REFUSED_RECHARGE: JsonObject = {"serial_no": "R-2", "user_id": "u-nobody"}


@pytest.mark.parametrize("changes", [{}, REFUSED_RECHARGE])
def test_a_repeat_gets_the_stored_outcome_and_nothing_else(changes: JsonObject) -> None:
    world = _world()
    first = world.tell_one(recharge("upstream", **changes))
    before = (dict(world.orders), dict(world.accounts), dict(world.commands))

    again = world.tell_one(recharge("another", **changes))

    assert again.ending is Ending.REPEATED
    (reply,) = told(again)
    assert reply.routing_key == "another"
    assert reply.body == {**replies(first)[0], "duplicate": True}
    assert (world.orders, world.accounts, world.commands) == before


SPELLINGS: list[JsonObject] = [
    {"amount": "100"},
    {"amount": "100.0"},
    {"amount": "0100.00"},
    {"account_type": ...},
    {"metadata": None},
]


@pytest.mark.parametrize("changes", SPELLINGS)
def test_a_repeat_may_be_spelt_otherwise(changes: JsonObject) -> None:
    world = _world()
    first = world.tell_one(recharge("upstream"))

    again = world.tell_one(recharge("upstream", **changes))

    assert again.ending is Ending.REPEATED
    assert replies(again) == [{**replies(first)[0], "duplicate": True}]


def test_a_repeat_gets_the_stored_outcome_whatever_has_happened_since() -> None:
    world = _world()
    first = world.tell_one(recharge("upstream"))
    world.tell(result())
    world.accounts[world.user().account_id] = replace(world.user(), status=AccountStatus.FROZEN)

    again = world.tell_one(recharge("upstream"))

    assert world.orders["R-1"].status is OrderStatus.SUCCEEDED
    assert replies(again) == [{**replies(first)[0], "duplicate": True}]
    assert replies(again)[0]["result"]["order_status"] == "pending"


def test_a_refused_serial_number_stays_refused_when_its_reason_is_gone() -> None:
    world = World()
    world.tell(recharge())
    world.tell(open_account())

    again = world.tell_one(recharge("upstream"))
    fresh = world.tell_one(recharge("upstream", serial_no="R-2"))

    assert [(reply["code"], reply["duplicate"]) for reply in replies(again)] == [("ACCOUNT_NOT_FOUND", True)]
    assert [(reply["code"], reply["duplicate"]) for reply in replies(fresh)] == [("OK", False)]
    assert set(world.orders) == {"R-2"}


@pytest.mark.parametrize(
    ("other", "different"),
    [
        ({"amount": "100.01"}, ["amount"]),
        ({"user_id": "u-2", "recharge_type": "bank_transfer"}, ["recharge_type", "user_id"]),
        ({"currency": "XYZ", "amount": "9" * 30}, ["amount", "currency"]),
        ({"metadata": {"a": "b"}}, ["metadata"]),
        ({"account_type": "bonus"}, ["account_type"]),
    ],
)
def test_other_content_under_a_used_serial_number_is_a_conflict_that_names_the_fields(
    other: JsonObject, different: list[str]
) -> None:
    world = _world()
    world.tell(recharge())
    before = (dict(world.orders), dict(world.accounts), dict(world.commands))

    decision = world.tell_one(recharge("upstream", **other))

    assert (decision.ending, decision.code) == (Ending.CONFLICT, Code.SERIAL_CONFLICT)
    (reply,) = told(decision)
    assert (reply.exchange, reply.routing_key) == ("", "upstream")
    assert reply.body == {
        "type": "command.outcome.v1",
        "serial_no": "R-1",
        "status": "refused",
        "code": "SERIAL_CONFLICT",
        "duplicate": False,
        "result": {"object": "none"},
        "message": f"the serial number was used before with different {', '.join(different)}",
        "different": different,
    }
    assert (world.orders, world.accounts, world.commands) == before


def test_another_type_under_a_used_serial_number_is_a_conflict() -> None:
    world = _world()

    decision = world.tell_one(recharge("upstream", serial_no="O-1"))

    assert decision.ending is Ending.CONFLICT
    assert replies(decision)[0]["different"] == ["amount", "recharge_type", "type"]
    assert world.orders == {}


def test_the_stored_outcome_survives_a_conflict() -> None:
    world = _world()
    first = world.tell_one(recharge("upstream"))
    world.tell(recharge(amount="7"))

    again = world.tell_one(recharge("upstream"))

    assert replies(again) == [{**replies(first)[0], "duplicate": True}]


def test_a_refused_serial_number_can_be_in_conflict_too() -> None:
    world = World()
    world.tell(recharge())

    decision = world.tell_one(recharge("upstream", amount="7"))

    assert decision.ending is Ending.CONFLICT
    assert replies(decision)[0]["different"] == ["amount"]


# Accounts


def test_one_account_of_a_type_and_currency() -> None:
    world = _world()

    decisions = world.tell(
        open_account(serial_no="O-2"),
        open_account(serial_no="O-3", account_type="bonus"),
        open_account(serial_no="O-4", currency="JPY"),
        open_account(serial_no="O-5", user_id="u-2"),
    )

    assert [decision.code for decision in decisions] == [Code.ACCOUNT_EXISTS, Code.OK, Code.OK, Code.OK]


@pytest.mark.parametrize("status", [AccountStatus.ACTIVE, AccountStatus.FROZEN])
def test_an_account_that_is_not_closed_leaves_no_room_for_another(status: AccountStatus) -> None:
    world = World()
    world.with_account(status)

    assert world.tell_one(open_account()).code is Code.ACCOUNT_EXISTS


def test_after_a_closed_account_a_new_one_with_a_new_number_is_the_one_that_is_meant() -> None:
    world = World()
    closed = world.with_account(AccountStatus.CLOSED)

    opened, recharged = world.tell(open_account(), recharge())

    assert (opened.code, recharged.code) == (Code.OK, Code.OK)
    assert world.user().account_no != closed.account_no
    assert world.orders["R-1"].account_id == world.user().account_id


@pytest.mark.parametrize("turned", [False, True])
def test_the_newest_account_is_meant_in_whatever_order_accounts_are_found(turned: bool) -> None:  # noqa: FBT001
    world = World()
    found = [world.with_account(AccountStatus.CLOSED), world.with_account()]
    facts = Facts()

    facts.add_accounts(reversed(found) if turned else found)

    assert facts.account(found[1].key) == found[1]


def test_a_frozen_account_can_be_recharged() -> None:
    world = World()
    world.with_account(AccountStatus.FROZEN)

    assert world.tell_one(recharge()).code is Code.OK


def test_the_largest_amount_is_accepted_and_one_more_is_refused() -> None:
    world = _world()

    fits, too_much = world.tell(
        recharge(serial_no="R-1", amount="10000000000000.00"),
        recharge(serial_no="R-2", amount="10000000000000.01"),
    )

    assert fits.code is Code.OK
    assert (too_much.ending, too_much.code) == (Ending.REFUSED, Code.AMOUNT_OUT_OF_RANGE)


def test_nobody_outside_is_shown_a_system_account() -> None:
    world = World()

    with pytest.raises(ValueError, match="system account"):
        accounts.view(world.accounts[1])


# Malformed


@pytest.mark.parametrize(
    ("changes", "code", "fields"),
    [
        ({"amount": 100}, "MALFORMED", ["amount"]),
        ({"amount": "1.001"}, "MALFORMED", ["amount"]),
        ({"amount": "1e3"}, "MALFORMED", ["amount"]),
        ({"amount": "0"}, "MALFORMED", ["amount"]),
        ({"colour": "red", "recharge_type": ...}, "MALFORMED", ["colour", "recharge_type"]),
        ({"type": "order.recharge.v9"}, "UNSUPPORTED_TYPE", ["type"]),
    ],
)
def test_a_malformed_command_that_can_be_answered_is_told_its_faults(
    changes: JsonObject, code: str, fields: list[str]
) -> None:
    world = _world()
    commands = dict(world.commands)

    decision = world.tell_one(recharge("upstream", **changes))

    assert (decision.ending, decision.code) == (Ending.REJECTED, Code(code))
    (reply,) = told(decision)
    assert (reply.exchange, reply.routing_key, reply.correlation_id) == ("", "upstream", "c-1")
    faults = reply.body.pop("faults")
    assert [fault["field"] for fault in faults] == fields
    assert all(set(fault) == {"field", "message"} and fault["message"] for fault in faults)
    assert reply.body.pop("message") == decision.detail
    assert reply.body == {
        "type": "command.outcome.v1",
        "serial_no": "R-1",
        "status": "refused",
        "code": code,
        "duplicate": False,
        "result": {"object": "none"},
    }
    assert world.commands == commands


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"{}", b"[]", b'{"serial_no": "a b"}', b'{"serial_no": "A", "serial_no": "B"}']
)
def test_what_has_no_serial_number_is_answered_without_one(body: bytes) -> None:
    decision = World().tell_one(command(body, "upstream"))

    assert (decision.ending, decision.code) == (Ending.REJECTED, Code.MALFORMED)
    (reply,) = replies(decision)
    assert reply.pop("faults")
    assert reply.pop("message") == decision.detail
    assert reply == {
        "type": "command.outcome.v1",
        "serial_no": None,
        "status": "refused",
        "code": "MALFORMED",
        "duplicate": False,
        "result": {"object": "none"},
    }


def test_what_cannot_be_read_and_has_no_address_is_not_answered() -> None:
    assert World().tell_one(command(b"{}")).outgoing == ()


def _valid_until(seconds: int) -> str:
    return f"{NOW + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S.%f}Z"


@pytest.mark.parametrize(("seconds", "code"), [(-1, Code.COMMAND_EXPIRED), (0, Code.OK), (3_600, Code.OK)])
def test_a_command_is_refused_once_its_time_is_over(seconds: int, code: Code) -> None:
    world = _world()

    decision = world.tell_one(recharge("upstream", valid_until=_valid_until(seconds)))

    assert decision.code is code
    if code is Code.COMMAND_EXPIRED:
        assert [event["type"] for event in events(decision)] == ["command.refused.v1"]
        assert world.orders == {}


def test_until_when_a_command_is_valid_is_no_part_of_its_content() -> None:
    world = _world()
    world.tell(recharge(valid_until=_valid_until(60)))

    again = [
        world.tell_one(recharge("upstream", valid_until=_valid_until(-60))),
        world.tell_one(recharge("upstream")),
        world.tell_one(recharge("upstream", valid_until=None)),
    ]

    assert [(decision.ending, decision.code) for decision in again] == [(Ending.REPEATED, Code.OK)] * 3
    assert all("valid_until" not in command.content for command in world.commands.values())


def test_what_came_too_late_stays_refused() -> None:
    world = _world()
    world.tell(recharge(valid_until=_valid_until(-1)))

    (reply,) = replies(world.tell_one(recharge("upstream")))

    assert (reply["code"], reply["duplicate"]) == ("COMMAND_EXPIRED", True)
    assert reply["message"] == "the command was decided later than its valid_until"


def test_a_repeated_refusal_says_again_why() -> None:
    world = _world()
    first, second = (
        replies(world.tell_one(transfer("upstream", to_user_id="u-nobody", amount="1"))) for _ in range(2)
    )

    assert second == [{**first[0], "duplicate": True}]
    assert first[0]["details"] == {"party": "payee"}


def test_a_mended_message_may_carry_the_serial_number_of_the_malformed_one() -> None:
    world = _world()
    world.tell(recharge(amount=100), recharge(type="order.recharge.v9"))

    mended = world.tell_one(recharge("upstream"))

    assert [(reply["code"], reply["duplicate"]) for reply in replies(mended)] == [("OK", False)]


def test_a_malformed_message_under_a_used_serial_number_is_malformed_and_no_conflict() -> None:
    world = _world()
    world.tell(recharge())

    assert world.tell_one(recharge(amount=7)).code is Code.MALFORMED


# The picture in the documents


def test_the_diagram_has_an_arrow_for_every_row_of_the_table() -> None:
    for kinds, table in (
        ([OrderType.RECHARGE], orders.RECHARGE),
        ([OrderType.WITHDRAW, OrderType.REFUND], orders.PAYOUT),
        ([OrderType.HOLD], orders.HOLD),
    ):
        lines = orders.diagram(kinds).splitlines()

        assert lines[0] == "stateDiagram-v2"
        heard = [
            row
            for row, step in table.items()
            if isinstance(row[1], PaymentStatus) or step.effect is not Effect.NO_CHANGE
        ]
        assert len(lines) == 2 + len(heard)
    assert list(orders.diagrams()) == ["recharge", "withdraw and refund", "hold"]


def test_the_same_arguments_give_the_same_decision() -> None:
    first, other = _world(), _world()

    assert first.tell(recharge("upstream"), result("gateway")) == other.tell(
        recharge("upstream"), result("gateway")
    )
    assert isinstance(first.outgoing[0].message_id, UUID)


def test_the_reply_with_a_fresh_outcome_is_the_stored_outcome_to_the_byte() -> None:
    """The outcome is built from the result itself, and a repeat from what was stored of it."""
    world = World()
    for user_id in ("u-1", "u-2"):
        world.with_account(user_id=user_id, balance_minor=100_000)
    arrived = [
        open_account("upstream", user_id="u-9"),
        freeze("upstream", user_id="u-9"),
        recharge("upstream"),
        withdraw("upstream"),
        transfer("upstream"),
        hold("upstream"),
        capture("upstream"),
        release("upstream"),
        recharge("upstream", serial_no="R-2", user_id="nobody"),
    ]

    fresh, repeated = world.tell(*arrived), world.tell(*arrived)

    assert {item.ending for item in repeated} == {Ending.REPEATED}
    for first, second in zip(fresh, repeated, strict=True):
        (repeat,) = second.outgoing
        body = first.outgoing[-1].body
        assert body.replace(b'"duplicate":false', b'"duplicate":true') == repeat.body
        assert body != repeat.body
