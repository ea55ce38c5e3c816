"""What the gateway may do to a payment: one total table, payment kind and behaviour -> the states it goes through.

Laws:
- A payment goes through its states in order, each after a delay of its own, and each happens once.
- A state is *told* to the wallet as often as its step says, perhaps never; a status request gets the state
  that the payment is in, whatever the behaviour.
- All that is told of one payment has one gateway_ref: also the two sides of a contradiction, for it is one
  payment of which the gateway says two things. Only `paid_twice` is two payments of one order.
- How a payer pays is told before the first state, and what becomes of a dispute or return after the last.
- A request to cancel is answered like one for the status, but where a behaviour says what it does.
- What was decided about a payment once is never decided again. Repeats get the same answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from wallet_schemas.values import PaymentKind, PaymentStatus, ReversalStatus

CHANNEL_PREFIX: Final = "sandbox_"
QR_SUFFIX: Final = "_qr"
REFUND_CHANNEL_PREFIX: Final = "sandbox_refund_"
LATE_SECONDS: Final = (
    120  # for what never expires: later than a wallet's first question, sooner than its next
)


class Behaviour(StrEnum):
    """How the gateway treats one payment. The channel `sandbox_<behaviour>` asks for it, as a test card does.

    A refund has the channel of its recharge. So there are channels on which charges succeed and refunds have
    the behaviour: `sandbox_refund_<behaviour>`, without `_then_succeeded`, for which a channel has no room.
    """

    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    UNKNOWN_THEN_SUCCEEDED = "unknown_then_succeeded"
    DUPLICATE = "duplicate"
    CONTRADICTION = "contradiction"
    WRONG_AMOUNT = "wrong_amount"
    WRONG_CURRENCY = "wrong_currency"
    BAD_SIGNATURE = "bad_signature"
    SILENT = "silent"
    LATE = "late"
    # Only ever added to at the end: the place of a behaviour here decides which payments of a seed meet it.
    FAILED_THEN_SUCCEEDED = "failed_then_succeeded"
    LOST = "lost"
    INSTRUCTED = "instructed"
    INSTRUCTED_LONG = "instructed_long"
    INSTRUCTED_UNPAID = "instructed_unpaid"
    UNDERPAID = "underpaid"
    OVERPAID = "overpaid"
    CHARGEBACK = "chargeback"
    DISPUTE_WON = "dispute_won"
    SECOND_CHARGEBACK = "second_chargeback"
    PART_CHARGEBACK = "part_chargeback"
    LOST_THEN_WON = "lost_then_won"
    SHUFFLED_DISPUTE = "shuffled_dispute"
    RETURNED = "returned"
    RETURN_UNDONE = "return_undone"
    STOPPABLE = "stoppable"
    UNSTOPPABLE = "unstoppable"
    PAID_TWICE = "paid_twice"
    REF_REUSED = "ref_reused"

    @property
    def channel(self) -> str:
        """The channel (recharge_type or payout_type) that asks for this behaviour."""
        return CHANNEL_PREFIX + self.value

    @property
    def refund_channel(self) -> str:
        """The recharge_type that asks for this behaviour when the recharge is refunded, and not before."""
        return REFUND_CHANNEL_PREFIX + self.value.removesuffix("_then_succeeded")


class Wait(StrEnum):
    """What a state of a payment waits for."""

    DELAY = "delay"  # a delay drawn from the scenario, counted from the state before it
    # The request's expires_at, or LATE_SECONDS where there is none, then such a delay; or the scenario's
    # late_after_seconds.
    EXPIRY = "expiry"


class Flaw(StrEnum):
    """What is wrong with a result in itself. The gateway believes it, so a status request gets it too."""

    NONE = "none"
    AMOUNT = "amount"  # one minor unit more than was asked for
    CURRENCY = "currency"  # the same number of minor units of another currency
    LESS = "less"  # a hundredth less, and at least one minor unit
    MORE = "more"  # a tenth more


class Ref(StrEnum):
    """Which id of a payment a result carries."""

    OWN = "own"  # the payment's own
    SECOND = "second"  # that of a second payment of the same order
    SHARED = "shared"  # one that all payments of the behaviour have


class Validity(StrEnum):
    """How long instructions say that it can be paid by them."""

    USUAL = "usual"  # until the request's expires_at
    LONG = "long"  # a day longer than the order is waited for
    UNSAID = "unsaid"  # not said: the payment fails when nobody pays it


@dataclass(frozen=True, slots=True)
class Step:
    """One state of a payment, and how the wallet hears of it.

    `told` has one number for each message: the delays that pass between the state and that message.
    Empty means that nobody is told until a status request. `forged`: these messages carry a signature that
    does not fit. An answer to a status request is never forged: the wallet asked the gateway itself.
    """

    status: PaymentStatus
    reason: str | None = None
    notify_after: tuple[int, ...] = (0,)
    wait: Wait = Wait.DELAY
    flaw: Flaw = Flaw.NONE
    forged: bool = False
    ref: Ref = Ref.OWN


@dataclass(frozen=True, slots=True)
class Turn:
    """What a dispute or return comes to next: its status, and how much of the payment it is about, in per cent."""

    status: ReversalStatus
    percent: int = 100


@dataclass(frozen=True, slots=True)
class Row:
    """What a behaviour does, in steps for the machine and in words for people."""

    steps: tuple[Step, ...]
    gateway: str  # what the gateway does
    wallet: str  # what should become of the order, in a wallet that keeps the contract
    validity: Validity | None = None
    """That of the instructions, where the gateway says how to pay."""
    turns: tuple[Turn, ...] = ()
    """Those of the payment's dispute or return."""
    is_shuffled: bool = False
    """Whether the turns are told last first, and each twice."""
    on_cancel: Step | None = None
    """What a request to cancel brings about."""


