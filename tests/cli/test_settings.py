"""A setting that nobody reads is an error that names it, and what is in force is shown, without a secret."""

import contextlib
import json
import os
import re
from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsError

import payment_simulator
import wallet_worker
from tests.cli.terminal import environment, wallet
from tests.words import assert_for_people
from wallet_worker.cli.exits import Exit
from wallet_worker.settings import names
from wallet_worker.settings.settings import Settings

ADDRESSES = {
    "WALLET_AMQP_URL": "amqp://shop:amqp-secret@broker:5672/vhost",
    "WALLET_DATABASE_URL": "postgresql://wallet:database-secret@database:5432/wallet",
}
READ = re.compile(r"WALLET_[A-Z][A-Z_]*[A-Z](?![A-Z_])")


@pytest.mark.parametrize(
    "command",
    [
        ("worker",),
        ("keeper",),
        ("console",),
        ("dlq", "groups"),
        ("audit",),
        ("migrate",),
        ("topology", "check"),
        ("send", "open", "alice", "TWD"),
        ("settings", "check"),
        ("settings", "show"),
    ],
    ids=" ".join,
)
async def test_a_mistyped_setting_is_an_error_of_every_command_that_reads_settings(
    command: tuple[str, ...],
) -> None:
    """The worker once began without any limits, because of one letter."""
    ended = await wallet(*command, **ADDRESSES, WALLET_LIMIT="{}")

    assert ended.status == Exit.MISUSED
    assert ended.err_lines == ["wallet: WALLET_LIMIT is not a setting: did you mean WALLET_LIMITS?"]


@pytest.mark.parametrize(
    ("variable", "answer"),
    [
        ("WALLET_HTTP_PROT", "did you mean WALLET_HTTP_PORT?"),
        ("WALLET_ASK_SECONDS", "it is called WALLET_PAYMENT_INQUIRY_SECONDS now"),
        ("WALLET_DLQ_ALONE_MAX", "it is called WALLET_DLQ_SINGLE_PERSON_MAX now"),
        (
            "WALLET_DLQ_ROLES",
            "roles are in the database now: `wallet operators`",
        ),
        ("WALLET_SHOE_SIZE", "`wallet settings show` lists the settings"),
        ("wallet_limit", "did you mean WALLET_LIMITS?"),
    ],
)
def test_the_sentence_names_the_variable_and_what_was_meant(variable: str, answer: str) -> None:
    (sentence,) = names.unknown({variable: "1", "WALLET_LIMITS": "{}", "PATH": "/"})

    assert sentence == f"{variable} is not a setting: {answer}"


@pytest.mark.parametrize(
    "variable",
    [
        "WALLET_SERVICE_HOST",
        "WALLET_PORT",
        "WALLET_API_SERVICE_PORT_HTTP",
        "WALLET_PORT_9300_TCP_ADDR",
        "WALLET_WORKER_PORT_9300_TCP",
        "WALLET_SIMULATOR_SEED",
        "WALLET_FAILPOINT",
        "wallet_limits",
        "HOME",
    ],
)
def test_what_others_put_into_the_environment_is_no_error(variable: str) -> None:
    assert names.unknown({variable: "tcp://10.0.0.1:80"}) == []


def test_every_variable_that_the_programs_name_is_known() -> None:
    folders = (Path(module.__file__ or "").parent for module in (wallet_worker, payment_simulator))
    named = {
        (path.name, found)
        for folder in folders
        for path in folder.rglob("*.py")
        if "versions" not in path.parts and path.name != "names.py"
        for line in path.read_text().splitlines()
        for found in READ.findall(line)
        if not re.search(rf"\b{found}\b(?!_FILE)", line) or f'"{found}' in line or f"`{found}" in line
    }

    assert {found for _, found in named if names.unknown({found: "1"})} <= set(names.FORMER)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {
                "WALLET_LIMITS": json.dumps(
                    {"accounts": {"basic": {"TWD": {"orders": {"recharge": {"max": "1"}}}}}}
                )
            },
            "WALLET_LIMITS: accounts.basic.TWD.orders.recharge.max is not a name that stands there",
        ),
        ({"WALLET_LIMITS": '{"accounts"'}, "WALLET_LIMITS is not valid JSON. Expected: {"),
        (
            {"WALLET_PAYMENT_KEYS": "{'k1': 'secret-secret'}"},
            "WALLET_PAYMENT_KEYS: it is no JSON",
        ),
        ({"WALLET_HTTP_PORT": "many"}, "WALLET_HTTP_PORT: Input should be a valid integer"),
        ({"WALLET_LOG_LEVEL": "loud"}, "WALLET_LOG_LEVEL: "),
        (
            {"WALLET_PAYMENT_INQUIRY_SECONDS_BY_CHANNEL": '{"card": ["x"]}'},
            "_BY_CHANNEL: card.0: Input should be",
        ),
    ],
)
async def test_a_wrong_setting_is_said_in_words_with_its_place(
    settings: dict[str, str], sentence: str
) -> None:
    ended = await wallet("settings", "check", **(ADDRESSES | settings))

    assert ended.status == Exit.MISUSED
    assert sentence in ended.err
    assert not re.search(r"\^|\\\\|pydantic|EnvSettingsSource|secret-secret|Traceback", ended.err)


