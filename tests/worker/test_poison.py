"""A message on which the wallet fails is set aside alone, byte for byte, and its neighbours are applied."""

from collections.abc import Callable
from hashlib import sha256

import asyncpg
import pytest
import structlog
from structlog.typing import EventDict

from tests.rules.core.world import command, open_account, recharge, result
from tests.worker import tables
from tests.worker.rig import ROUTING_KEY, WORKER, Rig
from wallet_schemas.names import WALLET_DEAD_LETTERS
from wallet_worker.broker.amqp.properties import unmarshal
from wallet_worker.core import batch as core_batch
from wallet_worker.core.changes import Decision
from wallet_worker.core.context import DecisionContext
from wallet_worker.core.decide import decide
from wallet_worker.core.facts import Facts
from wallet_worker.core.inbound import InboundMessage, InvalidMessage, Message
from wallet_worker.telemetry import logs

Fails = Callable[[str], None]

_WHERE = "; message.failed in the log of the worker says where"
BY_OUR_CODE = "the wallet failed on it: its own code has a fault" + _WHERE
BY_A_VALUE = "the wallet failed on it: the database cannot store a value" + _WHERE


@pytest.fixture
def fails_on(monkeypatch: pytest.MonkeyPatch) -> Fails:
    """Give a switch that has the wallet fail on each message whose body has a text in it."""
    poison: list[str] = []

    def decide_or_fail(message: Message | InvalidMessage, facts: Facts, context: DecisionContext) -> Decision:
        for text in poison:
            if text.encode() in context.incoming.body:
                raise ZeroDivisionError(f"bitten by {text}")
        return decide(message, facts, context)

    monkeypatch.setattr(core_batch, "decide", decide_or_fail)
    return poison.append


def _opened(count: int) -> list[InboundMessage]:
    return [
        open_account("upstream", serial_no=f"O-{number}", user_id=f"u-{number}") for number in range(count)
    ]


async def _users(owner: asyncpg.Connection) -> set[str]:
    return {row[0] for row in await owner.fetch("SELECT user_id FROM accounts WHERE kind = 'user'")}


@pytest.mark.parametrize("poisoned", [{0}, {6}, {12}, {3, 4}, {0, 12}, {1, 5, 9}, set(range(13))])
async def test_poison_in_a_batch_is_set_aside_and_the_others_apply(
    rig: Rig, owner: asyncpg.Connection, fails_on: Fails, poisoned: set[int]
) -> None:
    arrived = _opened(13)
    for number in poisoned:
        fails_on(f'"u-{number}"')

    await rig.settle(*arrived)

    assert await _users(owner) == {f"u-{number}" for number in set(range(13)) - poisoned}
    assert await tables.dead_letters(owner) == sorted(
        (
            arrived[number].body,
            "INTERNAL",
            BY_OUR_CODE,
        )
        for number in poisoned
    )
    assert {reply["serial_no"] for reply in await tables.replies(owner)} == {
        f"O-{number}" for number in set(range(13)) - poisoned
    }


async def test_poison_is_set_aside_with_everything_that_came_with_it(
    rig: Rig, owner: asyncpg.Connection, fails_on: Fails
) -> None:
    fails_on('"u-1"')
    arrived = result("gateway", payment_order_no="u-1")

    await rig.settle(open_account(user_id="u-2"), arrived)

    row = await owner.fetchrow("SELECT * FROM outbox WHERE exchange = $1", WALLET_DEAD_LETTERS)
    assert row is not None
    assert (row["routing_key"], row["body"]) == (ROUTING_KEY, arrived.body)
    properties = unmarshal(row["properties"])
    headers = dict(properties.headers or {})
    assert (properties.message_id, properties.reply_to, properties.correlation_id) == (
        "m-1",
        "reply.gateway",
        "c-1",
    )
    first_seen = headers.pop("x-wallet-first-seen")
    assert isinstance(first_seen, str)
    assert first_seen.endswith("Z")
    assert headers == {
        "x-signature": arrived.signature,
        "x-wallet-reason": "INTERNAL",
        "x-wallet-detail": BY_OUR_CODE,
        "x-wallet-source": "payment.results",
        "x-wallet-exchange": "payment.results",
        "x-wallet-routing-key": ROUTING_KEY,
        "x-wallet-attempts": 1,
        "x-wallet-worker": WORKER,
    }


