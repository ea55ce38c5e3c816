"""What is read of a letter: nothing that somebody wrote can break it, or send a replay where it does not belong."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pamqp.common import FieldValue

from tests.dead_letters.conftest import OTTO, VERA, Desk
from tests.dead_letters.letters import arrived, headers
from tests.dead_letters.letters import properties as properties_with
from tests.journeys.messages import encoded, recharge
from wallet_schemas.codes import Code
from wallet_worker.broker.amqp.properties import dead_letter
from wallet_worker.dead_letters.intake.classify import SOURCES
from wallet_worker.dead_letters.masking import pretty, properties
from wallet_worker.dead_letters.reasons import REASONS

QUEUES = ("wallet.dead-letters", "wallet.unrouted")

_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text(max_size=50)
    | st.floats(allow_nan=False, width=32)
    | st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=20), inner, max_size=3),
    max_leaves=6,
)
_names = st.sampled_from(
    [*headers(), "x-death", "x-wallet-replay-id", "traceparent", "x-delivery-count"]
) | st.text(max_size=40)


@given(
    body=st.binary(max_size=200) | st.text(max_size=100).map(str.encode),
    message_headers=st.dictionaries(_names, _values, max_size=8),
    queue=st.sampled_from(QUEUES),
    exchange=st.sampled_from(["wallet.commands", "", "wallet.dead-letters", "wallet.unrouted"])
    | st.text(max_size=30),
    routing_key=st.text(max_size=60),
)
@settings(max_examples=300, deadline=None)
def test_whatever_a_letter_says_it_is_read_and_goes_to_the_wallets_own_exchanges_only(
    body: bytes, message_headers: dict[str, FieldValue], queue: str, exchange: str, routing_key: str
) -> None:
    found = arrived(body, message_headers, queue=queue, exchange=exchange, routing_key=routing_key)

    assert found.body == body
    assert found.reason in REASONS
    assert found.source in {*SOURCES, *QUEUES}
    assert found.exchange in {None, *SOURCES}
    for text in (
        found.detail,
        found.routing_key,
        found.worker or "",
        found.serial_no or "",
        found.user_id or "",
    ):
        assert "\0" not in text
        text.encode()
    assert found.first_seen.tzinfo is not None
    assert (
        found.key
        == arrived(body, message_headers, queue=queue, exchange=exchange, routing_key=routing_key).key
    )


@given(body=st.binary(max_size=200), message_headers=st.dictionaries(_names, _values, max_size=6))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_a_letter_says_the_database_takes_it_whole(
    desk: Desk, body: bytes, message_headers: dict[str, FieldValue]
) -> None:
    message_headers.pop("x-delivery-count", None)  # the broker's own mark, by which two deliveries may differ
    letter = arrived(body, message_headers)

    await desk.take_in(letter)

    kept = await desk.owner.fetchrow(
        "SELECT body, properties FROM dead_letters JOIN dead_letter_attempts USING (letter_id) WHERE arrival_key = $1",
        letter.key,
    )
    assert kept is not None
    assert (kept["body"], kept["properties"]) == (body, letter.properties)
    _, shown = properties(letter.properties)
    "".join(shown.values()).encode()


FORGED = {
    "another exchange": ({"x-wallet-exchange": "wallet.events"}, "wallet.commands"),
    "the gateway's": ({"x-wallet-exchange": "payment.requests"}, "wallet.commands"),
    "a queue behind the default exchange": (
        {"x-wallet-exchange": "", "x-wallet-routing-key": "payment.requests"},
        "wallet.commands",
    ),
    "its own queue behind the default exchange": (
        {"x-wallet-exchange": "", "x-wallet-routing-key": "wallet.commands"},
        "wallet.commands",
    ),
}


@pytest.mark.parametrize(("message_headers", "wanted"), FORGED.values(), ids=FORGED.keys())
def test_a_replay_goes_where_the_letters_queue_is_fed(
    message_headers: dict[str, FieldValue], wanted: str
) -> None:
    assert arrived(b"{}", headers() | message_headers).exchange == wanted


EXPIRED: dict[str, FieldValue] = {
    "queue": "wallet.commands",
    "reason": "expired",
    "exchange": "wallet.commands",
    "routing-keys": ["order.recharge"],
    "count": 1,
}


def test_what_the_broker_set_aside_is_not_believed_to_come_from_a_worker() -> None:
    message_headers = headers(
        "SERIAL_CONFLICT", "call 0900", source="payment.results", routing_key="payment.result"
    )

    found = arrived(b"{}", message_headers | {"x-death": [EXPIRED]})

    assert (found.reason, found.source, found.exchange) == (
        "BROKER_EXPIRED",
        "wallet.commands",
        "wallet.commands",
    )
    assert (found.detail, found.routing_key, found.worker) == (
        "the broker set it aside from wallet.commands: expired",
        "order.recharge",
        None,
    )


@pytest.mark.parametrize(
    "deaths", [[], ["often"], [EXPIRED | {"padding": "x" * 5_000}]], ids=["none", "no table", "too large"]
)
def test_deaths_that_cannot_be_read_are_the_brokers_all_the_same(deaths: list[FieldValue]) -> None:
    found = arrived(b"{}", headers("SERIAL_CONFLICT") | {"x-death": deaths})

    assert (found.reason, found.exchange, found.worker) == ("UNKNOWN", None, None)
    assert found.detail == "the broker set it aside; why cannot be read"


@pytest.mark.parametrize("deaths", [[EXPIRED], "often"], ids=["an array", "a text"])
def test_what_a_worker_set_aside_is_its_own_whatever_deaths_the_sender_made_up(deaths: FieldValue) -> None:
    aside = dead_letter(
        properties_with({"x-death": deaths, "x-theirs": "kept"}),
        code=Code.SERIAL_CONFLICT,
        detail="why",
        source="wallet.commands",
        exchange="wallet.commands",
        routing_key="order.recharge",
        attempts=1,
        first_seen=datetime(2026, 1, 2, tzinfo=UTC),
        worker="0.0.0 test:1",
    )

    found = arrived(b"{}", aside.headers)

    assert (found.reason, found.source, found.worker) == (
        "SERIAL_CONFLICT",
        "wallet.commands",
        "0.0.0 test:1",
    )
    assert (aside.headers or {})["x-theirs"] == "kept"


@pytest.mark.need(13)
async def test_a_viewer_sees_no_worker_that_somebody_made_up(desk: Desk) -> None:
    await desk.take_in(arrived(b"{}", headers() | {"x-wallet-worker": "alice@example.com"}))
    (letter_id,) = await desk.ids()

    shown = [await desk.operations.letter(who, letter_id) for who in (VERA, OTTO)]

    assert "alice" not in repr(shown[0])
    assert [(item.whole.worker, item.attempts[0].worker) for item in shown] == [
        ("…", "…"),
        ("alice@example.com", "alice@example.com"),
    ]


def test_a_source_that_no_worker_reads_is_not_believed_from_a_worker() -> None:
    found = arrived(b"{}", headers(source="payment.requests"))

    assert (found.reason, found.exchange) == ("UNKNOWN", None)


def test_a_reason_that_there_is_not_makes_no_group_of_its_own() -> None:
    for reason in ("<script>", "OK", "internal"):
        found = arrived(b"{}", headers(reason))
        assert found.reason == "UNKNOWN"
        assert found.detail.startswith(reason)


def test_what_the_wallets_headers_say_counts_nothing_where_no_wallet_wrote_them() -> None:
    found = arrived(
        b"{}", headers("INTERNAL"), queue="wallet.unrouted", exchange="payment.results", routing_key="a.key"
    )

    assert (found.reason, found.source, found.exchange, found.routing_key) == (
        "UNROUTED",
        "payment.results",
        "payment.results",
        "a.key",
    )


def test_a_name_that_stands_there_twice_is_searched_for_under_neither() -> None:
    assert arrived(b'{"serial_no": "A", "serial_no": "B"}').serial_no is None


def test_a_payload_is_shown_in_order_with_every_number_as_it_stands() -> None:
    order = recharge("user-1")

    assert json.loads(pretty(encoded(order), mask=False) or "") == order
    assert pretty(b'{"a": 1e400, "b": 1.10, "c": [], "d": {}}', mask=False) == (
        '{\n  "a": 1e400,\n  "b": 1.10,\n  "c": [],\n  "d": {}\n}'
    )


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b'{"a": 1, "a": 2}', b"[" * 500, b"NaN", b"{} {}", b"1" * 5_000]
)
def test_a_payload_that_would_not_be_shown_as_it_is_is_shown_raw_only(body: bytes) -> None:
    assert pretty(body, mask=False) in {None, body.decode(errors="replace")}
    assert pretty(body, mask=True) is None
