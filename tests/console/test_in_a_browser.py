"""The console from end to end: a real browser, a real wallet, and people who do their work."""

import json
import re
import shlex
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.cli.terminal import wallet as run_wallet
from tests.console import chromium
from tests.console.process import a_console
from tests.console.stage import PASSWORDS
from tests.dead_letters.conftest import OTTO, Wallet
from tests.journeys.messages import fresh, recharge
from tests.workers import until
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.plans import ReplayPace
from wallet_worker.dead_letters.model.states import Action

Scheme = Literal["light", "dark"]
WIDE, NARROW = (1360, 860), (390, 800)
TABS_MAX = 120
WEBHOOK = """
WITH endpoint AS (
    INSERT INTO webhook_endpoints (client, name, url, kinds, users, state, why, created_at, created_by, updated_at)
    VALUES ('shop', 'orders', 'https://shop.example/wallet', '{order.*,account.opened}', 'shop7:', 'disabled',
            'nothing has arrived there for 5 days', now(), 'ann', now())
    RETURNING endpoint_id
)
INSERT INTO webhook_deliveries (endpoint_id, event_id, kind, body, state, attempts, next_at, attempted_at, status,
                                answer, created_at)
SELECT endpoint_id, '019b7d4c-7001-7d10-8a3b-0f6f5b1c2d3e', 'order.pending', '{}', 'waiting', 3,
       now() + interval '1 hour', now(), 500, 'an answer that is rather long, with no end to it and no sense', now()
FROM endpoint
"""


@dataclass
class Place:
    """A wallet with a console, and a browser at it."""

    wallet: Wallet
    address: str
    browser: Browser
    faults: list[str] = field(default_factory=list)
    """What the browsers complained of: a policy that was broken, a script that failed."""

    @asynccontextmanager
    async def person(
        self,
        name: str,
        *,
        scheme: Scheme = "light",
        size: tuple[int, int] = WIDE,
        script: bool = True,
        is_checked: bool = False,
    ) -> AsyncIterator[Page]:
        """Give the page of somebody who has signed in; `is_checked`: axe is put into it, which the policy forbids."""
        context = await self.browser.new_context(
            base_url=self.address,
            color_scheme=scheme,
            viewport={"width": size[0], "height": size[1]},
            java_script_enabled=script,
            bypass_csp=is_checked,
        )
        page = await context.new_page()
        page.on("console", lambda value: self.faults.append(value.text) if value.type == "error" else None)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        await page.goto("/sign-in")
        await page.get_by_label("Name").fill(name)
        await page.get_by_label("Password").fill(PASSWORDS[name])
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
        yield page
        await context.close()

    async def with_passkey(self, page: Page, name: str, role: str) -> None:
        """Give somebody a device with a passkey, and have the database know them and it."""
        devices = await page.context.new_cdp_session(page)
        await devices.send("WebAuthn.enable")
        device = {"protocol": "ctap2", "transport": "internal", "hasResidentKey": True}
        seen = {"hasUserVerification": True, "isUserVerified": True, "automaticPresenceSimulation": True}
        await devices.send("WebAuthn.addVirtualAuthenticator", {"options": device | seen})
        await page.goto("/keys")
        await expect(page.locator("main")).to_contain_text("None. You can plan and look")
        await page.get_by_role("button", name="Make a passkey").click()
        command = shlex.split(
            await page.get_by_label("Your new passkey is not known yet").locator("pre").inner_text()
        )
        url = self.wallet.workers.environment["WALLET_DATABASE_URL"]
        for words in (
            ["wallet", "operators", "add", name, "--role", role, "--why", "a test"],
            command,
        ):
            ended = await run_wallet(*words[1:], WALLET_DATABASE_URL=url)
            assert ended.status == 0, ended.err
        await page.goto("/keys")
        await expect(page.get_by_role("row").filter(has_text="Passkey")).to_contain_text("in use")
        await page.goto("/")

    def asked_for(self, status: int) -> None:
        """Forget the one line with which a browser notes an answer that a test wanted, and nothing else."""
        (noted,) = (fault for fault in self.faults if f"responded with a status of {status}" in fault)
        self.faults.remove(noted)


