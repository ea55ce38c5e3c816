"""What each type of command does: one row a type, and one function behind it.

A new type of command is a message class in `wallet_schemas.commands`, a function in a module of this package, and a
row in `HANDLERS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, get_args

from wallet_schemas.commands import (
    AnyCommand,
    CancelOrder,
    Capture,
    CloseAccount,
    Command,
    FreezeAccount,
    Hold,
    OpenAccount,
    Recharge,
    RechargeV2,
    Refund,
    Release,
    Transfer,
    UnfreezeAccount,
    Withdraw,
    WithdrawV2,
)
from wallet_schemas.values import OrderType
from wallet_worker.core.commands import accounts, holds, payments, transfers
from wallet_worker.core.commands.acceptance import Accepted
from wallet_worker.core.commands.checks import Refused
from wallet_worker.core.context import DecisionContext
from wallet_worker.core.facts import Facts
from wallet_worker.core.lookups import Lookups


@dataclass(frozen=True, slots=True)
class Handler:
    """How a type of command is decided.

    `lookups` adds what has to be loaded before `handle` may be called. `order_type` is the type of the order that the
    command makes, None if it makes none. `needs_account_id`: a fresh account id is drawn for the command.
    """

    lookups: Callable[[Lookups, Any], None]
    handle: Callable[[Any, Facts, DecisionContext], Accepted | Refused]
    order_type: OrderType | None = None
    needs_account_id: bool = False


HANDLERS: Mapping[type[Command], Handler] = MappingProxyType(
    {
        OpenAccount: Handler(Lookups.add_account, accounts.open_account, needs_account_id=True),
        FreezeAccount: Handler(Lookups.add_account, accounts.change_status),
        UnfreezeAccount: Handler(Lookups.add_account, accounts.change_status),
        CloseAccount: Handler(accounts.closing_lookups, accounts.change_status),
        Recharge: Handler(Lookups.add_account, payments.recharge, OrderType.RECHARGE),
        RechargeV2: Handler(Lookups.add_account, payments.recharge, OrderType.RECHARGE),
        WithdrawV2: Handler(Lookups.add_account, payments.withdraw, OrderType.WITHDRAW),
        CancelOrder: Handler(payments.cancel_lookups, payments.cancel),
        Withdraw: Handler(Lookups.add_account, payments.withdraw, OrderType.WITHDRAW),
        Refund: Handler(payments.refund_lookups, payments.refund, OrderType.REFUND),
        Transfer: Handler(transfers.transfer_lookups, transfers.transfer, OrderType.TRANSFER),
        Hold: Handler(Lookups.add_account, holds.hold, OrderType.HOLD),
        Capture: Handler(holds.capture_lookups, holds.capture, OrderType.CAPTURE),
        Release: Handler(holds.release_lookups, holds.release, OrderType.RELEASE),
    }
)
if set(HANDLERS) != set(get_args(AnyCommand)):
    msg = f"no handler for {set(get_args(AnyCommand)) ^ set(HANDLERS)}"
    raise AssertionError(msg)
