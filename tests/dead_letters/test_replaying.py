"""Replays by real workers: what is published, what comes back, and what is stopped.

They show needs 1, 2, 4, 8 and 9 of docs/operators-needs.md.
"""

import hashlib
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from pamqp.commands import Basic
from pamqp.common import FieldValue

from tests.cli.terminal import CommandResult
from tests.cli.terminal import wallet as wallet_command
from tests.dead_letters.conftest import OTTO, VERA, Wallet, a_wallet
from tests.dead_letters.letters import headers, properties
from tests.dead_letters.people import agreed
from tests.journeys.messages import Json, encoded, fresh, open_account, recharge, result, signed
from tests.servers import Servers
from tests.workers import KEYS, until
from wallet_worker.cli.exits import Exit
from wallet_worker.dead_letters.model.actors import Actor
from wallet_worker.dead_letters.model.errors import NotPossibleError
from wallet_worker.dead_letters.model.filters import AuditFilter, Filter
from wallet_worker.dead_letters.model.plans import ReplayPace
from wallet_worker.dead_letters.model.predictions import PredictedOutcome
from wallet_worker.dead_letters.model.states import Action, LetterState, OperationState
from wallet_worker.settings.operators import Role

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def wallet(servers: Servers, migrated_url: str) -> AsyncIterator[Wallet]:
    """Give a wallet with one worker, which keeps dead letters, that all tests here share."""
    async with a_wallet(servers, migrated_url) as wallet:
        await wallet.start()
        yield wallet


@pytest.mark.need(1)
async def test_a_replay_carries_what_the_original_did_and_its_own_id(wallet: Wallet) -> None:
    order = recharge(await wallet.upstream.opened())
    message_headers = headers(x_theirs="kept", x_delivery_count=7, **{"x-first-death-queue": "q"})
    message_headers |= {"CC": ["payment.results"], "BCC": ["order.recharge"]}
    message_headers["x-death"] = [{"queue": "wallet.commands", "reason": "rejected", "count": 1}]
    # A copy of everything that is published as a command.
    spy = fresh("spy")
    channel = await wallet.upstream.new_channel()
    await channel.queue_declare(spy, exclusive=True)
    await channel.queue_bind(spy, "wallet.commands", "#")
    sent = Basic.Properties(
        delivery_mode=2,
        message_id="M-1",
        app_id="them",
        user_id=None,
        headers=properties(message_headers).headers,
    )
    await wallet.upstream.publish("wallet.dead-letters", order, routing_key="order.recharge", properties=sent)
    letter_id = await wallet.until_letter(order["serial_no"])

    await wallet.replayed([letter_id])
    await wallet.until_state(letter_id, "resolved")

    copy = await channel.basic_get(spy, no_ack=True)
    carried = dict(copy.header.properties.headers or {})
    (replay,) = (await wallet.operations.letter(OTTO, letter_id)).replays
    assert copy.body == encoded(order)
    assert isinstance(copy.delivery, Basic.GetOk)
    assert (copy.delivery.exchange, copy.delivery.routing_key) == ("wallet.commands", "order.recharge")
    assert carried == {
        "x-theirs": "kept",
        "x-wallet-replay-id": str(replay.replay_id),
        "x-wallet-replay-count": 1,
    }
    assert (copy.header.properties.message_id, copy.header.properties.app_id) == ("M-1", "them")
    await channel.queue_delete(spy)
    await channel.close()


@pytest.mark.need(1)
async def test_what_had_no_route_is_replayed_to_where_it_was_published(wallet: Wallet) -> None:
    order = recharge(await wallet.upstream.opened())
    channel = await wallet.upstream.new_channel()
    await channel.queue_unbind("wallet.commands", "wallet.commands", "#")
    try:
        await wallet.upstream.publish("wallet.commands", order, routing_key="order.recharge")
        letter_id = await wallet.until_letter(order["serial_no"])
    finally:
        await channel.queue_bind("wallet.commands", "wallet.commands", "#")
        await channel.close()

    await wallet.replayed([letter_id])

    await wallet.until_state(letter_id, "resolved")
    line = (await wallet.operations.letter(OTTO, letter_id)).whole.line
    assert (line.reason, line.source) == ("UNROUTED", "wallet.commands")
    await until(wallet.owner, "SELECT count(*) FROM orders WHERE serial_no = $1", 1, order["serial_no"])


