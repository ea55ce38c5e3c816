"""A message that is wrong in several ways gets the code that stands first in the contract.

Each table begins with a message in which everything is wrong; each row mends one more fault than the row
above it, and the last is in order.
"""

from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import pytest

from tests.rules.contract import bodies
from tests.rules.contract.bodies import JsonObject
from tests.rules.core.world import (
    World,
    cancel,
    capture,
    changed,
    close,
    command,
    freeze,
    hold,
    open_account,
    recharge,
    refund,
    release,
    replies,
    result,
    reversal,
    transfer,
    unfreeze,
    withdraw,
)
from wallet_schemas.codes import Code
from wallet_schemas.values import AccountStatus, OrderStatus, OrderType
from wallet_worker.core.accounts import SystemName
from wallet_worker.core.context import Policy
from wallet_worker.core.inbound import InboundMessage
from wallet_worker.core.ledger import BALANCE_MAX_MINOR
from wallet_worker.core.limits import AccountLimits, Limits, OrderLimits

Row = tuple[JsonObject, Code]

ORDER = list(Code)
TOO_MUCH = "9" * 30
NO_TEXT = "\0"
RULES = Policy(
    limits=Limits(
        {
            ("basic", "TWD"): AccountLimits(
                orders={item: OrderLimits(amount_max_minor=20_000) for item in OrderType}
            )
        }
    )
)
"""At most 200.00 at once, so that there is something to exceed."""


def _world() -> World:
    """Return a wallet with a user of each kind, and an order of each kind."""
    world = World(rules=RULES)
    for status, user_id in (
        (AccountStatus.CLOSED, "u-closed"),
        (AccountStatus.FROZEN, "u-frozen"),
        (AccountStatus.ACTIVE, "u-active"),
    ):
        for currency in ("TWD", "USD"):
            balance_minor = 0 if status is AccountStatus.CLOSED else 10_000
            world.with_account(status, user_id=user_id, currency=currency, balance_minor=balance_minor)
    closed, frozen, active = (world.user(item) for item in ("u-closed", "u-frozen", "u-active"))
    rich = world.with_account(user_id="u-rich", balance_minor=500_000)
    world.with_account(user_id="u-empty")
    done, failed = OrderStatus.SUCCEEDED, OrderStatus.FAILED
    world.with_order(OrderStatus.PENDING, world.with_account(user_id="u-waiting"), "R-waiting")
    world.with_order(OrderStatus.PENDING, active, "R-pending")
    world.with_order(OrderStatus.EXPIRED, closed, "R-closed")
    world.with_order(failed, frozen, "R-frozen")
    world.with_order(failed, active, "R-failed")
    world.with_order(done, active, "R-done")
    world.with_order(done, active, "R-big", "1000.00")
    world.with_order(done, rich, "W-done", order_type=OrderType.WITHDRAW)
    world.with_order(failed, rich, "W-failed", order_type=OrderType.WITHDRAW)
    world.with_order(done, rich, "F-done", order_type=OrderType.REFUND, about="R-big")
    world.with_order(failed, rich, "F-failed", order_type=OrderType.REFUND, about="R-big")
    world.with_order(done, rich, "T-done", order_type=OrderType.TRANSFER, payee=active)
    world.with_order(OrderStatus.RELEASED, closed, "H-closed", order_type=OrderType.HOLD)
    world.with_order(
        OrderStatus.RELEASED, world.user("u-frozen", currency="USD"), "H-frozen", order_type=OrderType.HOLD
    )
    world.with_order(
        OrderStatus.CAPTURED, world.user("u-active", currency="USD"), "H-done", order_type=OrderType.HOLD
    )
    world.with_order(OrderStatus.EXPIRED, rich, "H-expired", order_type=OrderType.HOLD)
    world.with_order(OrderStatus.ACTIVE, rich, "H-big", "1000.00", OrderType.HOLD)
    world.with_order(done, closed, "W-closed", order_type=OrderType.WITHDRAW)
    world.with_order(done, world.with_account(AccountStatus.CLOSED, user_id="u-owing"), "R-owing")
    world.tell(reversal(payment_order_no="R-owing", status="moved"))
    world.tell(reversal(payment_order_no="R-done", status="dropped", reversal_ref="dp-known", sequence=2))
    world.tell(open_account(serial_no="S-used", user_id="u-other"))
    return world


