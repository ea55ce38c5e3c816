"""The load: commands of every kind, good and bad, at a steady rate, from a seed.

Its answers come back as events; what is not confirmed is sent again, as an upstream service would.
"""

import asyncio
import itertools
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from tests.faults.gateway import said
from tests.faults.model import PAYOUTS, Channel, minor, text
from tests.faults.notebook import Answer, Kind, Note
from tests.faults.wire import Letter, Sender
from tests.journeys.messages import (
    Json,
    account_command,
    capture,
    encoded,
    hold,
    open_account,
    recharge,
    refund,
    release,
    transfer,
    withdraw,
)
from tests.journeys.upstream import COMMANDS, RESULTS

T = TypeVar("T")

TICK_SECONDS: Final = 0.1
CURRENCIES: Final = ("TWD", "TWD", "TWD", "JPY", "KWD")
ORDERS_KEPT: Final = 5_000  # to refer to when they are heard of
HOT_SHARE: Final = 0.3  # of all recharges goes to one account
HOLD_SECONDS: Final = 86_400  # no clock of these tests jumps so far that a hold would expire, and rightly so

CHANNELS: Final = {
    Channel.CARD: 60,
    Channel.AGAIN: 12,
    Channel.DECLINED: 10,
    Channel.LATE: 6,
    Channel.FORGED: 4,
    Channel.MISCOUNTED: 3,
    Channel.EARLY: 5,
}

