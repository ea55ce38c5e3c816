"""What operators watch of dead letters. The rules in `wallet_worker/telemetry` are written against these names."""

from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from wallet_worker.dead_letters.intake.record import TakenIn
from wallet_worker.dead_letters.model.states import LetterState
from wallet_worker.store.dead_letters import letters, replays
from wallet_worker.telemetry.metrics import UNKNOWN

FRESH_WINDOW: Final = timedelta(days=1)
"""A group is new if it had no letter in the window before this one."""

_LAG_SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 1_800)


class DeadLetterMetrics:
    """The keeper's metrics. What comes from the database is the same with every keeper: take the maximum."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.taken_in = Counter(
            "wallet_dead_letters_taken_in_total",
            "Letters taken in by this keeper, by reason and source.",
            ("reason", "source"),
            registry=registry,
        )
        self.take_in_lag = Histogram(
            "wallet_dead_letters_take_in_lag_seconds",
            "From the worker setting a message aside to its being in the database; only of what was tried once: when "
            "the others were set aside, nothing in them says.",
            buckets=_LAG_SECONDS,
            registry=registry,
        )
        self.letters = Gauge(
            "wallet_dead_letters", "Dead letters in the database, by state.", ("state",), registry=registry
        )
        self.oldest_seconds = Gauge(
            "wallet_dead_letters_oldest_waiting_seconds",
            "Age of the letter that has waited longest, 0 if none waits.",
            registry=registry,
        )
        self.groups = Gauge(
            "wallet_dead_letters_group_waiting",
            "Letters that wait, by reason and source.",
            ("reason", "source"),
            registry=registry,
        )
        self.group_new = Gauge(
            "wallet_dead_letters_group_new",
            "1 for a group with letters of the last day and none of the day before.",
            ("reason", "source"),
            registry=registry,
        )
        self.replays = Counter(
            "wallet_dead_letter_replays_total",
            "Replays that have ended, edits too, by outcome: resolved, failed, or refused though they were to be "
            "applied. A request that was handed on and then comes back counts as both.",
            ("outcome",),
            registry=registry,
        )
        self.ended_by_themselves = Counter(
            "wallet_dead_letter_operations_ended_by_themselves_total",
            "Operations that have stopped because too much went badly, or were paused because they cannot go on.",
            ("how",),
            registry=registry,
        )
        self.without_outcome_seconds = Gauge(
            "wallet_dead_letter_replay_without_outcome_seconds",
            "How long ago the replay was published that has been without an outcome for longest, 0 if none is.",
            registry=registry,
        )
        self.still_seconds = Gauge(
            "wallet_dead_letter_operation_still_seconds",
            "How long the running operation has not moved that has not for longest, 0 if none runs.",
            registry=registry,
        )
        self.keeper_working = Gauge(
            "wallet_dead_letters_keeper_working",
            "1 while this keeper can take letters in: it has a broker and a database.",
            registry=registry,
        )
        for gauge in (self.oldest_seconds, self.without_outcome_seconds, self.still_seconds):
            gauge.set(UNKNOWN)  # until the database was asked
        for outcome in ("resolved", "refused", "failed"):
            self.replays.labels(outcome=outcome)
        for how in ("stopped", "paused"):
            self.ended_by_themselves.labels(how=how)

    def count(self, taken: TakenIn, now: datetime) -> None:
        """Count what was taken in just now, and the replays that have ended with it."""
        for arrival in (*taken.new, *taken.came_back):
            self.taken_in.labels(reason=arrival.reason, source=arrival.source).inc()
            # What was parked, or handed out again, was set aside later than it was first seen.
            if arrival.attempts == 1:
                self.take_in_lag.observe(max((now - arrival.first_seen).total_seconds(), 0))
        self.replays.labels(outcome="failed").inc(taken.failed)

    async def look(self, connection: asyncpg.Connection) -> None:
        """Set the gauges to what the database holds now."""
        states = {row.state: row for row in await letters.states(connection)}
        for state in LetterState:
            self.letters.labels(state=state.value).set(states[state].letters if state in states else 0)
        waiting = states.get(LetterState.WAITING)
        age = datetime.now(UTC) - waiting.oldest if waiting else timedelta()
        self.oldest_seconds.set(max(age.total_seconds(), 0))
        waits = await replays.waits(connection)
        self.without_outcome_seconds.set(waits.without_outcome_seconds)
        self.still_seconds.set(waits.still_seconds)
        for row in await letters.group_ages(connection, FRESH_WINDOW):
            names = {"reason": row.reason, "source": row.source}
            self.groups.labels(**names).set(row.waiting)
            self.group_new.labels(**names).set(int(row.since is not None and not row.is_old))
