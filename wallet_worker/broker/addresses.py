"""Addresses of one broker, or of every node of a cluster in one text, and which node is tried first."""

import random
import re
from collections.abc import Iterator
from typing import Final

from yarl import URL

EXAMPLE: Final = "amqp://user:password@host:5672/"

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")

_VERIFY_OFF: Final = "no_verify_ssl"
"""An option of the client library: whoever stands between would be told the password."""

# A password may have a comma or a blank in it: only one before a scheme that is known ends an address.
_BETWEEN = re.compile(r"[\s,]+(?=(?:amqps?|https?)://)")

_worked_last: Final[dict[str, int]] = {}
"""By the text of all addresses, the place of the node that this process was connected to last.

All connections of a process go to one node: a node that dies hurts the processes that were connected to it, and no
other. Each process begins at a random place, so that processes spread.
"""


class WrongUrlError(Exception):
    """The address is none; trying again changes nothing."""


def split(urls: str) -> tuple[str, ...]:
    """Return the addresses of a text, which are separated by commas or blanks; at least one, which may be empty."""
    return tuple(_BETWEEN.split(urls.strip().rstrip(",").rstrip()))


def redact_url(url: str) -> str:
    """Return addresses as `scheme://host:port/path`, without user, password and options, for people and logs.

    A password may have any character in it, unescaped: everything up to the last `@` is taken for user and password,
    before anything is parsed. What does not look like an address is not shown at all.
    """
    return ", ".join(_redact(each) for each in split(url))


def _redact(url: str) -> str:
    scheme, mark, rest = url.partition("://")
    if not mark or not _SCHEME.fullmatch(scheme):
        return "(not shown: it does not look like one)"
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0].partition('#')[0]}"


def login_of(urls: str) -> str:
    """Return the user that each of the addresses logs in as: what the broker lets its messages have as `user_id`."""
    return URL(split(urls)[0]).user or "guest"


def parse(urls: str) -> tuple[URL, ...]:
    """Return the addresses of the nodes of one cluster; raises WrongUrlError.

    All have the same scheme, user and vhost: with another vhost it would be another wallet, and one node that is
    spoken to in the clear would be all that somebody who listens needs.
    """
    found: list[URL] = []
    for url in split(urls):
        try:
            address = URL(url)
            if address.scheme not in {"amqp", "amqps"} or not address.host:
                raise ValueError  # noqa: TRY301 -- said once, below
        except ValueError:
            msg = f"{redact_url(url)!r} is no address of a broker: it should look like {EXAMPLE}"
            raise WrongUrlError(msg) from None  # what says why has the address in it
        if address.scheme == "amqps" and _VERIFY_OFF in address.query:
            msg = (
                f"{_VERIFY_OFF} in the address of {redact_url(url)} would believe any certificate: "
                "name the authority's in cafile"
            )
            raise WrongUrlError(msg)
        found.append(address)
    for what, values in (
        ("scheme", {address.scheme for address in found}),
        ("user", {address.user or "guest" for address in found}),
        ("vhost", {address.path or "/" for address in found}),
    ):
        if len(values) > 1:
            msg = f"the addresses of the broker's nodes ({redact_url(urls)}) should have the same {what}"
            raise WrongUrlError(msg)
    return tuple(found)


def in_turn(urls: str) -> Iterator[tuple[str, URL]]:
    """Yield each address once, as text and parsed: the one that worked last, or one at random, and those after it.

    Raises WrongUrlError.
    """
    parsed, texts = parse(urls), split(urls)
    # A text of one address has nothing to begin at.
    first = _worked_last.get(urls, random.randrange(len(parsed)))
    for place in range(first, first + len(parsed)):
        yield texts[place % len(parsed)], parsed[place % len(parsed)]


def worked(urls: str, url: str) -> None:
    """Put `url`, one of the addresses, first from now on."""
    _worked_last[urls] = split(urls).index(url)


def place_of(urls: str) -> int:
    """Return the place of the node that is tried first, for `move_on`."""
    return _worked_last.get(urls, 0)


def move_on(urls: str, place: int) -> None:
    """Put the next address first, unless somebody has moved on already.

    The node at this place takes connections, and does not do what they are for.
    """
    if _worked_last.get(urls) == place:
        _worked_last[urls] = (place + 1) % len(split(urls))
