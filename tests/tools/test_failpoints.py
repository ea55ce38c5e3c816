"""Failpoints: inert unless the environment says otherwise, and then deadly at the n-th passing."""

import os
import signal
import subprocess
import sys

import pytest

from wallet_worker import failpoints
from wallet_worker.cli.exits import Exit
from wallet_worker.failpoints import Failpoint, UnknownFailpointError, read


def test_without_the_variable_every_place_is_the_same_empty_function() -> None:
    assert "WALLET_FAILPOINT" not in os.environ

    assert read({}) is read({"WALLET_FAILPOINT": ""}) is failpoints.failpoint
    assert [failpoints.failpoint(place) for place in Failpoint] == [None] * len(Failpoint)


@pytest.mark.parametrize("wanted", ["before_comit", "after_commit:often", ":3"])
def test_a_place_that_there_is_not_is_an_error_and_no_silence(wanted: str) -> None:
    with pytest.raises(UnknownFailpointError, match="after_commit"):
        read({"WALLET_FAILPOINT": wanted})


PROGRAM = """
from wallet_worker.failpoints import Failpoint, failpoint
for number in range(1, 6):
    failpoint(Failpoint.BEFORE_COMMIT)
    failpoint(Failpoint.AFTER_COMMIT)
    print(number, flush=True)
"""


@pytest.mark.parametrize(("wanted", "passed"), [("after_commit", []), ("after_commit:3", ["1", "2"])])
def test_the_process_kills_itself_when_it_passes_the_place_for_the_nth_time(
    wanted: str, passed: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"WALLET_FAILPOINT": wanted},
        capture_output=True,
        text=True,
        check=False,
    )

    *numbers, last = done.stdout.splitlines()
    assert done.returncode == -signal.SIGKILL
    assert numbers == passed
    assert "failpoint.reached" in last
    assert f"WALLET_FAILPOINT={wanted}" in last


def test_a_worker_with_a_place_that_there_is_not_says_so_in_a_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"WALLET_FAILPOINT": "after_comit"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == Exit.MISUSED
    assert done.stdout == ""
    assert done.stderr.startswith(
        "wallet: WALLET_FAILPOINT=after_comit: there are before_commit, after_commit, "
    )
    assert len(done.stderr.splitlines()) == 1
