"""What the wallet says may gain values of enumerations: who reads it has an answer for one that he does not know."""

import json
from copy import deepcopy
from typing import Any

import pytest
from pydantic import ValidationError

from tests.rules.contract import bodies
from wallet_schemas.codes import Code
from wallet_schemas.encode import encode
from wallet_schemas.events import OrderPending, ReversalOpened
from wallet_schemas.message import Message
from wallet_schemas.parse import QUERIES, RESULTS, Malformed, parse
from wallet_schemas.queries import OrderDetail, QueryRefused
from wallet_schemas.values import GROWING, UNKNOWN_LENGTH_MAX, OrderStatus, OrderType

PLACES = [
    (OrderDetail, ("order", "order_type")),
    (OrderDetail, ("order", "status")),
    (OrderDetail, ("order", "code")),
    (OrderDetail, ("outcome", "code")),
    (OrderDetail, ("outcome", "result", "order_status")),
    (OrderDetail, ("entries", 0, "direction")),
    (OrderPending, ("data", "status")),
    (ReversalOpened, ("data", "kind")),
    (QueryRefused, ("code",)),
]


def _with(message: type[Message], place: tuple[str | int, ...], value: object) -> bytes:
    found: Any = deepcopy(message.examples()[0])
    inside = found
    for name in place[:-1]:
        inside = inside[name]
    inside[place[-1]] = value
    return json.dumps(found).encode()


@pytest.mark.parametrize(("message", "place"), PLACES)
def test_a_value_that_is_not_known_is_read_as_itself(
    message: type[Message], place: tuple[str | int, ...]
) -> None:
    body = _with(message, place, "from_next_year")

    read = message.model_validate_json(body)

    assert json.loads(encode(read)) == json.loads(body)


def test_it_is_none_of_the_values_that_are_known() -> None:
    detail = OrderDetail.model_validate_json(_with(OrderDetail, ("order", "status"), "reviewing"))

    assert detail.order is not None
    assert detail.order.status is not OrderStatus.PENDING
    assert detail.order.status not in set(OrderStatus)
    assert (str(detail.order.status), detail.order.status) == ("reviewing", "reviewing")
    assert "reviewing" not in list(OrderStatus)
    assert OrderDetail.model_validate_json(encode(detail)) == detail


def test_a_code_that_is_not_known_has_a_meaning_for_people() -> None:
    refused = QueryRefused.model_validate_json(_with(QueryRefused, ("code",), "NEW_CODE"))

    assert isinstance(refused.code, Code)
    assert refused.code.meaning == "NEW_CODE, which this version does not know"


def test_a_value_that_is_known_is_its_member() -> None:
    detail = OrderDetail.model_validate_json(_with(OrderDetail, ("order", "order_type"), "refund"))

    assert detail.order is not None
    assert detail.order.order_type is OrderType.REFUND


@pytest.mark.parametrize("value", [5, None, True, "", "x" * (UNKNOWN_LENGTH_MAX + 1), ["pending"]])
def test_what_is_no_short_text_is_no_value(value: object) -> None:
    with pytest.raises(ValidationError):
        OrderDetail.model_validate_json(_with(OrderDetail, ("order", "status"), value))


@pytest.mark.parametrize(
    ("body", "accepted"),
    [
        ({**bodies.RESULT, "status": "reviewing"}, RESULTS),
        ({**bodies.REVERSAL, "kind": "reviewing"}, RESULTS),
        ({**bodies.INSTRUCTIONS, "action": "dance"}, RESULTS),
        ({"type": "order.find.v1", "user_id": "u-1", "statuses": ["reviewing"]}, QUERIES),
    ],
)
def test_what_is_sent_to_the_wallet_is_closed(body: bodies.JsonObject, accepted: Any) -> None:
    with pytest.raises(Malformed):
        parse(bodies.body(body), accepted)


def test_each_enumeration_is_defined_once_and_has_the_values_that_are_known() -> None:
    from wallet_schemas.json_schema import json_schema

    definitions = json_schema(OrderDetail)["$defs"]

    assert definitions["OrderStatus"]["enum"] == [status.value for status in OrderStatus]
    assert {"OrderStatus", "OrderType", "Code", "Direction"} <= definitions.keys() & GROWING.keys()
    assert "x-growing" not in json.dumps(definitions)
