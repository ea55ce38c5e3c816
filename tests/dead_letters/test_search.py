"""Letters are found by everybody and everything that they are about: user, order, payment; also where none is named."""

from collections.abc import Iterable

import asyncpg
import pytest
from alembic import command

from tests.dead_letters.conftest import OTTO, VERA, Desk, Wallet
from tests.dead_letters.letters import arrived, headers
from tests.journeys.messages import (
    Json,
    capture,
    encoded,
    fresh,
    hold,
    recharge,
    refund,
    release,
    result,
    transfer,
)
from tests.servers import Servers
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.store.migrate import migrate


async def of_user(desk: Desk, user_id: str) -> set[int]:
    """Return the letters that are found by a user."""
    return set(await desk.ids(Filter(user_id=user_id)))


async def take_in(desk: Desk, *contents: Json | bytes, source: str = "payment.results") -> list[int]:
    """Take in letters of one queue; return their numbers."""
    before = set(await desk.ids())
    await desk.take_in(*(arrived(content, headers("AMOUNT_MISMATCH", source=source)) for content in contents))
    return sorted(set(await desk.ids()) - before)


async def test_letters_about_money_are_found_by_the_user_whose_money_it_is(wallet: Wallet) -> None:
    await wallet.workers.start()
    user, other = await wallet.upstream.funded("500.00"), await wallet.upstream.funded()
    charge, pending, reserve, sent = (
        recharge(user),
        recharge(user),
        hold(user, "50.00"),
        transfer(user, other),
    )
    await wallet.upstream.applied(charge)
    await wallet.upstream.processed(result(charge["serial_no"]))
    for item in (pending, reserve, sent):
        await wallet.upstream.applied(item)
    number, held = charge["serial_no"], reserve["serial_no"]
    unmentioned = recharge(fresh("stranger"))

    results = await take_in(wallet, result(number, "failed"), result(pending["serial_no"], amount="1.00"))
    requests = await take_in(
        wallet, {"type": "payment.request.v1", "payment_order_no": number}, source="payment.requests"
    )
    commands = await take_in(
        wallet,
        refund(number, "1"),
        capture(held, other, "1"),
        release(held, metadata=7),
        recharge(user),
        transfer(other, user),
        source="wallet.commands",
    )
    about_the_transfer = await take_in(wallet, result(sent["serial_no"]))
    await take_in(wallet, unmentioned, source="wallet.commands")
    await take_in(wallet, b"no JSON", source="wallet.commands")

    assert await of_user(wallet, user) == {*results, *requests, *commands, *about_the_transfer}
    assert await of_user(wallet, other) == {commands[1], commands[4], *about_the_transfer}
    shown = {
        line.letter_id: line.user_id for line in (await wallet.operations.letters(OTTO, Filter())).letters
    }
    assert {shown[letter_id] for letter_id in (*results, *requests, *commands[:4])} == {user}


async def test_a_letter_is_found_by_user_whenever_its_order_is_written(wallet: Wallet) -> None:
    await wallet.workers.start()
    user = await wallet.upstream.opened()
    early, refused = recharge(user), recharge(user, currency="JPY", amount="100")

    (before,) = await take_in(wallet, result(early["serial_no"]))
    assert await of_user(wallet, user) == set()
    await wallet.upstream.applied(early)
    assert await of_user(wallet, user) == {before}

    assert await wallet.upstream.code(refused) == "ACCOUNT_NOT_FOUND"
    (of_a_refusal,) = await take_in(wallet, result(refused["serial_no"]))
    assert await of_user(wallet, user) == {before, of_a_refusal}


async def test_a_result_is_found_by_the_user_whose_command_is_a_letter_itself(desk: Desk) -> None:
    ordered_by = recharge("alice@example.com")

    (ordered,) = await take_in(desk, ordered_by, source="wallet.commands")
    (paid,) = await take_in(desk, result(ordered_by["serial_no"]))

    assert await of_user(desk, "alice@example.com") == {ordered, paid}


async def test_letters_are_found_by_the_gateways_reference_and_by_the_order_id(wallet: Wallet) -> None:
    await wallet.workers.start()
    user = await wallet.upstream.opened()
    number = await wallet.upstream.paid(user)
    order_id = await wallet.owner.fetchval("SELECT order_id FROM orders WHERE serial_no = $1", number)
    ref = await wallet.owner.fetchval("SELECT gateway_ref FROM payment_results")

    (twice,) = await take_in(wallet, result(number, "failed", gateway_ref="gw-other"))
    (unknown,) = await take_in(wallet, result(fresh("R"), gateway_ref="gw-unknown"))

    async def found(**by: object) -> list[int]:
        return await wallet.ids(Filter(**by))  # type: ignore[arg-type]

    assert await found(gateway_ref="gw-other") == [twice]
    assert await found(gateway_ref=ref) == [twice]  # the order that was paid under it
    assert await found(gateway_ref="gw-unknown") == [unknown]
    assert await found(order_id=order_id) == [twice]


async def test_a_viewer_sees_no_more_of_a_user_than_before(desk: Desk) -> None:
    ordered_by = recharge("somebody-long")
    await take_in(desk, ordered_by, source="wallet.commands")
    await take_in(desk, result(ordered_by["serial_no"]))

    page = await desk.operations.letters(VERA, Filter())

    assert "somebody-long" not in {line.user_id for line in page.letters}


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'"x"', b"\xff", b'{"user_id": 7}', b'{"user_id": "a\\u0000b"}']
)
async def test_what_names_nobody_is_taken_in_all_the_same(desk: Desk, body: bytes) -> None:
    (letter_id,) = await take_in(desk, body)

    assert await desk.state(letter_id) == "waiting"
    assert await desk.owner.fetchval("SELECT count(*) FROM dead_letter_names") == 0


async def test_letters_from_before_the_update_are_found_after_it(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade = command.upgrade
    async with servers.database() as url:
        with monkeypatch.context() as patched:
            patched.setattr(command, "upgrade", lambda config, _: upgrade(config, "0004"))
            await migrate(url)
        owner = await asyncpg.connect(url)
        try:
            bodies = [encoded(recharge("alice", serial_no="R-1")), encoded(result("R-1")), b"\xff", b"[1]"]
            await _write(owner, bodies)
            await migrate(url)
            rows = await owner.fetch("SELECT letter_id, kind, name FROM dead_letter_names ORDER BY 1, 2, 3")
        finally:
            await owner.close()

    assert [tuple(row) for row in rows] == [
        (1, "order", "R-1"),
        (1, "user", "alice"),
        (2, "gateway_ref", "gw-R-1"),
        (2, "order", "R-1"),
    ]


async def _write(owner: asyncpg.Connection, bodies: Iterable[bytes]) -> None:
    for body in bodies:
        await owner.execute(
            """
            INSERT INTO dead_letters (reason, detail, source, routing_key, properties, body, body_digest, attempts,
                                      first_seen, arrived_at, updated_at)
            VALUES ('INTERNAL', '', 'wallet.commands', '', '', $1, sha256($1), 1, now(), now(), now())
            """,
            body,
        )
