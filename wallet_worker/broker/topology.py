"""Whether a broker has the exchanges, queues and bindings of `entities.py`, and making them.

`apply` makes what is missing and changes nothing that is there, but for an empty queue of queries that an older release
has made. `check` and `plan` only look. Bindings cannot be seen through AMQP, nor the type and the members of a queue:
those are read from the management plugin's API. A worker asks only whether what it needs is there (`missing`), for
which no rights are needed.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import aiormq
from aio_pika.abc import AbstractConnection

from wallet_schemas.names import (
    WALLET_QUERIES,
)
from wallet_worker.broker.cluster import Seen, look, member_faults
from wallet_worker.broker.connection import (
    CONNECTION_ERRORS,
    RPC_SECONDS,
    BrokerUnavailableError,
    describe,
    open_channel,
    open_connection,
    server_version,
)
from wallet_worker.broker.entities import (
    BINDING_KEY,
    EXCHANGES,
    QUERIES_ON_ONE_NODE,
    QUEUES,
    STREAMS,
    Exchange,
    Queue,
)
from wallet_worker.broker.management import ManagementError, management
from wallet_worker.broker.queue_depths import measure

VERSION_MIN = (3, 10)  # quorum queues that dead-letter at least once and let messages expire

SIZE_PROBED = 8 * 2**20
"""A broker should take a mebibyte at most; what takes more than this was never told."""
NO_EXCHANGE = "wallet.no-such-exchange"

_NODE_DOWN = "is down or inaccessible"  # the broker's words; its code is the same as of what does not exist
_QUERIES_WAIT = (
    f"The queue {WALLET_QUERIES} is a classic queue, which is down with its node, and queries wait in it: "
    "run this again when they have been answered. They live 30 s."
)
_REPLACED = " `wallet topology apply` replaces it while it is empty."


@dataclass(frozen=True, slots=True)
class TopologyReport:
    """What `check` found: sentences for people. `unverified` is what could not be looked at, and not a fault."""

    faults: tuple[str, ...]
    unverified: tuple[str, ...] = ()


async def apply(url: str, *, events: bool = False) -> None:
    """Leave the broker with all of the above; what is there with other arguments is left, and raised.

    The log of events is made where `events` is set: it costs the broker a write for each event.
    Raises BrokerUnavailableError, or TopologyError with a sentence for each thing that is in the way.
    """
    async with open_connection(url, "wallet topology") as connection:
        version = version_of(connection)
        faults = version_faults(version)
        if not faults:
            faults = await _declare_all(connection, version, (*QUEUES, *STREAMS) if events else QUEUES)
    if faults:
        raise TopologyError(tuple(faults))


@dataclass(frozen=True, slots=True)
class TopologyPlan:
    """What `apply` would do, and what is in its way: sentences for people.

    `unverified` is what could not be looked at.
    """

    changes: tuple[str, ...]
    faults: tuple[str, ...]
    unverified: tuple[str, ...] = ()


async def plan(url: str, management_url: str | None, *, events: bool = False) -> TopologyPlan:
    """Return what `apply` would do with the broker; nothing is changed.

    Which bindings are there is seen in the management API alone, as `check` sees it. Raises BrokerUnavailableError.
    """
    queues = (*QUEUES, *STREAMS) if events else QUEUES
    async with open_connection(url, "wallet topology") as connection:
        version = version_of(connection)
        if faults := version_faults(version):
            return TopologyPlan((), tuple(faults))
        steps = [await _step(connection, what, version) for what in (*EXCHANGES, *queues)]
    unseen: list[str] = []
    changes = [step.sentence for step in steps if step and not step.is_in_the_way]
    try:
        seen = await asyncio.to_thread(look, management(url, management_url))
    except _STRANGERS as exc:
        unseen.append(_bindings_unseen(exc, is_set=management_url is not None))
    else:
        changes += [
            f"The queue {queue.name} is bound to the exchange {queue.source}."
            for queue in queues
            if (queue.source, queue.name) not in seen.bound
        ]
    return TopologyPlan(
        tuple(changes), tuple(step.sentence for step in steps if step and step.is_in_the_way), tuple(unseen)
    )


class TopologyError(Exception):
    """The broker is not set up as the wallet needs it; `faults` are sentences for people."""

    def __init__(self, faults: tuple[str, ...]) -> None:
        super().__init__(" ".join(faults))
        self.faults = faults


async def missing(connection: AbstractConnection, consumed: Iterable[str]) -> tuple[str, ...]:
    """Return what the broker lacks of the exchanges and queues, in sentences. It takes no right to configure anything.

    `consumed` are the queues that somebody is about to consume. Queries need their own queue and nothing else, and
    nothing else needs that one. Whether they are as the wallet needs them is for `check` to say, by whoever may
    configure. Raises BrokerUnavailableError if one is there and the node that has it is not.
    """
    version = version_of(connection)
    faults = version_faults(version)
    of_queries = set(consumed) == {WALLET_QUERIES}
    away: list[str] = []
    for what in (*EXCHANGES, *QUEUES):
        if (what.name == WALLET_QUERIES) is of_queries:
            fault = await _declared(connection, what, version, passive=True)
            if fault is not None:
                (away if fault.is_away else faults).append(fault.sentence)
    if away and not faults:
        raise BrokerUnavailableError(" ".join(away).rstrip("."))
    return tuple(faults)


async def check(connection: AbstractConnection, url: str, management_url: str | None) -> TopologyReport:
    """Return what is wrong with the broker's exchanges, queues, bindings and limits; nothing is changed.

    To compare arguments the user needs the right to configure, as whoever applies the topology has it.
    `management_url` is that of the management plugin; where it is not given, and the broker is spoken to in the clear,
    the broker's host with the plugin's usual port is tried, with the same user.
    """
    version = version_of(connection)
    faults = version_faults(version)
    unseen: list[str] = []
    queues = list(QUEUES)
    for stream in STREAMS:
        if await _declared(connection, stream, version, passive=True) is None:
            queues.append(stream)
        else:
            unseen.append(
                f"There is no log of events ({stream.name}), so nobody can read events over HTTP or by webhook: "
                "`wallet topology apply` makes it."
            )
    seen = Seen(bound=frozenset((queue.source, queue.name) for queue in queues))
    try:
        seen = await asyncio.to_thread(look, management(url, management_url))
    except _STRANGERS as exc:
        unseen.append(_bindings_unseen(exc, is_set=management_url is not None))
    everything: list[Exchange | Queue] = [*EXCHANGES, *queues]
    for what in everything:
        if isinstance(what, Queue) and seen.types.get(what.name, what.type) != what.type:
            faults.append(
                f"The queue {what.name} is a {seen.types[what.name]} queue; the wallet needs a {what.type} one."
                + (_REPLACED if what.name == WALLET_QUERIES else "")
            )
            continue
        fault = await _fault(connection, what, version)
        if fault is not None and isinstance(what, Queue) and await _declared_by_3x(connection, what, version):
            unseen.append(
                f"The queue {what.name} was made on RabbitMQ 3 and has no delivery limit of its own, so the broker "
                "drops what is returned 20 times: set a policy for it with delivery-limit -1."
            )
        elif fault is not None:
            faults.append(fault.sentence)
    faults += [
        f"The queue {queue.name} is not bound to the exchange {queue.source}: what is published there does not arrive."
        for queue in queues
        if (queue.source, queue.name) not in seen.bound
    ]
    faults += member_faults(seen)
    if seen.nodes is None and seen.types:
        unseen.append(
            "How many nodes the broker has was not seen, and so not whether its queues are on enough of them: "
            "name a user with the tag monitoring in WALLET_MANAGEMENT_URL."
        )
    faults += await _size_faults(connection)
    return TopologyReport(tuple(faults), tuple(unseen))


_STRANGERS = (ManagementError, OSError, ValueError, LookupError, TypeError)
"""What a look at the management API raises: whatever listens there need not be RabbitMQ."""


def _bindings_unseen(exc: Exception, *, is_set: bool) -> str:
    """Return why the bindings were not checked; `is_set`: somebody has named the management API."""
    reason = str(exc) if isinstance(exc, ManagementError) else describe(exc)
    return f"The bindings were not checked: the management API does not answer as it should ({reason}). " + (
        "WALLET_MANAGEMENT_URL is to name the API of this broker's management plugin."
        if is_set
        else "Set WALLET_MANAGEMENT_URL to have them checked."
    )


async def _size_faults(connection: AbstractConnection) -> list[str]:
    """Return that the broker takes messages that are far too large, if it does.

    It is asked with a message to an exchange that is not there: its size is looked at first, and nothing is stored.
    """
    channel = await open_channel(connection)
    try:
        async with asyncio.timeout(RPC_SECONDS):
            await channel.basic_publish(bytes(SIZE_PROBED + 1), exchange=NO_EXCHANGE, routing_key="size")
            await channel.basic_qos(
                prefetch_count=1
            )  # is answered after what was published, if that was taken
    except aiormq.exceptions.ChannelPreconditionFailed:
        return []
    except CONNECTION_ERRORS as exc:
        if not isinstance(
            exc, aiormq.exceptions.ChannelNotFoundEntity | aiormq.exceptions.ChannelAccessRefused
        ):
            msg = f"the connection was lost while the size of messages was asked for: {describe(exc)}"
            raise BrokerUnavailableError(msg) from exc
    taken = f"The broker takes messages of more than {SIZE_PROBED // 2**20} MiB, and a thousand may wait in a worker"
    return [f"{taken}: set max_message_size = 1048576 in rabbitmq.conf."]


def version_of(connection: AbstractConnection) -> tuple[int, ...]:
    """Return the numbers of the broker's version, without what follows a hyphen."""
    digits = server_version(connection).split("-")[0].split(".")
    return tuple(int(part) for part in digits if part.isdigit())


