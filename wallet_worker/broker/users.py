"""The broker's users as data: one a role, each with the rights that the role needs and no others.

`definitions` is what RabbitMQ loads when it starts (`load_definitions`), `apply` sets the same over the management API.
No user is an administrator, and after `wallet topology apply` nobody needs the right to configure anything.
"""

import hashlib
import os
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from wallet_schemas.names import (
    EVENT_LOG,
    PAYMENT_RESULTS,
    WALLET_COMMANDS,
    WALLET_EVENTS,
    WALLET_QUERIES,
    routing_key,
)
from wallet_schemas.parse import COMMANDS, QUERIES
from wallet_worker.broker.management import Management
from wallet_worker.core.senders import ANY

NOTHING: Final = "^$"
ALL_OF_OURS: Final = r"^(wallet|payment)\."
SALT_BYTES: Final = 4
HASHING: Final = "rabbit_password_hashing_sha256"

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class TopicRights:
    """Which routing keys of one exchange may be published, and bound; expressions as RabbitMQ has them."""

    exchange: str
    write: str = NOTHING
    read: str = NOTHING


@dataclass(frozen=True, slots=True)
class BrokerUser:
    """One user of the broker: what it may configure, write and read in the wallet's vhost, and how much of it."""

    name: str
    configure: str = NOTHING
    write: str = NOTHING
    read: str = NOTHING
    tags: tuple[str, ...] = ()
    topics: tuple[TopicRights, ...] = ()
    connections_max: int = 100
    channels_max: int = 1_000


def roles() -> list[BrokerUser]:
    """Return the users of the wallet's own processes, and of whoever sets it up and watches it."""
    return [
        BrokerUser("setup", ALL_OF_OURS, ALL_OF_OURS, ALL_OF_OURS, connections_max=10),
        BrokerUser(
            "worker",
            write=r"^(amq\.default|payment\.requests|wallet\.(events|dead-letters))$",
            read=r"^(wallet\.(commands|queries)|payment\.results)$",
        ),
        BrokerUser(
            "keeper",
            write=r"^(wallet\.commands|payment\.(requests|results))$",
            read=r"^wallet\.(dead-letters|unrouted)$",
        ),
        BrokerUser("console"),
        BrokerUser("monitor", tags=("monitoring",), connections_max=10),
    ]


def api() -> BrokerUser:
    """Return the user of the HTTP API: it hands on what its clients send, and what gateways have signed."""
    return BrokerUser(
        "api",
        write=r"^(wallet\.(commands|queries)|payment\.results)$",
        read=rf"^{re.escape(EVENT_LOG)}$",
        topics=(TopicRights(PAYMENT_RESULTS, write=r"^payment\.(result|instructions|reversal)$"),),
    )


def webhooks() -> BrokerUser:
    """Return the user of `wallet webhooks`: it reads the log of events, and publishes nothing."""
    return BrokerUser("webhooks", read=rf"^{re.escape(EVENT_LOG)}$", connections_max=20)


def gateway(name: str) -> BrokerUser:
    """Return the user of a payment gateway."""
    return BrokerUser(
        f"gateway-{checked(name)}",
        write=r"^payment\.results$",
        read=r"^payment\.requests$",
        topics=(TopicRights(PAYMENT_RESULTS, write=r"^payment\.(result|instructions|reversal)$"),),
    )


def upstream(name: str, names: Sequence[str], *, reply_queues: bool = False) -> BrokerUser:
    """Return the user of an upstream service, which may send these types and ask these queries.

    Its answers come by RabbitMQ's direct reply-to, which needs no rights; `reply_queues` are for clients that want
    queues for them, named by the broker or `reply.<user>.…`. Raises ValueError for a name that is no type.
    """
    login = f"up-{checked(name)}"
    own = rf"^(amq\.gen-|reply\.{re.escape(login)}\.)" if reply_queues else NOTHING
    return BrokerUser(
        login,
        configure=own,
        write=r"^wallet\.(commands|queries)$",
        read=own,
        topics=(
            TopicRights(WALLET_COMMANDS, write=_of_types(names, COMMANDS, QUERIES)),
            TopicRights(WALLET_QUERIES, write=_of_types(names, QUERIES, COMMANDS)),
        ),
    )


def subscriber(name: str, pattern: str) -> BrokerUser:
    """Return the user of a service that reads events from its own queue, bound by keys such as `order.*`."""
    own = rf"^events\.{re.escape(checked(name))}$"
    return BrokerUser(
        f"sub-{name}",
        configure=own,
        write=own,
        read=rf"^(events\.{re.escape(name)}|wallet\.events)$",
        topics=(TopicRights(WALLET_EVENTS, read=_expression([pattern])),),
    )


