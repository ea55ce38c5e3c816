"""The load: commands of every kind, good and bad, at a steady rate, from a seed.

Its answers come back as events; what is not confirmed is sent again, as an upstream service would.
"""

import asyncio
import itertools
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from tests.faults.gateway import gateway_result
from tests.faults.model import PAYOUTS, SHORT_HOLD_SECONDS, Channel, minor, text
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
SENDINGS_MAX: Final = 300  # at once: a broker that answers nobody holds so many up
ORDERS_KEPT: Final = 5_000  # to refer to when they are heard of
REPLIED_SHARE: Final = 0.3  # of all commands wants a reply
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
EXPIRING: Final = {Channel.SILENT: 3, Channel.TARDY: 5}
"""Beside those where recharges expire."""
SHORT_SHARE: Final = 0.3  # of the holds of who is not rich expires within the run, where recharges do

_MALFORMED: Final = ("MALFORMED", "MALFORMED")
_ELSEWHERE: Final = ("MALFORMED", "UNSUPPORTED_TYPE")
_NOWHERE: Final = ("UNSUPPORTED_TYPE", "UNSUPPORTED_TYPE")

POISON: Final = {
    b'{"type":"order.recharge.v1","serial_no":"%s","user_id":"u","amount":1e2,"currency":"TWD","recharge_type":"card"}':
        _ELSEWHERE,
    b'{"type":"order.recharge.v9","serial_no":"%s"}': _NOWHERE,
    b'{"type":"account.open.v1","serial_no":"%s","user_id":"u","currency":"TWD","colour":"red"}': _ELSEWHERE,
    b"%s is no JSON": _MALFORMED,
    b"\xff\xfe%s": _MALFORMED,
    b'{"type":"account.open.v1","serial_no":"%s","user_id":"a\\u0000b","currency":"TWD"}': _MALFORMED,
    b'{"%s":' + b"[" * 3_000: _MALFORMED,
}  # fmt: skip
"""What nobody can read, and the reason why not: as a command, and as a result."""


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who may be paid."""

    user_id: str
    currency: str


RICH: Final = tuple(Account(f"rich-{currency}", currency) for currency in sorted({*CURRENCIES}))
"""Accounts of which nothing is ever refused: what a race or a lock does to their orders cannot pass for a business
reason, as it could where there may be too little."""
RICH_SHARE: Final = 0.3  # of all that is spent
FORTUNE: Final = "1000000000"  # two million orders of the largest kind


@dataclass(frozen=True, slots=True)
class Usable:
    """What can be used further: active holds, and recharges that can be given back."""

    holds: deque[Json] = field(default_factory=lambda: deque(maxlen=50))
    refundable: deque[Json] = field(default_factory=lambda: deque(maxlen=500))


class Load:
    """Commands from a seed. `accounts` are open before the first of them is recharged.

    With `expiring`, some recharges are not paid in time and some holds are not used in time: the workers must let
    recharges expire within seconds then.
    """

    def __init__(
        self, sender: Sender, seed: int, *, accounts: int, rate: float, expiring: bool = False
    ) -> None:
        self._sender = sender
        self._random = random.Random(seed)
        self._numbers = itertools.count(1)
        self._rate = rate
        self._expiring = expiring
        self._channels = CHANNELS | EXPIRING if expiring else CHANNELS
        self._sent: deque[Letter] = deque(maxlen=2_000)
        self._applied: deque[str] = deque(maxlen=500)
        self._orders: dict[str, Json] = {}
        self._usable = Usable()
        self._usable_once = Usable()
        """Of the rich, who use nothing twice."""
        self._sending: set[asyncio.Task[None]] = set()
        self.accounts = [Account(f"u-{number}", self._one_of(CURRENCIES)) for number in range(accounts)]
        births = [(self._open(account), account) for account in RICH]
        self._due = deque(letter for letter, _ in births)
        """What is sent next, whatever the dice say: it makes somebody rich."""
        self._heirs = {letter.note.serial_no: account for letter, account in births}
        """By the serial number of the opening: who is to be rich."""
        self._fortunes: dict[str, Account] = {}
        """By the serial number of the recharge: whom it makes rich."""
        self._rich: dict[str, Account] = {}
        self.failures: list[BaseException] = []

    def openings(self) -> list[Letter]:
        """Return the commands that open the accounts, to be applied before anything else is sent."""
        return [self._open(account) for account in self.accounts]

    def hear(self, event_type: str, serial_no: str) -> None:
        """Hear what became of a command: with its outcome, other content under its number is a conflict."""
        if event_type in {"account.opened.v1", "order.pending.v1", "order.active.v1"}:
            self._applied.append(serial_no)
        if event_type == "account.opened.v1" and serial_no in self._heirs:
            self._due.append(self._fortune(self._heirs.pop(serial_no)))
        if event_type == "order.succeeded.v1" and serial_no in self._fortunes:
            account = self._fortunes[serial_no]
            self._rich[account.user_id] = account
            return
        order = self._orders.get(serial_no, {})
        usable = self._usable_once if order.get("user_id") in self._rich else self._usable
        if event_type == "order.active.v1" and order:
            usable.holds.append(self._orders.pop(serial_no))  # once, however often it is told
        if event_type == "order.succeeded.v1" and order.get("recharge_type") in {Channel.CARD, Channel.AGAIN}:
            usable.refundable.append(self._orders.pop(serial_no))

    async def run(self, stopping: asyncio.Event) -> None:
        """Send until told to stop; what must be confirmed may be under way then: see `settle`."""
        due = 0.0
        while not stopping.is_set():
            due += self._rate * TICK_SECONDS
            # A broker that answers nobody does not lower the pressure: but there is a bound.
            if len(self._sending) < SENDINGS_MAX:
                letters = [self._due.popleft() for _ in range(len(self._due))]
                letters += itertools.chain.from_iterable(self._some() for _ in range(int(due)))
                self._send(letters)
            due -= int(due)
            await asyncio.sleep(TICK_SECONDS)

    async def settle(self, seconds: float) -> None:
        """Wait until what must be confirmed is confirmed; what is not after so long is given up, by a TimeoutError."""
        try:
            async with asyncio.timeout(seconds):
                while self._sending:
                    await asyncio.wait(self._sending)
        finally:
            await self.give_up()

    async def give_up(self) -> None:
        """Send nothing any more."""
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)

    def some(self, count: int) -> list[Letter]:
        """Return this many recharges of the ordinary kind, each new."""
        return [self.recharge(Channel.CARD) for _ in range(count)]

    def probe(self) -> Letter:
        """Return a command that opens an account of somebody new."""
        return self._open(Account(self._serial("someone"), "TWD"))

    def _send(self, letters: list[Letter]) -> None:
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
            and (self._must_arrive(letter) or (answer is Answer.UNKNOWN and self._random.random() < 0.5))
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
            channel = self._random.choices(list(self._channels), list(self._channels.values()))[0]
            letter = self.recharge(channel)
            if channel is Channel.EARLY:
                fields = letter.note.fields
                return [
                    gateway_result(letter.note.serial_no, "succeeded", fields["amount"], fields["currency"]),
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
            return [self.recharge(Channel.CARD, Account(self._serial("nobody"), "TWD"), "ACCOUNT_NOT_FOUND")]
        if draw < 0.98 and self._applied:
            return [self.conflict(self._one_of(list(self._applied)))]
        return [self.poison()]

    def poison(self, queues: Sequence[str] = (COMMANDS, COMMANDS, RESULTS)) -> Letter:
        """Return bytes that nobody can read, different each time, for one of the queues."""
        name, queue = self._serial("poison"), self._one_of(queues)
        body, reasons = self._one_of(list(POISON.items()))
        expects = reasons[queue == RESULTS]
        return Letter(Note(Kind.POISON, name, body % name.encode(), expects=expects), queue)

    def _open(self, account: Account, *, expects: str = "OK") -> Letter:
        command = open_account(account.user_id, serial_no=self._serial("O"), currency=account.currency)
        return self.command(Kind.OPEN, command, expects)

    def _turns(self) -> list[Letter]:
        """Return the whole life of an account of somebody new, which may be broken off and taken up in any order."""
        opening = self.probe()
        user = opening.note.fields["user_id"]
        return [
            opening,
            *(
                self.command(
                    Kind.TURN,
                    account_command(verb, user, serial_no=self._serial("A")),
                    "OK|ACCOUNT_NOT_FOUND|ACCOUNT_CLOSED",
                )
                for verb in self._one_of((("freeze", "close"), ("freeze", "unfreeze"), ("close",)))
            ),
        ]

    def recharge(
        self, channel: Channel, account: Account | None = None, expects: str = "OK", amount: str | None = None
    ) -> Letter:
        """Return a new recharge, of an account that the dice choose unless one is given."""
        if account is None:
            hot = self._random.random() < HOT_SHARE
            account = self.accounts[0] if hot else self._one_of(self.accounts)
        command = recharge(
            account.user_id,
            amount or self._amount(account.currency),
            serial_no=self._serial("R"),
            currency=account.currency,
            recharge_type=channel.value,
        )
        return self.command(Kind.RECHARGE, command, expects)

    def _fortune(self, account: Account) -> Letter:
        """Return a recharge of more than the account could spend in days."""
        amount = text(minor(FORTUNE, account.currency), account.currency)
        letter = self.recharge(Channel.CARD, account, amount=amount)
        self._fortunes[letter.note.serial_no] = account
        return letter

    def _spend(self) -> Letter | None:
        """Return an order that takes money from an account, if somebody is there to take it from."""
        if self._rich and self._random.random() < RICH_SHARE:
            return self._spend_surely(self._one_of(list(self._rich.values())))
        return self._spend_perhaps(self._one_of(self.accounts))

    def _spend_perhaps(self, account: Account) -> Letter | None:
        """Return an order of which what came before it decides whether it is refused."""
        draw = self._random.random()
        payees = self._payees(account.user_id, account.currency)
        perhaps = "OK|INSUFFICIENT_BALANCE"
        if draw < 0.35 and payees:
            return self._transfer(account, self._one_of(payees), perhaps)
        if draw < 0.60:
            return self._withdraw(account, perhaps)
        if draw < 0.75 and self._usable.refundable:
            original = self._one_of(self._usable.refundable)
            return self._refund(original, f"{perhaps}|AMOUNT_EXCEEDS_ORIGINAL")
        if draw < 0.87:
            short = self._expiring and self._random.random() < SHORT_SHARE
            return self._hold(account, perhaps, SHORT_HOLD_SECONDS if short else HOLD_SECONDS)
        if not self._usable.holds:
            return None
        held = self._one_of(self._usable.holds)
        if self._random.random() < 0.4:
            return self._release(held, "OK|HOLD_NOT_ACTIVE")
        payees = self._payees(held["user_id"], held["currency"])
        if not payees:
            return None
        return self._capture(held, self._one_of(payees), "OK|HOLD_NOT_ACTIVE|AMOUNT_EXCEEDS_ORIGINAL")

    def _spend_surely(self, account: Account) -> Letter:
        """Return an order of somebody rich, who has enough and uses nothing twice: to refuse it is wrong."""
        draw = self._random.random()
        payees = self._payees(account.user_id, account.currency)
        if draw < 0.20:
            return self.recharge(Channel.CARD, account)
        if draw < 0.35 and self._usable_once.refundable:
            return self._refund(self._usable_once.refundable.popleft(), "OK")
        if draw < 0.60 and self._usable_once.holds:
            held = self._usable_once.holds.popleft()
            payees = self._payees(held["user_id"], held["currency"])
            if payees and self._random.random() < 0.6:
                return self._capture(held, self._one_of(payees), "OK")
            return self._release(held, "OK")
        if draw < 0.80:
            return self._hold(account, "OK")
        if draw < 0.90 and payees:
            return self._transfer(account, self._one_of(payees), "OK")
        return self._withdraw(account, "OK")

    def _payees(self, user_id: str, currency: str) -> list[str]:
        """Return whom a user can pay."""
        return [
            account.user_id
            for account in self.accounts
            if account.currency == currency and account.user_id != user_id
        ]

    def _transfer(self, account: Account, to: str, expects: str) -> Letter:
        amount = self._amount(account.currency, units_max=500)
        command = transfer(
            account.user_id, to, amount, serial_no=self._serial("T"), currency=account.currency
        )
        return self.command(Kind.SPEND, command, expects)

    def _withdraw(self, account: Account, expects: str) -> Letter:
        command = withdraw(
            account.user_id,
            self._amount(account.currency, units_max=500),
            serial_no=self._serial("W"),
            currency=account.currency,
            payout_type=self._one_of(PAYOUTS).value,
        )
        return self.command(Kind.SPEND, command, expects)

    def _refund(self, original: Json, expects: str) -> Letter:
        command = refund(
            original["serial_no"],
            self._part(original),
            serial_no=self._serial("F"),
            currency=original["currency"],
        )
        return self.command(Kind.SPEND, command, expects)

    def _hold(self, account: Account, expects: str, seconds: int = HOLD_SECONDS) -> Letter:
        command = hold(
            account.user_id,
            self._amount(account.currency, units_max=500),
            serial_no=self._serial("H"),
            currency=account.currency,
            expires_in_seconds=seconds,
        )
        return self.command(Kind.SPEND, command, expects)

    def _release(self, held: Json, expects: str) -> Letter:
        return self.command(Kind.SPEND, release(held["serial_no"], serial_no=self._serial("L")), expects)

    def _capture(self, held: Json, to: str, expects: str) -> Letter:
        command = capture(
            held["serial_no"],
            to,
            self._part(held),
            serial_no=self._serial("C"),
            currency=held["currency"],
        )
        return self.command(Kind.SPEND, command, expects)

    def _part(self, order: Json) -> str:
        """Return an amount of which two or three are more than the order's."""
        whole = minor(order["amount"], order["currency"])
        return text(max(1, whole * self._one_of((4, 6, 10)) // 10), order["currency"])

    def conflict(self, serial_no: str) -> Letter:
        """Return another command under a number that has its outcome."""
        command = recharge(self._serial("thief"), serial_no=serial_no)
        note = Note(Kind.CONFLICT, serial_no, encoded(command), wants_reply=self._random.random() < 0.5)
        return Letter(note, COMMANDS)

    def _must_arrive(self, letter: Letter) -> bool:
        """Return whether something else that was sent, or will be, makes no sense without it."""
        return (
            letter.note.kind is Kind.RESULT
            or letter.note.fields.get("recharge_type") == Channel.EARLY
            or letter.note.serial_no in self._heirs.keys() | self._fortunes.keys()
        )

    def command(self, kind: Kind, command: Json, expects: str) -> Letter:
        """Return a command to send, and remember it: it may be sent again, and others may refer to it."""
        wants_reply = self._random.random() < REPLIED_SHARE
        note = Note(kind, command["serial_no"], encoded(command), command, expects, wants_reply)
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
