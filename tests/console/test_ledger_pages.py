"""What the console says of accounts, orders and queues is what the database and the broker hold."""

import html
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.console.stage import Stage
from tests.console.test_pages import assert_answered, signed_in, text_of
from tests.dead_letters.conftest import Wallet
from tests.journeys.messages import fresh, hold, recharge, result, transfer, withdraw
from wallet_worker.store.database import READONLY_ROLE, Database
from wallet_worker.store.dead_letters.letters import OPERATOR_ROLE


@dataclass
class Ledger:
    """A wallet with a worker, and a console in this process that reads it."""

    wallet: Wallet
    stage: Stage


@pytest.fixture
async def ledger(wallet: Wallet, users: Path) -> AsyncIterator[Ledger]:
    """Give both."""
    await wallet.start()
    reading = Database(
        wallet.workers.database_url, role=READONLY_ROLE, application="wallet console", size_max=2
    )
    await reading.open()
    stage = Stage(users, operations=wallet.operations, reading=reading, amqp_url=wallet.workers.amqp_url)
    yield Ledger(wallet, stage)
    await reading.close()


async def test_a_statement_shows_every_line_with_its_order(ledger: Ledger) -> None:
    up = ledger.wallet.upstream
    payer, payee = await up.funded("100.00"), await up.opened()
    sent = transfer(payer, payee, "30.00")
    await up.applied(sent)
    browser = await signed_in(ledger.stage)

    page = await browser.get(f"/accounts?user_id={payer}")

    text = text_of(page.text)
    assert "70.00" in text
    assert "lines 1 to 2 of 2: 0.00 before, 70.00 after them; balance now 70.00 TWD" in text
    assert f"/orders?serial_no={sent['serial_no']}" in page.text
    assert (
        page.text.count("<tr>") == 1 + 1 + 2
    )  # two heads and the two lines; the account's own row is marked
    assert "There is" not in text


async def test_a_statement_is_read_a_page_at_a_time(ledger: Ledger) -> None:
    up = ledger.wallet.upstream
    payer, payee = await up.funded("100.00"), await up.opened()
    await up.at_once(*(transfer(payer, payee, "1.00") for _ in range(52)))
    browser = await signed_in(ledger.stage)

    first = (await browser.get(f"/accounts?user_id={payer}")).text
    later = (await browser.get(f"/accounts?user_id={payer}&account_type=basic&currency=TWD&after=50")).text

    assert "after=50" in first
    assert "lines 1 to 50 of 53: 0.00 before, 51.00 after them" in text_of(first)
    assert "lines 51 to 53 of 53: 51.00 before, 48.00 after them" in text_of(later)
    assert "Later lines" not in later


async def test_an_orders_life_has_command_result_money_with_contra_line_and_event(ledger: Ledger) -> None:
    up = ledger.wallet.upstream
    user = await up.opened()
    serial_no = await up.paid(user)
    browser = await signed_in(ledger.stage)

    text = text_of((await browser.get(f"/orders?serial_no={serial_no}")).text)

    assert "A recharge of 100.00 TWD: succeeded" in text
    moments = [
        text.index(answer)
        for answer in (
            "order.recharge.v1 was applied",
            "The gateway said succeeded, which was applied",
            "Money moved",
        )
    ]
    assert moments == sorted(moments)
    assert "own clearing" in text
    assert "committed and overdue" not in text
    assert "order.succeeded.v1" in text


async def test_a_late_result_and_a_contradiction_stand_in_the_orders_life(ledger: Ledger) -> None:
    up = ledger.wallet.upstream
    order = recharge(await up.opened())
    await up.outcome(order)
    for status in ("failed", "succeeded", "failed"):
        await up.processed(result(order["serial_no"], status=status))
    await ledger.wallet.until_letters(1)
    browser = await signed_in(ledger.stage)

    text = text_of((await browser.get(f"/orders?serial_no={order['serial_no']}")).text)

    assert "succeeded , late" in text or "succeeded, late" in text
    assert "A dead letter arrived: CONTRADICTING_RESULT" in text


