"""Bisecting: a batch that the database rejects is halved until the message at fault stands alone."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, Self, TypeVar

import structlog

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)
R = TypeVar("R")

log = structlog.get_logger(__name__)


class Batch(Protocol[T_contra]):
    """Where the messages of a batch come from."""

    def halves(self, taken: Sequence[T_contra], /) -> tuple[Self, Self]:
        """Return two batches, with half each of the messages that were taken."""


B = TypeVar("B", bound=Batch)  # type: ignore[type-arg]  # of T, which a bound cannot say


async def apply_or_bisect(
    batch: B,
    apply: Callable[[B, list[T]], Awaitable[list[R]]],
    apply_alone: Callable[[T, Exception], Awaitable[list[R]]],
    faults: tuple[type[Exception], ...],
) -> list[R]:
    """Apply a batch, or the halves of it after one of these faults; return the results in order.

    `apply` leaves in its list the messages that it took. `apply_alone` gets a message that was alone at fault, and the
    fault. A fault that came before any message was taken is raised.
    """
    taken: list[T] = []
    try:
        return await apply(batch, taken)
    except faults as exc:
        if not taken:  # the rows that are due could not be locked
            raise
        if len(taken) == 1:
            return await apply_alone(taken[0], exc)
        log.info("batch.bisected", size=len(taken), reason=str(exc))
    first, second = batch.halves(taken)
    return [
        *await apply_or_bisect(first, apply, apply_alone, faults),
        *await apply_or_bisect(second, apply, apply_alone, faults),
    ]
