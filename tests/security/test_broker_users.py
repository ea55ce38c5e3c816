"""Each role's user at a real broker: what it needs is allowed, and everything beside it is refused with 403."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import cast
from urllib.parse import urlsplit, urlunsplit

import aiormq
import pytest
from aiormq.channel import Channel
from pamqp.commands import Basic

from tests.servers import Servers
from wallet_worker.broker import topology, users
from wallet_worker.broker.management import Management, ManagementError, Node, management

RUN = secrets.token_hex(3)
"""Users belong to a broker and not to a vhost: the broker may be somebody's, and have a `worker` of its own."""

ALL = [
    *(replace(user, name=f"{user.name}-{RUN}") for user in (*users.roles(), users.api(), users.webhooks())),
    users.upstream(f"shop-{RUN}", ["account.open", "order.recharge", "account.get"], reply_queues=True),
    users.upstream(f"direct-{RUN}", ["order.*", "statement.get"]),
    users.gateway(f"acme-{RUN}"),
    users.subscriber(f"audit-{RUN}", "order.*"),
]
SHOP, DIRECT, AUDIT = f"up-shop-{RUN}", f"up-direct-{RUN}", f"events.audit-{RUN}"

FORBIDDEN = (aiormq.exceptions.ChannelAccessRefused,)


@dataclass(frozen=True, slots=True)
class Place:
    """A vhost with the topology and the users, whose passwords are their names with the same ending."""

    url: str
    management: Management
    ending: str

    def url_of(self, name: str) -> str:
        """Return the address by which a user logs in."""
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{name}:{name}{self.ending}@{host}"))


@pytest.fixture
async def place(servers: Servers, amqp_url: str) -> AsyncIterator[Place]:
    """Give a vhost whose users are those of a deployment."""
    await topology.apply(amqp_url, events=True)
    api = management(amqp_url, servers.management_url)
    assert api is not None
    ending = secrets.token_urlsafe(16)
    passwords = {user.name: f"{user.name}{ending}" for user in ALL}
    await asyncio.to_thread(users.apply, api, ALL, passwords)
    yield Place(amqp_url, api, ending)
    for user in ALL:
        await asyncio.to_thread(api.call, "DELETE", "users", user.name)


async def publish(channel: Channel, exchange: str, key: str, user_id: str | None = None) -> None:
    await channel.basic_publish(
        b"{}", exchange=exchange, routing_key=key, properties=Basic.Properties(user_id=user_id), wait=True
    )


async def consume(channel: Channel, queue: str) -> None:
    async def ignore(_: object) -> None:
        pass

    await channel.basic_qos(prefetch_count=1)  # a stream is not read without
    ok = await channel.basic_consume(queue, ignore, no_ack=False)
    await channel.basic_cancel(str(ok.consumer_tag))


async def declare(channel: Channel, queue: str) -> None:
    await channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})


async def delete(channel: Channel, queue: str) -> None:
    await channel.queue_delete(queue)


async def purge(channel: Channel, queue: str) -> None:
    await channel.queue_purge(queue)


async def bind_events(channel: Channel, queue: str, key: str) -> None:
    await channel.queue_declare(queue, durable=False, auto_delete=True)
    await channel.queue_bind(queue, "wallet.events", key)


ALLOWED = [
    ("worker", publish, ("payment.requests", "payment.request")),
    ("worker", publish, ("wallet.events", "order.pending")),
    ("worker", publish, ("wallet.dead-letters", "order.recharge")),
    ("worker", publish, ("", f"reply.{SHOP}.1")),
    ("worker", consume, ("wallet.commands",)),
    ("worker", consume, ("wallet.queries",)),
    ("worker", consume, ("payment.results",)),
    ("keeper", consume, ("wallet.dead-letters",)),
    ("keeper", consume, ("wallet.unrouted",)),
    ("keeper", publish, ("wallet.commands", "order.recharge")),
    ("keeper", publish, ("payment.requests", "payment.request")),
    ("keeper", publish, ("payment.results", "payment.result")),
    ("api", publish, ("wallet.commands", "order.transfer")),
    ("api", publish, ("wallet.queries", "account.get")),
    ("api", publish, ("payment.results", "payment.reversal")),
    ("api", consume, ("wallet.api.events",)),
    ("webhooks", consume, ("wallet.api.events",)),
    ("gateway-acme", consume, ("payment.requests",)),
    ("gateway-acme", publish, ("payment.results", "payment.result")),
    ("gateway-acme", publish, ("payment.results", "payment.instructions")),
    ("up-shop", publish, ("wallet.commands", "account.open", SHOP)),
    ("up-shop", publish, ("wallet.commands", "order.recharge")),
    ("up-shop", publish, ("wallet.queries", "account.get")),
    ("up-shop", declare, (f"reply.{SHOP}.1",)),
    ("up-direct", publish, ("wallet.commands", "order.refund")),
    ("up-direct", publish, ("wallet.queries", "statement.get")),
    ("sub-audit", bind_events, (AUDIT, "order.#")),
    ("setup", declare, ("wallet.other",)),
]

