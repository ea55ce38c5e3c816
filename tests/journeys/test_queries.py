"""Queries: what accounts, orders and statements look like, and that every query is answered."""

from datetime import datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from pamqp.commands import Basic

from tests.journeys.conftest import Wallet
from tests.journeys.messages import Json, encoded, fresh, open_account, recharge, result
from tests.journeys.upstream import QUERIES, Upstream

pytestmark = pytest.mark.asyncio(loop_scope="module")


def statement_of(user: str, **fields: Any) -> Json:
    return {"type": "statement.get.v1", "user_id": user, "account_type": "basic", "currency": "TWD"} | fields


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def user(shared: Wallet) -> str:
    """Give a user whose TWD account was credited 1.00, 2.00, … 7.00, and who has two more accounts."""
    upstream = shared.upstream
    user = await upstream.opened()
    await upstream.opened(user, account_type="savings")
    await upstream.opened(user, currency="JPY")
    for number in range(1, 8):
        order = recharge(user, f"{number}.00")
        await upstream.outcome(order)
        answer = await upstream.processed(result(order["serial_no"], amount=f"{number}.00"))
        assert answer["processing_status"] == "processed"
    return user


def numbers(statement: Json) -> list[int]:
    return [entry["line_no"] for entry in statement["entries"]]


async def test_a_statement_has_every_line_without_gaps_each_beginning_where_the_last_ended(
    user: str, upstream: Upstream
) -> None:
    statement = await upstream.query(statement_of(user))

    entries = statement["entries"]
    assert numbers(statement) == [1, 2, 3, 4, 5, 6, 7]
    assert [entry["amount"] for entry in entries] == [f"{number}.00" for number in range(1, 8)]
    assert [entry["balance_before"] for entry in entries[1:]] == [
        entry["balance_after"] for entry in entries[:-1]
    ]
    assert (statement["opening_balance"], statement["closing_balance"]) == ("0.00", "28.00")
    assert statement["account"]["balance"] == "28.00"
    assert statement["next_after_line_no"] is None


async def test_the_pages_of_a_statement_follow_each_other(user: str, upstream: Upstream) -> None:
    pages: list[Json] = []
    after: int | None = 0

    while after is not None:
        pages.append(await upstream.query(statement_of(user, after_line_no=after, limit=3)))
        after = pages[-1]["next_after_line_no"]

    assert [numbers(page) for page in pages] == [[1, 2, 3], [4, 5, 6], [7]]
    assert [page["opening_balance"] for page in pages] == ["0.00", "6.00", "21.00"]
    assert [page["closing_balance"] for page in pages] == ["6.00", "21.00", "28.00"]


async def test_a_page_that_ends_with_the_last_line_is_the_last_page(user: str, upstream: Upstream) -> None:
    page = await upstream.query(statement_of(user, limit=7))

    assert (numbers(page)[-1], page["next_after_line_no"]) == (7, None)


@pytest.mark.parametrize(
    ("since", "until", "shown", "opening", "closing"),
    [
        (3, None, [3, 4, 5, 6, 7], "3.00", "28.00"),
        (None, 3, [1, 2], "0.00", "3.00"),
        (3, 6, [3, 4, 5], "3.00", "15.00"),
        (5, 5, [], "10.00", "10.00"),
        (6, 2, [], "15.00", "15.00"),
    ],
)
async def test_a_statement_of_a_span_has_its_beginning_and_not_its_end(
    since: int | None,
    until: int | None,
    shown: list[int],
    opening: str,
    closing: str,
    user: str,
    upstream: Upstream,
) -> None:
    made = [entry["created_at"] for entry in (await upstream.query(statement_of(user)))["entries"]]
    span = {name: made[line - 1] for name, line in (("from", since), ("to", until)) if line is not None}

    statement = await upstream.query(statement_of(user, **span))

    assert numbers(statement) == shown
    assert (statement["opening_balance"], statement["closing_balance"]) == (opening, closing)


async def test_a_statement_of_days_without_movement_has_the_balance_of_then(
    user: str, upstream: Upstream
) -> None:
    before = await upstream.query(statement_of(user, to="2020-01-01T00:00:00Z"))
    after = await upstream.query(statement_of(user, **{"from": "2999-01-01T00:00:00.000001Z"}))

    assert [before[name] for name in ("entries", "opening_balance", "closing_balance")] == [
        [],
        "0.00",
        "0.00",
    ]
    assert [after[name] for name in ("entries", "opening_balance", "closing_balance")] == [
        [],
        "28.00",
        "28.00",
    ]


