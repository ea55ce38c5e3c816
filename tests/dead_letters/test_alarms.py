"""Need 15 (docs/operators-needs.md): metrics and alarms for depth, age, a new group, failing replays and taking in."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

import wallet_worker
from tests.dead_letters.conftest import AUTHORITY, LINEAGE, NOWHERE, OTTO, Desk, Wallet
from tests.dead_letters.letters import arrived, headers
from tests.dead_letters.people import agreed
from tests.journeys.messages import encoded, open_account, recharge, result
from tests.workers import WorkerProcess, until
from wallet_worker.api.metrics import ApiMetrics
from wallet_worker.audit.follow import FollowMetrics
from wallet_worker.broker.cluster_watch import ClusterWatch
from wallet_worker.dead_letters.metrics import DeadLetterMetrics
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.plans import ReplayPace
from wallet_worker.dead_letters.model.states import ACTS_ON, Action, OperationState
from wallet_worker.dead_letters.reasons import REASONS
from wallet_worker.dead_letters.replay.replayer import Replayer
from wallet_worker.dead_letters.runbook import page
from wallet_worker.telemetry.metrics import Metrics
from wallet_worker.webhooks.metrics import WebhooksMetrics

HOME = Path(wallet_worker.__file__).parent
GROUPS = yaml.safe_load((HOME / "telemetry" / "prometheus-rules.yaml").read_text())["groups"]
RULES: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]

_SELECTOR = re.compile(r"(wallet_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)(?:=|!=|=~|!~)"([^"]*)"')


def known() -> dict[str, set[str]]:
    """Return the names of every sample that there is, each with its labels."""
    metrics = Metrics()
    DeadLetterMetrics(metrics.registry)
    ClusterWatch("amqp://nobody", "http://nobody", metrics.registry)
    found: dict[str, set[str]] = {}
    for process in (metrics, FollowMetrics(), ApiMetrics(), WebhooksMetrics()):
        registry = process.registry
        assert isinstance(registry, CollectorRegistry)
        for collector, names in registry._collector_to_names.items():
            labels = {"role", *getattr(collector, "_labelnames", ())}  # the role is added as it is shown
            found |= dict.fromkeys(names, labels)
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
@pytest.mark.need(15)
def test_each_alarm_reads_metrics_that_exist_and_says_what_to_do(rule: dict[str, Any]) -> None:
    names = known()

    found = _SELECTOR.findall(rule["expr"])

    assert found
    for name, matchers in found:
        labels = names.get(name)
        if labels is None and name.endswith("_bucket"):
            labels = names.get(name.removesuffix("_bucket"))
        assert labels is not None, f"there is no {name}"
        assert {label for label, _ in _MATCHER.findall(matchers)} <= labels
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"].keys() == {"summary", "description"}
    assert rule["expr"].count("(") == rule["expr"].count(")")


@pytest.mark.need(15)
def test_there_is_an_alarm_for_each_thing_that_is_watched() -> None:
    watched = {name for rule in RULES for name, _ in _SELECTOR.findall(rule["expr"])}

    assert {
        "wallet_dead_letters",
        "wallet_dead_letters_oldest_waiting_seconds",
        "wallet_dead_letters_group_new",
        "wallet_dead_letter_replays_total",
        "wallet_dead_letters_take_in_lag_seconds_bucket",
        "wallet_dead_letters_keeper_working",
        "wallet_dead_letter_replay_without_outcome_seconds",
        "wallet_dead_letter_operation_still_seconds",
        "wallet_dead_letter_operations_ended_by_themselves_total",
        "wallet_queue_messages",
    } <= watched
    assert len({rule["alert"] for rule in RULES}) == len(RULES)


@pytest.mark.need(15)
def test_reasons_in_alarms_are_reasons_that_there_are() -> None:
    named = [value for rule in RULES for label, value in _MATCHER.findall(rule["expr"]) if label == "reason"]

    assert named
    assert set(named) <= set(REASONS)


@pytest.mark.need(15)
def test_whom_a_replay_without_outcome_wakes_is_led_to_edits_too() -> None:
    (rule,) = [item for item in RULES if item["alert"] == "WalletReplayWithoutOutcome"]

    answer = rule["annotations"]["description"]

    assert all(
        answer.count(f"--state {state}") == 2 for state in ACTS_ON[Action.RESTORE] if state != "discarded"
    )


async def sample(worker: WorkerProcess, name: str, **labels: str) -> float | None:
    """Return a value that `/metrics` shows; nothing if it is not there."""
    _, text = await worker.get("/metrics")
    for family in text_string_to_metric_families(text):
        for item in family.samples:
            if item.name == name and labels.items() <= item.labels.items():
                return item.value
    return None


@pytest.mark.need(15)
async def test_the_metrics_show_what_there_is(wallet: Wallet) -> None:
    worker = await wallet.start()
    (letter_id,) = await wallet.set_aside(b"no JSON", reason="INTERNAL")
    await wallet.replayed([letter_id])
    await until(wallet.owner, "SELECT count(*) FROM dead_letter_attempts", 2)
    await wallet.until_beat()
    await wallet.until_beat()  # the first may have begun before

    assert await sample(worker, "wallet_dead_letters", state="waiting") == 1
    assert (await sample(worker, "wallet_dead_letters_oldest_waiting_seconds") or 0) > 0
    assert await sample(worker, "wallet_dead_letters_group_new", reason="MALFORMED") == 1
    assert await sample(worker, "wallet_dead_letters_group_waiting", source="wallet.commands") == 1
    assert await sample(worker, "wallet_dead_letter_replays_total", outcome="failed") == 1
    assert await sample(worker, "wallet_dead_letters_taken_in_total", reason="INTERNAL") == 1
    assert await sample(worker, "wallet_dead_letters_take_in_lag_seconds_count") == 2
    assert await sample(worker, "wallet_dead_letters_keeper_working") == 1


@pytest.mark.need(15)
async def test_a_refusal_of_what_was_to_be_applied_is_no_success(wallet: Wallet) -> None:
    worker = await wallet.start()
    ids = await wallet.set_aside(open_account("user-1"), open_account("user-1"), reason="INTERNAL")

    await wallet.replayed(ids)

    await until(wallet.owner, "SELECT count(ended_at) FROM dead_letter_replays", 2)
    await wallet.until_beat()
    await wallet.until_beat()  # what is counted is counted when it is committed
    assert await sample(worker, "wallet_dead_letter_replays_total", outcome="resolved") == 1
    assert await sample(worker, "wallet_dead_letter_replays_total", outcome="refused") == 1
    assert await sample(worker, "wallet_dead_letter_replays_total", outcome="failed") == 0


@pytest.mark.need(15)
async def test_an_operation_that_stops_by_itself_is_counted_once(desk: Desk) -> None:
    metrics = DeadLetterMetrics(CollectorRegistry())
    await desk.take_in(*(arrived(open_account(f"user-{number}")) for number in range(2)))
    plan = await desk.operations.plan(
        OTTO, Action.REPLAY, Filter(), reason="a test", pace=ReplayPace(canary=1)
    )
    operation = await desk.operations.execute(OTTO, plan.token)
    await desk.owner.execute(
        """
        UPDATE dead_letter_replays SET state = 'resolved', code = 'INSUFFICIENT_BALANCE', ended_at = now()
        WHERE position = 0
        """
    )
    replayer = Replayer(desk.database, NOWHERE, metrics, LINEAGE, AUTHORITY)

    await replayer.step()
    await replayer.step()

    assert (await desk.operations.operation(OTTO, operation.operation_id)).state is OperationState.STOPPED
    assert ended_by_themselves(metrics) == {"stopped": 1, "paused": 0}


def ended_by_themselves(metrics: DeadLetterMetrics) -> dict[str, float]:
    """Return how many operations have ended by themselves, by how they did."""
    (family,) = metrics.ended_by_themselves.collect()
    return {item.labels["how"]: item.value for item in family.samples if item.name.endswith("_total")}


def counted(metrics: DeadLetterMetrics) -> tuple[float, float]:
    """Return how many replays have failed, and how many letters have told how long it took to take them in."""
    samples = {
        (item.name, *item.labels.values()): item.value
        for family in (*metrics.replays.collect(), *metrics.take_in_lag.collect())
        for item in family.samples
    }
    return (
        samples["wallet_dead_letter_replays_total", "failed"],
        samples["wallet_dead_letters_take_in_lag_seconds_count",],
    )


@pytest.mark.need(15)
async def test_each_replay_that_comes_back_is_counted_once_and_edits_too(desk: Desk) -> None:
    metrics = DeadLetterMetrics(CollectorRegistry())
    order = recharge("user-1", "1.001")
    await desk.take_in(
        arrived(open_account("user-1")), arrived(order, headers("MALFORMED", "TWD has 2 digits"))
    )
    first, spoilt = await desk.ids()
    replay = await desk.operations.plan(OTTO, Action.REPLAY, Filter(ids=(first,)), reason="a test")
    await desk.operations.execute(OTTO, replay.token)
    mended = encoded(order | {"amount": "1.00", "serial_no": f"{order['serial_no']}-b"})
    edit = await desk.operations.plan_edit(OTTO, spoilt, mended, reason="a test")
    await agreed(desk.operations, desk.owner, edit)
    await desk.operations.execute(OTTO, edit.token)
    rows = await desk.owner.fetch(
        """
        SELECT r.replay_id, coalesce(r.body, l.body) AS body
        FROM dead_letter_replays r
        JOIN dead_letters l USING (letter_id)
        """
    )

    async def come_back() -> float:
        for row in rows:
            letter = arrived(row["body"], headers("INTERNAL", x_wallet_replay_id=str(row["replay_id"])))
            metrics.count(await desk.take_in(letter), datetime.now(UTC))
        failed, _ = counted(metrics)
        return failed

    assert await come_back() == 2
    assert await come_back() == 2  # another copy of each, late: what they come from has ended


@pytest.mark.parametrize(
    ("attempts", "notified"), [(1, 1), (6, 0)], ids=["set aside at once", "parked before"]
)
@pytest.mark.need(15)
async def test_a_letter_that_was_parked_tells_nothing_of_how_long_taking_in_takes(
    desk: Desk, attempts: int, notified: int
) -> None:
    """A result that waited for its order was first seen minutes before it was set aside: that is no alarm."""
    metrics = DeadLetterMetrics(CollectorRegistry())
    message_headers = headers("ORDER_NOT_FOUND", source="payment.results") | {"x-wallet-attempts": attempts}

    taken = await desk.take_in(arrived(result("R-1"), message_headers))
    metrics.count(taken, datetime.now(UTC))

    assert counted(metrics) == (0, notified)


@pytest.mark.need(15)
async def test_what_has_no_outcome_and_what_does_not_move_is_seen(desk: Desk) -> None:
    metrics = DeadLetterMetrics(CollectorRegistry())

    async def seen() -> tuple[float, float]:
        async with desk.database.connection() as connection:
            await metrics.look(connection)
        gauges = (metrics.without_outcome_seconds, metrics.still_seconds)
        return gauges[0]._value.get(), gauges[1]._value.get()

    assert await seen() == (0, 0)
    await desk.take_in(arrived(recharge("user-1")), arrived(recharge("user-1")))
    plan = await desk.operations.plan(OTTO, Action.REPLAY, Filter(), reason="a test")
    operation = await desk.operations.execute(OTTO, plan.token)
    await desk.owner.execute("UPDATE dead_letter_operations SET started_at = started_at - interval '2 hours'")
    without, still = await seen()
    assert (without, 7_200 <= still < 7_260) == (0, True)

    # One of two was published an hour ago.
    await desk.owner.execute(
        """
        UPDATE dead_letter_replays SET state = 'published', published_at = now() - interval '1 hour'
        WHERE position = 0
        """
    )
    without, still = await seen()
    assert 3_600 <= without < 3_660
    assert 3_600 <= still < 3_660

    await desk.operations.pause(OTTO, operation.operation_id, reason="a test")
    without, still = await seen()
    assert (without >= 3_600, still) == (True, 0)  # whoever has paused it knows


@pytest.mark.need(18)
def test_the_runbook_page_is_made_from_the_data() -> None:
    kept = (HOME / "dead_letters" / "RUNBOOK.md").read_text()

    assert kept == page(), (
        "python -m wallet_worker.dead_letters.runbook > wallet_worker/dead_letters/RUNBOOK.md"
    )
