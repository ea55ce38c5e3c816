"""A client for services that use the wallet: call a method, get the outcome.

    async with WalletClient("amqp://user:password@host/") as wallet:
        outcome = await wallet.recharge("alice", "100.00", "TWD", "card", serial_no="R-1")

Every command can be called again with the same serial number, after whatever went wrong: it has one effect,
and every call gets the same outcome. Choose the number, and store it, before the first call. A refusal is an
outcome too: look at `outcome.status`, or let `result_of` raise.

Thousands of calls may be under way on one client, on one connection (`rpc.py`). When it is lost, the calls under
way fail with what is known about them, and the next call connects anew.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Annotated, Any, Final, Self, TypeAlias, TypedDict, TypeVar, Unpack

from pydantic import Field, TypeAdapter, ValidationError

from wallet_schemas import commands
from wallet_schemas.codes import Code
from wallet_schemas.commands import Command, Outcome
from wallet_schemas.faults import faults_of
from wallet_schemas.message import JsonObject, Message
from wallet_schemas.names import DEFAULT_ACCOUNT_TYPE, WALLET_COMMANDS, WALLET_QUERIES
from wallet_schemas.queries import (
    AccountList,
    FindOrders,
    GetAccount,
    GetHistory,
    GetOrder,
    GetStatement,
    History,
    OrderDetail,
    OrderList,
    QueryRefused,
    Statement,
)
from wallet_schemas.values import (
    LIST_DEFAULT,
    STATEMENT_LINES_DEFAULT,
    STATEMENT_LINES_MAX,
    OrderStatus,
    OrderType,
    OutcomeStatus,
)
from wallet_worker.broker.connection import BrokerUnavailableError
from wallet_worker.client.errors import (
    InvalidRequestError,
    NotAcceptedError,
    NotKnownYetError,
    NotSettledError,
    OutcomeUnknownError,
    QueryRefusedError,
    RefusedError,
    UnansweredError,
    WalletError,
)
from wallet_worker.client.rpc import PublishFailed, ReplyTimeout, Rpc

__all__ = [
    "CallOptions",
    "InvalidRequestError",
    "NotAcceptedError",
    "NotKnownYetError",
    "NotSettledError",
    "OutcomeUnknownError",
    "QueryRefusedError",
    "RefusedError",
    "UnansweredError",
    "WalletClient",
    "WalletError",
    "new_serial_no",
    "result_of",
]

TIMEOUT_SECONDS: Final = 10.0
SETTLED_POLL_SECONDS: Final = (
    0.05  # a card takes about a second; doubled each time, so that hours cost little
)
SETTLED_POLL_SECONDS_MAX: Final = 2.0


class CallOptions(TypedDict, total=False):
    """What every command may be called with.

    `serial_no` makes a call safe to repeat: choose it and store it before the first call. Without it the client makes
    one up, which is lost when the process is. `metadata` is stored with the order and shown with it. Decided later than
    `valid_until`, the command is refused. The call ends within `timeout_seconds`, by default that of the client.
    """

    serial_no: str | None
    metadata: Mapping[str, str] | None
    valid_until: datetime | None
    timeout_seconds: float | None


def new_serial_no() -> str:
    """Return a serial number that nobody else has; later ones sort after earlier ones."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(6)}"


AmountGiven: TypeAlias = str | Decimal
"""An amount in major units: a decimal string, or a Decimal. A float is no amount."""

R = TypeVar("R", bound=JsonObject)


def result_of(outcome: Outcome, kind: type[R]) -> R:
    """Return what an applied command made, which is of this kind; raises RefusedError if it was refused.

        order = result_of(await wallet.transfer("alice", "bob", "25.00", "TWD", serial_no="T-1"), OrderView)

    OpenAccountResult of an opening, AccountView of the other commands of accounts, RechargeResult of a recharge,
    OrderView of the other orders; TypeError for another kind.
    """
    if outcome.status is OutcomeStatus.REFUSED:
        raise RefusedError(outcome)
    if not isinstance(outcome.result, kind):
        raise TypeError(f"the result of {outcome.serial_no} is no {kind.__name__}")
    return outcome.result


Answer = TypeVar("Answer", bound=Message)

