"""`wallet operators`: who may do what, and the keys with which they sign. Only the database's owner changes them."""

import hashlib
import os
import pwd
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple, TypeVar

import typer

from wallet_worker.cli import environment, operator_keys, terminal
from wallet_worker.cli.api import with_database
from wallet_worker.cli.exits import Exit, end
from wallet_worker.cli.options import Json
from wallet_worker.core.proofs import (
    NotProvenError,
    OperatorKey,
    ProofPurpose,
    SignedStatement,
    read_public,
    verify,
)
from wallet_worker.settings.operators import NAME, Role
from wallet_worker.text import printable, readable, without_nul

if TYPE_CHECKING:
    import asyncpg

    from wallet_worker.store.operators import Voucher

app = typer.Typer(
    no_args_is_help=True,
    help="Manage the people who operate the wallet, their roles and their keys. Changes need WALLET_DATABASE_URL to be "
    "the database's owner.",
)
key_app = typer.Typer(no_args_is_help=True, help="Make an operator's key, and add or revoke keys.")
app.add_typer(key_app, name="key")

T = TypeVar("T")
SUBJECT: Final = "operator"
VOUCHERS_FROM: Final = 2
"""With so many approvers who have keys, another approver vouches for each further one."""


class RoleName(StrEnum):
    """What somebody may do; each may all that stands before it."""

    viewer = "viewer"
    """Looks; personal data is masked."""
    operator = "operator"
    """Plans and executes."""
    approver = "approver"
    """Approves, as the second person, what somebody else has planned."""
    controller = "controller"
    """Approves also an edit that is about somebody or something else than its letter."""


class Change(NamedTuple):
    """A change of who may do what."""

    action: str
    name: str
    detail: str


Name = Annotated[str, typer.Argument(metavar="NAME", help="The person's name, in small letters.")]
Why = Annotated[str, typer.Option("--why", metavar="TEXT", help="Reason, kept in the log.")]
VouchKey = Annotated[
    Path | None,
    typer.Option(
        "--voucher",
        metavar="FILE",
        help="The key of another approver, who vouches for this. Needed once there are two.",
    ),
]
FromStdin = Annotated[
    bool, typer.Option("--passphrase-stdin", help="Read the key's passphrase from standard input.")
]
_WHY_MAX = 1_000


@app.command()
def add(
    name: Name,
    *,
    role: Annotated[RoleName, typer.Option(help="What the person may do.")],
    why: Why,
    voucher: VouchKey = None,
    passphrase_stdin: FromStdin = False,
) -> None:
    """Add a person, or give a revoked person a role again.

    Once two approvers have keys, an approver or controller is added only with another approver's key (--voucher).

    Example: wallet operators add bob --role approver --why "joined the payments team"
    """
    from wallet_worker.store import operators

    name = _checked(name)

    async def write(connection: "asyncpg.Connection") -> None:
        there = await operators.by_name(connection, name)
        if there is not None and there.revoked_at is None:
            end(Exit.FOUND, f"{name} is there already, as {there.role}: `wallet operators role` changes that")
        if there is None:
            await operators.add(connection, name, role.value)
        else:
            await operators.set_role(connection, name, role.value)

    _change(
        Change("add", name, role.value),
        write,
        why,
        voucher,
        needs_voucher=role in {RoleName.approver, RoleName.controller},
        from_stdin=passphrase_stdin,
    )
    terminal.print_result(f"{name} is {role.value} now")


@app.command(name="role")
def set_role(
    name: Name,
    role: Annotated[RoleName, typer.Argument(metavar="ROLE", help="What the person may do from now on.")],
    *,
    why: Why,
    voucher: VouchKey = None,
    passphrase_stdin: FromStdin = False,
) -> None:
    """Change a person's role. Holds at once, for what they have approved and nobody has executed too.

    Example: wallet operators role ann approver --why "second shift"
    """
    from wallet_worker.store import operators

    name = _checked(name)

    async def write(connection: "asyncpg.Connection") -> None:
        there = await operators.by_name(connection, name)
        if there is None or there.revoked_at is not None:
            end(Exit.FOUND, f"there is no operator {name}: `wallet operators add`")
        await operators.set_role(connection, name, role.value)

    _change(
        Change("role", name, role.value),
        write,
        why,
        voucher,
        needs_voucher=role in {RoleName.approver, RoleName.controller},
        from_stdin=passphrase_stdin,
    )
    terminal.print_result(f"{name} is {role.value} now")


