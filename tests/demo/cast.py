"""A few accounts with a fate of their own: one is frozen and thaws, one is closed. And what the wallet says no to."""

import json
from collections.abc import Callable, Mapping
from typing import Final

from payment_simulator.behaviours import Behaviour
from tests.demo.fates import OUTGOING, Fate
from tests.demo.plan import Account, Act, Sending, good, recharge, refused
from wallet_schemas.codes import Code
from wallet_schemas.commands import (
    CancelOrder,
    CloseAccount,
    FreezeAccount,
    OpenAccount,
    Recharge,
    RechargeV2,
    Refund,
    Transfer,
    UnfreezeAccount,
    Withdraw,
    WithdrawV2,
)
from wallet_schemas.money import to_text
from wallet_schemas.values import OrderStatus

CURRENCY: Final = "TWD"
LIMIT_MINOR: Final = 1_000_000  # more than any other recharge of the demo
LIMITS: Final = json.dumps(
    {
        "accounts": {
            "basic": {CURRENCY: {"orders": {"recharge": {"amount_max": to_text(LIMIT_MINOR, CURRENCY)}}}}
        }
    }
)
"""What the workers are told of limits."""


def scenes(round_no: int, other: Account) -> Mapping[Act, list[Sending]]:
    """Return what happens to the accounts of one round, act by act; `other` is an account that is active."""

    def number(what: str) -> str:
        return f"CAST-{what}-{round_no:04}"

    cold: Account = (f"cold-{round_no:04}", CURRENCY)
    gone: Account = (f"gone-{round_no:04}", CURRENCY)
    succeeded = OUTGOING[Behaviour.SUCCEEDED]
    return {
        Act.OPEN: [
            good(OpenAccount(serial_no=number(f"OPEN-{user_id[:4]}"), user_id=user_id, currency=CURRENCY))
            for user_id, _ in (cold, gone)
        ],
        Act.RECHARGE: [recharge(number("PAID"), cold, 10_000, Behaviour.SUCCEEDED.channel)],
        Act.SPEND: [
            good(
                FreezeAccount(
                    serial_no=number("FREEZE"),
                    user_id=cold[0],
                    currency=CURRENCY,
                    reason="chargeback reported",
                )
            ),
            *_refusals(number, other, cold),
        ],
        Act.USE: [
            refused(_withdrawal(number("FROZEN"), cold, "10.00"), Code.ACCOUNT_FROZEN),
            refused(_transfer(number("FROZEN-TO"), cold, gone, "10.00"), Code.ACCOUNT_FROZEN),
            recharge(number("THAWING"), cold, 5_000, Behaviour.SUCCEEDED.channel),  # money still arrives
        ],
        Act.END: [
            good(
                UnfreezeAccount(
                    serial_no=number("THAW"), user_id=cold[0], currency=CURRENCY, reason="settled"
                )
            ),
            good(
                CloseAccount(
                    serial_no=number("CLOSE"), user_id=gone[0], currency=CURRENCY, reason="asked for"
                )
            ),
            refused(
                CloseAccount(
                    serial_no=number("FULL"), user_id=cold[0], currency=CURRENCY, reason="asked for"
                ),
                Code.BALANCE_NOT_ZERO,
            ),
        ],
        Act.LAST: [
            good(_paid_to_bank(number("THAWED"), cold, "20.00"), succeeded, moved=((cold, -2_000),)),
            refused(
                Recharge(
                    serial_no=number("CLOSED"),
                    user_id=gone[0],
                    amount="10.00",
                    currency=CURRENCY,
                    recharge_type="card",
                ),
                Code.ACCOUNT_CLOSED,
            ),
            refused(_transfer(number("CLOSED-TO"), cold, gone, "10.00"), Code.ACCOUNT_CLOSED),
        ],
    }


def cancelled(round_no: int) -> tuple[Sending, Sending]:
    """Return a recharge that nobody pays, and the command that cancels it before it expires, seconds later."""
    unpaid = RechargeV2(
        serial_no=f"CAST-UNPAID-{round_no:04}",
        user_id=f"cold-{round_no:04}",
        amount="30.00",
        currency=CURRENCY,
        recharge_type=Behaviour.LOST.channel,
        return_url="https://shop.example/orders/778",
    )
    cancel = CancelOrder(
        serial_no=f"CAST-CANCEL-{round_no:04}",
        target_serial_no=unpaid.serial_no,
        reason="the customer has left",
    )
    return good(unpaid, Fate(OrderStatus.CANCELLED, asked=True)), good(cancel)


def _refusals(number: Callable[[str], str], other: Account, cold: Account) -> list[Sending]:
    _, currency = other
    first = to_text(1, currency)
    return [
        refused(_transfer(number("SELF"), other, other, first), Code.SAME_ACCOUNT),
        refused(_transfer(number("NOBODY"), other, ("nobody", currency), first), Code.ACCOUNT_NOT_FOUND),
        refused(
            Refund(serial_no=number("NEVER"), original_serial_no="R-NEVER", amount=first, currency=currency),
            Code.ORDER_NOT_FOUND,
        ),
        refused(
            Recharge(
                serial_no=number("MUCH"),
                user_id=cold[0],
                amount=to_text(LIMIT_MINOR + 1, CURRENCY),
                currency=CURRENCY,
                recharge_type="card",
            ),
            Code.LIMIT_EXCEEDED,
        ),
        refused(_withdrawal(number("MORE"), other, to_text(10**14, currency)), Code.INSUFFICIENT_BALANCE),
    ]


def _withdrawal(serial_no: str, account: Account, amount: str) -> Withdraw:
    user_id, currency = account
    return Withdraw(
        serial_no=serial_no, user_id=user_id, amount=amount, currency=currency, payout_type="bank_transfer"
    )


def _paid_to_bank(serial_no: str, account: Account, amount: str) -> WithdrawV2:
    user_id, currency = account
    return WithdrawV2(
        serial_no=serial_no,
        user_id=user_id,
        amount=amount,
        currency=currency,
        payout_type="bank_transfer",
        instrument="ba_51Hx",
    )


def _transfer(serial_no: str, account: Account, to: Account, amount: str) -> Transfer:
    user_id, currency = account
    return Transfer(serial_no=serial_no, user_id=user_id, to_user_id=to[0], amount=amount, currency=currency)
