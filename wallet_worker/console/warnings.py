"""What is wrong now, in sentences for the top of a page: most of all, that nobody works.

A quiet page says nothing of what it cannot see: what is not known is a warning, too.
"""

from datetime import datetime, timedelta
from typing import Final

from wallet_schemas.names import PAYMENT_RESULTS, WALLET_COMMANDS, WALLET_QUERIES
from wallet_worker.console.queues import Depths
from wallet_worker.dead_letters.model.letters import Overview
from wallet_worker.store.reads.console import DatabaseHealth

KEEPER_SILENT: Final = timedelta(seconds=30)  # six of its beats
AT_WORK: Final = "at work"
PUBLISH_OVERDUE_SECONDS: Final = 60
PAYOUT_OLD_SECONDS: Final = 24 * 3_600
_NO_KEEPER: Final = (
    "No keeper is at work: dead letters stay in their queue, and replays are not carried out. The figures here are "
    "from before. Start a worker, or `wallet keeper`."
)
_READ_BY_WORKERS: Final = {
    WALLET_COMMANDS: "no command is applied",
    PAYMENT_RESULTS: "no payment result is applied",
    WALLET_QUERIES: "no query is answered",
}


def warnings(
    depths: Depths, overview: Overview | None, condition: DatabaseHealth | None, now: datetime
) -> list[str]:
    """Return what a person must know before anything else, the gravest first."""
    return [*_of_queues(depths), *_of_keeper(overview, now), *_of_ledger(condition)]


def _of_queues(depths: Depths) -> list[str]:
    if depths.fault:
        return [f"{depths.fault} Whether anybody works is not known."]
    found = [
        f"The queue {queue.name} is missing: run `wallet topology apply`."
        for queue in depths.queues
        if queue.messages is None
    ]
    for queue in depths.queues:
        what = _READ_BY_WORKERS.get(queue.name)
        if what is not None and queue.messages is not None and not queue.consumers:
            found.append(
                f"No worker reads {queue.name}: {what}. {_count(queue.messages, 'message')} "
                f"{'waits' if queue.messages == 1 else 'wait'} there. Start a worker, or look at its /readyz."
            )
    return found


def _of_keeper(overview: Overview | None, now: datetime) -> list[str]:
    if overview is None:
        return []
    if overview.keeper_seen is None:
        return [
            "No keeper was ever at work: dead letters stay in their queue. Start a worker, or `wallet keeper`."
        ]
    if now - overview.keeper_seen > KEEPER_SILENT:
        return [_NO_KEEPER]
    if overview.keeper_standing and overview.keeper_standing != AT_WORK:
        return [f"The keeper cannot work: {overview.keeper_standing}."]
    return []


def _of_ledger(condition: DatabaseHealth | None) -> list[str]:
    if condition is None:
        return []
    found = []
    if condition.orders_overdue:
        found.append(
            f"{_count(condition.orders_overdue, 'order')} should have been asked about or expired, and "
            f"{'was' if condition.orders_overdue == 1 else 'were'} not: workers are down or behind."
        )
    if condition.overdue_oldest_seconds > PUBLISH_OVERDUE_SECONDS:
        found.append(
            f"{_count(condition.overdue, 'message')} should have been published by now, the oldest "
            f"{_hours(condition.overdue_oldest_seconds)} ago."
        )
    if condition.payouts_oldest_seconds > PAYOUT_OLD_SECONDS:
        found.append(
            "A withdrawal or refund has waited for the payment gateway for "
            f"{_hours(condition.payouts_oldest_seconds)}: ask the gateway's support."
        )
    return found


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _hours(seconds: float) -> str:
    return f"{seconds / 3_600:.0f} h" if seconds >= 2 * 3_600 else f"{seconds / 60:.0f} min"
