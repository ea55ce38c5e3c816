"""A page of a statement fits into a message, whatever stands on it, and no line is left out between pages."""

from datetime import UTC, datetime
from uuid import UUID

from hypothesis import example, given, settings
from hypothesis import strategies as st

from wallet_schemas.encode import encode
from wallet_schemas.money import to_text
from wallet_schemas.names import BODY_BYTES_MAX
from wallet_schemas.queries import Statement
from wallet_schemas.values import STATEMENT_LINES_MAX, Direction, OrderType
from wallet_worker.core.accounts import Account
from wallet_worker.core.ledger import Entry
from wallet_worker.queries.answers import _longest_page
from wallet_worker.store.entries import EntryLine

NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)


def lines_from(first: int, count: int, amount_minor: int) -> list[EntryLine]:
    """Return lines of the same amount each, numbered from `first`."""
    return [
        EntryLine(
            Entry(
                account_id=1,
                line_no=number,
                order_id=UUID(int=number),
                direction=Direction.CREDIT,
                amount_minor=amount_minor,
                balance_before_minor=(number - 1) * amount_minor,
                balance_after_minor=number * amount_minor,
                created_at=NOW,
            ),
            OrderType.RECHARGE,
            f"R-{number}",
        )
        for number in range(first, first + count)
    ]


@settings(deadline=None)  # how long an example takes says something of the machine only
@given(
    first=st.one_of(st.integers(1, 2_000), st.integers(10**17, 10**18)),
    count=st.integers(1, STATEMENT_LINES_MAX + 1),
    limit=st.integers(1, STATEMENT_LINES_MAX),
    amount_minor=st.integers(1, 9),
    user_id=st.from_regex("[abc][abc:@+-]{0,63}", fullmatch=True),
    currency=st.sampled_from(["TWD", "JPY", "KWD"]),
)
@example(first=1, count=1_001, limit=1_000, amount_minor=1, user_id="u", currency="JPY")
def test_a_page_is_as_long_as_a_message_can_hold_and_ends_where_the_next_begins(
    first: int, count: int, limit: int, amount_minor: int, user_id: str, currency: str
) -> None:
    account = Account(
        account_id=1,
        account_no="2026010204815162347",
        user_id=user_id,
        account_type="basic",
        currency=currency,
        balance_minor=2**63 - 1,
        line_no=2**63 - 1,
        created_at=NOW,
        updated_at=NOW,
    )
    lines = lines_from(first, count, amount_minor)

    page = _longest_page(account, lines, limit=limit)

    shown = len(page.entries)
    assert len(encode(page)) <= BODY_BYTES_MAX
    assert [entry.line_no for entry in page.entries] == [line.entry.line_no for line in lines[:shown]]
    assert page.opening_balance == page.entries[0].balance_before
    assert page.closing_balance == page.entries[-1].balance_after
    assert page.next_after_line_no == (page.entries[-1].line_no if shown < count else None)
    if shown < min(count, limit):
        assert len(encode(_with_one_more(page, lines[shown], last=shown + 1 == count))) > BODY_BYTES_MAX


def _with_one_more(page: Statement, line: EntryLine, *, last: bool) -> Statement:
    """Return the page with another line, as it would have been sent."""
    entry = line.entry
    currency = page.account.currency
    after = to_text(entry.balance_after_minor, currency)
    view = page.entries[-1].model_copy(
        update={
            "line_no": entry.line_no,
            "amount": to_text(entry.amount_minor, currency),
            "balance_before": to_text(entry.balance_before_minor, currency),
            "balance_after": after,
        }
    )
    return page.model_copy(
        update={
            "entries": [*page.entries, view],
            "closing_balance": after,
            "next_after_line_no": None if last else entry.line_no,
        }
    )
