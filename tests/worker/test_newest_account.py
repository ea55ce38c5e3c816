"""Which account a command means, when its user has had several of one kind."""

import json

import asyncpg

from tests.rules.core.world import close, open_account, recharge, result, transfer
from tests.worker.rig import Rig
from tests.worker.tables import assert_sound
from wallet_worker.core.inbound import InboundMessage, Source


def command(message_type: str, serial_no: str, **fields: str) -> InboundMessage:
    body = {"type": message_type, "serial_no": serial_no, "user_id": "alice", "currency": "TWD", **fields}
    return InboundMessage(Source.COMMANDS, json.dumps(body).encode())


async def test_an_account_that_was_opened_again_is_the_newest_whatever_its_id(
    rig: Rig, other: Rig, owner: asyncpg.Connection
) -> None:
    # Ids are reserved ahead of time, a range for each worker: the second account gets the lower one.
    await rig.settle(command("account.open.v1", "open-bob", user_id="bob"))
    await other.settle(command("account.open.v1", "open-1"))
    await owner.execute("UPDATE accounts SET status = 'closed' WHERE user_id = 'alice'")
    await rig.settle(command("account.open.v1", "open-2"))
    ids = await owner.fetch(
        "SELECT account_id, status FROM accounts WHERE user_id = 'alice' ORDER BY created_at"
    )
    assert [row["status"] for row in ids] == ["closed", "active"]
    assert ids[0]["account_id"] > ids[1]["account_id"], "the case is not the one that is meant"

    await other.settle(
        command("order.recharge.v1", "recharge-1", amount="1.00", recharge_type="card"),
        command("account.open.v1", "open-3"),
    )

    codes = {
        row["serial_no"]: row["code"] for row in await owner.fetch("SELECT serial_no, code FROM commands")
    }
    assert codes == {
        "open-bob": "OK",
        "open-1": "OK",
        "open-2": "OK",
        "recharge-1": "OK",
        "open-3": "ACCOUNT_EXISTS",
    }
    assert await owner.fetchval("SELECT account_id FROM orders") == ids[1]["account_id"]


async def test_an_account_that_is_closed_and_opened_again_in_one_batch(
    rig: Rig, owner: asyncpg.Connection
) -> None:
    """The old one makes room before the new one is written, or no batch with both would ever end."""
    await rig.settle(open_account(), open_account(serial_no="O-2", user_id="u-2"))

    await rig.settle(
        close(),
        open_account(serial_no="O-3"),
        close(serial_no="X-2"),
        open_account(serial_no="O-4"),
        recharge(),
        result(),
        transfer(amount="40"),
    )

    assert rig.races() == 0
    found = await owner.fetch(
        "SELECT status, balance FROM accounts WHERE user_id = 'u-1' ORDER BY account_id"
    )
    assert [tuple(row) for row in found] == [("closed", 0), ("closed", 0), ("active", 6_000)]
    assert await owner.fetchval("SELECT count(DISTINCT account_no) FROM accounts WHERE user_id = 'u-1'") == 3
    await assert_sound(owner)
