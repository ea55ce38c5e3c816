"""Who may sign in: a file of names, roles and argon2 hashes, written by `wallet console user`.

The file is read again when it changes, so that a removed person is out with the next click. Names are lower case:
two spellings of one name would be two people to the rule that a second person approves.
"""

import fcntl
import json
import os
import re
import tempfile
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import structlog
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from wallet_worker.passwords import is_guessable
from wallet_worker.settings.operators import Role

PASSWORD_CHARACTERS_MIN = (
    12  # length is what counts; rules of composition only make people write it down (NIST 800-63B)
)
PASSWORD_BYTES_MAX = 1_024  # a longer one is an attack on the hashing
_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
_HASHER = PasswordHasher()  # argon2id with the library's profile, that of RFC 9106 for little memory


log = structlog.get_logger(__name__)


class UsersError(Exception):
    """The file, or what is asked of it, is wrong; the text is a sentence for a person."""


@dataclass(frozen=True, slots=True)
class User:
    """One person. `hash` is argon2's own text, parameters and salt included."""

    name: str
    role: Role
    hash: str
    added_at: datetime

    def knows(self, password: str) -> bool:
        """Return whether this is the password. Takes some 50 ms of a processor and 64 MiB, on purpose."""
        try:
            return _HASHER.verify(self.hash, _normalised(password))
        except (VerificationError, InvalidHashError):
            return False


DUMMY_USER = User("nobody", Role.VIEWER, _HASHER.hash(os.urandom(16)), datetime.now(UTC))
"""Whom a wrong name is checked against, so that it takes as long as a wrong password. Nobody knows the password."""


@dataclass(frozen=True, slots=True)
class Users:
    """Everybody in a file. A change is a new value, written with `change`."""

    by_name: Mapping[str, User]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return who is in the file; nobody, if there is none. Raises UsersError."""
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return cls({})
        except (OSError, UnicodeDecodeError) as exc:
            msg = f"the users file {path} cannot be read: {exc}"
            raise UsersError(msg) from exc
        try:
            users = [_user(entry) for entry in json.loads(text)["users"]]
        except (ValueError, LookupError, TypeError, AttributeError) as exc:
            msg = f"the users file {path} is not as `wallet console user` writes it"
            raise UsersError(msg) from exc
        return cls({user.name: user for user in users})

    def get(self, name: str) -> User | None:
        """Return the person of this name, however it is capitalised."""
        return self.by_name.get(name.strip().lower())

    def added(self, name: str, role: Role, password: str) -> Self:
        """Return them with one more; raises UsersError."""
        name = name.strip().lower()
        if not _NAME.fullmatch(name):
            msg = "a name is 1 to 64 of a-z 0-9 . _ @ - and begins with a letter or a digit"
            raise UsersError(msg)
        if name in self.by_name:
            msg = f"{name} is there already; `wallet console user passwd {name}` gives a new password"
            raise UsersError(msg)
        return self._with(User(name, role, _hashed(name, password), datetime.now(UTC)))

    def with_password(self, name: str, password: str) -> Self:
        """Return them with a new password for one; raises UsersError."""
        user = self._existing(name)
        return self._with(replace(user, hash=_hashed(user.name, password)))

    def with_role(self, name: str, role: Role) -> Self:
        """Return them with another role for one; raises UsersError."""
        return self._with(replace(self._existing(name), role=role))

    def changes_to(self, after: "Users") -> list[dict[str, str]]:
        """Return what is otherwise in the users after, for a log: who and what, and never a password or its hash."""
        found: list[dict[str, str]] = []
        for name in sorted(self.by_name.keys() | after.by_name.keys()):
            old, new = self.by_name.get(name), after.by_name.get(name)
            if new is None:
                found.append({"user": name, "change": "removed"})
            elif old is None:
                found.append({"user": name, "change": "added", "role": new.role.name.lower()})
            else:
                if old.role is not new.role:
                    found.append({"user": name, "change": "role", "role": new.role.name.lower()})
                if old.hash != new.hash:
                    found.append({"user": name, "change": "password"})
        return found

    def removed(self, name: str) -> Self:
        """Return them without one; raises UsersError."""
        gone = self._existing(name)
        return type(self)({user.name: user for user in self.by_name.values() if user is not gone})

    def _existing(self, name: str) -> User:
        user = self.get(name)
        if user is None:
            msg = f"there is no {name.strip().lower()} in the users file"
            raise UsersError(msg)
        return user

    def _with(self, user: User) -> Self:
        return type(self)({**self.by_name, user.name: user})


def change(path: Path, make: Callable[[Users], Users]) -> list[dict[str, str]]:
    """Write to the file what `make` returns of the users now, and return what changed. Two at once take turns.

    The file is replaced whole, readable by its owner only; a reader sees the old or the new one. Raises UsersError.
    """
    try:
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as exc:
        msg = f"the folder of the users file cannot be opened: {exc}"
        raise UsersError(msg) from exc
    try:
        fcntl.flock(
            folder, fcntl.LOCK_EX
        )  # of the folder: the file itself is replaced, and another lock file would stay
        before = Users.read(path)
        after = make(before)
        _write(path, after)
        return before.changes_to(after)
    finally:
        os.close(folder)


def _write(path: Path, users: Users) -> None:
    document = {
        "users": [
            {
                "name": user.name,
                "role": user.role.name.lower(),
                "hash": user.hash,
                "added_at": user.added_at.isoformat(),
            }
            for user in sorted(users.by_name.values(), key=lambda user: user.name)
        ]
    }
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:  # made with mode 0600
            json.dump(document, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(path)
    except OSError as exc:
        msg = f"the users file {path} cannot be written: {exc}"
        raise UsersError(msg) from exc


def _user(document: Any) -> User:
    name = str(document["name"])
    if not _NAME.fullmatch(name):
        raise ValueError(name)
    return User(
        name,
        Role[str(document["role"]).upper()],
        str(document["hash"]),
        datetime.fromisoformat(document["added_at"]),
    )


def _hashed(name: str, password: str) -> str:
    if len(password) < PASSWORD_CHARACTERS_MIN or password.lower() == name:
        msg = f"a password has at least {PASSWORD_CHARACTERS_MIN} characters, and is not the name"
        raise UsersError(msg)
    if len(password.encode()) > PASSWORD_BYTES_MAX:
        msg = f"a password has at most {PASSWORD_BYTES_MAX} bytes"
        raise UsersError(msg)
    if is_guessable(password, [name]):
        msg = "this password would be guessed soon: a few words that do not belong together are better"
        raise UsersError(msg)
    return _HASHER.hash(_normalised(password))


def _normalised(password: str) -> bytes:
    """Return the password as bytes that do not depend on how a keyboard makes its accents."""
    return unicodedata.normalize("NFKC", password).encode(errors="replace")[:PASSWORD_BYTES_MAX]


class UsersFile:
    """The users of a file as it is now, read again when it changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._users = Users({})

    def users(self) -> Users:
        """Return who may sign in; raises UsersError."""
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            self._now(None, Users({}))
            return self._users
        except OSError as exc:
            msg = f"the users file {self._path} cannot be read: {exc}"
            raise UsersError(msg) from exc
        seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if seen != self._seen:
            self._now(seen, Users.read(self._path))
        return self._users

    def _now(self, seen: tuple[int, int, int] | None, users: Users) -> None:
        """Replace the users, and log who changed; at the first look nobody has."""
        if self._seen is not None:
            for change in self._users.changes_to(users):
                log.info("console.user_changed", **change)
        self._seen, self._users = seen, users
