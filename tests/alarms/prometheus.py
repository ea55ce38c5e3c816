"""Prometheus and its promtool: where they are, and installing them where they are not.

python -m tests.alarms.prometheus
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.servers.install import InstallFailed, install_with_apt, run
from tests.servers.server import Say

SERVICE = "prometheus"


def find(program: str) -> str | None:
    """Return the path of `promtool` or `prometheus`: from the folder WALLET_PROMETHEUS, or the system's."""
    named = os.environ.get("WALLET_PROMETHEUS")
    return str(Path(named) / program) if named else shutil.which(program)


def need(program: str) -> str:
    """Return the path of a program that is there; raises InstallFailed."""
    found = find(program)
    if found is None:
        msg = f"{program} is not installed: `python -m tests.alarms.prometheus` installs it"
        raise InstallFailed(msg)
    return found


def ensure_available(*, say: Say) -> None:
    """Prometheus is there: nothing was done if it was before. Raises InstallFailed."""
    if find("promtool") and find("prometheus"):
        return
    if shutil.which("apt-get"):
        before = install_with_apt("prometheus", say=say)
        _disable_service(before)
    elif shutil.which("brew"):
        say("installing prometheus with brew")
        run(["brew", "install", "prometheus"])
    if not (find("promtool") and find("prometheus")):
        msg = "there is no Prometheus for the tests of the alarms: install it, or name its folder in WALLET_PROMETHEUS"
        raise InstallFailed(msg)


def _disable_service(before: list[str]) -> None:
    """Stop the service that comes with the package: the tests start a Prometheus of their own, on a free port."""
    commands = (
        [["systemctl", "disable", "--now", SERVICE]]
        if Path("/run/systemd/system").is_dir()
        else [["service", SERVICE, "stop"], ["update-rc.d", SERVICE, "disable"]]
    )
    for command in commands:
        # In a container the service does not run: then there is nothing to stop.
        subprocess.run([*before, *command], check=False, capture_output=True)


if __name__ == "__main__":
    try:
        ensure_available(say=lambda text: print(f"alarms: {text}", file=sys.stderr, flush=True))  # noqa: T201
    except InstallFailed as why:
        sys.exit(f"alarms: {why}")