@pytest.mark.need(2)
async def test_what_the_broker_set_aside_is_taken_in_with_its_reason_and_handed_on(
    wallet: Wallet,
) -> None:
    order = recharge(await wallet.upstream.opened())
    await wallet.upstream.outcome(order)
    await rejected(wallet, "payment.requests", order["serial_no"])

    letter_id = await until_request(wallet, order)
    found = await wallet.operations.letter(OTTO, letter_id)
    await wallet.replayed([letter_id])
    await until_replay(wallet, letter_id, "published")

    assert (found.whole.line.reason, found.whole.line.source) == ("BROKER_REJECTED", "payment.requests")
    assert (found.whole.exchange, found.whole.routing_key) == ("payment.requests", "payment.request")
    assert found.whole.body is not None
    assert found.prediction.verdict is PredictedOutcome.FORWARDED
    again = await rejected(wallet, "payment.requests", order["serial_no"])
    assert "x-death" not in again
    assert again["x-wallet-replay-count"] == 1
    # A gateway that rejects it again has not been handed it: nothing was resolved.
    await wallet.until_state(letter_id, "waiting")
    back = await wallet.operations.letter(OTTO, letter_id)
    assert [(replay.state, replay.code) for replay in back.replays] == [("failed", "BROKER_REJECTED")]
    assert [attempt.reason for attempt in back.attempts] == ["BROKER_REJECTED", "BROKER_REJECTED"]


@pytest.mark.need(9)
async def test_a_request_that_the_gateway_rejects_after_a_while_has_failed_after_all(
    wallet: Wallet,
) -> None:
    order, letter_id = await a_rejected_request(wallet)
    await wallet.replayed([letter_id])
    await until_replay(wallet, letter_id, "published")
    await wallet.owner.execute(
        """
        UPDATE dead_letter_replays
        SET published_at = published_at - interval '1 minute', checked_at = NULL
        WHERE letter_id = $1
        """,
        letter_id,
    )
    await wallet.until_state(letter_id, "resolved")

    await rejected(wallet, "payment.requests", order["serial_no"])

    await wallet.until_state(letter_id, "waiting")
    found = await wallet.operations.letter(OTTO, letter_id)
    assert [(replay.state, replay.code) for replay in found.replays] == [("failed", "BROKER_REJECTED")]
    assert [row.action for row in found.audit if row.actor == "keeper"] == [
        "replay resolved",
        "replay failed",
    ]


@pytest.mark.need(9)
async def test_a_request_is_resolved_when_the_gateway_has_answered(wallet: Wallet) -> None:
    order, letter_id = await a_rejected_request(wallet)
    await wallet.replayed([letter_id])
    await until_replay(wallet, letter_id, "published")

    await payment_request_of(wallet, order)
    await wallet.upstream.processed(result(order["serial_no"]))

    await wallet.until_state(letter_id, "resolved")
    (replay,) = (await wallet.operations.letter(OTTO, letter_id)).replays
    assert replay.detail == "handed on to the gateway, which has said succeeded of its order since"


async def a_rejected_request(wallet: Wallet) -> tuple[Json, int]:
    """Return an order that waits, and the letter that the request about it has become."""
    order = recharge(await wallet.upstream.opened())
    await wallet.upstream.outcome(order)
    await rejected(wallet, "payment.requests", order["serial_no"])
    return order, await until_request(wallet, order)


async def until_replay(wallet: Wallet, letter_id: int, state: str) -> None:
    """Wait until the one replay of a letter stands there."""
    query = "SELECT state FROM dead_letter_replays WHERE letter_id = $1"
    await until(wallet.owner, query, state, letter_id)


