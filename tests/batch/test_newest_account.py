"""Which account a command means, when its user has had several of one kind."""

import json

import asyncpg

from tests.batch.rig import Rig
from wallet_worker.core.reading import Incoming, Source


def command(message_type: str, serial_no: str, **fields: str) -> Incoming:
    body = {"type": message_type, "serial_no": serial_no, "user_id": "alice", "currency": "TWD", **fields}
    return Incoming(Source.COMMANDS, json.dumps(body).encode())


async def test_an_account_that_was_opened_again_is_the_newest_whatever_its_id(
    one: Rig, other: Rig, owner: asyncpg.Connection
) -> None:
    # Ids are reserved ahead of time, a range for each worker: the second account gets the lower one.
    await one.settle(command("account.open.v1", "open-bob", user_id="bob"))
    await other.settle(command("account.open.v1", "open-1"))
    await owner.execute("UPDATE accounts SET status = 'closed' WHERE user_id = 'alice'")
    await one.settle(command("account.open.v1", "open-2"))
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
