# ruff: noqa: T201 -- it speaks to a reader
"""Open an account and recharge it; a test runs this program."""

import asyncio
import os

from wallet_worker.client import NotAcceptedError, OutcomeUnknownError, WalletClient


async def main() -> None:
    """Print what became of both commands, and of the payment."""
    async with WalletClient(os.environ["WALLET_AMQP_URL"]) as wallet:
        opened = await wallet.open_account("alice", "TWD", serial_no="open-alice")
        print(opened.status, opened.code)  # applied OK, or refused and the code

        ordered = None
        while ordered is None:
            try:
                ordered = await wallet.recharge("alice", "100.00", "TWD", "card", serial_no="recharge-1")
            except NotAcceptedError:  # the broker did not take the command
                await asyncio.sleep(1)
            except OutcomeUnknownError:  # the outcome did not come in time
                await asyncio.sleep(1)
        print(ordered.status, ordered.duplicate)  # applied: the wallet asks the gateway for the money

        detail = await wallet.wait_until_settled("recharge-1", timeout_seconds=60)
        print(detail.order and detail.order.status)  # succeeded, once the gateway has reported it


asyncio.run(main())
