"""Each alarm rings in the state that it names, and none rings when all is well."""

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from tests.alarms.rules import ALARMS, check, ringing

LONG = 200
"""Minutes: longer than every `for` and every window of the rules."""

NOT_KNOWN = " ".join(["NaN"] * LONG)
_NEW_GROUP = (
    'wallet_dead_letters_group_new{role="worker", reason="INTERNAL", source="wallet.commands", instance="a"}'
)
_FORGED = 'wallet_dead_letters_group_waiting{role="worker", reason="BAD_SIGNATURE", source="payment.results"}'

WELL: Mapping[str, str] = {
    'wallet_ready{role="worker", instance="a"}': f"1x{LONG}",
    'wallet_ready{role="worker", instance="b"}': f"1x{LONG}",
    'wallet_ready{role="keeper", instance="c"}': f"1x{LONG}",
    'wallet_dead_letters{role="worker", state="waiting", instance="a"}': f"0x{LONG}",
    'wallet_dead_letters{role="worker", state="resolved", instance="a"}': f"700x{LONG}",
    'wallet_dead_letters_oldest_waiting_seconds{role="worker", instance="a"}': f"0x{LONG}",
    _NEW_GROUP: f"0x{LONG}",
    _FORGED: f"0x{LONG}",
    'wallet_dead_letter_replays_total{role="worker", outcome="resolved"}': f"0+10x{LONG}",
    'wallet_dead_letter_replays_total{role="worker", outcome="failed"}': f"0+1x{LONG}",
    'wallet_dead_letter_replays_total{role="worker", outcome="refused"}': f"0x{LONG}",
    'wallet_dead_letter_operations_ended_by_themselves_total{role="worker", how="stopped"}': f"3x{LONG}",
    'wallet_dead_letter_operations_ended_by_themselves_total{role="worker", how="paused"}': f"1x{LONG}",
    'wallet_dead_letter_replay_without_outcome_seconds{role="worker"}': f"12x{LONG}",
    'wallet_dead_letter_operation_still_seconds{role="worker"}': f"3x{LONG}",
    'wallet_dead_letters_take_in_lag_seconds_bucket{role="worker", le="0.1"}': f"0+10x{LONG}",
    'wallet_dead_letters_take_in_lag_seconds_bucket{role="worker", le="+Inf"}': f"0+10x{LONG}",
    'wallet_dead_letters_keeper_working{role="worker", instance="a"}': f"1x{LONG}",
    'wallet_queue_messages{role="worker", queue="wallet.dead-letters"}': f"0x{LONG}",
    'wallet_queue_messages{role="worker", queue="wallet.unrouted"}': f"0x{LONG}",
    # Under load a queue is never seen empty, and its messages are young all the same.
    'wallet_queue_messages{role="worker", queue="wallet.commands"}': f"900x{LONG}",
    'wallet_queue_messages{role="worker", queue="payment.results"}': f"0x{LONG}",
    'wallet_queue_not_empty_seconds{role="worker", queue="wallet.commands"}': f"0+60x{LONG}",
    'wallet_queue_not_empty_seconds{role="worker", queue="payment.results"}': f"0x{LONG}",
    'wallet_messages_total{role="worker", queue="wallet.commands", ending="applied", code="OK"}': f"0+900x{LONG}",
    'wallet_messages_total{role="worker", queue="payment.results", ending="applied", code="OK"}': f"0+9x{LONG}",
    'wallet_broker_nodes{role="keeper"}': f"3x{LONG}",
    'wallet_broker_nodes_running{role="keeper"}': f"3x{LONG}",
    'wallet_queue_members{role="keeper", queue="wallet.commands"}': f"3x{LONG}",
    'wallet_queue_members{role="keeper", queue="wallet.queries"}': f"3x{LONG}",
    'wallet_queue_members_online{role="keeper", queue="wallet.commands"}': f"3x{LONG}",
    'wallet_queue_members_online{role="keeper", queue="wallet.queries"}': f"3x{LONG}",
    'wallet_outbox_oldest_seconds{role="worker"}': f"0x{LONG}",
    'wallet_orders_overdue{role="worker"}': f"0x{LONG}",
    'wallet_payouts_oldest_pending_seconds{role="worker"}': f"844x{LONG}",
    # What nobody has measured yet is not a number.
    'wallet_orders_overdue{role="keeper"}': NOT_KNOWN,
    'wallet_payouts_oldest_pending_seconds{role="keeper"}': NOT_KNOWN,
    'wallet_ready{role="api", instance="d"}': f"1x{LONG}",
    'wallet_api_requests_total{role="api", operation="recharge", status="201"}': f"0+900x{LONG}",
    'wallet_api_requests_total{role="api", operation="recharge", status="503"}': f"0x{LONG}",
    'wallet_api_unknown_total{role="api", reason="accepted"}': f"0+1x{LONG}",
    'wallet_api_key_expires_seconds{role="api"}': " ".join(["+Inf"] * LONG),
    'wallet_api_event_log_ready{role="api", instance="d"}': f"1x{LONG}",
    'wallet_ready{role="webhooks", instance="f"}': f"1x{LONG}",
    'wallet_ready{role="webhooks", instance="g"}': f"1x{LONG}",
    'wallet_webhook_endpoints_disabled{role="webhooks"}': f"0x{LONG}",
    'wallet_webhook_oldest_waiting_seconds{role="webhooks", instance="f"}': f"300x{LONG}",
    'wallet_webhook_oldest_waiting_seconds{role="webhooks", instance="g"}': NOT_KNOWN,
    'wallet_webhook_missed_total{role="webhooks"}': f"0x{LONG}",
    'wallet_api_event_log_ready{role="api", instance="e"}': NOT_KNOWN,  # nobody asks it for events
    'wallet_api_refused_at_the_door_total{role="api", reason="BAD_SIGNATURE"}': f"0+2x{LONG}",
    'wallet_audit_findings{role="audit"}': f"0x{LONG}",
    'wallet_audit_checked_timestamp_seconds{role="audit"}': f"0+60x{LONG}",
}
"""A wallet at work, as Prometheus sees it."""