@app.command()
def revoke(name: Name, *, why: Why) -> None:
    """Revoke a person and all their keys. What they have signed and nobody has executed is not executed any more.

    Example: wallet operators revoke ann --why "left the company"
    """
    from wallet_worker.store import operators

    name = _checked(name)

    async def write(connection: "asyncpg.Connection") -> None:
        if not await operators.revoke(connection, name):
            end(Exit.FOUND, f"there is no operator {name} to revoke")
        for row in await operators.keys_of(connection, name):
            await operators.revoke_key(connection, row.key.key_id)

    _change(Change("revoke", name, ""), write, why, None, needs_voucher=False, from_stdin=False)
    terminal.print_result(f"{name} may do nothing any more")


@app.command(name="list")
def list_operators(*, as_json: Json = None) -> None:
    """List people with role and keys, revoked ones too.

    Example: wallet operators list
    """
    from wallet_worker.store import operators

    async def read(connection: "asyncpg.Connection") -> list[dict[str, Any]]:
        keys = await operators.all_keys(connection)
        return [
            {
                "name": row.name,
                "role": row.role,
                "added_at": _moment(row.added_at),
                "revoked_at": _moment(row.revoked_at) if row.revoked_at else None,
                "keys": [
                    {
                        "key_id": item.key.key_id,
                        "algorithm": item.key.algorithm.value,
                        "revoked": item.is_revoked,
                        "added_at": _moment(item.added_at),
                    }
                    for item in keys
                    if item.key.name == row.name
                ],
            }
            for row in await operators.every(connection)
        ]

    found = with_database(read)
    if terminal.wants_json(as_json):
        terminal.print_json({"operators": found})
        return
    terminal.print_table(
        "operators",
        ("name", "role", "keys", "added", "revoked"),
        [
            (
                row["name"],
                row["role"],
                ", ".join(
                    f"{key['key_id']} ({'passkey' if key['algorithm'] == 'webauthn' else 'file'}"
                    f"{', revoked' if key['revoked'] else ''})"
                    for key in row["keys"]
                ),
                row["added_at"],
                row["revoked_at"] or "",
            )
            for row in found
        ],
    )


@app.command()
def log(
    *,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Lines to show.")] = 100,
    as_json: Json = None,
) -> None:
    """Show who changed whom, newest first: the database's login, and whoever vouched for it.

    Example: wallet operators log
    """
    from wallet_worker.store import operators

    rows = with_database(lambda connection: operators.log(connection, limit))
    if terminal.wants_json(as_json):
        terminal.print_json(
            {
                "log": [
                    {
                        **{name: value for name, value in row._asdict().items() if name != "proof"},
                        "at": _moment(row.at),
                        "signed_at": _moment(row.signed_at) if row.signed_at else None,
                    }
                    for row in rows
                ]
            }
        )
        return
    terminal.print_table(
        "changes of operators",
        ("at", "login", "via", "change", "vouched by", "why"),
        [
            (
                _moment(row.at),
                row.login,
                row.via,
                f"{row.action} {row.name} {row.detail}".strip(),
                row.vouched_by or "",
                row.reason,
            )
            for row in rows
        ],
    )


@key_app.command(name="make")
def make_key(
    name: Name,
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file to create, readable by its owner only.")
    ],
    passphrase_stdin: FromStdin = False,
) -> None:
    """Create your own key on your own machine, and print its public half. Asks twice for a passphrase.

    Send the public half to whoever manages operators. The file stays with you.

    Example: wallet operators key make bob -o new.key
    """
    terminal.print_result(operator_keys.make(output, _checked(name), from_stdin=passphrase_stdin))


@key_app.command(name="add")
def add_key(
    name: Name,
    public: Annotated[
        str,
        typer.Argument(
            metavar="PUBLIC", help="The public half, as `key make` or the console's page of keys shows it."
        ),
    ],
    *,
    why: Why,
    voucher: VouchKey = None,
    passphrase_stdin: FromStdin = False,
) -> None:
    """Add the public half of a person's key. Compare it with the person, by voice, before you do.

    Example: wallet operators key add bob ed25519:6mqXzpVIdOX3BPcyQ1qz38kgcMZIkrqZwYRQy5iKWDo= --why "bob's laptop"
    """
    from wallet_worker.store import operators

    name = _checked(name)
    key = _key_of(name, public)

    async def write(connection: "asyncpg.Connection") -> None:
        there = await operators.by_name(connection, name)
        if there is None or there.revoked_at is not None:
            end(Exit.FOUND, f"there is no operator {name}: `wallet operators add`")
        for row in await operators.all_keys(connection):
            if row.key.public_key == key.public_key:
                end(Exit.FOUND, f"the key is {row.key.name}'s already: one key is one person")
        await operators.add_key(connection, key)

    _change(
        Change("key add", name, key.key_id),
        write,
        why,
        voucher,
        needs_voucher=True,
        from_stdin=passphrase_stdin,
    )
    terminal.print_result(f"the key {key.key_id} is {name}'s now")