def version_faults(version: tuple[int, ...]) -> list[str]:
    """Return the sentence that says that the broker is too old; empty if it is new enough."""
    if version >= VERSION_MIN:
        return []
    found, wanted = (".".join(map(str, parts)) for parts in (version, VERSION_MIN))
    return [f"The broker is RabbitMQ {found}; the wallet needs {wanted} or newer."]


@dataclass(frozen=True, slots=True)
class _Step:
    """What is to be done about an exchange or a queue, or, if it is in the way, why nothing can be done."""

    sentence: str
    is_in_the_way: bool = False


async def _step(
    connection: AbstractConnection, what: Exchange | Queue, version: tuple[int, ...]
) -> _Step | None:
    """Return what `apply` would do about it; nothing if it is as it should be. Declared only if it is there."""
    absent = await _declared(connection, what, version, passive=True)
    if absent is not None:
        return _Step(absent.sentence, is_in_the_way=True) if absent.is_other else _Step(_made(what, version))
    fault = await _declared(connection, what, version)
    if fault is None or (isinstance(what, Queue) and await _declared_by_3x(connection, what, version)):
        return None
    if what.name == WALLET_QUERIES and await _declared(connection, QUERIES_ON_ONE_NODE, version) is None:
        if (await measure(connection, what.name)).messages:
            return _Step(_QUERIES_WAIT, is_in_the_way=True)
        return _Step(f"The empty classic queue {what.name} is deleted, and made as a quorum queue.")
    return _Step(fault.sentence, is_in_the_way=True)


