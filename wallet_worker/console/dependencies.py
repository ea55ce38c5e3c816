"""What the pages are made from, put together once."""

import asyncio
from dataclasses import dataclass, field

from jinja2 import Environment

from wallet_worker.console.queues import Queues
from wallet_worker.console.security.guard import Origin
from wallet_worker.console.security.login_throttle import Attempts
from wallet_worker.console.security.sessions import Sessions
from wallet_worker.console.security.users import UsersFile
from wallet_worker.dead_letters.operations import DeadLetterDesk
from wallet_worker.store.database import Database

HASHED_AT_ONCE_MAX = 2  # each takes 64 MiB and a processor: a flood of sign-ins waits, and does not end us


@dataclass(frozen=True, slots=True)
class ConsoleState:
    """One console. The databases may be away; pages say so, and ask again with the next click."""

    operations: DeadLetterDesk
    operating: Database
    """What the operations use."""
    reading: Database
    queues: Queues
    users: UsersFile
    sessions: Sessions
    attempts: Attempts
    origin: Origin
    templates: Environment
    form_key: bytes
    """Signs the forms of people who are not signed in yet; new with each start."""
    hashing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(HASHED_AT_ONCE_MAX))
