"""What becomes of a payment in each behaviour of the gateway, in a wallet that keeps the contract.

The demo's wallet asks soon about payments on some channels, and waits for a recharge's money for seconds only; really
it would be a day.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from payment_simulator.behaviours import Behaviour
from wallet_schemas.codes import Code
from wallet_schemas.values import OrderStatus

RECHARGE_EXPIRES_SECONDS: Final = 8
LATE_AFTER_SECONDS: Final = 10.0  # of a recharge: after it has expired
OUTGOING_LATE_AFTER_SECONDS: Final = 2.0
NEVER_SECONDS: Final = 3_600  # long after the demo
PLAYED: Final = tuple(Behaviour)[:12]
"""The behaviours in which a payment has an end and nothing comes back."""

ASKED_MOODS: Final = frozenset(
    {
        Behaviour.SILENT,
        Behaviour.BAD_SIGNATURE,
        Behaviour.LOST,
        Behaviour.LATE,
        Behaviour.WRONG_AMOUNT,
        Behaviour.WRONG_CURRENCY,
    }
)
"""The behaviours in which the wallet hears nothing that it believes, or hears it late."""

SETTINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "WALLET_RECHARGE_EXPIRES_SECONDS": str(RECHARGE_EXPIRES_SECONDS),
        "WALLET_PAYMENT_INQUIRY_SECONDS": str(NEVER_SECONDS),
        "WALLET_PAYMENT_INQUIRY_SECONDS_BY_CHANNEL": json.dumps(
            {
                channel: [1, 3, NEVER_SECONDS]
                for behaviour in PLAYED
                if behaviour in ASKED_MOODS
                for channel in (behaviour.channel, behaviour.refund_channel)
            }
        ),
    }
)
"""What the workers are told of time."""

SCENARIO: Final = f"""
late_after_seconds = {LATE_AFTER_SECONDS}

[payout]
late_after_seconds = {OUTGOING_LATE_AFTER_SECONDS}

[refund]
late_after_seconds = {OUTGOING_LATE_AFTER_SECONDS}
"""
"""What the gateway is told: without chance of its own, so that a channel alone decides what happens."""


@dataclass(frozen=True, slots=True)
class Fate:
    """How an order ends. `dead_letter`: what an operator finds of it.

    `insists`: the gateway says the wrong thing again whenever it is asked, and each time is a dead letter. `asked`:
    nothing that the wallet believes comes without asking, or it comes late. `is_late`: it is marked so.
    `difference`: what reconciliation says of it, because the gateway believes something else.
    """

    status: OrderStatus
    dead_letter: Code | None = None
    insists: bool = False
    asked: bool = False
    is_late: bool = False
    difference: str | None = None

    @property
    def statuses(self) -> frozenset[OrderStatus]:
        """How it may stand in the end."""
        # Where the machine is so slow that an order expires before the gateway is heard, what failed stays expired.
        also = {OrderStatus.EXPIRED} if self.status is OrderStatus.FAILED else set()
        return frozenset({self.status} | also)


_SUCCEEDED, _FAILED, _EXPIRED, _PENDING = (
    OrderStatus.SUCCEEDED,
    OrderStatus.FAILED,
    OrderStatus.EXPIRED,
    OrderStatus.PENDING,
)

RECHARGES: Final[Mapping[Behaviour, Fate]] = MappingProxyType(
    {
        Behaviour.SUCCEEDED: Fate(_SUCCEEDED),
        Behaviour.DECLINED: Fate(_FAILED),
        Behaviour.UNKNOWN_THEN_SUCCEEDED: Fate(_SUCCEEDED),
        Behaviour.DUPLICATE: Fate(_SUCCEEDED),
        Behaviour.CONTRADICTION: Fate(_SUCCEEDED, Code.CONTRADICTING_RESULT, difference="different_status"),
        Behaviour.WRONG_AMOUNT: Fate(
            _EXPIRED, Code.AMOUNT_MISMATCH, insists=True, asked=True, difference="different_amount"
        ),
        Behaviour.WRONG_CURRENCY: Fate(
            _EXPIRED, Code.CURRENCY_MISMATCH, insists=True, asked=True, difference="different_amount"
        ),
        Behaviour.BAD_SIGNATURE: Fate(_SUCCEEDED, Code.BAD_SIGNATURE, asked=True),
        Behaviour.SILENT: Fate(_SUCCEEDED, asked=True),
        Behaviour.LATE: Fate(_SUCCEEDED, asked=True, is_late=True),
        Behaviour.FAILED_THEN_SUCCEEDED: Fate(_SUCCEEDED, is_late=True),
        Behaviour.LOST: Fate(_EXPIRED, asked=True),
    }
)

OUTGOING: Final[Mapping[Behaviour, Fate]] = MappingProxyType(
    {
        Behaviour.SUCCEEDED: Fate(_SUCCEEDED),
        Behaviour.DECLINED: Fate(_FAILED),
        Behaviour.UNKNOWN_THEN_SUCCEEDED: Fate(_SUCCEEDED),
        Behaviour.DUPLICATE: Fate(_SUCCEEDED),
        Behaviour.CONTRADICTION: Fate(_SUCCEEDED, Code.CONTRADICTING_RESULT, difference="different_status"),
        Behaviour.WRONG_AMOUNT: Fate(
            _PENDING, Code.AMOUNT_MISMATCH, insists=True, asked=True, difference="different_amount"
        ),
        Behaviour.WRONG_CURRENCY: Fate(
            _PENDING, Code.CURRENCY_MISMATCH, insists=True, asked=True, difference="different_amount"
        ),
        Behaviour.BAD_SIGNATURE: Fate(_SUCCEEDED, Code.BAD_SIGNATURE, asked=True),
        Behaviour.SILENT: Fate(_SUCCEEDED, asked=True),
        Behaviour.LATE: Fate(_SUCCEEDED, asked=True),
        Behaviour.FAILED_THEN_SUCCEEDED: Fate(
            _FAILED, Code.CONTRADICTING_RESULT, difference="different_status"
        ),
        Behaviour.LOST: Fate(_PENDING, asked=True),
    }
)
"""Withdrawals and refunds: what was sent never ends by itself."""

for _fates in (RECHARGES, OUTGOING):
    if set(_fates) != set(PLAYED):
        raise AssertionError("a behaviour of the gateway has no fate here")
    if {behaviour for behaviour, fate in _fates.items() if fate.asked} != ASKED_MOODS:
        raise AssertionError("what must be asked about is not asked about, or the other way round")