@pytest.fixture
async def place(wallet: Wallet, users: Path) -> AsyncIterator[Place]:
    """Give a wallet with a worker and a console where two letters are as many as one person may replay."""
    async with AsyncExitStack() as stack:
        await wallet.start()
        address = await stack.enter_async_context(
            a_console(wallet.workers.environment, users, WALLET_DLQ_SINGLE_PERSON_MAX="2")
        )
        address = address.replace("127.0.0.1", "localhost")  # passkeys belong to names
        playwright = await stack.enter_async_context(async_playwright())
        browser = await playwright.chromium.launch(executable_path=chromium.find())
        stack.push_async_callback(browser.close)
        place = Place(wallet, address, browser)
        yield place
        assert place.faults == []


async def wrong_amount(wallet: Wallet) -> tuple[str, int]:
    """Return an order whose result came with a wrong amount, and the letter that the result became."""
    user = await wallet.upstream.opened()
    order = recharge(user)
    await wallet.upstream.outcome(order)
    serial_no = str(order["serial_no"])
    await wallet.upstream.result(
        {
            "type": "payment.result.v1",
            "payment_order_no": serial_no,
            "amount": "1.00",
            "currency": order["currency"],
            "status": "succeeded",
            "gateway_ref": f"GW-{serial_no}"[:64],
            "occurred_at": "2026-01-02T03:04:05Z",
        }
    )
    return serial_no, await wallet.until_letter(serial_no)


async def test_the_letter_of_a_wrong_amount_is_found_understood_and_closed(place: Place) -> None:
    serial_no, letter_id = await wrong_amount(place.wallet)

    async with place.person("ann") as page:
        await page.get_by_role("link", name="AMOUNT_MISMATCH").click()
        await page.get_by_role("link", name=f"#{letter_id}").click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("waiting")
        now = page.get_by_role("region", name="A replay now")
        await expect(now).to_contain_text("would be a dead letter again (AMOUNT_MISMATCH)")
        await expect(page.get_by_role("region", name="What this means")).to_contain_text("What is safe")
        await expect(page.get_by_role("region", name="What it is about")).to_contain_text("pending")

        await now.get_by_role("link", name="Discard…").click()
        await page.get_by_label("Why").fill("the gateway has sent a corrected one, ticket 4711")
        await page.get_by_role("button", name="Make the plan for 1 letter").click()
        await expect(page.get_by_role("region", name="Execute it")).to_contain_text("Discard 1 letter")
        await page.get_by_role("button", name="Discard 1 letter now").click()
        await expect(page.get_by_role("status").first).to_contain_text("1 letter discarded")

        await page.goto(f"/letters/{letter_id}")
        await expect(page.get_by_role("heading", level=1)).to_contain_text("discarded")
        await page.get_by_role("link", name="Audit").first.click()
        line = page.get_by_role("row").filter(has_text="ticket 4711").filter(has_text=f"#{letter_id}").first
        await expect(line).to_contain_text("ann")
        await expect(line).to_contain_text("operator, console")

        await page.get_by_role("searchbox").fill(serial_no)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_have_text(serial_no)
        life = page.get_by_role("region", name="Timeline")
        await expect(life).to_contain_text("order.recharge.v1 was applied")
        await expect(life).to_contain_text("A dead letter arrived: AMOUNT_MISMATCH")
    assert await place.wallet.state(letter_id) == "discarded"


async def test_letters_are_replayed_and_seen_to_be_resolved_while_one_looks(place: Place) -> None:
    user = await place.wallet.upstream.opened()
    ids = await place.wallet.set_aside(recharge(user), recharge(user))

    async with place.person("ann") as page:
        await page.goto(f"/letters/{ids[0]}")
        await expect(page.get_by_role("region", name="A replay now")).to_contain_text("will apply")
        await page.goto("/letters?states=waiting")
        await page.get_by_role("checkbox", name="Pick every letter").check()
        await page.get_by_role("button", name="Plan a replay…").click()
        await page.get_by_label("Why").fill("the fault is mended")
        await page.get_by_label("At most").fill("0.3")
        await page.get_by_role("button", name="Make the plan for 2 letters").click()
        await expect(page.get_by_role("table")).to_contain_text("will apply")
        await page.get_by_role("button", name="Replay 2 letters now").click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("running")
        # Nobody reloads: the page refreshes itself.
        await expect(page.get_by_role("heading", level=1)).to_contain_text("done", timeout=30_000)
        await page.get_by_role("link", name="every line since it was executed").click()
        await expect(page.get_by_role("row").filter(has_text="the fault is mended").first).to_contain_text(
            "ann"
        )
        await page.goto(f"/letters/{ids[0]}")
        await expect(page.get_by_role("heading", level=1)).to_contain_text("resolved")

        await page.get_by_role("region", name="What it is about").get_by_role("link", name=user).click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text(user)