class Table(NamedTuple):
    """A message in which everything is wrong, and rows of what is mended next and what is said then."""

    message: Callable[..., InboundMessage]
    wrong: JsonObject
    rows: list[Row]


FIRST: list[Row] = [({}, Code.MALFORMED), ({"metadata": {"note": "fine"}}, Code.UNSUPPORTED_TYPE)]


def _rows(message_type: str, *rows: Row) -> list[Row]:
    """Return rows that begin as those of every command do."""
    return [*FIRST, ({"type": message_type}, Code.SERIAL_CONFLICT), *rows]


EVERYTHING_WRONG: JsonObject = {
    "type": "order.gift.v9",
    "serial_no": "S-used",
    "user_id": "u-nobody",
    "currency": "XYZ",
    "metadata": {"note": NO_TEXT},
    "valid_until": "2026-01-02T03:04:05Z",  # a little before now
}
WRONG_AMOUNT: JsonObject = {**EVERYTHING_WRONG, "amount": TOO_MUCH}
FRESH: Row = ({"serial_no": "S-fresh"}, Code.COMMAND_EXPIRED)
IN_TIME: Row = ({"valid_until": ...}, Code.CURRENCY_NOT_SUPPORTED)


def _paying(message_type: str) -> list[Row]:
    """Return the rows of what takes money out of an account."""
    return _rows(
        message_type,
        FRESH,
        IN_TIME,
        ({"currency": "TWD"}, Code.AMOUNT_OUT_OF_RANGE),
        ({"amount": "5000.00"}, Code.ACCOUNT_NOT_FOUND),
        ({"user_id": "u-closed"}, Code.ACCOUNT_CLOSED),
        ({"user_id": "u-frozen"}, Code.ACCOUNT_FROZEN),
        ({"user_id": "u-active"}, Code.LIMIT_EXCEEDED),
        ({"amount": "150.00"}, Code.INSUFFICIENT_BALANCE),
        ({"amount": "100.00"}, Code.OK),
    )


