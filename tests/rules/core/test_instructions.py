"""How the payer pays: instructions that the gateway signs, for a recharge that waits."""

import itertools
import json
from datetime import timedelta
from typing import Any

import pytest

from tests.rules.contract.bodies import JsonObject
from tests.rules.core.world import (
    NOW,
    World,
    cancel,
    events,
    instructions,
    open_account,
    recharge,
    replies,
    requests,
    result,
    transfer,
)
from wallet_schemas.codes import Code
from wallet_schemas.events import OrderInstructions
from wallet_schemas.values import AccountStatus, OrderStatus
from wallet_worker.core.channels import Channel
from wallet_worker.core.context import Policy
from wallet_worker.core.endings import Ending

DAY = timedelta(days=1)


def _world(**channel: Any) -> World:
    """Return a wallet in which the recharge R-1 of u-1 waits, on a channel with these rules."""
    world = World(rules=Policy(channels={"card": Channel(**channel)}))
    world.tell(open_account(), recharge())
    return world


def _shown(world: World) -> JsonObject:
    found: JsonObject = json.loads(world.instructions["R-1"].body)
    return found


def test_instructions_are_kept_and_told_and_the_order_stays_pending() -> None:
    world = _world()

    decision = world.tell_one(instructions("gateway"))

    (event,), (reply,) = events(decision), replies(decision)
    assert (event["type"], event["serial_no"]) == ("order.instructions.v1", "R-1")
    assert event["data"]["status"] == "pending"
    assert event["data"]["instructions"] == _shown(world)
    assert _shown(world) == {
        "revision": 1,
        "action": "bank_transfer",
        "bank_code": "822",
        "account_number": "9829411019605745",
    }
    OrderInstructions.model_validate(event, strict=False)
    assert (reply["type"], reply["processing_status"], reply["code"]) == (
        "payment.processed.v1",
        "processed",
        "OK",
    )
    assert (world.orders["R-1"].status, world.user().balance_minor) == (OrderStatus.PENDING, 0)
    assert requests(decision) == []


@pytest.mark.parametrize("told", list(itertools.permutations((1, 2, 3))))
def test_the_highest_revision_counts_in_whatever_order_and_however_often(told: tuple[int, ...]) -> None:
    world = _world()

    decisions = world.tell(
        *[instructions(revision=number, bank_code=str(number)) for number in (*told, *told)]
    )

    assert _shown(world) == {**_shown(world), "revision": 3, "bank_code": "3"}
    rising = [number for place, number in enumerate(told) if number == max(told[: place + 1])]
    assert [
        event["data"]["instructions"]["revision"] for decision in decisions for event in events(decision)
    ] == rising


def test_the_same_revision_with_other_content_contradicts() -> None:
    world = _world()
    world.tell(instructions())

    decision = world.tell_one(instructions("gateway", bank_code="812"))

    assert (decision.ending, decision.code) == (Ending.REJECTED, Code.CONTRADICTING_RESULT)
    assert replies(decision)[0]["processing_status"] == "refused"
    assert _shown(world)["bank_code"] == "822"


@pytest.mark.parametrize(
    "spelt", [{"amount": "100"}, {"revision": 1}, {"occurred_at": "2026-01-02T04:04:05+01:00"}]
)
def test_the_same_instructions_in_another_spelling_are_a_repeat(spelt: JsonObject) -> None:
    world = _world()
    world.tell(instructions())

    decision = world.tell_one(instructions("gateway", **spelt))

    assert decision.ending is Ending.REPEATED
    assert replies(decision)[0]["processing_status"] == "duplicate"


def test_a_get_that_is_spelt_out_is_a_repeat_of_none() -> None:
    world = _world()
    redirect: JsonObject = {
        "action": "redirect",
        "url": "https://pay.example/1",
        "bank_code": ...,
        "account_number": ...,
    }
    world.tell(instructions(**redirect))

    assert world.tell_one(instructions(**redirect, method="GET")).ending is Ending.REPEATED