_SUCCEEDED: Final = Step(PaymentStatus.SUCCEEDED)
_WAITING: Final = Step(PaymentStatus.UNKNOWN, reason="waits for the payer", notify_after=())
_STOPPED: Final = Step(PaymentStatus.FAILED, reason="stopped")
_OPENED, _MOVED, _DROPPED, _SETTLED = (
    Turn(ReversalStatus.OPENED),
    Turn(ReversalStatus.MOVED),
    Turn(ReversalStatus.DROPPED),
    Turn(ReversalStatus.SETTLED),
)

_CHARGES: Final[Mapping[Behaviour, Row]] = {
    Behaviour.SUCCEEDED: Row(
        (_SUCCEEDED,),
        gateway="succeeds after a delay; ordinary channels do the same unless the scenario says otherwise",
        wallet="succeeded",
    ),
    Behaviour.DECLINED: Row(
        (Step(PaymentStatus.FAILED, reason="declined by the issuer"),),
        gateway="fails after a delay",
        wallet="failed",
    ),
    Behaviour.UNKNOWN_THEN_SUCCEEDED: Row(
        (Step(PaymentStatus.UNKNOWN, reason="no answer from the issuer yet"), _SUCCEEDED),
        gateway="says unknown, and succeeds after another delay",
        wallet="succeeded",
    ),
    Behaviour.DUPLICATE: Row(
        # Two at once may meet on two workers, the third finds the order settled.
        (Step(PaymentStatus.SUCCEEDED, notify_after=(0, 0, 1)),),
        gateway="succeeds and says so three times: twice at once, and again after a delay",
        wallet="succeeded, credited once",
    ),
    Behaviour.CONTRADICTION: Row(
        (_SUCCEEDED, Step(PaymentStatus.FAILED, reason="reversed by the issuer")),
        gateway="succeeds, and after another delay says that the same payment (same gateway_ref) failed",
        wallet="succeeded; a dead letter CONTRADICTING_RESULT",
    ),
    Behaviour.WRONG_AMOUNT: Row(
        (Step(PaymentStatus.SUCCEEDED, flaw=Flaw.AMOUNT),),
        gateway="succeeds with one minor unit too much, and insists on it when asked",
        wallet="pending until it expires; dead letters AMOUNT_MISMATCH",
    ),
    Behaviour.WRONG_CURRENCY: Row(
        (Step(PaymentStatus.SUCCEEDED, flaw=Flaw.CURRENCY),),
        gateway="succeeds in another currency, and insists on it when asked",
        wallet="pending until it expires; dead letters CURRENCY_MISMATCH",
    ),
    Behaviour.BAD_SIGNATURE: Row(
        (Step(PaymentStatus.SUCCEEDED, forged=True),),
        gateway="succeeds, but the result carries a signature that does not fit; asked, it answers properly",
        wallet="a dead letter BAD_SIGNATURE; succeeded when it asks, else expired",
    ),
    Behaviour.SILENT: Row(
        (Step(PaymentStatus.SUCCEEDED, notify_after=()),),
        gateway="succeeds after a delay and tells nobody until it is asked",
        wallet="succeeded when it asks, else expired",
    ),
    Behaviour.LATE: Row(
        (Step(PaymentStatus.SUCCEEDED, wait=Wait.EXPIRY),),
        gateway="succeeds after expires_at (or after late_after_seconds); asked before, says unknown",
        wallet="expired, then succeeded and marked late",
    ),
    Behaviour.FAILED_THEN_SUCCEEDED: Row(
        (Step(PaymentStatus.FAILED, reason="declined by the issuer"), _SUCCEEDED),
        gateway="fails, and after another delay says that the same payment (same gateway_ref) succeeded",
        wallet="failed, then succeeded and marked late",
    ),
    Behaviour.LOST: Row(
        (Step(PaymentStatus.UNKNOWN, reason="no trace of it", notify_after=()),),
        gateway="never knows what became of it: says nothing, and unknown whenever it is asked",
        wallet="pending until it expires",
    ),
    Behaviour.INSTRUCTED: Row(
        (_SUCCEEDED,),
        gateway="says how to pay (a bank transfer; a QR code on the channel with _qr), and succeeds after a delay",
        wallet="pending with instructions, succeeded",
        validity=Validity.USUAL,
    ),
    Behaviour.INSTRUCTED_LONG: Row(
        (Step(PaymentStatus.SUCCEEDED, wait=Wait.EXPIRY),),
        gateway="says how to pay for longer than the order is waited for, and succeeds after its expires_at",
        wallet="succeeded, not late: it waits as long as the instructions say",
        validity=Validity.LONG,
    ),
    Behaviour.INSTRUCTED_UNPAID: Row(
        (Step(PaymentStatus.FAILED, reason="nobody has paid in time"),),
        gateway="says how to pay, and fails when that is over",
        wallet="failed",
        validity=Validity.UNSAID,
    ),
    Behaviour.UNDERPAID: Row(
        (Step(PaymentStatus.SUCCEEDED, flaw=Flaw.LESS),),
        gateway="succeeds with a hundredth less",
        wallet="credited where the channel takes any amount; else pending, dead letters AMOUNT_MISMATCH",
    ),
    Behaviour.OVERPAID: Row(
        (Step(PaymentStatus.SUCCEEDED, flaw=Flaw.MORE),),
        gateway="succeeds with a tenth more",
        wallet="credited where the channel takes any amount; else pending, dead letters AMOUNT_MISMATCH",
    ),
    Behaviour.CHARGEBACK: Row(
        (_SUCCEEDED,),
        gateway="succeeds; its payer disputes it, takes the money back and keeps it",
        wallet="succeeded; debited, perhaps with a debt",
        turns=(_OPENED, _MOVED, _SETTLED),
    ),
    Behaviour.DISPUTE_WON: Row(
        (_SUCCEEDED,),
        gateway="succeeds; its payer disputes it, takes the money back and loses",
        wallet="succeeded; debited and credited",
        turns=(_OPENED, _MOVED, _DROPPED),
    ),
    Behaviour.SECOND_CHARGEBACK: Row(
        (_SUCCEEDED,),
        gateway="succeeds; a dispute takes the money, gives it back, and takes it for good",
        wallet="succeeded; debited, credited, debited",
        turns=(_MOVED, _OPENED, _SETTLED),
    ),
    Behaviour.PART_CHARGEBACK: Row(
        (_SUCCEEDED,),
        gateway="succeeds; a dispute takes two fifths of the money",
        wallet="succeeded; two fifths debited",
        turns=(Turn(ReversalStatus.MOVED, 40), Turn(ReversalStatus.SETTLED, 40)),
    ),
    Behaviour.LOST_THEN_WON: Row(
        (_SUCCEEDED,),
        gateway="succeeds; a dispute is lost, and won after another delay",
        wallet="succeeded; debited and credited",
        turns=(_SETTLED, _DROPPED),
    ),
    Behaviour.SHUFFLED_DISPUTE: Row(
        (_SUCCEEDED,),
        gateway="as dispute_won, but told last first, and each twice",
        wallet="succeeded; nothing moves",
        turns=(_OPENED, _MOVED, _DROPPED),
        is_shuffled=True,
    ),
    Behaviour.RETURNED: Row((_SUCCEEDED,), gateway="succeeds; a payout comes back", wallet="succeeded"),
    Behaviour.RETURN_UNDONE: Row(
        (_SUCCEEDED,), gateway="succeeds; a payout comes back, and then does not", wallet="succeeded"
    ),
    Behaviour.STOPPABLE: Row(
        (_WAITING,),
        gateway="waits until it is asked to cancel, and fails then",
        wallet="pending until it expires or is cancelled",
        on_cancel=_STOPPED,
    ),
    Behaviour.UNSTOPPABLE: Row(
        (_WAITING,),
        gateway="waits until it is asked to cancel, and succeeds then",
        wallet="pending until it expires; cancelled, then succeeded and marked late",
        on_cancel=_SUCCEEDED,
    ),
    Behaviour.PAID_TWICE: Row(
        (_SUCCEEDED, Step(PaymentStatus.SUCCEEDED, ref=Ref.SECOND)),
        gateway="succeeds, and after another delay succeeds with another gateway_ref",
        wallet="succeeded; a dead letter PAID_TWICE where gateway_refs are unique",
    ),
    Behaviour.REF_REUSED: Row(
        (Step(PaymentStatus.SUCCEEDED, ref=Ref.SHARED),),
        gateway="succeeds with one gateway_ref for all its payments",
        wallet="succeeded; from the second on dead letters GATEWAY_REF_USED where gateway_refs are unique",
    ),
}

