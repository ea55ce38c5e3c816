"""What the wallet knows of what a letter is about: outcome, order, account, and what the gateway has said."""

import json
from typing import Any

import asyncpg

from wallet_schemas.encode import encode
from wallet_schemas.queries import GetOrder, OrderDetail
from wallet_worker.core import accounts as core_accounts
from wallet_worker.dead_letters import masking
from wallet_worker.dead_letters.model.records import Actor, LedgerView
from wallet_worker.queries import answers
from wallet_worker.settings.operators import Role
from wallet_worker.store import accounts
from wallet_worker.store.dead_letters.ledger_view import results


async def truth_of(connection: asyncpg.Connection, row: asyncpg.Record, actor: Actor) -> LedgerView:
    """Return what the wallet knows of the letter's serial number, order and account."""
    masks, serial_no = actor.role < Role.OPERATOR, row["serial_no"]
    if serial_no is None:
        return LedgerView(None, None, None, ())
    found = await answers.answer(connection, GetOrder(serial_no=serial_no))
    outcome, order = None, None
    if isinstance(found, OrderDetail):
        outcome, order = json.loads(encode(found.outcome)), found.order
    account = await _account(
        connection, row, order.user_id if order else None, order.account_no if order else None
    )
    said = [dict(one) for one in await results(connection, serial_no)]
    if masks:
        outcome = masking.masked_members(outcome) if outcome else None
        order = masking.masked_view(order) if order else None
        account = masking.masked_view(account) if account else None
        said = [one | {"reason": "…" if one["reason"] else None} for one in said]
    return LedgerView(outcome, order, account, tuple(said))


async def _account(
    connection: asyncpg.Connection, row: asyncpg.Record, user_id: str | None, account_no: str | None
) -> Any:
    """Return the account of the order, or else the one that the letter names, if there is one."""
    try:
        said = json.loads(row["body"]) if len(row["body"]) <= 65_536 else {}  # noqa: PLR2004 -- no message is larger
    except (ValueError, RecursionError):
        said = {}
    said = said if isinstance(said, dict) else {}
    user_id = user_id or row["user_id"]
    if user_id is None:
        return None
    for account in await accounts.of_user(connection, user_id, None, None):
        fits = (
            account.account_no == account_no
            if account_no
            else account.currency == said.get("currency")
            and account.account_type == said.get("account_type", "basic")
        )
        if fits:
            return core_accounts.view(account)
    return None
