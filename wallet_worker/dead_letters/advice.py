"""What to do about a dead letter: rows, of which the first that applies to a letter's situation is its advice."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from wallet_schemas.codes import Code
from wallet_schemas.names import PAYMENT_REQUESTS, PAYMENT_RESULTS, WALLET_COMMANDS
from wallet_schemas.payments import PaymentInstructions, PaymentReversal
from wallet_schemas.values import OrderStatus, OrderType
from wallet_worker.core.orders import CHARGED, ORDER_SPECS, PAID_OUT, Effect
from wallet_worker.dead_letters.meanings import MEANINGS, REFUSALS
from wallet_worker.dead_letters.model.predictions import PredictedOutcome
from wallet_worker.dead_letters.model.states import LetterState
from wallet_worker.dead_letters.reasons import BROKER, REASONS, UNKNOWN, UNROUTED

_SENDER: Final = "The team that sent it."
_GATEWAY: Final = "The payment gateway's support, with the payment_order_no and gateway_ref."
_WALLET: Final = "The wallet's developers."
_BROKER: Final = "Whoever runs the broker."
_CARE: Final = f"Customer care, then: {_GATEWAY}"


@dataclass(frozen=True, slots=True)
class Situation:
    """What advice depends on. Absent: not known, or not there."""

    reason: str
    source: str = ""
    """The queue that the message came from."""
    state: LetterState = LetterState.WAITING
    verdict: PredictedOutcome | None = None
    """What a replay would do now."""
    code: str = ""
    """Why the verdict is not a plain success."""
    worn: bool = False
    """Whether it was replayed as often as a letter may be."""
    message_type: str = ""
    order_type: OrderType | None = None
    order_status: OrderStatus | None = None
    account_closed: bool = False
    """Whether the account of the order is closed."""
    has_outcome: bool = False
    """Whether its serial number has a stored outcome."""
    command_waits: bool = False
    """Whether the command of the order is a waiting dead letter, too."""

    @property
    def cause(self) -> str:
        """The reason that counts: of a letter that would come back, the reason for which it would."""
        match self.verdict:
            case PredictedOutcome.WOULD_DEAD_LETTER | PredictedOutcome.STILL_MALFORMED if (
                self.code in MEANINGS
            ):
                return self.code
            case PredictedOutcome.CONFLICT:
                return Code.SERIAL_CONFLICT
            case PredictedOutcome.WOULD_PARK:
                return Code.ORDER_NOT_FOUND
            case PredictedOutcome.WOULD_CRASH:
                return Code.INTERNAL
            case _:
                return self.reason if self.reason in ANY_REASON else UNKNOWN

    @property
    def is_payment(self) -> bool:
        """Whether its order is paid through the gateway."""
        return self.order_type is not None and ORDER_SPECS[self.order_type].payment is not None


@dataclass(frozen=True, slots=True)
class Advice:
    """One row of the runbook."""

    name: str
    """What the row is called in the tests."""
    reasons: frozenset[str]
    when: str
    """The state in which the advice is given, in words."""
    applies: Callable[[Situation], bool]
    safe: str
    """What is true now, and what can be done."""
    ask: str
    has_order_sentence: bool = False
    """Whether what the order's state means is added."""


ANY_REASON: Final = frozenset(REASONS)
_MISMATCHES: Final = frozenset({Code.AMOUNT_MISMATCH, Code.CURRENCY_MISMATCH})
_LASTING: Final = frozenset(
    {
        *_MISMATCHES,
        *(Code.MALFORMED, Code.UNSUPPORTED_TYPE, Code.BAD_SIGNATURE, Code.SERIAL_CONFLICT),
        *(Code.NOT_ALLOWED, Code.KEY_NOT_ALLOWED),
        *(Code.ACCOUNT_CLOSED, Code.ORDER_NOT_FOUND, Code.CONTRADICTING_RESULT, Code.AMOUNT_OUT_OF_RANGE),
        *(Code.ORDER_NOT_REVERSIBLE, Code.AMOUNT_EXCEEDS_ORIGINAL),
        *(Code.GATEWAY_REF_USED, Code.PAID_TWICE, Code.RESULT_TOO_LATE),
    }
)
"""Reasons that lie in the message, or in the ledger as it was: they stay unless something changes."""


def _always(_: Situation) -> bool:
    return True


def _of(*reasons: str) -> frozenset[str]:
    return frozenset(str(reason) for reason in reasons)


def _is(source: str) -> Callable[[Situation], bool]:
    return lambda situation: situation.source == source


