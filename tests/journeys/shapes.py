"""What times, events, orders and entries look like on the wire (docs/contract.md, sections 2 and 7)."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.journeys.messages import Json


def a_time(value: Any) -> datetime:
    """Return a time of the wire, which is written in UTC with Z and microseconds, and is about now."""
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", value)
    found = datetime.fromisoformat(value)
    assert abs(found - datetime.now(UTC)) < timedelta(minutes=2)
    return found


def an_event(event: Json, *, type_: str, serial_no: str) -> Json:
    """Return the data of an event whose envelope is as the contract says."""
    assert event.keys() == {"type", "event_id", "occurred_at", "serial_no", "data"}
    assert (event["type"], event["serial_no"]) == (type_, serial_no)
    assert re.fullmatch(
        r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", event["event_id"]
    )
    a_time(event["occurred_at"])
    data: Json = event["data"]
    return data


CHANNELS = {"recharge": "card", "withdraw": "bank_transfer", "refund": "card"}


def an_order(order: Json, **fields: Any) -> None:
    """The order has exactly the fields of the contract: these, and the ones that every order has.

    Money moved where `transacted_at` is asked for as True.
    """
    moved = fields.pop("transacted_at", False)
    created, updated = a_time(order["created_at"]), a_time(order["updated_at"])
    assert created <= updated
    if moved:
        assert created <= a_time(order["transacted_at"]) <= updated
    else:
        assert order["transacted_at"] is None
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", order["order_id"])
    assert re.fullmatch(r"20\d{17}", order["account_no"])
    generated = {"order_id", "account_no", "transacted_at", "created_at", "updated_at"}
    assert {name: value for name, value in order.items() if name not in generated} == {
        "currency": "TWD",
        "code": "OK",
        "account_type": "basic",
        **({"channel": CHANNELS[order["order_type"]]} if order["order_type"] in CHANNELS else {}),
        **fields,
    }


def a_line(entry: Json, **fields: Any) -> None:
    """The entry has exactly the fields of the contract, of which these are asked for."""
    a_time(entry["created_at"])
    assert re.fullmatch(r"20\d{17}", entry["account_no"])
    assert entry.keys() == {
        "account_no",
        "line_no",
        "serial_no",
        "order_type",
        "direction",
        "amount",
        "currency",
        "balance_before",
        "balance_after",
        "created_at",
    }
    assert {name: entry[name] for name in fields} == fields
