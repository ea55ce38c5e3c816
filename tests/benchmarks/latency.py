"""How long somebody waits for an outcome, while commands come at a steady pace that heeds nobody.

The generator is open-loop: each command has its moment, drawn before the run (a Poisson process), and the time is
taken from that moment and not from when it was really sent. So a worker that stalls is charged for everything that
had to wait meanwhile, and not only for what was in its hands (no coordinated omission).
"""

import math
import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from tests.benchmarks.contest import Program, running
from tests.benchmarks.place import Site
from tests.benchmarks.verdict import WrongResultError
from tests.benchmarks.wire import BrokerFailed, RawChannel, framed
from tests.benchmarks.workloads import USERS, Kind, Step, newcomer_numbers, parcel

WARM_SECONDS: Final = 2.0
"""The beginning of each run, which is not counted: caches fill, statements are prepared."""
LATE_SECONDS: Final = 30.0
"""How long the last outcomes are waited for; a worker that is slower than the commands never catches up."""

_OPEN_EVERY: Final = 11  # one account is opened for ten recharges


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds from a command's moment to its outcome, of every command of a run. `unanswered` had none in time."""

    rate: int
    seconds: Sequence[float]
    unanswered: int


def percentile(seconds: Sequence[float], percent: float) -> float:
    """Return the least wait that so many percent of the commands did not exceed (the nearest rank)."""
    # Exact: in floats, 99.9 % of 41,000 is a hair more than it is.
    rank = math.ceil(Fraction(str(percent)) * len(seconds) / 100)
    return sorted(seconds)[max(rank, 1) - 1]


def run(site: Site, program: Program, seconds: Mapping[int, float], *, prefix: str) -> list[Waits]:
    """Return the waits at each rate, so many seconds each, one after the other with one and the same worker."""
    with running(program, site) as contestant:
        _warm_up(site, prefix)
        waits = []
        for rate, length in seconds.items():
            contestant.assert_alive()
            waits.append(_at(site, rate, seconds=length, prefix=f"{prefix}-{rate}"))
    return waits


def _warm_up(site: Site, prefix: str) -> None:
    """Return once the worker answers."""
    _at(site, 20, seconds=0.5, prefix=f"{prefix}-warm")


def _at(site: Site, rate: int, *, seconds: float, prefix: str) -> Waits:
    chance = random.Random(rate)
    warm = WARM_SECONDS if seconds > WARM_SECONDS else 0.0
    moments: list[float] = []
    moment = chance.expovariate(rate)
    while moment < warm + seconds or not moments:
        moments.append(moment)
        moment += chance.expovariate(rate)
    answered: dict[str, float] = {}
    complete = threading.Event()
    with RawChannel(site.amqp_url) as query_sent, RawChannel(site.amqp_url) as hearing:
        reply_to = hearing.declare_reply_queue()
        steps = _steps(len(moments), prefix, chance)
        messages = [framed(parcel(step, reply_to=reply_to), sender=query_sent.user) for step in steps]
        listening = threading.Thread(
            target=_listen, args=(hearing, reply_to, len(moments), answered, complete), daemon=True
        )
        listening.start()
        begun = time.perf_counter() + 0.05
        _send(query_sent, messages, [begun + moment for moment in moments])
        complete.wait(LATE_SECONDS)
        hearing.close()
        listening.join()
    counted = [
        (step.serial_no, begun + moment)
        for step, moment in zip(steps, moments, strict=True)
        if moment >= warm
    ]
    waits = [answered[number] - due for number, due in counted if number in answered]
    if not waits:
        msg = f"no command was answered at {rate} a second"
        raise WrongResultError(msg)
    return Waits(rate, waits, len(counted) - len(waits))


def _steps(count: int, prefix: str, chance: random.Random) -> list[Step]:
    newcomers = newcomer_numbers(prefix)
    steps = []
    for number in range(count):
        opening = number % _OPEN_EVERY == 0
        user = next(newcomers) if opening else chance.randint(1, USERS)
        steps.append(Step(Kind.OPEN if opening else Kind.RECHARGE, f"{prefix}-{number:07}", user))
    return steps


def _send(channel: RawChannel, messages: Sequence[bytes], due: Sequence[float]) -> None:
    """Send each message at its moment, or at once if that has passed, and wait for all confirms in the end."""
    for message, moment in zip(messages, due, strict=True):
        wait = moment - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        channel.send([message])
    channel.await_confirms(at_most=0)


def _listen(
    channel: RawChannel, queue: str, count: int, answered: dict[str, float], complete: threading.Event
) -> None:
    """Note when each outcome came, until all are there or the channel is closed."""
    try:
        for message in channel.consume(queue, no_ack=True):
            answered[message.correlation_id] = time.perf_counter()
            if len(answered) == count:
                complete.set()
                return
    except (BrokerFailed, OSError):
        return