# A payout or a refund has the same behaviours. What is different is the wallet: the amount is reserved until the
# gateway has spoken, and what may be on its way never expires.
_OUTGOING: Final[Mapping[Behaviour, Row]] = {
    behaviour: replace(_CHARGES[behaviour], wallet=wallet)
    for behaviour, wallet in {
        Behaviour.SUCCEEDED: "succeeded, debited",
        Behaviour.DECLINED: "failed, the reserve returned",
        Behaviour.UNKNOWN_THEN_SUCCEEDED: "succeeded; reserved until then",
        Behaviour.DUPLICATE: "succeeded, debited once",
        Behaviour.CONTRADICTION: "succeeded; a dead letter CONTRADICTING_RESULT",
        Behaviour.WRONG_AMOUNT: "pending and reserved; dead letters AMOUNT_MISMATCH",
        Behaviour.WRONG_CURRENCY: "pending and reserved; dead letters CURRENCY_MISMATCH",
        Behaviour.BAD_SIGNATURE: "a dead letter BAD_SIGNATURE; succeeded when it asks",
        Behaviour.SILENT: "succeeded when it asks",
        Behaviour.LATE: "succeeded; reserved until then",
        Behaviour.FAILED_THEN_SUCCEEDED: "failed; a dead letter CONTRADICTING_RESULT",
        Behaviour.LOST: "pending and reserved until an operator decides",
        Behaviour.UNDERPAID: "pending and reserved; dead letters AMOUNT_MISMATCH",
        Behaviour.OVERPAID: "pending and reserved; dead letters AMOUNT_MISMATCH",
        Behaviour.STOPPABLE: "pending and reserved; failed once it is cancelled",
        Behaviour.UNSTOPPABLE: "pending and reserved; succeeded once it is cancelled",
        Behaviour.PAID_TWICE: "succeeded, debited once",
        Behaviour.REF_REUSED: "succeeded, debited",
    }.items()
} | {
    # Nobody pays a payout, and nobody disputes it.
    **{
        behaviour: Row((_SUCCEEDED,), gateway=_CHARGES[behaviour].gateway, wallet="succeeded, debited")
        for behaviour in (
            *(Behaviour.INSTRUCTED, Behaviour.INSTRUCTED_LONG, Behaviour.INSTRUCTED_UNPAID),
            *(Behaviour.CHARGEBACK, Behaviour.DISPUTE_WON, Behaviour.SECOND_CHARGEBACK),
            *(Behaviour.PART_CHARGEBACK, Behaviour.LOST_THEN_WON, Behaviour.SHUFFLED_DISPUTE),
        )
    },
    Behaviour.RETURNED: replace(
        _CHARGES[Behaviour.RETURNED], wallet="succeeded; debited, credited back", turns=(_SETTLED,)
    ),
    Behaviour.RETURN_UNDONE: replace(
        _CHARGES[Behaviour.RETURN_UNDONE],
        wallet="succeeded; debited, credited back, debited again, perhaps with a debt",
        turns=(_SETTLED, _DROPPED),
    ),
}