async def until_request(wallet: Wallet, order: Json) -> int:
    """Return the letter that the payment request of an order has become."""
    query = "SELECT coalesce(max(letter_id), 0) > 0 FROM dead_letters WHERE serial_no = $1 AND source = $2"
    await until(wallet.owner, query, True, order["serial_no"], "payment.requests")  # noqa: FBT003 -- what it says
    found = query.replace("coalesce(max(letter_id), 0) > 0", "max(letter_id)")
    return int(await wallet.owner.fetchval(found, order["serial_no"], "payment.requests"))


@pytest.mark.parametrize(
    "differs",
    [
        *("amount", "kind", "channel", "currency", "expires_at", "order", "more"),
        *("user_id", "account_no", "metadata", "instrument", "return_url", "original"),
        *("succeeded", "failed", "expired"),
    ],
)
async def test_a_payment_request_that_no_order_says_is_never_handed_on(wallet: Wallet, differs: str) -> None:
    order = recharge(await wallet.upstream.opened())
    await wallet.upstream.outcome(order)
    own = await payment_request_of(wallet, order)
    lies: dict[str, Json] = {
        "amount": {"amount": "999.00"},
        "kind": {"kind": "payout"},
        "channel": {"channel": "bank_transfer"},
        "currency": {"currency": "USD"},
        "expires_at": {"expires_at": "2099-01-01T00:00:00.000000Z"},
        "order": {"payment_order_no": (no := fresh("R"))},
        "more": {"to": "me"},
        "user_id": {"user_id": "mallory"},
        "account_no": {"account_no": "2026010204815162347"},
        "metadata": {"metadata": {"to": "mallory"}},
        "instrument": {"instrument": "ba_mallory"},
        "return_url": {"return_url": "https://mallory.example/"},
        "original": {"original_gateway_ref": "gw-1"},
    }
    await ended(wallet, order, differs)
    forged = own | lies.get(differs, {})
    death: FieldValue = [{"queue": "payment.requests", "reason": "rejected", "exchange": "payment.requests"}]
    await wallet.upstream.publish("wallet.dead-letters", forged, properties=properties({"x-death": death}))
    letter_id = await until_request(wallet, order if differs != "order" else {"serial_no": no})

    found = await wallet.operations.letter(OTTO, letter_id)

    assert found.prediction.verdict is PredictedOutcome.NOT_REPLAYABLE
    with pytest.raises(NotPossibleError, match="cannot be replayed: it"):
        await wallet.operations.plan(OTTO, Action.REPLAY, Filter(ids=(letter_id,)), reason="x")
    # Also if it was ordered: whoever publishes looks again.
    await wallet.owner.execute(
        "UPDATE dead_letters SET source = 'wallet.commands', body = $2 WHERE letter_id = $1",
        letter_id,
        encoded(open_account(fresh("u"))),
    )
    await wallet.workers.started[0].until_ready()
    wallet.workers.started[0].freeze()
    plan = await wallet.operations.plan(OTTO, Action.REPLAY, Filter(ids=(letter_id,)), reason="x")
    await wallet.operations.execute(OTTO, plan.token)
    await wallet.owner.execute(
        "UPDATE dead_letters SET source = 'payment.requests', body = $2 WHERE letter_id = $1",
        letter_id,
        encoded(forged),
    )
    wallet.workers.started[0].thaw()
    await until(
        wallet.owner, "SELECT state FROM dead_letter_replays WHERE letter_id = $1", "failed", letter_id
    )
    (replay,) = (await wallet.operations.letter(OTTO, letter_id)).replays
    assert replay.published_at is None
    assert await wallet.state(letter_id) == "waiting"