TABLES: dict[str, Table] = {
    "open": Table(
        open_account,
        {**EVERYTHING_WRONG, "user_id": "u-active"},
        _rows(
            "account.open.v1",
            FRESH,
            IN_TIME,
            ({"currency": "TWD"}, Code.ACCOUNT_EXISTS),
            ({"user_id": "u-owing"}, Code.DEBT_OUTSTANDING),
            ({"user_id": "u-closed"}, Code.OK),  # a closed account makes room for a new one
        ),
    ),
    "freeze": Table(
        freeze,
        EVERYTHING_WRONG,
        _rows(
            "account.freeze.v1",
            FRESH,
            IN_TIME,
            ({"currency": "TWD"}, Code.ACCOUNT_NOT_FOUND),
            ({"user_id": "u-closed"}, Code.ACCOUNT_CLOSED),
            ({"user_id": "u-active"}, Code.OK),
        ),
    ),
    "unfreeze": Table(
        unfreeze,
        EVERYTHING_WRONG,
        _rows(
            "account.unfreeze.v1",
            FRESH,
            IN_TIME,
            ({"currency": "TWD"}, Code.ACCOUNT_NOT_FOUND),
            ({"user_id": "u-closed"}, Code.ACCOUNT_CLOSED),
            ({"user_id": "u-frozen"}, Code.OK),
        ),
    ),
    "close": Table(
        close,
        EVERYTHING_WRONG,
        _rows(
            "account.close.v1",
            FRESH,
            IN_TIME,
            ({"currency": "TWD"}, Code.ACCOUNT_NOT_FOUND),
            ({"user_id": "u-closed"}, Code.ACCOUNT_CLOSED),
            ({"user_id": "u-active"}, Code.BALANCE_NOT_ZERO),  # and an order waits
            ({"user_id": "u-waiting"}, Code.ORDERS_PENDING),
            ({"user_id": "u-empty"}, Code.OK),
        ),
    ),
    "recharge": Table(
        recharge,
        WRONG_AMOUNT,
        _rows(
            "order.recharge.v1",
            FRESH,
            IN_TIME,
            ({"currency": "TWD"}, Code.AMOUNT_OUT_OF_RANGE),
            ({"amount": "5000.00"}, Code.ACCOUNT_NOT_FOUND),
            ({"user_id": "u-closed"}, Code.ACCOUNT_CLOSED),
            ({"user_id": "u-active"}, Code.LIMIT_EXCEEDED),
            ({"amount": "100.00"}, Code.OK),
        ),
    ),
    "withdraw": Table(withdraw, WRONG_AMOUNT, _paying("order.withdraw.v1")),
    "hold": Table(hold, WRONG_AMOUNT, _paying("order.hold.v1")),
    "transfer": Table(
        transfer,
        {**WRONG_AMOUNT, "to_user_id": "u-nobody"},
        _rows(
            "order.transfer.v1",
            FRESH,
            IN_TIME,
            ({"currency": "TWD"}, Code.AMOUNT_OUT_OF_RANGE),
            ({"amount": "5000.00"}, Code.ACCOUNT_NOT_FOUND),
            ({"user_id": "u-closed"}, Code.ACCOUNT_NOT_FOUND),  # the payee
            ({"to_user_id": "u-closed"}, Code.ACCOUNT_CLOSED),  # both, which are one
            ({"user_id": "u-frozen"}, Code.ACCOUNT_CLOSED),  # the payee
            ({"to_user_id": "u-frozen"}, Code.ACCOUNT_FROZEN),
            ({"user_id": "u-active", "to_user_id": "u-active"}, Code.SAME_ACCOUNT),
            ({"to_user_id": "u-frozen"}, Code.LIMIT_EXCEEDED),
            ({"amount": "150.00"}, Code.INSUFFICIENT_BALANCE),
            ({"amount": "100.00"}, Code.OK),  # money still arrives in a frozen account
        ),
    ),
    # ACCOUNT_CLOSED and ACCOUNT_FROZEN need the order whose account it is, so the row below them names another.
    "refund": Table(
        refund,
        {**WRONG_AMOUNT, "user_id": ..., "original_serial_no": "R-closed"},
        _rows(
            "order.refund.v1",
            FRESH,
            IN_TIME,
            ({"currency": "USD"}, Code.AMOUNT_OUT_OF_RANGE),
            ({"amount": "5000.00"}, Code.ACCOUNT_CLOSED),
            ({"original_serial_no": "R-frozen"}, Code.ACCOUNT_FROZEN),
            ({"original_serial_no": "R-nobody"}, Code.ORDER_NOT_FOUND),
            ({"original_serial_no": "R-failed"}, Code.ORDER_NOT_REFUNDABLE),
            ({"original_serial_no": "R-big"}, Code.CURRENCY_MISMATCH),
            ({"currency": "TWD"}, Code.AMOUNT_EXCEEDS_ORIGINAL),
            ({"amount": "300.00"}, Code.LIMIT_EXCEEDED),
            ({"amount": "150.00"}, Code.INSUFFICIENT_BALANCE),
            ({"amount": "100.00"}, Code.OK),
        ),
    ),
    "capture": Table(
        capture,
        {**WRONG_AMOUNT, "user_id": ..., "hold_serial_no": "H-closed", "to_user_id": "u-nobody"},
        _rows(
            "order.capture.v1",
            FRESH,
            IN_TIME,
            ({"currency": "USD"}, Code.AMOUNT_OUT_OF_RANGE),
            ({"amount": "5000.00"}, Code.ACCOUNT_NOT_FOUND),
            ({"to_user_id": "u-closed"}, Code.ACCOUNT_CLOSED),  # both
            ({"hold_serial_no": "H-frozen"}, Code.ACCOUNT_CLOSED),  # the payee
            ({"to_user_id": "u-frozen"}, Code.ACCOUNT_FROZEN),  # which pays itself
            ({"hold_serial_no": "H-done", "to_user_id": "u-active"}, Code.SAME_ACCOUNT),
            ({"hold_serial_no": "H-nobody"}, Code.ORDER_NOT_FOUND),
            ({"hold_serial_no": "H-expired"}, Code.HOLD_NOT_ACTIVE),
            ({"hold_serial_no": "H-big"}, Code.CURRENCY_MISMATCH),
            ({"currency": "TWD"}, Code.AMOUNT_EXCEEDS_ORIGINAL),
            ({"amount": "300.00"}, Code.LIMIT_EXCEEDED),
            ({"amount": "100.00"}, Code.OK),
        ),
    ),
    "cancel": Table(
        cancel,
        {
            "type": "order.gift.v9",
            "serial_no": "S-used",
            "metadata": {"note": NO_TEXT},
            "target_serial_no": "R-nobody",
        },
        _rows(
            "order.cancel.v1",
            ({"serial_no": "S-fresh"}, Code.ORDER_NOT_FOUND),
            ({"target_serial_no": "R-done"}, Code.ORDER_NOT_CANCELLABLE),
            ({"target_serial_no": "R-waiting"}, Code.OK),
        ),
    ),
    "release": Table(
        release,
        {
            "type": "order.gift.v9",
            "serial_no": "S-used",
            "metadata": {"note": NO_TEXT},
            "hold_serial_no": "H-nobody",
        },
        _rows(
            "order.release.v1",
            ({"serial_no": "S-fresh"}, Code.ORDER_NOT_FOUND),
            ({"hold_serial_no": "H-expired"}, Code.HOLD_NOT_ACTIVE),
            ({"hold_serial_no": "H-big"}, Code.OK),
        ),
    ),
}

