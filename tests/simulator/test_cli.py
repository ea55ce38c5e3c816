"""The command line: what it prints, and the one line in which it says what is wrong."""

import asyncio
import json
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from typer.testing import CliRunner

from payment_simulator.behaviours import Behaviour
from payment_simulator.cli import app
from payment_simulator.scenario import NAMED
from tests.simulator.world import Wallet, gateway

NOWHERE = "amqp://guest:guest@127.0.0.1:1/"


def test_the_behaviours_are_printed_for_people() -> None:
    printed = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["behaviours"])

    assert printed.exit_code == 0
    for expected in [behaviour.channel for behaviour in Behaviour] + list(NAMED):
        assert expected in printed.output


def test_on_a_narrow_terminal_no_channel_and_no_code_is_cut() -> None:
    printed = CliRunner(env={"COLUMNS": "80"}).invoke(app, ["behaviours"])

    assert "…" not in printed.stdout
    for word in (
        *(behaviour.channel for behaviour in Behaviour),
        "CONTRADICTING_RESULT",
        "CURRENCY_MISMATCH",
    ):
        assert word in printed.stdout


def test_the_behaviours_are_printed_for_programs() -> None:
    printed = CliRunner().invoke(app, ["behaviours", "--json"])

    catalogue = json.loads(printed.output)
    assert [behaviour["channel"] for behaviour in catalogue["behaviours"]] == [
        behaviour.channel for behaviour in Behaviour
    ]
    assert catalogue["scenarios"]["rough"]["rates"]["declined"] == 0.15


def test_the_help_has_an_example() -> None:
    for command in ([], ["behaviours"], ["settlement"]):
        assert "Example: payment-simulator" in CliRunner().invoke(app, [*command, "--help"]).output


@pytest.mark.parametrize(
    ("url", "options", "variables", "status", "sentence"),
    [
        (None, [], {}, 2, "no broker is named: set WALLET_AMQP_URL or give --amqp-url"),
        ("http://127.0.0.1/", [], {}, 2, "the AMQP URL cannot be used: it must look like amqp://"),
        ("amqp://127.0.0.1:99999/", [], {}, 2, "the AMQP URL cannot be used"),
        (NOWHERE, [], {"WALLET_PAYMENT_KEYS": ""}, 2, "WALLET_PAYMENT_KEYS is not set"),
        (NOWHERE, [], {"WALLET_PAYMENT_KEYS": "{}"}, 2, "no key to sign with"),
        (
            NOWHERE,
            [],
            {"WALLET_PAYMENT_KEYS": '["hush-hush"]'},
            2,
            "must be a JSON object of key ids and secrets",
        ),
        (NOWHERE, [], {"WALLET_PAYMENT_KEYS": '{"k": 7}'}, 2, "must be a JSON object of key ids and secrets"),
        (NOWHERE, ["--scenario", "ruogh"], {}, 2, "none of: instant, calm, everyday, rough"),
        (NOWHERE, ["--delay-min-seconds", "9"], {}, 2, "delay_min_seconds is greater than delay_max_seconds"),
        (NOWHERE, [], {"WALLET_SIMULATOR_REORDERING_RATE": "1.5"}, 2, "reordering_rate"),
        (NOWHERE, ["--state", "/nowhere/at/all.sqlite3"], {}, 1, "/nowhere/at/all.sqlite3 cannot be written"),
        (NOWHERE, [], {}, 3, "the broker at amqp://guest@127.0.0.1:1/ cannot be used"),
        ("amqp://guest:guest@no-such-host.invalid/", [], {}, 3, "cannot be used"),
        (
            NOWHERE,
            [],
            {"WALLET_SIMULATOR_SEDE": "7"},
            2,
            "is not a setting: did you mean WALLET_SIMULATOR_SEED?",
        ),
        (
            NOWHERE,
            [],
            {"WALLET_SIMULATOR_PORT_9400_TCP": "tcp://x", "WALLET_SIMULATOR_SERVICE_HOST": "x"},
            3,
            "cannot",
        ),
    ],
)
async def test_what_is_wrong_is_said_in_one_line(
    url: str | None, options: list[str], variables: dict[str, str], status: int, sentence: str, tmp_path: Path
) -> None:
    state = [] if "--state" in options else ["--state", str(tmp_path / "state.sqlite3")]
    async with gateway(url, *options, *state, **variables) as refused:
        assert await refused.ended() == status

    (line,) = refused.lines
    assert line.startswith("payment-simulator: ")
    assert sentence in line
    assert "hush" not in line
    assert "guest:guest" not in line


