"""Whether a command's sender may send it, by the deployment's policy (`core.senders`)."""

from wallet_schemas.commands import AnyCommand, CancelOrder, Capture, Refund, Release
from wallet_schemas.message import Message
from wallet_schemas.names import routing_key
from wallet_worker.core.accounts import Account
from wallet_worker.core.changes import StoredCommand
from wallet_worker.core.context import DecisionContext
from wallet_worker.core.facts import Facts
from wallet_worker.core.senders import Rights, Sender, Senders


def command_refusal(message: AnyCommand, facts: Facts, context: DecisionContext) -> str | None:
    """Return why the sender may not send this command, in a sentence; absent if it may, or if anyone may."""
    senders = context.rules.senders
    if senders is None:
        return None
    sender = context.incoming.sender
    if sender is None:
        return "it does not say who sends it: the property user_id is missing"
    rights, name = senders.of(sender), routing_key(message.type)
    if rights is None:
        return f"nothing is allowed to {sender}"
    if not rights.may_send(name):
        return f"{sender} may not send {name}"
    if context.incoming.routing_key not in {None, name}:
        return f"the routing key is not {name}, as its type says"
    if not message.serial_no.startswith(rights.serial_prefix):
        return f"serial numbers of {sender} begin with {rights.serial_prefix}"
    if isinstance(message, Capture | Release | Refund | CancelOrder):
        return _of_order(message, sender, rights, facts)
    return _of_account(message.user_id, message.account_type, sender, rights) or _of_payee(
        message, sender, rights
    )


def query_refusal(query: Message, sender: Sender | None, senders: Senders | None) -> str | None:
    """Return why the sender may not ask this query, in a sentence; absent if it may, or if anyone may.

    Whose an order is, the answer tells: see `may_see`.
    """
    if senders is None:
        return None
    if sender is None:
        return "it does not say who asks: the property user_id is missing"
    rights, name = senders.of(sender), routing_key(query.type)
    if rights is None or not rights.may_ask(name):
        return f"{sender} may not ask {name}"
    user_id, account_type = getattr(query, "user_id", None), getattr(query, "account_type", None)
    if user_id is not None and not rights.reaches_user(user_id):
        return f"users of {sender} begin with {rights.users}"
    if account_type is not None and not rights.reaches_type(account_type):
        return f"{sender} has nothing to do with accounts of the type {account_type}"
    return None


def may_see(sent_by: str | None, sender: Sender | None, senders: Senders | None) -> bool:
    """Return whether what was sent by somebody may be shown to whoever asks: the same, or one who may see any."""
    if senders is None:
        return True
    rights = senders.of(sender)
    return sender is not None and rights is not None and (rights.any_order or sender.is_same(sent_by))


def may_know_balance(account: Account, context: DecisionContext) -> bool:
    """Return whether a command's sender may be told what is available on an account: it acts for the account's user.

    That is so where anyone may send; else of a sender that the policy gives users of its own, or lets ask for accounts.
    """
    senders = context.rules.senders
    if senders is None:
        return True
    sender = context.incoming.sender
    rights = senders.of(sender)
    if sender is None or rights is None or not (rights.users or rights.may_ask("account.get")):
        return False
    return _of_account(account.user_id, account.account_type, sender, rights) is None


def is_same_sender(stored: StoredCommand, context: DecisionContext) -> bool:
    """Return whether a stored command may be told about to whoever sends it again.

    A command from before senders were kept has none: its sender may go on repeating it.
    """
    sender = context.incoming.sender
    if context.rules.senders is None or stored.sent_by is None:
        return True
    return sender is not None and sender.is_same(stored.sent_by)


def _of_order(
    message: Capture | Release | Refund | CancelOrder, sender: Sender, rights: Rights, facts: Facts
) -> str | None:
    """Return why the sender may not use an order: another has sent it, or its account is not among the sender's."""
    match message:
        case Refund():
            number = message.original_serial_no
        case CancelOrder():
            number = message.target_serial_no
        case _:
            number = message.hold_serial_no
    order, command = facts.orders.get(number), facts.commands.get(number)
    if order is None:
        return None  # it is not there, and the decision says so
    if not rights.any_order and (command is None or not sender.is_same(command.sent_by)):
        return f"the order {number} was sent by somebody else"
    account = facts.accounts[order.account_id]
    return _of_account(account.user_id, account.account_type, sender, rights) or _of_payee(
        message, sender, rights
    )


def _of_account(user_id: str, account_type: str, sender: Sender, rights: Rights) -> str | None:
    if not rights.reaches_user(user_id):
        return f"users of {sender} begin with {rights.users}"
    if not rights.reaches_type(account_type):
        return f"{sender} has nothing to do with accounts of the type {account_type}"
    return None


def _of_payee(message: AnyCommand, sender: Sender, rights: Rights) -> str | None:
    """Return why no account of this type may be paid; whose it is, the sender may choose."""
    paid = getattr(message, "to_account_type", None)
    if paid is not None and not rights.reaches_type(paid):
        return f"{sender} has nothing to do with accounts of the type {paid}"
    return None