async def test_what_is_in_force_is_shown_without_a_secret() -> None:
    settings = ADDRESSES | {
        "WALLET_PAYMENT_KEYS": '{"2026-01": "a-signing-secret"}',
        "WALLET_MANAGEMENT_URL": "http://shop:management-secret@broker:15672",
        "WALLET_LIMITS": '{"accounts": {"basic": {"TWD": {"balance_max": "10.00"}}}}',
    }

    checked = await wallet("settings", "check", **(settings))
    shown = await wallet("settings", "show", "--json", **(settings))
    table = await wallet("settings", "show", "--table", **(settings))

    assert (checked.status, checked.out) == (Exit.DONE, "the settings are in order\n")
    found = {row["variable"]: row for row in json.loads(shown.out)["settings"]}
    assert found["WALLET_AMQP_URL"]["value"] == "amqp://broker:5672/vhost"
    assert found["WALLET_DATABASE_URL"]["value"] == "postgresql://database:5432/wallet"
    assert found["WALLET_MANAGEMENT_URL"]["value"] == "http://broker:15672"
    assert found["WALLET_PAYMENT_KEYS"]["value"] == "(hidden; keys 2026-01)"
    assert json.loads(found["WALLET_LIMITS"]["value"])["accounts"]["basic"]["TWD"] == {"balance_max": "10.00"}
    assert (found["WALLET_HTTP_PORT"]["value"], found["WALLET_HTTP_PORT"]["is_set"]) == ("9300", False)
    assert "secret" not in shown.out + table.out
    assert {item["variable"] for item in found.values()} >= {
        f"WALLET_{name}".upper() for name in Settings.model_fields
    }


async def test_a_worker_logs_by_what_it_goes_when_it_starts(tmp_path: Path) -> None:
    """The database is away: it says so before anything else."""
    import asyncio
    import sys

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "wallet_worker", "worker",
        env=environment(
            {
                "WALLET_AMQP_URL": "amqp://u:amqp-secret@127.0.0.1:1/",
                "WALLET_DATABASE_URL": "postgresql://u:database-secret@127.0.0.1:1/x",
                "WALLET_LIMITS": '{"time_zone": "Asia/Taipei"}',
                "WALLET_HTTP_PORT": "0",
                "WALLET_SENDERS": "anyone",
                "WALLET_REQUEST_KEY_FILE": "none",
                "WALLET_SEAL_KEY_FILE": "none",
                "WALLET_LOG_FORMAT": "json",
            }
        ),
        stderr=asyncio.subprocess.PIPE,
        cwd=tmp_path,
    )  # fmt: skip
    assert process.stderr is not None
    first = json.loads(await asyncio.wait_for(process.stderr.readline(), 30))
    process.kill()
    await process.wait()

    assert first["event"] == "settings.in_force"
    assert first["set"]["WALLET_LIMITS"] == '{"time_zone": "Asia/Taipei"}'
    assert "WALLET_CURRENCIES" in first["default"]
    assert "secret" not in json.dumps(first)


NONSENSE = (
    "",
    "nonsense",
    "-1",
    "1e999",
    "{}",
    "[]",
    '{"a": 1}',
    '{"a": {"b": 1}}',
    "[1,2]",
    "a,b",
    "9" * 30,
)
INTERNAL = re.compile(
    r"lax|strict|function-|\[key\]|\b_[A-Z]|may not have|Is not valid|Extra inputs|valid dictionary"
)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_no_value_of_any_setting_is_answered_in_words_for_programmers(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in [found for found in os.environ if found.startswith("WALLET_")]:
        monkeypatch.delenv(variable)
    for variable, value in ADDRESSES.items():
        monkeypatch.setenv(variable, value)

    for value in NONSENSE:
        monkeypatch.setenv(f"WALLET_{name}".upper(), value)
        with contextlib.suppress(SettingsError):  # of what is no JSON the variable alone is named
            try:
                Settings()
            except ValidationError as exc:
                for error in exc.errors(include_url=False, include_input=False):
                    sentence = names.fault(error, "Settings")
                    assert_for_people(sentence)
                    assert not INTERNAL.search(sentence), sentence