def _state(state: LetterState) -> Callable[[Situation], bool]:
    return lambda situation: situation.state is state


def _contradicted(status: OrderStatus, types: Collection[OrderType]) -> Callable[[Situation], bool]:
    return lambda situation: situation.order_status is status and situation.order_type in types


_OWN: Final = (
    "an account of your own company in this wallet; if the user's account is frozen, unfreeze it first, and if it is "
    "closed, open a new one"
)
_PROOF: Final = "Nothing moved for this result. Have the gateway confirm in writing which of the two is true."
_TAKE: Final = f"`wallet send transfer` the amount from the user to {_OWN}. Then discard with the reference."
_GIVE: Final = f"`wallet send transfer` the amount to the user from {_OWN}. Then discard with the reference."
_DEBIT_SHORT: Final = (
    "If the user has too little, the transfer is refused: `wallet send freeze` keeps the rest."
)

ADVICE: Final[tuple[Advice, ...]] = (
    # Letters that nobody has to look at any more, or not now.
    Advice(
        "resolved",
        ANY_REASON,
        "the letter is resolved",
        _state(LetterState.RESOLVED),
        "Nothing is left to do: a replay had its outcome, or a payment request was handed to the gateway again.",
        "Nobody.",
    ),
    Advice(
        "discarded",
        ANY_REASON,
        "the letter is discarded",
        _state(LetterState.DISCARDED),
        "Somebody has decided that nothing is to be done. A restore has it wait again.",
        "Whoever discarded it: the history below says who.",
    ),
    Advice(
        "edited",
        ANY_REASON,
        "the letter is edited",
        _state(LetterState.EDITED),
        (
            "A new message with a new serial number was sent in its place: look at that order. A restore is possible "
            "only while the new message has been without an outcome for 15 minutes."
        ),
        "Whoever edited it: the history below says who.",
    ),
    Advice(
        "replaying",
        ANY_REASON,
        "the letter is being replayed",
        _state(LetterState.REPLAYING),
        (
            "A replay is on its way. It ends resolved, or the letter waits again. After 15 minutes without an outcome, "
            "a restore has it wait again."
        ),
        _WALLET,
    ),
    # What a replay would do decides before the reason does.
    Advice(
        "repeats",
        ANY_REASON,
        "a replay would repeat what is stored",
        lambda situation: situation.verdict is PredictedOutcome.REPEATS,
        (
            "Its outcome is stored already. A replay moves nothing and resolves the letter. A discard closes it, too."
        ),
        "Nobody.",
    ),
    # Requests to the gateway, whatever the broker did with them.
    Advice(
        "request-waits",
        ANY_REASON,
        "a payment request whose order still waits",
        lambda situation: (
            situation.source == PAYMENT_REQUESTS and situation.verdict is PredictedOutcome.FORWARDED
        ),
        (
            "Ask why it was not read first. A replay hands it to the gateway again, which knows it by its "
            "payment_order_no and does it once."
        ),
        "The payment gateway's support, or whoever reads the queue payment.requests.",
    ),
    Advice(
        "request-over",
        ANY_REASON,
        "a payment request whose order has ended, or that is not the wallet's own",
        _is(PAYMENT_REQUESTS),
        (
            "It cannot be replayed, and the prediction says why. The gateway is not asked for it any more: discard it."
        ),
        _BROKER,
    ),
    Advice(
        "not-replayable",
        ANY_REASON,
        "it cannot be replayed",
        lambda situation: situation.verdict is PredictedOutcome.NOT_REPLAYABLE,
        (
            "It cannot be replayed: the prediction says why. If what it asks for is still needed, its sender must send "
            "a new message. Leave it waiting until that is known, then discard it."
        ),
        f"{_SENDER} If nobody knows the sender, whoever runs the broker, then security.",
    ),
    Advice(
        "worn",
        ANY_REASON,
        "it was replayed as often as a letter may be",
        lambda situation: situation.worn,
        (
            "It was replayed ten times and came back each time: it is not replayed any more. If what it asks for is "
            "still needed, its sender must send it again. Then discard it."
        ),
        _WALLET,
    ),
    Advice(
        "refused-now",
        ANY_REASON,
        "a command that a replay would have refused",
        lambda situation: situation.verdict is PredictedOutcome.WILL_BE_REFUSED,
        (
            "A replay would move nothing and store a refusal, with the code in the prediction, as the final outcome of "
            "its serial number. If the cause can be removed, remove it and look again. If not, replay or discard it."
        ),
        _SENDER,
    ),
    Advice(
        "fits-now",
        _LASTING,
        "what stood against it is gone",
        lambda situation: situation.verdict is PredictedOutcome.WILL_APPLY,
        (
            "A replay would be applied now: what stood against the message is gone. Plan a replay and execute it. "
            "After a change of settings, such as a new key, make sure that the workers have it too."
        ),
        _WALLET,
        has_order_sentence=True,
    ),
    # Each reason, its special states first.
    Advice(
        "malformed-mended",
        _of(Code.MALFORMED),
        "a command, and a message with its serial number has an outcome",
        lambda situation: situation.source == WALLET_COMMANDS and situation.has_outcome,
        (
            "The sender has sent a readable message with this serial number: look at its outcome. This one is not "
            "needed any more: discard it."
        ),
        _SENDER,
    ),
    Advice(
        "malformed-command",
        _of(Code.MALFORMED),
        "a command",
        _is(WALLET_COMMANDS),
        (
            "Nothing moved, and its serial number is unused. Replaying the same bytes fails again, unless the wallet "
            "was updated. Either edit it into a new message with a new serial number, which a second person approves; "
            "or have the sender send it again, well formed, with the same serial number, and discard this one."
        ),
        _SENDER,
    ),
    Advice(
        "malformed-result",
        _of(Code.MALFORMED),
        "a payment result, or from another queue",
        _always,
        (
            "Nothing moved. Replaying fails again, and it cannot be edited, because only the gateway can sign it. Have "
            "the gateway publish a well-formed result; then discard this one."
        ),
        _GATEWAY,
        has_order_sentence=True,
    ),
    Advice(
        "unsupported-type",
        _of(Code.UNSUPPORTED_TYPE),
        "always",
        _always,
        (
            "Nothing moved. Replaying fails again until the wallet is updated to a version that takes the type. If it "
            "will not be, tell the sender and discard."
        ),
        _SENDER,
    ),
    Advice(
        "not-allowed",
        _of(Code.NOT_ALLOWED),
        "the sender may not send it",
        _always,
        (
            "Nothing moved, and its serial number is unused. If the sender should be able to send it, say so in "
            "WALLET_SENDERS of workers and operators, and plan a replay: it is judged again. If nobody "
            "expected it, treat it as an attack: do not replay it, and keep it for security."
        ),
        "Security first, then whoever runs the sender.",
    ),
    Advice(
        "key-not-allowed",
        _of(Code.KEY_NOT_ALLOWED),
        "the key may not speak of the order",
        _always,
        (
            "Nothing moved. If the gateway's key should speak of this channel, say so in WALLET_PAYMENT_KEYS_FILE, and "
            "plan a replay. A result from before its order is another system's: do not replay it, and ask the gateway."
        ),
        "Security first, then the payment gateway's support.",
        has_order_sentence=True,
    ),
    Advice(
        "signature-wrong",
        _of(Code.BAD_SIGNATURE),
        "the signature fits no key",
        _always,
        (
            "Nothing moved. If the gateway has changed its keys, set them in WALLET_PAYMENT_KEYS for workers and "
            "operators, and plan a replay: the signature is checked again. If not, treat it as an attack: do not "
            "replay it, and keep it for security."
        ),
        "Security first, then the payment gateway's support.",
        has_order_sentence=True,
    ),
    Advice(
        "serial-conflict",
        _of(Code.SERIAL_CONFLICT),
        "always",
        _always,
        (
            "Nothing moved for this one. Replaying fails again. If the sender meant both, edit it: the new message "
            "gets a new serial number, and a second person approves. If not, discard it."
        ),
        f"{_SENDER} They reuse numbers.",
    ),
    Advice(
        "out-of-range",
        _of(Code.AMOUNT_OUT_OF_RANGE),
        "a payment result",
        _is(PAYMENT_RESULTS),
        (
            "Nothing moved, and the gateway has the money: do not discard it. Replay after the balance of the account "
            "has fallen."
        ),
        _GATEWAY,
        has_order_sentence=True,
    ),
    Advice(
        "instructions",
        _of(*_MISMATCHES, Code.ORDER_NOT_FOUND, Code.CONTRADICTING_RESULT),
        "how a payer pays",
        lambda situation: situation.message_type == PaymentInstructions.TYPE,
        (
            "Nothing moved, and the payer was not told this. Replaying fails again. Have the gateway send instructions "
            "with the order's number, amount and currency, and a higher revision than before. Then discard this one."
        ),
        _GATEWAY,
        has_order_sentence=True,
    ),
    Advice(
        "unexpected-payment",
        _of(Code.GATEWAY_REF_USED, Code.PAID_TWICE, Code.RESULT_TOO_LATE),
        "a payment result",
        _is(PAYMENT_RESULTS),
        (
            "Nothing moved. Replaying fails again. Have the gateway confirm in writing whether this is a payment of "
            f"its own. If it is, have it give the money back, or {_GIVE} If it is none, discard it."
        ),
        _GATEWAY,
    ),
    Advice(
        "reversal",
        _of(
            Code.ORDER_NOT_REVERSIBLE,
            Code.AMOUNT_EXCEEDS_ORIGINAL,
            Code.CONTRADICTING_RESULT,
            Code.ACCOUNT_CLOSED,
            Code.CURRENCY_MISMATCH,
        ),
        "a dispute, recall or return",
        lambda situation: situation.message_type == PaymentReversal.TYPE,
        (
            "Nothing moved for this message, and what stood before stands. If the result of its payment is missing, "
            "have the gateway send that, and replay this one after it. If not, have the gateway say how the dispute, "
            "recall or return stands now: its next message counts, with a higher sequence. Then discard this one."
        ),
        _GATEWAY,
    ),
    Advice(
        "account-closed",
        _of(Code.ACCOUNT_CLOSED),
        "a payment result",
        _is(PAYMENT_RESULTS),
        (
            "Nothing moved. Replaying fails again: a closed account stays closed. Have the gateway pay the money back, "
            "then discard with the reference of the payment."
        ),
        _CARE,
    ),
    Advice(
        "order-without-payment",
        _of(Code.ORDER_NOT_FOUND),
        "the order is of a type that the gateway is not asked for",
        lambda situation: situation.order_type is not None,
        (
            "Nothing moved. Replaying fails again: no gateway is asked for an order of this type. The gateway uses a "
            "number that is not its own: ask, then discard."
        ),
        _GATEWAY,
    ),
    Advice(
        "order-in-a-letter",
        _of(Code.ORDER_NOT_FOUND),
        "the order's command is a dead letter, too",
        lambda situation: situation.command_waits,
        "Nothing moved. The command with this serial number is a dead letter: replay that one first, then this result.",
        _WALLET,
    ),
    Advice(
        "order-nowhere",
        _of(Code.ORDER_NOT_FOUND),
        "the order is nowhere",
        _always,
        (
            "Nothing moved. The gateway reports a payment that nobody here has asked for. Have the gateway find out "
            "who did; if the money was collected, have it paid back; then discard with the reference."
        ),
        _GATEWAY,
    ),
    Advice(
        "mismatch",
        _MISMATCHES,
        "a payment result",
        _is(PAYMENT_RESULTS),
        (
            "Nothing moved. Replaying fails again, and it cannot be edited, because only the gateway can sign it. Have "
            "the gateway publish a result with the order's own amount and currency; then discard this one."
        ),
        _GATEWAY,
        has_order_sentence=True,
    ),
    Advice(
        "recharge-taken-back",
        _of(Code.CONTRADICTING_RESULT),
        "a recharge that has succeeded, now reported as failed",
        _contradicted(OrderStatus.SUCCEEDED, CHARGED),
        (
            f"{_PROOF} The recharge is credited. If the payment did succeed, discard this result. If the gateway has "
            f"not got the money, {_TAKE} {_DEBIT_SHORT} A refund would ask the gateway to pay out: do not order one."
        ),
        _GATEWAY,
    ),
    Advice(
        "payout-bounced",
        _of(Code.CONTRADICTING_RESULT),
        "a withdrawal or a refund that has succeeded, now reported as failed",
        _contradicted(OrderStatus.SUCCEEDED, PAID_OUT),
        (
            f"{_PROOF} The amount has left the user's account. If it was paid out, discard this result. If it was not, "
            f"{_GIVE} A refund cannot be ordered again: it counts against the original and is refused with "
            "AMOUNT_EXCEEDS_ORIGINAL once the whole amount is used up."
        ),
        _GATEWAY,
    ),
    Advice(
        "payout-went-out",
        _of(Code.CONTRADICTING_RESULT),
        "a withdrawal or a refund that has failed, now reported as succeeded",
        _contradicted(OrderStatus.FAILED, PAID_OUT),
        (
            f"{_PROOF} The amount is available to the user again. If it was not paid out, discard this result. If it "
            f"was, {_TAKE} {_DEBIT_SHORT}"
        ),
        _GATEWAY,
    ),
    Advice(
        "internal-fails",
        _of(Code.INTERNAL),
        "the wallet would fail on it again now",
        lambda situation: situation.verdict is PredictedOutcome.WOULD_CRASH,
        "Nothing moved. Do not replay it before a mended version is deployed: it would come back.",
        _WALLET,
    ),
    Advice(
        "internal",
        _of(Code.INTERNAL),
        "always",
        _always,
        (
            "Nothing moved. Replay one letter of the group as a canary; if it comes back, leave the group to the "
            "developers. After a mended version is deployed, replay the group with a canary."
        ),
        _WALLET,
        has_order_sentence=True,
    ),
    Advice(
        "broker-rejected",
        _of(BROKER["rejected"]),
        "a command or a payment result",
        _always,
        (
            "The wallet did not reject it. Ask first who reads this queue beside the workers. Then replay it: its "
            "serial number keeps the effect single."
        ),
        "Whoever reads the source queue.",
        has_order_sentence=True,
    ),
    Advice(
        "broker-expired",
        _of(BROKER["expired"]),
        "a command or a payment result",
        _always,
        (
            "The wallet has not read it. A replay applies it now, late, and without the time limit: ask whether it is "
            "still wanted. If not, discard it."
        ),
        _SENDER,
        has_order_sentence=True,
    ),
    Advice(
        "broker-maxlen",
        _of(BROKER["maxlen"]),
        "a command or a payment result",
        _always,
        "The wallet has not read it. Have the policy removed, then replay with a rate limit (`--rate`).",
        _BROKER,
        has_order_sentence=True,
    ),
    Advice(
        "broker-delivery-limit",
        _of(BROKER["delivery_limit"]),
        "a command or a payment result",
        _always,
        (
            "Its readers did not finish with it; what it asks for may have been done once, and is not done twice. Look "
            "at the worker's log, then replay one letter as a canary."
        ),
        _WALLET,
        has_order_sentence=True,
    ),
    Advice(
        "unrouted",
        _of(UNROUTED),
        "a command or a payment result",
        _always,
        "No worker has read it. Run `wallet topology apply`, then replay it.",
        _BROKER,
        has_order_sentence=True,
    ),
    Advice(
        "unknown",
        _of(UNKNOWN),
        "its queue is known",
        _always,
        (
            "The queue that it came from is known, but not why it was set aside. Find out who put it here. A replay "
            "sends it to its own exchange: the prediction says what the wallet would do with it."
        ),
        f"{_BROKER} Then security.",
        has_order_sentence=True,
    ),
    Advice(
        "refusal",
        frozenset(REFUSALS)
        | _MISMATCHES
        | _of(Code.ACCOUNT_CLOSED, Code.AMOUNT_OUT_OF_RANGE, Code.CONTRADICTING_RESULT)
        | _of(Code.ORDER_NOT_REVERSIBLE, Code.AMOUNT_EXCEEDS_ORIGINAL)
        | _of(Code.GATEWAY_REF_USED, Code.PAID_TWICE, Code.RESULT_TOO_LATE),
        "a command, or from another queue",
        _always,
        (
            "The wallet stores this code as an outcome and sets nothing aside for it: somebody else has published this "
            "letter. Plan a replay: the prediction says what the wallet would do with it now."
        ),
        f"{_SENDER} Then security.",
    ),
)
"""Every advice; the first row of a reason that applies is given."""


def advice_for(situation: Situation) -> Advice:
    """Return the row that applies."""
    cause = situation.cause
    return next(row for row in ADVICE if cause in row.reasons and row.applies(situation))


def _check_total() -> None:
    names = [row.name for row in ADVICE]
    if len(set(names)) != len(names):
        msg = f"two rows have one name: {sorted(names)}"
        raise AssertionError(msg)
    for reason in REASONS:
        rows = [row for row in ADVICE if reason in row.reasons]
        if rows[-1].applies is not _always:
            msg = f"the runbook has no last row for {reason}"
            raise AssertionError(msg)
    for order_type, spec in ORDER_SPECS.items():
        for (status, _), step in spec.table.items():
            found = Situation(
                Code.CONTRADICTING_RESULT, PAYMENT_RESULTS, order_type=order_type, order_status=status
            )
            if step.effect is Effect.CONTRADICTION and advice_for(found).name == "refusal":
                msg = f"the runbook has no row for a contradicted {order_type} that is {status}"
                raise AssertionError(msg)


_check_total()
