"""Outcomes of published replays: read from the ledger, and written to the replays and their letters."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from wallet_schemas.names import PAYMENT_REQUESTS
from wallet_schemas.signature import Keys
from wallet_worker.core.context import Policy
from wallet_worker.dead_letters.metrics import DeadLetterMetrics
from wallet_worker.dead_letters.model.predictions import PredictedOutcome
from wallet_worker.dead_letters.model.states import LetterState, ReplayState
from wallet_worker.dead_letters.replay.predict import Replayable, predict
from wallet_worker.store.clock import database_time
from wallet_worker.store.database import Database
from wallet_worker.store.dead_letters import audit, letters, replays
from wallet_worker.store.dead_letters.audit import KeeperEntry
from wallet_worker.store.dead_letters.replays import EndedReplay, PublishedReplay, ReplayEnd

OUTCOMES_MAX = 500
HANDED_ON_AFTER = timedelta(seconds=30)  # a gateway that is at work has given it back by then


@dataclass(frozen=True, slots=True)
class ResolvedCount:
    """How many published replays were looked at, and how many of them have their outcome now."""

    looked_at: int
    ended: int


async def resolve_outcomes(
    database: Database, rules: Policy, keys: Keys, metrics: DeadLetterMetrics
) -> ResolvedCount:
    """Look what has become of published replays, and write the outcomes that are known; raises StoreError.

    The outcome is known when the same message would only repeat it: nothing that it could still do is left. That of a
    payment request, when the gateway has answered, or has had the time to give it back.
    """
    async with database.transaction() as connection:
        rows = await replays.take_published(connection, OUTCOMES_MAX, quiet_after=HANDED_ON_AFTER)
        if not rows:
            return ResolvedCount(0, 0)
        requests = [row for row in rows if row.source == PAYMENT_REQUESTS]
        others = [row for row in rows if row.source != PAYMENT_REQUESTS]
        messages = [Replayable(row.source, row.body, row.properties) for row in others]
        ends = [
            ReplayEnd(row.replay_id, ReplayState.RESOLVED, prediction.code, prediction.detail)
            for row, prediction in zip(others, await predict(connection, messages, rules, keys), strict=True)
            if prediction.verdict is PredictedOutcome.REPEATS
        ]
        ends += [
            ReplayEnd(row.replay_id, ReplayState.RESOLVED, "OK", why)
            for row in requests
            if (why := _why_handed_on(row)) is not None
        ]
        now = await database_time(connection)
        ended = await replays.end(connection, ends, now) if ends else []
        if ended:
            await _resolve(connection, ended, now)
        over = {row.replay_id for row in ended}
        await replays.checked(connection, [row.replay_id for row in rows if row.replay_id not in over])
    refused = sum(row.verdict == PredictedOutcome.WILL_APPLY and row.code != "OK" for row in ended)
    metrics.replays.labels(outcome="refused").inc(refused)
    metrics.replays.labels(outcome="resolved").inc(len(ended) - refused)
    return ResolvedCount(len(rows), len(ended))


def _why_handed_on(row: PublishedReplay) -> str | None:
    """Return why a payment request has reached the gateway, as far as anybody here can tell."""
    if row.answer is not None:
        return f"handed on to the gateway, which has said {row.answer} of its order since"
    if row.is_quiet:
        return f"handed on to the gateway, and not back {HANDED_ON_AFTER.total_seconds():.0f} seconds later"
    return None


async def _resolve(connection: asyncpg.Connection, ended: Sequence[EndedReplay], now: datetime) -> None:
    """Close the letters of replays that have their outcome, and say so in the audit."""
    await letters.move(
        connection,
        [row.letter_id for row in ended if not row.is_edit],
        before=(LetterState.REPLAYING.value,),
        after=LetterState.RESOLVED.value,
        now=now,
    )
    deeds = [KeeperEntry("replay resolved", row.code, row.letter_id, row.operation_id) for row in ended]
    await audit.insert_of_keeper(connection, deeds, now)