RESULT_WITH_EVERYTHING_WRONG: JsonObject = {
    "type": "payment.result.v9",
    "payment_order_no": "R-nobody",
    "amount": TOO_MUCH,
    "currency": "XYZ",
    "status": "failed",
    "reason": NO_TEXT,
    "keys": {"k-stranger": "guessed"},
    "attempts": 3,
}
RESULT_FIRST: list[Row] = [
    ({}, Code.MALFORMED),
    ({"reason": "fine"}, Code.UNSUPPORTED_TYPE),
    ({"type": "payment.result.v1"}, Code.BAD_SIGNATURE),
]


def _result_about(done: str) -> Table:
    """Return the rows of a result that says that the order `done`, which has succeeded, has failed."""
    return Table(
        result,
        RESULT_WITH_EVERYTHING_WRONG,
        [
            *RESULT_FIRST,
            ({"keys": ...}, Code.ORDER_NOT_FOUND),
            ({"payment_order_no": done}, Code.CURRENCY_MISMATCH),
            ({"currency": "TWD"}, Code.AMOUNT_MISMATCH),
            ({"amount": "100.00"}, Code.CONTRADICTING_RESULT),
            ({"status": "succeeded"}, Code.OK),
        ],
    )


REVERSAL_WITH_EVERYTHING_WRONG: JsonObject = {
    "type": "payment.reversal.v9",
    "payment_order_no": "R-nobody",
    "amount": TOO_MUCH,
    "currency": "XYZ",
    "kind": "return",
    "status": "moved",
    "reason": NO_TEXT,
    "keys": {"k-stranger": "guessed"},
    "attempts": 3,
}
REVERSAL_FIRST: list[Row] = [
    ({}, Code.MALFORMED),
    ({"reason": "fine"}, Code.UNSUPPORTED_TYPE),
    ({"type": "payment.reversal.v1"}, Code.BAD_SIGNATURE),
]

TABLES |= {
    "reversal of a recharge": Table(
        reversal,
        {**REVERSAL_WITH_EVERYTHING_WRONG, "reversal_ref": "dp-known", "sequence": 2},
        [
            *REVERSAL_FIRST,
            ({"keys": ...}, Code.ORDER_NOT_FOUND),
            ({"payment_order_no": "R-failed"}, Code.ORDER_NOT_REVERSIBLE),  # its kind
            ({"kind": "recall"}, Code.ORDER_NOT_REVERSIBLE),  # its status
            ({"payment_order_no": "R-done"}, Code.CURRENCY_MISMATCH),
            ({"currency": "TWD", "sequence": 3}, Code.AMOUNT_EXCEEDS_ORIGINAL),
            ({"amount": "100.01"}, Code.AMOUNT_EXCEEDS_ORIGINAL),
            ({"amount": "100.00"}, Code.CONTRADICTING_RESULT),  # its kind was another
            ({"kind": "dispute", "sequence": 2}, Code.CONTRADICTING_RESULT),  # its content
            ({"sequence": 3}, Code.OK),
        ],
    ),
    "reversal of a withdrawal of a closed account": Table(
        reversal,
        {**REVERSAL_WITH_EVERYTHING_WRONG, "payment_order_no": "W-closed"},
        [
            *REVERSAL_FIRST,
            ({"keys": ...}, Code.ACCOUNT_CLOSED),
            ({"payment_order_no": "W-failed"}, Code.ORDER_NOT_REVERSIBLE),
            ({"payment_order_no": "W-done"}, Code.CURRENCY_MISMATCH),
            ({"currency": "TWD"}, Code.AMOUNT_EXCEEDS_ORIGINAL),
            ({"amount": "100.00"}, Code.OK),
        ],
    ),
    "reversal of T-done, which nobody pays": Table(
        reversal,
        {**REVERSAL_WITH_EVERYTHING_WRONG, "payment_order_no": "T-done"},
        [
            *REVERSAL_FIRST,
            ({"keys": ..., "attempts": 0}, Code.ORDER_NOT_FOUND),
            ({"payment_order_no": "W-done", "currency": "TWD", "amount": "100.00"}, Code.OK),
        ],
    ),
}

