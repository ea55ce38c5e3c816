"""The system's Chromium: where it is, and installing it where it is not.

python -m tests.console.chromium
"""

import os
import shutil
import sys
from pathlib import Path

from tests.servers.install import InstallFailed, install_with_apt, run
from tests.servers.server import Say

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_OF_MACOS = (
    Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"),
    Path("/Applications/Chromium.app/Contents/MacOS/Chromium"),
)


def find() -> str | None:
    """Return the path of a Chromium: WALLET_CHROMIUM, or the one that the system has."""
    named = os.environ.get("WALLET_CHROMIUM")
    if named:
        return named
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    return found or next((str(path) for path in _OF_MACOS if path.exists()), None)


def ensure_available(*, say: Say) -> None:
    """A Chromium is there: nothing was done if it was before. Raises InstallFailed."""
    if find() is not None:
        return
    if shutil.which("apt-get"):
        install_with_apt("chromium", say=say)
    elif shutil.which("brew"):
        say("installing Chromium's twin google-chrome with brew")
        run(["brew", "install", "--cask", "google-chrome"])
    if find() is None:
        msg = "there is no Chromium for the console's tests: install one, or name it in WALLET_CHROMIUM"
        raise InstallFailed(msg)


if __name__ == "__main__":
    try:
        ensure_available(say=lambda text: print(f"console: {text}", file=sys.stderr, flush=True))  # noqa: T201
    except InstallFailed as why:
        sys.exit(f"console: {why}")
