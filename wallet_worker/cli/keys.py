"""`wallet keys`: the keys of gateways and of the wallet, in files that only their owner can read."""

import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wallet_schemas import times
from wallet_worker.cli import exits, terminal
from wallet_worker.cli.options import Json
from wallet_worker.text import printable

if TYPE_CHECKING:
    from wallet_schemas.signature import SigningKey, VerifyingKey

app = typer.Typer(
    no_args_is_help=True, help="Create, list and rotate the keys of gateways and of the wallet."
)


class Purpose(StrEnum):
    """What a key is for."""

    REQUEST = "request"
    """The wallet signs payment requests with it."""
    GATEWAY = "gateway"
    """A gateway signs payment results with it."""
    SEAL = "seal"
    """Workers seal dead letters with it."""


KeyId = Annotated[
    str, typer.Argument(metavar="KEY_ID", help="1 to 64 letters, digits and . _ : -, such as acme-2026-01.")
]
Output = Annotated[
    Path, typer.Option("--output", "-o", help="The signer's file to create, readable by its owner only.")
]
Keys = Annotated[
    Path | None,
    typer.Option(
        "--keys", help="The verifier's file (WALLET_PAYMENT_KEYS_FILE), to which the public key is added."
    ),
]
Channels = Annotated[
    list[str] | None, typer.Option("--channel", help="A channel that the key may sign for; may be repeated.")
]
Kinds = Annotated[
    list[str] | None,
    typer.Option("--kind", help="result, instructions or reversal: what the key may sign; may be repeated."),
]
Hmac = Annotated[
    bool,
    typer.Option(
        "--hmac", help="Create a shared secret, for a gateway without Ed25519. Whoever verifies can forge."
    ),
]
Days = Annotated[int | None, typer.Option(min=1, max=36_500, help="Days that the key is valid.")]


@app.command()
def make(
    purpose: Annotated[Purpose, typer.Argument(help="request, gateway or seal.")],
    key_id: KeyId,
    *,
    output: Output,
    keys: Keys = None,
    channel: Channels = None,
    kind: Kinds = None,
    days: Days = None,
    hmac: Hmac = False,
) -> None:
    """Create a key: the signer's file, and the public half for the verifier.

    --keys adds the public half to that file. Without --keys it is printed. A seal has no public half.

    Example: wallet keys make gateway acme-2026-01 -o acme.json --keys gateway-keys.json --channel card
    """
    from wallet_schemas.keys import (
        KeyFileInvalid,
        checked_key_id,
        read_verifying_keys,
        signing_entry,
        verifying_entry,
    )

    try:
        checked_key_id(key_id)
        if purpose is Purpose.SEAL:
            _write_new(output, {"kid": key_id, "secret": _base64(secrets.token_bytes(32))})
            terminal.print_result(f"{output} has a new key for seals")
            return
        key = _fresh(key_id, is_hmac=hmac)
        not_before = datetime.now(UTC).replace(microsecond=0) if days else None
        entry = verifying_entry(
            key,
            channels=tuple(channel) if channel else None,
            kinds=tuple(kind) if kind else None,
            not_before=not_before,
            not_after=not_before + timedelta(days=days) if not_before and days else None,
        )
        read_verifying_keys(json.dumps({key_id: entry}))
        existing = _loaded(keys) if keys is not None and keys.exists() else {}
        if key_id in existing:
            exits.end(
                exits.Exit.MISUSED, f"{printable(str(keys))} has a key {key_id} already: nothing was made"
            )
        _write_new(output, signing_entry(key))
        if keys is None:
            terminal.print_json({key_id: entry})
        else:
            _replace(keys, existing | {key_id: entry})
            terminal.print_result(f"{output} has a new key, and {keys} its public half")
    except KeyFileInvalid as exc:
        exits.end(exits.Exit.MISUSED, str(exc))


@app.command(name="list")
def list_keys(
    keys: Annotated[Path, typer.Argument(help="A verifier's file, such as WALLET_PAYMENT_KEYS_FILE names.")],
    *,
    as_json: Json = None,
) -> None:
    """List the keys of a verifier's file, with what each may sign and until when. Secrets are not shown.

    Example: wallet keys list gateway-keys.json
    """
    from wallet_schemas.keys import KeyFileInvalid, read_verifying_keys

    try:
        keys_by_id = read_verifying_keys(_text(keys))
    except KeyFileInvalid as exc:
        exits.end(exits.Exit.MISUSED, f"{printable(str(keys))}: {exc}")
    rows = [_row(key_id, key) for key_id, key in keys_by_id.items()]
    if terminal.wants_json(as_json):
        for row in rows:
            terminal.print_json(row)
        return
    names = ("key", "algorithm", "channels", "kinds", "not before", "not after", "state")
    terminal.print_table(f"keys of {keys}", names, ([str(cell) for cell in row.values()] for row in rows))


