"""Deleting what was published: along with a batch where that pays, in a transaction of its own where it does not."""

from uuid import uuid4

from wallet_worker.broker.publisher import Publisher
from wallet_worker.health import Health
from wallet_worker.metrics import Metrics
from wallet_worker.outbox import TAKEN_ALONG_MIN, Outbox
from wallet_worker.store.database import WORKER_ROLE, Database

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


def test_a_batch_takes_confirmed_rows_along_when_they_are_worth_a_round_trip() -> None:
    health, metrics = Health(), Metrics()
    outbox = Outbox(
        Database(NOWHERE, role=WORKER_ROLE, application="test"),
        Publisher("amqp://nobody@127.0.0.1:1", health, metrics),
        health,
        metrics,
    )
    ids = [uuid4() for _ in range(TAKEN_ALONG_MIN)]

    outbox.keep(ids[:-1])

    assert outbox.take_confirmed() == []  # left to `forget`, and not lost:
    assert outbox.take_confirmed(at_least=1) == ids[:-1]
    outbox.keep(ids)
    assert outbox.take_confirmed() == ids
    assert outbox.take_confirmed(at_least=1) == []