async def test_a_dispute_and_its_debt_are_shown(ledger: Ledger) -> None:
    up = ledger.wallet.upstream
    user, other = await up.opened(), await up.opened()
    serial_no = await up.paid(user)
    await up.applied(transfer(user, other, "70.00"))
    dispute = {
        "type": "payment.reversal.v1",
        "payment_order_no": serial_no,
        "reversal_ref": "dp-<1>",
        "kind": "dispute",
        "sequence": 1,
        "status": "moved",
        "amount": "100.00",
        "currency": "TWD",
        "reason_code": "10.4",
        "reason": "not <b>mine</b>",
        "occurred_at": "2026-01-02T03:04:05Z",
    }
    await up.processed(dispute)
    browser = await signed_in(ledger.stage)

    page = (await browser.get(f"/orders?serial_no={serial_no}")).text
    accounts = text_of((await browser.get(f"/accounts?user_id={user}")).text)

    text = text_of(page)
    assert "Disputes, recalls and returns" in text
    assert "dispute dp-<1> moved 100.00 TWD 100.00 10.4 not <b>mine</b>" in " ".join(text.split())
    assert "<b>mine" not in page
    assert "0.00 0.00 70.00 TWD" in " ".join(accounts.split())


async def test_how_a_payer_pays_is_said_without_the_address(ledger: Ledger) -> None:
    up = ledger.wallet.upstream
    order = recharge(await up.opened())
    await up.applied(order)
    told = {
        "type": "payment.instructions.v1",
        "payment_order_no": order["serial_no"],
        "amount": order["amount"],
        "currency": order["currency"],
        "gateway_ref": "gw-1",
        "action": "redirect",
        "url": "https://pay.example/secret",
        "occurred_at": "2026-01-02T03:04:05Z",
    }
    await up.processed(told)
    browser = await signed_in(ledger.stage)

    page = (await browser.get(f"/orders?serial_no={order['serial_no']}")).text

    assert "redirect, revision 1" in text_of(page)
    assert "pay.example" not in page


@pytest.mark.parametrize("make", [withdraw, hold])
async def test_every_kind_of_order_has_a_page(ledger: Ledger, make: object) -> None:
    assert callable(make)
    order = make(await ledger.wallet.upstream.funded("100.00"), "40.00")
    await ledger.wallet.upstream.applied(order)
    browser = await signed_in(ledger.stage)

    answer = await browser.get(f"/orders?serial_no={order['serial_no']}")

    assert answer.status_code == 200
    assert "of 40.00 TWD" in text_of(answer.text)


async def test_a_refused_command_has_a_page_without_an_order(ledger: Ledger) -> None:
    order = recharge(fresh("nobody"))
    await ledger.wallet.upstream.outcome(order)

    text = text_of(
        (await (await signed_in(ledger.stage)).get(f"/orders?serial_no={order['serial_no']}")).text
    )

    assert "order.recharge.v1 was refused ACCOUNT_NOT_FOUND" in text


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/orders?serial_no=R-none", 404, "knows nothing of this serial number"),
        ("/orders?serial_no=%00", 400, "No serial number looks like this"),
        ("/orders?serial_no=" + "x" * 65, 400, "No serial number looks like this"),
        ("/accounts?user_id=nobody", 200, "This user has no account"),
        ("/accounts?user_id=%F0%9F%92%B8", 400, "looks like this"),
        ("/accounts?user_id=a&currency=TWD&after=x", 400, "looks like this"),
        ("/accounts?user_id=a&currency=TWD&from=yesterday", 400, "looks like this"),
        ("/find?q=nothing-of-the-kind", 404, "No results for"),
        ("/find?q=%00", 404, "No results for"),
    ],
)
async def test_what_is_not_there_is_said(ledger: Ledger, path: str, status: int, sentence: str) -> None:
    answer = await (await signed_in(ledger.stage)).get(path)

    assert answer.status_code == status
    assert sentence in text_of(answer.text)


