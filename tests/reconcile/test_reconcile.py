"""Each way in which the two sides may disagree is found, and nothing else is."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from threading import Thread
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.reconcile.files import line, reader
from tests.rules.contract import bodies
from tests.rules.core.world import changed, command, open_account, recharge, result, reversal
from tests.servers import Servers
from tests.servers.ports import free_ports
from tests.worker.rig import open_rig
from wallet_schemas.settlement import COLUMNS, REVERSAL_COLUMN
from wallet_schemas.values import OrderStatus, OrderType, PaymentKind, PaymentStatus
from wallet_worker.accounting import reconcile as reconciling
from wallet_worker.accounting.export import TimeRange
from wallet_worker.accounting.reconcile import (
    AGREEING,
    Comparison,
    ReconciliationFinding,
    ReconciliationReport,
    reconcile,
)
from wallet_worker.core.inbound import InboundMessage
from wallet_worker.core.orders import ORDER_SPECS
from wallet_worker.store.errors import UnavailableError, UnfitError

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
FEBRUARY = datetime(2026, 2, 1, tzinfo=UTC)
ALWAYS = TimeRange()


@pytest.fixture
async def orders_url(database_url: str, owner: asyncpg.Connection) -> str:
    """Give a wallet's database, whose orders stand as `ALL` says; T-1 is a transfer, and no payment.

    R-1 to R-3, W-1 and F-1 succeeded, R-4 and W-2 failed, R-5 is pending, R-6 expired.
    """
    numbers = [f"R-{number}" for number in range(1, 7)]
    async with open_rig(database_url) as wallet:
        await wallet.settle(*(open_account(serial_no=f"O-{user}", user_id=user) for user in ("u-1", "u-2")))
        await wallet.settle(*(recharge(serial_no=item) for item in numbers))
        await wallet.settle(*(_paid(item) for item in numbers[:3]), _paid("R-4", status="failed"))
        # It contradicts, and changes nothing.
        await wallet.settle(_paid("R-1", status="failed", gateway_ref="gw-other"))
        # It repeats what is known, by another payment, and changes nothing either.
        await wallet.settle(_paid("R-3", gateway_ref="gw-another"))
        await wallet.settle(
            command_like(bodies.WITHDRAW, serial_no="W-1", amount="30.00"),
            command_like(bodies.WITHDRAW, serial_no="W-2", amount="30.00"),
            command_like(bodies.REFUND, serial_no="F-1", original_serial_no="R-2", amount="30.00"),
            command_like(bodies.TRANSFER, serial_no="T-1"),
        )
        await wallet.settle(
            _paid("W-1", amount="30.00"),
            _paid("W-2", amount="30.00", status="failed"),
            _paid("F-1", amount="30.00"),
        )
    await owner.execute("UPDATE orders SET status = 'expired', due_at = NULL WHERE serial_no = 'R-6'")
    return database_url


def command_like(good: bodies.JsonObject, **changes: str) -> InboundMessage:
    """Return a command as it arrives."""
    return command(changed(good, changes))


def _paid(number: str, **changes: str) -> InboundMessage:
    facts: dict[str, Any] = {"amount": "100.00", "currency": "TWD", "gateway_ref": f"gw-{number}"}
    return result(payment_order_no=number, occurred_at="2026-01-02T03:04:05Z", **(facts | changes))


def settled_line(number: int | str, **changes: str) -> str:
    """Return a line about a recharge of that number, or about another order, which succeeded."""
    serial_no = f"R-{number}" if isinstance(number, int) else number
    return line(**{"payment_order_no": serial_no, "gateway_ref": f"gw-{serial_no}"} | changes)


ALL = [
    settled_line(1),
    settled_line(2),
    settled_line(3),
    settled_line(4, status="failed"),
    settled_line(5, status="unknown"),
    settled_line(6, status="failed"),
    settled_line("W-1", kind="payout", amount="30.00"),
    settled_line("W-2", kind="payout", amount="30.00", status="failed"),
    settled_line("F-1", kind="refund", amount="30.00"),
]


async def compared(
    url: str, *lines: str, span: TimeRange | None = None
) -> tuple[ReconciliationReport, list[ReconciliationFinding]]:
    """Return the report on a file with these lines, and all its findings."""
    findings: list[ReconciliationFinding] = []
    report = await reconcile(url, reader(*lines), span=span, on_findings=findings.extend)
    assert report.lines == len(lines)
    assert report.verdicts.total() == report.verdicts[Comparison.MATCHED] + len(findings)
    return report, findings


async def test_both_sides_agree(orders_url: str) -> None:
    report, findings = await compared(orders_url, *ALL, span=ALWAYS)

    assert (report.clean, findings) == (True, [])
    assert report.verdicts == {Comparison.MATCHED: len(ALL)}


async def test_an_empty_file_agrees_with_no_span(orders_url: str) -> None:
    report, _ = await compared(orders_url)

    assert (report.clean, report.lines) == (True, 0)


@pytest.mark.parametrize(
    ("text", "verdict", "detail"),
    [
        (settled_line(9), Comparison.MISSING_HERE, "there is no order of this number"),
        (settled_line("O-u-1"), Comparison.MISSING_HERE, "there is no order of this number"),
        (settled_line("r-1"), Comparison.MISSING_HERE, "there is no order of this number"),
        (
            settled_line(1, kind="payout", amount="1.00"),
            Comparison.DIFFERENT_KIND,
            "payout there, recharge here",
        ),
        (settled_line("T-1"), Comparison.DIFFERENT_KIND, "charge there, transfer here"),
        (settled_line("W-1", amount="30.00"), Comparison.DIFFERENT_KIND, "charge there, withdraw here"),
        (
            settled_line("W-2", kind="payout", amount="30.00"),
            Comparison.DIFFERENT_STATUS,
            "succeeded there, failed here",
        ),
        (
            settled_line("F-1", kind="refund", amount="40.00"),
            Comparison.DIFFERENT_AMOUNT,
            "40.00 TWD there, 30.00 TWD here",
        ),
        (
            settled_line(1, amount="100.01", status="failed"),
            Comparison.DIFFERENT_AMOUNT,
            "100.01 TWD there, 100.00 TWD here",
        ),
        (settled_line(1, currency="USD"), Comparison.DIFFERENT_AMOUNT, "100.00 USD there, 100.00 TWD here"),
        (settled_line(1, status="failed"), Comparison.DIFFERENT_STATUS, "failed there, succeeded here"),
        (settled_line(5), Comparison.DIFFERENT_STATUS, "succeeded there, pending here"),
        (settled_line(6), Comparison.DIFFERENT_STATUS, "succeeded there, expired here"),
        (settled_line(5, status="failed"), Comparison.DIFFERENT_STATUS, "failed there, pending here"),
        (settled_line(1, gateway_ref="gw-9"), Comparison.DIFFERENT_REF, "gw-9 there, gw-R-1 here"),
        ("nonsense", Comparison.BAD_LINE, "it has 1 value, and the first line names 7"),
    ],
)
async def test_a_difference_is_found_and_the_rest_is_compared(
    orders_url: str, text: str, verdict: Comparison, detail: str
) -> None:
    report, (finding,) = await compared(orders_url, settled_line(2), text, settled_line(3))

    assert (finding.verdict, finding.line_no, finding.detail) == (verdict, 3, detail)
    assert report.verdicts == {Comparison.MATCHED: 2, verdict: 1}
    assert report.findings == [finding]
    assert not report.clean


@pytest.mark.parametrize(
    ("again", "detail"),
    [
        (settled_line(1), "line 2 says the same"),
        (settled_line(1, amount="0100.0"), "line 2 says the same"),
        (settled_line(1, gateway_ref="gw-2"), "line 2 says charge, 100.00 TWD, succeeded, gw-R-1"),
        (settled_line(1, status="failed"), "line 2 says charge, 100.00 TWD, succeeded, gw-R-1"),
    ],
)
async def test_a_second_line_about_a_payment_is_found_wherever_it_stands(
    orders_url: str, monkeypatch: pytest.MonkeyPatch, again: str, detail: str
) -> None:
    for batch_lines in (1, 2, 5_000):
        monkeypatch.setattr(reconciling, "BATCH_LINES", batch_lines)

        report, (finding,) = await compared(orders_url, settled_line(1), settled_line(2), again)

        assert (finding.verdict, finding.line_no, finding.detail) == (Comparison.DUPLICATE, 4, detail)
        assert report.verdicts[Comparison.MATCHED] == 2


async def test_what_moved_in_the_span_and_is_not_in_the_file_is_missing_there(orders_url: str) -> None:
    async def missing(span: TimeRange | None) -> list[str | None]:
        _, findings = await compared(orders_url, settled_line(2), span=span)
        assert {(finding.verdict, finding.detail) for finding in findings} <= {
            (Comparison.MISSING_THERE, "the gateway said that it succeeded at 2026-01-02T03:04:05.000000Z")
        }
        return [finding.payment_order_no for finding in findings]

    assert await missing(None) == []
    assert await missing(ALWAYS) == ["F-1", "R-1", "R-3", "W-1"]
    assert await missing(TimeRange(since=NEW_YEAR, before=FEBRUARY)) == ["F-1", "R-1", "R-3", "W-1"]
    # It is the gateway's own time that counts, and not when the wallet heard of it.
    assert await missing(TimeRange(since=FEBRUARY)) == []
    assert await missing(TimeRange(before=NEW_YEAR)) == []


def test_every_kind_of_payment_and_every_status_is_judged() -> None:
    kinds = {order_type: spec.payment for order_type, spec in ORDER_SPECS.items() if spec.payment}
    assert set(kinds.values()) == set(PaymentKind) - {PaymentKind.STATUS, PaymentKind.CANCEL}
    assert set(AGREEING) == set(PaymentStatus)
    assert set(kinds) == {OrderType.RECHARGE, OrderType.WITHDRAW, OrderType.REFUND}
    assert set().union(*AGREEING.values()) == {
        OrderStatus.SUCCEEDED,
        OrderStatus.FAILED,
        OrderStatus.EXPIRED,
        OrderStatus.CANCELLED,
        OrderStatus.PENDING,
    }


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(
        st.builds(
            settled_line,
            st.integers(1, 9),
            kind=st.sampled_from(["charge", "charge", "charge", "payout", "status"]),
            amount=st.sampled_from(["100.00", "100.00", "1.00"]),
            status=st.sampled_from([*PaymentStatus]),
        ),
        max_size=30,
    ),
    batch_lines=st.integers(1, 31),
)
async def test_each_line_has_one_verdict_in_batches_of_any_size(
    orders_url: str, lines: Sequence[str], batch_lines: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        whole, findings = await compared(orders_url, *lines, span=ALWAYS)
        patch.setattr(reconciling, "BATCH_LINES", batch_lines)
        parts, in_parts = await compared(orders_url, *lines, span=ALWAYS)

    assert whole.verdicts == parts.verdicts
    assert findings == in_parts
    numbers = [finding.line_no for finding in findings if finding.line_no is not None]
    assert numbers == sorted(set(numbers))


async def test_only_the_first_of_each_kind_are_kept(orders_url: str) -> None:
    report = await reconcile(
        orders_url, reader(*(settled_line(number) for number in range(10, 40)), "bad"), span=None, shown_max=2
    )

    assert report.verdicts == {Comparison.MISSING_HERE: 30, Comparison.BAD_LINE: 1}
    assert [finding.line_no for finding in report.findings] == [2, 3, 32]


async def test_it_sees_one_moment(orders_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciling, "BATCH_LINES", 1)
    positions: list[int] = []

    async def change() -> None:
        connection = await asyncpg.connect(orders_url)
        await connection.execute("UPDATE orders SET amount = amount + 1")
        await connection.close()

    def meanwhile(position: int) -> None:
        if not positions:
            other = Thread(target=lambda: asyncio.run(change()))
            other.start()
            other.join()
        positions.append(position)

    report = await reconcile(orders_url, reader(*ALL), span=ALWAYS, on_progress=meanwhile)

    assert report.clean
    assert positions == sorted(set(positions))
    assert not (await reconcile(orders_url, reader(*ALL), span=ALWAYS)).clean


async def test_nothing_is_written_to_the_database_and_no_privilege_is_needed(
    orders_url: str, owner: asyncpg.Connection
) -> None:
    database = await owner.fetchval("SELECT current_database()")
    await owner.execute(f'REVOKE TEMPORARY ON DATABASE "{database}" FROM PUBLIC')

    report, _ = await compared(orders_url, *ALL, span=ALWAYS)

    assert report.clean


async def test_a_database_that_was_never_migrated_agrees_with_nothing(servers: Servers) -> None:
    async with servers.database() as empty_url:
        with pytest.raises(UnfitError, match="orders"):
            await reconcile(empty_url, reader(*ALL), span=None)


async def test_a_database_that_is_away_is_said() -> None:
    (port,) = free_ports(1)

    with pytest.raises(UnavailableError):
        await reconcile(f"postgresql://nobody@127.0.0.1:{port}/none", reader(*ALL), span=None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            settled_line(1, amount="1,300.00"),
            "amount: 1,300.00 has grouping marks; it should be written 1300.00",
        ),
        (settled_line(1).replace("100.00", "1,300.00"), "it has 8 values, and the first line names 7"),
        ('"' + settled_line(1), "a quotation mark is never closed"),
        (settled_line(1, currency="twd"), "currency: twd should be written TWD"),
        (settled_line(1, occurred_at="yesterday"), "occurred_at: Should be a time in RFC 3339"),
        (settled_line(1, payment_order_no="R-1 "), "payment_order_no: R-1  has a space before or after it"),
        (settled_line(1).rpartition(",")[0], "it has 6 values, and the first line names 7"),
    ],
)
async def test_a_payment_on_a_bad_line_is_one_finding_and_is_not_missing(
    orders_url: str, text: str, reason: str
) -> None:
    _, findings = await compared(orders_url, text, *ALL[1:], span=ALWAYS)

    (finding,) = findings
    assert (finding.verdict, finding.payment_order_no) == (Comparison.BAD_LINE, "R-1")
    assert finding.detail.startswith(reason)
    assert finding.row()["order_amount"] == "100.00"


async def test_a_good_line_after_a_bad_one_about_the_same_payment_is_compared(orders_url: str) -> None:
    _, findings = await compared(orders_url, settled_line(1, amount="1,300.00"), *ALL, span=ALWAYS)

    assert [finding.verdict for finding in findings] == [Comparison.BAD_LINE]


async def test_a_bad_line_that_names_no_order_hides_nothing(orders_url: str) -> None:
    _, findings = await compared(orders_url, settled_line("X-1", amount="1,300.00"), *ALL[1:], span=ALWAYS)

    assert [(finding.verdict, finding.payment_order_no) for finding in findings] == [
        (Comparison.BAD_LINE, "X-1"),
        (Comparison.MISSING_THERE, "R-1"),
    ]


@pytest.mark.parametrize(
    "notation", ["2026-01-02T11:04:05+08:00", "2026-01-02T03:04:05.1234567Z", "2026-01-02t03:04:05z"]
)
async def test_a_line_may_have_its_time_in_any_notation(orders_url: str, notation: str) -> None:
    report, _ = await compared(orders_url, settled_line(1, occurred_at=notation))

    assert report.clean


# What comes back


@pytest.fixture
async def disputed_url(database_url: str) -> str:
    """Give a wallet's database with three recharges: of R-1 40.00 stand, R-2 was dropped, R-3 is open."""
    async with open_rig(database_url) as wallet:
        await wallet.settle(open_account())
        for number, status, amount in (
            ("R-1", "moved", "40.00"),
            ("R-2", "dropped", "100.00"),
            ("R-3", "opened", "100.00"),
        ):
            await wallet.settle(recharge(serial_no=number), _paid(number))
            await wallet.settle(
                reversal(payment_order_no=number, reversal_ref=f"dp-{number}", status=status, amount=amount)
            )
    return database_url