def definitions(users: Iterable[BrokerUser], passwords: Mapping[str, str], vhost: str) -> dict[str, Any]:
    """Return what RabbitMQ loads as `definitions.json`. Raises ValueError where a password is missing or short."""
    users = list(users)
    return {
        "vhosts": [{"name": vhost}],
        "users": [
            {
                "name": user.name,
                "password_hash": password_hash(_password(user, passwords)),
                "hashing_algorithm": HASHING,
                "tags": list(user.tags),
                "limits": _limits(user),
            }
            for user in users
        ],
        "permissions": [_permission(user) | {"user": user.name, "vhost": vhost} for user in users],
        "topic_permissions": [
            _topic(topic) | {"user": user.name, "vhost": vhost} for user in users for topic in user.topics
        ],
    }


def apply(management: Management, users: Iterable[BrokerUser], passwords: Mapping[str, str]) -> list[str]:
    """Leave the broker with the vhost and exactly these rights of these users; return who else has rights there.

    Other users are left as they are. Raises ValueError as `definitions` does, and ManagementError.
    """
    users = list(users)
    hashes = {
        user.name: password_hash(_password(user, passwords)) for user in users
    }  # all, before any is set
    vhost = management.vhost
    management.call("PUT", "vhosts", vhost, body={})
    for user in users:
        body = {"password_hash": hashes[user.name], "hashing_algorithm": HASHING, "tags": ",".join(user.tags)}
        management.call("PUT", "users", user.name, body=body)
        management.call("PUT", "permissions", vhost, user.name, body=_permission(user))
        if any(permission["user"] == user.name for permission in management.get("topic-permissions")):
            management.call("DELETE", "topic-permissions", vhost, user.name)
        for topic in user.topics:
            management.call("PUT", "topic-permissions", vhost, user.name, body=_topic(topic))
        for name, value in _limits(user).items():
            management.call("PUT", "user-limits", user.name, name, body={"value": value})
    ours = {user.name for user in users}
    return sorted(
        {permission["user"] for permission in management.get("vhosts", vhost, "permissions")} - ours
    )


def password_hash(password: str, salt: bytes | None = None) -> str:
    """Return a password as RabbitMQ keeps it: a salt of four bytes and SHA-256 over both, in base64."""
    salt = os.urandom(SALT_BYTES) if salt is None else salt
    return b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def checked(name: str) -> str:
    """Return the name; raises ValueError for one that would mean something in an expression or a queue's name."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name: letters, digits, _ and -, at most 64")
    return name


PASSWORD_LENGTH_MIN: Final = 16


def _password(user: BrokerUser, passwords: Mapping[str, str]) -> str:
    password = passwords.get(user.name, "")
    if len(password) < PASSWORD_LENGTH_MIN:
        what = f"less than {PASSWORD_LENGTH_MIN} characters" if password else "none"
        raise ValueError(f"the broker's user {user.name} has no usable password: {what}")
    return password


def _permission(user: BrokerUser) -> dict[str, str]:
    return {"configure": user.configure, "write": user.write, "read": user.read}


def _topic(topic: TopicRights) -> dict[str, str]:
    return {"exchange": topic.exchange, "write": topic.write, "read": topic.read}


def _limits(user: BrokerUser) -> dict[str, int]:
    return {"max-connections": user.connections_max, "max-channels": user.channels_max}


def _of_types(names: Sequence[str], of: Iterable[str], others: Iterable[str]) -> str:
    """Return the expression for those names that are of one kind; NOTHING if no name is of it."""
    known, foreign = ({routing_key(name) for name in kind} for kind in (of, others))
    found: list[str] = []
    for name in names:
        begins = name[:-1] if name.endswith(ANY) else None
        if begins is None and name not in known | foreign:
            raise ValueError(f"{name!r} is no type of command or query")
        if begins is not None and not any(type_name.startswith(begins) for type_name in known | foreign):
            raise ValueError(f"no type of command or query begins with {begins!r}")
        if any(
            type_name.startswith(begins) if begins is not None else type_name == name for type_name in known
        ):
            found.append(name)
    return _expression(found) if found else NOTHING


def _expression(names: Sequence[str]) -> str:
    """Return names, of which a last `*` stands for anything, as one regular expression."""
    parts = (f"{re.escape(name[:-1])}.*" if name.endswith(ANY) else re.escape(name) for name in names)
    return f"^({'|'.join(parts)})$"