async def test_everything_but_live_refresh_works_without_script(place: Place) -> None:
    order = recharge(await place.wallet.upstream.opened())
    (letter_id,) = await place.wallet.set_aside(order)

    async with place.person("ann", script=False) as page:
        await page.goto("/letters?states=waiting")
        await page.get_by_role("checkbox", name=f"Pick letter {letter_id}").check()
        await page.get_by_role("button", name="Plan a replay…").click()
        await page.get_by_label("Why").fill("no script")
        await page.get_by_role("button", name="Make the plan").click()
        await page.get_by_role("button", name="Replay 1 letter now").click()
        operation_id = UUID(page.url.rpartition("/")[2])
        await place.wallet.until_operation(operation_id, "done")
        await page.reload()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("done")
        await page.get_by_role("button", name="Dark").click()
        assert await page.locator("html").get_attribute("data-theme") == "dark"


@pytest.mark.need(13)
async def test_a_viewer_looks_and_may_not_act(place: Place) -> None:
    user = await place.wallet.upstream.opened()
    (letter_id,) = await place.wallet.set_aside(recharge(user))

    async with place.person("vera") as page:
        await page.goto(f"/letters/{letter_id}")
        await expect(page.locator("main")).to_contain_text("an operator can plan what is done with it")
        await expect(page.get_by_role("link", name=re.compile("Plan a replay"))).to_have_count(0)
        assert user not in await page.content()
        answer = await page.goto("/plans/new?action=replay&ids=1")
        assert answer is not None
        assert answer.status == 403
        await expect(page.get_by_role("heading", level=1)).to_have_text("You may not do this")
        place.asked_for(403)
    assert await place.wallet.state(letter_id) == "waiting"


@pytest.mark.need(13)
async def test_a_second_person_approves_what_one_may_not_do_alone(place: Place) -> None:
    user = await place.wallet.upstream.opened()
    ids = await place.wallet.set_aside(*(recharge(user) for _ in range(3)))

    async with place.person("ann") as ann, place.person("bob") as bob:
        await place.with_passkey(ann, "ann", "operator")
        await place.with_passkey(bob, "bob", "approver")
        await ann.goto("/letters?states=waiting")
        await ann.get_by_role("link", name="Plan a replay of all…").click()
        await expect(ann.locator("main")).to_contain_text("need a second person")
        await ann.get_by_label("Why").fill("the fault is mended")
        await ann.get_by_role("button", name="Make the plan for 3 letters").click()
        await bob.goto(ann.url)
        await expect(bob.locator("main")).to_contain_text("ann signs it first")
        await bob.goto("/")
        await ann.get_by_role("button", name="Sign with your passkey").click()
        await expect(ann.locator("main")).to_contain_text("somebody else has to agree")
        await expect(ann.get_by_role("button", name=re.compile("now$"))).to_have_count(0)

        await bob.get_by_role("link", name="Plans").click()
        await bob.get_by_role("link", name="Replay 3 letters").click()
        await bob.get_by_label("What you have checked").fill("looked at all three")
        await bob.get_by_role("button", name="Approve: replay 3 letters").click()
        await expect(bob.get_by_role("status").first).to_contain_text("You have approved it")

        await ann.reload()
        await ann.get_by_role("button", name="Replay 3 letters now").click()
        await expect(ann.get_by_role("heading", level=1)).to_contain_text("Replay 3 letters")
        await expect(ann.locator("main")).to_contain_text("approved by bob")
    for letter_id in ids:
        await place.wallet.until_state(letter_id, "resolved")


