"""Which variables of the environment are settings, and what is meant by one that is not."""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Final

from wallet_schemas import faults
from wallet_worker.settings.settings import Settings
from wallet_worker.settings.sources import FILE, SECRETS

PREFIX: Final = "WALLET_"

FORMER: Final[Mapping[str, str]] = MappingProxyType(
    {
        "WALLET_ASK_SECONDS": "WALLET_PAYMENT_INQUIRY_SECONDS",
        "WALLET_ASK_SECONDS_BY_CHANNEL": "WALLET_PAYMENT_INQUIRY_SECONDS_BY_CHANNEL",
        "WALLET_DLQ_ALONE_MAX": "WALLET_DLQ_SINGLE_PERSON_MAX",
    }
)
"""What settings were called before."""

GONE: Final[Mapping[str, str]] = MappingProxyType(
    {"WALLET_DLQ_ROLES": "roles are in the database now: `wallet operators`"}
)
"""Settings that are no more, and what is there instead."""

_BESIDE: Final = frozenset(
    {
        *("WALLET_SENDERS", "WALLET_REQUEST_KEY_FILE", "WALLET_SEAL_KEY_FILE", "WALLET_ACCOUNT_TYPES"),
        *("WALLET_BROKER_PASSWORDS", "WALLET_BROKER_PASSWORDS_FILE"),
        "WALLET_FAILPOINT",
        "WALLET_IMAGE",
        # What `make` and the tests of this project read.
        *(
            "WALLET_SERVERS_FROM",
            "WALLET_RABBITMQ_SERVER",
            "WALLET_POSTGRES_BIN",
            "WALLET_DEMO",
            "WALLET_FAULTS",
        ),
        *("WALLET_CHROMIUM", "WALLET_PROMETHEUS"),
    }
)
"""Variables that something of the wallet reads beside `Settings`."""

_FILES: Final = frozenset(f"{PREFIX}{name.upper()}{FILE}" for name in SECRETS)
"""Variables that name the file of a secret."""

_FAMILIES: Final = ("WALLET_SIMULATOR_",)

# Kubernetes and Docker describe a service called wallet-… to each container, in variables of these forms.
_OF_SERVICE: Final = re.compile(
    r"WALLET(_\w+)?_(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)"
)
# The address of a service; without an address as its value it is a misspelt setting, such as WALLET_HTP_PORT.
_ADDRESS_OF_SERVICE: Final = re.compile(r"WALLET(_\w+)?_PORT")
_EXAMPLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "payment_keys": '{"key id": "secret"}',
        "limits": '{"accounts": {"basic": {"TWD": {"balance_max": "100000.00"}}}}',
        "dlq_single_person_amounts": '{"TWD": "5000.00"}',
        "payment_inquiry_seconds_by_channel": '{"card": [60, 300]}',
    }
)


def all_names() -> frozenset[str]:
    """Return every variable that is a setting of the wallet."""
    return frozenset(f"{PREFIX}{name}".upper() for name in Settings.model_fields) | _FILES | _BESIDE


def unknown(environment: Mapping[str, str]) -> list[str]:
    """Return, for each variable that looks like a setting and is not one, the sentence that says so."""
    names = all_names()
    return [
        f"{name} is not a setting{_meant(name.upper(), names)}"
        for name, value in sorted(environment.items())
        if name.upper().startswith(PREFIX)
        and name.upper() not in names
        and not name.upper().startswith(_FAMILIES)
        and not _is_of_an_orchestrator(name, value)
    ]


def _is_of_an_orchestrator(name: str, value: str) -> bool:
    if _OF_SERVICE.fullmatch(name):
        return True
    return "://" in value and _ADDRESS_OF_SERVICE.fullmatch(name) is not None


def _meant(name: str, names: Iterable[str]) -> str:
    if name in FORMER:
        return f": it is called {FORMER[name]} now"
    if name in GONE:
        return f": {GONE[name]}"
    close = get_close_matches(name, sorted(names), n=1, cutoff=0.75)
    return f": did you mean {close[0]}?" if close else ": `wallet settings show` lists the settings"


def fault(error: Mapping[str, Any], kind: str) -> str:
    """Return what is wrong with one setting, without its value, which may be a secret."""
    if not error["loc"]:
        sentence = faults.sentence(error)
        return sentence if sentence.startswith(PREFIX) else f"{kind}: {sentence}"
    name, *inside = error["loc"]
    variable = f"{PREFIX}{name}".upper()
    if error["type"] == "missing" and not inside:
        return f"{variable} is not set"
    # Of a union each member that did not fit is named, by what it is in this program.
    where = ".".join(str(part) for part in inside if not (isinstance(part, str) and "[" in part))
    if error["type"] == "extra_forbidden":
        return f"{variable}: {where} is not a name that stands there"
    return (
        f"{variable}: {where}: {faults.sentence(error)}" if where else f"{variable}: {faults.sentence(error)}"
    )


def not_json(field: str) -> str:
    """Return that a setting is not valid JSON, without its value, and what would be."""
    example = _EXAMPLES.get(field)
    return f"{PREFIX}{field}".upper() + " is not valid JSON" + (f". Expected: {example}" if example else "")
