# ruff: noqa: T201 -- it speaks to a reader
"""Transfer money that `recharge-1` brought, and read the statement; a test runs this program."""

import asyncio
import os

from wallet_schemas.events import OrderView
from wallet_worker.client import RefusedError, WalletClient, result_of


async def main() -> None:
    """Print the transfer's other side, and each line of the statement."""
    async with WalletClient(os.environ["WALLET_AMQP_URL"]) as wallet:
        await wallet.open_account("bob", "TWD", serial_no="open-bob")
        sent = await wallet.transfer("alice", "bob", "25.00", "TWD", serial_no="transfer-1")
        print(result_of(sent, OrderView).to_user_id)  # bob

        refused = await wallet.transfer("alice", "bob", "1000.00", "TWD", serial_no="transfer-2")
        try:
            result_of(refused, OrderView)
        except RefusedError as refusal:
            print(refusal.code)  # INSUFFICIENT_BALANCE, which is final for transfer-2

        async for page in wallet.statement_pages("alice", "TWD"):
            for line in page.entries:
                print(line.line_no, line.direction, line.amount, line.balance_after)


asyncio.run(main())
