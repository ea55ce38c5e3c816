"""The pictures of the console in the documents, taken anew of a wallet with a story.

    python -m tests.console.pictures

They are made small with pngquant where it is installed.
"""

import asyncio
import random
import shutil
import subprocess
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from playwright.async_api import Browser, async_playwright

from tests.console import chromium
from tests.console.process import a_console
from tests.console.stage import PASSWORDS, make_users
from tests.dead_letters.conftest import OTTO, Wallet, a_wallet
from tests.journeys.messages import recharge, result, transfer
from tests.servers import start_servers
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.plans import ReplayPace
from wallet_worker.dead_letters.model.states import Action
from wallet_worker.store.migrate import migrate

FOLDER = Path(__file__).parents[2] / "wallet_worker" / "console" / "docs"
WIDE, NARROW = (1280, 800), (390, 844)

# Arrivals over a day, as they would be: some hours busy, most quiet.
_SPREAD = """
UPDATE dead_letters
SET arrived_at = arrived_at - interval '1 minute' * $2, first_seen = first_seen - interval '1 minute' * $2
WHERE letter_id = $1
"""


async def main() -> None:
    """Take them."""
    async with AsyncExitStack() as stack:
        servers = stack.enter_context(start_servers(durable=False))
        template = await stack.enter_async_context(servers.database())
        await migrate(template)
        wallet = await stack.enter_async_context(a_wallet(servers, template))
        await wallet.start()
        users = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "users.json"
        make_users(users)
        address = await stack.enter_async_context(
            a_console(wallet.workers.environment, users, WALLET_DLQ_SINGLE_PERSON_MAX="20")
        )
        playwright = await stack.enter_async_context(async_playwright())
        browser = await playwright.chromium.launch(executable_path=chromium.find())
        pages = await tell(wallet)
        FOLDER.mkdir(exist_ok=True)
        await take(browser, address, pages)
        await browser.close()
    small()


async def tell(wallet: Wallet) -> dict[str, str]:
    """Have a wallet in which things went wrong; return the pages to show."""
    up, chance = wallet.upstream, random.Random(7)
    people = [await up.funded("500.00") for _ in range(6)]
    await up.at_once(*(transfer(people[0], people[1 + n % 5], f"{5 + n}.00") for n in range(8)))
    wrong = []
    for n in range(34):
        order = recharge(people[n % 6], "100.00")
        await up.outcome(order)
        await up.result(result(order["serial_no"], amount="1.00" if n % 3 else "10.00"))
        wrong.append(str(order["serial_no"]))
    for n in range(9):
        await up.publish(
            "wallet.commands",
            b'{"type": "order.recharge.v1", "amount": %d.5}' % n,
            routing_key="order.recharge",
        )
    for n in range(4):
        await up.result(result(wrong[n], gateway_ref=f"forged-{n}"), signature="t=1,kid=k1,v1=00")
    for n in range(3):
        again = recharge(people[n], "55.00")
        await up.outcome(again)
        await up.outcome({**again, "amount": "56.00"})
    await wallet.until_letters(34 + 9 + 4 + 3)
    failed = await wallet.set_aside(*(recharge(people[n % 6]) for n in range(26)))
    done = await wallet.operations.plan(
        OTTO, Action.DISCARD, Filter(reason="SERIAL_CONFLICT"), reason="the sender knows"
    )
    await wallet.operations.execute(OTTO, done.token)
    first = await wallet.operations.plan(
        OTTO, Action.REPLAY, Filter(ids=tuple(failed[:8])), reason="a trial after the update"
    )
    await wallet.operations.execute(OTTO, first.token)
    for letter_id in failed[:8]:
        await wallet.until_state(letter_id, "resolved")
    slow = await wallet.operations.plan(
        OTTO,
        Action.REPLAY,
        Filter(reason="INTERNAL"),
        reason="the fault is mended in 0.4.2, ticket 4711",
        pace=ReplayPace(canary=3, rate_per_second=1.0),
    )
    running = await wallet.operations.execute(OTTO, slow.token)
    ready = await wallet.operations.plan(
        OTTO,
        Action.REPLAY,
        Filter(reason="AMOUNT_MISMATCH"),
        reason="the gateway says that its amounts were right",
    )
    letter_id = await wallet.until_letter(wrong[5])
    for row in await wallet.owner.fetch("SELECT letter_id, reason FROM dead_letters ORDER BY letter_id"):
        if row["letter_id"] == letter_id:
            continue  # its order's life is shown: nothing in it comes before the order
        hours = {"AMOUNT_MISMATCH": 9, "MALFORMED": 20, "INTERNAL": 3}.get(row["reason"], 23)
        await wallet.owner.execute(_SPREAD, row["letter_id"], chance.triangular(2, hours * 60, 90))
    while (await wallet.operations.operation(OTTO, running.operation_id)).resolved < 8:  # noqa: ASYNC110
        await asyncio.sleep(0.2)
    return {
        "overview": "/",
        "letters": "/letters?states=waiting&reason=AMOUNT_MISMATCH",
        "letter": f"/letters/{letter_id}",
        "plan": f"/plans/{ready.token}",
        "operation": f"/operations/{running.operation_id}",
        "order": f"/orders?serial_no={wrong[5]}",
        "statement": f"/accounts?user_id={people[0]}",
    }


async def take(browser: Browser, address: str, pages: dict[str, str]) -> None:
    """Photograph every page in light and wide, and in dark and narrow; the first in dark and wide as well."""
    for scheme in ("light", "dark"):
        for name, size in (("wide", WIDE), ("narrow", NARROW)):
            wanted = pages if (scheme, name) in {("light", "wide"), ("dark", "narrow")} else {"overview": "/"}
            context = await browser.new_context(
                base_url=address,
                color_scheme="dark" if scheme == "dark" else "light",
                viewport={"width": size[0], "height": size[1]},
            )
            page = await context.new_page()
            await page.goto("/sign-in")
            await page.get_by_label("Name").fill("bob")
            await page.get_by_label("Password").fill(PASSWORDS["bob"])
            await page.keyboard.press("Enter")
            await page.wait_for_url("**/")
            for what, path in wanted.items():
                await page.goto(path)
                await page.evaluate("document.fonts.ready")
                await page.screenshot(path=FOLDER / f"{what}-{scheme}-{name}.png", full_page="-f" in sys.argv)
            await context.close()


def small() -> None:
    """Leave the files a third of their size, where the machine can."""
    pngquant = shutil.which("pngquant")
    if pngquant:
        for path in FOLDER.glob("*.png"):
            subprocess.run(
                [
                    pngquant,
                    "--force",
                    "--skip-if-larger",
                    "--strip",
                    "--output",
                    str(path),
                    "--speed",
                    "1",
                    "128",
                    str(path),
                ],
                check=False,
            )


if __name__ == "__main__":
    asyncio.run(main())
