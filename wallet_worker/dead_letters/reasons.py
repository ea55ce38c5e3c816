"""Why a message is a dead letter: the wallet's own codes, and what the broker may have done."""

from typing import Final

from wallet_schemas.codes import Code

UNROUTED: Final = "UNROUTED"
"""No queue was bound where it was published."""
UNKNOWN: Final = "UNKNOWN"
"""It came with no reason that anybody here gives."""

BROKER: Final = {
    "rejected": "BROKER_REJECTED",
    "expired": "BROKER_EXPIRED",
    "maxlen": "BROKER_MAXLEN",
    "delivery_limit": "BROKER_DELIVERY_LIMIT",
}
"""What the broker says in `x-death` of why it set a message aside, as a reason."""

REASONS: Final = (
    *(code.value for code in Code if code is not Code.OK),
    *BROKER.values(),
    UNROUTED,
    UNKNOWN,
)
"""All of them, so that groups are never more than these."""
