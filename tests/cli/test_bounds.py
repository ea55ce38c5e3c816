"""Numbers that no server could take are refused where they are typed, before anything is asked."""

import pytest

from tests.cli.terminal import wallet
from wallet_worker.cli.exits import Exit

TOO_LARGE = str(2**63)


@pytest.mark.parametrize(
    "arguments",
    [
        ("dlq", "show", TOO_LARGE),
        ("dlq", "list", "--after", TOO_LARGE),
        ("dlq", "list", "--after", "-1"),
        ("dlq", "audit", "--letter", TOO_LARGE),
        ("dlq", "audit", "--after", TOO_LARGE),
        ("dlq", "replay", "--seen-up-to", TOO_LARGE, "--why", "x"),
        ("api", "key", "add", "shop", "--role", "upstream", "--rate", TOO_LARGE),
        ("api", "key", "add", "shop", "--role", "upstream", "--expires", "999999d"),
        ("keys", "make", "verify", "--days", TOO_LARGE),
        ("show", "account", "a", "--timeout", "nan"),
        ("show", "account", "a", "--timeout", "inf"),
        ("send", "recharge", "a", "1.00", "TWD", "--until-settled", "--settle-timeout", "nan"),
        ("send", "recharge", "a", "1.00", "TWD", "--until-settled", "--settle-timeout", "inf"),
        ("audit", "--follow", "--every", "nan"),
        ("audit", "--follow", "--every", "inf"),
        ("audit", "--follow", "--linger", "nan"),
    ],
    ids=" ".join,
)
async def test_a_number_out_of_range_is_misuse(arguments: tuple[str, ...]) -> None:
    done = await wallet(
        *arguments,
        WALLET_AMQP_URL="amqp://nobody@127.0.0.1:1/",
        WALLET_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none",
    )

    assert (done.status, done.out) == (Exit.MISUSED, "")