@pytest.mark.parametrize(
    ("ends", "status"),
    [
        ([result()], OrderStatus.SUCCEEDED),
        ([result(status="failed")], OrderStatus.FAILED),
        ([cancel()], OrderStatus.CANCELLED),
        ([], OrderStatus.EXPIRED),
    ],
)
@pytest.mark.parametrize("revision", [1, 2, 3])
def test_after_the_end_nothing_is_kept_of_instructions(ends: Any, status: OrderStatus, revision: int) -> None:
    world = _world()
    world.tell(instructions(revision=2))
    if ends:
        world.tell(*ends)
    else:
        world.sweep(NOW + 2 * DAY)

    decision = world.tell_one(instructions("gateway", revision=revision, bank_code="1"))

    assert (decision.ending, world.orders["R-1"].status) == (Ending.REPEATED, status)
    assert replies(decision)[0]["processing_status"] == "duplicate"
    assert events(decision) == []
    assert _shown(world)["revision"] == 2


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"amount": "100.01"}, Code.AMOUNT_MISMATCH),
        ({"amount": "9" * 60}, Code.AMOUNT_MISMATCH),
        ({"currency": "USD"}, Code.CURRENCY_MISMATCH),
        ({"currency": "USD", "amount": "1"}, Code.CURRENCY_MISMATCH),
        ({"payment_order_no": "T-1"}, Code.ORDER_NOT_FOUND),
    ],
)
@pytest.mark.parametrize("is_over", [False, True])
def test_instructions_that_do_not_fit_their_order_are_set_aside(
    changes: JsonObject, code: Code, *, is_over: bool
) -> None:
    world = _world()
    world.tell(
        open_account(serial_no="O-2", user_id="u-2"),
        recharge(serial_no="R-2"),
        result(payment_order_no="R-2"),
        transfer(),
    )
    if is_over:
        world.tell(result())

    decision = world.tell_one(instructions("gateway", **changes))

    assert (decision.ending, decision.code) == (Ending.REJECTED, code)
    assert replies(decision)[0]["processing_status"] == "refused"
    assert world.instructions == {}


def test_instructions_before_their_order_wait_for_it_and_are_given_up_in_the_end() -> None:
    world = World()
    world.tell(open_account(), instructions())
    world.tell(recharge())

    world.sweep(NOW + timedelta(seconds=5))

    assert _shown(world)["bank_code"] == "822"

    assert (
        world.tell_one(instructions("gateway", payment_order_no="R-9", attempts=3)).code
        is Code.ORDER_NOT_FOUND
    )


def test_a_frozen_accounts_recharge_takes_instructions() -> None:
    world = World()
    world.with_account(AccountStatus.FROZEN)
    world.tell(recharge())

    assert world.tell_one(instructions()).ending is Ending.APPLIED


def test_all_in_one_batch() -> None:
    world = World()

    decisions = world.tell(open_account(), recharge(), instructions(), instructions(revision=2), result())

    assert [decision.ending for decision in decisions] == [Ending.APPLIED] * 5
    assert (_shown(world)["revision"], world.user().balance_minor) == (2, 10_000)


# Until when a recharge is waited for


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        (timedelta(hours=1), DAY),  # never nearer
        (3 * DAY, 3 * DAY),
        (59 * DAY, 59 * DAY),
        (61 * DAY, 60 * DAY),
    ],
)
def test_an_order_waits_as_long_as_the_gateway_says_within_bounds(told: timedelta, kept: timedelta) -> None:
    world = _world()

    decision = world.tell_one(instructions(expires_at=(NOW + told).isoformat()))

    order = world.orders["R-1"]
    assert order.expires_at == NOW + kept
    assert order.due_at is not None
    assert order.due_at <= NOW + kept
    assert events(decision)[0]["data"]["expires_at"] == (NOW + kept).isoformat().replace("+00:00", "Z")


def test_a_recharge_that_is_waited_for_longer_expires_later_and_is_asked_about_meanwhile() -> None:
    world = _world()
    world.tell(instructions(expires_at=(NOW + 3 * DAY).isoformat()))

    asked = [request["kind"] for decision in world.sweep(NOW + 2 * DAY) for request in requests(decision)]

    assert (asked, world.orders["R-1"].status) == (["status"], OrderStatus.PENDING)
    world.sweep(NOW + 3 * DAY)
    assert world.orders["R-1"].status is OrderStatus.EXPIRED
    assert world.tell_one(result()).ending is Ending.APPLIED
    assert (world.orders["R-1"].late, world.user().balance_minor) == (True, 10_000)


def test_a_channel_has_its_own_expiry_and_its_own_bound() -> None:
    world = _world(expires_after=7 * DAY, expires_max_after=8 * DAY)

    assert world.orders["R-1"].expires_at == NOW + 7 * DAY
    world.tell(instructions(expires_at=(NOW + 9 * DAY).isoformat()))
    assert world.orders["R-1"].expires_at == NOW + 8 * DAY