_OUTCOME: Final = TypeAdapter(Outcome)
_ACCOUNTS: Final[TypeAdapter[AccountList | QueryRefused]] = TypeAdapter(
    Annotated[AccountList | QueryRefused, Field(discriminator="type")]
)
_ORDER: Final[TypeAdapter[OrderDetail | QueryRefused]] = TypeAdapter(
    Annotated[OrderDetail | QueryRefused, Field(discriminator="type")]
)
_ORDERS: Final[TypeAdapter[OrderList | QueryRefused]] = TypeAdapter(
    Annotated[OrderList | QueryRefused, Field(discriminator="type")]
)
_HISTORY: Final[TypeAdapter[History | QueryRefused]] = TypeAdapter(
    Annotated[History | QueryRefused, Field(discriminator="type")]
)
_STATEMENT: Final[TypeAdapter[Statement | QueryRefused]] = TypeAdapter(
    Annotated[Statement | QueryRefused, Field(discriminator="type")]
)


M = TypeVar("M", bound=Message)

# Fields that have another name in Python than on the wire.
_ON_THE_WIRE: Final = MappingProxyType({"from_time": "from", "to_time": "to"})


def _build(kind: type[M], **fields: Any) -> M:
    """Return a message; raises InvalidRequestError, with the sentences that the wallet would answer."""
    if isinstance(amount := fields.get("amount"), Decimal):
        fields["amount"] = format(amount, "f")
    try:
        return kind(**fields)
    except ValidationError as exc:
        raise InvalidRequestError(faults_of(exc, name=lambda field: _ON_THE_WIRE.get(field, field))) from None