async def test_a_word_leads_to_what_it_names(ledger: Ledger) -> None:
    up = ledger.wallet.upstream
    user = await up.opened()
    serial_no = await up.paid(user)
    account_no = (await up.account(user))["account_no"]
    lost = recharge(user)
    (letter_id,) = await ledger.wallet.set_aside(lost)
    browser = await signed_in(ledger.stage)

    led = {
        word: (await browser.get("/find", params={"q": word})).headers["location"]
        for word in (serial_no, user, account_no, lost["serial_no"], f"#{letter_id}", "")
    }

    assert led == {
        serial_no: f"/orders?serial_no={serial_no}",
        user: f"/accounts?user_id={user}",
        account_no: f"/accounts?user_id={user}",
        lost["serial_no"]: f"/letters?serial_no={lost['serial_no']}",
        f"#{letter_id}": f"/letters/{letter_id}",
        "": "/",
    }


async def test_a_viewer_sees_an_order_without_whose_it_is(ledger: Ledger) -> None:
    up = ledger.wallet.upstream
    user = await up.opened(fresh("somebody-in-particular"))
    serial_no = await up.paid(user)

    page = (await (await signed_in(ledger.stage, "vera")).get(f"/orders?serial_no={serial_no}")).text

    number = await ledger.wallet.owner.fetchval("SELECT account_no FROM accounts WHERE user_id = $1", user)
    assert "100.00" in page
    assert user not in page
    assert str(number) not in page


async def test_queues_and_database_are_shown_as_they_are(ledger: Ledger) -> None:
    browser = await signed_in(ledger.stage)

    text = text_of((await browser.get("/health")).text)

    assert "1 worker take commands" in text or "1 worker takes commands" in text
    for queue in (
        "wallet.commands",
        "payment.requests",
        "payment.results",
        "wallet.queries",
        "wallet.dead-letters",
    ):
        assert queue in text
    assert "PostgreSQL" in text
    assert "Last seen" in text


async def test_a_queue_that_is_missing_is_said(ledger: Ledger) -> None:
    vhost = ledger.wallet.workers.amqp_url.rpartition("/")[2]
    await ledger.wallet.management.delete(f"/api/queues/{vhost}/payment.requests")

    text = text_of((await (await signed_in(ledger.stage)).get("/health")).text)

    assert "missing: run `wallet topology apply`" in text


async def test_a_users_orders_are_listed_newest_first_and_chosen(ledger: Ledger) -> None:
    up = ledger.wallet.upstream
    payer, payee = await up.funded("100.00"), await up.opened()
    await up.at_once(*(transfer(payer, payee, "1.00") for _ in range(50)))
    held = hold(payer, "7.00") | {"metadata": {"cart": "<b>C-1</b>"}}
    await up.applied(held)
    browser = await signed_in(ledger.stage)

    first = (await browser.get(f"/orders?user_id={payer}")).text
    older = re.search(r'rel="next" href="([^"]+)"', first)
    assert older is not None
    last = (await browser.get(html.unescape(older[1]))).text
    holds = (await browser.get(f"/orders?user_id={payer}&order_type=hold&status=active")).text
    wrong = await browser.get(f"/orders?user_id={payer}&status=asleep")
    nobody = (await browser.get("/orders?user_id=nobody")).text

    assert re.findall(r"/orders\?serial_no=([^\"]+)", first)[0] == held["serial_no"]
    assert first.count("/orders?serial_no=") == 50
    assert last.count("/orders?serial_no=") == 2
    assert 'rel="next"' not in last
    assert holds.count("/orders?serial_no=") == 1
    assert "&lt;b&gt;C-1&lt;/b&gt;" in holds
    assert wrong.status_code == 400
    assert "No order fits" in nobody


async def test_a_history_has_lines_with_their_counterparty_and_what_waits(ledger: Ledger) -> None:
    up = ledger.wallet.upstream
    payer, payee = await up.funded("100.00"), await up.opened()
    sent, waiting = transfer(payer, payee, "30.00"), recharge(payer)
    await up.applied(sent)
    await up.outcome(waiting)
    browser, viewer = await signed_in(ledger.stage), await signed_in(ledger.stage, "vera")

    page = (await browser.get(f"/history?user_id={payer}&currency=TWD")).text
    masked = (await viewer.get(f"/history?user_id={payer}&currency=TWD")).text
    nobody = await browser.get("/history?user_id=nobody&currency=TWD")
    wrong = await browser.get("/history?user_id=nobody&currency=X")

    text = text_of(page)
    assert "balance now 70.00 , available 70.00" in text or "balance now 70.00, available 70.00" in text
    assert text.index(str(waiting["serial_no"])) < text.index(str(sent["serial_no"]))
    assert "\N{MINUS SIGN}30.00" in text
    assert "+100.00" in text
    assert payee in text
    assert payee not in text_of(masked)
    assert (nobody.status_code, wrong.status_code) == (404, 400)