@pytest.mark.parametrize("instrument", ["pm_7Qd2", "pm_mallory"])
async def test_where_the_money_goes_is_proven_by_the_wallets_own_signature(
    wallet: Wallet, instrument: str
) -> None:
    order = recharge(await wallet.upstream.opened()) | {"type": "order.recharge.v2", "instrument": "pm_7Qd2"}
    await wallet.upstream.outcome(order)
    own, signature = await signed_request_of(wallet, order)
    death: FieldValue = [{"queue": "payment.requests", "reason": "rejected", "exchange": "payment.requests"}]
    body = own.replace(b"pm_7Qd2", instrument.encode())
    message_headers = {"x-death": death, "x-signature": signature}
    await wallet.upstream.publish("wallet.dead-letters", body, properties=properties(message_headers))
    letter_id = await until_request(wallet, order)

    await wallet.replayed([letter_id])

    await until_replay(wallet, letter_id, "published" if instrument == "pm_7Qd2" else "failed")
    (replay,) = (await wallet.operations.letter(OTTO, letter_id)).replays
    assert ("says instrument" in (replay.detail or "")) is (instrument != "pm_7Qd2")


async def test_what_became_of_an_order_may_be_asked_whatever_became_of_it(wallet: Wallet) -> None:
    order = recharge(await wallet.upstream.opened())
    await wallet.upstream.outcome(order)
    question = await payment_request_of(wallet, order) | {"kind": "status"}
    await ended(wallet, order, "failed")
    death: FieldValue = [{"queue": "payment.requests", "reason": "rejected", "exchange": "payment.requests"}]
    await wallet.upstream.publish("wallet.dead-letters", question, properties=properties({"x-death": death}))

    letter_id = await until_request(wallet, order)

    assert (await wallet.operations.letter(OTTO, letter_id)).prediction.verdict is PredictedOutcome.FORWARDED


async def ended(wallet: Wallet, order: Json, status: str) -> None:
    """Have an order end so, if that is how one ends."""
    match status:
        case "succeeded" | "failed":
            await wallet.upstream.processed(result(order["serial_no"], status))
        case "expired":
            await wallet.owner.execute(
                "UPDATE orders SET status = 'expired', due_at = NULL WHERE serial_no = $1", order["serial_no"]
            )
        case _:
            pass


async def payment_request_of(wallet: Wallet, order: Json) -> Json:
    """Return what the gateway is asked about an order, taken from its queue."""
    body, _ = await signed_request_of(wallet, order)
    request: Json = json.loads(body)
    return request


async def signed_request_of(wallet: Wallet, order: Json) -> tuple[bytes, FieldValue]:
    """Return the body and the signature of the same."""
    channel = await wallet.upstream.new_channel()
    try:
        while True:
            found = await channel.basic_get("payment.requests", no_ack=True)
            assert isinstance(found.delivery, Basic.GetOk), "it is not there"
            if json.loads(found.body)["payment_order_no"] == order["serial_no"]:
                return found.body, (found.header.properties.headers or {})["x-signature"]
    finally:
        await channel.close()


async def rejected(wallet: Wallet, queue: str, number: str) -> dict[str, FieldValue]:
    """Reject the message about an order for good, as a reader of its queue; return the headers that it had."""
    channel = await wallet.upstream.new_channel()
    try:
        while True:
            found = await channel.basic_get(queue)
            assert found.delivery_tag is not None, "it is not there"
            if json.loads(found.body).get("payment_order_no") == number:
                await channel.basic_reject(found.delivery_tag, requeue=False)
                return dict(found.header.properties.headers or {})
            await channel.basic_ack(found.delivery_tag)
    finally:
        await channel.close()


@pytest.mark.need(2)
async def test_what_a_stranger_set_aside_is_kept_and_goes_nowhere(wallet: Wallet) -> None:
    request = {"type": "payment.request.v1", "payment_order_no": fresh("R")}
    channel = await wallet.upstream.new_channel()
    queue = fresh("theirs")
    await channel.queue_declare(
        queue, exclusive=True, arguments={"x-dead-letter-exchange": "wallet.dead-letters"}
    )
    # What it says of itself would send the wallet's own words to the gateway.
    message_headers = headers(source="payment.requests")
    await wallet.upstream.publish("", request, routing_key=queue, properties=properties(message_headers))
    await rejected(wallet, queue, request["payment_order_no"])

    letter_id = await wallet.until_letter(request["payment_order_no"])
    found = await wallet.operations.letter(OTTO, letter_id)

    assert (found.whole.line.reason, found.whole.exchange) == ("BROKER_REJECTED", None)
    with pytest.raises(NotPossibleError, match="nobody knows where it was published first"):
        await wallet.operations.plan(OTTO, Action.REPLAY, Filter(ids=(letter_id,)), reason="x")
    await channel.queue_delete(queue)
    await channel.close()


