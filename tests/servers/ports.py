"""Free ports for private servers."""

import errno
import random
import socket
from itertools import islice
from pathlib import Path

LOWEST = 15_000  # above the ports that well-known services take
LINUX_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
OTHER_EPHEMERAL_LOWEST = 32_768
CANDIDATES = 1_000  # more than any machine has taken in one row


def free_ports(count: int) -> list[int]:
    """That many different ports of 127.0.0.1, on which nobody listens now.

    They lie below the range that the system gives to outgoing connections: a server that is killed and
    started again must not find its port taken by a client, and a client that tries a dead server's port must
    not reach itself.
    """
    highest = _ephemeral_lowest()
    candidates = random.sample(range(min(LOWEST, highest - CANDIDATES), highest), k=CANDIDATES)
    found = list(islice(filter(_is_free, candidates), count))
    if len(found) < count:
        raise OSError(errno.EADDRINUSE, f"no {count} free ports between {LOWEST} and {highest} on 127.0.0.1")
    return found


def _ephemeral_lowest() -> int:
    try:
        return int(LINUX_EPHEMERAL_RANGE.read_text().split()[0])
    except OSError:
        return OTHER_EPHEMERAL_LOWEST


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
