"""Who may send what to whom: each row is allowed once and refused once, and a refusal uses up nothing."""

from dataclasses import replace
from typing import Any

import pytest

from tests.rules.core.world import (
    World,
    capture,
    close,
    freeze,
    hold,
    open_account,
    recharge,
    refund,
    release,
    result,
    transfer,
    withdraw,
)
from wallet_schemas.codes import Code
from wallet_schemas.signature import Algorithm, SigningDirection, SigningKey, VerifyingKey
from wallet_worker.core.batch import decide_all
from wallet_worker.core.context import Policy
from wallet_worker.core.endings import Ending
from wallet_worker.core.inbound import InboundMessage, read
from wallet_worker.core.senders import Rights, Sender, Senders

ALL = ("*",)


def policy(**rights: Rights) -> Policy:
    return Policy(senders=Senders(rights))


def by(
    arrived: InboundMessage, sender: str | None = "shop", routing_key: str | None = None
) -> InboundMessage:
    return arrived._replace(sender=None if sender is None else Sender.named(sender), routing_key=routing_key)


def codes(world: World, *arrived: InboundMessage) -> list[Code]:
    return [decision.code for decision in world.tell_each(*arrived)]


SHOP = Rights(types=ALL, users="u-", serial_prefix="", account_types=frozenset({"basic"}))


@pytest.mark.parametrize(
    ("rights", "arrived", "allowed"),
    [
        (Rights(types=("account.open",)), by(open_account()), True),
        (Rights(types=("order.*",)), by(open_account()), False),
        (Rights(), by(open_account()), False),
        (Rights(types=ALL), by(open_account(), None), False),
        (Rights(types=ALL), by(open_account(), "stranger"), False),
        (Rights(types=ALL), by(open_account(), routing_key="account.open"), True),
        (Rights(types=ALL), by(open_account(), routing_key="order.transfer"), False),
        (Rights(types=ALL, serial_prefix="S7-"), by(open_account(serial_no="S7-1")), True),
        (Rights(types=ALL, serial_prefix="S7-"), by(open_account(serial_no="S8-1")), False),
        (Rights(types=ALL, users="shop7:"), by(open_account(user_id="shop7:alice")), True),
        (Rights(types=ALL, users="shop7:"), by(open_account(user_id="shop8:alice")), False),
        (Rights(types=ALL, account_types=frozenset({"bonus"})), by(open_account(account_type="bonus")), True),
        (Rights(types=ALL, account_types=frozenset({"bonus"})), by(open_account()), False),
    ],
)
def test_a_command_is_judged_by_its_senders_rights(
    rights: Rights, arrived: InboundMessage, *, allowed: bool
) -> None:
    world = World(rules=policy(shop=rights))

    (decision,) = world.tell(arrived)

    assert decision.code is (Code.OK if allowed else Code.NOT_ALLOWED)
    if not allowed:
        assert decision.ending is Ending.REJECTED
        assert world.commands == {}
        assert [code for _, code in world.dead] == [Code.NOT_ALLOWED]


@pytest.mark.parametrize(
    "arrived", [freeze, close, recharge, withdraw, transfer, hold], ids=lambda make: make.__name__
)
def test_no_command_reaches_an_account_of_somebody_elses_users(arrived: Any) -> None:
    world = World(rules=policy(shop=Rights(types=ALL, users="shop7:")))
    world.with_account(balance_minor=10_000)

    assert codes(world, by(arrived(user_id="u-1"))) == [Code.NOT_ALLOWED]


def test_an_account_type_cannot_be_paid_that_the_sender_has_nothing_to_do_with() -> None:
    world = World(rules=policy(shop=SHOP))
    world.with_account(balance_minor=10_000)

    assert codes(world, by(transfer(to_account_type="cashout"))) == [Code.NOT_ALLOWED]


@pytest.mark.parametrize("use", [capture, release], ids=lambda make: make.__name__)
@pytest.mark.parametrize(
    ("sender", "code"), [("shop", Code.OK), ("other", Code.NOT_ALLOWED), ("boss", Code.OK)]
)
@pytest.mark.parametrize("at_once", [True, False])
def test_a_hold_is_used_by_its_sender_or_one_who_may_use_any(
    use: Any, sender: str, code: Code, *, at_once: bool
) -> None:
    world = World(
        rules=policy(shop=SHOP, other=SHOP, boss=Rights(types=ALL, any_order=True, account_types=None))
    )
    world.with_account(balance_minor=100_000)
    world.with_account(user_id="u-2")
    arrived = (by(hold()), by(use(), sender))

    decisions = world.tell(*arrived) if at_once else world.tell_each(*arrived)

    assert [decision.code for decision in decisions] == [Code.OK, code]


