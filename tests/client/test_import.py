"""Importing the client is safe in anybody's process."""

import subprocess
import sys

_PROBE = """
import logging, signal, sys, warnings
from pamqp import decode, encode

def state():
    return (
        dict(decode.METHODS), dict(decode.TABLE_MAPPING), dict(encode.METHODS), logging.getLogger().handlers[:],
        logging.getLogger().level, warnings.filters[:], signal.getsignal(signal.SIGINT),
        signal.getsignal(signal.SIGTERM), sys.excepthook,
    )

before = state()
import wallet_worker.client
assert state() == before, "importing the client has changed its process"
assert "uvloop" not in sys.modules and "asyncpg" not in sys.modules and "sqlalchemy" not in sys.modules
"""


def test_importing_the_client_changes_nothing_in_its_process() -> None:
    done = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
