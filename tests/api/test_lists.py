"""Lists over AMQP and HTTP: orders of a user, and the history of an account."""

import httpx2 as httpx
import pytest

from tests.api.money import opened, paid, recharge
from tests.workers import WorkerProcess
from wallet_schemas.queries import History, OrderList
from wallet_schemas.values import OrderStatus, OrderType
from wallet_worker.client import QueryRefusedError, WalletClient
from wallet_worker.queries import lists

pytestmark = pytest.mark.usefixtures("worker")


async def all_pages(http: httpx.AsyncClient, first: str) -> list[httpx.Response]:
    pages: list[httpx.Response] = []
    following: str | None = first
    while following:
        pages.append(await http.get(following))
        assert pages[-1].status_code == 200, pages[-1].text
        following = pages[-1].links["next"]["url"] if pages[-1].links else None
    return pages


async def test_orders_come_newest_first_and_each_once(http: httpx.AsyncClient, amqp_url: str) -> None:
    await opened(http, "alice")
    for number in range(7):
        await http.post(
            "/v1/recharges",
            json=recharge("alice") | {"metadata": {"cart": f"C-{number % 2}"}},
            headers={"Idempotency-Key": f"R-{number}"},
        )

    pages = await all_pages(http, "/v1/orders?user_id=alice&limit=3")
    found = [order["serial_no"] for page in pages for order in page.json()["orders"]]
    marked = (await http.get("/v1/orders?user_id=alice&metadata.cart=C-1")).json()["orders"]
    none = await http.get("/v1/orders?user_id=alice&statuses=succeeded,failed&order_types=recharge")
    async with WalletClient(amqp_url) as wallet:
        by_amqp = await wallet.orders(
            "alice",
            order_types=[OrderType.RECHARGE],
            statuses=[OrderStatus.PENDING],
            metadata={"cart": "C-1"},
        )

    assert found == [f"R-{number}" for number in reversed(range(7))]
    assert [order["serial_no"] for order in marked] == ["R-5", "R-3", "R-1"]
    assert marked[0]["metadata"] == {"cart": "C-1"}
    assert none.json() == {"type": "order.list.v1", "orders": [], "next_after": None}
    assert [order.serial_no for order in by_amqp.orders] == ["R-5", "R-3", "R-1"]


async def test_orders_made_meanwhile_move_no_page(http: httpx.AsyncClient) -> None:
    await opened(http, "alice")
    for number in range(4):
        await http.post("/v1/recharges", json=recharge("alice"), headers={"Idempotency-Key": f"R-{number}"})
    first = await http.get("/v1/orders?user_id=alice&limit=2")

    await http.post("/v1/recharges", json=recharge("alice"), headers={"Idempotency-Key": "R-LATE"})
    second = await http.get(first.links["next"]["url"])

    seen = [order["serial_no"] for page in (first, second) for order in page.json()["orders"]]
    assert seen == ["R-3", "R-2", "R-1", "R-0"]


@pytest.mark.parametrize("cursor", ["x", "!!!!", "MjAyNi0wMS0wMVQwMDowMDowMHw", "%00", "AAAA" * 40])
async def test_cursor_that_is_none_is_refused(cursor: str, http: httpx.AsyncClient) -> None:
    answer = await http.get(f"/v1/orders?user_id=alice&after={cursor}")

    assert (answer.status_code, answer.json()["code"]) == (400, "MALFORMED")


async def test_orders_of_nobody_are_none(http: httpx.AsyncClient) -> None:
    found = OrderList.model_validate_json((await http.get("/v1/orders?user_id=nobody")).content)

    assert found == OrderList(orders=[], next_after=None)