TABLE: Final[Mapping[PaymentKind, Mapping[Behaviour, Row]]] = MappingProxyType(
    {
        PaymentKind.CHARGE: MappingProxyType(_CHARGES),
        PaymentKind.PAYOUT: MappingProxyType(_OUTGOING),
        PaymentKind.REFUND: MappingProxyType(_OUTGOING),
    }
)

# `status` is a question about a payment, and all others are payments.
if set(TABLE) != set(PaymentKind) - {PaymentKind.STATUS, PaymentKind.CANCEL}:
    raise AssertionError("a kind of payment is missing in the table of behaviours")
for _kind, _rows in TABLE.items():
    if set(_rows) != set(Behaviour) or not all(row.steps for row in _rows.values()):
        raise AssertionError(f"a behaviour is missing in the table of behaviours, or has no step: {_kind}")


_BY_CHANNEL: Final = MappingProxyType(
    {behaviour.channel: behaviour for behaviour in Behaviour}
    | {
        behaviour.channel + QR_SUFFIX: behaviour
        for behaviour in (Behaviour.INSTRUCTED, Behaviour.INSTRUCTED_LONG, Behaviour.INSTRUCTED_UNPAID)
    }
)
_BY_REFUND_CHANNEL: Final = MappingProxyType({behaviour.refund_channel: behaviour for behaviour in Behaviour})


def behaviour_of_channel(channel: str, kind: PaymentKind) -> Behaviour | None:
    """Return the behaviour that a sandbox channel asks for, None for an ordinary channel or an unknown one."""
    if channel in _BY_REFUND_CHANNEL:
        return _BY_REFUND_CHANNEL[channel] if kind is PaymentKind.REFUND else Behaviour.SUCCEEDED
    return _BY_CHANNEL.get(channel)