TABLES |= {
    "result of a recharge": _result_about("R-done"),
    # ACCOUNT_CLOSED needs the order whose account is closed, so the row below it names another order.
    "result of a recharge of a closed account": Table(
        result,
        {**RESULT_WITH_EVERYTHING_WRONG, "payment_order_no": "R-closed", "status": "succeeded"},
        [
            *RESULT_FIRST,
            ({"keys": ...}, Code.ACCOUNT_CLOSED),
            ({"payment_order_no": "R-nobody"}, Code.ORDER_NOT_FOUND),
            ({"payment_order_no": "R-pending"}, Code.CURRENCY_MISMATCH),
            ({"currency": "TWD"}, Code.AMOUNT_MISMATCH),
            ({"amount": "100.00"}, Code.OK),
        ],
    ),
    "result of a withdrawal": _result_about("W-done"),
    "result of a refund": _result_about("F-done"),
    **{
        f"result of {number}, which nobody pays": Table(
            result,
            {**RESULT_WITH_EVERYTHING_WRONG, "payment_order_no": number},
            [
                *RESULT_FIRST,
                ({"keys": ..., "attempts": 0}, Code.ORDER_NOT_FOUND),
                ({"currency": "TWD", "amount": "100.00", "status": "succeeded"}, Code.ORDER_NOT_FOUND),
                ({"payment_order_no": "R-pending"}, Code.OK),
            ],
        )
        for number in ("T-done", "H-big", "H-done")
    },
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_the_rows_stand_in_the_order_of_the_codes(table: Table) -> None:
    codes = [code for _, code in table.rows]

    assert codes[-1] is Code.OK
    assert codes[:-1] == sorted(codes[:-1], key=ORDER.index)


def test_every_code_is_reached() -> None:
    reached = {code for table in TABLES.values() for _, code in table.rows}

    # INTERNAL is for what nobody has foreseen: tests/worker. Senders and keys have tests of their own.
    # Of orders only, and not of what asks for them: PAYMENT_FAILED, PAYMENT_EXPIRED and PAYMENT_CANCELLED.
    # What only a channel's own rules refuse is in test_payment_channels.
    elsewhere = {
        *(Code.GATEWAY_REF_USED, Code.PAID_TWICE, Code.RESULT_TOO_LATE),
        *(Code.INTERNAL, Code.NOT_ALLOWED, Code.KEY_NOT_ALLOWED, Code.ACCOUNT_TYPE_NOT_SUPPORTED),
        *(Code.PAYMENT_FAILED, Code.PAYMENT_EXPIRED, Code.PAYMENT_CANCELLED),
    }
    assert reached == set(Code) - elsewhere


def _all_steps() -> list[Any]:
    return [
        pytest.param(table.message, message, code, id=f"{name}: {number} {code}")
        for name, table in TABLES.items()
        for number, (message, code) in enumerate(_steps(table))
    ]


def _steps(table: Table) -> list[tuple[JsonObject, Code]]:
    """Return the rows of a table as whole messages: each with the changes of all rows above it."""
    mended: JsonObject = table.wrong
    steps = []
    for changes, code in table.rows:
        mended = {**mended, **changes}
        # What is left out of a body is `...` to the end; a keyword of the test's own is not given at all.
        own = {name for name in ("keys", "attempts") if mended.get(name) is ...}
        steps.append(({name: value for name, value in mended.items() if name not in own}, code))
    return steps


@pytest.mark.parametrize(("message", "changes", "code"), _all_steps())
def test_a_message_gets_the_first_code_that_fits(
    message: Callable[..., InboundMessage], changes: JsonObject, code: Code
) -> None:
    world = _world()
    before = (dict(world.orders), dict(world.accounts), list(world.entries))

    decision = world.tell_one(message(**changes))

    assert decision.code is code
    if code is not Code.OK:
        assert (world.orders, world.accounts, world.entries) == before


# And not only along one path: whichever faults come together, the first in the order of the codes is given.

COMMON: dict[Code, JsonObject] = {
    Code.MALFORMED: {"metadata": {"note": NO_TEXT}},
    Code.UNSUPPORTED_TYPE: {"type": "order.gift.v9"},
    Code.SERIAL_CONFLICT: {"serial_no": "S-used"},
}
OF_ACCOUNTS: dict[Code, JsonObject] = {**COMMON, Code.CURRENCY_NOT_SUPPORTED: {"currency": "XYZ"}}
OF_ORDERS: dict[Code, JsonObject] = {**OF_ACCOUNTS, Code.AMOUNT_OUT_OF_RANGE: {"amount": TOO_MUCH}}
FAULTS: dict[str, tuple[Callable[..., InboundMessage], JsonObject, dict[Code, JsonObject]]] = {
    "freeze": (
        freeze,
        {"user_id": "u-active"},
        {**OF_ACCOUNTS, Code.ACCOUNT_CLOSED: {"user_id": "u-closed"}},
    ),
    "close": (close, {"user_id": "u-empty"}, {**OF_ACCOUNTS, Code.BALANCE_NOT_ZERO: {"user_id": "u-active"}}),
    "recharge": (
        recharge,
        {"user_id": "u-active"},
        {**OF_ORDERS, Code.ACCOUNT_CLOSED: {"user_id": "u-closed"}},
    ),
    "withdraw": (
        withdraw,
        {"user_id": "u-active"},
        {**OF_ORDERS, Code.ACCOUNT_FROZEN: {"user_id": "u-frozen"}},
    ),
    "hold": (hold, {"user_id": "u-active"}, {**OF_ORDERS, Code.INSUFFICIENT_BALANCE: {"user_id": "u-empty"}}),
    "transfer": (
        transfer,
        {"user_id": "u-active", "to_user_id": "u-empty"},
        {
            **OF_ORDERS,
            Code.ACCOUNT_FROZEN: {"user_id": "u-frozen"},
            Code.ACCOUNT_CLOSED: {"to_user_id": "u-closed"},
        },
    ),
    "refund": (
        refund,
        {"original_serial_no": "R-done"},
        {
            **COMMON,
            Code.CURRENCY_MISMATCH: {"currency": "USD"},
            Code.ORDER_NOT_REFUNDABLE: {"original_serial_no": "R-failed"},
            Code.AMOUNT_EXCEEDS_ORIGINAL: {"amount": "100.01"},
        },
    ),
    "capture": (
        capture,
        {"hold_serial_no": "H-big", "to_user_id": "u-active"},
        {
            **COMMON,
            Code.SAME_ACCOUNT: {"to_user_id": "u-rich"},
            Code.ORDER_NOT_FOUND: {"hold_serial_no": "H-nobody"},
            Code.LIMIT_EXCEEDED: {"amount": "200.01"},
        },
    ),
    "result of a recharge": (
        result,
        {"payment_order_no": "R-done"},
        {
            Code.MALFORMED: {"reason": NO_TEXT},
            Code.UNSUPPORTED_TYPE: {"type": "payment.result.v9"},
            Code.BAD_SIGNATURE: {"keys": {}},
            Code.CURRENCY_MISMATCH: {"currency": "USD"},
            Code.AMOUNT_MISMATCH: {"amount": "99.99"},
            Code.CONTRADICTING_RESULT: {"status": "failed"},
        },
    ),
    "result of a withdrawal": (
        result,
        {"payment_order_no": "W-failed", "status": "failed"},
        {
            Code.BAD_SIGNATURE: {"keys": {}},
            Code.CURRENCY_MISMATCH: {"currency": "USD"},
            Code.AMOUNT_MISMATCH: {"amount": "99.99"},
            Code.CONTRADICTING_RESULT: {"status": "succeeded"},
        },
    ),
}


@pytest.mark.parametrize(("message", "good", "faults"), FAULTS.values(), ids=FAULTS)
def test_of_any_faults_together_the_first_code_is_given(
    message: Callable[..., InboundMessage], good: JsonObject, faults: dict[Code, JsonObject]
) -> None:
    for chosen in product((False, True), repeat=len(faults)):
        codes = [code for code, is_in in zip(faults, chosen, strict=True) if is_in]
        changes: JsonObject = {"serial_no": "S-fresh"} if message is not result else {}
        changes |= good
        for code in codes:
            changes |= faults[code]
        # An account that cannot pay itself is known to do so only if there is something to pay with.
        if message is capture and Code.ORDER_NOT_FOUND in codes:
            codes = [code for code in codes if code is not Code.SAME_ACCOUNT]

        decision = _world().tell_one(message(**changes))

        assert decision.code is min(codes, key=ORDER.index, default=Code.OK), codes


# What is found of the account that pays stands before what is found of the other, and what cannot be known is not said.


def test_an_unknown_hold_does_not_hide_that_the_payee_is_closed() -> None:
    code = _world().tell_one(capture(hold_serial_no="H-nobody", to_user_id="u-closed")).code

    assert code is Code.ACCOUNT_CLOSED


@pytest.mark.parametrize(
    ("payer", "payee", "sentence"),
    [
        ("u-nobody", "u-nobody", "the user who is to pay has no account"),
        ("u-active", "u-nobody", "the user who is to be paid has no account"),
        ("u-closed", "u-active", "the account that is to pay is closed"),
        ("u-frozen", "u-active", "the account that is to pay is frozen"),
        ("u-active", "u-closed", "the account that is to be paid is closed"),
    ],
)
def test_a_refused_transfer_says_which_of_the_two_accounts_it_is(
    payer: str, payee: str, sentence: str
) -> None:
    decision = _world().tell_one(transfer("upstream", user_id=payer, to_user_id=payee))

    assert decision.detail.startswith(sentence)
    (reply,) = replies(decision)
    assert reply["message"] == decision.detail
    assert reply["details"] == {"party": "payee" if "is to be paid" in sentence else "payer"}


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        ("H-expired", "the hold is expired"),
        ("H-done", "the hold is captured"),
        ("H-frozen", "the hold is released"),
        ("R-done", "the order is a recharge, not a hold"),
        ("T-done", "the order is a transfer, not a hold"),
    ],
)
def test_what_cannot_be_released_says_why(number: str, sentence: str) -> None:
    decision = _world().tell_one(release(hold_serial_no=number))

    assert (decision.code, decision.detail) == (Code.HOLD_NOT_ACTIVE, sentence)


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        ("R-pending", "a recharge that is pending"),
        ("R-failed", "a recharge that is failed"),
        ("F-failed", "a refund that is failed"),
        ("F-done", "a refund that is succeeded"),
        ("W-done", "a withdraw that is succeeded"),
        ("T-done", "a transfer that is succeeded"),
        ("H-big", "a hold that is active"),
    ],
)
def test_only_a_recharge_that_has_succeeded_is_given_back(number: str, sentence: str) -> None:
    decision = _world().tell_one(refund(original_serial_no=number, amount="1.00"))

    assert decision.code is Code.ORDER_NOT_REFUNDABLE
    assert sentence in decision.detail