@dataclass(frozen=True, slots=True)
class Case:
    """What differs from a wallet at work: series that change, those that are gone, and when the alarm rings."""

    changed: Mapping[str, str]
    gone: tuple[str, ...] = ()
    """Every series that begins so ends in the third minute."""
    by: int = 60
    silent_at: int | None = None
    """A minute at which the same state is no alarm yet, because it has not lasted."""
    also: frozenset[str] = frozenset()
    """Other alarms that ring for the same reason."""

    @property
    def series(self) -> dict[str, str]:
        """All of them."""
        kept = {
            name: "1 1 1 stale" if name.startswith(self.gone) and self.gone else values
            for name, values in WELL.items()
        }
        return {**kept, **self.changed}


_WAITING = 'wallet_dead_letters{role="worker", state="waiting", instance="a"}'
_ALL_OF_WORKERS = tuple({name.partition("{")[0] + '{role="worker"' for name in WELL})

CASES: dict[str, list[Case]] = {
    "WalletDeadLettersWaiting": [Case({_WAITING: f"1x{LONG}"}, silent_at=29)],
    "WalletDeadLettersMany": [
        Case({_WAITING: f"1001x{LONG}"}, silent_at=4, also=frozenset({"WalletDeadLettersWaiting"}))
    ],
    "WalletDeadLetterOld": [
        Case({'wallet_dead_letters_oldest_waiting_seconds{role="worker", instance="a"}': f"14401x{LONG}"})
    ],
    "WalletDeadLetterNewGroup": [Case({_NEW_GROUP: f"1x{LONG}"})],
    "WalletDeadLetterForged": [Case({_FORGED: f"1x{LONG}"})],
    "WalletDeadLetterReplaysFail": [
        Case({f'wallet_dead_letter_replays_total{{role="worker", outcome="{outcome}"}}': f"0+4x{LONG}"})
        for outcome in ("failed", "refused")
    ],
    "WalletReplayEndedByItself": [
        Case(
            {
                f'wallet_dead_letter_operations_ended_by_themselves_total{{role="worker", how="{how}"}}': "3x50 4x20"
            }
        )
        for how in ("stopped", "paused")
    ],
    "WalletNoApi": [
        Case({}, gone=('wallet_ready{role="api"',), silent_at=6),
        Case({'wallet_ready{role="api", instance="d"}': f"0x{LONG}"}, silent_at=4),
    ],
    "WalletApiWithoutOutcomes": [
        Case({'wallet_api_unknown_total{role="api", reason="accepted"}': f"0+20x{LONG}"}, silent_at=4)
    ],
    "WalletApiSendsNothing": [
        Case({'wallet_api_requests_total{role="api", operation="recharge", status="503"}': f"0+9x{LONG}"})
    ],
    "WalletApiKeyExpires": [Case({'wallet_api_key_expires_seconds{role="api"}': f"86400x{LONG}"})],
    "WalletApiEventsAway": [
        Case({'wallet_api_event_log_ready{role="api", instance="d"}': f"0x{LONG}"}, silent_at=1)
    ],
    "WalletApiWebhookDisabled": [Case({'wallet_webhook_endpoints_disabled{role="webhooks"}': f"1x{LONG}"})],
    "WalletApiWebhooksLate": [
        Case({'wallet_webhook_oldest_waiting_seconds{role="webhooks", instance="f"}': f"90000x{LONG}"})
    ],
    "WalletApiNoWebhooks": [
        # Killed: what waits to be posted is then nowhere to be seen.
        Case({}, gone=('wallet_ready{role="webhooks"', "wallet_webhook_"), silent_at=6),
        Case(
            {f'wallet_ready{{role="webhooks", instance="{each}"}}': f"0x{LONG}" for each in "fg"}, silent_at=4
        ),
    ],
    "WalletApiWebhooksMissed": [Case({'wallet_webhook_missed_total{role="webhooks"}': f"0+1x{LONG}"})],
    "WalletApiUnsignedResults": [
        Case(
            {
                'wallet_api_refused_at_the_door_total{role="api", reason="BAD_SIGNATURE"}': f"0+60x{LONG}",
            }
        )
    ],
    "WalletReplayWithoutOutcome": [
        Case(
            {'wallet_dead_letter_replay_without_outcome_seconds{role="worker"}': f"0+60x{LONG}"}, silent_at=14
        )
    ],
    "WalletReplayNotMoving": [
        Case({'wallet_dead_letter_operation_still_seconds{role="worker"}': f"0+60x{LONG}"}, silent_at=14)
    ],
    "WalletDeadLettersNotTakenIn": [
        Case({f'wallet_queue_messages{{role="worker", queue="{queue}"}}': f"1x{LONG}"}, silent_at=4)
        for queue in ("wallet.dead-letters", "wallet.unrouted")
    ],
    "WalletDeadLetterTakeInSlow": [
        Case(
            {
                'wallet_dead_letters_take_in_lag_seconds_bucket{role="worker", le="0.1"}': f"0x{LONG}",
                'wallet_dead_letters_take_in_lag_seconds_bucket{role="worker", le="60"}': f"0x{LONG}",
                'wallet_dead_letters_take_in_lag_seconds_bucket{role="worker", le="300"}': f"0+10x{LONG}",
            },
            silent_at=9,
        )
    ],
    "WalletKeeperMissing": [
        Case({'wallet_dead_letters_keeper_working{role="worker", instance="a"}': f"0x{LONG}"}, silent_at=4),
        Case({}, gone=("wallet_dead_letters_keeper_working",)),
    ],
    "WalletNoWorker": [
        # Killed, with a keeper that goes on: the naive `max(wallet_ready) == 0` is silent here.
        Case({}, gone=('wallet_ready{role="worker"',), silent_at=7),
        Case(
            {f'wallet_ready{{role="worker", instance="{each}"}}': f"0x{LONG}" for each in "ab"},
            silent_at=4,
            also=frozenset({"WalletWorkerNotReady"}),
        ),
        # All that workers show is gone, and a keeper by itself shows the rest.
        Case({'wallet_dead_letters_keeper_working{role="keeper"}': f"1x{LONG}"}, gone=_ALL_OF_WORKERS),
    ],
    "WalletWorkerNotReady": [Case({'wallet_ready{role="worker", instance="b"}': f"0x{LONG}"}, silent_at=4)],
    "WalletQueueNotRead": [
        Case(
            {
                f'wallet_queue_not_empty_seconds{{role="keeper", queue="{queue}"}}': f"0+60x{LONG}",
                f'wallet_messages_total{{role="worker", queue="{queue}", ending="applied", code="OK"}}': "9 9 9 stale",
            },
            silent_at=5,
        )
        for queue in ("wallet.commands", "payment.results")
    ],
    "WalletQueueGrows": [
        Case({f'wallet_queue_messages{{role="keeper", queue="{queue}"}}': f"50001x{LONG}"}, silent_at=9)
        for queue in ("wallet.commands", "payment.results")
    ],
    "WalletBrokerMemberAway": [
        Case({'wallet_queue_members_online{role="keeper", queue="wallet.queries"}': f"2x{LONG}"}, silent_at=4)
    ],
    "WalletBrokerMembersFew": [
        Case(
            {
                'wallet_queue_members{role="keeper", queue="wallet.queries"}': f"1x{LONG}",
                'wallet_queue_members_online{role="keeper", queue="wallet.queries"}': f"1x{LONG}",
            },
            silent_at=14,
        )
    ],
    "WalletBrokerNotSeen": [Case({'wallet_broker_nodes{role="keeper"}': NOT_KNOWN}, silent_at=14)],
    "WalletOutboxOverdue": [
        Case({'wallet_outbox_oldest_seconds{role="worker"}': f"0+60x{LONG}"}, silent_at=9)
    ],
    "WalletLedgerWrong": [
        Case({'wallet_audit_findings{role="audit"}': f"1x{LONG}"}),
        # Started again, it does not know yet.
        Case({'wallet_audit_findings{role="audit"}': f"0x20 1x20 {NOT_KNOWN}"}),
    ],
    "WalletAuditMissing": [
        Case({}, gone=("wallet_audit",), by=100, silent_at=16),
        Case({'wallet_audit_checked_timestamp_seconds{role="audit"}': f"60x{LONG}"}, by=100, silent_at=60),
        Case({'wallet_audit_checked_timestamp_seconds{role="audit"}': NOT_KNOWN}, by=100, silent_at=14),
    ],
    "WalletOrdersOverdue": [Case({'wallet_orders_overdue{role="keeper"}': f"1x{LONG}"}, silent_at=9)],
    "WalletPayoutOld": [Case({'wallet_payouts_oldest_pending_seconds{role="worker"}': f"86401x{LONG}"})],
}
"""For each alarm, states in which it must ring."""


async def test_promtool_finds_no_fault_in_the_rules() -> None:
    assert f"{len(ALARMS)} rules found" in await check()


def test_each_alarm_has_a_state_in_which_it_must_ring() -> None:
    assert set(CASES) == set(ALARMS)


@pytest.mark.parametrize("minute", [1, 30, 61, LONG - 1])
async def test_none_rings_when_all_is_well(minute: int) -> None:
    assert await ringing(WELL, minute) == {}


@pytest.mark.parametrize(
    ("alarm", "case"), [(alarm, case) for alarm, cases in CASES.items() for case in cases]
)
async def test_an_alarm_rings_in_its_state_and_no_other_does(alarm: str, case: Case) -> None:
    rings = await ringing(case.series, case.by)

    assert alarm in rings
    assert rings[alarm]["severity"] == ALARMS[alarm]["labels"]["severity"]
    assert set(rings) - case.also <= {alarm}
    if case.silent_at is not None:
        assert alarm not in await ringing(case.series, case.silent_at)
