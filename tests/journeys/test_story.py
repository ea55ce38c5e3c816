"""The main job, end to end: open an account, recharge it through the gateway, read the statement."""

import re
from datetime import datetime, timedelta

import pytest

from tests.journeys.messages import fresh, open_account, recharge, result
from tests.journeys.shapes import a_time, an_event
from tests.journeys.upstream import Upstream

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_an_account_is_opened_recharged_and_stated(upstream: Upstream) -> None:
    user = fresh("user")
    opening, order = open_account(user), recharge(user, "100.5")

    opened = await upstream.outcome(opening)
    recharged = await upstream.outcome(order)
    request = await upstream.requests.first_about(order["serial_no"])
    processed = await upstream.processed(result(order["serial_no"], amount="100.50"))
    detail = await upstream.query({"type": "order.get.v1", "serial_no": order["serial_no"]})
    statement = await upstream.query({"type": "statement.get.v1", "user_id": user, "currency": "TWD"})

    account_no = opened["result"].pop("account_no")
    assert re.fullmatch(r"20\d{17}", account_no)
    assert opened == {
        "type": "command.outcome.v1",
        "serial_no": opening["serial_no"],
        "status": "applied",
        "code": "OK",
        "duplicate": False,
        "result": {"object": "account_opened", "user_id": user, "account_type": "basic", "currency": "TWD"},
    }
    assert recharged == {
        "type": "command.outcome.v1",
        "serial_no": order["serial_no"],
        "status": "applied",
        "code": "OK",
        "duplicate": False,
        "result": {
            "object": "recharge",
            "user_id": user,
            "account_type": "basic",
            "amount": "100.50",
            "currency": "TWD",
            "recharge_type": "card",
            "serial_no": order["serial_no"],
            "order_status": "pending",
        },
    }
    body = request.json
    assert a_time(body.pop("requested_at")) + timedelta(days=1) == datetime.fromisoformat(
        body.pop("expires_at")
    )
    assert (body.pop("user_id"), body.pop("account_no")) == (user, account_no)
    assert body == {
        "type": "payment.request.v1",
        "payment_order_no": order["serial_no"],
        "kind": "charge",
        "amount": "100.50",
        "currency": "TWD",
        "channel": "card",
    }
    assert processed == {
        "type": "payment.processed.v1",
        "payment_order_no": order["serial_no"],
        "processing_status": "processed",
        "code": "OK",
    }
    line = {
        "account_no": account_no,
        "line_no": 1,
        "serial_no": order["serial_no"],
        "order_type": "recharge",
        "direction": "credit",
        "amount": "100.50",
        "currency": "TWD",
        "balance_before": "0.00",
        "balance_after": "100.50",
    }
    (entry,) = statement["entries"]
    moved_at = a_time(entry["created_at"])
    assert entry == line | {"created_at": entry["created_at"]}
    account = statement["account"]
    assert a_time(account.pop("created_at")) < moved_at == a_time(account.pop("updated_at"))
    assert account == {
        "user_id": user,
        "account_no": account_no,
        "account_type": "basic",
        "currency": "TWD",
        "balance": "100.50",
        "available": "100.50",
        "status": "active",
    }
    assert {name: statement[name] for name in statement.keys() - {"account", "entries"}} == {
        "type": "statement.v1",
        "opening_balance": "0.00",
        "closing_balance": "100.50",
        "next_after_line_no": None,
    }
    assert detail["outcome"] == recharged
    assert detail["entries"] == [entry]
    assert (detail["order"]["status"], detail["order"]["transacted_at"]) == ("succeeded", entry["created_at"])


