"""What goes to other machines beside the wheel: image, compose file, lock files, hooks."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.documents import sbom
from tests.servers.rabbitmq import CLUSTER_SETTINGS, NET_TICK_SECONDS
from wallet_schemas.keys import loaded_secrets, read_seal_key, read_signing_key, read_verifying_keys
from wallet_schemas.signature import SigningDirection, verify
from wallet_worker.broker import addresses, users
from wallet_worker.settings.sender_rights import read_senders
from wallet_worker.store import servers

ROOT = Path(__file__).parent.parent
FOLDERS = ("schemas", "wallet_worker", "payment_simulator")
LOCKS = ("requirements.lock", "requirements-client.lock", "requirements-dev.lock", "requirements-build.lock")
OWN_SERVICES = ("setup", "worker", "keeper", "console", "api", "webhooks", "audit", "simulator")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """Give pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """Give compose.yaml as it stands, without the environment."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return content


@pytest.fixture(scope="module")
def dockerfile() -> list[str]:
    """Give the Dockerfile's instructions, one a line."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


# The lock files


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_file_pins_hashes_and_names_no_place(name: str) -> None:
    lines = (ROOT / name).read_text().splitlines()
    pins = [line for line in lines if re.match(r"[a-z0-9]", line)]

    assert pins
    assert all(re.match(r"[a-z0-9._-]+(\[[a-z,]+\])?==\S+ .*\\$", pin) for pin in pins)
    assert all("--hash=sha256:" in line for line in lines if line.strip().startswith("--"))
    assert not re.search(r"https?:|index-url|find-links", "\n".join(lines))


def test_what_runs_is_what_was_checked() -> None:
    checked = _pins("requirements-dev.lock")

    for name in LOCKS:
        assert _pins(name).items() <= checked.items()


def test_the_lock_files_satisfy_the_project(project: dict[str, Any]) -> None:
    groups = project["dependency-groups"]
    wanted = {
        "requirements-client.lock": project["project"]["dependencies"],
        "requirements.lock": [
            *project["project"]["dependencies"],
            *project["project"]["optional-dependencies"]["server"],
        ],
        "requirements-build.lock": groups["build"],
        "requirements-dev.lock": [each for each in groups["dev"] if isinstance(each, str)],
    }

    for lock, requirements in wanted.items():
        pins = _pins(lock)
        for requirement in map(Requirement, requirements):
            assert pins[canonicalize_name(requirement.name)] in requirement.specifier


def test_the_bill_of_materials_is_the_lock_file() -> None:
    written = json.loads(sbom.FILE.read_text())
    listed = {component["name"]: Version(component["version"]) for component in written["components"]}
    for component in written["components"]:
        component.pop("licenses", None)  # of a package for another platform nothing is known here

    assert listed == _pins("requirements.lock")
    assert written == sbom.bill(sbom.LOCK.read_text(), {}), "make sbom"
    references = {component["bom-ref"] for component in written["components"]} | {sbom.PROJECT}
    assert {edge["ref"] for edge in written["dependencies"]} == references
    # What nobody needs would be listed beside what runs, and reached by nothing.
    assert references == {sbom.PROJECT} | {
        needed for edge in written["dependencies"] for needed in edge["dependsOn"]
    }


# The image


def test_the_image_runs_as_an_ordinary_user(dockerfile: list[str]) -> None:
    last_stage = dockerfile[max(i for i, line in enumerate(dockerfile) if line.startswith("FROM")) :]
    users = [line for line in last_stage if line.startswith("USER")]

    assert users == ["USER wallet"]
    assert last_stage.index("USER wallet") < last_stage.index('ENTRYPOINT ["wallet"]')


def test_signals_reach_the_program_and_no_shell(dockerfile: list[str], compose: dict[str, Any]) -> None:
    for instruction in ("ENTRYPOINT", "CMD", "HEALTHCHECK"):
        lines = [line for line in dockerfile if line.startswith(instruction)]
        assert lines
        assert all(re.search(r'\["\w', line) for line in lines)
    for name in ("worker", "console", "api", "audit", "simulator"):
        service = compose["services"][name]
        assert not {"/bin/sh", "sh", "bash"} & set(service.get("entrypoint", []))
        assert isinstance(service["command"], list)


