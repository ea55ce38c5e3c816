"""What a replay would do now: the wallet's own `decide`, on the facts of this moment. Nothing is written or locked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

import asyncpg

from wallet_schemas.names import PAYMENT_REQUESTS, SENDER_HEADER, SIGNATURE_HEADER
from wallet_schemas.signature import Keys
from wallet_worker.broker.amqp.properties import is_cut, unmarshal
from wallet_worker.core.batch import lookups_for
from wallet_worker.core.context import DecisionContext, Policy
from wallet_worker.core.decide import decide
from wallet_worker.core.endings import Ending
from wallet_worker.core.ids import ENTROPY_BYTES, FreshIds
from wallet_worker.core.inbound import InboundMessage, InvalidMessage, Message, Source, read
from wallet_worker.core.senders import Sender
from wallet_worker.dead_letters.model.predictions import PredictedOutcome, Prediction
from wallet_worker.dead_letters.replay.payment_requests import invalid_requests
from wallet_worker.dead_letters.replay.properties import is_too_large
from wallet_worker.store import load

_DRAW: Final = FreshIds(bytes(ENTROPY_BYTES))
"""Nothing of what is decided here is kept, so nothing has to be fresh."""

_QUEUES: Final = frozenset({Source.COMMANDS, Source.RESULTS})
"""Where a replay comes from again; what else a letter says of its source, the wallet does not read."""

_VERDICTS: Final = {
    Ending.APPLIED: PredictedOutcome.WILL_APPLY,
    Ending.REFUSED: PredictedOutcome.WILL_BE_REFUSED,
    Ending.REPEATED: PredictedOutcome.REPEATS,
    Ending.CONFLICT: PredictedOutcome.CONFLICT,
    Ending.REJECTED: PredictedOutcome.WOULD_DEAD_LETTER,
    Ending.PARKED: PredictedOutcome.WOULD_PARK,
    Ending.QUARANTINED: PredictedOutcome.WOULD_CRASH,
}

if set(_VERDICTS) != set(Ending):
    msg = f"an ending has no verdict: {set(Ending) - set(_VERDICTS)}"
    raise AssertionError(msg)


NEVER_APPLIES: Final = frozenset(
    {PredictedOutcome.CONFLICT, PredictedOutcome.STILL_MALFORMED, PredictedOutcome.NOT_REPLAYABLE}
)
"""What a message with such a prediction never does, however long it is on its way; all others may by then."""

MOVES_NOTHING: Final = NEVER_APPLIES | {PredictedOutcome.REPEATS}
"""With what prediction a message can be sent without an effect, whenever it arrives."""


@dataclass(frozen=True, slots=True)
class Replayable:
    """What a replay would publish: the body, where from, and the properties as they stand on the wire."""

    source: str
    body: bytes
    properties: bytes


class StoredMessage(Protocol):
    """A message in the database, of a letter or of a replay, that a replay publishes or has published."""

    @property
    def key(self) -> int | UUID:
        """The letter whose own message it is, or the edit that sends it instead."""

    @property
    def source(self) -> str:
        """The queue that it came from."""

    @property
    def exchange(self) -> str | None:
        """Where a replay is published; absent if unknown."""

    @property
    def body(self) -> bytes:
        """The payload; after one byte more than a message may have it may be cut."""

    @property
    def properties(self) -> bytes:
        """The AMQP properties as bytes of the wire."""


class Predictor:
    """Says what messages would do now. `rules` and `keys` are the worker's own.

    A predictor that remembers predicts each message once. It is for one snapshot or transaction, and for questions
    whose answers may all be of the same moment. An edit's checks must see what was committed between them: their
    predictor does not remember.
    """

    def __init__(self, rules: Policy, keys: Keys, *, remembers: bool = False) -> None:
        self._rules = rules
        self._keys = keys
        self._remembered: dict[int | UUID, Prediction] | None = {} if remembers else None

    async def predict(
        self, connection: asyncpg.Connection, messages: Sequence[StoredMessage]
    ) -> list[Prediction]:
        """Return, for each message alone, what its replay would do now, from the caller's snapshot or transaction."""
        if self._remembered is None:
            return await self.predict_new(connection, [_replayable(message) for message in messages])
        new = {message.key: message for message in messages if message.key not in self._remembered}
        predictions = await self.predict_new(connection, [_replayable(message) for message in new.values()])
        self._remembered.update(zip(new, predictions, strict=True))
        return [self._remembered[message.key] for message in messages]

    async def predict_new(
        self, connection: asyncpg.Connection, messages: Sequence[Replayable]
    ) -> list[Prediction]:
        """Return the same for messages that are not in the database, such as a new message of an edit."""
        return await predict(connection, messages, self._rules, self._keys) if messages else []


