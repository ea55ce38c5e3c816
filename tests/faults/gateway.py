"""A payment gateway of the harness's own: what it says of an order depends on the order alone, so a repeat is a repeat.

It repeats itself, lets its results overtake each other, and has impostors. Everything it says is noted before.
"""

import asyncio
import random

from aiormq.abc import DeliveredMessage

from tests.faults.checker import Heard
from tests.faults.model import Channel
from tests.faults.notebook import Kind, Note
from tests.faults.wire import Letter, Sender
from tests.journeys.messages import Json, encoded, result, signed
from tests.journeys.upstream import RESULTS

OCCURRED_AT = "2026-01-02T03:04:07Z"


class Gateway:
    """Answers payment requests through a sender, and keeps in `heard` what it was asked."""

    def __init__(self, sender: Sender, seed: int, heard: Heard, *, patience_seconds: float = 0.3) -> None:
        self._sender = sender
        self._random = random.Random(seed)
        self._heard = heard
        self._patience_seconds = patience_seconds

    async def on_request(self, message: DeliveredMessage) -> None:
        """Answer, sooner or later; the request may be acknowledged when this is over."""
        letters = answers(self._heard.hear_request(message.body))
        self._random.shuffle(letters)
        for letter in letters:
            await asyncio.sleep(self._random.uniform(0, self._patience_seconds))
            await self._sender.send_until_confirmed([letter])


def answers(request: Json) -> list[Letter]:
    """Return what is said of an order, the same for every repeat of the request."""
    number, amount, currency = request["payment_order_no"], request["amount"], request["currency"]
    success = gateway_result(number, "succeeded", amount, currency)
    match Channel(request["channel"]):
        case Channel.CARD | Channel.EARLY:
            return [success]
        case Channel.AGAIN:
            return [success] * 3
        case Channel.DECLINED:
            return [gateway_result(number, "failed", amount, currency)]
        case Channel.LATE:
            failure = gateway_result(number, "failed", amount, currency, Kind.PERHAPS, "CONTRADICTING_RESULT")
            return [failure, success]
        case Channel.FORGED:
            note = gateway_result(number, "failed", amount, currency, Kind.FORGED, "BAD_SIGNATURE").note
            return [Letter(note, RESULTS, {"x-signature": signed(note.body, secret="a guess")}), success]
        case Channel.MISCOUNTED:
            wrong = gateway_result(
                number, "succeeded", _more(amount), currency, Kind.FORGED, "AMOUNT_MISMATCH"
            )
            return [wrong, success]
        case Channel.TARDY:
            return [success] if request["kind"] == "status" else []
        case Channel.SILENT:
            return []


def gateway_result(
    number: str, status: str, amount: str, currency: str, kind: Kind = Kind.RESULT, expects: str = "OK"
) -> Letter:
    """Return a signed result; `expects` is why it must be a dead letter, if it must."""
    body = encoded(result(number, status, amount=amount, currency=currency, occurred_at=OCCURRED_AT))
    return Letter(Note(kind, number, body, expects=expects), RESULTS, {"x-signature": signed(body)})


def _more(amount: str) -> str:
    return f"1{amount}"
