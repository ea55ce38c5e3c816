"""`WALLET_SENDERS`: a policy as JSON, the path of a file with one after an `@`, or `anyone`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from wallet_schemas import faults
from wallet_schemas.names import routing_key
from wallet_schemas.parse import COMMANDS, QUERIES
from wallet_schemas.values import AccountType
from wallet_worker.core.senders import ANY, Rights, Senders

ANYONE: Final = "anyone"
"""The way out for a laptop: whoever can publish may do everything."""

EXAMPLE: Final = (
    '{"shop": {"types": ["account.open", "order.*"], "queries": ["account.get"], "users": "shop:"}}'
)

_COMMAND_NAMES: Final = frozenset(routing_key(name) for name in COMMANDS)
_QUERY_NAMES: Final = frozenset(routing_key(name) for name in QUERIES)

_Prefix = Annotated[str, StringConstraints(max_length=64)]


class _RightsSettings(BaseModel):
    """What one login of the broker may do, as a deployment writes it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    types: tuple[str, ...] = ()
    queries: tuple[str, ...] = ()
    users: _Prefix = ""
    serial_prefix: _Prefix = ""
    account_types: tuple[AccountType, ...] | None = Field(default=None, min_length=1)
    any_order: bool = False
    clients: bool = False
    replays: bool = False

    def rights(self) -> Rights:
        return Rights(
            types=_known(self.types, _COMMAND_NAMES, "command"),
            queries=_known(self.queries, _QUERY_NAMES, "query"),
            users=self.users,
            serial_prefix=self.serial_prefix,
            account_types=None if self.account_types is None else frozenset(self.account_types),
            any_order=self.any_order,
            clients=self.clients,
            replays=self.replays,
        )


_POLICY: Final = TypeAdapter(
    dict[Annotated[str, StringConstraints(min_length=1, max_length=255)], _RightsSettings]
)


def read_senders(text: str) -> Senders | None:
    """Return the policy, or nothing for `anyone`. Raises ValueError with a sentence for a person."""
    text = text.strip()
    if text == ANYONE:
        return None
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except (OSError, ValueError) as exc:
            reason = getattr(exc, "strerror", None) or "it is no text"
            raise ValueError(f"the file {text[1:]} cannot be read: {reason}") from None
    try:
        found = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError:
        raise ValueError(f"it should be {ANYONE}, or JSON such as {EXAMPLE}") from None
    try:
        policy: Mapping[str, _RightsSettings] = _POLICY.validate_python(found)
    except ValidationError as exc:
        fault = exc.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, fault["loc"]))
        sentence = faults.sentence(fault)
        raise ValueError(f"{where}: {sentence}" if where else sentence) from None
    for login, rights in policy.items():
        if (rights.clients or rights.replays) and "/" in login:
            raise ValueError(f"{login!r} speaks for others, so its name cannot have a / in it")
    return Senders({login: rights.rights() for login, rights in policy.items()})


def _known(names: tuple[str, ...], known: frozenset[str], kind: str) -> tuple[str, ...]:
    """Return the names; one that fits nothing is refused: misspelt, it would allow less than was meant, unnoticed."""
    for name in names:
        if name.endswith(ANY):
            if not any(candidate.startswith(name[:-1]) for candidate in known):
                raise ValueError(f"no {kind} begins with {name[:-1]!r}")
        elif name not in known:
            raise ValueError(
                f"{name!r} is no {kind}: it may be {', '.join(sorted(known))}, or end with a {ANY}"
            )
    return names


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in it")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