async def test_poison_has_no_outcome_and_may_be_sent_again_when_the_fault_is_mended(
    rig: Rig, owner: asyncpg.Connection, fails_on: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails_on('"u-1"')
    await rig.settle(*_opened(3))
    assert await owner.fetchval("SELECT count(*) FROM commands") == 2

    monkeypatch.undo()
    await rig.settle(*_opened(3))

    assert await _users(owner) == {"u-0", "u-1", "u-2"}


async def test_what_poison_leaves_undone_is_undone_for_those_after_it(
    rig: Rig, owner: asyncpg.Connection, fails_on: Fails
) -> None:
    """The account is not opened, so its recharge is refused, and the result after it finds no order."""
    fails_on("account.open")

    await rig.settle(open_account(), recharge("upstream"), result())

    assert [reply["code"] for reply in await tables.replies(owner)] == ["ACCOUNT_NOT_FOUND"]
    assert await owner.fetchval("SELECT count(*) FROM parked_results") == 1


async def test_a_failure_after_the_decision_is_the_message_s_too(
    rig: Rig, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Facts that cannot take a decision in leave nothing half done."""
    apply = Facts.apply

    def apply_or_fail(facts: Facts, decision: Decision) -> None:
        apply(facts, decision)
        if decision.opened is not None and decision.opened.user_id == "u-1":
            raise KeyError("u-1")

    monkeypatch.setattr(Facts, "apply", apply_or_fail)

    await rig.settle(*_opened(3))

    assert await _users(owner) == {"u-0", "u-2"}
    assert [reason for _, reason, _ in await tables.dead_letters(owner)] == ["INTERNAL"]


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_the_log_says_where_the_wallet_failed_and_nothing_of_what_was_in_the_message(
    capsys: pytest.CaptureFixture[str], log_format: str
) -> None:
    logs.configure(log_format, "info")
    message = open_account(user_id="u-private")

    try:
        divmod(len(message.body), 0)
    except ZeroDivisionError:
        structlog.get_logger().exception("message.failed")

    printed = capsys.readouterr().err
    assert "message.failed" in printed
    assert "divmod(len(message.body), 0)" in printed
    assert "u-private" not in printed


# The database says no


async def test_what_the_database_refuses_is_set_aside_and_the_others_apply(
    rig: Rig, owner: asyncpg.Connection
) -> None:
    await owner.execute("ALTER TABLE accounts ADD CONSTRAINT no_two CHECK (user_id NOT IN ('u-2', 'u-4'))")
    arrived = _opened(7)

    await rig.settle(*arrived)

    assert await _users(owner) == {"u-0", "u-1", "u-3", "u-5", "u-6"}
    found = await tables.dead_letters(owner)
    assert [(body, reason) for body, reason, _ in found] == [
        (arrived[2].body, "INTERNAL"),
        (arrived[4].body, "INTERNAL"),
    ]
    assert {detail for _, _, detail in found} == {BY_A_VALUE}


@pytest.mark.parametrize("failing", ["its own code", "the database"])
async def test_the_technical_text_is_in_the_log_under_the_digest_of_the_message(
    rig: Rig, owner: asyncpg.Connection, fails_on: Fails, logged: list[EventDict], failing: str
) -> None:
    await owner.execute("ALTER TABLE accounts ADD CONSTRAINT no_two CHECK (user_id <> 'u-2')")
    if failing == "its own code":
        fails_on('"u-2"')
    arrived = open_account("upstream", user_id="u-2")

    await rig.settle(arrived)

    (failed,) = [line for line in logged if line["event"] == "message.failed"]
    assert failed["digest"] == sha256(arrived.body).hexdigest()
    assert ("bitten by" if failing == "its own code" else "no_two") in str(failed["exc_info"])


@pytest.mark.parametrize(
    ("constraint", "left"),
    [
        ("ALTER TABLE orders ADD CONSTRAINT none CHECK (serial_no <> 'R-2' OR status <> 'succeeded')", "R-2"),
        ("ALTER TABLE entries ADD CONSTRAINT none CHECK (amount <> 200)", "R-2"),
        ("ALTER TABLE payment_results ADD CONSTRAINT none CHECK (payment_order_no <> 'R-2')", "R-2"),
    ],
)
async def test_a_result_that_the_database_refuses_leaves_its_order_as_it_was(
    rig: Rig, owner: asyncpg.Connection, constraint: str, left: str
) -> None:
    await rig.settle(open_account())
    await rig.settle(*(recharge(serial_no=f"R-{number}", amount=f"{number}") for number in (1, 2, 3)))
    await owner.execute(constraint)

    await rig.settle(*(result(payment_order_no=f"R-{number}", amount=f"{number}") for number in (1, 2, 3)))

    pending = await owner.fetch("SELECT serial_no FROM orders WHERE status = 'pending'")
    assert [row[0] for row in pending] == [left]
    assert await owner.fetchval("SELECT balance FROM accounts WHERE kind = 'user'") == 400
    assert len(await tables.dead_letters(owner)) == 1


async def test_what_the_database_refuses_does_not_use_up_its_serial_number(
    rig: Rig, owner: asyncpg.Connection
) -> None:
    await owner.execute("ALTER TABLE orders ADD CONSTRAINT none CHECK (false)")
    await rig.settle(open_account())
    await rig.settle(recharge())
    await owner.execute("ALTER TABLE orders DROP CONSTRAINT none")

    await rig.settle(recharge())

    assert await owner.fetchval("SELECT count(*) FROM orders") == 1


async def test_unreadable_bytes_are_kept_byte_for_byte(rig: Rig, owner: asyncpg.Connection) -> None:
    bodies = [b"", b"\0", b"\xff\xfe{", b"{" * 10_000, b'{"type": "x\\u0000"}', bytes(range(256)) * 200]

    await rig.settle(*(command(body) for body in bodies))

    found = await tables.dead_letters(owner)
    assert [body for body, _, _ in found] == sorted(bodies)
    assert {reason for _, reason, _ in found} == {"MALFORMED"}


# Parked results take the same road


async def test_a_parked_result_that_fails_is_set_aside_and_the_others_apply(
    rig: Rig, owner: asyncpg.Connection, fails_on: Fails
) -> None:
    numbers = [f"R-{number}" for number in range(5)]
    await rig.settle(*(result(payment_order_no=number) for number in numbers))
    await rig.settle(open_account(), *(recharge(serial_no=number) for number in numbers))
    fails_on('"R-1"')
    fails_on('"R-3"')

    await rig.sweep()

    assert await owner.fetchval("SELECT balance FROM accounts WHERE kind = 'user'") == 30_000
    assert await owner.fetchval("SELECT count(*) FROM parked_results") == 0
    assert [(body, reason) for body, reason, _ in await tables.dead_letters(owner)] == [
        (result(payment_order_no=number).body, "INTERNAL") for number in ("R-1", "R-3")
    ]


async def test_a_parked_result_that_the_database_refuses_is_set_aside(
    rig: Rig, owner: asyncpg.Connection
) -> None:
    await rig.settle(result(payment_order_no="R-1"), result(payment_order_no="R-2"))
    await rig.settle(open_account(), recharge(serial_no="R-1"), recharge(serial_no="R-2"))
    await owner.execute(
        "ALTER TABLE orders ADD CONSTRAINT none CHECK (serial_no <> 'R-1' OR status = 'pending')"
    )

    await rig.sweep()

    assert await owner.fetchval("SELECT balance FROM accounts WHERE kind = 'user'") == 10_000
    assert await owner.fetchval("SELECT count(*) FROM parked_results") == 0
    ((body, reason, detail),) = await tables.dead_letters(owner)
    assert (body, reason, detail) == (result(payment_order_no="R-1").body, "INTERNAL", BY_A_VALUE)
