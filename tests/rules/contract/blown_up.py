"""Bodies as large as a body may be, each a small piece many times: what a parser could be slow on."""

import json
from collections.abc import Callable
from itertools import accumulate
from typing import Final

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.rules.contract import bodies
from wallet_schemas.names import BODY_BYTES_MAX

DEPTHS: Final = (1, 10, 300, 900, 990, 1_000, 5_000)
"""How deep a structure is: the interpreter's own limit is about a thousand."""
LENGTHS: Final = (1, 20, 300, 1_000, 4_200, 4_300, 4_301, 20_000)
"""How long a string or a number is: Python reads integers of 4,300 digits, and takes its time."""

CHARACTERS: Final = ("a", "0", " ", "/", "é", "語", "😀", "\x7f", "\u202e")
ESCAPES: Final = (
    b"\\u0041", b"\\n", b"\\\\", b'\\"', b"\\/", b"\\ud83d\\ude00", b"\\ud800", b"\\udc00", b"\\u0000", b"\\x", b"\\",
)  # fmt: skip

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
).map(lambda value: json.dumps(value).encode())
STRINGS = st.builds(
    lambda parts, length: b'"' + _repeated(b"".join(parts), length) + b'"',
    st.lists(st.sampled_from([*(mark.encode() for mark in CHARACTERS), *ESCAPES]), min_size=1, max_size=4),
    st.sampled_from(LENGTHS),
)
NUMBERS = st.builds(
    lambda sign, digits, length, end: sign + _repeated(digits.encode(), length) + end,
    st.sampled_from([b"", b"-", b"0.", b"1e", b"1E-", b"-0.0"]),
    st.text("0123456789", min_size=1, max_size=4) | st.text("0123456789.eE+-", min_size=1, max_size=4),
    st.sampled_from(LENGTHS),
    st.sampled_from([b"", b".5", b"e5", b"e-400", b"E400"]),
)
OPENINGS = st.sampled_from([b"[", b'{"a":', b"[[],", b'[{"a":1},', b'{"a":1,"b":', b'["\\u0041",', b"[1e5,"])
"""What nests: the last thing in each is left open."""

FIELDS: Final = sorted({field for good in bodies.ALL for field in good} | {"metadata", "limit", "x"})
ENDS: Final = (
    b"",
    b"}",
    b',"a":1}',
    b',"a":1,"a":1}',
    b',"serial_no":"R-2"}',
    b',"a":"\\u0000"}',
    b',"a":NaN}',
    b"]",
)
"""What comes last of all, when everything before it was read: mostly what spoils it."""


def large(
    piece: bytes | Callable[[int], bytes], *, before: bytes = b"", between: bytes = b"", after: bytes = b""
) -> bytes:
    """Return as many pieces as a body has room for, cut off if it has not even for one.

    A piece that is another at each place is made from the number of the place.
    """
    room = BODY_BYTES_MAX - len(before) - len(after)
    if isinstance(piece, bytes):
        times = (room + len(between)) // len(piece + between)
        inside = between.join([piece] * times) or piece[:room]
    else:
        first = piece(0)[:room]
        others = [between + piece(number) for number in range(1, room // len(first) + 1)]
        fitting = sum(size <= room for size in accumulate(map(len, others), initial=len(first))) - 1
        inside = first + b"".join(others[:fitting])
    return before + inside + after


@st.composite
def large_bodies(draw: st.DrawFn) -> bytes:
    """Generate a body of about 64 KiB: a good message of which one value is blown up, and perhaps a bad end."""
    good = dict(draw(st.sampled_from(bodies.ALL)))
    field = draw(st.sampled_from(FIELDS))
    good.pop(field, None)
    before = json.dumps(good).encode()[:-1] + b"," + json.dumps(field).encode() + b":"
    if draw(st.booleans()):
        before = b'{"z":0,' + json.dumps(field).encode() + b":"  # without a type and a number
    end = draw(st.sampled_from(ENDS))
    value = draw(_nested(draw(VALUES | STRINGS | NUMBERS)))
    match draw(st.sampled_from(("list", "names", "one name", "string", "number", "nesting", "spaces"))):
        case "list":
            return large(value, before=before + b"[", between=b",", after=b"]" + end)
        case "names":
            name = json.dumps(draw(st.text(max_size=8))).encode()[:-1]
            return large(
                lambda number: name + b'%d":' % number + value,
                before=before + b"{",
                between=b",",
                after=b"}" + end,
            )
        case "one name":
            return large(b'"a":' + value, before=before + b"{", between=b",", after=b"}" + end)
        case "string":
            part = draw(STRINGS)[1:-1]
            return large(part, before=before + b'"', after=b'"' + end)
        case "number":
            part = draw(NUMBERS)
            return large(part, before=before, after=end)
        case "nesting":
            opening = draw(OPENINGS)
            return large(opening, before=before, after=end)
        case _:
            return large(b" \n\t", before=before + value[: LENGTHS[-1]], after=end)


def large_noise() -> SearchStrategy[bytes]:
    """Generate a body of about 64 KiB that is some bytes again and again."""
    return st.binary(min_size=1, max_size=40).map(large)


@st.composite
def _nested(draw: st.DrawFn, value: bytes) -> bytes:
    """Generate the value inside brackets, all of which are closed again."""
    opening, depth = draw(OPENINGS), draw(st.sampled_from((0, 0, 0, *DEPTHS)))
    closing = b"".join(b"]" if mark == ord("[") else b"}" for mark in reversed(_left_open(opening)))
    return opening * depth + value + closing * depth


def _left_open(opening: bytes) -> list[int]:
    """Return the brackets that stay open."""
    waiting: list[int] = []
    for mark in opening:
        if mark in b"[{":
            waiting.append(mark)
        elif mark in b"]}":
            waiting.pop()
    return waiting


def _repeated(part: bytes, length: int) -> bytes:
    return part * (length // len(part) + 1)


SLOW: Final = {
    "unknown fields": b'{"type":"order.recharge.v1",' + b",".join(b'"%d":1' % n for n in range(7_000)) + b"}",
    "metadata": b'{"type":"order.recharge.v1","metadata":{'
    + b",".join(b'"%d":1' % n for n in range(7_000))
    + b"}}",
    "empty objects, then a name twice": b'{"x":[' + b"{}," * 21_000 + b'{"a":1,"a":1}]}',
    "small objects, then a name twice": b'{"x":[' + b'{"a":{"b":{}}},' * 4_300 + b'{"a":1,"a":1}]}',
    "empty objects, then NUL": b'{"x":[' + b"{}," * 21_000 + b'"\\u0000"]}',
    "escapes": b'{"x":[' + b'"\\u0041",' * 7_000 + b"1]}",
    "numbers": b'{"x":[' + (b"9" * 4_200 + b",") * 15 + b"1]}",
    "fractions": b'{"x":[' + b"1e400," * 10_000 + b"1]}",
    "lists": b'{"x":' + b"[" * 900 + b"]" * 900 + b"}",
    "lists without end": b"[" * BODY_BYTES_MAX,
    "quotes": b'"' * BODY_BYTES_MAX,
    "backslashes": b'{"' + b"\\" * 65_000,
    "spaces": b" " * BODY_BYTES_MAX,
    "amount": b'{"type":"order.recharge.v1","amount":"' + b"0" * 60_000 + b'"}',
    "time": b'{"type":"payment.result.v1","occurred_at":"' + b"0" * 60_000 + b'"}',
    "type": b'{"type":"' + b"t" * 60_000 + b'"}',
}
"""Those that were slow once, or that somebody could think of."""
