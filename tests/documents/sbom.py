"""Write the list of what the image installs, as CycloneDX: `make sbom`. It says nothing that the lock file does not.

A licence is taken from the package's own metadata, as it is installed here.
"""

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any, Final

from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).parents[2]
LOCK: Final = ROOT / "requirements.lock"
FILE: Final = ROOT / "sbom.cdx.json"
PROJECT: Final = "wallet-worker"

_PIN: Final = re.compile(r"([a-z0-9._-]+)(?:\[[a-z,]+\])?==(\S+)(?: ; [^\\]+)? \\")
_HASH: Final = re.compile(r"    --hash=sha256:([0-9a-f]{64})")
_VIA: Final = re.compile(r"    # +(?:via +)?(?!via$)(\S+)")

# SPDX's: identifiers without blanks, joined by words. What classifiers say in prose is a name.
_EXPRESSION: Final = re.compile(r"\(?[A-Za-z0-9.+-]+\)?( (AND|OR|WITH) \(?[A-Za-z0-9.+-]+\)?)*")


def bill(lock: str, licences: dict[str, str]) -> dict[str, Any]:
    """Return the bill of materials of a lock file."""
    versions: dict[str, str] = {}
    hashes: dict[str, list[str]] = defaultdict(list)
    needs: dict[str, set[str]] = defaultdict(set)
    name = ""
    for line in lock.splitlines():
        if pin := _PIN.fullmatch(line):
            name = canonicalize_name(pin[1])
            versions[name] = pin[2]
        elif found := _HASH.match(line):
            hashes[name].append(found[1])
        elif needing := _VIA.fullmatch(line.partition(" (")[0]):
            needs[canonicalize_name(needing[1])].add(name)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": PROJECT, "bom-ref": PROJECT}},
        "components": [
            {
                "type": "library",
                "name": name,
                "version": version,
                "bom-ref": _reference(name, version),
                "purl": _reference(name, version),
                **({"licenses": [_licence(licences[name])]} if licences.get(name) else {}),
                # The lock file allows each of these files: one for a platform.
                "properties": [{"name": "lock:sha256", "value": " ".join(sorted(hashes[name]))}],
            }
            for name, version in sorted(versions.items())
        ],
        "dependencies": [
            {
                "ref": PROJECT if name == PROJECT else _reference(name, versions[name]),
                "dependsOn": sorted(_reference(needed, versions[needed]) for needed in needs[name]),
            }
            for name in [PROJECT, *sorted(versions)]
        ],
    }


def _reference(name: str, version: str) -> str:
    return f"pkg:pypi/{name}@{version}"


def _licence(text: str) -> dict[str, Any]:
    return {"expression": text} if _EXPRESSION.fullmatch(text) else {"license": {"name": text}}


def licences(names: Sequence[str]) -> dict[str, str]:
    """Return the licence of each package that says one in a line."""
    found: dict[str, str] = {}
    for name in names:
        try:
            package = metadata(name)
        except PackageNotFoundError:
            continue
        kinds = [
            kind.rpartition(" :: ")[2] for kind in package.get_all("Classifier") or () if "License ::" in kind
        ]
        texts = [
            *(package.get_all("License-Expression") or ()),
            "; ".join(kinds),
            *(package.get_all("License") or ()),
        ]
        licence = next(filter(None, texts), "")
        found[name] = licence.splitlines()[0][:200] if licence else ""
    return found


def text() -> str:
    """Return the file's content."""
    lock = LOCK.read_text()
    names = [canonicalize_name(pin[1]) for line in lock.splitlines() if (pin := _PIN.fullmatch(line))]
    return json.dumps(bill(lock, licences(names)), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
