"""Names and limits on the wire. A queue is called like the exchange that feeds it."""

from typing import Final

WALLET_COMMANDS: Final = "wallet.commands"
PAYMENT_REQUESTS: Final = "payment.requests"
PAYMENT_RESULTS: Final = "payment.results"
WALLET_EVENTS: Final = "wallet.events"
EVENT_LOG: Final = (
    "wallet.api.events"  # a stream: who reads events by HTTP, or has them posted, reads them from it
)
WALLET_QUERIES: Final = "wallet.queries"
WALLET_DEAD_LETTERS: Final = "wallet.dead-letters"
WALLET_UNROUTED: Final = "wallet.unrouted"

CONTENT_TYPE: Final = "application/json"

TRACEPARENT_HEADER: Final = "traceparent"
SIGNATURE_HEADER: Final = "x-signature"
CLIENT_HEADER: Final = "x-wallet-client"

REASON_HEADER: Final = "x-wallet-reason"
DETAIL_HEADER: Final = "x-wallet-detail"
SOURCE_HEADER: Final = "x-wallet-source"
EXCHANGE_HEADER: Final = "x-wallet-exchange"
ROUTING_KEY_HEADER: Final = "x-wallet-routing-key"
ATTEMPTS_HEADER: Final = "x-wallet-attempts"
FIRST_SEEN_HEADER: Final = "x-wallet-first-seen"
WORKER_HEADER: Final = "x-wallet-worker"
SENDER_HEADER: Final = "x-wallet-sender"
SEAL_HEADER: Final = "x-wallet-seal"
BODY_BYTES_HEADER: Final = "x-wallet-body-bytes"
BODY_SHA256_HEADER: Final = "x-wallet-body-sha256"

REPLAY_ID_HEADER: Final = "x-wallet-replay-id"
REPLAY_COUNT_HEADER: Final = "x-wallet-replay-count"

BODY_BYTES_MAX: Final = 65_536
BODY_BYTES_KEPT: Final = 1_024  # of a body that is larger than that: enough to see what it is
DETAIL_BYTES_MAX: Final = 1_024
QUERY_LIFE_MS: Final = 30_000  # nobody waits longer for an answer than this

DEFAULT_ACCOUNT_TYPE: Final = "basic"
DEFAULT_CURRENCIES: Final = ("TWD", "USD", "EUR", "JPY", "KWD")


def routing_key(message_type: str) -> str:
    """Return the routing key of a message type: the type without its version."""
    return message_type.rpartition(".")[0]