async def test_events_say_what_happened_with_exactly_the_fields_of_the_contract(upstream: Upstream) -> None:
    user = fresh("user")
    opening, order = open_account(user, currency="JPY"), recharge(user, "500", currency="JPY")

    opened = await upstream.outcome(opening)
    await upstream.outcome(order)
    await upstream.processed(result(order["serial_no"], amount="500", currency="JPY"))
    heard = [
        await upstream.events.first_about(opening["serial_no"], "account.opened.v1"),
        await upstream.events.first_about(order["serial_no"], "order.pending.v1"),
        await upstream.events.first_about(order["serial_no"], "order.succeeded.v1"),
    ]

    assert [item.routing_key for item in heard] == ["account.opened", "order.pending", "order.succeeded"]
    account = an_event(heard[0].json, type_="account.opened.v1", serial_no=opening["serial_no"])
    assert account == {
        "user_id": user,
        "account_no": opened["result"]["account_no"],
        "account_type": "basic",
        "currency": "JPY",
        "balance": "0",
        "available": "0",
        "status": "active",
        "created_at": account["created_at"],
        "updated_at": account["created_at"],
    }
    pending = an_event(heard[1].json, type_="order.pending.v1", serial_no=order["serial_no"])
    assert pending == {
        "order_id": pending["order_id"],
        "serial_no": order["serial_no"],
        "user_id": user,
        "account_no": account["account_no"],
        "account_type": "basic",
        "order_type": "recharge",
        "amount": "500",
        "currency": "JPY",
        "channel": "card",
        "status": "pending",
        "code": "OK",
        "transacted_at": None,
        "created_at": pending["created_at"],
        "updated_at": pending["created_at"],
        "expires_at": pending["expires_at"],
    }
    succeeded = an_event(heard[2].json, type_="order.succeeded.v1", serial_no=order["serial_no"])
    (entry,) = succeeded.pop("entries")
    assert succeeded == pending | {
        "status": "succeeded",
        "transacted_at": entry["created_at"],
        "updated_at": succeeded["updated_at"],
    }
    assert entry == {
        "account_no": account["account_no"],
        "line_no": 1,
        "serial_no": order["serial_no"],
        "order_type": "recharge",
        "direction": "credit",
        "amount": "500",
        "currency": "JPY",
        "balance_before": "0",
        "balance_after": "500",
        "created_at": entry["created_at"],
    }


async def test_what_is_published_is_persistent_json_with_an_id_and_the_trace(upstream: Upstream) -> None:
    user, trace = fresh("user"), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    order = recharge(user)
    await upstream.outcome(open_account(user))

    correlation_id = await upstream.command(order, headers={"traceparent": trace})
    (reply,) = await upstream.replies_to(correlation_id)
    event = await upstream.events.first_about(order["serial_no"])
    request = await upstream.requests.first_about(order["serial_no"])

    assert len({item.properties.message_id for item in (reply, event, request)}) == 3
    for item in (reply, event, request):
        assert item.properties.message_id
        assert item.properties.content_type == "application/json"
        assert item.properties.delivery_mode == 2
        assert item.headers["traceparent"] == trace
    assert reply.headers.keys() == event.headers.keys() == {"traceparent"}
    assert request.headers.keys() == {"traceparent", "x-signature"}
    assert reply.exchange == ""
    assert (event.exchange, event.routing_key) == ("wallet.events", "order.pending")
    assert (request.exchange, request.routing_key) == ("payment.requests", "payment.request")


async def test_metadata_is_accepted_and_part_of_the_content(upstream: Upstream) -> None:
    user = fresh("user")
    opening = open_account(user, metadata={"campaign": "spring", "用戶": "中文"})
    await upstream.outcome(opening)

    repeated = await upstream.outcome(opening)
    changed = await upstream.outcome({**opening, "metadata": {"campaign": "summer"}})

    assert (repeated["code"], repeated["duplicate"]) == ("OK", True)
    assert (changed["code"], changed["different"]) == ("SERIAL_CONFLICT", ["metadata"])


async def test_the_account_type_is_basic_where_it_is_left_out(upstream: Upstream) -> None:
    user = fresh("user")

    outcome = await upstream.outcome(open_account(user, account_type=...))
    again = await upstream.outcome(open_account(user))

    assert outcome["result"]["account_type"] == "basic"
    assert again["code"] == "ACCOUNT_EXISTS"
