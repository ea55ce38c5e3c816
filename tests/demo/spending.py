"""What is done with the money that has come: paid out, sent, given back, held.

An account never spends more than what its recharges bring that the gateway speaks of at once, whatever else it
receives: so everything here succeeds in whatever order it is applied, and the balances in the end are known before.
"""

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, cycle
from typing import Final

from tests.demo.fates import OUTGOING, PLAYED, Fate
from tests.demo.plan import (
    MINOR_MIN,
    ORDINARY_CHANNELS,
    SANDBOX_SHARE,
    Account,
    Act,
    Sending,
    behaviour_of,
    good,
    refused,
)
from wallet_schemas.codes import Code
from wallet_schemas.commands import Capture, Hold, Recharge, Refund, Release, Transfer, Withdraw
from wallet_schemas.money import to_text
from wallet_schemas.values import OrderStatus, PaymentKind

HOLD_SECONDS: Final = 7_200  # longer than the demo
SHORT_HOLD_SECONDS: Final = 2
PART: Final = 4  # an order takes a fourth of what an account may spend, at most

SUCCEEDED: Final = Fate(OrderStatus.SUCCEEDED)


def spent(
    chance: random.Random, held: Sequence[Account], recharged: Sequence[Sending]
) -> Mapping[Act, list[Sending]]:
    """Return what is sent in the acts that spend, for accounts and what they were recharged with."""
    purse = _Purse(chance, held, recharged)
    acts: dict[Act, list[Sending]] = defaultdict(list)
    acts[Act.SPEND] += _refunds(chance, purse, recharged)
    acts[Act.SPEND] += _withdrawals(chance, purse, max(len(PLAYED), len(recharged) // 10))
    acts[Act.SPEND] += _transfers(purse, max(5, len(recharged) // 5))
    for number in range(1, max(len(_HOLDS), len(recharged) // 20) + 1):
        taken = purse.take()
        if taken is None:
            break
        payer, minor = taken
        for act, sendings in _HOLDS[number % len(_HOLDS)](
            f"H-{number:06}", payer, purse.payee(payer), minor
        ).items():
            acts[act] += sendings
    return acts


class _Purse:
    """What each account may still spend."""

    def __init__(self, chance: random.Random, held: Sequence[Account], recharged: Sequence[Sending]) -> None:
        self._chance = chance
        self._left: dict[Account, int] = defaultdict(int)
        self._by_currency: dict[str, list[Account]] = defaultdict(list)
        for account in held:
            self._by_currency[account[1]].append(account)
        for item in recharged:
            if is_prompt(item):
                for account, minor in item.moved:
                    self._left[account] += minor

    def pay(self, account: Account, minor: int) -> None:
        """It may spend so much less."""
        self._left[account] -= minor

    def take(self) -> tuple[Account, int] | None:
        """Return an account and an amount that it spends from now on; nothing if all have spent all."""
        rich = [account for account, left in self._left.items() if left >= MINOR_MIN]
        if not rich:
            return None
        account = self._chance.choice(rich)
        minor = self._chance.randint(MINOR_MIN // PART, self._left[account] // PART)
        self.pay(account, minor)
        return account, minor

    def payee(self, payer: Account) -> Account | None:
        """Return another account in the same currency, if there is one."""
        others = [account for account in self._by_currency[payer[1]] if account != payer]
        return self._chance.choice(others) if others else None


def is_prompt(sending: Sending) -> bool:
    """Whether the gateway speaks of a recharge at once, and it succeeds."""
    fate = sending.fate
    return fate is not None and fate.status is OrderStatus.SUCCEEDED and not fate.asked and not fate.is_late


def _outgoing(fate: Fate, account: Account, minor: int) -> dict[str, tuple[tuple[Account, int], ...]]:
    """Return what a withdrawal or refund changes in the end."""
    match fate.status:
        case OrderStatus.SUCCEEDED:
            return {"moved": ((account, -minor),)}
        case OrderStatus.PENDING:
            return {"reserved": ((account, minor),)}
        case _:
            return {}


def _refunds(chance: random.Random, purse: _Purse, recharged: Sequence[Sending]) -> Iterator[Sending]:
    """Yield a refund of each recharge whose channel asks for one, of some others, in two parts, and refusals."""
    numbers = count(1)
    refund_channels = {behaviour.refund_channel for behaviour in PLAYED}
    wrong = 0
    for item in recharged:
        if not isinstance(item.command, Recharge):
            continue
        account = (item.command.user_id, item.command.currency)
        if is_prompt(item):
            if item.command.recharge_type not in refund_channels and chance.random() > 1 / 20:
                continue
            fate = OUTGOING[behaviour_of(item.command.recharge_type, PaymentKind.REFUND)]
            part = item.command.amount_minor // PART
            for _ in range(2):
                purse.pay(account, part)
                yield good(_refund(next(numbers), item.command, part), fate, **_outgoing(fate, account, part))
            if wrong < 3:
                more = item.command.amount_minor + 1
                wrong += 1
                yield refused(_refund(next(numbers), item.command, more), Code.AMOUNT_EXCEEDS_ORIGINAL)
        elif item.fate is not None and item.fate.status is OrderStatus.FAILED and chance.random() < 1 / 20:
            yield refused(_refund(next(numbers), item.command, 1), Code.ORDER_NOT_REFUNDABLE)


def _refund(number: int, original: Recharge, minor: int) -> Refund:
    return Refund(
        serial_no=f"F-{number:06}",
        original_serial_no=original.serial_no,
        amount=to_text(minor, original.currency),
        currency=original.currency,
    )


def _withdrawals(chance: random.Random, purse: _Purse, wanted: int) -> Iterator[Sending]:
    behaviours = cycle(PLAYED)
    for number in range(1, wanted + 1):
        taken = purse.take()
        if taken is None:
            return
        account, minor = taken
        sandbox = number <= len(PLAYED) or chance.random() < SANDBOX_SHARE
        channel = next(behaviours).channel if sandbox else chance.choice(ORDINARY_CHANNELS)
        fate = OUTGOING[behaviour_of(channel, PaymentKind.PAYOUT)]
        command = Withdraw(
            serial_no=f"W-{number:06}",
            user_id=account[0],
            amount=to_text(minor, account[1]),
            currency=account[1],
            payout_type=channel,
        )
        yield good(command, fate, **_outgoing(fate, account, minor))


def _transfers(purse: _Purse, wanted: int) -> Iterator[Sending]:
    for number in range(1, wanted + 1):
        taken = purse.take()
        if taken is None:
            return
        payer, minor = taken
        payee = purse.payee(payer)
        if payee is None:
            continue
        command = Transfer(
            serial_no=f"T-{number:06}",
            user_id=payer[0],
            to_user_id=payee[0],
            amount=to_text(minor, payer[1]),
            currency=payer[1],
        )
        yield good(command, SUCCEEDED, moved=((payer, -minor), (payee, minor)))


# What becomes of a hold: it is used up, used in part and kept, let go, forgotten until it is over, or used in part
# and then let go.

Scenes = Mapping[Act, list[Sending]]


def _used_up(serial_no: str, payer: Account, payee: Account | None, minor: int) -> Scenes:
    if payee is None:
        return _let_go(serial_no, payer, payee, minor)
    half = minor // 2
    return {
        Act.SPEND: [_hold(serial_no, payer, minor, OrderStatus.CAPTURED)],
        Act.USE: [
            _capture(f"{serial_no}-1", serial_no, payer, payee, half),
            _capture(f"{serial_no}-2", serial_no, payer, payee, minor - half),
        ],
        Act.LAST: [
            refused(_release_command(f"{serial_no}-3", serial_no), Code.HOLD_NOT_ACTIVE),
        ],
    }


def _used_in_part(serial_no: str, payer: Account, payee: Account | None, minor: int) -> Scenes:
    if payee is None:
        return _let_go(serial_no, payer, payee, minor)
    half = minor // 2
    too_much = _capture_command(f"{serial_no}-2", serial_no, payee, minor + 1)
    return {
        Act.SPEND: [_hold(serial_no, payer, minor, OrderStatus.ACTIVE, reserved=minor - half)],
        Act.USE: [
            _capture(f"{serial_no}-1", serial_no, payer, payee, half),
            refused(too_much, Code.AMOUNT_EXCEEDS_ORIGINAL),
        ],
    }


def _let_go(serial_no: str, payer: Account, _: Account | None, minor: int) -> Scenes:
    return {
        Act.SPEND: [_hold(serial_no, payer, minor, OrderStatus.RELEASED)],
        Act.USE: [good(_release_command(f"{serial_no}-1", serial_no), SUCCEEDED)],
    }


def _forgotten(serial_no: str, payer: Account, payee: Account | None, minor: int) -> Scenes:
    too_late = [] if payee is None else [_capture_command(f"{serial_no}-1", serial_no, payee, minor)]
    return {
        Act.SPEND: [_hold(serial_no, payer, minor, OrderStatus.EXPIRED, seconds=SHORT_HOLD_SECONDS)],
        Act.END: [refused(item, Code.HOLD_NOT_ACTIVE) for item in too_late],
    }


def _used_and_let_go(serial_no: str, payer: Account, payee: Account | None, minor: int) -> Scenes:
    if payee is None:
        return _let_go(serial_no, payer, payee, minor)
    return {
        Act.SPEND: [_hold(serial_no, payer, minor, OrderStatus.RELEASED)],
        Act.USE: [_capture(f"{serial_no}-1", serial_no, payer, payee, minor // 2)],
        Act.END: [good(_release_command(f"{serial_no}-2", serial_no), SUCCEEDED)],
        Act.LAST: [refused(_release_command(f"{serial_no}-3", serial_no), Code.HOLD_NOT_ACTIVE)],
    }


_HOLDS: Final = (_used_up, _used_in_part, _let_go, _forgotten, _used_and_let_go)


def _hold(
    serial_no: str,
    payer: Account,
    minor: int,
    status: OrderStatus,
    *,
    seconds: int = HOLD_SECONDS,
    reserved: int = 0,
) -> Sending:
    command = Hold(
        serial_no=serial_no,
        user_id=payer[0],
        amount=to_text(minor, payer[1]),
        currency=payer[1],
        expires_in_seconds=seconds,
    )
    return good(command, Fate(status), reserved=((payer, reserved),) if reserved else ())


def _capture(serial_no: str, hold: str, payer: Account, payee: Account, minor: int) -> Sending:
    return good(
        _capture_command(serial_no, hold, payee, minor), SUCCEEDED, moved=((payer, -minor), (payee, minor))
    )


def _capture_command(serial_no: str, hold: str, payee: Account, minor: int) -> Capture:
    return Capture(
        serial_no=serial_no,
        hold_serial_no=hold,
        amount=to_text(minor, payee[1]),
        currency=payee[1],
        to_user_id=payee[0],
    )


def _release_command(serial_no: str, hold: str) -> Release:
    return Release(serial_no=serial_no, hold_serial_no=hold)