POISON: Final = (
    b'{"type":"order.recharge.v1","serial_no":"%s","user_id":"u","amount":1e2,"currency":"TWD","recharge_type":"card"}',
    b'{"type":"order.recharge.v9","serial_no":"%s"}',
    b'{"type":"account.open.v1","serial_no":"%s","user_id":"u","currency":"TWD","colour":"red"}',
    b"%s is no JSON",
    b"\xff\xfe%s",
    b'{"type":"account.open.v1","serial_no":"%s","user_id":"a\\u0000b","currency":"TWD"}',
    b'{"%s":' + b"[" * 3_000,
)


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who may be paid."""

    user_id: str
    currency: str


class Load:
    """Commands from a seed. `accounts` are open before the first of them is recharged."""

    def __init__(self, sender: Sender, seed: int, *, accounts: int, rate: float) -> None:
        self._sender = sender
        self._random = random.Random(seed)
        self._numbers = itertools.count(1)
        self._rate = rate
        self._sent: deque[Letter] = deque(maxlen=2_000)
        self._applied: deque[str] = deque(maxlen=500)
        self._orders: dict[str, Json] = {}
        self._holds: deque[Json] = deque(maxlen=50)
        self._refundable: deque[Json] = deque(maxlen=500)
        self._sending: set[asyncio.Task[None]] = set()
        self.accounts = [Account(f"u-{number}", self._one_of(CURRENCIES)) for number in range(accounts)]
        self.failures: list[BaseException] = []

    def openings(self) -> list[Letter]:
        """Return the commands that open the accounts, to be applied before anything else is sent."""
        return [self._open(account) for account in self.accounts]

    def hear(self, event_type: str, serial_no: str) -> None:
        """Hear what became of a command: with its outcome, other content under its number is a conflict."""
        if event_type in {"account.opened.v1", "order.pending.v1", "order.active.v1"}:
            self._applied.append(serial_no)
        order = self._orders.get(serial_no, {})
        if event_type == "order.active.v1" and order:
            self._holds.append(order)
        if event_type == "order.succeeded.v1" and order.get("recharge_type") in {Channel.CARD, Channel.AGAIN}:
            self._refundable.append(order)

    async def run(self, stopping: asyncio.Event) -> None:
        """Send until told to stop; return when what must be confirmed is confirmed."""
        due = 0.0
        while not stopping.is_set():
            due += self._rate * TICK_SECONDS
            letters = list(itertools.chain.from_iterable(self._some() for _ in range(int(due))))
            due -= int(due)
            self._send(letters)
            await asyncio.sleep(TICK_SECONDS)
        while self._sending:
            await asyncio.wait(self._sending)

    def some(self, count: int) -> list[Letter]:
        """Return this many recharges of the ordinary kind, each new."""
        return [self._recharge(Channel.CARD) for _ in range(count)]

    def probe(self) -> Letter:
        """Return a command that opens an account of somebody new."""
        return self._open(Account(self._serial("someone"), "TWD"))

    def _send(self, letters: list[Letter]) -> None:
        # A broker that answers nobody holds the senders up, and does not lower the pressure: but there is a bound.
        if len(self._sending) < 300:
            task = asyncio.create_task(self._deliver(letters), name="send")
            self._sending.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self.failures.append(failure)

    async def _deliver(self, letters: list[Letter]) -> None:
        answers = await self._sender.send(letters)
        # Half of the callers give up on an unknown answer, the others send it again until they know.
        again = [
            letter
            for letter, answer in zip(letters, answers, strict=True)
            if answer is not Answer.CONFIRMED
            and (_must_arrive(letter) or (answer is Answer.UNKNOWN and self._random.random() < 0.5))
        ]
        await self._sender.send_until_confirmed(again)

    def _some(self) -> list[Letter]:
        """Return one command, or what belongs together."""
        draw = self._random.random()
        if draw < 0.25 and self._sent:
            spent = self._spend()
            if spent is not None:
                return [spent]
        if draw < 0.80 or not self._sent:
            channel = self._random.choices(list(CHANNELS), list(CHANNELS.values()))[0]
            letter = self._recharge(channel)
            if channel is Channel.EARLY:
                fields = letter.note.fields
                return [
                    said(letter.note.serial_no, "succeeded", fields["amount"], fields["currency"]),
                    letter,
                ]
            return [letter]
        if draw < 0.88:
            return [self._one_of(list(self._sent))] * self._one_of((1, 1, 1, 2, 10))
        if draw < 0.92:
            return [self.probe()] if draw < 0.90 else self._turns()
        if draw < 0.94:
            return [self._open(self._one_of(self.accounts), expects="ACCOUNT_EXISTS")]
        if draw < 0.96:
            return [self._recharge(Channel.CARD, Account(self._serial("nobody"), "TWD"), "ACCOUNT_NOT_FOUND")]
        if draw < 0.98 and self._applied:
            return [self._conflict(self._one_of(list(self._applied)))]
        return [self.poison()]

    def poison(self) -> Letter:
        """Return bytes that nobody can read, different each time, for either queue."""
        name = self._serial("poison")
        body = self._one_of(POISON) % name.encode()
        return Letter(Note(Kind.POISON, name, body), self._one_of((COMMANDS, COMMANDS, RESULTS)))

    def _open(self, account: Account, *, expects: str = "OK") -> Letter:
        command = open_account(account.user_id, serial_no=self._serial("O"), currency=account.currency)
        return self._command(Kind.OPEN, command, expects)

    def _turns(self) -> list[Letter]:
        """Return the whole life of an account of somebody new, which may be broken off and taken up in any order."""
        opening = self.probe()
        user = opening.note.fields["user_id"]
        return [
            opening,
            *(
                self._command(
                    Kind.TURN,
                    account_command(verb, user, serial_no=self._serial("A")),
                    "OK|ACCOUNT_NOT_FOUND|ACCOUNT_CLOSED",
                )
                for verb in self._one_of((("freeze", "close"), ("freeze", "unfreeze"), ("close",)))
            ),
        ]

    def _recharge(self, channel: Channel, account: Account | None = None, expects: str = "OK") -> Letter:
        if account is None:
            hot = self._random.random() < HOT_SHARE
            account = self.accounts[0] if hot else self._one_of(self.accounts)
        command = recharge(
            account.user_id,
            self._amount(account.currency),
            serial_no=self._serial("R"),
            currency=account.currency,
            recharge_type=channel.value,
        )
        return self._command(Kind.RECHARGE, command, expects)

    def _spend(self) -> Letter | None:
        """Return an order that takes money from an account, if somebody is there to take it from."""
        draw = self._random.random()
        account = self._one_of(self.accounts)
        others = [one for one in self.accounts if one.currency == account.currency and one != account]
        amount = self._amount(account.currency, units_max=500)
        perhaps = "OK|INSUFFICIENT_BALANCE"
        if draw < 0.35 and others:
            to = self._one_of(others).user_id
            command = transfer(
                account.user_id, to, amount, serial_no=self._serial("T"), currency=account.currency
            )
            return self._command(Kind.SPEND, command, perhaps)
        if draw < 0.60:
            command = withdraw(
                account.user_id,
                amount,
                serial_no=self._serial("W"),
                currency=account.currency,
                payout_type=self._one_of(PAYOUTS).value,
            )
            return self._command(Kind.SPEND, command, perhaps)
        if draw < 0.75 and self._refundable:
            original = self._one_of(self._refundable)
            command = refund(
                original["serial_no"],
                self._part(original),
                serial_no=self._serial("F"),
                currency=original["currency"],
            )
            return self._command(Kind.SPEND, command, f"{perhaps}|AMOUNT_EXCEEDS_ORIGINAL")
        if draw < 0.87:
            command = hold(
                account.user_id,
                amount,
                serial_no=self._serial("H"),
                currency=account.currency,
                expires_in_seconds=HOLD_SECONDS,
            )
            return self._command(Kind.SPEND, command, perhaps)
        return self._use_a_hold() if self._holds else None

    def _use_a_hold(self) -> Letter | None:
        held = self._one_of(self._holds)
        if self._random.random() < 0.4:
            command = release(held["serial_no"], serial_no=self._serial("L"))
            return self._command(Kind.SPEND, command, "OK|HOLD_NOT_ACTIVE")
        payees = [
            one.user_id
            for one in self.accounts
            if one.currency == held["currency"] and one.user_id != held["user_id"]
        ]
        if not payees:
            return None
        command = capture(
            held["serial_no"],
            self._one_of(payees),
            self._part(held),
            serial_no=self._serial("C"),
            currency=held["currency"],
        )
        return self._command(Kind.SPEND, command, "OK|HOLD_NOT_ACTIVE|AMOUNT_EXCEEDS_ORIGINAL")

    def _part(self, order: Json) -> str:
        """Return an amount of which two or three are more than the order's."""
        whole = minor(order["amount"], order["currency"])
        return text(max(1, whole * self._one_of((4, 6, 10)) // 10), order["currency"])

    def _conflict(self, serial_no: str) -> Letter:
        """Return another command under a number that has its outcome."""
        command = recharge(self._serial("thief"), serial_no=serial_no)
        return Letter(Note(Kind.CONFLICT, serial_no, encoded(command)), COMMANDS)

    def _command(self, kind: Kind, command: Json, expects: str) -> Letter:
        note = Note(kind, command["serial_no"], encoded(command), command, expects)
        letter = Letter(note, COMMANDS)
        self._sent.append(letter)
        if kind in {Kind.RECHARGE, Kind.SPEND}:
            self._orders[command["serial_no"]] = command
            if len(self._orders) > ORDERS_KEPT:
                del self._orders[next(iter(self._orders))]
        return letter

    def _serial(self, prefix: str) -> str:
        return f"{prefix}-{next(self._numbers):07d}"

    def _amount(self, currency: str, *, units_max: int = 9_999) -> str:
        units = self._random.randint(1, units_max)
        match currency:
            case "JPY":
                return str(units)
            case "KWD":
                return f"{units}.{self._random.randint(0, 999):03d}"
            case _:
                return f"{units}.{self._random.randint(0, 99):02d}"

    def _one_of(self, choices: Sequence[T]) -> T:
        return self._random.choice(choices)


def _must_arrive(letter: Letter) -> bool:
    """Return whether something else that was sent makes no sense without it."""
    return letter.note.kind is Kind.RESULT or letter.note.fields.get("recharge_type") == Channel.EARLY