def test_the_right_to_use_any_order_ends_at_the_users() -> None:
    world = World(rules=policy(shop=SHOP, boss=Rights(types=ALL, any_order=True, users="b-")))
    world.with_account(balance_minor=100_000)

    assert codes(world, by(hold()), by(release(), "boss")) == [Code.OK, Code.NOT_ALLOWED]


def test_a_recharge_is_refunded_by_its_sender() -> None:
    world = World(rules=policy(shop=SHOP, other=SHOP))
    world.with_account()

    paid = codes(world, by(recharge()), result())
    refunded = codes(world, by(refund(), "other"), by(refund()))

    assert paid == [Code.OK, Code.OK]
    assert refunded == [Code.NOT_ALLOWED, Code.OK]


def test_a_repeat_by_another_sender_is_a_conflict_that_tells_nothing() -> None:
    world = World(rules=policy(shop=SHOP, other=SHOP))

    world.tell(by(open_account()))
    mine, theirs = world.tell(by(open_account("amq.gen-1")), by(open_account("amq.gen-2"), "other"))

    assert (mine.ending, theirs.ending, theirs.code) == (
        Ending.REPEATED,
        Ending.CONFLICT,
        Code.SERIAL_CONFLICT,
    )
    (notified,) = theirs.outgoing
    assert b"different" not in notified.body
    assert b"account_no" not in notified.body
    assert b"OK" not in notified.body


def test_the_sender_is_kept_and_a_client_stays_the_same_with_a_new_key() -> None:
    world = World(rules=policy(api=Rights(types=ALL, clients=True)))

    world.tell(by(open_account(), "api/acme/k1"))
    again, other = world.tell(by(open_account(), "api/acme/k2"), by(open_account(), "api/other/k1"))

    assert (
        world.commands["S-1" if "S-1" in world.commands else next(iter(world.commands))].sent_by
        == "api/acme/k1"
    )
    assert (again.ending, other.code) == (Ending.REPEATED, Code.SERIAL_CONFLICT)


def test_a_command_from_before_senders_were_kept_is_repeated_to_whoever_sends_it() -> None:
    world = World()
    world.tell(open_account())
    world.rules = policy(shop=SHOP)

    assert world.tell_one(by(open_account())).ending is Ending.REPEATED


def test_where_anyone_may_send_nothing_is_asked() -> None:
    world = World()

    assert codes(world, by(open_account(), None, "any.key")) == [Code.OK]


# Types of accounts


@pytest.mark.parametrize(
    ("supported", "code"), [({"basic"}, Code.ACCOUNT_TYPE_NOT_SUPPORTED), (None, Code.OK)]
)
def test_a_type_of_account_that_the_wallet_does_not_have_is_refused(
    supported: set[str] | None, code: Code
) -> None:
    rules = Policy(account_types=None if supported is None else frozenset(supported))
    world = World(rules=rules)

    assert codes(world, open_account(account_type="bonus")) == [code]
    if supported is not None:
        world.with_account(balance_minor=10_000)
        assert codes(world, transfer(to_account_type="bonus")) == [code]


# Keys of gateways

SEED = bytes(range(32))
NOW_KEY = SigningKey("acme-1", Algorithm.ED25519, SEED)


def result_code(world: World, key: VerifyingKey, *, earlier_seconds: int = 0) -> Code:
    """Return what becomes of a result that the key has signed now, or so much earlier."""
    at_unix = int(world.now.timestamp()) - earlier_seconds
    arrived = result()
    arrived = arrived._replace(signature=NOW_KEY.sign(arrived.body, at_unix, SigningDirection.RESULTS))
    message = read(arrived, {"acme-1": key})
    parts = decide_all(
        [(arrived, message)],
        world._load([message]),
        world.rules,
        world.now,
        entropy=bytes(100),
        account_ids=iter(()),
        flush_every=1,
        yield_every=1,
    )
    (decision,) = [item for part in parts if part is not None for item in part.decisions]
    return decision.code


@pytest.mark.parametrize(
    ("bounds", "earlier_seconds", "code"),
    [
        ({}, 0, Code.OK),
        ({"channels": frozenset({"card"})}, 0, Code.OK),
        ({"channels": frozenset({"bank_transfer"})}, 0, Code.KEY_NOT_ALLOWED),
        ({"kinds": frozenset({"result"})}, 0, Code.OK),
        ({"kinds": frozenset({"reversal"})}, 0, Code.KEY_NOT_ALLOWED),
        ({}, 299, Code.OK),
        ({}, 302, Code.KEY_NOT_ALLOWED),
    ],
)
def test_a_result_is_taken_from_a_key_that_may_speak_of_its_order(
    bounds: dict[str, Any], earlier_seconds: int, code: Code
) -> None:
    world = World()
    world.with_account()
    world.tell(recharge(recharge_type="card"))

    assert result_code(world, replace(NOW_KEY.public, **bounds), earlier_seconds=earlier_seconds) is code