@pytest.mark.need(4)
async def test_the_business_truth_stands_beside_and_the_prediction_is_right(wallet: Wallet) -> None:
    user = await wallet.upstream.opened()
    order = recharge(user)
    await wallet.upstream.outcome(order)
    wrong = result(order["serial_no"], amount="99.00")
    await wallet.upstream.result(wrong)
    letter_id = await wallet.until_letter(order["serial_no"])

    found = await wallet.operations.letter(OTTO, letter_id)

    assert found.whole.line.reason == "AMOUNT_MISMATCH"
    assert found.prediction.label == "would be a dead letter again (AMOUNT_MISMATCH)"
    assert found.truth.outcome is not None
    assert found.truth.outcome["status"] == "applied"
    assert found.truth.order is not None
    assert (found.truth.order.status, found.truth.order.amount) == ("pending", "100.00")
    assert found.truth.account is not None
    assert (found.truth.account.user_id, found.truth.account.balance) == (user, "0.00")
    assert [(result.amount, result.code) for result in found.truth.results] == [("99.00", "AMOUNT_MISMATCH")]
    seen_by_viewer = await wallet.operations.letter(VERA, letter_id)
    assert user not in repr(seen_by_viewer)


@pytest.mark.need(4)
async def test_every_prediction_comes_true(wallet: Wallet) -> None:
    user = await wallet.upstream.opened()
    done = recharge(user)
    await wallet.upstream.outcome(done)
    body = encoded(result(done["serial_no"]))
    contents: list[tuple[Json | bytes, dict[str, str], PredictedOutcome, tuple[str, str]]] = [
        (recharge(user), {}, PredictedOutcome.WILL_APPLY, ("resolved", "OK")),
        (done, {}, PredictedOutcome.REPEATS, ("resolved", "OK")),
        (open_account(user), {}, PredictedOutcome.WILL_BE_REFUSED, ("resolved", "ACCOUNT_EXISTS")),
        (done | {"amount": "7.00"}, {}, PredictedOutcome.CONFLICT, ("waiting", "SERIAL_CONFLICT")),
        (b'{"type": "order.recharge.v1"}', {}, PredictedOutcome.STILL_MALFORMED, ("waiting", "MALFORMED")),
        (
            body,
            {"source": "payment.results", "x_signature": signed(body)},
            PredictedOutcome.WILL_APPLY,
            ("resolved", "OK"),
        ),
        (body, {"source": "payment.results"}, PredictedOutcome.STILL_MALFORMED, ("waiting", "BAD_SIGNATURE")),
    ]
    for content, answer, verdict, (state, code) in contents:
        (letter_id,) = await wallet.set_aside(content, **answer)
        predicted = (await wallet.operations.letter(OTTO, letter_id)).prediction
        await wallet.replayed([letter_id])
        await until(
            wallet.owner, "SELECT count(ended_at) FROM dead_letter_replays WHERE letter_id = $1", 1, letter_id
        )

        (replay,) = (await wallet.operations.letter(OTTO, letter_id)).replays
        assert predicted.verdict is verdict
        assert (await wallet.state(letter_id), replay.code) == (state, code)