REFUSED = [
    ("worker", declare, ("wallet.other",)),
    ("worker", delete, ("wallet.commands",)),
    ("worker", publish, ("wallet.commands", "order.transfer")),
    ("worker", publish, ("payment.results", "payment.result")),
    ("worker", consume, ("payment.requests",)),
    ("worker", consume, ("wallet.dead-letters",)),
    ("keeper", declare, ("wallet.other",)),
    ("keeper", delete, ("wallet.dead-letters",)),
    ("keeper", consume, ("wallet.commands",)),
    ("keeper", publish, ("", "wallet.commands")),
    ("keeper", publish, ("wallet.dead-letters", "order.transfer")),
    ("console", consume, ("wallet.dead-letters",)),
    ("console", publish, ("wallet.commands", "order.transfer")),
    ("console", publish, ("", "wallet.dead-letters")),
    ("console", declare, ("mine",)),
    ("api", publish, ("payment.requests", "payment.request")),
    ("api", publish, ("payment.results", "payment.request")),
    ("api", publish, ("", "payment.requests")),
    ("api", consume, ("wallet.commands",)),
    ("api", bind_events, ("wallet.api.events", "order.#")),
    ("api", delete, ("wallet.api.events",)),
    ("webhooks", consume, ("wallet.commands",)),
    ("webhooks", publish, ("wallet.commands", "order.transfer")),
    ("webhooks", publish, ("wallet.events", "order.pending")),
    ("webhooks", delete, ("wallet.api.events",)),
    ("gateway-acme", publish, ("payment.requests", "payment.request")),
    ("gateway-acme", publish, ("payment.results", "order.transfer")),
    ("gateway-acme", publish, ("wallet.commands", "order.transfer")),
    ("gateway-acme", consume, ("payment.results",)),
    ("gateway-acme", purge, ("payment.results",)),
    ("gateway-acme", delete, ("payment.requests",)),
    ("up-shop", publish, ("wallet.commands", "order.transfer")),
    ("up-shop", publish, ("wallet.commands", "account.close")),
    ("up-shop", publish, ("wallet.queries", "statement.get")),
    ("up-shop", publish, ("payment.requests", "payment.request")),
    ("up-shop", publish, ("payment.results", "payment.result")),
    ("up-shop", publish, ("wallet.dead-letters", "order.transfer")),
    ("up-shop", publish, ("wallet.events", "order.succeeded")),
    ("up-shop", publish, ("", "payment.requests")),
    ("up-shop", consume, ("wallet.commands",)),
    ("up-shop", purge, ("wallet.commands",)),
    ("up-shop", delete, ("wallet.commands",)),
    ("up-shop", declare, (f"reply.{DIRECT}.1",)),
    ("up-shop", declare, ("wallet.other",)),
    ("up-direct", publish, ("wallet.commands", "account.open")),
    ("up-direct", declare, (f"reply.{DIRECT}.1",)),
    ("sub-audit", bind_events, (AUDIT, "#")),
    ("sub-audit", bind_events, (AUDIT, "account.#")),
    ("sub-audit", bind_events, ("events.other", "order.#")),
    ("sub-audit", publish, ("wallet.events", "order.succeeded")),
    ("sub-audit", consume, ("wallet.commands",)),
    ("monitor", consume, ("wallet.commands",)),
    ("monitor", publish, ("wallet.commands", "account.open")),
    ("setup", declare, ("somebody.elses",)),
]


