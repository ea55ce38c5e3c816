"""Ctrl-C, once: it ends the story wherever it is, and never cuts the cleaning up short."""

import asyncio
import signal
from collections.abc import Coroutine
from types import FrameType
from typing import Any, Final, TypeVar

import uvloop

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

T = TypeVar("T")


def arm() -> None:
    """The next of the signals raises KeyboardInterrupt, and those after it do nothing."""
    # SIGINT too: a shell starts what runs in its background with SIGINT ignored.
    for number in SIGNALS:
        if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
            continue  # nohup
        signal.signal(number, _interrupt)


def disarm() -> None:
    """None of the signals does anything any more."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Return what the coroutine returns; the first of the signals cancels it and raises KeyboardInterrupt."""
    interrupted = False

    async def cancellable() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def interrupt() -> None:
            nonlocal interrupted
            if task is not None and not interrupted:
                interrupted = True
                task.cancel()

        for number in SIGNALS:
            if signal.getsignal(number) is _interrupt:
                loop.add_signal_handler(number, interrupt)
        return await work

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(cancellable())
    except asyncio.CancelledError:
        if not interrupted:
            raise
        raise KeyboardInterrupt from None
    finally:
        if interrupted:
            disarm()
        else:
            arm()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    disarm()
    raise KeyboardInterrupt
