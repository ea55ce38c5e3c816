"""Who is signed in: sessions kept in this process, so that each can be ended at once; a restart ends all."""

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

SESSIONS_MAX = 1_000
SESSIONS_OF_ONE_MAX = 10  # forgotten browsers; the oldest goes


@dataclass(slots=True)
class Session:
    """One signed-in browser. `key` is the hash of what its cookie holds: memory that leaks signs nobody in."""

    key: str
    name: str
    password_hash: str
    """The hash that the password was checked against: a new password ends the session."""
    csrf: str
    began_at: float
    seen_at: float
    notices: list[tuple[str, str]] = field(default_factory=list)
    """What the next page says first, once: kind and sentence."""

    def fits(self, csrf: str) -> bool:
        """Return whether a form came from one of our pages in this session."""
        return hmac.compare_digest(self.csrf.encode(), csrf.encode(errors="replace"))


class Sessions:
    """All of them. They end after `idle_seconds` without a click, and after `whole_seconds` in any case."""

    def __init__(self, *, idle_seconds: float, whole_seconds: float, clock: Callable[[], float]) -> None:
        self._idle_seconds = idle_seconds
        self._whole_seconds = whole_seconds
        self._clock = clock
        self._sessions: dict[str, Session] = {}

    def begin(self, name: str, password_hash: str) -> str:
        """Return what the cookie of a new session holds."""
        self._forget_ended()
        mine = [session for session in self._sessions.values() if session.name == name]
        for session in mine[: max(0, len(mine) - SESSIONS_OF_ONE_MAX + 1)]:
            self.end(session)
        while len(self._sessions) >= SESSIONS_MAX:
            self.end(next(iter(self._sessions.values())))
        token, now = secrets.token_urlsafe(32), self._clock()
        key = _key(token)
        self._sessions[key] = Session(key, name, password_hash, secrets.token_urlsafe(32), now, now)
        return token

    def find(self, token: str, *, touch: bool) -> Session | None:
        """Return the session of a cookie, if it goes on; `touch`: a person did something, and it goes on for longer."""
        session = self._sessions.get(_key(token))
        if session is None:
            return None
        if self._has_ended(session):
            self.end(session)
            return None
        if touch:
            session.seen_at = self._clock()
        return session

    def end(self, session: Session) -> None:
        """Forget a session: its cookie is worth nothing from now on."""
        self._sessions.pop(session.key, None)

    def _has_ended(self, session: Session) -> bool:
        now = self._clock()
        return now - session.seen_at >= self._idle_seconds or now - session.began_at >= self._whole_seconds

    def _forget_ended(self) -> None:
        for session in [held for held in self._sessions.values() if self._has_ended(held)]:
            self.end(session)


def _key(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
