"""What the worker asks of the schema costs it none of the tools that change it."""

import subprocess
import sys

LOADED = "import sys, wallet_worker.worker.app; print(*{name.partition('.')[0] for name in sys.modules})"


def test_a_worker_loads_nothing_that_migrates() -> None:
    loaded = subprocess.run([sys.executable, "-c", LOADED], check=True, capture_output=True, text=True)

    assert "asyncpg" in loaded.stdout.split()
    assert not {"alembic", "sqlalchemy"} & set(loaded.stdout.split())
