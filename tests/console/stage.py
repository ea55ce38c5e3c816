"""A console in this process, asked without a socket; no database and no broker are behind it."""

import html
import re
import secrets
from functools import partial
from pathlib import Path
from typing import Any

import httpx2

from tests.console.canned import Canned
from tests.words import assert_for_people
from wallet_worker.console import rendering
from wallet_worker.console.app import app
from wallet_worker.console.dependencies import ConsoleState
from wallet_worker.console.queues import Queues
from wallet_worker.console.security.guard import Origin
from wallet_worker.console.security.login_throttle import Attempts
from wallet_worker.console.security.sessions import Sessions
from wallet_worker.console.security.users import Users, UsersFile, change
from wallet_worker.dead_letters.operations import DeadLetterDesk
from wallet_worker.settings.operators import Role
from wallet_worker.store.database import READONLY_ROLE, Database

TEMPLATES = rendering.environment()  # compiled once
ADDRESS = "http://localhost:9310"
PASSWORDS = {"vera": "vera looks only", "ann": "ann does things", "bob": "bob is the second"}
ROLES = {"vera": Role.VIEWER, "ann": Role.OPERATOR, "bob": Role.APPROVER}
NOWHERE = Database("postgresql://nobody@127.0.0.1:1/none", role=READONLY_ROLE, application="test")


class Clock:
    """A time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        """Return it."""
        return self.now


def make_users(path: Path) -> None:
    """Write the file of the three people."""
    for name, password in PASSWORDS.items():
        change(path, partial(Users.added, name=name, role=ROLES[name], password=password))


class Stage:
    """A console and the browsers at it; its operations are canned, unless others are given."""

    def __init__(
        self,
        users: Path,
        *,
        origin: str | None = None,
        operations: DeadLetterDesk | None = None,
        reading: Database = NOWHERE,
        operating: Database = NOWHERE,
        amqp_url: str = "amqp://guest:guest@127.0.0.1:1/",
    ) -> None:
        self.clock = Clock()
        self.operations = Canned()
        self.address = origin or ADDRESS
        self.parts = ConsoleState(
            operations=operations or self.operations,
            operating=operating,
            reading=reading,
            queues=Queues(amqp_url, self.clock),
            users=UsersFile(users),
            sessions=Sessions(idle_seconds=1_800, whole_seconds=43_200, clock=self.clock),
            attempts=Attempts(self.clock),
            origin=Origin(origin),
            templates=TEMPLATES,
            form_key=secrets.token_bytes(32),
        )
        self._app = app(self.parts)

    def browser(self, address: str = "203.0.113.7") -> "Browser":
        """Return somebody's browser, at an address."""
        transport = httpx2.ASGITransport(self._app, client=(address, 4711), raise_app_exceptions=False)
        return Browser(httpx2.AsyncClient(transport=transport, base_url=self.address), self.address)


class Browser:
    """A browser: it keeps cookies, and says where a form came from."""

    def __init__(self, client: httpx2.AsyncClient, address: str) -> None:
        self.client = client
        self._origin = address

    async def get(self, path: str, **more: Any) -> httpx2.Response:
        """Open an address."""
        return _for_people(await self.client.get(path, **more))

    async def post(
        self,
        path: str,
        form: dict[str, str] | None = None,
        *,
        csrf: str | None = "from the page",
        **more: Any,
    ) -> httpx2.Response:
        """Send a form, by default with the token of a page of this session."""
        answer = dict(form or {})
        if csrf == "from the page":
            csrf = csrf_of((await self.get("/plans")).text)
        if csrf is not None:
            answer["csrf"] = csrf
        headers = more.pop("headers", {"origin": self._origin, "sec-fetch-site": "same-origin"})
        return _for_people(await self.client.post(path, data=answer, headers=headers, **more))

    async def sign_in(
        self, name: str, password: str | None = None, target: str = "/", **more: Any
    ) -> httpx2.Response:
        """Fill in the form of the sign-in page."""
        page = await self.get("/sign-in")
        form = {
            "name": name,
            "password": PASSWORDS.get(name, "") if password is None else password,
            "next": target,
        }
        return await self.post("/sign-in", form, csrf=csrf_of(page.text), **more)


def _for_people(answer: httpx2.Response) -> httpx2.Response:
    """Return an answer; a page has no word for programmers in it, but in what it shows of others' messages."""
    if answer.headers.get("content-type", "").startswith("text/html"):
        assert_for_people(html.unescape(_OF_OTHERS.sub("", answer.text)))
    return answer


_OF_OTHERS = re.compile(r"<(pre|textarea|script|style)\b.*?</\1>", re.DOTALL)


def csrf_of(page: str) -> str:
    """Return the token in a page's forms."""
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found is not None, "the page has no form"
    return found[1]
