"""What can be wrong with the address of a database before anybody connects to it."""

import os
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

EXAMPLE: Final = "postgresql://user:password@host:5432/name"

_SCHEMES: Final = frozenset({"postgresql", "postgres"})
_PORT_MAX: Final = 65_535
_CHOICES: Final = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "target_session_attrs": ("any", "primary", "standby", "prefer-standby", "read-write", "read-only"),
}
_FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
_ROOT_CERTIFICATE: Final = Path(
    ".postgresql/root.crt"
)  # in the home folder: where libpq looks, and the driver


def wrong_database_address(url: str) -> str | None:
    """Return what is wrong with an address, in a sentence without its secrets; None if nothing is.

    What only the server knows is not asked: whether there is one, whether it takes the login.
    """
    try:
        parts = urlsplit(url)
        ports = [_port(host) for host in parts.netloc.rpartition("@")[2].split(",")]
    except ValueError:
        parts, ports = urlsplit(""), []
    if parts.scheme not in _SCHEMES:
        return f"it is no address of a database, which should look like {EXAMPLE}"
    query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    ports += [_number(port) for port in query.get("port", "1").split(",")]
    if not all(port is None or 0 < port <= _PORT_MAX for port in ports):
        return f"the port should be a number from 1 to {_PORT_MAX}, as in {EXAMPLE}"
    for name, choices in _CHOICES.items():
        if name in query and query[name] not in choices:
            return f"{name} should be one of {', '.join(choices)}"
    for name in _FILES:
        if name in query and not os.access(query[name], os.R_OK):
            return f"{name} names a file that is not there or may not be read"
    if query.get("sslmode", "").startswith("verify-") and "sslrootcert" not in query:
        return _wrong_root(query["sslmode"])
    return None


def _port(host: str) -> int | None:
    """Return the port of a host, if there is one: 0 for what is not a number."""
    _, bracket, after = host.rpartition("]")
    _, colon, port = (after if bracket else host).rpartition(":")
    return _number(port) if colon else None


def _number(port: str) -> int:
    return int(port) if port.isascii() and port.isdigit() else 0


def _wrong_root(mode: str) -> str | None:
    if os.environ.get("PGSSLROOTCERT") or (Path.home() / _ROOT_CERTIFICATE).is_file():
        return None
    return f"sslmode={mode} needs the certificate that signs the server's: name its file in sslrootcert"
