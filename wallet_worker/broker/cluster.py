"""What only the management API shows: bindings, the types of queues, and on which nodes they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from wallet_schemas.names import WALLET_UNROUTED
from wallet_worker.broker.entities import BINDING_KEY, MEMBERS, QUEUES
from wallet_worker.broker.management import Management, ManagementError


@dataclass(frozen=True, slots=True)
class Members:
    """On how many nodes a queue is, and how many of these can be reached."""

    all: int
    online: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What the management API shows. `nodes` are those that run and those that do not, absent if it does not say."""

    bound: frozenset[tuple[str, str]]
    types: Mapping[str, str] = field(default_factory=dict)
    members: Mapping[str, Members] = field(default_factory=dict)
    nodes: int | None = None
    down: Sequence[str] = ()
    partitioned: Sequence[str] = ()


def look(api: Management | None) -> Seen:
    """Return the type and the members of every queue, every binding that takes all routing keys, and the nodes.

    Raises what a stranger's answer does.
    """
    if api is None:
        raise ManagementError("with amqps it is asked only where WALLET_MANAGEMENT_URL says that it is")
    rows = api.get("queues", api.vhost)
    bound = {
        (row["source"], row["destination"])
        for row in api.get("bindings", api.vhost)
        if row["destination_type"] == "queue"
        and (row["routing_key"] == BINDING_KEY or row["source"] == WALLET_UNROUTED)
    }
    try:
        nodes = api.get("nodes")
    except ManagementError as exc:
        if exc.status not in {401, 403}:
            raise
        nodes = None
    return Seen(
        bound=frozenset(bound),
        types={row["name"]: row["type"] for row in rows},
        members={
            row["name"]: Members(len(row["members"]), len(row.get("online", ())))
            for row in rows
            if row.get("members")
        },
        nodes=None if nodes is None else len(nodes),
        down=tuple(sorted(node["name"] for node in nodes or () if not node["running"])),
        partitioned=tuple(sorted(node["name"] for node in nodes or () if node.get("partitions"))),
    )


def member_faults(seen: Seen) -> list[str]:
    """Return, in sentences, which queues would not survive the loss of a node, and which nodes are away."""
    wanted = min(MEMBERS, seen.nodes or 1)
    faults = [f"The node {node} does not run." for node in seen.down]
    faults += [
        f"The node {node} has seen a network partition and does not talk to the others: restart it."
        for node in seen.partitioned
    ]
    for queue in QUEUES:
        found = seen.members.get(queue.name)
        if found is None:
            continue
        if found.all < wanted:
            faults.append(
                f"The queue {queue.name} is on {found.all} of {seen.nodes} nodes: "
                "run `rabbitmq-queues grow NODE all` for each node that lacks it."
            )
        if found.online < found.all:
            faults.append(
                f"The queue {queue.name} has {found.online} of {found.all} members online: "
                "start the nodes that are away."
            )
    return faults
