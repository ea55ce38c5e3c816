"""From the commit to the broker: what was promised is published, whoever is left to do it, whatever is in the way."""

import uuid

import pytest

from tests.journeys import wire
from tests.journeys.conftest import Wallet
from tests.journeys.letters import assert_dead_letter
from tests.journeys.messages import encoded, fresh, recharge, result
from tests.journeys.upstream import COMMANDS, DEAD_LETTERS, EVENTS, QUERIES, REQUESTS, UNROUTED
from tests.workers import until
from wallet_worker.broker import topology

HURRY = "UPDATE outbox SET publish_after = clock_timestamp()"
"""Nobody wants to wait the ten seconds after which a relay takes what another worker left."""


async def test_a_letter_without_its_exchange_waits_for_it_and_holds_nothing_else_up(wallet: Wallet) -> None:
    worker = await wallet.workers.start()
    upstream = wallet.upstream
    user = await upstream.opened()
    await (await upstream.new_channel()).exchange_delete(DEAD_LETTERS)
    bad, order = encoded(recharge(user, surprise=True)), recharge(user)

    await upstream.publish(COMMANDS, bad)
    outcome = await upstream.outcome(order)
    answer = await upstream.processed(result(order["serial_no"]))
    event = await upstream.events.first_about(order["serial_no"], "order.succeeded.v1")
    await wallet.owner.execute(HURRY)
    await until(wallet.owner, "SELECT max(attempts) > 0 AND count(*) = 1 FROM outbox", wanted=True)
    found_before = list(upstream.dead_letters.received)
    await topology.apply(wallet.amqp_url)
    await wallet.owner.execute(HURRY)
    await upstream.dead_letters.until_count(1)
    await upstream.settled(wallet.owner)

    assert (outcome["code"], answer["processing_status"]) == ("OK", "processed")
    assert event.json["data"]["status"] == "succeeded"
    assert found_before == []
    (letter,) = upstream.dead_letters.received
    assert_dead_letter(letter, bad, reason="MALFORMED")
    assert {line["exchange"] for line in worker.events("publish.unconfirmed")} == {DEAD_LETTERS}


async def test_a_payment_request_without_a_route_is_caught_and_one_without_any_waits(wallet: Wallet) -> None:
    await wallet.workers.start()
    upstream = wallet.upstream
    channel = await upstream.new_channel()
    user = await upstream.opened()
    caught, waiting = recharge(user), recharge(user)

    await channel.queue_unbind(REQUESTS, REQUESTS, "#")
    await upstream.outcome(caught)
    in_unrouted = await upstream.unrouted.first_about(caught["serial_no"])
    await channel.queue_unbind(UNROUTED, UNROUTED, "#")
    await channel.queue_unbind(UNROUTED, UNROUTED, "")
    outcome = await upstream.outcome(waiting)
    await until(wallet.owner, "SELECT count(*) FROM outbox WHERE exchange = 'payment.requests'", 1)
    await wallet.owner.execute(HURRY)
    await until(wallet.owner, "SELECT max(attempts) > 0 FROM outbox", wanted=True)
    await topology.apply(wallet.amqp_url)
    await wallet.owner.execute(HURRY)
    request = await upstream.requests.first_about(waiting["serial_no"])

    assert in_unrouted.exchange == REQUESTS
    assert outcome["code"] == "OK"
    assert request.json["kind"] == "charge"


async def test_an_event_without_a_subscriber_is_no_fault(wallet: Wallet) -> None:
    worker = await wallet.workers.start()
    upstream = wallet.upstream
    await (await upstream.new_channel()).queue_unbind(upstream.events.queue, EVENTS, "#")

    await upstream.opened()
    await upstream.settled(wallet.owner)

    assert upstream.events.received == []
    assert worker.events("publish.unconfirmed") == []