def _replayable(message: StoredMessage) -> Replayable:
    # Without an exchange it goes nowhere, whatever it says of itself.
    source = message.source if message.exchange is not None else ""
    return Replayable(source, message.body, message.properties)


async def predict(
    connection: asyncpg.Connection, letters: Sequence[Replayable], rules: Policy, keys: Keys
) -> list[Prediction]:
    """Return, for each letter alone, what its replay would do now, from the caller's snapshot or transaction."""
    predictions: list[Prediction | None] = []
    waiting: list[tuple[int, InboundMessage, Message]] = []
    requests = [letter for letter in letters if letter.source == PAYMENT_REQUESTS]
    foreign = iter(await invalid_requests(connection, requests) if requests else ())
    for number, letter in enumerate(letters):
        parsed = _of_request(next(foreign)) if letter.source == PAYMENT_REQUESTS else _read(letter, keys)
        if is_cut(letter.properties):
            parsed = Prediction(
                PredictedOutcome.NOT_REPLAYABLE, "", "its body was too large, and only its beginning is kept"
            )
        elif is_too_large(letter.properties):
            parsed = Prediction(
                PredictedOutcome.NOT_REPLAYABLE,
                "",
                "its headers, with those of a replay, are larger than the broker takes",
            )
        if isinstance(parsed, Prediction):
            predictions.append(parsed)
        else:
            predictions.append(None)
            waiting.append((number, *parsed))
    if waiting:
        now, known = await load.facts(
            connection, lookups_for([message for _, _, message in waiting]), rules, lock=False
        )
        for number, incoming, message in waiting:
            try:
                decision = decide(message, known, DecisionContext(rules, incoming, _DRAW, now))
            except Exception:  # noqa: BLE001 -- what the worker would set aside as INTERNAL, whatever it is
                predictions[number] = Prediction(
                    PredictedOutcome.WOULD_CRASH, "INTERNAL", "the wallet's own code has a fault"
                )
            else:
                predictions[number] = Prediction(
                    _VERDICTS[decision.ending], decision.code.value, decision.detail
                )
    return [member for member in predictions if member is not None]


def _of_request(why_not: str | None) -> Prediction:
    return (
        Prediction(PredictedOutcome.FORWARDED)
        if why_not is None
        else Prediction(PredictedOutcome.NOT_REPLAYABLE, "", why_not)
    )


def _read(letter: Replayable, keys: Keys) -> Prediction | tuple[InboundMessage, Message]:
    """Return the message, or what is known of the letter without any facts."""
    if letter.source not in _QUEUES:
        return Prediction(PredictedOutcome.NOT_REPLAYABLE, "", "nobody knows where it was published first")
    headers = unmarshal(letter.properties).headers or {}
    named = headers.get(SENDER_HEADER)
    incoming = InboundMessage(
        Source(letter.source),
        letter.body,
        signature=headers.get(SIGNATURE_HEADER),
        sender=Sender.named(named) if isinstance(named, str) and named else None,
    )
    message = read(incoming, keys)
    if isinstance(message, InvalidMessage):
        return Prediction(PredictedOutcome.STILL_MALFORMED, message.code.value, message.detail)
    return incoming, message
