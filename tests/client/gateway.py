"""The gateway's word, signed, as far as these tests need it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import cast

import aiormq
from aiormq.channel import Channel
from pamqp.commands import Basic

from tests.client.impostor import Impostor, impostor
from tests.workers import KEYS
from wallet_schemas.encode import encode
from wallet_schemas.names import PAYMENT_REQUESTS, PAYMENT_RESULTS, SIGNATURE_HEADER
from wallet_schemas.payments import PaymentRequest, PaymentResult
from wallet_schemas.signature import sign
from wallet_schemas.values import PaymentStatus


async def send_result(
    amqp_url: str,
    serial_no: str,
    *,
    amount: str = "100.00",
    currency: str = "TWD",
    status: PaymentStatus = PaymentStatus.SUCCEEDED,
) -> None:
    """The worker has a signed result of this order in its queue."""
    body = encode(
        PaymentResult(
            payment_order_no=serial_no,
            amount=amount,
            currency=currency,
            status=status,
            gateway_ref=f"gw-{serial_no}",
            occurred_at=datetime.now(UTC),
        )
    )
    async with aiormq.connect(amqp_url) as connection:
        channel = cast("Channel", await connection.channel())
        await channel.basic_publish(
            body,
            exchange=PAYMENT_RESULTS,
            routing_key="payment.result",
            properties=Basic.Properties(
                delivery_mode=2, headers={SIGNATURE_HEADER: sign(body, KEYS, int(time.time()))}
            ),
            mandatory=True,
        )


@asynccontextmanager
async def everything_is_paid(amqp_url: str) -> AsyncIterator[None]:
    """Run a gateway for which every payment succeeds."""

    async def pay(taking: Impostor) -> None:
        while True:
            body = PaymentRequest.model_validate_json((await taking.next()).body)
            await send_result(amqp_url, body.payment_order_no, amount=body.amount, currency=body.currency)

    async with impostor(amqp_url, PAYMENT_REQUESTS) as taking:
        paying = asyncio.create_task(pay(taking))
        try:
            yield
        finally:
            paying.cancel()
            await asyncio.gather(paying, return_exceptions=True)
