"""A posting is lines that sum to zero, or nothing."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rules.core.mixtures import UNHURRIED
from wallet_schemas.values import AccountStatus, Direction, OrderType
from wallet_worker.core import ledger
from wallet_worker.core.accounts import Account
from wallet_worker.core.ledger import BALANCE_MAX_MINOR, BalanceOverflowError, Movement, post

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ORDER_ID = UUID(int=7)
BALANCES = st.integers(min_value=-BALANCE_MAX_MINOR, max_value=BALANCE_MAX_MINOR)
TIMES = st.datetimes(timezones=st.just(UTC))


def account(number: int, balance_minor: int = 0, line_no: int = 0, at: datetime = AT) -> Account:
    return Account(number, "TWD", balance_minor, line_no, at, account_no=f"{number:019d}", created_at=AT)


def movements(debit: Account, credit: Account, amount_minor: int) -> list[Movement]:
    return [Movement(debit, -amount_minor), Movement(credit, amount_minor)]


@UNHURRIED
@given(
    paying=BALANCES,
    paid=BALANCES,
    amount_minor=st.integers(min_value=1, max_value=BALANCE_MAX_MINOR),
    lines=st.tuples(st.integers(0, 10**12), st.integers(0, 10**12)),
    last=st.tuples(TIMES, TIMES),
    at=TIMES,
)
def test_a_posting_moves_the_amount_and_writes_both_sides(
    paying: int,
    paid: int,
    amount_minor: int,
    lines: tuple[int, int],
    last: tuple[datetime, datetime],
    at: datetime,
) -> None:
    debit, credit = account(1, paying, lines[0], last[0]), account(2, paid, lines[1], last[1])
    if paying - amount_minor < -BALANCE_MAX_MINOR or paid + amount_minor > BALANCE_MAX_MINOR:
        with pytest.raises(BalanceOverflowError):
            post(movements(debit, credit, amount_minor), order_id=ORDER_ID, at=at)
        return

    done = post(movements(debit, credit, amount_minor), order_id=ORDER_ID, at=at)

    for before, after, line, sign in zip((debit, credit), done.accounts, done.entries, (-1, 1), strict=True):
        assert line.direction is (Direction.DEBIT if sign < 0 else Direction.CREDIT)
        assert line.amount_minor == amount_minor
        assert line.balance_before_minor == before.balance_minor
        assert line.balance_after_minor == after.balance_minor == before.balance_minor + sign * amount_minor
        assert line.line_no == after.line_no == before.line_no + 1
        assert line.created_at == after.updated_at == max(at, before.updated_at)
        assert (line.account_id, line.order_id) == (before.account_id, ORDER_ID)
        assert after == replace(
            before, balance_minor=after.balance_minor, line_no=after.line_no, updated_at=after.updated_at
        )
        assert -BALANCE_MAX_MINOR <= after.balance_minor <= BALANCE_MAX_MINOR  # fits a bigint


@pytest.mark.parametrize(
    ("paying", "paid", "amount_minor", "fits"),
    [
        (0, BALANCE_MAX_MINOR - 1, 1, True),
        (0, BALANCE_MAX_MINOR, 1, False),
        (-BALANCE_MAX_MINOR + 1, 0, 1, True),
        (-BALANCE_MAX_MINOR, 0, 1, False),
        (0, 0, BALANCE_MAX_MINOR, True),
        (0, 0, BALANCE_MAX_MINOR + 1, False),
    ],
)
def test_a_balance_stays_in_64_bits(paying: int, paid: int, amount_minor: int, fits: bool) -> None:  # noqa: FBT001
    debit, credit = account(1, paying), account(2, paid)

    try:
        post(movements(debit, credit, amount_minor), order_id=ORDER_ID, at=AT)
    except BalanceOverflowError:
        assert not fits
    else:
        assert fits


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        [Movement(account(1), 0), Movement(account(2), 0)],
        [Movement(account(1), -1)],
        [Movement(account(1), -1), Movement(account(2), 2)],
        [Movement(account(1), -1), Movement(account(1), 1)],
        [Movement(account(1), -1), Movement(replace(account(2), currency="USD"), 1)],
        [Movement(account(1), -1), Movement(account(2), 1), Movement(account(3), 0)],
    ],
)
def test_what_does_not_sum_to_zero_over_accounts_of_a_currency_is_our_bug(wrong: list[Movement]) -> None:
    with pytest.raises(ValueError, match="not a posting"):
        post(wrong, order_id=ORDER_ID, at=AT)


def test_a_posting_of_three_legs_moves_each_account_once() -> None:
    before = [account(1, 10), account(2), account(3)]

    done = post(
        [Movement(item, minor) for item, minor in zip(before, (-10, 7, 3), strict=True)],
        order_id=ORDER_ID,
        at=AT,
    )

    assert [after.balance_minor for after in done.accounts] == [0, 7, 3]
    assert [(line.direction, line.amount_minor) for line in done.entries] == [
        (Direction.DEBIT, 10),
        (Direction.CREDIT, 7),
        (Direction.CREDIT, 3),
    ]


def test_a_clock_that_went_back_does_not_turn_a_statement_around() -> None:
    credit = account(2, at=AT)

    done = post(
        movements(account(1, at=AT - timedelta(days=1)), credit, 1),
        order_id=ORDER_ID,
        at=AT - timedelta(hours=1),
    )

    debited, credited = done.entries
    assert credited.created_at == AT
    assert debited.created_at == AT - timedelta(hours=1)


def test_a_line_is_shown_with_the_digits_of_its_currency() -> None:
    debit, credit = account(1), account(2, balance_minor=5, line_no=3)
    done = post(movements(debit, credit, 10_000), order_id=ORDER_ID, at=AT)

    shown = ledger.view(done.entries[1], done.accounts[1], OrderType.RECHARGE, "R-1")

    assert shown.model_dump(mode="json") == {
        "account_no": f"{2:019d}",
        "line_no": 4,
        "serial_no": "R-1",
        "order_type": "recharge",
        "direction": "credit",
        "amount": "100.00",
        "currency": "TWD",
        "balance_before": "0.05",
        "balance_after": "100.05",
        "created_at": "2026-01-02T03:04:05.000000Z",
    }


def test_an_account_that_moves_keeps_all_the_rest() -> None:
    before = replace(
        account(1, 500, 3), status=AccountStatus.FROZEN, reserved_minor=7, user_id="u-1", account_type="bonus"
    )

    assert before.moved_to(900, AT + timedelta(seconds=1)) == replace(
        before, balance_minor=900, line_no=4, updated_at=AT + timedelta(seconds=1)
    )
