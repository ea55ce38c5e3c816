"""What the wallet knows of what a letter is about: outcome, order, account, and what the gateway has said."""

import json
from dataclasses import replace

import asyncpg

from wallet_schemas.encode import encode
from wallet_schemas.events import AccountView
from wallet_schemas.names import BODY_BYTES_MAX, DEFAULT_ACCOUNT_TYPE, WALLET_COMMANDS
from wallet_schemas.queries import GetOrder, OrderDetail
from wallet_schemas.values import AccountStatus
from wallet_worker.core import accounts as core_accounts
from wallet_worker.dead_letters import masking
from wallet_worker.dead_letters.advice import Situation
from wallet_worker.dead_letters.model.actors import Actor
from wallet_worker.dead_letters.model.letters import LedgerView
from wallet_worker.dead_letters.model.predictions import Prediction
from wallet_worker.dead_letters.model.states import LetterState
from wallet_worker.queries import answers
from wallet_worker.settings.operators import Role
from wallet_worker.store import accounts, orders, payment_results
from wallet_worker.store.dead_letters import letters
from wallet_worker.store.dead_letters.letters import WholeLetterRow

RESULTS_MAX = 100


async def truth_of(connection: asyncpg.Connection, row: WholeLetterRow, actor: Actor) -> LedgerView:
    """Return what the wallet knows of the letter's serial number, order and account."""
    masks, serial_no = actor.role < Role.OPERATOR, row.serial_no
    if serial_no is None:
        return LedgerView(None, None, None, ())
    answer = await answers.answer(connection, GetOrder(serial_no=serial_no))
    outcome, order = None, None
    if isinstance(answer, OrderDetail):
        outcome, order = json.loads(encode(answer.outcome)), answer.order
    account = await _account(connection, row, order.serial_no if order else None)
    results = await payment_results.of_order(connection, serial_no, limit=RESULTS_MAX)
    if masks:
        outcome = masking.masked_members(outcome) if outcome else None
        order = masking.masked_view(order) if order else None
        account = masking.masked_view(account) if account else None
        results = [replace(result, reason=masking.MASK if result.reason else None) for result in results]
    return LedgerView(outcome, order, account, tuple(results))


async def situation_of(
    connection: asyncpg.Connection,
    row: WholeLetterRow,
    truth: LedgerView,
    prediction: Prediction,
    replays_max: int,
) -> Situation:
    """Return what the advice for a letter depends on."""
    order, serial_no = truth.order, row.serial_no
    commands = (
        await letters.duplicates(connection, [serial_no], WALLET_COMMANDS, row.letter_id)
        if serial_no is not None
        else []
    )
    return Situation(
        reason=row.reason,
        source=row.source,
        state=LetterState(row.state),
        verdict=prediction.verdict,
        code=prediction.code,
        worn=row.replays >= replays_max,
        message_type=row.message_type or "",
        order_type=order.order_type if order else None,
        order_status=order.status if order else None,
        account_closed=truth.account is not None and truth.account.status is AccountStatus.CLOSED,
        has_outcome=truth.outcome is not None,
        command_waits=any(command.state == LetterState.WAITING for command in commands),
    )


async def _account(
    connection: asyncpg.Connection, row: WholeLetterRow, serial_no: str | None
) -> AccountView | None:
    """Return the account of an order, whatever was opened after it; without one, that which the message names."""
    order = await orders.by_serial_no(connection, serial_no) if serial_no else None
    if order is not None:
        return core_accounts.view((await accounts.by_id(connection, [order.account_id]))[order.account_id])
    try:
        content = json.loads(row.body) if len(row.body) <= BODY_BYTES_MAX else {}
    except (ValueError, RecursionError):
        content = {}
    content = content if isinstance(content, dict) else {}
    if row.user_id is None:
        return None
    for account in await accounts.of_user(connection, row.user_id, None, None):
        if account.currency == content.get("currency") and account.account_type == content.get(
            "account_type", DEFAULT_ACCOUNT_TYPE
        ):
            return core_accounts.view(account)
    return None