def test_everything_that_the_image_copies_reaches_the_builder(dockerfile: list[str]) -> None:
    copied = {
        name
        for line in dockerfile
        if line.startswith("COPY") and "--from" not in line
        for name in line.split()[1:-1]
    }
    ignore = (ROOT / ".dockerignore").read_text().split("\n")

    assert copied == {line.removeprefix("!") for line in ignore if line.startswith("!")}
    assert ignore.index("*") < ignore.index("!schemas")
    assert all((ROOT / name).exists() for name in copied)
    assert set(FOLDERS) <= copied


def test_the_image_installs_only_locked_packages(dockerfile: list[str]) -> None:
    installs = [part for line in dockerfile for part in re.split(r"&&", line) if "pip install" in part]

    assert installs
    assert all("--require-hashes" in part or "--no-deps --no-index" in part for part in installs)


# The compose file


def test_compose_starts_without_no_secret_and_names_the_remedy(compose: dict[str, Any]) -> None:
    text = (ROOT / "compose.yaml").read_text()
    used = set(re.findall(r"\$\{([A-Z_]+)[}:]", text))
    with_default = set(re.findall(r"\$\{([A-Z_]+):-", text))
    demanded = set(re.findall(r"\$\{([A-Z_]+):\?run `make compose-env`", text))

    assert used - with_default == demanded
    assert {name for name in demanded if "PASSWORD" in name or "KEY" in name} == demanded - {"WALLET_SENDERS"}
    for service in compose["services"].values():
        for name, value in service["environment"].items():
            if name.startswith("WALLET_") and name.endswith("_FILE"):
                continue
            if "PASS" in name or "KEYS" in name or "URL" in name:
                assert "${" in value, f"{name} holds a secret of its own"


def test_workers_can_be_many(compose: dict[str, Any]) -> None:
    worker = compose["services"]["worker"]

    assert "container_name" not in worker
    assert "ports" not in worker
    assert "volumes" not in worker
    assert "hostname" not in worker


def test_each_service_waits_for_what_it_needs(compose: dict[str, Any]) -> None:
    services = compose["services"]

    assert {name: each["condition"] for name, each in services["setup"]["depends_on"].items()} == {
        "postgres": "service_healthy",
        "rabbitmq": "service_healthy",
    }
    for name in ("worker", "console", "api", "audit", "simulator"):
        assert services[name]["depends_on"] == {"setup": {"condition": "service_completed_successfully"}}
    for name in ("postgres", "rabbitmq", "simulator"):
        assert services[name]["healthcheck"]["test"][0] == "CMD"


def test_our_containers_have_no_more_rights_than_they_need(compose: dict[str, Any]) -> None:
    for name in OWN_SERVICES:
        service = compose["services"][name]
        assert service["cap_drop"] == ["ALL"]
        assert service["read_only"] is True
        assert "no-new-privileges:true" in service["security_opt"]
        assert "user" not in service  # the image's own, which is not root