@app.command()
def rotate(
    keys: Annotated[
        Path, typer.Argument(help="The verifier's file, such as WALLET_PAYMENT_KEYS_FILE names.")
    ],
    old: Annotated[str, typer.Argument(metavar="OLD_KEY_ID", help="The key to retire.")],
    key_id: KeyId,
    *,
    output: Output,
    overlap_days: Annotated[
        int, typer.Option(min=0, max=36_500, help="Days that the old key still signs.")
    ] = 14,
) -> None:
    """Create a key with the rights of an old key, and retire the old key after the overlap.

    Both keys are valid during the overlap. Running workers read the changed file.

    Example: wallet keys rotate gateway-keys.json acme-2026-01 acme-2026-07 -o acme.json
    """
    from wallet_schemas.keys import (
        KeyFileInvalid,
        checked_key_id,
        read_verifying_keys,
        signing_entry,
        verifying_entry,
    )
    from wallet_schemas.signature import Algorithm

    try:
        checked_key_id(key_id)
        existing = _loaded(keys)
        if old not in existing or key_id in existing:
            why = f"has no key {old}" if old not in existing else f"has a key {key_id} already"
            exits.end(exits.Exit.MISUSED, f"{printable(str(keys))} {printable(why)}: nothing was made")
        former = existing[old]
        key = _fresh(key_id, is_hmac=former["algorithm"] == Algorithm.HMAC_SHA256.value)
        bounds = {name: former[name] for name in ("channels", "kinds") if name in former}
        now = datetime.now(UTC).replace(microsecond=0)
        ends = now + timedelta(days=overlap_days)
        until = read_verifying_keys(json.dumps({old: former}))[old].not_after
        after = existing | {
            old: former | {"not_after": times.to_text(min(ends, until or ends).astimezone(UTC))},
            key_id: verifying_entry(key) | bounds,
        }
        read_verifying_keys(json.dumps(after))
        _write_new(output, signing_entry(key))
        _replace(keys, after)
    except KeyFileInvalid as exc:
        exits.end(exits.Exit.MISUSED, str(exc))
    terminal.print_result(f"{output} has the new key {key_id}; {old} ends on {after[old]['not_after']}")


def _fresh(key_id: str, *, is_hmac: bool) -> "SigningKey":
    from wallet_schemas.signature import Algorithm, SigningKey

    algorithm = Algorithm.HMAC_SHA256 if is_hmac else Algorithm.ED25519
    return SigningKey(key_id, algorithm, secrets.token_bytes(32))


def _row(key_id: str, key: "VerifyingKey") -> dict[str, Any]:
    now = datetime.now(UTC)
    state = "good"
    if key.is_retired(now):
        state = "retired"
    elif key.not_after is not None and now > key.not_after:
        state = "ended, and still good for what waited"
    elif key.not_before is not None and now < key.not_before:
        state = "not begun"
    return {
        "key": key_id,
        "algorithm": key.algorithm.value,
        "channels": ", ".join(sorted(key.channels)) if key.channels is not None else "all",
        "kinds": ", ".join(sorted(key.kinds)) if key.kinds is not None else "all",
        "not_before": times.to_text(key.not_before.astimezone(UTC)) if key.not_before else "",
        "not_after": times.to_text(key.not_after.astimezone(UTC)) if key.not_after else "",
        "state": state,
    }


def _base64(material: bytes) -> str:
    from base64 import b64encode

    return b64encode(material).decode()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as exc:
        exits.end(exits.Exit.MISUSED, f"{printable(str(path))} cannot be read: {exc.strerror}")


def _loaded(path: Path) -> dict[str, Any]:
    """Return a verifier's file as it stands, once it was found to be in order."""
    from wallet_schemas.keys import read_verifying_keys

    text = _text(path)
    read_verifying_keys(text)
    found: dict[str, Any] = json.loads(text)
    return found


def _write_new(path: Path, document: Mapping[str, Any]) -> None:
    """Write a file that was not there, for its owner alone; a key is never written over."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as exc:
        exits.end(exits.Exit.MISUSED, f"{printable(str(path))} cannot be made: {exc.strerror}")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(document, file)
        file.write("\n")


def _replace(path: Path, document: Mapping[str, Any]) -> None:
    """Write a file whole, in the place of what was there: whoever reads it meanwhile reads one or the other."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    Path(name).replace(path)
