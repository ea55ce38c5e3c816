"""A private RabbitMQ broker in a folder, with an Erlang port mapper of its own."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from typing_extensions import override

from tests.servers.ports import free_ports
from tests.servers.private import Folder, Program
from tests.servers.server import (
    START_SECONDS,
    ServerFailed,
    ServersUnavailable,
    speaks_amqp,
    speaks_epmd,
    speaks_http,
    wait_until,
)

USER = "wallet"
QUEUES_WRITTEN_SECONDS = 5  # one second is usual; then it is killed all the same
# Debian's /usr/sbin/rabbitmq-server is a wrapper that changes to a service user and its folders: the script
# behind it.
PLACES = (
    "/usr/lib/rabbitmq/bin/rabbitmq-server",
    "/opt/homebrew/opt/rabbitmq/sbin/rabbitmq-server",
    "/usr/local/opt/rabbitmq/sbin/rabbitmq-server",
    "/opt/rabbitmq/sbin/rabbitmq-server",
)
# Erlang's distribution and its port mapper would listen on every address of the machine.
NET_TICK_SECONDS = 10  # of a cluster: a silent node is given up after about so long
CLUSTER_SETTINGS = (
    "cluster_formation.peer_discovery_backend = classic_config",
    "cluster_partition_handling = pause_minority",
)
ERLANG_ARGUMENTS = "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}"


def find_script() -> Path:
    """Give the script that starts a broker. Raises ServersUnavailable."""
    named = os.environ.get("WALLET_RABBITMQ_SERVER")
    for place in [named] if named else PLACES:
        if Path(place).exists():
            return Path(place)
    if named:
        raise ServersUnavailable(f"WALLET_RABBITMQ_SERVER names {named}, which is not there")
    raise ServersUnavailable("no rabbitmq-server on this machine")


class RabbitMQ(Program):
    """RabbitMQ with its management plugin, started by this process, apart from any broker of the machine."""

    def __init__(
        self, folder: Folder, *, ports: list[int], name: str = "rabbitmq", cluster: "Cluster | None" = None
    ) -> None:
        super().__init__(folder, name=name)
        self._script = find_script()
        self._amqp_port, self._management_port, self._distribution_port, mapper_port = ports
        self.nodename = nodename(self._amqp_port)
        self._cluster = cluster
        password = secrets.token_urlsafe(16) if cluster is None else cluster.password
        self.url = f"amqp://{USER}:{password}@127.0.0.1:{self._amqp_port}/"
        self.management_url = f"http://{USER}:{password}@127.0.0.1:{self._management_port}"
        self._mapper = PortMapper(folder, port=mapper_port) if cluster is None else cluster.mapper
        self._write_configuration(password)

    @override
    def launch(self) -> None:
        """The broker's process runs, and its port mapper answers."""
        self._mapper.start()
        super().launch()

    @override
    def kill(self) -> None:
        """Every process of the broker is gone, by SIGKILL.

        Before that, the broker has had a second or two to write down the quorum queues that were declared just now.
        A broker that dies before leaves them unusable for ever (consuming ends the connection with INTERNAL_ERROR):
        its own weakness, seen on 3.10, and not what the wallet's tests are about.
        """
        with contextlib.suppress(TimeoutError):
            wait_until(
                self._has_written_queues,
                timeout_seconds=QUEUES_WRITTEN_SECONDS,
                failed=TimeoutError,
            )
        super().kill()

    def _has_written_queues(self) -> bool:
        """Whether each quorum queue's folder stands in the register of queues, as far as that can be seen."""
        for register in (self._folder / "data").glob("*/quorum/*/names.dets"):
            content = register.read_bytes()
            if any(path.is_dir() and path.name.encode() not in content for path in register.parent.iterdir()):
                return False
        return True

    def _write_configuration(self, password: str) -> None:
        configuration = self._folder / "rabbitmq.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(
            "\n".join(
                [
                    f"listeners.tcp.1 = 127.0.0.1:{self._amqp_port}",
                    f"default_user = {USER}",
                    f"default_pass = {password}",
                    "default_user_tags.administrator = true",
                    "management.tcp.ip = 127.0.0.1",
                    f"management.tcp.port = {self._management_port}",
                    "management_agent.disable_metrics_collector = false",
                    "max_message_size = 8388608",
                    *(self._cluster.settings if self._cluster else ()),
                    "",
                ]
            )
        )
        (self._folder / "enabled_plugins").write_text("[rabbitmq_management].\n")
        (self._folder / "advanced.config").write_text("[].\n")  # an empty file is a syntax error
        (self._folder / "rabbitmq-env.conf").touch()  # else the machine's own is read
        # A bare machine may have no /etc/hosts, and then not even "localhost" is known. No other name is needed.
        own_name = socket.gethostname().partition(".")[0]
        (self._folder / "inetrc").write_text(
            f'{{host, {{127,0,0,1}}, ["localhost", "{own_name}"]}}.\n{{lookup, [file]}}.\n'
        )

    @override
    def _command(self) -> list[str]:
        return [str(self._script)]

    @override
    def _environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RABBITMQ_", "ERL_", "NOTIFY_"))
        }
        home = str(self._folder)
        arguments = f"{ERLANG_ARGUMENTS} -kernel net_ticktime {NET_TICK_SECONDS}"
        return kept | {
            "HOME": home if self._cluster is None else str(self._cluster.home),  # the Erlang cookie
            "detached": "1",  # the script becomes the broker, instead of staying as its parent
            "ERL_INETRC": f"{home}/inetrc",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._mapper.port),
            "RABBITMQ_NODENAME": self.nodename,
            "RABBITMQ_NODE_PORT": str(self._amqp_port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": f"{home}/data",
            "RABBITMQ_LOG_BASE": f"{home}/log",
            "RABBITMQ_PID_FILE": f"{home}/pid",
            "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{home}/advanced.config",
            "RABBITMQ_CONF_ENV_FILE": f"{home}/rabbitmq-env.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/enabled_plugins",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": arguments if self._cluster else ERLANG_ARGUMENTS,
        }

    @override
    def _answers(self) -> bool:
        return speaks_amqp("127.0.0.1", self._amqp_port) and speaks_http("127.0.0.1", self._management_port)

    @override
    def _stop_signal(self) -> signal.Signals:
        return signal.SIGTERM


