"""What must be true at the end, worked out with no code of the wallet's.

What was sent is in the notebook alone. Which commands were applied and which refused is the database's to say, where
both may be: from that, all else follows.
"""

from collections import ChainMap, Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

from tests.faults.notebook import Answer, Kind, Note, read


class Channel(StrEnum):
    """What the harness's gateway does with an order: the recharge_type says it."""

    CARD = "card"
    """Succeeds."""
    AGAIN = "again"
    """Succeeds, and is told three times."""
    DECLINED = "declined"
    """Fails."""
    LATE = "late"
    """Fails, and then the money arrives after all; the two may overtake each other."""
    FORGED = "forged"
    """Somebody without a key says that it failed; then it succeeds."""
    MISCOUNTED = "miscounted"
    """Succeeds with another amount; then with its own."""
    EARLY = "early"
    """Succeeds, and the result is sent before the command."""
    TARDY = "tardy"
    """Says nothing until it is asked how the order stands, which expires before that; then it succeeds."""
    SILENT = "silent"
    """Nothing is ever said."""


SUCCEEDING = frozenset(Channel) - {Channel.DECLINED, Channel.SILENT}
PAYOUTS = (Channel.CARD, Channel.AGAIN, Channel.DECLINED, Channel.FORGED, Channel.MISCOUNTED)
"""Ways of paying out whose end does not hang on which of two results overtakes the other."""

SHORT_HOLD_SECONDS = 2
"""A hold of this length is over before the run is."""

KINDS_OF_PAYMENT = {"recharge": "charge", "withdraw": "payout", "refund": "refund"}
"""What the gateway is asked to do for each kind of order."""

Owner: TypeAlias = tuple[str, str]
"""A user and a currency."""