@pytest.mark.parametrize("words", [["behaviours"], ["behaviours", "--json"], ["--help"]])
async def test_output_that_cannot_be_written_is_a_sentence_and_status_5(words: list[str]) -> None:
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", 'exec "$@" >/dev/full', "sh", sys.executable, "-m", "payment_simulator", *words,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip

    _, err = await process.communicate()

    assert (process.returncode, err.decode()) == (
        5,
        "payment-simulator: standard output cannot be written: No space left on device\n",
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--from", "tomorrow"], "Should be a time such as 2026-01-31"),
        (["--from", "2026-01-02", "--to", "2026-01-01"], "--to is before --from"),
    ],
)
def test_a_time_that_is_none_is_said_without_a_format(words: list[str], says: str) -> None:
    ended = CliRunner(env={"COLUMNS": "300"}).invoke(app, ["settlement", *words])

    assert ended.exit_code == 2
    assert "%Y" not in ended.output
    assert says in ended.output


async def test_a_port_that_is_taken_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = ("--http-port", str(port), "--state", str(tmp_path / "state.sqlite3"))
        async with gateway(NOWHERE, *options) as refused:
            assert await refused.ended() == 1

    assert refused.lines[-1].startswith(f"payment-simulator: 127.0.0.1:{port} cannot be served: ")


async def test_a_broker_without_the_topology_is_said_in_one_line(bare_url: str, tmp_path: Path) -> None:
    async with gateway(bare_url, "--state", str(tmp_path / "state.sqlite3")) as refused:
        assert await refused.ended() == 1

    assert refused.lines == [
        (
            "payment-simulator: the queue payment.requests does not exist:"
            " apply the topology first (`wallet topology apply`)\n"
        )
    ]


async def test_a_missing_exchange_is_said_in_one_line(amqp_url: str, wallet: Wallet, tmp_path: Path) -> None:
    await wallet.channel.exchange_delete("payment.results")

    async with gateway(amqp_url, "--state", str(tmp_path / "state.sqlite3")) as refused:
        assert await refused.ended() == 1

    (line,) = refused.lines
    assert "the exchange payment.results does not exist" in line


async def test_a_wrong_password_is_said_in_one_line(amqp_url: str, tmp_path: Path) -> None:
    parts = urlsplit(amqp_url)
    wrong = urlunsplit(parts._replace(netloc=f"nobody:wrong@{parts.hostname}:{parts.port}"))

    async with gateway(wrong, "--state", str(tmp_path / "state.sqlite3")) as refused:
        assert await refused.ended() == 3

    (line,) = refused.lines
    assert "the broker refused the user name or the password" in line


async def test_a_vhost_that_is_not_there_is_said_in_one_line(amqp_url: str, tmp_path: Path) -> None:
    elsewhere = urlunsplit(urlsplit(amqp_url)._replace(path="/nowhere"))

    async with gateway(elsewhere, "--state", str(tmp_path / "state.sqlite3")) as refused:
        assert await refused.ended() == 3

    (line,) = refused.lines
    assert "the broker refused the vhost: it is not there, or this user may not use it" in line


async def test_a_second_gateway_on_the_same_memory_is_refused_in_one_line(
    amqp_url: str, tmp_path: Path
) -> None:
    state = ("--state", str(tmp_path / "state.sqlite3"))
    async with gateway(amqp_url, *state) as first:
        await first.event("broker.connected")
        async with gateway(amqp_url, *state) as second:
            assert await second.ended() == 1

    (line,) = second.lines
    assert "in use by another payment-simulator" in line
