"""The settings that a worker needs to start: who may send, and with which keys requests and letters are proven.

Each run makes keys of its own. Most tests are about something else than who may speak, so there anyone may send;
`tests/security` and the demo have policies.
"""

import atexit
import json
import secrets
import shutil
import tempfile
from base64 import b64encode
from functools import cache
from pathlib import Path

from wallet_schemas.keys import signing_entry, verifying_entry
from wallet_schemas.signature import Algorithm, SigningKey


@cache
def folder() -> Path:
    """Return a folder with `request.json`, `wallet-keys.json` (its public half) and `seal.json`, made for this run."""
    made = Path(tempfile.mkdtemp(prefix="wallet-keys-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    write_keys(made)
    return made


def write_keys(into: Path) -> None:
    """Write the wallet's own key, its public half and a key for seals, fresh."""
    key = SigningKey("wallet-1", Algorithm.ED25519, secrets.token_bytes(32))
    seal = {"kid": "seal-1", "secret": b64encode(secrets.token_bytes(32)).decode()}
    for name, content in (
        ("request.json", signing_entry(key)),
        ("wallet-keys.json", {key.key_id: verifying_entry(key)}),
        ("seal.json", seal),
    ):
        file = into / name
        file.touch(mode=0o600)
        file.write_text(json.dumps(content))


def settings(keys: Path | None = None, *, senders: str = "anyone") -> dict[str, str]:
    """Return the settings that say it."""
    keys = keys or folder()
    return {
        "WALLET_SENDERS": senders,
        "WALLET_REQUEST_KEY_FILE": str(keys / "request.json"),
        "WALLET_SEAL_KEY_FILE": str(keys / "seal.json"),
    }
