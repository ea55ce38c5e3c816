"""Servers in Docker containers, through testcontainers."""

import contextlib
import secrets
import shlex
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

import docker
import docker.errors
import requests
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.docker_client import get_docker_host

from tests.servers.ports import free_ports
from tests.servers.postgres import DATABASE, MAX_CONNECTIONS
from tests.servers.server import (
    START_SECONDS,
    Say,
    ServerFailed,
    ServersUnavailable,
    speaks_amqp,
    speaks_http,
    speaks_postgres,
    wait_until,
)

POSTGRES_IMAGE = "postgres:18"
RABBITMQ_IMAGE = "rabbitmq:4-management"
ENGINE_SECONDS = 3  # an engine on this machine answers in milliseconds; one that is stopped may never
STOP_SECONDS = 60
USER = "wallet"


def check_engine() -> None:
    """A Docker engine answers. Raises ServersUnavailable."""
    try:
        host = get_docker_host() or "unix:///var/run/docker.sock"  # what its library takes, too
        if host.startswith("unix://"):
            # Docker's library leaves its socket open when nobody listens; a test would find it as a leak.
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knocking:
                knocking.settimeout(ENGINE_SECONDS)
                knocking.connect(host.removeprefix("unix://"))
        client = docker.DockerClient(base_url=host, timeout=ENGINE_SECONDS)
        try:
            client.ping()
        finally:
            client.close()
    except (docker.errors.DockerException, requests.RequestException, OSError) as why:
        raise ServersUnavailable(f"no Docker engine answers ({_one_line(why)})") from why


class Container:
    """One server in a container, with ports of this machine that it keeps when it is started again."""

    def __init__(
        self,
        container: DockerContainer,
        *,
        url: Callable[[str], str],
        ports: dict[int, int],
        answers: Callable[[str], bool],
    ) -> None:
        self._container = container
        self._url = url
        self._answers = answers
        for inside, outside in ports.items():
            container.with_bind_ports(inside, outside)

    @property
    def url(self) -> str:
        """Where clients connect."""
        return self._url(self._host)

    @property
    def management_url(self) -> str:
        """The HTTP API of a broker: the second port."""
        parts = urlsplit(self.url)
        outside = self._container.ports["15672"]
        return f"http://{parts.netloc.rpartition('@')[0]}@{self._host}:{outside}"

    @property
    def name(self) -> str:
        """The container's name, for a person."""
        return self._container.get_wrapped_container().name or ""

    @property
    def processes(self) -> tuple[int, ...]:
        """Always empty: the processes are the engine's."""
        return ()

    def start(self) -> None:
        """The server answers, on the same port and the same data as before."""
        if self._container._container is None:
            self._container.start()
        else:
            self._container.get_wrapped_container().start()
        wait_until(lambda: self._answers(self._host), timeout_seconds=START_SECONDS, failed=self._failure)

    def stop(self) -> None:
        """The server has ended in order."""
        self._container.get_wrapped_container().stop(timeout=STOP_SECONDS)

    def kill(self) -> None:
        """The server's processes are gone, by SIGKILL."""
        container = self._container.get_wrapped_container()
        container.kill()
        container.wait(timeout=STOP_SECONDS)

    def freeze(self) -> None:
        """The server's processes are frozen."""
        self._container.get_wrapped_container().pause()

    def thaw(self) -> None:
        """The server's processes go on."""
        self._container.get_wrapped_container().unpause()

    def remove(self) -> None:
        """The container is gone, its data too."""
        with contextlib.suppress(docker.errors.NotFound):
            self._container.stop()

    @property
    def _host(self) -> str:
        return self._container.get_container_host_ip()

    def _failure(self) -> ServerFailed:
        log = b"".join(self._container.get_logs()).decode(errors="replace")
        return ServerFailed(
            f"the container did not answer in {START_SECONDS} s; the end of its log:\n{log[-2000:]}"
        )


class ContainerRun:
    """The two containers."""

    def __init__(self, *, outlive: bool, say: Say) -> None:
        self._containers: list[Container] = []
        self._outlive = outlive
        self._say = say

    @property
    def stop_command(self) -> str:
        """What ends the containers."""
        return shlex.join(["docker", "rm", "--force", "--volumes", *(each.name for each in self._containers)])

    def start(self, *, durable: bool) -> tuple[Container, Container]:
        """Give the broker and the database. Raises ServersUnavailable when an image can't be had."""
        if self._outlive:
            testcontainers_config.ryuk_disabled = (
                True  # testcontainers' own reaper would end them with this process
            )
        password = secrets.token_urlsafe(16)
        amqp_port, management_port, database_port = free_ports(3)
        self._say(
            f"starting the images {POSTGRES_IMAGE} and {RABBITMQ_IMAGE}; the first time, Docker fetches them"
        )
        try:
            broker = Container(
                DockerContainer(RABBITMQ_IMAGE)
                .with_env("RABBITMQ_DEFAULT_USER", USER)
                .with_env("RABBITMQ_DEFAULT_PASS", password)
                .with_env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-rabbit max_message_size 8388608")
                # the node's data folder carries its host name, which is new for each container, but not for a
                # restart
                .with_kwargs(hostname="broker"),
                url=lambda host: f"amqp://{USER}:{password}@{host}:{amqp_port}/",
                ports={5672: amqp_port, 15672: management_port},
                answers=lambda host: speaks_amqp(host, amqp_port) and speaks_http(host, management_port),
            )
            database_server = Container(
                DockerContainer(POSTGRES_IMAGE)
                .with_env("POSTGRES_PASSWORD", password)
                .with_env("POSTGRES_DB", DATABASE)
                .with_command(_postgres_command(durable=durable)),
                url=lambda host: f"postgresql://postgres:{password}@{host}:{database_port}/{DATABASE}",
                ports={5432: database_port},
                answers=lambda host: speaks_postgres(host, database_port),
            )
            for each in (database_server, broker):
                self._containers.append(each)
                each.start()
        except (docker.errors.DockerException, requests.RequestException) as why:
            raise ServersUnavailable(
                f"Docker answers, but could not start the servers ({_one_line(why)})"
            ) from why
        return broker, database_server

    def remove(self) -> None:
        """Both containers are gone."""
        while self._containers:
            self._containers.pop().remove()


def _postgres_command(*, durable: bool) -> list[str]:
    command = ["postgres", "-c", f"max_connections={MAX_CONNECTIONS}"]
    return command if durable else [*command, "-c", "fsync=off", "-c", "full_page_writes=off"]


def _one_line(why: Exception) -> str:
    return " ".join(str(why).split())[:200]
