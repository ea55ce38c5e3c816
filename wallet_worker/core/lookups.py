"""What has to be loaded before a batch is decided."""

from dataclasses import dataclass, field

from wallet_schemas.commands import (
    CloseAccount,
    FreezeAccount,
    Hold,
    OpenAccount,
    Recharge,
    RechargeV2,
    Transfer,
    UnfreezeAccount,
    Withdraw,
    WithdrawV2,
)
from wallet_worker.core.accounts import AccountKey, SystemKey


@dataclass(slots=True)
class Lookups:
    """The serial numbers, orders and accounts that the messages of a batch name.

    - `serial_nos`: numbers whose stored outcome is looked up;
    - `orders`: serial numbers of orders that are there already; `paid` those that a payment result names, `refunded`
      those whose refunds and reversals are summed up, `reversed` those whose reversals are read,
      `instructed` those whose instructions are;
    - `gateway_refs`: the gateway's id of each payment that has succeeded, by the serial number of its order;
      `channels` that of the orders among them that may be made in this batch;
    - `keys`: users' accounts; `closing` those whose pending orders are counted;
    - `system_accounts`: of the orders that may be made, and move money, in this batch.
    """

    serial_nos: set[str] = field(default_factory=set)
    orders: set[str] = field(default_factory=set)
    keys: set[AccountKey] = field(default_factory=set)
    paid: set[str] = field(default_factory=set)
    refunded: set[str] = field(default_factory=set)
    reversed: set[str] = field(default_factory=set)
    instructed: set[str] = field(default_factory=set)
    gateway_refs: list[tuple[str, str]] = field(default_factory=list)
    channels: dict[str, str] = field(default_factory=dict)
    closing: set[AccountKey] = field(default_factory=set)
    system_accounts: set[SystemKey] = field(default_factory=set)

    def add_account(
        self,
        message: OpenAccount
        | FreezeAccount
        | UnfreezeAccount
        | CloseAccount
        | Recharge
        | RechargeV2
        | Withdraw
        | WithdrawV2
        | Transfer
        | Hold,
    ) -> None:
        """Add the account that a command names, and its serial number."""
        self.serial_nos.add(message.serial_no)
        self.keys.add(AccountKey(message.user_id, message.account_type, message.currency))
