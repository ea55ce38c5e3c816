"""The servers that everything else is tested against: where they come from, how they die, what they leave."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aio_pika
import asyncpg
import psutil
import pytest
from typer.testing import CliRunner

from tests.servers import NotControlled, Origin, Servers, ServersUnavailable, __main__, reaper, start_servers
from tests.servers.management import Management
from tests.servers.ports import free_ports

ROOT = Path(__file__).parents[2]
GIVEN_AMQP = "amqp://guest:secret@broker.example:5672/"
GIVEN_DATABASE = "postgresql://postgres:secret@database.example:5432/wallet"
ENDED_SECONDS = 30


@pytest.fixture(scope="module")
def private() -> Iterator[Servers]:
    """Give servers that these tests may hurt, and that are there whatever the environment says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WALLET_SERVERS_FROM", Origin.PRIVATE)
        with start_servers(durable=False) as servers:
            yield servers


@pytest.fixture
def nothing_given(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Forget what the caller's environment says of servers."""
    for name in ("WALLET_AMQP_URL", "WALLET_DATABASE_URL", "WALLET_MANAGEMENT_URL", "WALLET_SERVERS_FROM"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


# Private servers


async def test_a_vhost_and_a_database_are_empty_and_gone_afterwards(private: Servers) -> None:
    async with private.vhost() as amqp_url, private.database() as database_url:
        async with await aio_pika.connect(amqp_url) as connection:
            channel = await connection.channel()
            await channel.declare_queue("mine", durable=True)
        connection_there = await asyncpg.connect(database_url)
        tables = await connection_there.fetch("SELECT 1 FROM pg_tables WHERE schemaname = 'public'")
        await connection_there.close()

    vhosts = await Management(private.management_url).get("/api/vhosts")
    assert tables == []
    assert [vhost["name"] for vhost in vhosts] == ["/"]
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(database_url)


async def test_a_database_can_be_a_copy_of_another(private: Servers) -> None:
    async with private.database() as original:
        await _execute(original, "CREATE TABLE told (word text)")
        await _execute(original, "INSERT INTO told VALUES ('copied')")
        async with private.database(template=original) as copy:
            assert await _value(copy, "SELECT word FROM told") == "copied"


async def test_a_killed_broker_comes_back_on_its_port_with_its_messages(private: Servers) -> None:
    async with private.vhost() as amqp_url:
        async with await aio_pika.connect(amqp_url) as connection:
            channel = await connection.channel()
            await channel.declare_queue("kept", durable=True, arguments={"x-queue-type": "quorum"})
            message = aio_pika.Message(b"still here", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await channel.default_exchange.publish(message, "kept")
        before = private.broker.processes

        await asyncio.to_thread(private.broker.kill)
        while_dead = private.broker.processes
        await asyncio.to_thread(private.broker.start)

        async with await aio_pika.connect(amqp_url) as connection:
            queue = await (await connection.channel()).get_queue("kept")
            kept = await queue.get(no_ack=True, timeout=ENDED_SECONDS)
    assert while_dead == ()
    assert not set(before) & set(private.broker.processes)
    assert kept is not None
    assert kept.body == b"still here"


async def test_a_killed_database_server_comes_back_on_its_port_with_what_was_committed(
    private: Servers,
) -> None:
    async with private.database() as url:
        await _execute(url, "CREATE TABLE kept (word text)")
        open_connection = await asyncpg.connect(url)
        await open_connection.execute("INSERT INTO kept VALUES ('committed')")

        await asyncio.to_thread(private.database_server.kill)
        while_dead = private.database_server.processes
        await asyncio.to_thread(private.database_server.start)

        assert while_dead == ()
        assert await _value(url, "SELECT word FROM kept") == "committed"
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await open_connection.fetchval("SELECT 1")


async def test_a_frozen_database_server_keeps_its_connections_and_answers_when_thawed(
    private: Servers,
) -> None:
    connection = await asyncpg.connect(private.database_url)

    private.database_server.freeze()
    try:
        stopped = {psutil.Process(pid).status() for pid in private.database_server.processes}
        answer = asyncio.create_task(connection.fetchval("SELECT 'thawed'"))
        done, _ = await asyncio.wait({answer}, timeout=0.2)
    finally:
        private.database_server.thaw()

    assert stopped == {psutil.STATUS_STOPPED}
    assert not done
    assert await answer == "thawed"
    await connection.close()


def test_a_stopped_server_is_stopped_once_and_starts_again(private: Servers) -> None:
    private.database_server.stop()
    private.database_server.stop()
    stopped = private.database_server.processes
    private.database_server.start()

    assert stopped == ()
    assert private.database_server.processes


def test_private_servers_listen_on_this_machine_only(private: Servers) -> None:
    pids = [*private.broker.processes, *private.database_server.processes]
    listening = {
        connection.laddr.ip
        for pid in pids
        for connection in psutil.Process(pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }

    assert listening == {"127.0.0.1"}


def test_durability_is_what_was_asked_for(private: Servers) -> None:
    assert asyncio.run(_value(private.database_url, "SHOW fsync")) == "off"
    assert asyncio.run(_value(private.database_url, "SHOW synchronous_commit")) == "on"


# Nothing is left behind

# A background job of a shell may have inherited that it heeds no Ctrl-C.
HOLD = """
import signal, sys
from tests.servers import start_servers
signal.signal(signal.SIGINT, signal.default_int_handler)
with start_servers(outlive=sys.argv[1] == "outlive") as servers:
    pids = [*servers.broker.processes, *servers.database_server.processes]
    print(*pids, flush=True)
    print(servers.stop_command, flush=True)
    sys.stdin.read()
"""


def test_nothing_is_left_when_the_caller_is_killed() -> None:
    with _holder("block") as (holder, pids, folder):
        servers = [psutil.Process(pid) for pid in pids]
        helpers = psutil.Process(holder.pid).children()

        holder.kill()
        holder.wait()

        _assert_ended([*servers, *helpers])
        assert not folder.exists()


def test_nothing_is_left_when_the_caller_and_a_frozen_broker_are_stopped_by_ctrl_c() -> None:
    with _holder("block") as (holder, pids, folder):
        servers = [psutil.Process(pid) for pid in pids]
        for server in servers:
            server.suspend()

        holder.send_signal(signal.SIGINT)
        holder.wait(ENDED_SECONDS)

        _assert_ended(servers)
        assert not folder.exists()


def test_servers_that_shall_outlive_their_starter_run_until_they_are_stopped() -> None:
    with _holder("outlive") as (holder, pids, folder):
        servers = [psutil.Process(pid) for pid in pids]

        holder.communicate()
        running = [server for server in servers if server.is_running()]
        stopped = CliRunner().invoke(__main__.app, ["stop", str(folder)])

        assert holder.returncode == 0
        assert running == servers
        assert stopped.exit_code == 0, stopped.output
        _assert_ended(servers)
        assert not folder.exists()


def test_stop_touches_no_folder_but_those_of_private_servers(tmp_path: Path) -> None:
    stopped = CliRunner().invoke(__main__.app, ["stop", str(tmp_path)])

    assert stopped.exit_code == 1
    assert tmp_path.exists()


def test_the_reaper_spares_processes_that_work_elsewhere(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "inside-not"
    inside.mkdir()
    outside.mkdir()
    waiting = [sys.executable, "-c", "input()"]
    with (
        subprocess.Popen(waiting, cwd=inside, stdin=subprocess.PIPE) as found,
        subprocess.Popen(waiting, cwd=outside, stdin=subprocess.PIPE) as spared,
    ):
        reaper.kill_members(inside)

        assert found.wait() == -signal.SIGKILL
        assert spared.poll() is None


# Where they come from


def test_given_urls_come_first_and_are_not_ours_to_kill(nothing_given: pytest.MonkeyPatch) -> None:
    nothing_given.setenv("WALLET_AMQP_URL", GIVEN_AMQP)
    nothing_given.setenv("WALLET_DATABASE_URL", GIVEN_DATABASE)

    with start_servers() as servers:
        assert (servers.amqp_url, servers.database_url) == (GIVEN_AMQP, GIVEN_DATABASE)
        assert servers.origin is Origin.ENVIRONMENT
        assert servers.management_url == "http://guest:secret@broker.example:15672"
        for server in (servers.broker, servers.database_server):
            assert server.processes == ()
            for verb in (server.start, server.stop, server.kill, server.freeze, server.thaw):
                with pytest.raises(NotControlled) as refused:
                    verb()
                assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"WALLET_AMQP_URL": GIVEN_AMQP}, "WALLET_DATABASE_URL"),
        ({"WALLET_DATABASE_URL": GIVEN_DATABASE}, "WALLET_AMQP_URL"),
    ],
)
def test_half_an_environment_is_told_and_not_used(
    nothing_given: pytest.MonkeyPatch, given: dict[str, str], missing: str
) -> None:
    nothing_given.setenv("WALLET_SERVERS_FROM", Origin.ENVIRONMENT)
    for name, value in given.items():
        nothing_given.setenv(name, value)

    with pytest.raises(ServersUnavailable, match=f"{missing} is not set"), start_servers():
        pass


def test_given_urls_are_passed_over_when_servers_shall_be_killed(nothing_given: pytest.MonkeyPatch) -> None:
    nothing_given.setenv("WALLET_SERVERS_FROM", Origin.ENVIRONMENT)
    nothing_given.setenv("WALLET_AMQP_URL", GIVEN_AMQP)
    nothing_given.setenv("WALLET_DATABASE_URL", GIVEN_DATABASE)

    with pytest.raises(ServersUnavailable, match="can't be killed"), start_servers(controlled=True):
        pass


def test_an_unknown_origin_is_told(nothing_given: pytest.MonkeyPatch) -> None:
    nothing_given.setenv("WALLET_SERVERS_FROM", "heaven")

    with pytest.raises(ServersUnavailable, match="environment, docker, private"), start_servers():
        pass


def test_docker_without_an_engine_is_given_up_at_once(nothing_given: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    nothing_given.setenv("WALLET_SERVERS_FROM", Origin.DOCKER)
    nothing_given.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{port}")

    with pytest.raises(ServersUnavailable, match="no Docker engine answers"), start_servers():
        pass


def test_docker_with_an_engine_that_is_silent_is_given_up_soon(nothing_given: pytest.MonkeyPatch) -> None:
    nothing_given.setenv("WALLET_SERVERS_FROM", Origin.DOCKER)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        nothing_given.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()

        with pytest.raises(ServersUnavailable, match="no Docker engine answers"), start_servers():
            pass

    assert time.monotonic() - began < 10


def test_a_named_program_that_is_missing_is_told(nothing_given: pytest.MonkeyPatch) -> None:
    nothing_given.setenv("WALLET_SERVERS_FROM", Origin.PRIVATE)
    nothing_given.setenv("WALLET_RABBITMQ_SERVER", "/nowhere/rabbitmq-server")

    with pytest.raises(ServersUnavailable, match="/nowhere/rabbitmq-server"), start_servers():
        pass


def test_free_ports_differ_and_lie_below_those_of_outgoing_connections() -> None:
    ports = free_ports(20)

    with socket.create_server(("127.0.0.1", 0)) as ephemeral:
        assert max(ports) < ephemeral.getsockname()[1]
    assert len(set(ports)) == 20


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement)
    await connection.close()


async def _value(url: str, query: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


@contextmanager
def _holder(mode: str) -> Iterator[tuple["subprocess.Popen[str]", list[int], Path]]:
    """Give a process that has started servers and waits, the servers' pids, and their folder."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WALLET_")}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, mode],
        cwd=ROOT,
        env=environment | {"WALLET_SERVERS_FROM": Origin.PRIVATE},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        pids = [int(pid) for pid in holder.stdout.readline().split()]
        folder = Path(holder.stdout.readline().split()[-1])
        assert pids
        assert folder.is_dir()
        try:
            yield holder, pids, folder
        finally:
            holder.kill()
            reaper.reap(folder)


def _assert_ended(processes: list[psutil.Process]) -> None:
    """Each has ended; a zombie has too, it waits for a parent that is not ours."""
    deadline = time.monotonic() + ENDED_SECONDS
    for process in processes:
        while _status(process) not in {psutil.STATUS_DEAD, psutil.STATUS_ZOMBIE}:
            assert time.monotonic() < deadline, f"{process} still runs"


def _status(process: psutil.Process) -> str:
    try:
        return str(process.status()) if process.is_running() else str(psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return str(psutil.STATUS_DEAD)


def test_urls_carry_a_password_that_is_new_each_time(private: Servers) -> None:
    for url in (private.amqp_url, private.database_url, private.management_url):
        assert len(urlsplit(url).password or "") >= 16