@pytest.mark.need(8)
async def test_the_rest_waits_for_the_canary_and_stays_when_it_fails(wallet: Wallet) -> None:
    bad = [b"no JSON, %d" % number for number in range(3)]
    good = [recharge(await wallet.upstream.opened()) for _ in range(5)]
    ids = await wallet.set_aside(*bad, *good)

    plan = await wallet.operations.plan(
        OTTO, Action.REPLAY, Filter(ids=tuple(ids)), reason="a test", pace=ReplayPace(canary=2)
    )
    operation = await wallet.operations.execute(OTTO, plan.token)

    await wallet.until_operation(operation.operation_id, "stopped")
    after = await wallet.operations.operation(OTTO, operation.operation_id)
    assert (after.failed, after.cancelled, after.resolved) == (2, 6, 0)
    assert "of the first 2 went badly" in after.standing
    assert [await wallet.state(item) for item in ids] == ["waiting"] * 8
    for order in good:
        known = "SELECT count(*) FROM commands WHERE serial_no = $1"
        assert await wallet.owner.fetchval(known, order["serial_no"]) == 0
    (stop,) = (await wallet.operations.audit(OTTO, AuditFilter(action="stop", actor="keeper"))).rows[:1]
    assert stop.operation_id == operation.operation_id


@pytest.mark.need(8)
async def test_the_rest_goes_on_when_the_canary_is_good(wallet: Wallet) -> None:
    user = await wallet.upstream.opened()
    ids = await wallet.set_aside(*(recharge(user) for _ in range(6)))

    plan = await wallet.operations.plan(
        OTTO, Action.REPLAY, Filter(ids=tuple(ids)), reason="a test", pace=ReplayPace(canary=1)
    )
    operation = await wallet.operations.execute(OTTO, plan.token)

    await wallet.until_operation(operation.operation_id, "done")
    rows = await wallet.owner.fetch(
        "SELECT published_at, ended_at FROM dead_letter_replays WHERE operation_id = $1 ORDER BY position",
        operation.operation_id,
    )
    assert all(row["published_at"] > rows[0]["ended_at"] for row in rows[1:])


@pytest.mark.need(8)
async def test_it_stops_by_itself_when_too_many_fail(wallet: Wallet) -> None:
    ids = await wallet.set_aside(*(b"no JSON at all, %d" % number for number in range(30)))

    plan = await wallet.operations.plan(
        OTTO,
        Action.REPLAY,
        Filter(ids=tuple(ids)),
        reason="a test",
        pace=ReplayPace(rate_per_second=20, stop_ratio=0.5),
    )
    operation = await wallet.operations.execute(OTTO, plan.token)

    await wallet.until_operation(operation.operation_id, "stopped")
    after = await wallet.operations.operation(OTTO, operation.operation_id)
    assert after.failed >= 10
    assert after.cancelled > 0
    assert "were failures, more than 50%" in after.standing


@pytest.mark.need(8)
async def test_a_pause_holds_what_is_not_published_and_a_rate_is_kept(wallet: Wallet) -> None:
    user = await wallet.upstream.opened()
    ids = await wallet.set_aside(*(recharge(user) for _ in range(20)))
    plan = await wallet.operations.plan(
        OTTO, Action.REPLAY, Filter(ids=tuple(ids)), reason="a test", pace=ReplayPace(rate_per_second=4)
    )
    operation = await wallet.operations.execute(OTTO, plan.token)
    number = operation.operation_id
    out = "SELECT count(published_at) > 1 FROM dead_letter_replays WHERE operation_id = $1"
    await until(wallet.owner, out, True, number)  # noqa: FBT003 -- what the query says

    paused = await wallet.operations.pause(OTTO, number, reason="wait")
    held = await wallet.operations.operation(OTTO, number)
    await wallet.until_beat()
    still = await wallet.operations.operation(OTTO, number)
    await wallet.operations.resume(OTTO, number, reason="go on")
    stopped = await wallet.operations.stop(OTTO, number, reason="enough")

    assert paused.state is OperationState.PAUSED
    assert 0 < still.ordered <= held.ordered
    assert held.ordered - still.ordered <= 2  # what was just being published
    assert stopped.cancelled > 0
    row = await wallet.owner.fetchrow(
        """
        SELECT extract(epoch FROM max(published_at) - min(published_at))::float8, count(published_at)
        FROM dead_letter_replays WHERE operation_id = $1
        """,
        number,
    )
    assert row is not None
    span, count = row
    assert count <= 4 * span + 4


