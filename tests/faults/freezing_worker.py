"""A worker that stops in its tracks, once, where a failpoint would have it die: `… freezing_worker NAME[,NAME]`.

Who stops a worker from outside cannot say what it has in hand. Here it is what lies between two steps of a batch: with
`WALLET_FAILPOINT=before_commit`, a transaction in which everything is written and nothing is committed.
"""

import os
import signal
import sys

from tests.faults.sabotaged_worker import main, put, sabotage


@sabotage
def freezes() -> None:
    """Stop instead of dying; whoever continues the process has it go on from there, and pass there ever after."""
    real, stopped = os.kill, False

    def stop(pid: int, _: int) -> None:
        nonlocal stopped
        if not stopped:
            stopped = True
            real(pid, signal.SIGSTOP)

    put(os, "kill", stop)


if __name__ == "__main__":
    main(sys.argv[1])
