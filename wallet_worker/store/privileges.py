"""What each role may do, as the migrations grant it: read from their text, so that it stands in one place only."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from types import MappingProxyType
from typing import Final, NamedTuple

from wallet_worker.store.schema_version import VERSIONS_FOLDER

ROLES_OF: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "worker": ("wallet_worker", "wallet_readonly", "wallet_operator"),
        "worker without keeper": ("wallet_worker", "wallet_readonly"),
        "keeper": ("wallet_operator",),
        "console": ("wallet_operator", "wallet_readonly"),
        "reader": ("wallet_readonly",),
        "api": ("wallet_api",),
        "owner": (),
    }
)
"""The roles that the login of each kind of process has to be able to be. The owner grants them, and is none of them."""

_GRANT = re.compile(
    r"\bGRANT\s+(?P<privileges>[A-Z][\w\s,()]*?)\s+ON\s+(?P<sequence>SEQUENCE\s+)?(?P<objects>[a-z_][\w\s,]*?)"
    r"\s+TO\s+(?P<roles>wallet_\w+(?:\s*,\s*wallet_\w+)*)"
)
_PRIVILEGE = re.compile(r"([A-Z]+)(?:\s*\(([^)]*)\))?")


class Grant(NamedTuple):
    """One privilege of one role on one table, column or sequence. No column: on the whole table."""

    role: str
    privilege: str
    target: str
    column: str | None = None
    is_sequence: bool = False

    @property
    def sentence(self) -> str:
        """What is missing where this grant is."""
        what = f"{self.privilege} ({self.column})" if self.column else self.privilege
        return f"{what} on {self.target} to {self.role}"


@cache
def statements() -> tuple[str, ...]:
    """Return the migrations' GRANT statements, in their order; granting again changes nothing."""
    return tuple(" ".join(match[0].split()) for match in _matches())


@cache
def granted() -> frozenset[Grant]:
    """Return what the roles may do once every migration has run."""
    return frozenset(grant for match in _matches() for grant in _grants(match))


@cache
def all_roles() -> tuple[str, ...]:
    """Return every role that a migration grants something to."""
    return tuple(sorted({grant.role for grant in granted()}))


def _matches() -> Iterator[re.Match[str]]:
    for path in sorted(VERSIONS_FOLDER.glob("[0-9]*.py")):
        yield from _GRANT.finditer(path.read_text(encoding="utf-8"))


def _grants(match: re.Match[str]) -> Iterator[Grant]:
    for role in re.split(r"\s*,\s*", match["roles"]):
        for target in re.split(r"\s*,\s*", match["objects"].strip()):
            for privilege, columns in _PRIVILEGE.findall(match["privileges"]):
                for column in re.split(r"\s*,\s*", columns.strip()) if columns else [None]:
                    yield Grant(role, privilege, target, column, bool(match["sequence"]))