@pytest.mark.parametrize(
    "message",
    [
        capture(hold_serial_no="H-big", to_user_id="u-full", amount="1.00"),
        transfer(user_id="u-rich", to_user_id="u-full", amount="1.00"),
    ],
)
def test_a_balance_that_would_leave_64_bits_is_no_amount_for_this_wallet(message: InboundMessage) -> None:
    world = _world()
    world.with_account(user_id="u-full", balance_minor=BALANCE_MAX_MINOR - 99, source=SystemName.ADJUSTMENTS)
    before = (dict(world.orders), dict(world.accounts), list(world.entries))

    decision = world.tell_one(message)

    assert decision.code is Code.AMOUNT_OUT_OF_RANGE
    assert (world.orders, world.accounts, world.entries) == before


def _not_json() -> InboundMessage:
    return command(b"{")


def _other_queue() -> InboundMessage:
    return command(changed(bodies.RESULT, {}))


@pytest.mark.parametrize(
    ("arrived", "code"), [(_not_json(), Code.MALFORMED), (_other_queue(), Code.UNSUPPORTED_TYPE)]
)
def test_what_is_not_for_this_queue_is_never_decided(arrived: InboundMessage, code: Code) -> None:
    world = _world()
    orders, entries = dict(world.orders), list(world.entries)

    decision = world.tell_one(arrived)

    assert decision.code is code
    assert (world.orders, world.entries) == (orders, entries)