@pytest.mark.need(11)
async def test_a_malformed_command_is_sent_anew_once_somebody_else_agrees(place: Place) -> None:
    user = await place.wallet.upstream.opened()
    spoilt = recharge(user, "100.000")
    await place.wallet.upstream.publish("wallet.commands", spoilt, routing_key="order.recharge")
    letter_id = await place.wallet.until_letter(str(spoilt["serial_no"]))
    serial_no = fresh("mended")

    async with place.person("ann") as ann, place.person("bob") as bob:
        await place.with_passkey(ann, "ann", "operator")
        await place.with_passkey(bob, "bob", "approver")
        await ann.goto(f"/letters/{letter_id}")
        await ann.get_by_role("link", name="Edit as a new message…").click()
        text = await ann.get_by_label("The message, as JSON").input_value()
        assert json.loads(text) == spoilt
        await ann.get_by_label("Why").fill("the sender agreed by telephone")
        await ann.get_by_role("button", name="Check it").click()
        await expect(ann.get_by_role("alert")).to_be_visible()
        place.asked_for(422)
        mended = {**spoilt, "amount": "100.00", "serial_no": serial_no}
        await ann.get_by_label("The message, as JSON").fill(json.dumps(mended, indent=2))
        await ann.get_by_role("button", name="Check it").click()
        changed = ann.get_by_role("row").filter(has_text="amount")
        await expect(changed.locator("del")).to_have_text("100.000")
        await expect(changed.locator("ins")).to_have_text("100.00")

        await ann.get_by_role("button", name="Sign with your passkey").click()
        await expect(ann.get_by_role("status").first).to_contain_text("You have signed it")

        await bob.goto(ann.url)
        await bob.get_by_label("What you have checked").fill("asked the sender too")
        await bob.get_by_role("button", name=f"Approve: edit letter {letter_id}").click()
        await ann.reload()
        await ann.get_by_role("button", name=f"Edit letter {letter_id} now").click()
        await expect(ann.get_by_role("status").first).to_contain_text("The new message is written down")
        await until(place.wallet.owner, "SELECT count(*) FROM orders WHERE serial_no = $1", 1, serial_no)

        await ann.goto(f"/letters/{letter_id}")
        await expect(ann.get_by_role("heading", level=1)).to_contain_text("edited")


async def tab_to(page: Page, name: str) -> None:
    """Press Tab until what has the focus is called so, and can be seen to have it."""
    for _ in range(TABS_MAX):
        await page.keyboard.press("Tab")
        printed: dict[str, Any] = await page.evaluate(
            """() => { const e = document.activeElement;
                // Of a box that cannot be seen itself, what stands beside it is drawn.
                const drawn = getComputedStyle(e).opacity === "0" ? e.nextElementSibling : e;
                return { name: e.getAttribute("aria-label") || e.labels?.[0]?.textContent || e.textContent,
                         seen: drawn !== null && getComputedStyle(drawn).outlineStyle !== "none" } }"""
        )
        if printed["name"].strip().startswith(name):
            assert printed["seen"], f"the focus on {name} cannot be seen"
            return
    msg = f"{name} was not reached"
    raise AssertionError(msg)


@pytest.mark.need(17)
async def test_the_keyboard_is_enough(place: Place) -> None:
    order = recharge(await place.wallet.upstream.opened())
    (letter_id,) = await place.wallet.set_aside(order)
    context = await place.browser.new_context(base_url=place.address)
    page = await context.new_page()

    await page.goto("/sign-in")
    await page.keyboard.type("ann")  # the field has the focus already
    await page.keyboard.press("Tab")
    await page.keyboard.type(PASSWORDS["ann"])
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    await tab_to(page, "Skip to the page")
    await page.keyboard.press("Enter")
    assert await page.evaluate("document.activeElement.id") == "main"
    await page.goto("/letters")
    await tab_to(page, "waiting")
    await page.keyboard.press("Space")
    await tab_to(page, "Show")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/letters?states=waiting**")
    await tab_to(page, f"Pick letter {letter_id}")
    await page.keyboard.press("Space")
    await tab_to(page, "Plan a replay…")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Plan a replay of 1 letter")
    await tab_to(page, "Why")
    await page.keyboard.type("by hand")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_contain_text("ready")
    await tab_to(page, "Replay 1 letter now")
    await page.keyboard.press("Enter")

    await place.wallet.until_state(letter_id, "resolved")
    await context.close()