async def test_webhooks_are_listed_with_what_became_of_each_event(ledger: Ledger, users: Path) -> None:
    owner = ledger.wallet.owner
    await owner.execute(
        """
        WITH endpoint AS (
            INSERT INTO webhook_endpoints (client, name, url, kinds, state, why, created_at, created_by, updated_at)
            VALUES ('shop', 'orders', 'https://shop.example/wallet', '{order.*}', 'disabled', 'it answered 410, gone',
                    now(), 'ann', now())
            RETURNING endpoint_id
        )
        INSERT INTO webhook_deliveries (endpoint_id, event_id, kind, body, state, attempts, next_at, attempted_at,
                                        status, answer, created_at)
        SELECT endpoint_id, 'e-' || n, 'order.pending', '{}', 'given_up', 10, now(), now(), 500, '<i>no</i>', now()
        FROM endpoint, generate_series(1, 51) AS n
        """
    )
    operating = Database(
        ledger.wallet.workers.database_url, role=OPERATOR_ROLE, application="wallet console", size_max=2
    )
    await operating.open()
    stage = Stage(users, operations=ledger.wallet.operations, operating=operating)
    browser = await signed_in(stage)

    listed = text_of((await browser.get("/webhooks")).text)
    page = (await browser.get("/webhooks?client=shop&name=orders")).text
    none = (await browser.get("/webhooks?client=shop&name=orders&state=waiting")).text
    unknown = await browser.get("/webhooks?client=shop&name=others")
    wrong = await browser.get("/webhooks?client=shop&name=orders&state=asleep")
    await assert_answered(stage, "/webhooks")
    await operating.close()

    assert "51 events given up" in listed
    assert "it answered 410, gone" in listed
    assert "&lt;i&gt;no&lt;/i&gt;" in page
    assert page.count("order.pending") == 50
    assert 'rel="next"' in page
    assert "No event fits" in none
    assert (unknown.status_code, wrong.status_code) == (404, 400)


@pytest.mark.need(14)
async def test_what_is_read_of_a_person_is_in_the_audit_log(ledger: Ledger) -> None:
    up = ledger.wallet.upstream
    user = await up.funded("100.00")
    (letter_id,) = await ledger.wallet.set_aside(recharge(user))
    sent = transfer(user, await up.opened(), "1.00")
    await up.applied(sent)
    serial_no = sent["serial_no"]
    browser, viewer = await signed_in(ledger.stage), await signed_in(ledger.stage, "vera")

    for path in (
        f"/accounts?user_id={user}",
        f"/orders?user_id={user}",
        f"/orders?serial_no={serial_no}",
        f"/history?user_id={user}&currency=TWD",
        f"/letters/{letter_id}",
        "/accounts?user_id=nobody",
        "/orders",
    ):
        await browser.get(path)
    await viewer.get(f"/accounts?user_id={user}")
    await viewer.get(f"/letters/{letter_id}")
    masked = (await viewer.get("/audit")).text

    rows = await ledger.wallet.owner.fetch(
        "SELECT actor, action, detail FROM dead_letter_audit WHERE action LIKE 'read %' ORDER BY audit_id"
    )
    assert [(row["actor"], row["action"], json.loads(row["detail"])) for row in rows] == [
        ("ann", "read statement", {"user_id": user}),
        ("ann", "read orders", {"user_id": user}),
        ("ann", "read order", {"serial_no": serial_no}),
        ("ann", "read history", {"user_id": user}),
        ("ann", "read payload", {"letter_id": letter_id}),
        ("vera", "read statement", {"user_id": user}),
    ]
    assert user not in masked