def _made(what: Exchange | Queue, version: tuple[int, ...]) -> str:
    """Return the sentence that says what is made."""
    arguments = what.arguments if isinstance(what, Exchange) else what.arguments(version)
    rest = ", ".join(f"{name} {value}" for name, value in arguments.items() if name != "x-queue-type")
    return f"The {what.type} {_kind(what)} {what.name} is made{f', with {rest}' if rest else ''}."


async def _declare_all(
    connection: AbstractConnection, version: tuple[int, ...], queues: Sequence[Queue]
) -> list[str]:
    faults: list[str] = []
    for exchange in EXCHANGES:
        fault = await _declared(connection, exchange, version)
        faults += [fault.sentence] if fault else []
    for queue in queues:
        fault = await _declared(connection, queue, version)
        if fault and await _declared_by_3x(connection, queue, version):
            fault = None  # `check` says what is to be done, and it cannot be done here
        if fault and queue.name == WALLET_QUERIES:
            fault = await _replaced(connection, queue, version) or await _declared(connection, queue, version)
        faults += [fault.sentence] if fault else []
        if not fault:
            channel = await open_channel(connection)
            async with asyncio.timeout(RPC_SECONDS):
                await channel.queue_bind(queue.name, queue.source, BINDING_KEY)
            await channel.close()
    return faults