@pytest.mark.need(13)
async def test_an_attackers_letter_runs_nothing(place: Place) -> None:
    evil = (
        b'<img src=x onerror="document.title=1"><script>document.title=1</script>\x1b]0;x\x07\xe2\x80\xae'
        + b"A" * 60_000
    )
    (letter_id,) = await place.wallet.set_aside(evil, detail="<script>document.title=1</script>\u202e")

    async with place.person("ann") as page:
        for path in ("/", "/letters", f"/letters/{letter_id}", f"/letters/{letter_id}?bytes=all"):
            await page.goto(path)
            assert "Wallet console" in await page.title()
            assert await page.locator("main img, main script").count() == 0
            wide = await page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            assert wide <= 0, f"{path} is {wide} pixels too wide"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.need(17)
async def test_axe_finds_nothing_on_the_main_pages(
    place: Place, scheme: Scheme, size: tuple[int, int]
) -> None:
    serial_no, letter_id = await wrong_amount(place.wallet)
    user = await place.wallet.upstream.opened()
    orders = [recharge(user) for _ in range(4)]
    ids = await place.wallet.set_aside(*orders)
    await place.wallet.replayed([ids[0]])
    await place.wallet.until_state(ids[0], "resolved")
    operation_id = await place.wallet.owner.fetchval("SELECT operation_id FROM dead_letter_operations")
    plan = await place.wallet.operations.plan(OTTO, Action.REPLAY, Filter(ids=(ids[1],)), reason="a test")
    running_id = await running(place.wallet, *ids[2:])
    edited = json.dumps({**orders[1], "amount": "1.00", "serial_no": fresh("mended")}).encode()
    waits = await place.wallet.operations.plan_edit(OTTO, ids[1], edited, reason="a test")

    await place.wallet.owner.execute(WEBHOOK)
    async with place.person("bob", scheme=scheme, size=size, is_checked=True) as page:
        found = await complaints(
            page,
            "/",
            "/letters?states=waiting,resolved&reason=INTERNAL",
            f"/letters/{letter_id}",
            f"/letters/{ids[0]}",
            f"/letters/{ids[1]}/edit",
            f"/plans/new?action=replay&ids={ids[1]}",
            "/plans",
            f"/plans/{plan.token}",
            f"/plans/{waits.token}",
            "/operations",
            f"/operations/{operation_id}",
            f"/operations/{running_id}",
            "/audit",
            f"/accounts?user_id={user}",
            f"/orders?serial_no={serial_no}",
            "/orders",
            f"/orders?user_id={user}",
            f"/history?user_id={user}&currency=TWD",
            "/webhooks",
            "/webhooks?client=shop&name=orders",
            "/health",
            "/nothing",
        )
    place.asked_for(404)
    async with place.person("vera", scheme=scheme, size=size, is_checked=True) as page:
        masked = await complaints(
            page, f"/letters/{letter_id}", f"/letters/{ids[1]}", f"/plans/{waits.token}"
        )
        await page.context.clear_cookies()
        found |= await complaints(page, "/sign-in")

    assert (found, masked) == ({}, {})


async def running(wallet: Wallet, *letter_ids: int) -> UUID:
    """Return a replay of which one letter has its outcome, and the next is published much later."""
    which, pace = Filter(ids=letter_ids), ReplayPace(rate_per_second=0.01)
    plan = await wallet.operations.plan(OTTO, Action.REPLAY, which, reason="a test", pace=pace)
    operation = await wallet.operations.execute(OTTO, plan.token)
    resolved = "SELECT count(*) FROM dead_letter_replays WHERE operation_id = $1 AND state = 'resolved'"
    await until(wallet.owner, resolved, 1, operation.operation_id)
    return operation.operation_id


async def complaints(page: Page, *paths: str) -> dict[str, list[str]]:
    """Return what axe-core has against which of these pages; none of them scrolls sideways."""
    found = {}
    for path in paths:
        await page.goto(path)
        found[path] = await violations(page)
        too_wide = await page.evaluate(
            "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        )
        assert not too_wide, f"{path} scrolls sideways"
    return {path: rules for path, rules in found.items() if rules}


async def violations(page: Page) -> list[str]:
    """Return what axe-core has against a page."""
    results = await Axe().run(page)
    return [
        f"{rule['id']}: {node['target']} {node.get('failureSummary', '')}"
        for rule in results.response["violations"]
        for node in rule["nodes"]
    ]
