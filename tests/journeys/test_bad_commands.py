"""Every bad command, published among good ones: what comes of it, and that its neighbours are none the worse."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from pamqp.commands import Basic

from tests.journeys.conftest import Wallet
from tests.journeys.letters import assert_dead_letter
from tests.journeys.messages import (
    Json,
    account_command,
    encoded,
    fresh,
    hold,
    open_account,
    recharge,
    refund,
    release,
    transfer,
    withdraw,
)
from tests.journeys.upstream import COMMANDS, Upstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

MEGABYTES_7 = 7 * 1024 * 1024  # the largest that the broker of the tests takes is 8


@dataclass(frozen=True, slots=True)
class Bad:
    """A command that is wrong; `make` makes its body from a user with a TWD account and a serial number.

    `fault` is the field that the reply's first fault names; absent where the serial number cannot be read, so that the
    reply has none. Refusals have no faults, and are no dead letters.
    """

    name: str
    code: str
    make: Callable[[str, str], bytes]
    fault: str | None = None

    @property
    def refused(self) -> bool:
        """Whether it is a business no, and not a dead letter."""
        return self.code not in {"MALFORMED", "UNSUPPORTED_TYPE"}


def text(template: str) -> Callable[[str, str], bytes]:
    """Return a maker of what no JSON encoder would write; USER and SERIAL are replaced."""
    return lambda user, serial: template.replace("USER", user).replace("SERIAL", serial).encode()


def opening(**fields: Any) -> Callable[[str, str], bytes]:
    return lambda _, serial: encoded(open_account(fresh("new"), **{"serial_no": serial} | fields))


def charging(**fields: Any) -> Callable[[str, str], bytes]:
    return lambda user, serial: encoded(recharge(user, **{"serial_no": serial, "amount": "100.00"} | fields))


def turning(verb: str, **fields: Any) -> Callable[[str, str], bytes]:
    return lambda user, serial: encoded(account_command(verb, user, **{"serial_no": serial} | fields))


def spending(make: Callable[..., Json], **fields: Any) -> Callable[[str, str], bytes]:
    return lambda user, serial: encoded(make(user, **{"serial_no": serial} | fields))


def sending(**fields: Any) -> Callable[[str, str], bytes]:
    return lambda user, serial: encoded(transfer(user, "payee", **{"serial_no": serial} | fields))


def sending_to_oneself(user: str, serial: str) -> bytes:
    return encoded(transfer(user, user, serial_no=serial))


def using(make: Callable[..., Json], **fields: Any) -> Callable[[str, str], bytes]:
    return lambda _, serial: encoded(make(fresh("other"), **{"serial_no": serial} | fields))


_EXPIRY = "expires_in_seconds"


def as_utf_16(user: str, serial: str) -> bytes:
    return json.dumps(recharge(user, serial_no=serial)).encode("utf-16")


def as_latin_1(user: str, serial: str) -> bytes:
    content = recharge(user, serial_no=serial, metadata={"name": "Zoë"})
    return json.dumps(content, ensure_ascii=False).encode("latin-1")


def with_byte_order_mark(user: str, serial: str) -> bytes:
    return b"\xef\xbb\xbf" + encoded(recharge(user, serial_no=serial))


def of_7_megabytes(user: str, serial: str) -> bytes:
    return encoded(recharge(user, serial_no=serial, metadata={"x": "x" * MEGABYTES_7}))


def of_one_byte_too_many(user: str, serial: str) -> bytes:
    return encoded(recharge(user, serial_no=serial)).ljust(65_537)


_RECHARGE = (
    '{"type":"order.recharge.v1","serial_no":"SERIAL","user_id":"USER","account_type":"basic",'
    '"amount":AMOUNT,"currency":"TWD","recharge_type":"card"}'
)

TABLE = [
    # No JSON object in UTF-8: nothing in it can be read, nobody is told.
    Bad("no JSON", "MALFORMED", text("hello SERIAL")),
    Bad("nothing at all", "MALFORMED", text("")),
    Bad("UTF-16", "MALFORMED", as_utf_16),
    Bad("Latin-1", "MALFORMED", as_latin_1),
    Bad("a byte order mark", "MALFORMED", with_byte_order_mark),
    Bad("bytes", "MALFORMED", lambda *_: bytes(range(256))),
    Bad("half an object", "MALFORMED", text(_RECHARGE.replace("AMOUNT", '"1"')[:-1])),
    Bad("two objects", "MALFORMED", text(_RECHARGE.replace("AMOUNT", '"1"') * 2)),
    Bad("an array", "MALFORMED", text('["SERIAL"]')),
    Bad("a string", "MALFORMED", text('"SERIAL"')),
    Bad("null", "MALFORMED", text("null")),
    Bad("7 MB", "MALFORMED", of_7_megabytes),
    Bad("one byte too many", "MALFORMED", of_one_byte_too_many),
    Bad(
        "10,000 arrays deep",
        "MALFORMED",
        text('{"serial_no":"SERIAL","x":' + "[" * 10_000 + "]" * 10_000 + "}"),
    ),
    Bad("10,000 objects deep", "MALFORMED", text('{"a":' * 10_000 + "1" + "}" * 10_000)),
    Bad("10,000 brackets", "MALFORMED", text("[" * 10_000)),
    Bad("a number of 10,000 digits", "MALFORMED", text(_RECHARGE.replace("AMOUNT", "9" * 10_000))),
    # The serial number can be read: whoever asked is told.
    Bad("NUL in a string", "MALFORMED", charging(metadata={"note": "a\0b"}), ""),
    Bad("NUL in a name", "MALFORMED", charging(metadata={"a\0b": "note"}), ""),
    Bad("half a surrogate pair", "MALFORMED", text(_RECHARGE.replace("AMOUNT", '"1","x":"\\ud800"')), ""),
    Bad("a name twice", "MALFORMED", text(_RECHARGE.replace("AMOUNT", '"1","amount":"2"')), ""),
    Bad("NaN", "MALFORMED", text(_RECHARGE.replace("AMOUNT", "NaN")), ""),
    Bad("Infinity", "MALFORMED", text(_RECHARGE.replace("AMOUNT", "-Infinity")), ""),
    Bad("1e400", "MALFORMED", text(_RECHARGE.replace("AMOUNT", "1e400")), "amount"),
    Bad("no type", "MALFORMED", charging(type=...), "type"),
    Bad("a number as type", "MALFORMED", charging(type=1), "type"),
    Bad("an unknown type", "UNSUPPORTED_TYPE", charging(type="order.double.v1"), "type"),
    Bad("an unknown version", "UNSUPPORTED_TYPE", charging(type="order.recharge.v9"), "type"),
    Bad("a type without version", "UNSUPPORTED_TYPE", charging(type="order.recharge"), "type"),
    Bad("an event's type", "UNSUPPORTED_TYPE", charging(type="order.succeeded.v1"), "type"),
    Bad("a result's type", "UNSUPPORTED_TYPE", charging(type="payment.result.v1"), "type"),
    Bad("a query's type", "UNSUPPORTED_TYPE", charging(type="order.get.v1"), "type"),
    Bad("an extra field", "MALFORMED", charging(priority="high"), "priority"),
    Bad("Python's own name", "MALFORMED", charging(model_config={}), "model_config"),
    Bad("a missing field", "MALFORMED", charging(currency=...), "currency"),
    Bad("no user", "MALFORMED", opening(user_id=...), "user_id"),
    Bad("null for a field", "MALFORMED", charging(amount=None), "amount"),
    Bad("a user of 65 characters", "MALFORMED", charging(user_id="u" * 65), "user_id"),
    Bad("a user with a space", "MALFORMED", charging(user_id="a b"), "user_id"),
    Bad("an account type in capitals", "MALFORMED", charging(account_type="Basic"), "account_type"),
    Bad("a recharge type with a dash", "MALFORMED", charging(recharge_type="credit-card"), "recharge_type"),
    Bad("21 notes", "MALFORMED", charging(metadata={f"n{n}": "" for n in range(21)}), "metadata"),
    Bad("notes of more than 2 KiB", "MALFORMED", charging(metadata={"n": "x" * 2048}), "metadata"),
    Bad("a number as a note", "MALFORMED", charging(metadata={"n": 1}), "metadata.n"),
    # Amounts.
    Bad("a JSON number as amount", "MALFORMED", charging(amount=100), "amount"),
    Bad("a JSON decimal as amount", "MALFORMED", charging(amount=100.5), "amount"),
    Bad("1e3", "MALFORMED", charging(amount="1e3"), "amount"),
    Bad("-1", "MALFORMED", charging(amount="-1"), "amount"),
    Bad("+1", "MALFORMED", charging(amount="+1"), "amount"),
    Bad("0", "MALFORMED", charging(amount="0"), "amount"),
    Bad("0.00", "MALFORMED", charging(amount="0.00"), "amount"),
    Bad("1,000", "MALFORMED", charging(amount="1,000"), "amount"),
    Bad("1.", "MALFORMED", charging(amount="1."), "amount"),
    Bad(".5", "MALFORMED", charging(amount=".5"), "amount"),
    Bad("a space before", "MALFORMED", charging(amount=" 1"), "amount"),
    Bad("a line end after", "MALFORMED", charging(amount="1\n"), "amount"),
    Bad("other people's digits", "MALFORMED", charging(amount="\uff11\uff10\uff10"), "amount"),
    Bad("an empty amount", "MALFORMED", charging(amount=""), "amount"),
    Bad("1.001 TWD", "MALFORMED", charging(amount="1.001"), "amount"),
    Bad("1.0 JPY", "MALFORMED", charging(amount="1.0", currency="JPY"), "amount"),
    Bad("1.0001 KWD", "MALFORMED", charging(amount="1.0001", currency="KWD"), "amount"),
    Bad("65 digits", "MALFORMED", charging(amount="9" * 65), "amount"),
    Bad("twd", "MALFORMED", charging(currency="twd"), "currency"),
    Bad("four letters", "MALFORMED", charging(currency="TWDX"), "currency"),
    # The other commands, each with a fault of its own.
    Bad("a freeze without a reason", "MALFORMED", turning("freeze", reason=...), "reason"),
    Bad("an empty reason", "MALFORMED", turning("unfreeze", reason=""), "reason"),
    Bad("a reason of 501 characters", "MALFORMED", turning("close", reason="x" * 501), "reason"),
    Bad("a payout by nothing", "MALFORMED", spending(withdraw, payout_type=...), "payout_type"),
    Bad("a payout of nothing", "MALFORMED", spending(withdraw, amount="0.00"), "amount"),
    Bad("a hold for no time", "MALFORMED", spending(hold, expires_in_seconds=0), _EXPIRY),
    Bad("a hold for 100 years", "MALFORMED", spending(hold, expires_in_seconds=3_153_600_000), _EXPIRY),
    Bad("a hold until yesterday", "MALFORMED", spending(hold, expires_in_seconds=-86_400), _EXPIRY),
    Bad("a hold for 1.5 seconds", "MALFORMED", spending(hold, expires_in_seconds=1.5), _EXPIRY),
    Bad("a hold for a text", "MALFORMED", spending(hold, expires_in_seconds="60"), _EXPIRY),
    Bad("a transfer to nobody", "MALFORMED", sending(to_user_id=...), "to_user_id"),
    Bad("a transfer to two", "MALFORMED", sending(to_user_id=["a", "b"]), "to_user_id"),
    Bad("a refund of nothing", "MALFORMED", using(refund, original_serial_no=...), "original_serial_no"),
    Bad("a refund of less than nothing", "MALFORMED", using(refund, amount="-60.00"), "amount"),
    Bad("a release of a part", "MALFORMED", using(release, amount="1.00"), "amount"),
    Bad("a release of nothing", "MALFORMED", using(release, hold_serial_no=None), "hold_serial_no"),
    # Well said, and refused: that is the outcome of the serial number from now on.
    Bad("30 digits", "AMOUNT_OUT_OF_RANGE", charging(amount="9" * 30)),
    Bad("30 digits and two more", "AMOUNT_OUT_OF_RANGE", charging(amount="9" * 28 + ".99")),
    Bad("one more than 64 bits hold", "AMOUNT_OUT_OF_RANGE", charging(amount="92233720368547758.08")),
    Bad("a currency that is none", "CURRENCY_NOT_SUPPORTED", charging(currency="XQQ")),
    Bad("a currency that is not held here", "CURRENCY_NOT_SUPPORTED", charging(currency="GBP")),
    Bad("an account in an unknown currency", "CURRENCY_NOT_SUPPORTED", opening(currency="XQQ")),
    Bad("a freeze of nobody's account", "ACCOUNT_NOT_FOUND", turning("freeze", user_id="nobody")),
    Bad("money for oneself", "SAME_ACCOUNT", sending_to_oneself),
    Bad("a refund of what never was", "ORDER_NOT_FOUND", using(refund)),
    Bad("a release of what never was", "ORDER_NOT_FOUND", using(release)),
    Bad("a payout of what is not there", "INSUFFICIENT_BALANCE", spending(withdraw, amount="999999.00")),
    Bad("an account of nobody", "ACCOUNT_NOT_FOUND", charging(user_id="nobody")),
    Bad("an account of another type", "ACCOUNT_NOT_FOUND", charging(account_type="savings")),
    Bad("an account in another currency", "ACCOUNT_NOT_FOUND", charging(currency="USD")),
    # Wrong in two ways: the code that stands first in docs/contract.md, section 9.
    Bad(
        "no such currency, and too much", "CURRENCY_NOT_SUPPORTED", charging(currency="XQQ", amount="9" * 30)
    ),
    Bad("too much, for nobody", "AMOUNT_OUT_OF_RANGE", charging(user_id="nobody", amount="9" * 30)),
    Bad(
        "an unknown type, and nothing else",
        "UNSUPPORTED_TYPE",
        text('{"type":"x.v9","serial_no":"SERIAL"}'),
        "type",
    ),
]


@dataclass(frozen=True, slots=True)
class Sent:
    """One row as it was published, and the good command behind it."""

    body: bytes
    user: str
    serial_no: str
    properties: Basic.Properties
    neighbour: Json


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sent(shared: Wallet) -> dict[str, Sent]:
    """Publish the whole table at once, with a good command behind each row; return when all is over."""
    upstream = shared.upstream
    user = await upstream.opened()
    table: dict[str, Sent] = {}
    for bad in TABLE:
        serial_no, row_user = fresh("S"), user
        properties = Basic.Properties(
            content_type="application/json",
            content_encoding="identity",
            headers={"tenant": "north", "attempt": 3},
            delivery_mode=2,
            priority=4,
            reply_to=upstream.replies.queue,
            correlation_id=f"bad {bad.name}",
            message_id=f"bad {bad.name}",
            message_type="a type that nobody reads",
            app_id="tests",
        )
        table[bad.name] = first = Sent(
            bad.make(row_user, serial_no), row_user, serial_no, properties, recharge(user)
        )
        await upstream.publish(COMMANDS, first.body, properties=properties)
        await upstream.publish(
            COMMANDS,
            first.neighbour,
            properties=Basic.Properties(reply_to=upstream.replies.queue, correlation_id=f"good {bad.name}"),
        )
    for bad in TABLE:
        await upstream.answer(f"good {bad.name}")
    await upstream.settled(shared.owner)
    return table


@pytest.mark.parametrize("bad", TABLE, ids=lambda bad: bad.name)
async def test_whoever_sent_a_bad_command_is_told_what_is_wrong_with_it(
    bad: Bad, sent: dict[str, Sent], upstream: Upstream
) -> None:
    replies = [
        item for item in upstream.replies.received if item.properties.correlation_id == f"bad {bad.name}"
    ]

    heard = [reply.json for reply in replies]

    (outcome,) = heard
    faults = outcome.pop("faults", None)
    details = outcome.pop("details", None)
    assert outcome.pop("message")
    assert outcome == {
        "type": "command.outcome.v1",
        "serial_no": sent[bad.name].serial_no if bad.refused or bad.fault is not None else None,
        "status": "refused",
        "code": bad.code,
        "duplicate": False,
        "result": {"object": "none"},
    }
    assert (details is not None) == (bad.name == "a payout of what is not there")
    if bad.refused:
        assert faults is None
    else:
        assert bad.fault is None or faults[0]["field"] == bad.fault
        assert all(fault.keys() == {"field", "message"} and fault["message"] for fault in faults)


@pytest.mark.parametrize("bad", TABLE, ids=lambda bad: bad.name)
async def test_a_bad_command_is_a_dead_letter_byte_for_byte_and_a_refused_one_is_none(
    bad: Bad, sent: dict[str, Sent], upstream: Upstream
) -> None:
    first = sent[bad.name]

    letters = [
        letter
        for letter in upstream.dead_letters.received
        if letter.properties.message_id == f"bad {bad.name}"
    ]

    if bad.refused:
        assert letters == []
        return
    (letter,) = letters
    assert_dead_letter(letter, first.body, reason=bad.code, headers={"tenant": "north", "attempt": 3})
    kept = {
        name: getattr(letter.properties, name) for name in Basic.Properties.__slots__ if name != "headers"
    }
    assert kept == {name: getattr(first.properties, name) for name in kept}


@pytest.mark.parametrize("bad", TABLE, ids=lambda bad: bad.name)
async def test_a_refusal_is_told_to_the_world_and_a_dead_letter_is_not(
    bad: Bad, sent: dict[str, Sent], upstream: Upstream
) -> None:
    events = upstream.events.about(sent[bad.name].serial_no)

    heard = [(item.routing_key, item.json["type"], item.json["data"]["code"]) for item in events]

    assert heard == ([("command.refused", "command.refused.v1", bad.code)] if bad.refused else [])
    for event in events:
        assert event.json["data"].keys() == {"command_type", "code", "message"}
        assert event.json["data"]["command_type"] == json.loads(sent[bad.name].body)["type"]


@pytest.mark.parametrize("bad", TABLE, ids=lambda bad: bad.name)
async def test_the_command_behind_a_bad_one_is_applied(
    bad: Bad, sent: dict[str, Sent], upstream: Upstream
) -> None:
    (reply,) = await upstream.replies_to(f"good {bad.name}")

    outcome = reply.json

    assert (outcome["code"], outcome["duplicate"]) == ("OK", False)
    assert outcome["serial_no"] == sent[bad.name].neighbour["serial_no"]


async def test_nothing_but_the_bad_commands_are_dead_letters(
    sent: dict[str, Sent], upstream: Upstream
) -> None:
    found = [letter.properties.message_id for letter in upstream.dead_letters.received]

    assert sorted(map(str, found)) == sorted(f"bad {bad.name}" for bad in TABLE if not bad.refused)
    assert upstream.unrouted.received == []
    assert len(sent) == len(TABLE)


@pytest.mark.parametrize("bad", [bad for bad in TABLE if bad.refused], ids=lambda bad: bad.name)
async def test_a_refused_serial_number_stays_refused(
    bad: Bad, sent: dict[str, Sent], upstream: Upstream
) -> None:
    outcome = await upstream.outcome(sent[bad.name].body)

    assert (outcome["status"], outcome["code"], outcome["duplicate"]) == ("refused", bad.code, True)


@pytest.mark.parametrize("bad", [bad for bad in TABLE if bad.fault is not None], ids=lambda bad: bad.name)
async def test_a_mended_message_may_carry_the_serial_number_of_the_malformed_one(
    bad: Bad, sent: dict[str, Sent], upstream: Upstream
) -> None:
    first = sent[bad.name]

    outcome = await upstream.outcome(recharge(first.user, serial_no=first.serial_no))

    assert (outcome["code"], outcome["duplicate"]) == ("OK", False)


async def test_a_refused_account_can_be_opened_later_under_another_number(upstream: Upstream) -> None:
    user = fresh("user")
    order = recharge(user)
    refused = await upstream.outcome(order)
    await upstream.opened(user)

    repeated = await upstream.outcome(order)
    anew = await upstream.outcome(recharge(user))

    assert (refused["code"], refused["duplicate"]) == ("ACCOUNT_NOT_FOUND", False)
    assert (repeated["code"], repeated["duplicate"]) == ("ACCOUNT_NOT_FOUND", True)
    assert anew["code"] == "OK"


async def test_an_account_opened_twice_under_one_number_is_one_account(upstream: Upstream) -> None:
    opening = open_account(fresh("user"))

    first = await upstream.outcome(opening)
    second = await upstream.outcome(opening)

    assert second == first | {"duplicate": True}


async def test_an_account_opened_twice_under_two_numbers_is_refused(upstream: Upstream) -> None:
    user = fresh("user")

    first = await upstream.outcome(open_account(user))
    second = await upstream.outcome(open_account(user))
    other = await upstream.outcome(open_account(user, account_type="savings"))

    assert (first["code"], other["code"]) == ("OK", "OK")
    assert (second["status"], second["code"], second["result"]) == (
        "refused",
        "ACCOUNT_EXISTS",
        {"object": "none"},
    )


@pytest.mark.parametrize(
    ("changes", "different"),
    [
        ({"amount": "100.01"}, ["amount"]),
        ({"currency": "USD"}, ["currency"]),
        ({"currency": "XQQ", "amount": "9" * 30}, ["amount", "currency"]),
        ({"user_id": "nobody"}, ["user_id"]),
        ({"user_id": "somebody.else"}, ["user_id"]),
        ({"recharge_type": "bank_transfer", "amount": "7"}, ["amount", "recharge_type"]),
        ({"metadata": {"a": "b"}}, ["metadata"]),
    ],
)
async def test_the_same_number_with_other_content_is_a_conflict_and_a_dead_letter(
    changes: Json, different: list[str], upstream: Upstream
) -> None:
    user = await upstream.opened()
    order = recharge(user)
    first = await upstream.outcome(order)
    changed = order | changes

    conflict = await upstream.outcome(changed)
    repeated = await upstream.outcome(order)

    assert sorted(conflict.pop("different")) == different
    assert conflict.pop("message").startswith("the serial number was used before with different ")
    assert conflict == {
        "type": "command.outcome.v1",
        "serial_no": order["serial_no"],
        "status": "refused",
        "code": "SERIAL_CONFLICT",
        "duplicate": False,
        "result": {"object": "none"},
    }
    assert repeated == first | {"duplicate": True}
    letter = await upstream.dead_letters.first_about(order["serial_no"])
    assert_dead_letter(letter, encoded(changed), reason="SERIAL_CONFLICT")


async def test_the_same_number_for_another_kind_of_command_is_a_conflict(upstream: Upstream) -> None:
    user = fresh("user")
    opening = open_account(user)
    await upstream.outcome(opening)

    conflict = await upstream.outcome(recharge(user, serial_no=opening["serial_no"]))

    assert conflict["code"] == "SERIAL_CONFLICT"
    assert "type" in conflict["different"]


async def test_an_amount_spelt_otherwise_is_the_same_amount(upstream: Upstream) -> None:
    user = await upstream.opened()
    order = recharge(user, "100")
    first = await upstream.outcome(order)

    repeated = await upstream.outcome(order | {"amount": "0100.00"})

    assert first["result"]["amount"] == "100.00"
    assert repeated == first | {"duplicate": True}


async def test_a_malformed_message_leaves_the_outcome_of_its_serial_number_alone(upstream: Upstream) -> None:
    user = await upstream.opened()
    order = recharge(user)
    first = await upstream.outcome(order)

    malformed = await upstream.outcome(order | {"amount": 7, "recharge_type": "other"})
    repeated = await upstream.outcome(order)

    assert (malformed["code"], malformed["duplicate"]) == ("MALFORMED", False)
    assert repeated == first | {"duplicate": True}


async def test_a_body_of_64_kib_is_not_too_long(upstream: Upstream) -> None:
    user = await upstream.opened()

    outcome = await upstream.outcome(encoded(recharge(user)).ljust(65_536))

    assert outcome["code"] == "OK"