@dataclass(slots=True)
class Model:
    """What was sent, and what must have become of it.

    `applied`, wherever it stands, are the serial numbers of commands: of all that were, and of no others.
    """

    expiring: bool = False
    """Whether recharges expire within the run: then any may, before its result comes."""
    opened: dict[str, Note] = field(default_factory=dict)
    recharged: dict[str, Note] = field(default_factory=dict)
    spent: dict[str, Note] = field(default_factory=dict)
    turned: dict[str, Note] = field(default_factory=dict)
    confirmed: set[str] = field(default_factory=set)
    """Serial numbers of commands of which at least one sending was confirmed."""
    conflicts: set[str] = field(default_factory=set)
    poison: dict[str, Note] = field(default_factory=dict)
    """By mark: what may become a dead letter."""
    poison_confirmed: set[str] = field(default_factory=set)
    """By mark: what must be one."""
    perhaps: dict[str, Note] = field(default_factory=dict)
    """By mark: what is a dead letter or says nothing new."""
    sendings: Counter[str] = field(default_factory=Counter)
    calls: dict[str, Note] = field(default_factory=dict)
    """By number: the sendings that want a reply."""
    asking_confirmed: set[str] = field(default_factory=set)
    """The numbers of those that were confirmed."""

    def sent(self, number: int, note: Note, answer: Answer) -> None:
        """Count a sending, and keep that it wants a reply, if it does."""
        self.sendings[answer] += 1
        if note.wants_reply:
            self.calls[str(number)] = note
            if answer is Answer.CONFIRMED:
                self.asking_confirmed.add(str(number))

    @property
    def commands(self) -> ChainMap[str, Note]:
        """Every command that may have an outcome; a view, for there may be a million."""
        return ChainMap(self.opened, self.recharged, self.spent, self.turned)

    def owners(self, applied: Collection[str]) -> set[Owner]:
        """Return who must have an account."""
        return {_owner(note.fields) for serial_no, note in self.opened.items() if serial_no in applied}

    def closed(self, applied: Collection[str]) -> set[str]:
        """Return the users whose account must be closed."""
        return {
            note.fields["user_id"]
            for serial_no, note in self.turned.items()
            if serial_no in applied and note.fields["type"] == "account.close.v1"
        }

    def balances(self, applied: Collection[str]) -> dict[Owner, int]:
        """Return what each user must have, in minor units, when all orders have ended."""
        balances: defaultdict[Owner, int] = defaultdict(int)
        for serial_no in self._orders(applied):
            for owner, minor_units in self._moved(serial_no):
                balances[owner] += minor_units
        return dict(balances)

    def reserved(self, applied: Collection[str]) -> dict[Owner, int]:
        """Return what of it must be reserved: what is left of each hold, for every payout has ended."""
        reserved: defaultdict[Owner, int] = defaultdict(int)
        for hold, left in self._holds(applied).items():
            reserved[_owner(self.spent[hold].fields)] += 0 if self._is_short(hold) else left
        return dict(reserved)

    def amounts(self, applied: Collection[str]) -> dict[str, tuple[int, str]]:
        """Return the amount of each order, and its currency; of a release none, which is of what is left then."""
        return {
            serial_no: (_minor(self._fields(serial_no)), self._fields(serial_no)["currency"])
            for serial_no in self._orders(applied)
            if self._verb(serial_no) != "release"
        }

    def payments(self, applied: Collection[str]) -> dict[tuple[str, str], dict[str, str]]:
        """Return what the gateway must be asked for: by serial number and kind, how much, and by which channel."""
        payments = {}
        for serial_no in self._orders(applied):
            kind = KINDS_OF_PAYMENT.get(self._verb(serial_no))
            if kind is not None:
                fields = self._fields(serial_no)
                payments[serial_no, kind] = {
                    "amount": fields["amount"],
                    "currency": fields["currency"],
                    "channel": self._channel(serial_no).value,
                }
        return payments

    def late(self, applied: Collection[str]) -> set[str]:
        """Return the recharges that may have failed, or expired, before their money came."""
        channels = SUCCEEDING if self.expiring else {Channel.LATE}
        return {
            serial_no
            for serial_no in self._orders(applied)
            if self._verb(serial_no) == "recharge" and self._channel(serial_no) in channels
        }

    def statuses(self, applied: Collection[str]) -> dict[str, str]:
        """Return how each order must stand; with `|` between, where that depends on what came first."""
        left = self._holds(applied)
        orders = self._orders(applied)
        released = {
            self.spent[order].fields["hold_serial_no"] for order in orders if self._verb(order) == "release"
        }
        statuses = {}
        for serial_no in orders:
            match self._verb(serial_no):
                case "recharge" if self.expiring:
                    statuses[serial_no] = _ended(
                        self._channel(serial_no), silent="expired", failed="failed|expired"
                    )
                case "recharge" | "withdraw" | "refund":
                    statuses[serial_no] = _ended(self._channel(serial_no))
                case "hold" if serial_no in released:
                    statuses[serial_no] = "released"
                case "hold" if not left[serial_no]:
                    statuses[serial_no] = "captured"
                case "hold":
                    statuses[serial_no] = "expired" if self._is_short(serial_no) else "active"
                case _:
                    statuses[serial_no] = "succeeded"
        return statuses

    def overdrawn(self, applied: Collection[str]) -> set[str]:
        """Return the recharges of which more is given back than they brought, and the overused holds."""
        had: Counter[str] = Counter()
        given: Counter[str] = Counter()
        for serial_no in self._orders(applied):
            fields = self._fields(serial_no)
            match self._verb(serial_no):
                case "recharge" | "hold":
                    had[serial_no] = _minor(fields)
                case "refund" if self._channel(serial_no) in SUCCEEDING:
                    given[fields["original_serial_no"]] += _minor(fields)
                case "capture":
                    given[fields["hold_serial_no"]] += _minor(fields)
                case _:
                    pass
        return {serial_no for serial_no, sum_minor in given.items() if sum_minor > had[serial_no]}

    def _orders(self, applied: Collection[str]) -> list[str]:
        return [item for item in applied if item in self.recharged or item in self.spent]

    def _moved(self, serial_no: str) -> Iterable[tuple[Owner, int]]:
        fields = self._fields(serial_no)
        match self._verb(serial_no):
            case "recharge" if self._channel(serial_no) in SUCCEEDING:
                yield _owner(fields), _minor(fields)
            case "withdraw" if self._channel(serial_no) in SUCCEEDING:
                yield _owner(fields), -_minor(fields)
            case "refund" if self._channel(serial_no) in SUCCEEDING:
                yield _owner(self._fields(fields["original_serial_no"])), -_minor(fields)
            case "transfer":
                yield _owner(fields), -_minor(fields)
                yield (fields["to_user_id"], fields["currency"]), _minor(fields)
            case "capture":
                yield _owner(self._fields(fields["hold_serial_no"])), -_minor(fields)
                yield (fields["to_user_id"], fields["currency"]), _minor(fields)
            case _:
                pass

    def _holds(self, applied: Collection[str]) -> dict[str, int]:
        """Return what is left of each hold."""
        orders = self._orders(applied)
        left = Counter(
            {order: _minor(self._fields(order)) for order in orders if self._verb(order) == "hold"}
        )
        for serial_no in orders:
            if self._verb(serial_no) == "capture":
                left[self.spent[serial_no].fields["hold_serial_no"]] -= _minor(self._fields(serial_no))
        for serial_no in orders:
            if self._verb(serial_no) == "release":
                left[self.spent[serial_no].fields["hold_serial_no"]] = 0
        return left

    def _is_short(self, hold: str) -> bool:
        return int(self._fields(hold)["expires_in_seconds"]) == SHORT_HOLD_SECONDS

    def _fields(self, serial_no: str) -> dict[str, str]:
        return (self.recharged.get(serial_no) or self.spent[serial_no]).fields

    def _verb(self, serial_no: str) -> str:
        """Return what is ordered: of `order.recharge.v1`, recharge."""
        return self._fields(serial_no)["type"].split(".")[1]

    def _channel(self, serial_no: str) -> Channel:
        fields = self._fields(serial_no)
        if "original_serial_no" in fields:
            fields = self._fields(fields["original_serial_no"])
        return Channel(fields.get("recharge_type") or fields["payout_type"])


