"""The file of an operator's own Ed25519 key, which is sealed with a passphrase and never on the wallet's servers."""

import json
import os
import sys
from base64 import b64decode, b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from wallet_worker.cli import exits
from wallet_worker.core.proofs import OperatorKey, ProofAlgorithm, key_id_of, public_text
from wallet_worker.passwords import is_guessable
from wallet_worker.text import printable

if TYPE_CHECKING:
    from nacl.signing import SigningKey

PASSPHRASE_CHARACTERS_MIN: Final = 12
_FORM: Final = "wallet-operator-key-1"
_OPERATIONS, _MEMORY_BYTES = 3, 64 * 2**20  # argon2id as RFC 9106 has it for little memory, as for passwords


@dataclass(frozen=True, slots=True)
class OpenedKey:
    """A key of a person, ready to sign."""

    name: str
    key_id: str
    _key: "SigningKey"

    def sign(self, text: bytes) -> bytes:
        """Return the signature of a text."""
        return self._key.sign(text).signature


def make(path: Path, name: str, *, from_stdin: bool) -> str:
    """Write a new key to a new file, for its owner alone; return the public half as text, or end the command."""
    from nacl.pwhash import argon2id
    from nacl.secret import SecretBox
    from nacl.signing import SigningKey
    from nacl.utils import random

    passphrase = _passphrase("Passphrase", from_stdin=from_stdin, is_new=True)
    if len(passphrase) < PASSPHRASE_CHARACTERS_MIN:
        exits.end(
            exits.Exit.MISUSED,
            f"a passphrase has at least {PASSPHRASE_CHARACTERS_MIN} characters: nothing was made",
        )
    if is_guessable(passphrase, [name]):
        exits.end(
            exits.Exit.MISUSED,
            "this passphrase would be guessed soon, and nothing was made: a few words that do not belong together are "
            "better",
        )
    key, salt = SigningKey.generate(), random(argon2id.SALTBYTES)
    public = bytes(key.verify_key)
    document = {
        "form": _FORM,
        "name": name,
        "public": b64encode(public).decode(),
        "salt": b64encode(salt).decode(),
        "sealed": b64encode(SecretBox(_stretched(passphrase, salt)).encrypt(bytes(key))).decode(),
    }
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as exc:
        exits.end(exits.Exit.MISUSED, f"{printable(str(path))} cannot be made: {exc.strerror}")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.write("\n")
    return public_text(OperatorKey(key_id_of(public), name, ProofAlgorithm.ED25519, public))


def owner_of(path: Path) -> str:
    """Return whose key a file holds, by its own word, or end the command."""
    return str(_read(path)["name"])


def opened(path: Path, *, from_stdin: bool) -> OpenedKey:
    """Return the key of a file, opened with the passphrase that is asked for, or end the command."""
    from nacl.exceptions import CryptoError
    from nacl.secret import SecretBox
    from nacl.signing import SigningKey

    document = _read(path)
    passphrase = _passphrase(f"Passphrase of {path}", from_stdin=from_stdin)
    try:
        salt, sealed = b64decode(document["salt"]), b64decode(document["sealed"])
        key = SigningKey(SecretBox(_stretched(passphrase, salt)).decrypt(sealed))
    except (CryptoError, ValueError, TypeError) as exc:
        reason = "the passphrase is wrong" if isinstance(exc, CryptoError) else "it was changed"
        exits.end(exits.Exit.FOUND, f"{printable(str(path))} cannot be opened: {reason}")
    return OpenedKey(str(document["name"]), key_id_of(bytes(key.verify_key)), key)


def _read(path: Path) -> dict[str, str]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        exits.end(exits.Exit.MISUSED, f"{printable(str(path))} cannot be read: {exc.strerror}")
    except ValueError:
        document = None
    members = ("form", "name", "public", "salt", "sealed")
    is_whole = isinstance(document, dict) and all(isinstance(document.get(name), str) for name in members)
    if not is_whole or document["form"] != _FORM:
        exits.end(
            exits.Exit.MISUSED,
            f"{printable(str(path))} is not a key that `wallet operators key make` has made",
        )
    return dict(document)


def _stretched(passphrase: str, salt: bytes) -> bytes:
    from nacl.pwhash import argon2id
    from nacl.secret import SecretBox

    return argon2id.kdf(SecretBox.KEY_SIZE, passphrase.encode(), salt, _OPERATIONS, _MEMORY_BYTES)


def _passphrase(prompt: str, *, from_stdin: bool, is_new: bool = False) -> str:
    if from_stdin:
        return sys.stdin.readline().removesuffix("\n")
    typed: str = typer.prompt(prompt, hide_input=True, confirmation_prompt=is_new, err=True)
    return typed