class WalletClient:
    """Sends commands and queries, and waits for what the wallet says.

    Each call ends within `timeout_seconds`, or within its own. `name` is what operators see in the broker's list.
    """

    def __init__(
        self, amqp_url: str, *, timeout_seconds: float = TIMEOUT_SECONDS, name: str = "wallet client"
    ) -> None:
        self._rpc = Rpc(amqp_url, name=name)
        self._timeout_seconds = timeout_seconds

    async def __aenter__(self) -> Self:
        """Be connected; raises NotAcceptedError, or WrongUrlError for a text that is not the address of a broker."""
        try:
            await self._rpc.open()
        except BrokerUnavailableError as exc:
            raise NotAcceptedError(str(exc)) from exc
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Calls that are still under way fail with what is known about them."""
        await self._rpc.close()

    # Commands: each returns the outcome, and raises what `apply` does.

    async def open_account(
        self,
        user_id: str,
        currency: str,
        account_type: str = DEFAULT_ACCOUNT_TYPE,
        **options: Unpack[CallOptions],
    ) -> Outcome:
        """Open an account; the result is an OpenAccountResult."""
        command = partial(
            _build,
            commands.OpenAccount,
            user_id=user_id,
            account_type=account_type,
            currency=currency,
        )
        return await self._apply_new(command, **options)

    async def freeze_account(
        self,
        user_id: str,
        currency: str,
        reason: str,
        account_type: str = DEFAULT_ACCOUNT_TYPE,
        **options: Unpack[CallOptions],
    ) -> Outcome:
        """Freeze an account: debits are refused, credits accepted. The result is an AccountView."""
        command = partial(
            _build,
            commands.FreezeAccount,
            user_id=user_id,
            account_type=account_type,
            currency=currency,
            reason=reason,
        )
        return await self._apply_new(command, **options)

    async def unfreeze_account(
        self,
        user_id: str,
        currency: str,
        reason: str,
        account_type: str = DEFAULT_ACCOUNT_TYPE,
        **options: Unpack[CallOptions],
    ) -> Outcome:
        """Unfreeze an account: debits are accepted again. The result is an AccountView."""
        command = partial(
            _build,
            commands.UnfreezeAccount,
            user_id=user_id,
            account_type=account_type,
            currency=currency,
            reason=reason,
        )
        return await self._apply_new(command, **options)

    async def close_account(
        self,
        user_id: str,
        currency: str,
        reason: str,
        account_type: str = DEFAULT_ACCOUNT_TYPE,
        **options: Unpack[CallOptions],
    ) -> Outcome:
        """Close an empty account for good. The result is an AccountView."""
        command = partial(
            _build,
            commands.CloseAccount,
            user_id=user_id,
            account_type=account_type,
            currency=currency,
            reason=reason,
        )
        return await self._apply_new(command, **options)

    async def recharge(
        self,
        user_id: str,
        amount: AmountGiven,
        currency: str,
        recharge_type: str,
        account_type: str = DEFAULT_ACCOUNT_TYPE,
        *,
        instrument: str | None = None,
        return_url: str | None = None,
        **options: Unpack[CallOptions],
    ) -> Outcome:
        """Order a recharge. The result is a RechargeResult; the order is pending.

        How the payer pays and the money come later: `wait_until_payable` and `wait_until_settled` wait for them, and
        events tell of them.
        `instrument` and `return_url` are handed on to the gateway.
        """
        further = {"instrument": instrument, "return_url": return_url}
        given = {name: value for name, value in further.items() if value is not None}
        command = partial(
            _build,
            commands.RechargeV2 if given else commands.Recharge,
            user_id=user_id,
            account_type=account_type,
            amount=amount,
            currency=currency,
            recharge_type=recharge_type,
            **given,
        )
        return await self._apply_new(command, **options)

    async def withdraw(
        self,
        user_id: str,
        amount: AmountGiven,
        currency: str,
        payout_type: str,
        account_type: str = DEFAULT_ACCOUNT_TYPE,
        *,
        instrument: str | None = None,
        **options: Unpack[CallOptions],
    ) -> Outcome:
        """Order a withdrawal. The result is an OrderView; the order is pending and the amount reserved.

        Whether it was paid out is said later: `wait_until_settled` waits for it, and events tell of it.
        `instrument` is handed on to the gateway.
        """
        further = {"instrument": instrument}
        given = {name: value for name, value in further.items() if value is not None}
        command = partial(
            _build,
            commands.WithdrawV2 if given else commands.Withdraw,
            user_id=user_id,
            account_type=account_type,
            amount=amount,
            currency=currency,
            payout_type=payout_type,
            **given,
        )
        return await self._apply_new(command, **options)

    async def transfer(
        self,
        user_id: str,
        to_user_id: str,
        amount: AmountGiven,
        currency: str,
        account_type: str = DEFAULT_ACCOUNT_TYPE,
        to_account_type: str = DEFAULT_ACCOUNT_TYPE,
        **options: Unpack[CallOptions],
    ) -> Outcome:
        """Move money from one account to another at once. The result is an OrderView."""
        command = partial(
            _build,
            commands.Transfer,
            user_id=user_id,
            account_type=account_type,
            to_user_id=to_user_id,
            to_account_type=to_account_type,
            amount=amount,
            currency=currency,
        )
        return await self._apply_new(command, **options)

    async def refund(
        self,
        original_serial_no: str,
        amount: AmountGiven,
        currency: str,
        **options: Unpack[CallOptions],
    ) -> Outcome:
        """Order a refund of a recharge or a part of it. The result is an OrderView, pending, with the amount reserved.

        Whether it was given back is said later: `wait_until_settled` waits for it, and events tell of it.
        """
        command = partial(
            _build,
            commands.Refund,
            original_serial_no=original_serial_no,
            amount=amount,
            currency=currency,
        )
        return await self._apply_new(command, **options)

    async def hold(
        self,
        user_id: str,
        amount: AmountGiven,
        currency: str,
        expires_in_seconds: int,
        account_type: str = DEFAULT_ACCOUNT_TYPE,
        **options: Unpack[CallOptions],
    ) -> Outcome:
        """Reserve money, to be captured or released later. The result is an OrderView with `remaining`."""
        command = partial(
            _build,
            commands.Hold,
            user_id=user_id,
            account_type=account_type,
            amount=amount,
            currency=currency,
            expires_in_seconds=expires_in_seconds,
        )
        return await self._apply_new(command, **options)

    async def capture(
        self,
        hold_serial_no: str,
        to_user_id: str,
        amount: AmountGiven,
        currency: str,
        to_account_type: str = DEFAULT_ACCOUNT_TYPE,
        **options: Unpack[CallOptions],
    ) -> Outcome:
        """Move reserved money to another account at once. The result is an OrderView."""
        command = partial(
            _build,
            commands.Capture,
            hold_serial_no=hold_serial_no,
            amount=amount,
            currency=currency,
            to_user_id=to_user_id,
            to_account_type=to_account_type,
        )
        return await self._apply_new(command, **options)

    async def cancel(
        self,
        target_serial_no: str,
        reason: str | None = None,
        **options: Unpack[CallOptions],
    ) -> Outcome:
        """Cancel a pending recharge, or ask the gateway to stop a pending payout. The result is an OrderView."""
        command = partial(_build, commands.CancelOrder, target_serial_no=target_serial_no, reason=reason)
        return await self._apply_new(command, **options)

    async def release(
        self,
        hold_serial_no: str,
        **options: Unpack[CallOptions],
    ) -> Outcome:
        """Give back what is left of a hold; the result is an OrderView, whose amount that was."""
        command = partial(
            _build,
            commands.Release,
            hold_serial_no=hold_serial_no,
        )
        return await self._apply_new(command, **options)

    async def _apply_new(
        self,
        build: Callable[..., Command],
        *,
        serial_no: str | None = None,
        metadata: Mapping[str, str] | None = None,
        valid_until: datetime | None = None,
        timeout_seconds: float | None = None,
    ) -> Outcome:
        # No `**` of any kind here: an option that is misspelt has to be a TypeError, above all the serial number.
        command = build(
            serial_no=serial_no or new_serial_no(), metadata=_metadata(metadata), valid_until=valid_until
        )
        return await self.apply(command, timeout_seconds=timeout_seconds)

    async def apply(self, command: Command, *, timeout_seconds: float | None = None) -> Outcome:
        """Send a command and return its outcome, also where that is a refusal: look at `outcome.status`.

        Raises NotAcceptedError if nothing was done, and OutcomeUnknownError if that is not known. Both have the
        serial number, with which it is safe to call again. The methods for each command
        raise InvalidRequestError, which is a ValueError too, for a command that is malformed.
        """

        def read(body: bytes) -> Outcome:
            outcome = _OUTCOME.validate_json(body)
            if outcome.serial_no != command.serial_no:
                raise ValueError("it speaks of another serial number")
            return outcome

        try:
            return await self._rpc.call(WALLET_COMMANDS, command, read, self._seconds(timeout_seconds))
        except PublishFailed as exc:
            raise NotAcceptedError(str(exc), command.serial_no) from exc
        except ReplyTimeout as exc:
            raise OutcomeUnknownError(str(exc), command.serial_no) from exc

    async def submit(self, command: Command, *, timeout_seconds: float | None = None) -> None:
        """Send a command and return when the broker has it, without waiting for the outcome.

        Raises NotAcceptedError and OutcomeUnknownError, as `apply` does.
        """
        try:
            await self._rpc.send(WALLET_COMMANDS, command, self._seconds(timeout_seconds))
        except PublishFailed as exc:
            raise NotAcceptedError(str(exc), command.serial_no) from exc
        except ReplyTimeout as exc:
            raise OutcomeUnknownError(str(exc), command.serial_no) from exc

    # Queries: each raises QueryRefusedError, NotAcceptedError or UnansweredError.

    async def account(
        self,
        user_id: str,
        account_type: str | None = None,
        currency: str | None = None,
        *,
        timeout_seconds: float | None = None,
    ) -> AccountList:
        """Return the accounts of a user, all or those of one type or currency; perhaps none."""
        query = _build(GetAccount, user_id=user_id, account_type=account_type, currency=currency)
        return await self._ask(query, _ACCOUNTS, timeout_seconds)

    async def order(self, serial_no: str, *, timeout_seconds: float | None = None) -> OrderDetail:
        """Return the outcome of a serial number, and its order as it stands now.

        Raises QueryRefusedError with ORDER_NOT_FOUND where there is no outcome yet: that is no proof that the command
        never arrived, because it may still wait in its queue.
        """
        return await self._ask(_build(GetOrder, serial_no=serial_no), _ORDER, timeout_seconds)

    async def statement(
        self,
        user_id: str,
        currency: str,
        account_type: str = DEFAULT_ACCOUNT_TYPE,
        *,
        from_time: datetime | None = None,
        to_time: datetime | None = None,
        after_line_no: int | None = None,
        limit: int = STATEMENT_LINES_DEFAULT,
        timeout_seconds: float | None = None,
    ) -> Statement:
        """Return a page of an account's entries, oldest first, and the balances before and after them."""
        query = _build(
            GetStatement,
            user_id=user_id,
            account_type=account_type,
            currency=currency,
            from_time=from_time,
            to_time=to_time,
            after_line_no=after_line_no,
            limit=limit,
        )
        return await self._ask(query, _STATEMENT, timeout_seconds)

    async def statement_pages(
        self,
        user_id: str,
        currency: str,
        account_type: str = DEFAULT_ACCOUNT_TYPE,
        *,
        from_time: datetime | None = None,
        to_time: datetime | None = None,
        after_line_no: int | None = None,
        limit: int = STATEMENT_LINES_MAX,
        timeout_seconds: float | None = None,
    ) -> AsyncIterator[Statement]:
        """Yield the pages of a statement, at least one, until the last line that there was."""
        while True:
            page = await self.statement(
                user_id,
                currency,
                account_type,
                from_time=from_time,
                to_time=to_time,
                after_line_no=after_line_no,
                limit=limit,
                timeout_seconds=timeout_seconds,
            )
            yield page
            if page.next_after_line_no is None:
                return
            after_line_no = page.next_after_line_no

    async def orders(
        self,
        user_id: str,
        *,
        account_type: str | None = None,
        currency: str | None = None,
        order_types: Sequence[OrderType] | None = None,
        statuses: Sequence[OrderStatus] | None = None,
        from_time: datetime | None = None,
        to_time: datetime | None = None,
        metadata: Mapping[str, str] | None = None,
        limit: int = LIST_DEFAULT,
        after: str | None = None,
        timeout_seconds: float | None = None,
    ) -> OrderList:
        """Return a page of a user's orders, newest first; go by its `next_after`, None at the end."""
        query = _build(
            FindOrders,
            user_id=user_id,
            account_type=account_type,
            currency=currency,
            order_types=None if order_types is None else list(order_types),
            statuses=None if statuses is None else list(statuses),
            from_time=from_time,
            to_time=to_time,
            metadata=_metadata(metadata),
            limit=limit,
            after=after,
        )
        return await self._ask(query, _ORDERS, timeout_seconds)

    async def history(
        self,
        user_id: str,
        currency: str,
        account_type: str = DEFAULT_ACCOUNT_TYPE,
        *,
        account_no: str | None = None,
        before_line_no: int | None = None,
        limit: int = LIST_DEFAULT,
        timeout_seconds: float | None = None,
    ) -> History:
        """Return a page of what moved on an account, newest first, and on the first page what waits for a payment."""
        query = _build(
            GetHistory,
            user_id=user_id,
            account_type=account_type,
            currency=currency,
            account_no=account_no,
            before_line_no=before_line_no,
            limit=limit,
        )
        return await self._ask(query, _HISTORY, timeout_seconds)

    async def wait_until_settled(
        self, serial_no: str, *, timeout_seconds: float | None = None
    ) -> OrderDetail:
        """Return the order when it no longer waits for the gateway; one that was refused has `order` None.

        It asks again and again, a little less often each time, for `timeout_seconds`: by default as long as a call of
        this client may take. A hold waits for nobody: it is returned at once, active. "Not found" is waited out like
        "pending", because a query may be answered before the command that is in a queue.
        Events would be quicker by some milliseconds, but one that was published before the subscription is missed,
        every client would receive everybody's, and it would need a queue of its own.
        Raises NotSettledError, or NotKnownYetError, when the time is over (and the query that was under way then is
        answered), and what `order` raises for any other reason.
        """
        return await self._wait_until(_is_settled, serial_no, timeout_seconds)

    async def wait_until_payable(
        self, serial_no: str, *, timeout_seconds: float | None = None
    ) -> OrderDetail:
        """Return the order when it has `instructions` for its payer, or when it no longer waits for the gateway.

        It asks again and again, and raises, as `wait_until_settled` does. A payment that needs nobody's instructions
        is returned when it has ended.
        """
        return await self._wait_until(_is_payable, serial_no, timeout_seconds)

    async def _wait_until(
        self, is_enough: Callable[[OrderDetail], bool], serial_no: str, timeout_seconds: float | None
    ) -> OrderDetail:
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + self._seconds(timeout_seconds), SETTLED_POLL_SECONDS
        while True:
            detail = await self._order_if_known(serial_no)
            if detail is not None and is_enough(detail):
                return detail
            left = deadline - loop.time()
            if left <= 0:
                raise NotKnownYetError(serial_no) if detail is None else NotSettledError(detail)
            await asyncio.sleep(min(pause, left))
            pause = min(2 * pause, SETTLED_POLL_SECONDS_MAX)

    async def _order_if_known(self, serial_no: str) -> OrderDetail | None:
        """Return the outcome and the order of a serial number; None if the outcome is not known yet."""
        try:
            return await self.order(serial_no)
        except QueryRefusedError as exc:
            if exc.code is not Code.ORDER_NOT_FOUND:
                raise
            return None

    async def _ask(
        self, query: Message, answers: "TypeAdapter[Answer | QueryRefused]", timeout_seconds: float | None
    ) -> Answer:
        try:
            answer = await self._rpc.call(
                WALLET_QUERIES, query, answers.validate_json, self._seconds(timeout_seconds)
            )
        except PublishFailed as exc:
            raise NotAcceptedError(str(exc)) from exc
        except ReplyTimeout as exc:
            raise UnansweredError(str(exc)) from exc
        if isinstance(answer, QueryRefused):
            raise QueryRefusedError(answer)
        return answer

    def _seconds(self, timeout_seconds: float | None) -> float:
        return self._timeout_seconds if timeout_seconds is None else timeout_seconds


def _is_settled(detail: OrderDetail) -> bool:
    return detail.order is None or detail.order.status is not OrderStatus.PENDING


def _is_payable(detail: OrderDetail) -> bool:
    return detail.instructions is not None or _is_settled(detail)


def _metadata(metadata: Mapping[str, str] | None) -> dict[str, str] | None:
    return None if metadata is None else dict(metadata)
