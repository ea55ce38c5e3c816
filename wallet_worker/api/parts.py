"""What an API process is made of, for the handlers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wallet_schemas import signature
from wallet_worker.api.keys import Client
from wallet_worker.api.load import Load
from wallet_worker.api.lookups import BatchedLookups, Waiters
from wallet_worker.api.metrics import ApiMetrics
from wallet_worker.api.quota import Quota
from wallet_worker.api.who import Keys
from wallet_worker.client.rpc import Rpc
from wallet_worker.core.senders import Rights, Sender, Senders
from wallet_worker.core.webhooks import Network
from wallet_worker.queries.answers import StoredOutcome
from wallet_worker.store.database import Database
from wallet_worker.telemetry.health import Health

if TYPE_CHECKING:
    from wallet_worker.api.events import Feed


@dataclass(slots=True)
class ApiState:
    """The parts of one process. `payment_keys` are those of the gateway, key id to secret.

    `login` is the API's own at the broker. `senders` is the policy that keeps clients apart; absent where none does.
    `is_lame`: it was told to stop, and still takes requests; `is_stopping`: it takes no more.
    """

    rpc: Rpc
    database: Database
    keys: Keys
    quota: Quota
    load: Load
    known: BatchedLookups[StoredOutcome]
    settled: Waiters
    payable: Waiters
    answered: Waiters
    feed: "Feed"
    metrics: ApiMetrics
    webhooks_networks: Sequence[Network]
    payment_keys: signature.Keys
    login: str
    senders: Senders | None
    wait_seconds: float
    signature_age_seconds: float
    health: Health
    is_lame: bool = False
    is_stopping: bool = False

    def sender(self, client: Client) -> Sender | None:
        """Return who the workers take a client for; without `clients` in the policy, the API's login."""
        if self.senders is None:
            return Sender(self.login, client.sender)
        return self.senders.sender(self.login, client.sender, None)

    def rights(self, client: Client) -> Rights | None:
        """Return what the policy gives a client; absent where there is no policy, or none that knows it."""
        return None if self.senders is None else self.senders.of(self.sender(client))
