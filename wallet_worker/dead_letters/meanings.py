"""What each reason of a dead letter means, in words."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from wallet_schemas.codes import Code
from wallet_worker.dead_letters.reasons import BROKER, REASONS, UNKNOWN, UNROUTED

MEANINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        Code.MALFORMED: "The message does not match the schema of its type. The detail names the faults.",
        Code.UNSUPPORTED_TYPE: "This queue does not take the type: it is newer than the wallet, or on the wrong queue.",
        Code.BAD_SIGNATURE: (
            "A payment result without a valid signature: forged, changed on its way, or signed with a key that is not "
            "in WALLET_PAYMENT_KEYS."
        ),
        Code.NOT_ALLOWED: (
            "The sender may not send this: not this type, not about this user, account or order, under another routing "
            "key, or without saying who it is."
        ),
        Code.KEY_NOT_ALLOWED: (
            "What the gateway says with a valid signature, by a key that does not speak of the order's channel, or "
            "signed before the order was made; or instructions with an address elsewhere than the channel allows."
        ),
        Code.SERIAL_CONFLICT: "The serial number was used before, with other content. The first outcome stands.",
        Code.AMOUNT_OUT_OF_RANGE: "The balance would be more than the wallet can hold.",
        Code.ACCOUNT_CLOSED: (
            "A payment succeeded after its account was closed. The gateway has the money, the ledger has not."
        ),
        Code.ORDER_NOT_FOUND: "A payment result for an order that the wallet did not know, for more than five minutes.",
        Code.CURRENCY_MISMATCH: "The payment result is in another currency than its order.",
        Code.ORDER_NOT_REVERSIBLE: (
            "A dispute, recall or return of an order of which no money has moved, or whose kind does not fit the order."
        ),
        Code.AMOUNT_EXCEEDS_ORIGINAL: "More would stand moved back than the order has moved.",
        Code.AMOUNT_MISMATCH: "The payment result has another amount than its order.",
        Code.GATEWAY_REF_USED: (
            "The gateway reported a payment under the id of another order's payment. One id is one payment on this "
            "channel."
        ),
        Code.PAID_TWICE: "The gateway reported a second payment of an order that was paid already.",
        Code.RESULT_TOO_LATE: "The money came so long after the order had ended that nobody may expect it any more.",
        Code.CONTRADICTING_RESULT: (
            "The gateway reported two different results of one payment. The first result stands, and this one moved "
            "nothing."
        ),
        Code.INTERNAL: "The wallet failed on this message alone, or a worker died of it several times.",
        BROKER["rejected"]: "A consumer rejected it for good: of a payment request, the gateway's.",
        BROKER["expired"]: "Nobody read it before its time limit, which its sender or a policy has set.",
        BROKER[
            "maxlen"
        ]: "Its queue was full, and a policy drops the oldest. The wallet's own queues never do.",
        BROKER["delivery_limit"]: (
            "It was delivered very often and never acknowledged: its readers died, or lost their connection."
        ),
        UNROUTED: "No queue was bound where it was published: the topology is damaged, or was never applied.",
        UNKNOWN: "It carries no reason. Somebody may have published to the dead letters directly.",
    }
)
"""What each reason means. A reason that is missing here is a refusal."""

REFUSALS: Final = frozenset(REASONS) - set(MEANINGS)
"""Codes that are stored outcomes of commands: the wallet sets nothing aside for one of these."""


def meaning_of(reason: str) -> str:
    """Return what a reason means."""
    if reason in MEANINGS:
        return MEANINGS[reason]
    return (
        f"{Code[reason].meaning[:1].upper()}{Code[reason].meaning[1:]}."
        if reason in REFUSALS
        else MEANINGS[UNKNOWN]
    )