@key_app.command(name="revoke")
def revoke_key(
    key_id: Annotated[
        str, typer.Argument(metavar="KEY_ID", help="The key's id, as `wallet operators list` shows it.")
    ],
    *,
    why: Why,
) -> None:
    """Revoke a key. What it has signed and nobody has executed is not executed any more.

    Example: wallet operators key revoke 5ad3c1f00c9a1e77 --why "laptop lost"
    """
    from wallet_worker.store import operators

    whose = with_database(lambda connection: operators.keys(connection, [key_id])).get(key_id)
    if whose is None or whose.is_revoked:
        end(Exit.FOUND, f"there is no key {printable(key_id)[:64]} to revoke")

    async def write(connection: "asyncpg.Connection") -> None:
        await operators.revoke_key(connection, key_id)

    _change(
        Change("key revoke", whose.key.name, key_id), write, why, None, needs_voucher=False, from_stdin=False
    )
    terminal.print_result(f"nothing that the key {key_id} signs is believed any more")


def _key_of(name: str, public: str) -> OperatorKey:
    """Return the key that a text says, or end the command."""
    try:
        key = read_public(name, public)
    except ValueError:
        end(
            Exit.MISUSED,
            f"{printable(public)[:80]} is no public half of a key: copy it whole from `wallet operators key make` or "
            "from the console's page of keys",
        )
    return key


def _change(
    change: Change,
    write: "Callable[[asyncpg.Connection], Awaitable[None]]",
    why: str,
    voucher: Path | None,
    *,
    needs_voucher: bool,
    from_stdin: bool,
) -> None:
    """Make a change and its line in the log, in one transaction, or end the command with the reason why not."""
    from wallet_worker.store import operators

    deployment = environment.deployment_name()
    why = without_nul(readable(why)).strip()
    if not why or len(why) > _WHY_MAX:
        end(Exit.MISUSED, f"say why, in 1 to {_WHY_MAX:,} characters")
    signed = None if voucher is None else _vouched(voucher, change, deployment, from_stdin=from_stdin)

    async def run(connection: "asyncpg.Connection") -> None:
        await operators.take_turn(connection)
        keys = await operators.all_keys(connection)
        approvers = {
            row.key.name for row in keys if not row.is_revoked and Role[row.role.upper()] >= Role.APPROVER
        }
        if signed is not None:
            statement, row = signed
            key = next((item for item in keys if item.key.key_id == row.key_id), None)
            if key is None or key.is_revoked or key.key.name not in approvers or key.key.name == change.name:
                end(Exit.FOUND, f"the key {row.key_id} is not that of another approver, who could vouch")
            try:
                verify(key.key, statement, row.proof)
            except NotProvenError as exc:
                end(Exit.FOUND, str(exc))
        elif needs_voucher and len(approvers) >= VOUCHERS_FROM:
            end(
                Exit.FOUND,
                f"there are approvers with keys ({', '.join(sorted(approvers))}): one of them other than "
                f"{change.name} vouches for this, with --voucher FILE",
            )
        await write(connection)
        await operators.note(
            connection,
            via=f"cli, {_login()}",
            action=change.action,
            name=change.name,
            detail=change.detail,
            reason=why,
            voucher=None if signed is None else signed[1],
        )

    with_database(run, ask_again="`wallet operators log` says so")


def _vouched(
    path: Path, change: Change, environment_name: str, *, from_stdin: bool
) -> "tuple[SignedStatement, Voucher]":
    """Return what another approver signs for a change, and the signature."""
    from wallet_worker.store.operators import Voucher

    key = operator_keys.opened(path, from_stdin=from_stdin)
    at = datetime.now(UTC).replace(microsecond=0)
    digest = hashlib.sha256(f"{change.action}\n{change.detail}".encode()).digest()
    statement = SignedStatement(
        SUBJECT, environment_name, ProofPurpose.VOUCHER, change.name, digest, key.name, at
    )
    return statement, Voucher(key.name, key.key_id, at, key.sign(statement.text))


def _checked(name: str) -> str:
    if not NAME.fullmatch(name):
        end(
            Exit.MISUSED,
            f"{printable(name)[:64]} is no name: small letters a to z, digits and ._@-, 64 at most, "
            "a letter or digit first",
        )
    return name


def _login() -> str:
    """Return whose process this is, as the system has it: what the environment says, anybody can write."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid{os.getuid()}"


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
