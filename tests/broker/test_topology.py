"""Exchanges, queues and bindings: those of docs/contract.md, section 4, made once, each fault said in a sentence."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiormq
import pytest
from aiormq.abc import AbstractChannel
from pamqp.common import FieldTable

from tests.servers import Servers
from tests.servers.management import Management
from tests.servers.ports import free_ports
from wallet_schemas.names import WALLET_COMMANDS, WALLET_QUERIES
from wallet_worker.broker import cluster, entities, topology
from wallet_worker.broker.connection import open_connection
from wallet_worker.broker.management import management

EXCHANGES = {
    "wallet.commands": "topic",
    "payment.requests": "topic",
    "payment.results": "topic",
    "wallet.events": "topic",
    "wallet.queries": "topic",
    "wallet.dead-letters": "topic",
    "wallet.unrouted": "fanout",
}
QUEUES = {
    "wallet.commands": "quorum",
    "payment.requests": "quorum",
    "payment.results": "quorum",
    "wallet.queries": "quorum",
    "wallet.dead-letters": "quorum",
    "wallet.unrouted": "quorum",
}
DEAD_LETTERED: dict[str, str | int] = {
    "x-queue-type": "quorum",
    "x-overflow": "reject-publish",
    "x-dead-letter-exchange": "wallet.dead-letters",
    "x-dead-letter-strategy": "at-least-once",
    "x-delivery-limit": 1_000,
}
KEPT: dict[str, str | int] = {"x-queue-type": "quorum", "x-overflow": "reject-publish"}
ARGUMENTS: dict[str, dict[str, str | int]] = {
    "wallet.commands": DEAD_LETTERED,
    "payment.requests": DEAD_LETTERED,
    "payment.results": DEAD_LETTERED,
    "wallet.queries": {**KEPT, "x-message-ttl": 30_000},
    "wallet.dead-letters": KEPT,
    "wallet.unrouted": KEPT,
}
CAUGHT = {"wallet.commands", "payment.requests", "payment.results"}


@pytest.fixture
async def channel(bare_url: str) -> AsyncIterator[AbstractChannel]:
    """Give a channel to hurt the topology with."""
    async with aiormq.connect(bare_url) as connection:
        yield await connection.channel()


async def there(servers: Servers, url: str, kind: str) -> list[dict[str, Any]]:
    """Return what the broker says that it has: exchanges, queues or bindings."""
    vhost = url.rpartition("/")[2]
    listed: list[dict[str, Any]] = await Management(servers.management_url).get(f"/api/{kind}/{vhost}")
    return listed


async def faults(servers: Servers, url: str) -> tuple[str, ...]:
    """Return what `check` finds."""
    async with open_connection(url, "tests") as connection:
        report = await topology.check(connection, url, servers.management_url)
    assert without_log(report) == []
    return report.faults


def without_log(report: topology.TopologyReport) -> list[str]:
    """Return what could not be looked at, but for the log of events: `test_event_log.py` makes one."""
    return [sentence for sentence in report.unverified if "There is no log of events" not in sentence]


async def test_apply_makes_what_the_contract_lists_and_nothing_else(servers: Servers, bare_url: str) -> None:
    await topology.apply(bare_url)

    exchanges = [
        item for item in await there(servers, bare_url, "exchanges") if not item["name"].startswith("amq.")
    ]
    assert {exchange["name"]: exchange["type"] for exchange in exchanges if exchange["name"]} == EXCHANGES
    assert all(exchange["durable"] and not exchange["auto_delete"] for exchange in exchanges)
    assert {exchange["name"] for exchange in exchanges if exchange["arguments"]} == CAUGHT
    assert {str(exchange["arguments"]) for exchange in exchanges if exchange["arguments"]} == {
        "{'alternate-exchange': 'wallet.unrouted'}"
    }
    queues = await there(servers, bare_url, "queues")
    assert {queue["name"]: queue["arguments"]["x-queue-type"] for queue in queues} == QUEUES
    assert all(queue["durable"] and not queue["auto_delete"] and not queue["exclusive"] for queue in queues)
    bindings = [item for item in await there(servers, bare_url, "bindings") if item["source"]]
    assert {(binding["source"], binding["destination"]) for binding in bindings} == {
        (name, name) for name in QUEUES
    }
    assert all(
        binding["routing_key"] == "#" and binding["destination_type"] == "queue" for binding in bindings
    )


async def test_queues_have_the_arguments_that_lose_nothing(servers: Servers, bare_url: str) -> None:
    await topology.apply(bare_url)
    async with open_connection(bare_url, "tests") as connection:
        version = topology.version_of(connection)

    queues = await there(servers, bare_url, "queues")

    unlimited: dict[str, str | int] = {"x-delivery-limit": -1} if version >= (4,) else {}
    assert {queue["name"]: queue["arguments"] for queue in queues} == {
        name: arguments | ({} if arguments is DEAD_LETTERED else unlimited)
        for name, arguments in ARGUMENTS.items()
    }


@pytest.mark.parametrize(
    ("version", "limit"), [((3, 10, 8), None), ((3, 13, 7), None), ((4, 0, 5), -1), ((4, 3, 5), -1)]
)
def test_a_queue_that_keeps_letters_never_drops_one_after_returns(
    version: tuple[int, ...], limit: int | None
) -> None:
    arguments = {queue.name: queue.arguments(version) for queue in entities.QUEUES}

    kept = [arguments["wallet.dead-letters"], arguments["wallet.unrouted"]]
    assert [item.get("x-delivery-limit") for item in kept] == [limit, limit]
    assert all("x-message-ttl" not in item and "x-max-length" not in item for item in kept)
    assert all("x-dead-letter-exchange" not in item for item in kept)


async def test_apply_a_second_time_changes_nothing(servers: Servers, bare_url: str) -> None:
    await topology.apply(bare_url)
    kinds = ("exchanges", "bindings")
    before = [await there(servers, bare_url, kind) for kind in kinds]

    await topology.apply(bare_url)

    assert [await there(servers, bare_url, kind) for kind in kinds] == before


async def test_apply_keeps_the_messages_that_are_there(bare_url: str, channel: AbstractChannel) -> None:
    await topology.apply(bare_url)
    await channel.basic_publish(b"a message", exchange="wallet.commands", routing_key="k", mandatory=True)

    await topology.apply(bare_url)

    found = await channel.basic_get("wallet.commands", no_ack=True)
    assert found.body == b"a message"


async def test_apply_mends_what_is_missing(servers: Servers, bare_url: str, channel: AbstractChannel) -> None:
    await topology.apply(bare_url)
    await channel.queue_unbind("wallet.commands", "wallet.commands", "#")
    await channel.exchange_delete("wallet.dead-letters")
    await channel.queue_delete("payment.results")

    await topology.apply(bare_url)

    assert await faults(servers, bare_url) == ()


async def test_apply_leaves_a_queue_of_another_type_and_says_so(
    bare_url: str, channel: AbstractChannel
) -> None:
    await channel.queue_declare("wallet.commands", durable=True)

    with pytest.raises(topology.TopologyError) as raised:
        await topology.apply(bare_url)

    (sentence,) = raised.value.faults
    assert sentence.startswith("The queue wallet.commands is not as the wallet needs it: inequivalent arg '")


OF_QUERIES_BEFORE: FieldTable = {"x-queue-type": "classic", "x-message-ttl": 30_000}


async def test_apply_replaces_an_empty_queue_of_queries_that_is_on_one_node(
    servers: Servers, bare_url: str, channel: AbstractChannel
) -> None:
    await channel.queue_declare("wallet.queries", durable=True, arguments=OF_QUERIES_BEFORE)

    await topology.apply(bare_url)

    assert await faults(servers, bare_url) == ()


async def test_a_plan_says_what_is_replaced_and_what_is_in_the_way_and_changes_nothing(
    servers: Servers, bare_url: str, channel: AbstractChannel
) -> None:
    await topology.apply(bare_url)
    await channel.queue_delete("wallet.queries")
    await channel.queue_declare("wallet.queries", durable=True, arguments=OF_QUERIES_BEFORE)
    await channel.queue_bind("wallet.queries", "wallet.queries", "#")
    await with_a_queue_that_drops(channel)

    empty = await topology.plan(bare_url, servers.management_url)
    await channel.confirm_delivery()
    await channel.basic_publish(b"a query", routing_key="wallet.queries")
    waiting = await topology.plan(bare_url, servers.management_url)

    assert empty.changes == (
        "The empty classic queue wallet.queries is deleted, and made as a quorum queue.",
    )
    (sentence,) = empty.faults
    assert sentence.startswith("The queue wallet.dead-letters is not as the wallet needs it")
    assert (waiting.changes, len(waiting.faults)) == ((), 2)
    assert "queries wait in it" in waiting.faults[1]
    assert (await channel.basic_get("wallet.queries", no_ack=True)).body == b"a query"


async def test_a_plan_without_the_management_api_does_not_speak_of_bindings(
    bare_url: str, channel: AbstractChannel
) -> None:
    await topology.apply(bare_url)
    await channel.queue_unbind("wallet.commands", "wallet.commands", "#")
    (port,) = free_ports(1)

    found = await topology.plan(bare_url, f"http://127.0.0.1:{port}")

    assert (found.changes, found.faults) == ((), ())
    assert "The bindings were not checked" in found.unverified[0]


async def test_apply_leaves_a_queue_of_queries_that_somebody_waits_for(
    bare_url: str, channel: AbstractChannel
) -> None:
    await topology.apply(bare_url)
    await channel.queue_delete("wallet.queries")
    await channel.queue_declare("wallet.queries", durable=True, arguments=OF_QUERIES_BEFORE)
    await channel.confirm_delivery()
    await channel.basic_publish(b"a query", routing_key="wallet.queries")

    with pytest.raises(topology.TopologyError) as raised:
        await topology.apply(bare_url)

    (sentence,) = raised.value.faults
    assert sentence.startswith(
        "The queue wallet.queries is a classic queue, which is down with its node, and queries"
    )
    assert (await channel.basic_get("wallet.queries", no_ack=True)).body == b"a query"


@pytest.mark.parametrize(
    ("consumed", "removed", "sentences"),
    [
        (WALLET_COMMANDS, "wallet.queries", ()),
        (WALLET_COMMANDS, "wallet.commands", ("The queue wallet.commands does not exist.",)),
        (WALLET_COMMANDS, "payment.results", ("The queue payment.results does not exist.",)),
        (WALLET_QUERIES, "wallet.commands", ()),
        (WALLET_QUERIES, "wallet.queries", ("The queue wallet.queries does not exist.",)),
    ],
)
async def test_each_part_needs_its_own_queues_and_no_more(
    consumed: str, removed: str, sentences: tuple[str, ...], bare_url: str, channel: AbstractChannel
) -> None:
    await topology.apply(bare_url)
    await channel.queue_delete(removed)

    async with open_connection(bare_url, "tests") as connection:
        found = await topology.missing(connection, {consumed})

    assert found == sentences


def seen(
    nodes: int | None,
    members: tuple[int, int],
    *,
    down: tuple[str, ...] = (),
    partitioned: tuple[str, ...] = (),
) -> cluster.Seen:
    return cluster.Seen(
        bound=frozenset(),
        members={queue.name: cluster.Members(3, 3) for queue in entities.QUEUES}
        | {"wallet.commands": cluster.Members(*members)},
        nodes=nodes,
        down=down,
        partitioned=partitioned,
    )


@pytest.mark.parametrize(
    ("state", "sentences"),
    [
        (seen(3, (3, 3)), []),
        (seen(5, (3, 3)), []),
        (seen(None, (1, 1)), []),
        (
            seen(3, (1, 1)),
            [
                (
                    "The queue wallet.commands is on 1 of 3 nodes: "
                    "run `rabbitmq-queues grow NODE all` for each node that lacks it."
                )
            ],
        ),
        (
            seen(3, (3, 2), down=("w2@localhost",)),
            [
                "The node w2@localhost does not run.",
                "The queue wallet.commands has 2 of 3 members online: start the nodes that are away.",
            ],
        ),
        (
            seen(3, (3, 3), partitioned=("w1@localhost",)),
            [
                "The node w1@localhost has seen a network partition and does not talk to the others: restart it."
            ],
        ),
    ],
)
def test_a_queue_on_too_few_nodes_is_a_fault(state: cluster.Seen, sentences: list[str]) -> None:
    assert cluster.member_faults(state) == sentences


async def test_the_members_of_each_queue_and_the_nodes_are_read(servers: Servers, bare_url: str) -> None:
    await topology.apply(bare_url)

    found = await asyncio.to_thread(cluster.look, management(bare_url, servers.management_url))

    assert found.members == {name: cluster.Members(1, 1) for name in QUEUES}
    assert (found.nodes, found.down, found.partitioned) == (1, (), ())


async def test_check_finds_nothing_wrong_with_what_apply_made(servers: Servers, bare_url: str) -> None:
    await topology.apply(bare_url)

    found = await faults(servers, bare_url)

    assert found == ()


async def test_check_of_an_empty_vhost_names_everything_and_makes_nothing(
    servers: Servers, bare_url: str
) -> None:
    found = await faults(servers, bare_url)

    for kind, names in (("exchange", EXCHANGES), ("queue", QUEUES)):
        assert [f"The {kind} {name} does not exist." in found for name in names] == [True] * len(names)
    assert await there(servers, bare_url, "queues") == []


async def without_a_queue(channel: AbstractChannel) -> None:
    await channel.queue_delete("wallet.commands")


async def without_an_exchange(channel: AbstractChannel) -> None:
    await channel.exchange_delete("wallet.events")


async def without_the_dead_letter_exchange(channel: AbstractChannel) -> None:
    await channel.exchange_delete("wallet.dead-letters")


async def without_a_binding(channel: AbstractChannel) -> None:
    await channel.queue_unbind("payment.results", "payment.results", "#")


async def with_a_narrow_binding(channel: AbstractChannel) -> None:
    await channel.queue_unbind("wallet.commands", "wallet.commands", "#")
    await channel.queue_bind("wallet.commands", "wallet.commands", "order.recharge")


async def without_a_place_for_what_has_no_route(channel: AbstractChannel) -> None:
    await channel.queue_unbind("wallet.unrouted", "wallet.unrouted", "#")


async def with_a_classic_queue(channel: AbstractChannel) -> None:
    await channel.queue_delete("wallet.commands")
    await channel.queue_declare("wallet.commands", durable=True)
    await channel.queue_bind("wallet.commands", "wallet.commands", "#")


async def with_a_queue_that_drops(channel: AbstractChannel) -> None:
    await channel.queue_delete("wallet.dead-letters")
    arguments: FieldTable = {"x-queue-type": "quorum", "x-max-length": 1_000}
    await channel.queue_declare("wallet.dead-letters", durable=True, arguments=arguments)
    await channel.queue_bind("wallet.dead-letters", "wallet.dead-letters", "#")


async def with_queries_that_live_for_ever(channel: AbstractChannel) -> None:
    await channel.queue_delete("wallet.queries")
    arguments: FieldTable = {"x-queue-type": "quorum", "x-overflow": "reject-publish"}
    await channel.queue_declare("wallet.queries", durable=True, arguments=arguments)
    await channel.queue_bind("wallet.queries", "wallet.queries", "#")


async def with_queries_on_one_node(channel: AbstractChannel) -> None:
    await channel.queue_delete("wallet.queries")
    await channel.queue_declare("wallet.queries", durable=True, arguments=OF_QUERIES_BEFORE)
    await channel.queue_bind("wallet.queries", "wallet.queries", "#")


async def with_an_exchange_of_another_type(channel: AbstractChannel) -> None:
    await channel.exchange_delete("wallet.events")
    await channel.exchange_declare("wallet.events", exchange_type="fanout", durable=True)


async def with_an_exchange_that_does_not_last(channel: AbstractChannel) -> None:
    await channel.exchange_delete("wallet.events")
    await channel.exchange_declare("wallet.events", exchange_type="topic", durable=False)


async def without_the_alternate_exchange(channel: AbstractChannel) -> None:
    await channel.exchange_delete("wallet.commands")
    await channel.exchange_declare("wallet.commands", exchange_type="topic", durable=True)
    await channel.queue_bind("wallet.commands", "wallet.commands", "#")


@dataclass(frozen=True, slots=True)
class Wrong:
    """One thing that is wrong, and the beginning of what is said first."""

    make: Callable[[AbstractChannel], Awaitable[None]]
    begins: str


NOT_SO = "is not as the wallet needs it: inequivalent arg"
NOT_BOUND = "what is published there does not arrive."
WRONG = [
    Wrong(without_a_queue, "The queue wallet.commands does not exist."),
    Wrong(without_an_exchange, "The exchange wallet.events does not exist."),
    Wrong(without_the_dead_letter_exchange, "The exchange wallet.dead-letters does not exist."),
    Wrong(
        without_a_binding,
        f"The queue payment.results is not bound to the exchange payment.results: {NOT_BOUND}",
    ),
    Wrong(
        with_a_narrow_binding,
        f"The queue wallet.commands is not bound to the exchange wallet.commands: {NOT_BOUND}",
    ),
    Wrong(
        without_a_place_for_what_has_no_route,
        f"The queue wallet.unrouted is not bound to the exchange wallet.unrouted: {NOT_BOUND}",
    ),
    Wrong(
        with_a_classic_queue, "The queue wallet.commands is a classic queue; the wallet needs a quorum one."
    ),
    Wrong(with_a_queue_that_drops, f"The queue wallet.dead-letters {NOT_SO} 'x-"),
    Wrong(
        with_queries_on_one_node,
        "The queue wallet.queries is a classic queue; the wallet needs a quorum one. "
        "`wallet topology apply` replaces it while it is empty.",
    ),
    Wrong(with_queries_that_live_for_ever, f"The queue wallet.queries {NOT_SO} 'x-message-ttl'"),
    Wrong(with_an_exchange_of_another_type, f"The exchange wallet.events {NOT_SO} 'type'"),
    Wrong(with_an_exchange_that_does_not_last, f"The exchange wallet.events {NOT_SO} 'durable'"),
    Wrong(without_the_alternate_exchange, f"The exchange wallet.commands {NOT_SO} 'alternate-exchange'"),
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.make.__name__)
async def test_check_says_what_is_wrong_in_a_sentence_and_changes_nothing(
    wrong: Wrong, servers: Servers, bare_url: str, channel: AbstractChannel
) -> None:
    await topology.apply(bare_url)
    await wrong.make(channel)

    first, second = await faults(servers, bare_url), await faults(servers, bare_url)

    assert first[0].startswith(wrong.begins)
    assert all(sentence.endswith(".") for sentence in first)
    assert first == second


async def test_a_broker_that_takes_messages_of_any_size_is_a_fault(
    servers: Servers, bare_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await topology.apply(bare_url)
    assert await faults(servers, bare_url) == ()

    monkeypatch.setattr(topology, "SIZE_PROBED", 2**20)  # less than what this broker was told

    (sentence,) = await faults(servers, bare_url)
    assert sentence.startswith("The broker takes messages of more than 1 MiB")


async def test_check_without_the_management_api_says_what_it_could_not_see(bare_url: str) -> None:
    await topology.apply(bare_url)

    async with open_connection(bare_url, "tests") as connection:
        report = await topology.check(connection, bare_url, "http://127.0.0.1:1")

    assert report.faults == ()
    (sentence,) = without_log(report)
    assert sentence.startswith(
        "The bindings were not checked: the management API does not answer as it should"
    )
    assert "WALLET_MANAGEMENT_URL" in sentence


@pytest.mark.parametrize("version", ["3.9.29", "3.8", "2.8.7", ""])
async def test_a_broker_that_is_too_old_is_refused_and_left_alone(
    version: str, servers: Servers, bare_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topology, "server_version", lambda _: version)

    with pytest.raises(topology.TopologyError) as raised:
        await topology.apply(bare_url)

    assert raised.value.faults == (f"The broker is RabbitMQ {version}; the wallet needs 3.10 or newer.",)
    assert (await faults(servers, bare_url))[0] == raised.value.faults[0]
    assert await there(servers, bare_url, "queues") == []


@pytest.mark.parametrize("version", ["3.10.0", "3.10.8", "3.13.0-rc.1", "4.0.5", "4.3.5+dirty", "10.0"])
def test_a_broker_of_3_10_or_newer_is_taken(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topology, "server_version", lambda connection: connection)

    found = topology.version_faults(topology.version_of(version))  # type: ignore[arg-type]

    assert found == []