async def test_each_role_may_do_what_it_needs_and_nothing_else(place: Place) -> None:
    wrong: list[str] = []
    for allowed, rows in ((True, ALLOWED), (False, REFUSED)):
        for name, act, arguments in rows:
            async with aiormq.connect(place.url_of(f"{name}-{RUN}")) as connection:
                channel = cast("Channel", await connection.channel())
                try:
                    await act(channel, *arguments)  # type: ignore[operator]
                except FORBIDDEN:
                    happened = False
                else:
                    happened = True
            if happened is not allowed:
                wrong.append(f"{name} {act.__name__} {arguments}: {'done' if happened else 'refused'}")

    assert wrong == []


async def test_a_user_cannot_send_in_the_name_of_another(place: Place) -> None:
    async with aiormq.connect(place.url_of(SHOP)) as connection:
        channel = cast("Channel", await connection.channel())

        with pytest.raises(aiormq.exceptions.ChannelPreconditionFailed, match="user_id"):
            await publish(channel, "wallet.commands", "account.open", DIRECT)


async def test_no_user_administers_and_only_the_monitor_may_look_at_the_management_api(place: Place) -> None:
    for user in ALL:
        password = f"{user.name}{place.ending}"
        its = Management((Node(place.management.nodes[0].base, user.name, password),), place.management.vhost)
        if user.name == f"monitor-{RUN}":
            assert {item["name"] for item in its.get("queues", its.vhost)} >= {"wallet.commands"}
        else:
            with pytest.raises(ManagementError, match="401"):
                its.get("queues", its.vhost)
        with pytest.raises(ManagementError, match="401"):
            its.call("PUT", "users", "mallory", body={"password": "of-no-use", "tags": "administrator"})


async def test_what_is_applied_twice_is_as_the_second_says(place: Place) -> None:
    less = users.upstream(f"shop-{RUN}", ["account.open"])

    others = await asyncio.to_thread(users.apply, place.management, [less], {SHOP: f"{SHOP}{place.ending}"})

    assert f"worker-{RUN}" in others
    async with aiormq.connect(place.url_of(SHOP)) as connection:
        with pytest.raises(aiormq.exceptions.ChannelAccessRefused):
            await publish(cast("Channel", await connection.channel()), "wallet.commands", "order.recharge")


async def test_a_user_has_limits_of_its_own(place: Place) -> None:
    found = {item["user"]: item["value"] for item in place.management.get("user-limits")}

    assert found[SHOP] == {"max-connections": 100, "max-channels": 1_000}


async def test_the_broker_loads_the_same_from_a_file(servers: Servers, amqp_url: str) -> None:
    api = management(amqp_url, servers.management_url)
    assert api is not None
    shop = users.upstream(f"loaded-{RUN}", ["account.open"])
    document = users.definitions([shop], {shop.name: "a password of the test"}, api.vhost)

    await asyncio.to_thread(api.call, "POST", "definitions", body=document)

    try:
        parts = urlsplit(amqp_url)
        host = parts.netloc.rpartition("@")[2]
        url = urlunsplit(parts._replace(netloc=f"{shop.name}:a%20password%20of%20the%20test@{host}"))
        async with aiormq.connect(url) as connection:
            await publish(cast("Channel", await connection.channel()), "wallet.commands", "account.open")
            with pytest.raises(aiormq.exceptions.ChannelAccessRefused):
                await publish(
                    cast("Channel", await connection.channel()), "wallet.commands", "order.recharge"
                )
    finally:
        await asyncio.to_thread(api.call, "DELETE", "users", shop.name)


@pytest.mark.parametrize(
    ("passwords", "reason"),
    [({}, "none"), ({"console": "too short"}, "less than 16 characters")],
)
def test_a_user_without_a_usable_password_is_refused(passwords: dict[str, str], reason: str) -> None:
    with pytest.raises(ValueError, match=f"console has no usable password: {reason}"):
        users.definitions([users.BrokerUser("console")], passwords, "wallet")


@pytest.mark.parametrize("name", ["", "a b", "a|b", ".*", "a/b", "ä", "x" * 65])
def test_a_name_that_an_expression_would_read_otherwise_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no name"):
        users.upstream(name, [])


def test_a_type_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="no type of command or query"):
        users.upstream("shop", ["order.recharge.v1"])
