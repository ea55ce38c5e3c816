"""Installing the broker on a machine that has neither it nor Docker."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.servers import containers, patroni, rabbitmq
from tests.servers.server import Say, ServersUnavailable

SERVICE = "rabbitmq-server"
SYSTEMD = "/run/systemd/system"
OF_FAILOVER = {"etcd-server": "etcd", "patroni": "patroni", "postgresql": "postgresql"}
"""Packages, each with the service that comes with it."""
SHOWN_LINES = 20
DEBIAN_PATH = (
    "/usr/sbin:/sbin:/usr/bin:/bin"  # an ordinary user's PATH may lack sbin, and dpkg refuses to work so
)


class InstallFailed(Exception):  # noqa: N818 - named as what happened
    """The package manager is missing or refused; the text says what to type."""


def ensure_available(*, say: Say) -> None:
    """Servers can be started here: nothing was done if they could before. Raises InstallFailed."""
    if os.environ.get("WALLET_AMQP_URL") and os.environ.get("WALLET_DATABASE_URL"):
        return
    try:
        rabbitmq.find_script()
    except ServersUnavailable:
        pass
    else:
        return
    try:
        containers.check_engine()
    except ServersUnavailable as why:
        say(f"{why}, and there is no rabbitmq-server on this machine")
    else:
        return
    if shutil.which("apt-get"):
        _install_broker_with_apt(say=say)
    elif shutil.which("brew"):
        say("installing rabbitmq with brew")
        run(["brew", "install", "rabbitmq"])
    else:
        raise InstallFailed(
            "neither apt-get nor brew is here: install RabbitMQ 3.10 or newer, or start Docker"
        )
    try:
        rabbitmq.find_script()
    except ServersUnavailable as why:
        raise InstallFailed(f"{why}, although it was installed just now: set WALLET_RABBITMQ_SERVER") from why


def ensure_failover_available(*, say: Say) -> None:
    """Etcd, Patroni and PostgreSQL of the system's packages are there, and none of their services runs.

    Raises InstallFailed.
    """
    try:
        patroni.find_programs()
    except ServersUnavailable as why:
        if not shutil.which("apt-get"):
            raise InstallFailed(
                f"{why}, and apt-get is not here: install etcd, Patroni and PostgreSQL"
            ) from why
    else:
        return
    for package, service in OF_FAILOVER.items():
        before = install_with_apt(package, say=say)
        _stop_service(service, before)


def _install_broker_with_apt(*, say: Say) -> None:
    """RabbitMQ's programs are there, and the service that comes with them neither runs nor will run.

    The service would take the ports 5672, 25672 and 4369 and a hundred megabytes of memory. Nothing here
    needs it.
    """
    before = install_with_apt(SERVICE, say=say)
    _stop_service(SERVICE, before)
    if Path(SYSTEMD).is_dir():
        _run_if_there([*before, "systemctl", "stop", "epmd.socket", "epmd.service"])
    # The package's installation starts Erlang's port mapper, which stays. It refuses to end while a node needs it.
    subprocess.run(["epmd", "-kill"], check=False, capture_output=True)


def install_with_apt(package: str, *, say: Say) -> list[str]:
    """A package of the system is installed; returns what stands before a command to run it as root."""
    with_root = [] if os.geteuid() == 0 else ["sudo"]
    if with_root and shutil.which("sudo") is None:
        raise InstallFailed(f"as root, install {package}: apt-get install {package}")
    say(f"installing {package} with apt-get" + (" (sudo may ask for your password)" if with_root else ""))
    before = [*with_root, "env", "DEBIAN_FRONTEND=noninteractive", f"PATH={DEBIAN_PATH}"]
    apt = [*before, "apt-get", "-qq", "-o", "Dpkg::Use-Pty=0"]
    run([*apt, "update"])
    run([*apt, "install", "--yes", "--no-install-recommends", package])
    return before


def _stop_service(name: str, before: Sequence[str]) -> None:
    """A service that came with a package neither runs nor will run. `before` stands before a command to be root."""
    if Path(SYSTEMD).is_dir():
        _run_if_there([*before, "systemctl", "disable", "--now", name])
    else:
        _run_if_there([*before, "service", name, "stop"])
        _run_if_there([*before, "update-rc.d", name, "disable"])


def _run_if_there(command: list[str]) -> None:
    # It may not run at all, as in a container: then there is nothing to stop, and the status says no more.
    subprocess.run(command, check=False, capture_output=True)


def run(command: list[str]) -> None:
    """The command has worked; what it printed is shown only when it has not. Raises InstallFailed."""
    try:
        subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except subprocess.CalledProcessError as why:
        answer = "\n".join(str(why.output).splitlines()[-SHOWN_LINES:])
        raise InstallFailed(f"{answer}\n{' '.join(command)} ended with status {why.returncode}") from why
    except OSError as why:
        raise InstallFailed(f"{command[0]} could not be run: {why}") from why