async def _replaced(
    connection: AbstractConnection, queue: Queue, version: tuple[int, ...]
) -> "_Fault | None":
    """Leave no queue of queries where an older release had made one; return why not, if so.

    Whoever consumes it is cancelled, and finds the next. Only an empty one goes: somebody waits for an answer.
    """
    if await _declared(connection, QUERIES_ON_ONE_NODE, version) is not None:
        return None  # another than the older release's: what it lacks is said when it is declared
    channel = await open_channel(connection)
    try:
        async with asyncio.timeout(RPC_SECONDS):
            await channel.queue_delete(queue.name, if_empty=True)
    except aiormq.exceptions.ChannelPreconditionFailed:
        return _Fault(_QUERIES_WAIT)
    except aiormq.exceptions.ChannelAccessRefused as exc:
        return _Fault(f"The queue {queue.name} may not be replaced by this user: {_reason(exc)}.")
    except CONNECTION_ERRORS as exc:
        msg = f"the connection was lost while replacing {queue.name}: {describe(exc)}"
        raise BrokerUnavailableError(msg) from exc
    await channel.close()
    return None


@dataclass(frozen=True, slots=True)
class _Fault:
    """Why an exchange or a queue is not as it should be; `is_away` if only its node is missing.

    `is_other` unless it simply does not exist.
    """

    sentence: str
    is_away: bool = False
    is_other: bool = True


async def _declared(
    connection: AbstractConnection, what: Exchange | Queue, version: tuple[int, ...], *, passive: bool = False
) -> _Fault | None:
    """Return nothing if the broker has it just so, else why not. A channel of its own: a refusal closes it."""
    channel = await open_channel(connection)
    try:
        async with asyncio.timeout(RPC_SECONDS):
            match what:
                case Exchange():
                    await channel.exchange_declare(
                        what.name,
                        exchange_type=what.type,
                        durable=True,
                        passive=passive,
                        arguments=dict(what.arguments),
                    )
                case Queue():
                    await channel.queue_declare(
                        what.name,
                        durable=True,
                        passive=passive,
                        arguments=dict(what.arguments(version)),
                    )
    except aiormq.exceptions.ChannelNotFoundEntity as exc:
        if _NODE_DOWN in str(exc):
            return _Fault(f"The node that has the {_kind(what)} {what.name} is down: start it.", is_away=True)
        return _Fault(f"The {_kind(what)} {what.name} does not exist.", is_other=False)
    except (aiormq.exceptions.ChannelPreconditionFailed, aiormq.exceptions.ChannelLockedResource) as exc:
        return _Fault(f"The {_kind(what)} {what.name} is not as the wallet needs it: {_reason(exc)}.")
    except aiormq.exceptions.ChannelAccessRefused as exc:
        return _Fault(f"The {_kind(what)} {what.name} may not be looked at by this user: {_reason(exc)}.")
    except CONNECTION_ERRORS as exc:
        msg = f"the connection was lost while declaring {what.name}: {describe(exc)}"
        raise BrokerUnavailableError(msg) from exc
    await channel.close()
    return None


async def _fault(
    connection: AbstractConnection, what: Exchange | Queue, version: tuple[int, ...]
) -> _Fault | None:
    """Return what is wrong. Declared only once it is known to exist, which then changes nothing."""
    return await _declared(connection, what, version, passive=True) or await _declared(
        connection, what, version
    )


async def _declared_by_3x(connection: AbstractConnection, queue: Queue, version: tuple[int, ...]) -> bool:
    """Return whether a queue that is not as it should be is as it should have been on the broker's last release."""
    older = queue.arguments(VERSION_MIN)
    return (
        older != queue.arguments(version)
        and await _declared(connection, queue, version, passive=True) is None
        and await _declared(connection, queue, VERSION_MIN) is None
    )


def _kind(what: Exchange | Queue) -> str:
    return "exchange" if isinstance(what, Exchange) else "queue"


def _reason(exc: BaseException) -> str:
    """Return the broker's own words, without its code in capitals."""
    return str(exc).removeprefix("PRECONDITION_FAILED - ").removeprefix("ACCESS_REFUSED - ")
