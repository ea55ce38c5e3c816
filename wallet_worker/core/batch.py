"""A batch: what it looks up, and its decisions, in parts that can be written one after the other."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from wallet_schemas.commands import OpenAccount
from wallet_worker.core.changes import Changes, Decision
from wallet_worker.core.context import DecisionContext, Policy
from wallet_worker.core.decide import decide
from wallet_worker.core.facts import Facts
from wallet_worker.core.ids import ENTROPY_BYTES, FreshIds
from wallet_worker.core.inbound import InboundMessage, InvalidMessage, Message


class MessageFailedError(Exception):
    """Our own code failed on a message. Nothing was decided about the messages after it."""


class Part(NamedTuple):
    """Decisions of a batch, and what may be written once they are made.

    `start` is the position in the batch of the first decision.
    """

    start: int
    decisions: Sequence[Decision]
    changes: Changes
    is_last: bool


def account_ids_wanted(messages: Sequence[Message | InvalidMessage]) -> int:
    """Return how many fresh account ids these messages need."""
    return sum(isinstance(message, OpenAccount) for message in messages)


def decide_all(
    batch: Sequence[tuple[InboundMessage, Message | InvalidMessage]],
    facts: Facts,
    rules: Policy,
    now: datetime,
    *,
    entropy: bytes,
    account_ids: Iterator[int],
    flush_every: int,
    yield_every: int,
) -> Iterator[Part | None]:
    """Decide each message in order of arrival, over what the decisions before it left in `facts`.

    Yields a part after every `flush_every` messages and after the last, and None after every `yield_every`: a moment
    for the caller to look after what is being written. `entropy` has `ENTROPY_BYTES` for each message, `account_ids`
    an id for each account that is opened. Raises MessageFailedError.
    """
    decisions: list[Decision] = []
    start = 0
    for position, (incoming, message) in enumerate(batch):
        if position and position % flush_every == 0:
            yield Part(start, decisions, facts.take_flushable(), is_last=False)
            decisions, start = [], position
        elif position % yield_every == 0:
            yield None
        draw = FreshIds(
            entropy[position * ENTROPY_BYTES : (position + 1) * ENTROPY_BYTES],
            next(account_ids) if isinstance(message, OpenAccount) else 0,
        )
        try:
            decision = decide(message, facts, DecisionContext(rules, incoming, draw, now))
            facts.apply(decision)
        except Exception as exc:
            # The one place where a bug of ours is a message's fault: its neighbours must not pay for it.
            msg = f"{type(exc).__name__}: {exc}"
            raise MessageFailedError(msg) from exc
        decisions.append(decision)
    yield Part(start, decisions, facts.take_remaining(), is_last=True)