class Cluster:
    """What the nodes of one cluster have in common. Each is a `RabbitMQ`, in `nodes`."""

    def __init__(self, folder: Folder, size: int) -> None:
        mapper_port, *ports = free_ports(1 + 3 * size)
        self.password = secrets.token_urlsafe(16)
        self.mapper = PortMapper(folder, port=mapper_port)
        self.home = folder.path / "cluster"
        self.home.mkdir()
        cookie = self.home / ".erlang.cookie"  # before the first start: the nodes would race for it
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
        each = [ports[3 * number : 3 * number + 3] for number in range(size)]
        self.settings = (
            *CLUSTER_SETTINGS,
            *(
                f"cluster_formation.classic_config.nodes.{number} = {nodename(amqp_port)}"
                for number, (amqp_port, *_) in enumerate(each, start=1)
            ),
        )
        self.nodes = [
            RabbitMQ(folder, ports=[*own, mapper_port], name=f"rabbitmq-{number}", cluster=self)
            for number, own in enumerate(each, start=1)
        ]

    def launch(self) -> None:
        """Every node's process runs: they wait for each other."""
        for node in self.nodes:
            node.launch()

    def wait_until_up(self) -> None:
        """Every node answers. Raises ServerFailed."""
        for node in self.nodes:
            node.wait_until_up()

    def urls(self, vhost: str = "") -> str:
        """Return the addresses of all nodes."""
        return " ".join(f"{node.url}{vhost}" for node in self.nodes)


def nodename(amqp_port: int) -> str:
    """Return the name of the node that listens there."""
    return f"wallet-{amqp_port}@localhost"


class PortMapper:
    """Erlang's port mapper (epmd) for one broker.

    The broker would start one as a daemon, which outlives it and stands in `/`, where the reaper could not
    know it. It stays when the broker is killed: it holds no data.
    """

    def __init__(self, folder: Folder, *, port: int) -> None:
        self.port = port
        self._watch = folder.watch
        self._folder = folder.path / "epmd"
        self._folder.mkdir()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """The port mapper answers."""
        if self._process is not None and self._process.poll() is None:
            return
        program = shutil.which("epmd")
        if program is None:
            raise ServersUnavailable("Erlang's port mapper, epmd, is not on the PATH")
        self._process = subprocess.Popen(
            [program, "-port", str(self.port), "-address", "127.0.0.1"],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._watch(self._process)
        wait_until(
            lambda: speaks_epmd(self.port),
            timeout_seconds=START_SECONDS,
            failed=lambda: ServerFailed("epmd did not answer in time"),
        )
