"""Results over HTTP: each is posted to the wallet's API, as most gateways do, and posted again until it is taken."""

import asyncio
import http.client
import queue
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from urllib.parse import SplitResult, urlsplit

from payment_simulator.broker import Published, sign
from payment_simulator.state import DueAnswer
from wallet_schemas import names

TIMEOUT_SECONDS: Final = 20.0  # above what the API waits for the wallet's word
AT_ONCE: Final = 8
_TAKEN: Final = frozenset({200, 202})
_UNSIGNED: Final = 401
_WAIT: Final = "wait=5"


class AddressUnusable(ValueError):  # noqa: N818 - named after what is wrong
    """Results cannot be posted to the address; the message is for people."""


class Webhook:
    """Connections to one address, each kept as long as it works."""

    def __init__(self, address: SplitResult) -> None:
        self._address = address
        self._path = address.path or "/"
        self._threads = ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="webhook")
        self._free: queue.SimpleQueue[http.client.HTTPConnection] = queue.SimpleQueue()

    def close(self) -> None:
        """Nothing is posted any more."""
        self._threads.shutdown(cancel_futures=True)

    async def publish(self, answers: Sequence[DueAnswer], keys: Mapping[str, str]) -> Published:
        """Return what became of the answers: what was not taken is tried again by whoever asks."""
        loop = asyncio.get_running_loop()
        at_unix = int(time.time())
        outcomes = await asyncio.gather(
            *(loop.run_in_executor(self._threads, self._post, answer, keys, at_unix) for answer in answers)
        )
        return Published(
            confirmed=[
                answer.answer_id for answer, why_not in zip(answers, outcomes, strict=True) if not why_not
            ],
            lost=0,
            refusals=[why_not for why_not in outcomes if why_not],
        )

    def _post(self, answer: DueAnswer, keys: Mapping[str, str], at_unix: int) -> str:
        """Post one answer; return why it has to be posted again, or nothing."""
        headers = {
            "Content-Type": names.CONTENT_TYPE,
            "Prefer": _WAIT,
            names.SIGNATURE_HEADER: sign(answer, keys, at_unix),
        }
        if answer.traceparent is not None:
            headers[names.TRACEPARENT_HEADER] = answer.traceparent
        try:
            connection = self._free.get_nowait()
        except queue.Empty:
            secure = self._address.scheme == "https"
            kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
            connection = kind(self._address.hostname or "", self._address.port, timeout=TIMEOUT_SECONDS)
        try:
            connection.request("POST", self._path, body=answer.body, headers=headers)
            response = connection.getresponse()
            response_body = response.read()
        except (OSError, http.client.HTTPException) as exc:
            connection.close()
            return f"{type(exc).__name__}: {exc}"
        self._free.put(connection)
        # What this gateway has forged is refused, as it should be, and not posted again.
        if response.status in _TAKEN or (answer.forged and response.status == _UNSIGNED):
            return ""
        return f"{response.status} {response_body[:200]!r}"


def parse_address(text: str) -> SplitResult:
    """Return the address that results are posted to; raises AddressUnusable."""
    try:
        address = urlsplit(text)
        _ = address.port
    except ValueError as exc:
        raise AddressUnusable(f"it is no URL: {exc}") from exc
    if (
        address.scheme not in {"http", "https"}
        or not address.hostname
        or address.query
        or "@" in address.netloc
    ):
        raise AddressUnusable("it must look like https://wallet.example/v1/payment-results")
    return address
