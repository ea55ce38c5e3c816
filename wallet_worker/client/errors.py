"""Why a call has no answer to return. Each error says whether something was done, and what to do next."""

from wallet_schemas.codes import Code
from wallet_schemas.commands import Fault, Outcome
from wallet_schemas.faults import joined
from wallet_schemas.queries import OrderDetail, QueryRefused


class WalletError(Exception):
    """A call has no answer to return; the text is for a person."""


class InvalidRequestError(WalletError, ValueError):
    """The command or query is not one that the wallet takes, and was not sent; `faults` say why, as the wallet does."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__(joined(faults))
        self.faults = faults


class NotAcceptedError(WalletError):
    """The broker is away or did not take the message: nothing was done.

    `serial_no` is the command's, and absent for a query.
    """

    def __init__(self, message: str, serial_no: str | None = None) -> None:
        super().__init__(message)
        self.serial_no = serial_no


class OutcomeUnknownError(WalletError):
    """The command was sent and no outcome came in time: it may have been applied, or may be applied later.

    Call again with the same `serial_no` until there is an outcome. The command has one effect.
    """

    def __init__(self, message: str, serial_no: str) -> None:
        super().__init__(f"{message}; send it again with the same serial number {serial_no}")
        self.serial_no = serial_no


class UnansweredError(WalletError):
    """A query was sent and no answer came in time. A query changes nothing: ask again."""


class QueryRefusedError(WalletError):
    """The wallet cannot answer the query; `code` says why."""

    def __init__(self, refusal: QueryRefused) -> None:
        super().__init__(f"{refusal.code}: {refusal.message}")
        self.code: Code = refusal.code
        self.message: str = refusal.message


class RefusedError(WalletError):
    """The wallet refused the command, which is final for its serial number; `outcome` is what it said."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(f"{outcome.serial_no} was refused, {outcome.code}: {outcome.code.meaning}")
        self.outcome = outcome
        self.code: Code = outcome.code


class NotSettledError(WalletError):
    """The order was still pending when the time was over; `order` is its state."""

    def __init__(self, order: OrderDetail) -> None:
        super().__init__(f"the order {order.outcome.serial_no} still waits for its payment")
        self.order = order


class NotKnownYetError(WalletError):
    """The wallet had no outcome for the serial number when the time was over.

    That is no proof that the command never arrived: it may still wait in its queue, and be applied later. Send the
    same command again with the same serial number: it is applied once.
    """

    def __init__(self, serial_no: str) -> None:
        super().__init__(
            f"{serial_no} is not known yet: if its command was sent, it may still wait in its queue. Send it again "
            "with the same serial number, and not with a new one"
        )
        self.serial_no = serial_no
