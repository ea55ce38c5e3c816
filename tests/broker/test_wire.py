"""Property: what was read from the wire and not changed is written as it came, and nothing that came raises."""

import struct
from datetime import UTC, datetime

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pamqp.commands import Basic

from tests.journeys import wire as by_hand
from wallet_schemas.codes import Code
from wallet_worker.broker.amqp import codec
from wallet_worker.broker.amqp.properties import HEADERS_BYTES_MAX, dead_letter, marshal, unmarshal

codec.patch_pamqp()

_FIXED = {
    "t": 1,
    "b": 1,
    "B": 1,
    "s": 2,
    "u": 2,
    "I": 4,
    "i": 4,
    "l": 8,
    "L": 8,
    "f": 4,
    "d": 8,
    "D": 5,
    "T": 8,
    "V": 0,
}

scalars = st.sampled_from(sorted(_FIXED)).flatmap(
    lambda kind: st.binary(min_size=_FIXED[kind], max_size=_FIXED[kind]).map(
        lambda value: kind.encode() + value
    )
)
texts = st.tuples(st.sampled_from([b"S", b"x"]), st.binary(max_size=40)).map(
    lambda value: value[0] + by_hand.long(value[1])
)


def tables(values: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Return tables as they stand on the wire, without their length, with names that may be any bytes."""
    entry = st.tuples(st.binary(max_size=12), values).map(lambda value: by_hand.short(value[0]) + value[1])
    return st.lists(entry, max_size=5).map(b"".join)


values = st.recursive(
    scalars | texts,
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda items: b"A" + by_hand.long(b"".join(items)))
        | tables(inner).map(lambda table: b"F" + by_hand.long(table))
    ),
    max_leaves=12,
)
names = st.binary(min_size=1, max_size=255)
properties = st.fixed_dictionaries(
    {},
    optional={
        "content_type": names,
        "content_encoding": names,
        "headers": tables(values),
        "delivery_mode": st.binary(min_size=1, max_size=1),
        "priority": st.binary(min_size=1, max_size=1),
        "correlation_id": names,
        "reply_to": names,
        "expiration": names,
        "message_id": names,
        "timestamp": st.binary(min_size=8, max_size=8),
        "message_type": names,
        "user_id": names,
        "app_id": names,
    },
)


@given(properties)
def test_properties_are_written_as_they_were_read(given_: dict[str, bytes]) -> None:
    on_the_wire = by_hand.properties(**given_)

    assert marshal(unmarshal(on_the_wire)) == on_the_wire


def _dead_letter(original: Basic.Properties) -> Basic.Properties:
    return dead_letter(
        original,
        code=Code.MALFORMED,
        detail="no JSON",
        source="wallet.commands",
        exchange="wallet.commands",
        routing_key="a.key",
        attempts=1,
        first_seen=datetime(2026, 1, 2, 3, 4, 5, 6, UTC),
        worker="0.1.0 host:1",
    )


OURS = {
    b"x-wallet-reason": b"S\0\0\0\x09MALFORMED",
    b"x-wallet-detail": b"S\0\0\0\x07no JSON",
    b"x-wallet-source": b"S\0\0\0\x0fwallet.commands",
    b"x-wallet-exchange": b"S\0\0\0\x0fwallet.commands",
    b"x-wallet-routing-key": b"S\0\0\0\x05a.key",
    b"x-wallet-attempts": b"b\1",
    b"x-wallet-first-seen": b"S\0\0\0\x1b2026-01-02T03:04:05.000006Z",
    b"x-wallet-worker": b"S\0\0\0\x0c0.1.0 host:1",
}


@given(properties)
def test_a_dead_letter_has_all_that_the_message_had_and_eight_headers_more(given_: dict[str, bytes]) -> None:
    # An array of this name is the broker's own and stays behind (tests/dead_letters/test_replaying.py).
    assume(by_hand.short(b"x-death") + b"A" not in given_.get("headers", b""))
    original = unmarshal(by_hand.properties(**given_))

    written = marshal(_dead_letter(original))

    ours = b"".join(by_hand.short(name) + value for name, value in OURS.items())
    kept = {name: value for name, value in given_.items() if name not in {"user_id", "expiration"}}
    assert written == by_hand.properties(
        **kept | {"headers": given_.get("headers", b"") + ours, "delivery_mode": b"\2"}
    )


def test_a_dead_letter_that_comes_again_has_only_the_newest_reason() -> None:
    first = _dead_letter(unmarshal(by_hand.properties(headers=by_hand.entry(b"tenant", b"b", b"\7"))))

    second = _dead_letter(unmarshal(marshal(first)))

    assert marshal(second) == marshal(first)


def test_headers_that_somebody_made_are_kept_like_those_that_were_read() -> None:
    letter = _dead_letter(Basic.Properties(headers={"tenant": "north", "attempt": 3}))

    headers = unmarshal(marshal(letter)).headers
    assert headers is not None
    assert (headers["tenant"], headers["attempt"], len(headers)) == ("north", 3, 2 + len(OURS))


def test_of_headers_that_do_not_fit_the_largest_go_first() -> None:
    sizes = {b"a": 10, b"b": 60_000, b"c": 70_000, b"d": 50_000, b"e": 20}
    headers = b"".join(by_hand.entry(name, b"S", by_hand.long(b"x" * size)) for name, size in sizes.items())

    letter = _dead_letter(unmarshal(by_hand.properties(headers=headers)))

    kept = [name for name, _ in codec.entries(letter.headers or {})]
    assert kept == [b"a", b"b", b"d", b"e", *OURS]
    assert len(marshal(letter)) < HEADERS_BYTES_MAX + 4_096


def test_a_long_reason_is_cut_at_a_whole_character() -> None:
    letter = dead_letter(
        Basic.Properties(),
        code=Code.INTERNAL,
        detail="中" * 1_000,
        source="s",
        exchange="e",
        routing_key="k",
        attempts=1,
        first_seen=datetime(2026, 1, 2, tzinfo=UTC),
        worker="w",
    )

    assert (letter.headers or {})["x-wallet-detail"] == "中" * 341


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ((0).to_bytes(8, "big"), datetime(1970, 1, 1, tzinfo=UTC)),
        ((1_767_323_047).to_bytes(8, "big"), datetime(2026, 1, 2, 3, 4, 7, tzinfo=UTC)),
        ((1_767_323_047_999).to_bytes(8, "big"), datetime(2026, 1, 2, 3, 4, 7, tzinfo=UTC)),
        (b"\xff" * 8, datetime(9999, 12, 31, tzinfo=UTC)),
    ],
)
def test_a_time_is_read_as_far_as_a_calendar_goes(value: bytes, read: datetime) -> None:
    properties = unmarshal(by_hand.properties(timestamp=value))

    assert properties.timestamp == read


def test_headers_are_read_under_their_names() -> None:
    table = b"".join(
        [
            by_hand.entry(b"text", b"S", by_hand.long("中文".encode())),
            by_hand.entry(b"bytes", b"S", by_hand.long(b"\xff")),
            by_hand.entry(b"double", b"d", struct.pack(">d", 0.1)),
            by_hand.entry(b"table", b"F", by_hand.long(by_hand.entry(b"in it", b"t", b"\1"))),
            by_hand.entry(b"\xff", b"V", b""),
            by_hand.entry(b"too large to be read", b"A", by_hand.long(b"V" * 5_000)),
        ]
    )

    headers = unmarshal(by_hand.properties(headers=table)).headers

    assert headers == {
        "text": "中文",
        "bytes": b"\xff",
        "double": 0.1,
        "table": {"in it": True},
        "\udcff": None,
        "too large to be read": bytearray(by_hand.long(b"V" * 5_000)),
    }
