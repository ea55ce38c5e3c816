"""What became of each message of a batch: one line in the log, and the metrics."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import structlog

from wallet_schemas.codes import Code
from wallet_worker.broker.inbox import Envelope
from wallet_worker.core.endings import DISPOSITIONS, Disposition, Ending
from wallet_worker.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)


class MessageResult(NamedTuple):
    """A message, what became of it, and why.

    `number` is the serial number that the message is about, empty if it could not be read.
    """

    envelope: Envelope
    ending: Ending
    code: Code
    detail: str
    number: str


def report(results: Sequence[MessageResult], seconds: float, metrics: Metrics) -> None:
    """Log a line for the batch, and a line for each message that an operator may want to look at."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for result in results:
        source = result.envelope.incoming.source.value
        counts[source, result.ending.value, result.code.value] += 1
        if DISPOSITIONS[result.ending] is not Disposition.ACKNOWLEDGE:
            log.warning(
                "message.ended",
                ending=result.ending.value,
                source=source,
                code=result.code.value,
                detail=result.detail,
                number=result.number,
            )
    for labels, count in counts.items():
        metrics.messages.labels(*labels).inc(count)
    metrics.batch_size.observe(len(results))
    metrics.batch_seconds.observe(seconds)
    endings: Counter[str] = Counter()
    for (_, ending, _), count in counts.items():
        endings[ending] += count
    log.info("batch.settled", size=len(results), ms=round(seconds * 1000, 1), **endings)
