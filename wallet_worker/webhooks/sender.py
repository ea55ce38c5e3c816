"""Posting what is due: some at once to each endpoint, each attempt written with what came of it."""

import asyncio
import random
import ssl
import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import structlog

from wallet_schemas.names import CONTENT_TYPE
from wallet_worker.backoff import sleep_unless
from wallet_worker.core.webhooks import DISABLED_AFTER, GONE, KEPT, Network, next_wait, signature
from wallet_worker.store import webhooks
from wallet_worker.store.database import Database
from wallet_worker.store.errors import InvariantBrokenError, StoreError
from wallet_worker.store.webhooks import DeliveryAttempt
from wallet_worker.telemetry.health import Health
from wallet_worker.text import printable
from wallet_worker.webhooks.metrics import WebhooksMetrics
from wallet_worker.webhooks.post import UndeliverableError, post

OF_ENDPOINT_MAX: Final = 4  # at once, in one process: a slow endpoint holds up only itself
AT_ONCE_MAX: Final = 64
POST_SECONDS: Final = 15.0
LOST_AFTER: Final = timedelta(minutes=1)  # an attempt whose process has died is made again
LOOK_SECONDS: Final = 1.0
CLEAN_SECONDS: Final = 600.0
CLEAN_MAX: Final = 10_000
MEASURE_SECONDS: Final = 15.0
_SUCCESS: Final = range(200, 300)
_COMES_BACK: Final = frozenset({429, 503})
_ANSWER_MAX: Final = 1_000

log = structlog.get_logger(__name__)


class WebhookSender:
    """Posts what is due until told to stop. `has_new` is set when there is something new to post."""

    def __init__(
        self,
        database: Database,
        *,
        networks: Sequence[Network],
        context: ssl.SSLContext,
        has_new: asyncio.Event,
        health: Health,
        metrics: WebhooksMetrics,
    ) -> None:
        self._database = database
        self._networks = networks
        self._context = context
        self._has_new = has_new
        self._health = health
        self._metrics = metrics
        self._busy: Counter[int] = Counter()

    async def run(self, stopping: asyncio.Event) -> None:
        """Post until told to stop, and let what is under way end."""
        under_way: set[asyncio.Task[None]] = set()
        while not stopping.is_set():
            self._has_new.clear()
            taken = await self._take(AT_ONCE_MAX - len(under_way))
            for attempt in taken:
                self._busy[attempt.endpoint_id] += 1
                task = asyncio.create_task(self._try(attempt), name=f"delivery {attempt.delivery_id}")
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            # What has ended makes room for what waits behind it.
            ends = [asyncio.create_task(wait()) for wait in (self._has_new.wait, stopping.wait)]
            await asyncio.wait([*ends, *under_way], timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()
        if under_way:
            await asyncio.wait(under_way)

    async def look_after(self, stopping: asyncio.Event) -> None:
        """Measure what waits, and delete what arrived long ago, until told to stop."""
        cleaned_at = -CLEAN_SECONDS
        while not stopping.is_set():
            try:
                async with self._database.connection() as connection:
                    self._metrics.saw(await webhooks.backlog(connection))
                    if time.monotonic() - cleaned_at >= CLEAN_SECONDS:
                        while await webhooks.clean(connection, KEPT, CLEAN_MAX) == CLEAN_MAX:
                            pass
                        cleaned_at = time.monotonic()
            except InvariantBrokenError:
                raise  # our bug: whoever goes on would do more of it
            except StoreError as exc:
                self._metrics.saw(None)
                log.warning("webhooks.unmeasured", reason=str(exc))
            await sleep_unless(MEASURE_SECONDS, stopping)

    async def _take(self, room: int) -> list[DeliveryAttempt]:
        if room <= 0:
            return []
        try:
            async with self._database.transaction() as connection:
                taken = await webhooks.take(
                    connection,
                    self._busy,
                    of_endpoint_max=OF_ENDPOINT_MAX,
                    limit=room,
                    lost_after=LOST_AFTER,
                )
        except InvariantBrokenError:
            raise
        except StoreError as exc:
            if self._health.unready("database", str(exc)):
                log.error("webhooks.database_lost", reason=str(exc))
            return []
        if self._health.ready("database"):
            log.info("webhooks.database_connected")
        return taken

    async def _try(self, attempt: DeliveryAttempt) -> None:
        """Post once, and write what came of it; what cannot be written is posted again, with the same id."""
        try:
            status, answer, retry_after = await self._post(attempt)
            try:
                await self._write(attempt, status, answer, retry_after)
            except StoreError as exc:
                log.warning("webhook.unwritten", delivery=attempt.delivery_id, reason=str(exc))
        finally:
            self._busy[attempt.endpoint_id] -= 1
            if not self._busy[attempt.endpoint_id]:
                del self._busy[attempt.endpoint_id]

    async def _post(self, attempt: DeliveryAttempt) -> tuple[int | None, str, str | None]:
        body = attempt.body.encode()
        at = int(time.time())
        headers = {
            "content-type": CONTENT_TYPE,
            "user-agent": "wallet-webhooks/1",
            "webhook-id": attempt.event_id,
            "webhook-timestamp": str(at),
            "webhook-signature": signature(attempt.secrets, attempt.event_id, at, body),
        }
        try:
            found = await post(
                attempt.url,
                headers,
                body,
                allowed=self._networks,
                context=self._context,
                seconds=POST_SECONDS,
            )
        except UndeliverableError as exc:
            return None, str(exc), None
        return (
            found.status,
            printable(found.beginning.decode("utf-8", "replace"))[:_ANSWER_MAX],
            (found.retry_after if found.status in _COMES_BACK else None),
        )

    async def _write(
        self, attempt: DeliveryAttempt, status: int | None, answer: str, retry_after: str | None
    ) -> None:
        async with self._database.transaction() as connection:
            if status is not None and status in _SUCCESS:
                await webhooks.delivered(connection, attempt, status, answer)
                ending, is_over = "delivered", False
            else:
                wait = next_wait(attempt.attempts, random.random(), retry_after)
                ending = "failed" if wait is not None else "given_up"
                is_over = await webhooks.failed(
                    connection,
                    attempt,
                    status,
                    answer,
                    wait,
                    is_gone=status == GONE,
                    disabled_after=DISABLED_AFTER,
                )
        self._metrics.attempts.labels(ending=ending).inc()
        if ending == "delivered":
            log.debug("webhook.delivered", endpoint=attempt.endpoint_id, event_id=attempt.event_id)
        else:
            log.info(
                "webhook.not_delivered",
                endpoint=attempt.endpoint_id,
                event_id=attempt.event_id,
                attempt=attempt.attempts,
                status=status,
                reason=None if status is not None else answer,
                given_up=ending == "given_up",
            )
        if is_over:
            log.error("webhook.endpoint_disabled", endpoint=attempt.endpoint_id, status=status)
