"""Commands about accounts: open, freeze, unfreeze, close."""

from wallet_schemas.codes import Code
from wallet_schemas.commands import (
    CloseAccount,
    Command,
    FreezeAccount,
    OpenAccount,
    UnfreezeAccount,
)
from wallet_schemas.events import AccountClosed, AccountFrozen, AccountOpened, AccountUnfrozen
from wallet_schemas.values import AccountStatus
from wallet_worker.core import accounts, outbound
from wallet_worker.core.accounts import AccountKey, StatusChange
from wallet_worker.core.commands import checks
from wallet_worker.core.commands.acceptance import Accepted
from wallet_worker.core.commands.checks import Refused
from wallet_worker.core.context import DecisionContext
from wallet_worker.core.facts import Facts
from wallet_worker.core.lookups import Lookups


def open_account(message: OpenAccount, facts: Facts, context: DecisionContext) -> Accepted | Refused:
    """Open an account, unless one of the same user, type and currency is there and not closed."""
    if message.currency not in context.rules.currencies:
        return checks.currency_not_supported(message.currency)
    refused = checks.check_account_types(message, context)
    if refused is not None:
        return refused
    key = AccountKey(message.user_id, message.account_type, message.currency)
    newest = facts.account(key)
    if newest is not None and newest.status is not AccountStatus.CLOSED:
        return Refused(Code.ACCOUNT_EXISTS, "the user has an account of this type and currency")
    if newest is not None and newest.debt_minor:
        return Refused(
            Code.DEBT_OUTSTANDING, "the user's closed account of this type and currency still owes money"
        )
    account = accounts.opened(context.draw.account_id, context.draw.account_no(context.now), key, context.now)
    return Accepted(
        {
            "object": "account_opened",
            "user_id": account.user_id,
            "account_type": account.account_type,
            "currency": account.currency,
            "account_no": account.account_no,
        },
        opened=account,
        outgoing=(outbound.event_message(AccountOpened, message.serial_no, accounts.body(account), context),),
    )


STATUS_EVENTS: dict[type[Command], tuple[StatusChange, outbound.EventClass]] = {
    FreezeAccount: (StatusChange.FREEZE, AccountFrozen),
    UnfreezeAccount: (StatusChange.UNFREEZE, AccountUnfrozen),
    CloseAccount: (StatusChange.CLOSE, AccountClosed),
}


def change_status(
    message: FreezeAccount | UnfreezeAccount | CloseAccount, facts: Facts, context: DecisionContext
) -> Accepted | Refused:
    """Freeze, unfreeze or close the newest account of its key. An account in that state already is announced again."""
    if message.currency not in context.rules.currencies:
        return checks.currency_not_supported(message.currency)
    account = facts.account(AccountKey(message.user_id, message.account_type, message.currency))
    if account is None:
        return checks.ACCOUNT_MISSING
    change, event = STATUS_EVENTS[type(message)]
    changed_account = accounts.transition(account, change, context.now)
    if changed_account is None:
        return checks.CLOSED
    if change is StatusChange.CLOSE:
        if account.balance_minor or account.reserved_minor or account.debt_minor:
            why = "the account is not empty, something of it is reserved, or it owes money"
            return Refused(Code.BALANCE_NOT_ZERO, why)
        if facts.pending_orders[account.account_id]:
            return Refused(Code.ORDERS_PENDING, "an order of the account still waits for its result")
    body = accounts.body(changed_account)
    return Accepted(
        {**body, "object": "account"},
        changed=(changed_account,),
        outgoing=(outbound.event_message(event, message.serial_no, body, context),),
    )


def closing_lookups(lookups: Lookups, message: CloseAccount) -> None:
    """Add the account, and the count of its pending orders."""
    lookups.add_account(message)
    lookups.closing.add(AccountKey(message.user_id, message.account_type, message.currency))