async def test_a_statement_past_its_end_is_empty(user: str, upstream: Upstream) -> None:
    statement = await upstream.query(statement_of(user, after_line_no=7))

    assert (statement["entries"], statement["next_after_line_no"]) == ([], None)
    assert (statement["opening_balance"], statement["closing_balance"]) == ("28.00", "28.00")


async def test_a_statement_of_an_account_without_entries_is_empty(user: str, upstream: Upstream) -> None:
    statement = await upstream.query(statement_of(user, account_type="savings"))
    yen = await upstream.query(statement_of(user, currency="JPY"))

    assert [statement[name] for name in ("entries", "opening_balance", "closing_balance")] == [
        [],
        "0.00",
        "0.00",
    ]
    assert [yen[name] for name in ("entries", "opening_balance", "closing_balance")] == [[], "0", "0"]


async def test_the_account_type_of_a_statement_is_basic_where_it_is_left_out(
    user: str, upstream: Upstream
) -> None:
    query_sent = statement_of(user)
    del query_sent["account_type"]

    statement = await upstream.query(query_sent)

    assert statement["account"]["account_type"] == "basic"


async def test_accounts_are_listed_with_every_field(user: str, upstream: Upstream) -> None:
    answer = await upstream.query({"type": "account.get.v1", "user_id": user})

    assert answer.keys() == {"type", "accounts"}
    assert answer["type"] == "account.list.v1"
    listed = {(account["account_type"], account["currency"]): account for account in answer["accounts"]}
    assert listed.keys() == {("basic", "TWD"), ("savings", "TWD"), ("basic", "JPY")}
    basic = listed["basic", "TWD"]
    assert datetime.fromisoformat(basic["updated_at"]) - datetime.fromisoformat(
        basic["created_at"]
    ) > timedelta(0)
    assert isinstance(basic["id"], int)
    assert basic == {
        "id": basic["id"],
        "user_id": user,
        "account_no": basic["account_no"],
        "account_type": "basic",
        "currency": "TWD",
        "balance": "28.00",
        "available": "28.00",
        "status": "active",
        "created_at": basic["created_at"],
        "updated_at": basic["updated_at"],
    }


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"currency": "TWD"}, {("basic", "TWD"), ("savings", "TWD")}),
        ({"account_type": "basic"}, {("basic", "TWD"), ("basic", "JPY")}),
        ({"account_type": "basic", "currency": "JPY"}, {("basic", "JPY")}),
        ({"account_type": "savings", "currency": "JPY"}, set()),
        ({"account_type": None, "currency": None}, {("basic", "TWD"), ("savings", "TWD"), ("basic", "JPY")}),
    ],
)
async def test_accounts_are_found_by_type_and_currency(
    fields: Json, found: set[tuple[str, str]], user: str, upstream: Upstream
) -> None:
    answer = await upstream.query({"type": "account.get.v1", "user_id": user} | fields)

    assert {(account["account_type"], account["currency"]) for account in answer["accounts"]} == found


async def test_nobody_has_no_accounts(upstream: Upstream) -> None:
    answer = await upstream.query({"type": "account.get.v1", "user_id": "nobody"})

    assert answer == {"type": "account.list.v1", "accounts": []}


async def test_an_order_is_shown_as_it_stands_with_the_outcome_of_then(upstream: Upstream) -> None:
    user = await upstream.opened()
    order = recharge(user)
    outcome = await upstream.outcome(order)
    query_sent = {"type": "order.get.v1", "serial_no": order["serial_no"]}

    pending = await upstream.query(query_sent)
    await upstream.processed(result(order["serial_no"]))
    succeeded = await upstream.query(query_sent)

    assert pending.keys() == succeeded.keys() == {"type", "outcome", "order", "entries"}
    assert pending["outcome"] == succeeded["outcome"] == outcome
    assert (pending["order"]["status"], pending["entries"]) == ("pending", [])
    (entry,) = succeeded["entries"]
    assert (entry["line_no"], entry["amount"], entry["direction"]) == (1, "100.00", "credit")
    shown = succeeded["order"]
    assert shown == {
        "order_id": pending["order"]["order_id"],
        "serial_no": order["serial_no"],
        "user_id": user,
        "account_no": entry["account_no"],
        "account_type": "basic",
        "order_type": "recharge",
        "amount": "100.00",
        "currency": "TWD",
        "channel": "card",
        "gateway_ref": shown["gateway_ref"],
        "status": "succeeded",
        "code": "OK",
        "transacted_at": entry["created_at"],
        "created_at": pending["order"]["created_at"],
        "updated_at": shown["updated_at"],
        "expires_at": pending["order"]["expires_at"],
    }


