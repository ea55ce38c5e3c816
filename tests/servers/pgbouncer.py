"""PgBouncer before a PostgreSQL server, as deployments put it there; installed where it is missing.

python -m tests.servers.pgbouncer
"""

import os
import pwd
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from typing_extensions import override

from tests.servers.install import InstallFailed, install_with_apt, run
from tests.servers.private import Folder, Program
from tests.servers.server import Say, ServersUnavailable, _answers

SERVICE = "pgbouncer"
PLACES = ("/usr/sbin/pgbouncer", "/opt/homebrew/bin/pgbouncer", "/usr/local/bin/pgbouncer")


def find() -> str:
    """Return the path of the program. Raises ServersUnavailable."""
    named = os.environ.get("WALLET_PGBOUNCER") or shutil.which("pgbouncer")
    for place in [named] if named else PLACES:
        if Path(place).exists():
            return place
    raise ServersUnavailable("no pgbouncer on this machine: `make servers` installs it")


def ensure_available(*, say: Say) -> None:
    """PgBouncer is there, and no service of it runs that was not there before. Raises InstallFailed."""
    try:
        find()
    except ServersUnavailable:
        pass
    else:
        return
    if shutil.which("apt-get"):
        before = install_with_apt("pgbouncer", say=say)
        for stop in (["service", SERVICE, "stop"], ["update-rc.d", SERVICE, "disable"]):
            subprocess.run([*before, *stop], check=False, capture_output=True)
    elif shutil.which("brew"):
        say("installing pgbouncer with brew")
        run(["brew", "install", "pgbouncer"])
    try:
        find()
    except ServersUnavailable as why:
        raise InstallFailed("install PgBouncer, or name it in WALLET_PGBOUNCER") from why


class PgBouncer(Program):
    """A pooler before one server. `settings` go before those that stand here."""

    def __init__(self, folder: Folder, *, server_url: str, port: int, settings: dict[str, str]) -> None:
        super().__init__(folder, name=f"pgbouncer-{port}")
        self._port = port
        self._program = find()
        self._server = urlsplit(server_url)
        self.url = urlunsplit(
            self._server._replace(netloc=f"{self._server.netloc.rpartition('@')[0]}@127.0.0.1:{port}")
        )
        users = self._folder / "users"
        users.touch(mode=0o600)
        users.write_text(f'"{self._server.username}" "{unquote(self._server.password or "")}"\n')
        configured = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(port),
            "unix_socket_dir": "",
            "auth_type": "plain",
            "auth_file": str(users),
            "logfile": "",
            "server_round_robin": "1",  # each transaction on another connection, as under load
            **settings,
        }
        path = self._folder / "pgbouncer.ini"
        path.write_text(
            f"[databases]\n* = host={self._server.hostname} port={self._server.port}\n[pgbouncer]\n"
            + "".join(f"{name} = {value}\n" for name, value in configured.items())
        )
        if os.geteuid() == 0:  # it refuses to be root
            account = pwd.getpwnam("nobody")
            self._user, self._group = account.pw_uid, account.pw_gid
            for owned in (self._folder, users, path):
                os.chown(owned, self._user, self._group)

    @override
    def _command(self) -> list[str]:
        return [self._program, str(self._folder / "pgbouncer.ini")]

    @override
    def _environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith("PG")}

    @override
    def _answers(self) -> bool:
        body = b"\x00\x03\x00\x00" + b"user\x00postgres\x00database\x00postgres\x00\x00"
        return _answers("127.0.0.1", self._port, (len(body) + 4).to_bytes(4, "big") + body)

    @override
    def _stop_signal(self) -> signal.Signals:
        return signal.SIGINT


if __name__ == "__main__":
    try:
        ensure_available(say=lambda text: print(f"servers: {text}", file=sys.stderr, flush=True))
    except InstallFailed as why:
        sys.exit(f"servers: {why}")