def turned_line(number: str, ref: str | None = None, **changes: str) -> str:
    """Return a line about what stands of the dispute of an order."""
    facts = {"payment_order_no": number, "kind": "reversal", "amount": "40.00", "gateway_ref": f"gw-{number}"}
    return f"{line(**facts | changes)},{ref or f'dp-{number}'}"


async def compared_with_reversals(url: str, *lines: str) -> list[tuple[Comparison, str | None]]:
    """Return what is found in a file that has these lines about reversals, and all payments."""
    payments = [f"{settled_line(number)}," for number in (1, 2, 3)]
    findings: list[ReconciliationFinding] = []
    file = reader(*payments, *lines, columns=(*COLUMNS, REVERSAL_COLUMN))
    await reconcile(url, file, span=ALWAYS, on_findings=findings.extend)
    return [(finding.verdict, finding.payment_order_no) for finding in findings]


GOOD_TURNS = (
    turned_line("R-1"),
    turned_line("R-2", amount="100.00", status="failed"),
    turned_line("R-3", amount="100.00", status="unknown"),
)


async def test_what_stands_of_reversals_agrees(disputed_url: str) -> None:
    assert await compared_with_reversals(disputed_url, *GOOD_TURNS) == []


@pytest.mark.parametrize(
    ("turned", "found"),
    [
        (turned_line("R-1", amount="60.00"), Comparison.DIFFERENT_AMOUNT),
        (turned_line("R-1", currency="USD"), Comparison.DIFFERENT_AMOUNT),
        (turned_line("R-1", status="failed"), Comparison.DIFFERENT_STATUS),  # a win that nobody told us of
        (turned_line("R-2"), Comparison.DIFFERENT_STATUS),
        (turned_line("R-3"), Comparison.DIFFERENT_STATUS),
        (turned_line("R-2", "dp-other"), Comparison.MISSING_HERE),
        (turned_line("R-9"), Comparison.MISSING_HERE),
    ],
)
async def test_a_reversal_that_differs_is_found(disputed_url: str, turned: str, found: Comparison) -> None:
    number = turned.partition(",")[0]
    rest = () if number == "R-1" else GOOD_TURNS[:1]

    assert await compared_with_reversals(disputed_url, turned, *rest) == [(found, number)]


async def test_a_reversal_that_stands_and_is_not_in_the_file_is_missing_there(disputed_url: str) -> None:
    assert await compared_with_reversals(disputed_url, *GOOD_TURNS[1:]) == [(Comparison.MISSING_THERE, "R-1")]


async def test_a_second_line_about_a_reversal_is_found(disputed_url: str) -> None:
    lines = (*GOOD_TURNS, turned_line("R-1", amount="60.00"))

    assert await compared_with_reversals(disputed_url, *lines) == [(Comparison.DUPLICATE, "R-1")]


async def test_a_file_without_the_column_is_not_asked_for_reversals(disputed_url: str) -> None:
    report, findings = await compared(
        disputed_url, *(settled_line(number) for number in (1, 2, 3)), span=ALWAYS
    )

    assert report.clean
    assert findings == []


@pytest.mark.parametrize("wrong", [f"{settled_line(1)},dp-1", f"{line(kind='reversal')},"])
async def test_only_a_reversal_has_a_reference(disputed_url: str, wrong: str) -> None:
    assert await compared_with_reversals(disputed_url, *GOOD_TURNS, wrong) == [(Comparison.BAD_LINE, "R-1")]