@pytest.mark.need(8)
async def test_a_rate_is_kept_from_the_first_to_the_last(wallet: Wallet) -> None:
    # Somebody who has replayed nothing else within the hour.
    rita = Actor("rita", Role.OPERATOR, "tests")
    user = await wallet.upstream.opened()
    ids = await wallet.set_aside(*(recharge(user) for _ in range(25)))
    plan = await wallet.operations.plan(
        rita, Action.REPLAY, Filter(ids=tuple(ids)), reason="a test", pace=ReplayPace(rate_per_second=10)
    )

    operation = await wallet.operations.execute(rita, plan.token)

    await wallet.until_operation(operation.operation_id, "done")
    rows = await wallet.owner.fetch(
        "SELECT published_at FROM dead_letter_replays WHERE operation_id = $1 ORDER BY published_at",
        operation.operation_id,
    )
    times = [row["published_at"] for row in rows]
    chunk = 5  # half a second's worth goes at once
    assert len(times) == len(ids)
    for number, time in enumerate(times):
        allowed = 10 * (time - times[0]).total_seconds() + chunk + 0.5
        assert number + 1 <= allowed, f"{number + 1} were published by then, and {allowed} may have been"
    assert len(set(times)) >= len(ids) / chunk


@pytest.mark.need(9)
async def test_what_fails_comes_back_to_its_record_and_counts(wallet: Wallet) -> None:
    (letter_id,) = await wallet.set_aside(b"no JSON ever")

    for number in (1, 2):
        await wallet.replayed([letter_id])
        await until(
            wallet.owner,
            "SELECT count(*) FROM dead_letter_attempts WHERE letter_id = $1",
            number + 1,
            letter_id,
        )

    found = await wallet.operations.letter(OTTO, letter_id)
    assert (found.whole.line.replays, found.whole.line.state) == (2, LetterState.WAITING)
    assert [(replay.number, replay.state, replay.code) for replay in found.replays] == [
        (1, "failed", "MALFORMED"),
        (2, "failed", "MALFORMED"),
    ]
    assert [attempt.replay_id for attempt in found.attempts] == [
        None,
        *(replay.replay_id for replay in found.replays),
    ]


@pytest.mark.need(9)
async def test_a_replay_id_that_somebody_else_wrote_makes_another_record(wallet: Wallet) -> None:
    (letter_id,) = await wallet.set_aside(b"no JSON, once")
    await wallet.replayed([letter_id])
    await wallet.until_state(letter_id, "waiting")
    (replay,) = (await wallet.operations.letter(OTTO, letter_id)).replays

    forged = await wallet.set_aside(b"no JSON, forged", **{"x-wallet-replay-id": str(replay.replay_id)})

    assert forged != [letter_id]


@pytest.mark.need(11)
async def test_an_edit_is_applied_under_its_new_number_and_the_old_one_never(wallet: Wallet) -> None:
    user = await wallet.upstream.opened()
    old = recharge(user, "1.001")
    new = old | {"amount": "1.00", "serial_no": fresh("R")}
    (letter_id,) = await wallet.set_aside(old, reason="MALFORMED")
    plan = await wallet.operations.plan_edit(OTTO, letter_id, encoded(new), reason="three digits")
    await agreed(wallet.operations, wallet.owner, plan)

    operation = await wallet.operations.execute(OTTO, plan.token)

    await wallet.until_operation(operation.operation_id, "done")
    rows = await wallet.owner.fetch(
        "SELECT serial_no, content FROM commands WHERE serial_no = ANY ($1)",
        [old["serial_no"], new["serial_no"]],
    )
    assert [row["serial_no"] for row in rows] == [new["serial_no"]]
    assert json.loads(rows[0]["content"])["amount"] == "1.00"
    assert await wallet.state(letter_id) == "edited"