def test_no_container_takes_all_the_memory_or_processes_of_the_machine(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert re.fullmatch(r"\d+[mg]", service["mem_limit"]), name
        assert 0 < service["pids_limit"] <= 1_000, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name


def test_only_the_wallets_own_processes_reach_the_database(compose: dict[str, Any]) -> None:
    networks = {name: set(service["networks"]) for name, service in compose["services"].items()}

    assert compose["networks"]["data"] == {"internal": True}
    assert networks["postgres"] == {"data"}
    assert networks["simulator"] == {"front"}
    # A port of the machine, or a way out of it, goes by a network that is not internal.
    assert {name for name, joined in networks.items() if "front" in joined} == {
        *(name for name, service in compose["services"].items() if "ports" in service),
        *("webhooks", "simulator"),
    }
    assert all("data" in joined for name, joined in networks.items() if name != "simulator")


def test_each_process_logs_in_as_itself_and_none_as_a_superuser(compose: dict[str, Any]) -> None:
    services = compose["services"]

    urls = {
        name: urlsplit(service["environment"]["WALLET_DATABASE_URL"]).username
        for name, service in services.items()
        if "WALLET_DATABASE_URL" in service.get("environment", {})
    }

    assert urls == {
        "setup": "owner",
        **{name: name for name in ("worker", "keeper", "console", "api", "webhooks", "audit")},
    }


def test_whoever_decides_or_predicts_goes_by_the_same_rules(compose: dict[str, Any]) -> None:
    for name in ("setup", "worker", "console", "api"):
        assert compose["x-rules"].items() <= compose["services"][name]["environment"].items()
    assert "WALLET_PAYMENT_KEYS" in compose["x-rules"]


def test_the_audit_that_the_alarm_is_about_is_started_and_stays_after_a_finding(
    compose: dict[str, Any],
) -> None:
    audit = compose["services"]["audit"]

    assert audit["command"][:3] == ["audit", "--follow", "--metrics-port"]
    assert int(audit["command"][3]) == audit["environment"]["WALLET_HTTP_PORT"]
    assert "--linger" not in audit["command"]
    assert audit["environment"]["WALLET_DATABASE_URL"].startswith("postgresql://audit:")


def test_a_stopping_worker_has_the_time_to_finish(compose: dict[str, Any]) -> None:
    from wallet_worker.settings.settings import Settings

    grace_seconds = int(compose["services"]["worker"]["stop_grace_period"].removesuffix("s"))

    assert grace_seconds > Settings.model_fields["drain_seconds"].default


def test_host_ports_are_open_to_this_machine_only(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_make_compose_env_writes_every_secret_once_and_for_its_owner_only(tmp_path: Path) -> None:
    texts = ((ROOT / name).read_text() for name in ("compose.yaml", "compose.ha.yaml"))
    demanded = {name for text in texts for name in re.findall(r"\$\{([A-Z_]+):\?", text)}

    written = _make_compose_env(tmp_path)
    again = _make_compose_env(tmp_path)
    kept = "\n".join(
        f"{name}={value}" for name, value in written.items() if name != "CONSOLE_DATABASE_PASSWORD"
    )
    (tmp_path / ".env").write_text(f"{kept}\n")  # of before there was a console
    mended = _make_compose_env(tmp_path)

    assert set(written) == demanded | {"WALLET_DEMO"}
    assert again == written
    assert {name for name in demanded if mended[name] != written[name]} == {"CONSOLE_DATABASE_PASSWORD"}
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    assert all(len(secret) >= 32 for secret in json.loads(written["WALLET_PAYMENT_KEYS"].strip("'")).values())
    for name, value in written.items():
        if name.endswith("PASSWORD"):
            assert re.fullmatch(r"[A-Za-z0-9_-]{32,}", value), f"{name} can't stand in a URL"


def test_what_make_compose_env_writes_starts_a_worker_and_a_demo_has_keys_of_its_own(tmp_path: Path) -> None:
    for folder, demo in ((tmp_path / "real", ""), (tmp_path / "demo", "1")):
        folder.mkdir()
        written = {name: value.strip("'") for name, value in _make_compose_env(folder, DEMO=demo).items()}

        request_key = read_signing_key(written["WALLET_REQUEST_KEY"])
        verifying = read_verifying_keys(written["WALLET_REQUEST_VERIFYING_KEYS"])
        header = request_key.sign(b"{}", 1, SigningDirection.REQUESTS)
        assert verify(header, b"{}", verifying, direction=SigningDirection.REQUESTS).key_id == "wallet-1"
        assert read_seal_key(written["WALLET_SEAL_KEY"])[0] == "seal-1"
        senders = read_senders(written["WALLET_SENDERS"])
        assert senders is not None
        assert set(senders.rights) == {"up-shop", "api", "keeper"}
        keys = loaded_secrets(written["WALLET_PAYMENT_KEYS"])
        assert all(key_id.startswith("test-") == bool(demo) for key_id in keys)
        assert (written["WALLET_DEMO"], written.get("COMPOSE_PROFILES")) == (
            ("1", "demo") if demo else ("0", None)
        )


def test_each_service_is_a_user_of_the_broker_with_the_rights_of_its_role(compose: dict[str, Any]) -> None:
    services = compose["services"]
    logins = {
        name: service["environment"]["WALLET_AMQP_URL"].partition("://")[2].partition(":")[0]
        for name, service in services.items()
        if "WALLET_AMQP_URL" in service["environment"]
    }
    passwords = services["setup"]["environment"]["WALLET_BROKER_PASSWORDS"]

    assert logins == {"simulator": "gateway-acme"} | {
        name: name for name in ("setup", "worker", "keeper", "console", "api", "webhooks")
    }
    made = {user.name for user in users.roles()} | {
        users.api().name,
        users.webhooks().name,
        users.gateway("acme").name,
        "up-shop",
    }
    assert set(re.findall(r'"([a-z-]+)": ', passwords)) == made
    assert services["rabbitmq"]["environment"]["RABBITMQ_DEFAULT_USER"] not in made
    assert services["simulator"]["profiles"] == ["demo"]
    assert "max_message_size = 1048576" in compose["configs"]["rabbitmq"]["content"]


# Beside it, the compose file of several brokers and databases


@pytest.fixture(scope="module")
def several() -> dict[str, Any]:
    """Give compose.ha.yaml as it stands."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "compose.ha.yaml").read_text())
    return content


BROKERS = {"rabbitmq", "rabbitmq2", "rabbitmq3"}
DATABASES = {"postgres", "postgres2", "postgres3"}


def test_each_process_has_the_addresses_of_all_brokers_and_databases_with_its_own_login(
    compose: dict[str, Any], several: dict[str, Any]
) -> None:
    for name in OWN_SERVICES:
        alone, ours = (each["services"][name].get("environment", {}) for each in (compose, several))
        if "WALLET_AMQP_URL" in alone:
            brokers = [urlsplit(url) for url in addresses.split(ours["WALLET_AMQP_URL"])]
            login = urlsplit(alone["WALLET_AMQP_URL"].replace(ASKED_FOR, "")).username
            assert {broker.hostname for broker in brokers} == BROKERS
            assert {broker.username for broker in brokers} == {login}
        if "WALLET_DATABASE_URL" in alone:
            databases = [urlsplit(url) for url in servers.split(ours["WALLET_DATABASE_URL"])]
            assert {database.hostname for database in databases} == DATABASES
            assert {database.username for database in databases} == {
                urlsplit(alone["WALLET_DATABASE_URL"]).username
            }


ASKED_FOR = ":?run `make compose-env`, which writes fresh secrets to .env"


def test_each_secret_of_the_second_file_is_demanded_in_one_of_both(several: dict[str, Any]) -> None:
    texts = [(ROOT / name).read_text() for name in ("compose.yaml", "compose.ha.yaml")]
    used = set(re.findall(r"\$\{([A-Z_]+)[}:]", texts[1]))
    with_default = set(re.findall(r"\$\{([A-Z_]+):-", texts[1]))

    assert used - with_default <= set(re.findall(r"\$\{([A-Z_]+):\?", "".join(texts)))
    for service in several["services"].values():
        for name, value in service.get("environment", {}).items():
            if "PASS" in name or "COOKIE" in name or "AMQP" in name:
                assert "${" in value, f"{name} holds a secret of its own"


def test_no_two_servers_share_a_volume_and_none_is_open_to_other_machines(several: dict[str, Any]) -> None:
    volumes = [volume for each in several["services"].values() for volume in each.get("volumes", [])]

    assert len(volumes) == len(set(volumes)) == len(several["volumes"]) == 9
    assert {volume.partition(":")[0] for volume in volumes} == set(several["volumes"])
    assert not any("ports" in service for service in several["services"].values())


def test_the_brokers_are_a_cluster_with_the_settings_that_the_faults_were_tried_with(
    several: dict[str, Any],
) -> None:
    shipped = several["configs"]["cluster"]["content"].splitlines()

    assert {line for line in shipped if "nodes" not in line} == set(CLUSTER_SETTINGS)
    assert {line.partition(" = rabbit@")[2] for line in shipped if "nodes" in line} == BROKERS
    for name in BROKERS:
        environment = several["services"][name]["environment"]
        assert (
            environment["RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"] == f"-kernel net_ticktime {NET_TICK_SECONDS}"
        )


def test_the_further_servers_are_bounded_and_reached_as_the_first_ones_are(
    compose: dict[str, Any], several: dict[str, Any]
) -> None:
    alike = {
        "postgres2": "postgres",
        "postgres3": "postgres",
        "rabbitmq2": "rabbitmq",
        "rabbitmq3": "rabbitmq",
    }
    alike |= {f"etcd{number}": "postgres" for number in (1, 2, 3)}

    for name, first in alike.items():
        service = several["services"][name]
        for bound in ("networks", "mem_limit", "pids_limit", "cap_drop", "security_opt"):
            assert service[bound] == compose["services"][first][bound], (name, bound)


def test_each_server_is_named_as_the_others_reach_it(several: dict[str, Any]) -> None:
    for name in DATABASES:
        environment = several["services"][name]["environment"]
        assert environment["PATRONI_NAME"] == name
        assert environment["PATRONI_RESTAPI_CONNECT_ADDRESS"] == f"{name}:8008"
        assert environment["PATRONI_POSTGRESQL_CONNECT_ADDRESS"] == f"{name}:5432"
    for name in ("rabbitmq2", "rabbitmq3"):
        assert several["services"][name]["hostname"] == name
    hosts = yaml.safe_load(several["configs"]["patroni"]["content"])["etcd3"]["hosts"]
    assert [host.partition(":")[0] for host in hosts] == ["etcd1", "etcd2", "etcd3"]


@pytest.mark.parametrize("files", [("compose.yaml",), ("compose.yaml", "compose.ha.yaml")])
@pytest.mark.skipif(
    shutil.which("docker") is None
    or subprocess.run(["docker", "compose", "version"], check=False, capture_output=True).returncode != 0,
    reason="docker compose is not on this machine",
)
def test_docker_compose_accepts_the_file_with_the_secrets_and_refuses_it_without(
    tmp_path: Path, files: tuple[str, ...]
) -> None:
    _make_compose_env(tmp_path)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WALLET_")}
    named = [argument for file in files for argument in ("--file", str(ROOT / file))]
    config = ["docker", "compose", *named, "--env-file"]

    accepted = subprocess.run(
        [*config, str(tmp_path / ".env"), "config", "--quiet"],
        check=False,
        capture_output=True,
        env=environment,
    )
    refused = subprocess.run(
        [*config, os.devnull, "config", "--quiet"],
        check=False,
        capture_output=True,
        env=environment,
        text=True,
    )

    assert accepted.returncode == 0, accepted.stderr
    assert refused.returncode != 0
    assert "make compose-env" in refused.stderr


def _pins(name: str) -> dict[str, Version]:
    """Give the versions by name; markers and extras left out."""
    found = re.findall(r"^([a-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;]+)", (ROOT / name).read_text(), re.MULTILINE)
    return {canonicalize_name(package): Version(version) for package, version in found}


def _make_compose_env(folder: Path, **variables: str) -> dict[str, str]:
    """Give what `make compose-env` has written in the folder."""
    make = ["make", "--silent", "--file", str(ROOT / "Makefile"), f"PYTHON={sys.executable}", "compose-env"]
    make += [f"{name}={value}" for name, value in variables.items()]
    subprocess.run(make, cwd=folder, check=True, capture_output=True)
    return dict(line.split("=", 1) for line in (folder / ".env").read_text().splitlines())


# The hooks


def test_the_hooks_before_a_commit_run_what_make_lint_runs() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    wanted = [hook["entry"].removeprefix(".venv/bin/") for hook in repository["hooks"]]
    recipe = (ROOT / "Makefile").read_text().split("\nlint: env")[1].split("\n\n")[0]

    assert re.findall(r"\$\(BIN\)/([^&]+?) &&", recipe) == wanted
    assert (repository["repo"], {hook["language"] for hook in repository["hooks"]}) == ("local", {"system"})