def _ended(channel: Channel, *, silent: str = "pending", failed: str = "failed") -> str:
    if channel is Channel.SILENT:
        return silent
    return "succeeded" if channel in SUCCEEDING else failed


def _owner(fields: dict[str, str]) -> Owner:
    return fields["user_id"], fields["currency"]


def _minor(fields: dict[str, str]) -> int:
    return minor(fields["amount"], fields["currency"])


DIGITS = {"TWD": 2, "USD": 2, "JPY": 0, "KWD": 3}


def minor(amount: str, currency: str) -> int:
    """Return an amount in minor units."""
    return int(Decimal(amount).scaleb(DIGITS[currency]))


def text(minor_units: int, currency: str) -> str:
    """Return minor units as an amount."""
    return str(Decimal(minor_units).scaleb(-DIGITS[currency]))


def from_notebook(path: Path, *, expiring: bool) -> Model:
    """Return the model of everything that the notebook names."""
    return from_notes(read(path), expiring=expiring)


def from_notes(notes: Iterable[tuple[Note, Answer]], *, expiring: bool) -> Model:
    """Return the model of every sending, with what the broker said to it."""
    model = Model(expiring)
    for number, (note, answer) in enumerate(notes, 1):
        model.sent(number, note, answer)
        match note.kind:
            case Kind.OPEN | Kind.RECHARGE | Kind.SPEND | Kind.TURN:
                kept = {
                    Kind.OPEN: model.opened,
                    Kind.RECHARGE: model.recharged,
                    Kind.SPEND: model.spent,
                    Kind.TURN: model.turned,
                }
                kept[note.kind][note.serial_no] = note
                if answer is Answer.CONFIRMED:
                    model.confirmed.add(note.serial_no)
            case Kind.CONFLICT | Kind.POISON | Kind.FORGED:
                model.poison[note.mark] = note
                if note.kind is Kind.CONFLICT:
                    model.conflicts.add(note.serial_no)
                if answer is Answer.CONFIRMED:
                    model.poison_confirmed.add(note.mark)
            case Kind.PERHAPS:
                model.perhaps[note.mark] = note
            case Kind.RESULT:
                pass
    return model
