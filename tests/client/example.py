# ruff: noqa: T201 -- it speaks to a reader
"""What the README shows of the Python client; a test runs it."""

import asyncio
import os

from wallet_schemas.events import OrderView
from wallet_worker.client import OutcomeUnknownError, WalletClient, result_of


async def main() -> None:
    """Open an account, recharge it, and send somebody money."""
    async with WalletClient(os.environ["WALLET_AMQP_URL"]) as wallet:
        opened = await wallet.open_account("alice", "TWD", serial_no="open-alice")
        print(opened.status, opened.code)  # applied OK, or refused and why

        try:
            ordered = await wallet.recharge("alice", "100.00", "TWD", "card", serial_no="recharge-1")
        except OutcomeUnknownError as unknown:  # a time-out, a lost connection: the same again is safe
            ordered = await wallet.recharge("alice", "100.00", "TWD", "card", serial_no=unknown.serial_no)
        print(ordered.status, ordered.duplicate)

        order = (await wallet.wait_until_settled("recharge-1", timeout_seconds=60)).order
        print(order and order.status)  # succeeded, once the payment gateway has said so

        await wallet.open_account("bob", "TWD", serial_no="open-bob")
        sent = await wallet.transfer("alice", "bob", "25.00", "TWD", serial_no="transfer-1")
        print(result_of(sent, OrderView).to_user_id)  # bob; it raises RefusedError if that was refused

        async for page in wallet.statement_pages("alice", "TWD"):
            for line in page.entries:
                print(line.line_no, line.direction, line.amount, line.balance_after)


asyncio.run(main())