@pytest.mark.need(11)
async def test_an_edit_that_becomes_a_dead_letter_is_linked_to_the_old_one(wallet: Wallet) -> None:
    user = await wallet.upstream.opened()
    new = recharge(user)
    (letter_id,) = await wallet.set_aside(recharge(user, "1.001"), reason="MALFORMED")
    plan = await wallet.operations.plan_edit(OTTO, letter_id, encoded(new), reason="three digits")
    await agreed(wallet.operations, wallet.owner, plan)
    # Somebody takes the new number at the last moment.
    operations, (worker,) = wallet.operations, wallet.workers.started
    worker.freeze()
    await wallet.upstream.publish("wallet.commands", new | {"amount": "7.00"})
    operation = await operations.execute(OTTO, plan.token)
    worker.thaw()

    await wallet.until_operation(operation.operation_id, "done")
    linked = await wallet.owner.fetchval("SELECT letter_id FROM dead_letters WHERE edit_of = $1", letter_id)
    assert (await operations.letter(OTTO, linked)).whole.line.reason == "SERIAL_CONFLICT"
    assert await wallet.state(letter_id) == "edited"


async def dlq(wallet: Wallet, *arguments: str) -> CommandResult:
    """Run `wallet dlq` with the worker's settings."""
    return await wallet_command(
        "dlq",
        *arguments,
        WALLET_DATABASE_URL=wallet.workers.database_url,
        WALLET_PAYMENT_KEYS=json.dumps(KEYS),
    )


@pytest.mark.parametrize("fails", [False, True], ids=["all go well", "one comes back"])
@pytest.mark.need(14)
async def test_the_command_stays_until_every_outcome_is_known(wallet: Wallet, *, fails: bool) -> None:
    user = await wallet.upstream.opened()
    contents: list[Json | bytes] = [recharge(user), recharge(user), *([b"no JSON at all"] if fails else [])]
    ids = await wallet.set_aside(*contents)

    planned = await dlq(wallet, "replay", "--ids", ",".join(map(str, ids)), "--why", "x", "--stop-at", "1")
    done = await dlq(wallet, "replay", "--execute", json.loads(planned.out)["token"])

    operation = json.loads(done.out)
    assert done.status == (Exit.FOUND if fails else Exit.DONE), done.err
    assert (operation["state"], operation["resolved"], operation["failed"]) == ("done", 2, int(fails))
    assert done.err_lines[0] == f"wallet: operation {operation['operation_id']}"


@pytest.mark.need(14)
async def test_the_other_commands_end_1_when_an_operation_was_stopped(wallet: Wallet) -> None:
    ids = await wallet.set_aside(b"no JSON there", recharge(await wallet.upstream.opened()))

    planned = await dlq(
        wallet, "replay", "--ids", ",".join(map(str, ids)), "--why", "x", "--canary", "1", "--rate", "1000"
    )
    done = await dlq(wallet, "replay", "--execute", json.loads(planned.out)["token"])

    assert done.status == Exit.FOUND
    assert json.loads(done.out)["state"] == "stopped"


@pytest.mark.need(2)
async def test_letters_larger_than_a_message_are_kept_by_their_beginning_and_never_replayed(
    wallet: Wallet,
) -> None:
    """Whoever set them aside, the keeper drops the rest while it arrives: the database does not fill with them."""
    bodies = [bytes([number]) * 7_000_000 for number in range(3)]

    ids = await wallet.set_aside(*bodies)

    query = "SELECT body_digest FROM dead_letters WHERE letter_id = ANY ($1) ORDER BY letter_id"
    digests = await wallet.owner.fetch(query, ids)
    assert [row[0] for row in digests] == [hashlib.sha256(body).digest() for body in bodies]
    for letter_id, body in zip(ids, bodies, strict=True):
        found = await wallet.operations.letter(OTTO, letter_id)
        assert found.whole.body == body[:1_024]
        assert found.prediction.detail == "its body was too large, and only its beginning is kept"
    with pytest.raises(NotPossibleError, match="its body was too large"):
        await wallet.replayed(ids[:1])
