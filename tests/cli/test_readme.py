"""The command lines that the README shows, run one after the other."""

import re
import shlex

from tests.cli.terminal import ROOT, wallet
from tests.client import gateway
from tests.workers import Workers
from wallet_schemas.parse import COMMANDS

README = (ROOT / "README.md").read_text()


def command_lines() -> list[list[str]]:
    """Return the words of each line that the README tells to type, without `wallet`."""
    found = re.search(r"<!-- example: commands -->\n```sh\n(.*?)```\n<!-- end -->", README, re.DOTALL)
    assert found is not None
    lines = [shlex.split(line, comments=True) for line in found[1].splitlines()]
    assert {line[0] for line in lines} == {"wallet"}
    return [line[1:] for line in lines]


async def test_every_command_line_of_the_readme_does_what_it_says(
    amqp_url: str, database_url: str, workers: Workers
) -> None:
    await workers.start()

    async with gateway.everything_is_paid(amqp_url):
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
