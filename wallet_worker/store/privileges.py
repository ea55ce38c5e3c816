"""What each role may do, as the migrations grant it: read from their text, so that it stands in one place only."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from types import MappingProxyType
from typing import Final, NamedTuple

from wallet_worker.store.schema_version import VERSIONS_FOLDER

ROLES_OF: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "worker": ("wallet_worker", "wallet_readonly", "wallet_keeper"),
        "worker-without-keeper": ("wallet_worker", "wallet_readonly"),
        "keeper": ("wallet_keeper",),
        "console": ("wallet_operator", "wallet_readonly"),
        "reader": ("wallet_readonly",),
        "api": ("wallet_api",),
        "webhooks": ("wallet_webhooks",),
        "owner": (),
    }
)
"""The roles that the login of each kind of process has to be able to be. The owner grants them, and is none of them."""

_LOCKS = ("dead_letter_lock_letters", "dead_letter_lock_operation", "dead_letter_lock_plan")
FUNCTIONS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "wallet_operator": (
            *_LOCKS,
            "dead_letter_change_operation",
            "dead_letter_execute",
            "dead_letter_log",
            "dead_letter_make_plan",
            "dead_letter_plan_sign",
        ),
        "wallet_keeper": (*_LOCKS, "dead_letter_keeper_log"),
    }
)
"""The functions that each role may call. They do with their owner's rights what the role may not do itself."""

_GRANT = re.compile(
    r"\b(?P<verb>GRANT|REVOKE)\s+(?P<privileges>[A-Z][\w\s,()]*?)\s+ON\s+(?P<sequence>SEQUENCE\s+)?"
    r"(?P<objects>[a-z_][\w\s,]*?)\s+(?:TO|FROM)\s+(?P<roles>wallet_\w+(?:\s*,\s*wallet_\w+)*)"
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
    """Return GRANT statements for all that the roles may do; granting again changes nothing."""
    columns: dict[tuple[str, str, str, bool], list[str]] = {}
    for grant in granted():
        found = columns.setdefault((grant.role, grant.target, grant.privilege, grant.is_sequence), [])
        if grant.column:
            found.append(grant.column)
    return tuple(
        f"GRANT {_with_columns(privilege, names)} ON {'SEQUENCE ' if is_sequence else ''}{target} TO {role}"
        for (role, target, privilege, is_sequence), names in sorted(columns.items())
    )


def _with_columns(privilege: str, names: list[str]) -> str:
    return f"{privilege} ({', '.join(sorted(names))})" if names else privilege


@cache
def granted() -> frozenset[Grant]:
    """Return what the roles may do once every migration has run: what was granted and not revoked later."""
    found: set[Grant] = set()
    for match in _matches():
        if match["verb"] == "GRANT":
            found.update(_grants(match))
        else:
            found.difference_update(_revoked(match, found))
    return frozenset(found)


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


def _revoked(match: re.Match[str], found: set[Grant]) -> set[Grant]:
    """Return which of the grants a REVOKE takes: one of a whole table takes those of its columns too, as in SQL."""
    return {
        grant
        for taken in _grants(match)
        for grant in found
        if (grant.role, grant.target, grant.is_sequence) == (taken.role, taken.target, taken.is_sequence)
        and taken.privilege in {grant.privilege, "ALL"}
        and taken.column in {grant.column, None}
    }