async def test_a_serial_number_without_an_order_shows_its_outcome(upstream: Upstream) -> None:
    opening, refused = open_account(fresh("user")), recharge("nobody")
    outcomes = [await upstream.outcome(opening), await upstream.outcome(refused)]

    shown = [
        await upstream.query({"type": "order.get.v1", "serial_no": command["serial_no"]})
        for command in (opening, refused)
    ]

    assert shown == [
        {"type": "order.detail.v1", "outcome": outcome, "order": None, "entries": []} for outcome in outcomes
    ]


REFUSED: dict[str, tuple[str, Json | bytes]] = {
    "a serial number never seen": ("ORDER_NOT_FOUND", {"type": "order.get.v1", "serial_no": "never"}),
    "a statement of nobody": ("ACCOUNT_NOT_FOUND", statement_of("nobody")),
    "a statement in another currency": ("ACCOUNT_NOT_FOUND", statement_of("nobody", currency="XQQ")),
    "no JSON": ("MALFORMED", b"{"),
    "nothing": ("MALFORMED", b""),
    "too long": ("MALFORMED", b'{"type":"order.get.v1","serial_no":"' + b"x" * 70_000 + b'"}'),
    "no type": ("MALFORMED", {"serial_no": "S-1"}),
    "an unknown type": ("UNSUPPORTED_TYPE", {"type": "order.delete.v1", "serial_no": "S-1"}),
    "an unknown version": ("UNSUPPORTED_TYPE", {"type": "order.get.v2", "serial_no": "S-1"}),
    "a command": ("UNSUPPORTED_TYPE", open_account("u")),
    "an extra field": ("MALFORMED", {"type": "order.get.v1", "serial_no": "S-1", "verbose": True}),
    "no serial number": ("MALFORMED", {"type": "order.get.v1"}),
    "SQL": ("MALFORMED", {"type": "order.get.v1", "serial_no": "' OR 1=1 --"}),
    "no lines": ("MALFORMED", statement_of("u", limit=0)),
    "more than 1,000 lines": ("MALFORMED", statement_of("u", limit=1_001)),
    "a limit as text": ("MALFORMED", statement_of("u", limit="10")),
    "a line below zero": ("MALFORMED", statement_of("u", after_line_no=-1)),
    "a line above 64 bits": ("MALFORMED", statement_of("u", after_line_no=2**63)),
    "a day without a time": ("MALFORMED", statement_of("u", to="2026-01-01")),
    "a time without an offset": ("MALFORMED", statement_of("u", to="2026-01-01T00:00:00")),
    "Python's name for from": ("MALFORMED", statement_of("u", from_time="2026-01-01T00:00:00Z")),
    "NUL": ("MALFORMED", {"type": "account.get.v1", "user_id": "a\0b"}),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_query_that_cannot_be_answered_is_refused_in_a_sentence(
    name: str, upstream: Upstream
) -> None:
    code, query_sent = REFUSED[name]

    answer = await upstream.query(query_sent)

    assert answer.keys() == {"type", "code", "message"}
    assert (answer["type"], answer["code"]) == ("query.refused.v1", code)
    assert answer["message"]


async def test_a_query_is_never_a_dead_letter(shared: Wallet) -> None:
    upstream = shared.upstream
    for _, query_sent in REFUSED.values():
        await upstream.publish(QUERIES, query_sent)  # and nobody to answer to

    await upstream.query({"type": "order.get.v1", "serial_no": "S-1"})
    await upstream.settled(shared.owner)

    assert upstream.dead_letters.received == []


async def test_an_answer_carries_the_trace_and_an_id_of_its_own(upstream: Upstream) -> None:
    trace, mark = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", fresh("C")
    properties = Basic.Properties(
        reply_to=upstream.replies.queue, correlation_id=mark, headers={"traceparent": trace, "other": 1}
    )

    await upstream.publish(QUERIES, {"type": "order.get.v1", "serial_no": "S-1"}, properties=properties)
    (reply,) = await upstream.replies_to(mark)

    assert reply.headers == {"traceparent": trace}
    assert reply.properties.content_type == "application/json"
    assert reply.properties.message_id


async def test_a_hundred_queries_at_once_are_all_answered(user: str, upstream: Upstream) -> None:
    heard = []
    for _ in range(100):
        mark = fresh("C")
        properties = Basic.Properties(reply_to=upstream.replies.queue, correlation_id=mark)
        await upstream.publish(QUERIES, encoded(statement_of(user)), properties=properties)
        heard.append(mark)

    answers = [await upstream.answer(mark) for mark in heard]

    assert [len(answer["entries"]) for answer in answers] == [7] * 100