async def test_what_a_dead_worker_left_is_published_by_another(wallet: Wallet) -> None:
    upstream, owner = wallet.upstream, wallet.owner
    event_id, letter_id, reply_id = (uuid.uuid4() for _ in range(3))
    insert = """
        INSERT INTO outbox (message_id, exchange, routing_key, correlation_id, traceparent, properties, body,
                            created_at, publish_after)
        VALUES ($1, $2, $3, $4, $5, $6, $7, clock_timestamp(), clock_timestamp() - interval '1 second')
    """
    properties = wire.properties(
        headers=wire.entry(b"h", b"d", b"\1" * 8), message_id=b"theirs", delivery_mode=b"\2"
    )
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await owner.execute(insert, event_id, EVENTS, "order.pending", None, trace, None, b'{"serial_no":"left"}')
    await owner.execute(insert, letter_id, DEAD_LETTERS, "a.key", None, None, properties, b"\xff bytes")
    await owner.execute(insert, reply_id, "", upstream.replies.queue, b"C-1", None, None, b"{}")

    worker = await wallet.workers.start()
    event = await upstream.events.first_about("left")
    await upstream.dead_letters.until_count(1)
    replies = await upstream.replies_to("C-1")
    await upstream.settled(owner)

    assert (event.routing_key, event.headers) == ("order.pending", {"traceparent": trace})
    (letter,) = upstream.dead_letters.received
    assert (letter.body, letter.routing_key, letter.properties.message_id) == (
        b"\xff bytes",
        "a.key",
        "theirs",
    )
    assert len(replies) == 1
    assert await worker.stop() == 0
    assert sum(int(str(line["messages"])) for line in worker.events("outbox.relayed")) == 3


@pytest.mark.parametrize("failpoint", ["after_acknowledge", "after_publish"])
async def test_a_worker_that_dies_before_it_published_has_another_publish_the_same_events(
    failpoint: str, wallet: Wallet
) -> None:
    upstream = wallet.upstream
    dying = await wallet.workers.start(WALLET_FAILPOINT=failpoint)
    user, other = fresh("user"), fresh("user")
    opening = {"type": "account.open.v1", "serial_no": fresh("O"), "user_id": user, "currency": "TWD"}

    request = await upstream.command(opening)
    assert await dying.process.wait() == -9
    promised = await wallet.owner.fetch("SELECT body FROM outbox WHERE exchange = 'wallet.events'")
    await wallet.owner.execute(HURRY)
    await wallet.workers.start()
    await upstream.opened(other)
    event = await upstream.events.first_about(opening["serial_no"])
    replies = await upstream.replies_to(request)
    await upstream.settled(wallet.owner)

    assert [row["body"] for row in promised] == [event.body]
    notified = upstream.events.about(opening["serial_no"])
    assert {item.body for item in notified} == {event.body}
    assert len(notified) == (2 if failpoint == "after_publish" else 1)
    assert {reply.json["code"] for reply in replies} == {"OK"}
    assert await wallet.owner.fetchval("SELECT count(*) FROM accounts WHERE user_id = $1", user) == 1


NOBODYS_TOKEN = b"amq.rabbitmq.reply-to.Zm9v.YmFy"
"""Looks like a token of direct reply-to, and is none: the broker ends the connection of whoever publishes to it."""


async def test_an_answer_that_ends_the_connection_holds_up_nothing_and_is_given_up(
    wallet: Wallet,
) -> None:
    worker = await wallet.workers.start()
    upstream = wallet.upstream
    user = await upstream.opened()
    order, neighbour = recharge(user), recharge(user)

    await upstream.publish_wire(COMMANDS, order, properties=wire.properties(reply_to=NOBODYS_TOKEN))
    request = await upstream.command(neighbour)
    await until(wallet.owner, "SELECT count(*) FROM orders", 2)
    await until(wallet.owner, "SELECT count(*) > 0 FROM outbox", wanted=True)
    await wallet.owner.execute(HURRY)
    await until(wallet.owner, "SELECT min(attempts) > 0 AND count(*) = 1 FROM outbox", wanted=True)
    events = await upstream.events.until(lambda value: value.json["type"] == "order.pending.v1", 2)
    reply = await upstream.answer(request)
    await wallet.owner.execute(f"{HURRY}, attempts = 8")
    await until(wallet.owner, "SELECT count(*) FROM outbox", 0)

    assert reply["code"] == "OK"
    assert {event.json["serial_no"] for event in events} == {order["serial_no"], neighbour["serial_no"]}
    assert len({event.json["event_id"] for event in events}) == 2
    assert len(upstream.requests.about(order["serial_no"])) >= 1
    assert len(await worker.until_event("reply.given_up")) == 1
    assert worker.process.returncode is None


async def test_a_query_whose_answer_ends_the_connection_does_not_come_again(wallet: Wallet) -> None:
    worker = await wallet.workers.start()
    query_sent = {"type": "order.get.v1", "serial_no": "S-1"}

    await wallet.upstream.publish_wire(
        QUERIES, query_sent, properties=wire.properties(reply_to=NOBODYS_TOKEN)
    )
    await worker.until_ready(ready=False)
    await worker.until_ready()
    answer = await wallet.upstream.query(query_sent)

    assert answer["type"] == "query.refused.v1"
    assert [line["component"] for line in worker.events("consumer.lost")] == ["queries"]
