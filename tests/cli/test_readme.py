"""The command lines that the README shows, run one after the other."""

import asyncio
import re
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.cli.terminal import ROOT, wallet
from tests.client import gateway
from tests.client.impostor import Impostor, impostor
from tests.workers import Workers
from wallet_schemas.names import PAYMENT_REQUESTS
from wallet_schemas.parse import COMMANDS
from wallet_schemas.payments import PaymentRequest

README = (ROOT / "README.md").read_text()


def command_lines() -> list[list[str]]:
    """Return the words of each line that the README tells to type, without `wallet`."""
    found = re.search(r"<!-- example: commands -->\n```sh\n(.*?)```\n<!-- end -->", README, re.DOTALL)
    assert found is not None
    lines = [shlex.split(line, comments=True) for line in found[1].splitlines()]
    assert {line[0] for line in lines} == {"wallet"}
    return [line[1:] for line in lines]


@asynccontextmanager
async def everything_is_paid(amqp_url: str) -> AsyncIterator[None]:
    """Have a gateway for which every payment succeeds."""

    async def pay(taking: Impostor) -> None:
        while True:
            asked = PaymentRequest.model_validate_json((await taking.next()).body)
            await gateway.say(amqp_url, asked.payment_order_no, amount=asked.amount, currency=asked.currency)

    async with impostor(amqp_url, PAYMENT_REQUESTS) as taking:
        paying = asyncio.create_task(pay(taking))
        try:
            yield
        finally:
            paying.cancel()
            await asyncio.gather(paying, return_exceptions=True)


async def test_every_command_line_of_the_readme_does_what_it_says(
    amqp_url: str, database_url: str, workers: Workers
) -> None:
    await workers.start()

    async with everything_is_paid(amqp_url):
        for words in command_lines():
            said = await wallet(*words, WALLET_AMQP_URL=amqp_url, WALLET_DATABASE_URL=database_url)

            assert said.status == 0, (words, said)


def test_the_readme_lists_every_command_with_its_fields() -> None:
    rows = dict(re.findall(r"^\| `((?:account|order)\.\w+\.v1)` \| ([^|]+) \|", README, re.MULTILINE))

    assert rows.keys() == COMMANDS.keys()
    for type_, said in rows.items():
        fields = {*COMMANDS[type_].model_fields} - {"type", "serial_no", "metadata"}
        listed = said.replace("… and", "user_id, account_type, currency,").replace(" ", "").split(",")
        assert set(listed) == fields, type_
