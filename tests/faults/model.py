"""What must be true at the end, worked out from the notebook alone, with no code of the wallet's."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from pathlib import Path

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
    SILENT = "silent"
    """Nothing is ever said."""


SUCCEEDING = frozenset(Channel) - {Channel.DECLINED, Channel.SILENT}


@dataclass(slots=True)
class Model:
    """What was sent, and what must have become of it."""

    opened: dict[str, Note] = field(default_factory=dict)
    recharged: dict[str, Note] = field(default_factory=dict)
    confirmed: set[str] = field(default_factory=set)
    """Serial numbers of commands of which at least one sending was confirmed."""
    conflicts: set[str] = field(default_factory=set)
    poison: dict[str, Note] = field(default_factory=dict)
    """By mark: what may become a dead letter."""
    poison_confirmed: set[str] = field(default_factory=set)
    """By mark: what must be one."""
    perhaps: set[str] = field(default_factory=set)
    refused: Counter[str] = field(default_factory=Counter)
    sendings: Counter[str] = field(default_factory=Counter)

    @property
    def commands(self) -> dict[str, Note]:
        """Every command that may have an outcome."""
        return self.opened | self.recharged

    def balances(self, applied: Iterable[str]) -> dict[tuple[str, str], int]:
        """Return what each user must have, in minor units, if exactly these recharges were applied and ended."""
        balances: defaultdict[tuple[str, str], int] = defaultdict(int)
        for note in self.opened.values():
            balances[note.fields["user_id"], note.fields["currency"]] += 0
        for serial_no in applied:
            fields = self.recharged[serial_no].fields
            if Channel(fields["recharge_type"]) in SUCCEEDING:
                balances[fields["user_id"], fields["currency"]] += minor(fields["amount"], fields["currency"])
        return dict(balances)


DIGITS = {"TWD": 2, "USD": 2, "JPY": 0, "KWD": 3}


def minor(amount: str, currency: str) -> int:
    """Return an amount in minor units."""
    return int(Decimal(amount).scaleb(DIGITS[currency]))


def from_notebook(path: Path) -> Model:
    """Return the model of everything that the notebook names."""
    model = Model()
    for note, answer in read(path):
        model.sendings[answer] += 1
        match note.kind:
            case Kind.OPEN | Kind.RECHARGE:
                kept = model.opened if note.kind is Kind.OPEN else model.recharged
                kept[note.serial_no] = note
                if answer is Answer.CONFIRMED:
                    model.confirmed.add(note.serial_no)
            case Kind.CONFLICT | Kind.POISON | Kind.FORGED:
                model.poison[note.mark] = note
                if note.kind is Kind.CONFLICT:
                    model.conflicts.add(note.serial_no)
                if answer is Answer.CONFIRMED:
                    model.poison_confirmed.add(note.mark)
            case Kind.PERHAPS:
                model.perhaps.add(note.mark)
            case Kind.RESULT:
                pass
    return model