def test_the_rules_of_every_other_channel_count_where_a_channel_has_none() -> None:
    rules = Policy(channels={"*": Channel(expires_after=2 * DAY), "qr": Channel(expires_after=DAY / 2)})
    world = World(rules=rules)

    world.tell(open_account(), recharge(), recharge(serial_no="R-2", recharge_type="qr"))

    assert world.orders["R-1"].expires_at == NOW + 2 * DAY
    assert world.orders["R-2"].expires_at == NOW + DAY / 2


# Addresses


@pytest.mark.parametrize(
    ("url", "app_url", "is_allowed"),
    [
        ("https://pay.acme.example/1", None, True),
        ("https://PAY.acme.example:8443/1?a=b", "line://pay/1", True),
        ("https://user@pay.acme.example/", "https://pay.acme.example/app", True),
        ("https://acme.example/1", None, False),
        ("https://pay.acme.example.evil.example/", None, False),
        ("https://evil.example#@pay.acme.example/", None, False),
        ("https://pay.acme.example@evil.example/", None, False),
        ("https://pay.acme.example./", None, False),
        ("https://[pay.acme.example/", None, False),
        ("https://pay.acme.example/", "evil://pay/1", False),
        ("https://pay.acme.example/", "https://evil.example/1", False),
    ],
)
def test_where_a_channel_has_hosts_an_address_elsewhere_is_not_shown(
    url: str, app_url: str | None, *, is_allowed: bool
) -> None:
    world = _world(hosts=frozenset({"pay.acme.example", "line:"}))

    decision = world.tell_one(
        instructions(action="redirect", url=url, app_url=app_url, bank_code=..., account_number=...)
    )

    assert decision.code is (Code.OK if is_allowed else Code.KEY_NOT_ALLOWED)
    assert bool(world.instructions) is is_allowed


@pytest.mark.parametrize(
    "changes",
    [
        {"action": "redirect"},
        {"action": "redirect", "url": "http://pay.example/"},
        {"action": "redirect", "url": "javascript:alert(1)"},
        {"action": "redirect", "url": "https://pay.example/\"onclick='x'"},
        {"action": "app"},
        {"action": "app", "app_url": "javascript:alert(1)"},
        {"action": "app", "app_url": "JaVaScRiPt:alert(1)"},
        {"action": "app", "app_url": "data:text/html,x"},
        {"action": "app", "app_url": "file:///etc/passwd"},
        {"action": "app", "app_url": "http://pay.example/"},
        {"action": "app", "app_url": "//pay.example/"},
        {"bank_code": ...},
        {"account_number": ...},
        {"account_number": None},
        {"action": "store_code"},
        {"action": "barcode"},
        {"action": "barcode", "barcodes": []},
        {"action": "barcode", "barcodes": ["1"] * 6},
        {"action": "barcode", "barcodes": [""]},
        {"action": "qr_code"},
        {"action": "qr_code", "qr_payload": "x" * 2_049},
        {"action": "qr_code", "qr_payload": "x\x07"},
        {"action": "pay"},
        {"action": ...},
        {"method": "POST"},
        {"form": {"a": "b"}},
        {"action": "redirect", "url": "https://pay.example/", "form": {str(n): "" for n in range(31)}},
        {"action": "redirect", "url": "https://pay.example/", "form": {"a": "x" * 8_192}},
        {"revision": 0},
        {"revision": 1_001},
        {"revision": "1"},
        {"note": "x" * 501},
        {"image": "x"},
    ],
)
def test_an_action_without_its_data_and_text_that_harms_are_malformed(changes: JsonObject) -> None:
    world = _world()

    decision = world.tell_one(instructions("gateway", **changes))

    assert (decision.ending, decision.code) == (Ending.REJECTED, Code.MALFORMED)
    assert replies(decision)[0]["code"] == "MALFORMED"
    assert world.instructions == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"action": "wait"},
        {"action": "store_code", "code": "LLL12345678901", "store": "seven_eleven"},
        {"action": "barcode", "barcodes": ["0712256A6", "3I2Z", "1"]},
        {"action": "qr_code", "qr_payload": "BCD\n002\n" + "x" * 2_000},
        {"action": "app", "app_url": "linepay://pay?id=1"},
        {
            "action": "redirect",
            "url": "https://pay.example/3ds",
            "method": "POST",
            "form": {"creq": "e" * 8_000},
        },
    ],
)
def test_every_action_with_its_data_is_told(changes: JsonObject) -> None:
    world = _world()

    decision = world.tell_one(instructions(bank_code=..., account_number=..., **changes))

    (event,) = events(decision)
    assert event["data"]["instructions"] == {"revision": 1, **changes}
    OrderInstructions.model_validate(event, strict=False)
