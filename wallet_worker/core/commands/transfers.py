"""Commands that move money between users' accounts at once: transfer."""

from wallet_schemas.commands import Transfer
from wallet_schemas.values import OrderType
from wallet_worker.core.accounts import AccountKey
from wallet_worker.core.commands import checks
from wallet_worker.core.commands.acceptance import Accepted, move_now, new_order
from wallet_worker.core.commands.checks import Refused
from wallet_worker.core.context import DecisionContext
from wallet_worker.core.facts import Facts
from wallet_worker.core.lookups import Lookups


def transfer(message: Transfer, facts: Facts, context: DecisionContext) -> Accepted | Refused:
    """Move money from one user's account to another's, at once."""
    amount_minor = checks.check_amount(message, context)
    if isinstance(amount_minor, Refused):
        return amount_minor
    payer = facts.account(AccountKey(message.user_id, message.account_type, message.currency))
    payee = facts.account(AccountKey(message.to_user_id, message.to_account_type, message.currency))
    if payer is None:
        return checks.PAYER_MISSING
    if payee is None:
        return checks.PAYEE_MISSING
    refused = checks.check_parties(payer, payee) or checks.check_funds(
        OrderType.TRANSFER, amount_minor, payer, facts, context, payee
    )
    if refused is not None:
        return refused
    order = new_order(
        OrderType.TRANSFER, message.serial_no, payer, amount_minor, context, message.metadata, payee=payee
    )
    return move_now(order, payer, payee, facts, context)


def transfer_lookups(lookups: Lookups, message: Transfer) -> None:
    """Add both accounts."""
    lookups.add_account(message)
    lookups.keys.add(AccountKey(message.to_user_id, message.to_account_type, message.currency))
