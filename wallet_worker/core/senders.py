"""Who may send what: the policy of `WALLET_SENDERS`, asked of each command and each query.

A sender is a login of the broker, which the broker itself verifies (the AMQP property `user_id`). Behind a login with
`clients` stands a door of its own, such as the HTTP API, and names its client in the header `x-wallet-client`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from typing_extensions import override

ANY: Final = "*"
"""In a list of types: all that begin with what stands before it."""

REPLIES_TO_ITSELF: Final = ("amq.rabbitmq.reply-to.", "amq.gen-")
"""Names that the broker makes up: no sender can guess another's."""
REPLIES: Final = "reply."

_CLIENT: Final = re.compile(r"[!-~]{1,128}")


@dataclass(frozen=True, slots=True)
class Rights:
    """What one login of the broker may do.

    `types` and `queries` are names without a version; a last `*` stands for any. `users` and `serial_prefix` are
    prefixes, empty for all; `account_types` is absent for all. `any_order`: it may capture, release and refund what
    others have ordered, and see it. `clients`: it speaks for clients, whose names are believed. `replays`: it speaks
    for the senders of the dead letters that it replays.
    """

    types: tuple[str, ...] = ()
    queries: tuple[str, ...] = ()
    users: str = ""
    serial_prefix: str = ""
    account_types: frozenset[str] | None = None
    any_order: bool = False
    clients: bool = False
    replays: bool = False

    def may_send(self, name: str) -> bool:
        """Return whether a command of this name may be sent."""
        return _is_among(name, self.types)

    def may_ask(self, name: str) -> bool:
        """Return whether a query of this name may be asked."""
        return _is_among(name, self.queries)

    def reaches_user(self, user_id: str) -> bool:
        """Return whether the user is one of the sender's."""
        return user_id.startswith(self.users)

    def reaches_type(self, account_type: str) -> bool:
        """Return whether accounts of this type are for the sender."""
        return self.account_types is None or account_type in self.account_types


@dataclass(frozen=True, slots=True)
class Sender:
    """Who has sent a message: a login, and the client behind it where the login speaks for clients.

    `client` is `<name>/<key id>`; its key may change, and the client stays the same.
    """

    login: str
    client: str | None = None

    @classmethod
    def named(cls, text: str) -> "Sender":
        """Return the sender that `commands.sent_by` or a dead letter has in this spelling."""
        login, _, client = text.partition("/")
        return cls(login, client or None)

    @override
    def __str__(self) -> str:
        """Return the sender as `commands.sent_by` keeps it."""
        return self.login if self.client is None else f"{self.login}/{self.client}"

    def is_same(self, sent_by: str | None) -> bool:
        """Return whether a stored command was sent by the same login and client, with whatever key."""
        if sent_by is None:
            return False
        login, _, client = sent_by.partition("/")
        mine = (self.client or "").partition("/")[0]
        return login == self.login and client.partition("/")[0] == mine


@dataclass(frozen=True, slots=True)
class Senders:
    """The policy: what each login may do. A login that is not named may nothing.

    `<login>/<name>` names one client of a login: its rights stand in place of those of the login.
    """

    rights: Mapping[str, Rights] = field(default_factory=dict)

    def sender(self, login: str | None, client: object, replayed_for: object) -> Sender | None:
        """Return who a message is from, or nothing if nobody says so whom the policy believes.

        `login` is the property that the broker has verified. `client` and `replayed_for` are headers, as they came;
        they are believed from logins that the policy trusts with them, and ignored from all others.
        """
        rights = None if login is None else self.rights.get(login)
        if login is None or rights is None:
            return None if login is None else Sender(login)
        if rights.replays and isinstance(replayed_for, str) and replayed_for:
            sender = Sender.named(replayed_for)
            if sender.client is not None:
                return sender
            # The broker set it aside before a worker could say which client it was.
            login, rights = sender.login, self.rights.get(sender.login, Rights())
        if rights.clients and isinstance(client, str) and _CLIENT.fullmatch(client):
            return Sender(login, client)
        return Sender(login)

    def of(self, sender: Sender | None) -> Rights | None:
        """Return what a sender may do; absent for one that the policy does not know."""
        if sender is None:
            return None
        if sender.client is not None:
            own = self.rights.get(f"{sender.login}/{sender.client.partition('/')[0]}")
            if own is not None:
                return own
        return self.rights.get(sender.login)


@lru_cache(maxsize=1_024)  # names are those of types of messages, and each command asks
def _is_among(name: str, allowed: tuple[str, ...]) -> bool:
    return any(
        name.startswith(pattern[:-1])
        if pattern.endswith(ANY)
        else name == pattern  # `order.*` has the full stop before the star
        for pattern in allowed
    )


def reply_refusal(reply_to: str, login: str | None, *, anyone: bool) -> str | None:
    """Return why no answer goes to this address; absent if one does.

    Queues of the wallet and of others are no address: a sender could have the wallet write where the sender may not.
    """
    if reply_to.startswith(REPLIES_TO_ITSELF):
        return None
    if anyone:
        return None if reply_to.startswith(REPLIES) else "its name does not begin with reply."
    if login and reply_to.startswith(f"{REPLIES}{login}."):
        return None
    return "it is no reply queue of its sender"
