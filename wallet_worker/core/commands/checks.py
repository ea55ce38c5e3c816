"""What commands check before they change anything, and the refusals that they have in common.

The checks stand in the order of the codes (`wallet_schemas.codes`): a command that is wrong in two ways gets the code
that stands first. Where both parties have the same fault, the account that pays is named before the one that is paid.
"""

from dataclasses import dataclass

from wallet_schemas import money
from wallet_schemas.codes import Code
from wallet_schemas.commands import Hold, LimitName, Recharge, RechargeV2, RefusedParty, Withdraw, WithdrawV2
from wallet_schemas.message import Body, MoneyFields
from wallet_schemas.values import AccountStatus, OrderType
from wallet_worker.core import permission
from wallet_worker.core.accounts import Account, AccountKey
from wallet_worker.core.context import DecisionContext
from wallet_worker.core.facts import Facts
from wallet_worker.core.limits import Broken


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a message is refused."""

    code: Code
    message: str
    details: Body | None = None


_PAYER: Body = {"party": RefusedParty.PAYER}
_PAYEE: Body = {"party": RefusedParty.PAYEE}

ACCOUNT_MISSING = Refused(Code.ACCOUNT_NOT_FOUND, "the user has no account of this type and currency")
PAYER_MISSING = Refused(
    Code.ACCOUNT_NOT_FOUND, "the user who is to pay has no account of this type and currency", _PAYER
)
PAYEE_MISSING = Refused(
    Code.ACCOUNT_NOT_FOUND, "the user who is to be paid has no account of this type and currency", _PAYEE
)
CLOSED = Refused(Code.ACCOUNT_CLOSED, "the account is closed")
PAYER_CLOSED = Refused(Code.ACCOUNT_CLOSED, "the account that is to pay is closed", _PAYER)
PAYEE_CLOSED = Refused(Code.ACCOUNT_CLOSED, "the account that is to be paid is closed", _PAYEE)
FROZEN = Refused(Code.ACCOUNT_FROZEN, "the account is frozen: nothing leaves it")
PAYER_FROZEN = Refused(Code.ACCOUNT_FROZEN, "the account that is to pay is frozen: nothing leaves it", _PAYER)
SAME_ACCOUNT = Refused(Code.SAME_ACCOUNT, "an account cannot pay itself")
OVERFLOW = Refused(Code.AMOUNT_OUT_OF_RANGE, "the balance would leave 64 bits")


def insufficient(account: Account, context: DecisionContext) -> Refused:
    """Return the refusal of an order for which less is available, and how much is, if the sender may know that."""
    details = (
        {"available": money.to_text(account.available_minor, account.currency)}
        if permission.may_know_balance(account, context)
        else None
    )
    return Refused(Code.INSUFFICIENT_BALANCE, "the account has less than that available", details)


def currency_not_supported(currency: str) -> Refused:
    """Return the refusal of a currency that the deployment does not hold."""
    return Refused(Code.CURRENCY_NOT_SUPPORTED, f"{currency} is not among the currencies of this wallet")


def check_account_types(message: object, context: DecisionContext) -> Refused | None:
    """Return which type of account, of those that a command names, this wallet does not have; None if it has all."""
    supported = context.rules.account_types
    if supported is None:
        return None
    for name in ("account_type", "to_account_type"):
        account_type = getattr(message, name, None)
        if account_type is not None and account_type not in supported:
            return Refused(
                Code.ACCOUNT_TYPE_NOT_SUPPORTED,
                f"{account_type} is not among the account types of this wallet",
            )
    return None


def check_amount(message: MoneyFields, context: DecisionContext) -> int | Refused:
    """Return the amount in minor units, or why this wallet does not take it."""
    if message.currency not in context.rules.currencies:
        return currency_not_supported(message.currency)
    refused = check_account_types(message, context)
    if refused is not None:
        return refused
    try:
        return message.amount_minor
    except money.AmountOutOfRange as exc:
        return Refused(Code.AMOUNT_OUT_OF_RANGE, str(exc))


def check_amount_and_account(
    message: Recharge | RechargeV2 | Withdraw | WithdrawV2 | Hold, facts: Facts, context: DecisionContext
) -> tuple[int, Account] | Refused:
    """Return the amount in minor units and the account that the command names, or the refusal."""
    amount_minor = check_amount(message, context)
    if isinstance(amount_minor, Refused):
        return amount_minor
    account = facts.account(AccountKey(message.user_id, message.account_type, message.currency))
    return ACCOUNT_MISSING if account is None else (amount_minor, account)


def check_parties(payer: Account, payee: Account | None = None) -> Refused | None:
    """Return why money may not leave the payer, or not reach the payee; None if it may."""
    if payer.status is AccountStatus.CLOSED:
        return CLOSED if payee is None else PAYER_CLOSED
    if payee is not None and payee.status is AccountStatus.CLOSED:
        return PAYEE_CLOSED
    if payer.status is AccountStatus.FROZEN:
        return FROZEN if payee is None else PAYER_FROZEN
    if payee is not None and payee.account_id == payer.account_id:
        return SAME_ACCOUNT
    return None


def check_limits(
    order_type: OrderType,
    amount_minor: int,
    account: Account,
    facts: Facts,
    context: DecisionContext,
    payee: Account | None = None,
) -> Refused | None:
    """Return which of the deployment's limits the order would break; None if it keeps them."""
    limits = context.rules.limits
    if not limits.accounts:
        return None
    spent_minor = facts.daily_totals.get((account.account_id, order_type), 0)
    broken = limits.check_order(order_type, amount_minor, account, spent_minor)
    limited = account
    if broken is None and payee is not None:
        # What is on its way to the payee already counts as received.
        expected_minor = facts.pending_recharges.get(payee.account_id, 0)
        broken, limited = limits.check_balance(payee, amount_minor, expected_minor), payee
    return None if broken is None else _limit_exceeded(broken, limited, context)


def _limit_exceeded(broken: Broken, account: Account, context: DecisionContext) -> Refused:
    """Return the refusal of what would break a limit of an account."""
    if broken.limit is None:
        return Refused(Code.LIMIT_EXCEEDED, broken.message)
    # What is left of what an account may hold says what it holds.
    may_know = broken.limit is not LimitName.BALANCE_MAX or permission.may_know_balance(account, context)
    left_minor = broken.left_minor if may_know else None
    details: Body = {
        "limit": broken.limit,
        "allowed": money.to_text(broken.allowed_minor, account.currency),
    }
    if left_minor is not None:
        details["left"] = money.to_text(left_minor, account.currency)
    return Refused(Code.LIMIT_EXCEEDED, broken.message, details)


def check_funds(
    order_type: OrderType,
    amount_minor: int,
    account: Account,
    facts: Facts,
    context: DecisionContext,
    payee: Account | None = None,
) -> Refused | None:
    """Return which limit the order would break, or that less is available than it takes; None if neither."""
    broken = check_limits(order_type, amount_minor, account, facts, context, payee)
    if broken is None and account.available_minor < amount_minor:
        return insufficient(account, context)
    return broken
