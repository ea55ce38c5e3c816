"""The runbook: for each reason what it means, what is safe, and whom to ask. The page RUNBOOK.md is made from it.

python -m wallet_worker.dead_letters.runbook > wallet_worker/dead_letters/RUNBOOK.md
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from wallet_schemas.codes import Code
from wallet_worker.dead_letters.model.records import RunbookLine
from wallet_worker.dead_letters.reasons import REASONS, UNKNOWN, UNROUTED

_SENDER: Final = "The team that sent it."
_GATEWAY: Final = "The payment gateway's support, with the payment_order_no and gateway_ref."
_WALLET: Final = "The wallet's developers."
_BROKER: Final = "Whoever runs the broker."

_LINES: Final = (
    (
        Code.MALFORMED,
        "The message is no JSON of its type; the detail names the faults. No outcome is stored for its serial number.",
        (
            "Nothing moved. Replaying the same bytes fails again, unless the wallet was updated to take them. A "
            "command can be edited into a new message. Otherwise tell the sender and discard."
        ),
        _SENDER,
    ),
    (
        Code.UNSUPPORTED_TYPE,
        "The type is not taken on this queue: a newer version than this wallet, or the wrong queue.",
        "Nothing moved. Replay after the wallet was updated; else discard once the sender knows.",
        _SENDER,
    ),
    (
        Code.BAD_SIGNATURE,
        (
            "A payment result without a valid signature: forged, altered on its way, or signed with a key that is not "
            "in WALLET_PAYMENT_KEYS."
        ),
        (
            "Nothing moved. Never edit it. If the gateway has changed its keys, set them and replay: it is checked "
            "again. If not, treat it as an attack."
        ),
        "Security first, then the payment gateway's support.",
    ),
    (
        Code.SERIAL_CONFLICT,
        "The serial number was used before, for something else. The first outcome stands.",
        "Nothing moved for this one. Replaying fails again. If both were meant, edit: it gets a new serial number.",
        f"{_SENDER} They reuse numbers.",
    ),
    (
        Code.CURRENCY_NOT_SUPPORTED,
        "The wallet does not hold the currency.",
        "Nothing moved. Replaying a command repeats its refusal.",
        _SENDER,
    ),
    (
        Code.AMOUNT_OUT_OF_RANGE,
        "The amount, or the balance it would lead to, is more than the wallet can hold.",
        (
            "Nothing moved. For a payment result money may have arrived at the gateway: do not discard before that is "
            "settled. Replay after the balance has fallen."
        ),
        _GATEWAY,
    ),
    (
        Code.ACCOUNT_EXISTS,
        "There is an open account of this user, type and currency.",
        "Nothing moved. Replaying a command repeats its refusal.",
        _SENDER,
    ),
    (
        Code.ACCOUNT_NOT_FOUND,
        "The user has no account of this type and currency.",
        "Nothing moved. Replaying a command repeats its refusal.",
        _SENDER,
    ),
    (
        Code.ACCOUNT_CLOSED,
        "Money arrived for an account that was closed meanwhile. The gateway has it, the ledger has not.",
        (
            "Nothing moved. Replaying fails again: a closed account stays closed. Have the gateway pay it back, then "
            "discard with the reference of that."
        ),
        f"Customer care, then: {_GATEWAY}",
    ),
    (
        Code.ACCOUNT_FROZEN,
        "The account is frozen: no money leaves it.",
        "Nothing moved. Replaying a command repeats its refusal.",
        "Whoever froze the account.",
    ),
    (
        Code.SAME_ACCOUNT,
        "Money cannot move from an account to itself.",
        "Nothing moved. Replaying a command repeats its refusal.",
        _SENDER,
    ),
    (
        Code.ORDER_NOT_FOUND,
        "A payment result for an order that the wallet does not know, also not five minutes later.",
        (
            "Nothing moved. Look whether the order's command is a dead letter too: replay that first, then this. If "
            "the order is nowhere, the gateway collected something that nobody here asked for."
        ),
        _GATEWAY,
    ),
    (
        Code.ORDER_NOT_REFUNDABLE,
        "Only a recharge that succeeded can be refunded.",
        "Nothing moved. Replaying a command repeats its refusal.",
        _SENDER,
    ),
    (
        Code.HOLD_NOT_ACTIVE,
        "The hold was captured, released, or has expired.",
        "Nothing moved. Replaying a command repeats its refusal.",
        _SENDER,
    ),
    (
        Code.CURRENCY_MISMATCH,
        "The result is in another currency than its order.",
        (
            "Nothing moved, and the order still waits. Replaying fails again. A new, right result from the gateway "
            "settles it; then discard this one."
        ),
        _GATEWAY,
    ),
    (
        Code.AMOUNT_MISMATCH,
        "The result has another amount than its order: part of the money, or too much.",
        (
            "Nothing moved, and the order still waits. Replaying fails again. Never edit it. A new, right result from "
            "the gateway settles it; then discard this one."
        ),
        _GATEWAY,
    ),
    (
        Code.AMOUNT_EXCEEDS_ORIGINAL,
        "The amount is more than what is left of the original.",
        "Nothing moved. Replaying a command repeats its refusal.",
        _SENDER,
    ),
    (
        Code.LIMIT_EXCEEDED,
        "The amount is above a limit of the account.",
        "Nothing moved. Replaying a command repeats its refusal.",
        _SENDER,
    ),
    (
        Code.INSUFFICIENT_BALANCE,
        "The account has less available than the amount.",
        "Nothing moved. Replaying a command repeats its refusal.",
        _SENDER,
    ),
    (
        Code.BALANCE_NOT_ZERO,
        "The account still holds or reserves money.",
        "Nothing moved. Replaying a command repeats its refusal.",
        _SENDER,
    ),
    (
        Code.ORDERS_PENDING,
        "An order of the account still waits for a result.",
        "Nothing moved. Replaying a command repeats its refusal.",
        _SENDER,
    ),
    (
        Code.CONTRADICTING_RESULT,
        "The gateway said one thing of a payment and then another: succeeded, and now failed.",
        (
            "Nothing moved; the first result stands. Replaying fails again. Have the gateway say in writing which is "
            "true; then correct with a refund or a new recharge, and discard."
        ),
        _GATEWAY,
    ),
    (
        Code.INTERNAL,
        "The wallet itself failed on the message, on it alone, or a worker died of it several times.",
        (
            "Nothing moved. One replay, as a canary, is safe; if it comes back, leave it for the developers. After a "
            "mended version is out, replay the group with a canary."
        ),
        _WALLET,
    ),
    (
        "BROKER_REJECTED",
        "A consumer gave it back for good: for a payment request, the gateway's.",
        "The wallet did not do this. Ask why first; a replay then has its effect once: its number sees to that.",
        "Whoever reads the source queue; for payment requests the payment gateway's support.",
    ),
    (
        "BROKER_EXPIRED",
        "It was not read before its time limit, which its sender or a policy has set.",
        "Nothing moved. Replaying applies it late: ask whether it is still wanted. The limit is not replayed.",
        _SENDER,
    ),
    (
        "BROKER_MAXLEN",
        "The queue was full, and a policy drops what is oldest. The wallet's own queues never do.",
        "Nothing moved. Remove the policy, then replay with a rate limit.",
        _BROKER,
    ),
    (
        "BROKER_DELIVERY_LIMIT",
        "It was handed out very often and never acknowledged: readers died, or lost their connection, over and over.",
        "Nothing is certain but that a repeat is harmless. Replay one as a canary; look at the worker's log first.",
        _WALLET,
    ),
    (
        UNROUTED,
        "It was published where no queue was bound: the topology was damaged, or never applied.",
        "Nothing moved. `wallet topology apply`, then replay.",
        _BROKER,
    ),
    (
        UNKNOWN,
        "Nobody the wallet knows has put it here; somebody may have published to the dead letters directly.",
        "Nothing moved. If it cannot be replayed, the original sender must send it again. Keep it until known.",
        f"{_BROKER} Then security.",
    ),
)

RUNBOOK: Final[Mapping[str, RunbookLine]] = MappingProxyType(
    {str(reason): RunbookLine(str(reason), meaning, safe, ask) for reason, meaning, safe, ask in _LINES}
)
"""A line for each reason."""

if set(RUNBOOK) != set(REASONS):
    msg = f"a reason has no line in the runbook: {set(RUNBOOK) ^ set(REASONS)}"
    raise AssertionError(msg)


def line(reason: str) -> RunbookLine:
    """Return what is to be known of a reason."""
    return RUNBOOK.get(reason) or RUNBOOK[UNKNOWN]


def page() -> str:
    """Return the whole runbook in Markdown."""
    rows = "\n".join(
        f"| `{one.reason}` | {one.meaning} | {one.safe} | {one.ask} |" for one in RUNBOOK.values()
    )
    return f"""\
# Runbook for dead letters

<!-- made by `python -m wallet_worker.dead_letters.runbook`; a test compares -->

What is always safe: to look, and to plan. A replay has the effect that the message would have had, once: its serial
number, or payment_order_no, sees to that. It is safe where the prediction says that it repeats the stored outcome or
will be refused, because then nothing moves; else ask first whom the line below names. What is never safe: to discard a
payment result of which nobody knows where the money is. When in doubt, leave it waiting: nothing expires here.

Before an edit, tell the sender not to send the old number again: the wallet would take it as a message of its own. Once
it is applied, no other version is sent from here; but an edit that is on its way by then is applied as well.

1. `wallet dlq groups`: what is there, and since when.
2. `wallet dlq show NUMBER`: one of them, what the wallet knows of it, and what a replay would do now.
3. `wallet dlq replay --reason CODE --why "…"`: the plan, with its token. Read the counts.
4. `wallet dlq replay --execute TOKEN`: it is done. With `--canary 5` in the plan, five go first.

| reason | what it means | what is safe | whom to ask |
|---|---|---|---|
{rows}
"""


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 -- its product
