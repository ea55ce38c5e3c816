"""What the console says, in states in which the naive answer is wrong."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.console import canned
from tests.console.stage import Stage
from tests.console.test_ledger_pages import Ledger, ledger
from tests.console.test_pages import OF_THE_LEDGER, assert_answered, signed_in, text_of
from tests.journeys.messages import capture, fresh, hold, recharge, refund, release, transfer
from wallet_worker.broker.queue_depths import QueueDepth
from wallet_worker.console import labels
from wallet_worker.console.queues import Depths
from wallet_worker.console.warnings import warnings
from wallet_worker.dead_letters.model.letters import Group, Overview
from wallet_worker.dead_letters.model.states import Action, OperationState
from wallet_worker.store.reads.console import DatabaseHealth

NOW = datetime(2026, 1, 2, tzinfo=UTC)
WELL = Overview(
    states={},
    oldest_waiting=None,
    last_arrival=None,
    keeper_seen=NOW,
    keeper_standing="at work",
    depths={},
    running=0,
    awaiting_approval=0,
)
HEALTHY = DatabaseHealth("0005", "18.0", 1, 0, 0.0, 0, None, 0, 5, None)

__all__ = ["ledger"]


def queues(**changed: tuple[int | None, int | None]) -> Depths:
    """Return the queues of a wallet at work, some otherwise."""
    names = (
        "wallet.commands",
        "payment.results",
        "payment.requests",
        "wallet.queries",
        "wallet.dead-letters",
    )
    return Depths(
        tuple(QueueDepth(name, *changed.get(name.replace(".", "_"), (0, 2))) for name in names), None
    )


def text_of_warnings(
    depths: Depths | None = None, overview: Overview | None = WELL, condition: DatabaseHealth | None = HEALTHY
) -> str:
    """Return the warnings as one text."""
    return " ".join(warnings(depths or queues(), overview, condition, NOW))


def test_nothing_is_said_while_all_is_well() -> None:
    assert text_of_warnings() == ""


def test_the_gateways_own_queue_may_be_read_by_nobody_of_ours() -> None:
    assert text_of_warnings(queues(payment_requests=(9, 0))) == ""


@pytest.mark.parametrize("queue", ["wallet.commands", "payment.results", "wallet.queries"])
def test_that_no_worker_reads_a_queue_is_said_though_the_keeper_works(queue: str) -> None:
    text = text_of_warnings(queues(**{queue.replace(".", "_"): (12, 0)}))

    assert f"No worker reads {queue}" in text
    assert "12 messages wait there" in text


def test_a_queue_that_is_missing_is_said() -> None:
    assert "wallet topology apply" in text_of_warnings(queues(wallet_commands=(None, None)))


def test_that_nobody_knows_whether_anybody_works_is_said() -> None:
    assert "is not known" in text_of_warnings(Depths((), "The broker cannot be reached: refused."))


@pytest.mark.parametrize(
    ("overview", "sentence"),
    [
        (replace(WELL, keeper_seen=NOW - timedelta(minutes=3)), "No keeper is at work"),
        (replace(WELL, keeper_seen=None, keeper_standing="start one"), "No keeper was ever at work"),
        (replace(WELL, keeper_standing="the broker is away"), "The keeper cannot work: the broker is away"),
    ],
)
def test_a_keeper_that_said_at_work_minutes_ago_is_not_at_work(overview: Overview, sentence: str) -> None:
    assert sentence in text_of_warnings(overview=overview)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"orders_overdue": 3}, "3 orders should have been asked about or expired"),
        ({"overdue": 2, "overdue_oldest_seconds": 700.0}, "2 messages should have been published by now"),
        ({"payouts_oldest_seconds": 30 * 3_600.0}, "has waited for the payment gateway for 30 h"),
    ],
)
def test_what_the_database_knows_to_be_late_is_said(changes: dict[str, Any], sentence: str) -> None:
    assert sentence in text_of_warnings(condition=replace(HEALTHY, **changes))


async def test_the_overview_and_health_begin_with_what_is_wrong(stage: Stage) -> None:
    stage.parts.queues._depths = queues(wallet_commands=(7, 0))
    stage.parts.queues._read_at = stage.clock.now
    browser = await signed_in(stage)

    for address in ("/", "/health"):
        page = (await browser.get(address)).text
        assert 'role="alert"' in page
        assert "No worker reads wallet.commands: no command is applied. 7 messages wait there." in text_of(
            page
        )
        assert "no consumers" in text_of(page)


def group(reason: str, source: str, waiting: int = 5) -> Group:
    """Return a group."""
    return Group(reason, source, 90, waiting, NOW, NOW, (), 1)


def test_forged_signatures_stand_before_a_thousand_typos() -> None:
    groups = [
        group("MALFORMED", "wallet.commands", 1_000),
        group("AMOUNT_MISMATCH", "payment.results", 9),
        group("BAD_SIGNATURE", "payment.results", 83),
        group("UNKNOWN", "wallet.dead-letters", 0),
    ]

    shown = [item.reason for item in sorted(groups, key=labels.gravity)]

    assert shown == ["BAD_SIGNATURE", "AMOUNT_MISMATCH", "MALFORMED", "UNKNOWN"]
    assert [labels.concern(item) for item in groups] == ["", "money", "security", ""]


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        ({"total": 1, "failed": 1}, "failed", "failed"),
        ({"total": 5, "resolved": 4, "failed": 1}, "failed", "done, 1 failed"),
        ({"total": 5, "resolved": 5, "refused": 2}, "failed", "done, 2 refused"),
        ({"total": 5, "resolved": 4, "cancelled": 1}, "cancelled", "done, 1 cancelled"),
        ({"total": 5, "resolved": 5}, "done", "done"),
        ({"total": 5, "resolved": 5, "action": Action.DISCARD}, "done", "done"),
        ({"total": 5, "failed": 2, "state": OperationState.RUNNING}, "running", "running, 2 failed"),
        ({"total": 5, "failed": 2, "state": OperationState.STOPPED}, "stopped", "stopped, 2 failed"),
    ],
)
def test_done_is_green_only_where_nothing_failed(changes: dict[str, Any], kind: str, text: str) -> None:
    nothing = {"ordered": 0, "published": 0, "resolved": 0, "failed": 0, "cancelled": 0}
    first = canned.operation(**({"state": OperationState.DONE} | nothing | changes))

    assert labels.ending(first) == (kind, text)


async def test_a_replay_that_failed_is_red_wherever_it_stands(stage: Stage) -> None:
    stage.operations.shown_operation = canned.operation(
        state=OperationState.DONE, total=1, ordered=0, published=0, resolved=0, failed=1
    )
    browser = await signed_in(stage)

    for address in ("/", "/operations", f"/operations/{canned.OPERATION_ID}"):
        page = (await browser.get(address)).text
        assert '<span class="tag failed">' in page
        assert '<span class="tag done">' not in page


async def test_a_discard_is_discarded_and_not_resolved(stage: Stage) -> None:
    stage.operations.shown_operation = canned.operation(
        action=Action.DISCARD,
        state=OperationState.DONE,
        total=2,
        ordered=0,
        published=0,
        resolved=2,
        failed=0,
    )

    page = (await (await signed_in(stage)).get(f"/operations/{canned.OPERATION_ID}")).text

    assert "Discarded" in page
    assert "Resolved" not in page
    assert "<title>Discard 2 letters · Wallet console</title>" in page  # true whatever happens meanwhile


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("approved_by", None, ""),
        ("filter", {"ids": "17"}, "which numbers 17"),
        ("filter", {}, ""),
        (
            "predictions",
            [
                {"verdict": "comes_back", "code": "AMOUNT_MISMATCH", "letters": 3},
                {"verdict": "will_apply", "code": "OK", "letters": 1},
            ],
            "predicted 3 comes back (AMOUNT_MISMATCH); 1 will apply",
        ),
        ("letters", 3, "letters 3"),
        ("verdict", "repeats", "verdict repeats"),
    ],
)
def test_details_of_the_audit_are_words(name: str, value: object, text: str) -> None:
    assert labels.detail(name, value) == text


async def test_no_python_stands_in_the_audit(stage: Stage) -> None:
    stage.operations.rows = (
        canned.audit_row(
            1,
            "execute replay",
            detail={
                "approved_by": None,
                "filter": {"ids": "17"},
                "predictions": [{"verdict": "comes_back", "code": "X", "letters": 1}],
            },
        ),
    )

    text = text_of((await (await signed_in(stage)).get("/audit")).text)

    assert "None" not in text
    assert "{" not in text
    assert "[" not in text


async def test_the_balance_of_an_account_is_not_that_of_a_page(ledger: Ledger) -> None:
    up = ledger.wallet.upstream
    payer, payee = await up.funded("100.00"), await up.opened()
    await up.at_once(*(transfer(payer, payee, "1.00") for _ in range(52)))
    browser = await signed_in(ledger.stage)

    first = (await browser.get(f"/accounts?user_id={payer}")).text

    text = text_of(first)
    assert "lines 1 to 50 of 53: 0.00 before, 51.00 after them; balance now 48.00 TWD" in text
    assert "closing" not in text
    newest = text_of(
        (await browser.get(f"/accounts?user_id={payer}&account_type=basic&currency=TWD&after=3")).text
    )
    assert "after=3#" in first.replace("&amp;", "&")
    assert "lines 4 to 53 of 53" in newest


async def test_an_order_shows_what_was_ordered_about_it(ledger: Ledger) -> None:
    up = ledger.wallet.upstream
    user, shop = await up.funded("300.00"), await up.opened()
    held = hold(user, "300.00")
    await up.applied(held)
    taken, freed = capture(held["serial_no"], shop, "120.00"), release(held["serial_no"])
    await up.applied(taken)
    await up.applied(freed)
    charge = await up.paid(user)
    back = refund(charge, "10.00")
    await up.applied(back)
    browser = await signed_in(ledger.stage)

    of_hold = (await browser.get(f"/orders?serial_no={held['serial_no']}")).text
    of_charge = (await browser.get(f"/orders?serial_no={charge}")).text

    for number in (taken["serial_no"], freed["serial_no"]):
        assert f"/orders?serial_no={number}" in of_hold
    assert f"capture {taken['serial_no']} {shop} 120.00 TWD succeeded" in text_of(of_hold)
    assert f"/orders?serial_no={back['serial_no']}" in of_charge
    assert "refund" in text_of(of_charge)
    seen_by_a_viewer = (
        await (await signed_in(ledger.stage, "vera")).get(f"/orders?serial_no={held['serial_no']}")
    ).text
    assert shop not in seen_by_a_viewer


async def test_an_order_that_has_ended_waits_until_nothing(ledger: Ledger) -> None:
    up = ledger.wallet.upstream
    user = await up.opened()
    waiting, paid = recharge(user), await up.paid(user)
    await up.applied(waiting)
    browser = await signed_in(ledger.stage)

    async def text(number: str) -> str:
        return text_of((await browser.get(f"/orders?serial_no={number}")).text)

    assert "Would have expired" in await text(paid)
    assert "Expires" in await text(waiting["serial_no"])
    await ledger.wallet.owner.execute(
        "UPDATE orders SET status = 'expired', due_at = NULL WHERE serial_no = $1", waiting["serial_no"]
    )
    assert "Expired" in await text(waiting["serial_no"])
    assert "Waits until" not in await text(waiting["serial_no"])


async def test_whatever_the_address_of_a_page_of_the_ledger_asks_is_answered(ledger: Ledger) -> None:
    for path in sorted(OF_THE_LEDGER):
        await assert_answered(ledger.stage, path)


async def test_an_order_is_found_by_each_of_its_numbers(ledger: Ledger) -> None:
    number = await ledger.wallet.upstream.paid(await ledger.wallet.upstream.opened())
    order_id = await ledger.wallet.owner.fetchval("SELECT order_id FROM orders")
    ref = await ledger.wallet.owner.fetchval("SELECT gateway_ref FROM payment_results")
    browser = await signed_in(ledger.stage)

    for word in (number, str(order_id), ref):
        answer = await browser.get(f"/find?q={word}")
        assert answer.headers["location"] == f"/orders?serial_no={number}"


async def test_a_search_that_finds_no_letter_says_what_it_cannot_find(stage: Stage) -> None:
    stage.operations.lines = ()

    text = text_of((await (await signed_in(stage)).get(f"/letters?user_id={fresh('user')}")).text)

    assert "A letter whose message cannot be read names no user" in text