async def test_orders_of_a_closed_account_are_listed(http: httpx.AsyncClient, worker: WorkerProcess) -> None:
    del worker
    await opened(http, "alice")
    await paid(http, "alice", "R-1")
    for path, number, body in (
        ("/v1/withdrawals", "W-1", {"amount": "100.00", "payout_type": "bank_transfer"}),
        ("/v1/accounts/close", "X-1", {"reason": "leaves"}),
    ):
        await http.post(
            path, json={"user_id": "alice", "currency": "TWD", **body}, headers={"Idempotency-Key": number}
        )

    found = (await http.get("/v1/orders?user_id=alice&currency=TWD")).json()["orders"]

    assert [order["serial_no"] for order in found] == ["W-1", "R-1"]


async def test_history_has_what_moved_newest_first_and_what_waits(
    http: httpx.AsyncClient, amqp_url: str
) -> None:
    for user_id in ("alice", "bob"):
        await opened(http, user_id)
    await paid(http, "alice", "R-1")
    moved = {"user_id": "alice", "to_user_id": "bob", "amount": "1.00", "currency": "TWD"}
    for number in range(4):
        sent = await http.post(
            "/v1/transfers",
            json={**moved, "metadata": {"note": "for lunch"}},
            headers={"Idempotency-Key": f"T-{number}"},
        )
        assert sent.status_code == 201
    await http.post("/v1/recharges", json=recharge("alice"), headers={"Idempotency-Key": "R-WAITS"})

    pages = [
        History.model_validate_json(page.content)
        for page in await all_pages(http, "/v1/history?user_id=alice&currency=TWD&limit=2")
    ]
    payee = (await http.get("/v1/history?user_id=bob&currency=TWD")).json()
    async with WalletClient(amqp_url) as wallet:
        by_amqp = await wallet.history("alice", "TWD", limit=2)
        with pytest.raises(QueryRefusedError):
            await wallet.history("alice", "JPY")

    lines = [line for page in pages for line in page.lines]
    assert [line.entry.line_no for line in lines] == [5, 4, 3, 2, 1]
    assert [line.order.serial_no for line in lines] == ["T-3", "T-2", "T-1", "T-0", "R-1"]
    assert lines[0].order.counterparty_user_id == "bob"
    assert lines[0].order.metadata == {"note": "for lunch"}
    assert [[order.serial_no for order in page.pending] for page in pages] == [["R-WAITS"], [], []]
    assert payee["lines"][0]["order"]["counterparty_user_id"] == "alice"
    assert "metadata" not in payee["lines"][0]["order"], "a payee does not see the payer's notes"
    assert by_amqp == pages[0]


async def test_pages_end_before_they_are_larger_than_a_message(http: httpx.AsyncClient) -> None:
    await opened(http, "alice")
    notes = {"metadata": {"note": "\x01" * 1_990}}  # six bytes each, once written as JSON
    for number in range(12):
        answer = await http.post(
            "/v1/recharges", json=recharge("alice") | notes, headers={"Idempotency-Key": f"R-{number}"}
        )
        assert answer.status_code == 201, answer.text

    pages = await all_pages(http, "/v1/orders?user_id=alice")
    history = await http.get("/v1/history?user_id=alice&currency=TWD")

    assert len(pages) > 1
    assert all(len(page.content) <= 65_536 for page in [*pages, history])
    assert sum(len(page.json()["orders"]) for page in pages) == 12


async def test_page_ends_after_so_many_orders_were_looked_at(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    import asyncpg

    from wallet_schemas.queries import FindOrders

    await opened(http, "alice")
    for number in range(5):
        await http.post("/v1/recharges", json=recharge("alice"), headers={"Idempotency-Key": f"R-{number}"})
    monkeypatch.setattr(lists, "CHUNK", 1)
    monkeypatch.setattr(lists, "LOOKED_AT_MAX", 2)
    connection = await asyncpg.connect(database_url)
    query = FindOrders(user_id="alice", statuses=[OrderStatus.FAILED])
    pages = 0
    while True:
        page = await lists.orders_of(connection, query)
        assert isinstance(page, OrderList)
        pages += 1
        if page.next_after is None:
            break
        query = query.model_copy(update={"after": page.next_after})
    await connection.close()

    assert pages == 3
