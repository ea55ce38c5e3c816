"""The checker itself, without servers: of a run in which all went well it says nothing, of each damage what it is."""

import ast
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.faults import checker
from tests.faults.checker import FIRST_EVENTS, Heard, Row, Stored, check
from tests.faults.model import SHORT_HOLD_SECONDS, Channel, from_notes, minor, text
from tests.faults.notebook import Answer, Kind, Note
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

CLEARING, CLEARING_YEN, ALICE, BOB, CAROL, DORA, FRANK, GINA = 1, 2, 101, 102, 103, 104, 105, 107
USERS = ((ALICE, "alice", "TWD"), (BOB, "bob", "TWD"), (CAROL, "carol", "TWD"), (DORA, "dora", "JPY"),
         (FRANK, "frank", "TWD"))  # fmt: skip

POISON = Note(Kind.POISON, "P-1", b"no JSON", expects="MALFORMED")
FORGED = Note(Kind.FORGED, "R-card", b"a payment that nobody signed", expects="BAD_SIGNATURE")
CONFLICT = Note(Kind.CONFLICT, "R-card", encoded(recharge("thief", serial_no="R-card")), wants_reply=True)
OVERTAKEN = Note(Kind.PERHAPS, "R-late", b"a payment that failed", expects="CONTRADICTING_RESULT")


@dataclass(slots=True)
class Run:
    """Everything that the checker is given. `moves` are what lines and balances are made of.

    A move is a serial number, an account and minor units, in the order of the lines.
    """

    notes: list[tuple[Note, Answer]] = field(default_factory=list)
    commands: list[Row] = field(default_factory=list)
    orders: list[Row] = field(default_factory=list)
    accounts: list[Row] = field(default_factory=list)
    moves: list[tuple[str, int, int]] = field(default_factory=list)
    entries: list[Row] = field(default_factory=list)
    heard: Heard = field(default_factory=Heard)
    queues: dict[str, int] = field(default_factory=lambda: {"wallet.commands": 0})
    outbox: int = 0
    parked: int = 0
    expiring: bool = False

    def violations(self) -> list[str]:
        """Return what the checker says."""
        found = Stored(self.commands, self.orders, self.accounts, self.entries, self.outbox, self.parked)
        return [
            str(item)
            for item in check(from_notes(self.notes, expiring=self.expiring), found, self.heard, self.queues)
        ]

    def send(self, note: Note) -> None:
        """Have a note confirmed."""
        self.notes.append((note, Answer.CONFIRMED))

    def do(self, kind: Kind, command: Json, *, refused: str = "", expects: str = "OK") -> None:
        """Have a command sent and answered."""
        self.send(Note(kind, command["serial_no"], encoded(command), command, expects, wants_reply=True))
        self.commands.append(
            {
                "serial_no": command["serial_no"],
                "command_type": command["type"],
                "status": "refused" if refused else "applied",
                "code": refused or "OK",
                "content": json.dumps(command),
                "result": json.dumps({} if refused else {"of": command["serial_no"]}),
            }
        )

    def order(
        self, command: Json, status: str, *moves: tuple[int, int], late: bool = False, amount: str = ""
    ) -> None:
        """Have an order sent and applied, with what it moved; `amount` where its command has none."""
        kind = Kind.RECHARGE if command["type"] == "order.recharge.v1" else Kind.SPEND
        self.do(kind, command, expects="OK" if kind is Kind.RECHARGE else "OK|INSUFFICIENT_BALANCE")
        currency = command.get("currency", "TWD")
        about = command.get("original_serial_no") or command.get("hold_serial_no")
        owner = only(self.orders, serial_no=about) if about else command
        payee = command.get("to_user_id")
        self.orders.append(
            {
                "serial_no": command["serial_no"],
                "order_type": command["type"].split(".")[1],
                "status": status,
                "code": "OK",
                "amount": minor(amount or command["amount"], currency),
                "currency": currency,
                "late": late,
                "user_id": owner["user_id"],
                "account_no": f"no. {owner['user_id']}",
                "to_user_id": payee,
                "to_account_no": payee and f"no. {payee}",
                "about_serial_no": about,
            }
        )
        self.moves += [(command["serial_no"], account_id, moved) for account_id, moved in moves]
        channel = command.get("recharge_type") or command.get("payout_type")
        if command["type"] == "order.refund.v1":
            channel = "card"
        if channel is not None:
            self.ask(command["serial_no"], amount=command["amount"], currency=currency, channel=channel)

    def ask(self, serial_no: str, kind: str = "", **data: str) -> None:
        """Have the gateway asked about an order."""
        kind = kind or {"R": "charge", "W": "payout", "F": "refund"}[serial_no[0]]
        so = {"amount": "100.00", "currency": "TWD", "channel": "card"} | data
        self.heard.hear_request(encoded({"payment_order_no": serial_no, "kind": kind} | so))

    def account(self, account_id: int, user_id: str | None, currency: str) -> None:
        """Have an account there, a system account without a user."""
        self.accounts.append(
            {
                "account_id": account_id,
                "kind": "user" if user_id else "system",
                "user_id": user_id,
                "account_no": user_id and f"no. {user_id}",
                "currency": currency,
                "status": "active",
                "balance": 0,
                "reserved": 0,
                "line_no": 0,
            }
        )

    def write(self) -> None:
        """Leave the lines and the balances that the moves make."""
        self.entries.clear()
        for account in self.accounts:
            account.update(balance=0, line_no=0)
        for serial_no, account_id, moved in self.moves:
            account = only(self.accounts, account_id=account_id)
            before = account["balance"]
            account.update(balance=before + moved, line_no=account["line_no"] + 1)
            self.entries.append(
                {
                    "account_id": account_id,
                    "line_no": account["line_no"],
                    "direction": "credit" if moved > 0 else "debit",
                    "amount": abs(moved),
                    "balance_before": before,
                    "balance_after": account["balance"],
                    "kind": account["kind"],
                    "currency": account["currency"],
                    "account_no": account["account_no"],
                    "serial_no": serial_no,
                    "order_type": ORDER_TYPES.get(serial_no[0]),
                }
            )

    def tell(self) -> None:
        """Have subscribers hear what the database has, and nothing else."""
        heard, self.heard = self.heard, Heard()
        self.heard.dead_letters, self.heard.bodies = heard.dead_letters, heard.bodies
        self.heard.requests = heard.requests
        for command in self.commands:
            if command["status"] == "refused":
                self.hear("command.refused.v1", command["serial_no"])
            else:
                self.hear(FIRST_EVENTS[command["command_type"]], command["serial_no"])
        for order in self.orders:
            if order["status"] not in {"pending", "active"}:
                self.hear(f"order.{order['status']}.v1", order["serial_no"])
            if order["late"]:
                over = "expired" if order["serial_no"] == "R-tardy" else "failed"
                self.hear(f"order.{over}.v1", order["serial_no"])
        answered = set()
        for number, (note, _) in enumerate(self.notes, 1):
            if note.wants_reply:
                self.reply(number, duplicate=note.kind is not Kind.CONFLICT and note.serial_no in answered)
                answered.add(note.serial_no)

    def reply(self, number: int, **fields: object) -> None:
        """Have a sending answered, with what is so, or other things `said`; nothing if there is no outcome."""
        note, _ = self.notes[number - 1]
        so: Json = {"type": "command.outcome.v1", "serial_no": note.serial_no, "duplicate": False}
        if note.kind is Kind.CONFLICT:
            so |= {"status": "refused", "code": "SERIAL_CONFLICT", "different": ["user_id"]}
            so |= {"result": {"object": "none"}}
            so |= {"message": "the serial number was used before with different user_id"}
            self.heard.replies[str(number)].add(encoded(so | fields))
            return
        for command in self.commands:
            if command["serial_no"] == note.serial_no:
                so |= {name: command[name] for name in ("status", "code")}
                stored = json.loads(command["result"])
                so |= (
                    {"result": stored}
                    if so["status"] == "applied"
                    else {"result": {"object": "none"}, **stored}
                )
                self.heard.replies[str(number)].add(encoded(so | fields))

    def hear(self, event_type: str, serial_no: str, *, event_id: str = "", **data: Any) -> None:
        """Have an event heard, with what is so, or other `data`."""
        event = {
            "type": event_type,
            "event_id": event_id or f"{event_type} of {serial_no}",
            "serial_no": serial_no,
            "data": self._so(event_type, serial_no) | data,
        }
        assert self.heard.hear(encoded(event)) == (event_type, serial_no)

    def unhear(self, event_type: str, serial_no: str) -> None:
        """Have nobody heard an event."""
        for event_id in self.heard.events.pop((serial_no, event_type)):
            del self.heard.times[event_id], self.heard.told[event_id]

    def hear_dead_letter(self, body: bytes, reason: str) -> None:
        """Have a dead letter heard."""
        note = Note(Kind.POISON, "", body)
        self.heard.bodies[note.mark] = body
        self.heard.dead_letters[note.mark].add(reason)

    def _so(self, event_type: str, serial_no: str) -> Json:
        of, status, _ = event_type.split(".")
        entries = [_told(row) for row in self.entries if row["serial_no"] == serial_no and row["account_no"]]
        moved = {"entries": entries} if event_type == "order.succeeded.v1" else {}
        for order in self.orders:
            if of == "order" and order["serial_no"] == serial_no:
                so = {name: order[name] for name in SAME if order[name] is not None}
                about = "original_serial_no" if order["order_type"] == "refund" else "hold_serial_no"
                amount = text(order["amount"], order["currency"])
                return so | moved | {"status": status, "amount": amount, about: order["about_serial_no"]}
        for command in self.commands:
            if of == "account" and command["serial_no"] == serial_no:
                body = json.loads(command["content"])
                return {"user_id": body["user_id"], "currency": body["currency"]}
            if of == "command" and command["serial_no"] == serial_no:
                return {"command_type": command["command_type"], "code": command["code"]}
        return moved


ORDER_TYPES = {"R": "recharge", "T": "transfer", "W": "withdraw", "F": "refund", "C": "capture"}
"""By the first letter of the serial numbers here: what moves money."""

SAME = ("order_type", "code", "currency", "user_id", "account_no", "to_user_id", "to_account_no")


def _told(line: Row) -> Row:
    names = ("account_no", "line_no", "order_type", "direction", "currency")
    amounts = ("amount", "balance_before", "balance_after")
    return {name: line[name] for name in names} | {
        name: text(line[name], line["currency"]) for name in amounts
    }


def only(rows: list[Row], **like: object) -> Row:
    """Return the one row that is like this."""
    (found,) = [row for row in rows if like.items() <= row.items()]
    return found


def clean() -> Run:
    """Return a run in which everything that may happen happened, and all is right."""
    run = Run()
    run.account(CLEARING, None, "TWD")
    run.account(CLEARING_YEN, None, "JPY")
    for account_id, user, currency in USERS:
        run.do(Kind.OPEN, open_account(user, serial_no=f"O-{user}", currency=currency))
        run.account(account_id, user, currency)
    again = open_account("alice", serial_no="O-again")
    run.do(Kind.OPEN, again, refused="ACCOUNT_EXISTS", expects="ACCOUNT_EXISTS")
    foreign = open_account("grace", serial_no="O-grace", currency="XAU")
    run.do(Kind.OPEN, foreign, refused="CURRENCY_NOT_SUPPORTED", expects="CURRENCY_NOT_SUPPORTED")
    run.do(Kind.TURN, account_command("close", "carol", serial_no="A-carol"))
    only(run.accounts, account_id=CAROL).update(status="closed")
    early = account_command("close", "heidi", serial_no="A-heidi")
    run.do(Kind.TURN, early, refused="ACCOUNT_NOT_FOUND", expects="OK|ACCOUNT_NOT_FOUND|ACCOUNT_CLOSED")

    run.order(
        recharge("alice", "100.00", serial_no="R-card"), "succeeded", (ALICE, 10_000), (CLEARING, -10_000)
    )
    late = recharge("bob", "50.00", serial_no="R-late", recharge_type=Channel.LATE.value)
    run.order(late, "succeeded", (BOB, 5_000), (CLEARING, -5_000), late=True)
    run.order(recharge("bob", "10.00", serial_no="R-not", recharge_type=Channel.DECLINED.value), "failed")
    yen = recharge("dora", "500", serial_no="R-yen", currency="JPY")
    run.order(yen, "succeeded", (DORA, 500), (CLEARING_YEN, -500))
    more = recharge("dora", "300", serial_no="R-more", currency="JPY")
    run.order(more, "succeeded", (DORA, 300), (CLEARING_YEN, -300))

    run.order(transfer("alice", "bob", "30.00", serial_no="T-1"), "succeeded", (ALICE, -3_000), (BOB, 3_000))
    paid_out = withdraw("alice", "5.00", serial_no="W-1", payout_type=Channel.CARD.value)
    run.order(paid_out, "succeeded", (ALICE, -500), (CLEARING, 500))
    too_much = withdraw("bob", "900.00", serial_no="W-not", payout_type=Channel.CARD.value)
    run.do(Kind.SPEND, too_much, refused="INSUFFICIENT_BALANCE", expects="OK|INSUFFICIENT_BALANCE")
    run.order(refund("R-card", "20.00", serial_no="F-1"), "succeeded", (ALICE, -2_000), (CLEARING, 2_000))

    run.order(hold("alice", "12.00", serial_no="H-used"), "active")
    run.order(capture("H-used", "bob", "4.00", serial_no="C-part"), "succeeded", (ALICE, -400), (BOB, 400))
    only(run.accounts, account_id=ALICE).update(reserved=800)
    run.order(hold("bob", "6.00", serial_no="H-back"), "released")
    run.order(release("H-back", serial_no="L-1"), "succeeded", amount="6.00")
    run.order(hold("bob", "3.00", serial_no="H-gone"), "captured")
    run.order(capture("H-gone", "alice", "3.00", serial_no="C-all"), "succeeded", (BOB, -300), (ALICE, 300))

    run.send(run.notes[0][0])  # the first command of all, and once more
    run.send(POISON)
    run.hear_dead_letter(POISON.body, "MALFORMED")
    run.send(FORGED)
    run.hear_dead_letter(FORGED.body, "BAD_SIGNATURE")
    run.send(CONFLICT)
    run.hear_dead_letter(CONFLICT.body, "SERIAL_CONFLICT")
    run.send(OVERTAKEN)
    run.hear_dead_letter(OVERTAKEN.body, "CONTRADICTING_RESULT")
    run.write()
    run.tell()
    return run


def with_expiry() -> Run:
    """Return such a run in which some orders were due before anything else happened to them."""
    run = clean()
    run.expiring = True
    run.do(Kind.OPEN, open_account("gina", serial_no="O-gina"))
    run.account(GINA, "gina", "TWD")
    tardy = recharge("gina", "70.00", serial_no="R-tardy", recharge_type=Channel.TARDY.value)
    run.order(tardy, "succeeded", (GINA, 7_000), (CLEARING, -7_000), late=True)
    run.ask("R-tardy", "status", amount="70.00", channel="tardy")
    run.order(recharge("gina", "1.00", serial_no="R-gone", recharge_type=Channel.SILENT.value), "expired")
    run.ask("R-gone", "status", amount="1.00", channel="silent")
    run.order(hold("gina", "5.00", serial_no="H-over", expires_in_seconds=SHORT_HOLD_SECONDS), "expired")
    run.order(capture("H-over", "bob", "2.00", serial_no="C-some"), "succeeded", (GINA, -200), (BOB, 200))
    run.write()
    run.tell()
    return run


@dataclass(frozen=True, slots=True)
class Damage:
    """Something that went wrong in a run, and all that the checker must say of it."""

    name: str
    do: Callable[[Run], object]
    found: list[str]


def command(run: Run, serial_no: str) -> Row:
    return only(run.commands, serial_no=serial_no)


def order(run: Run, serial_no: str) -> Row:
    return only(run.orders, serial_no=serial_no)


def account(run: Run, account_id: int) -> Row:
    return only(run.accounts, account_id=account_id)


def line(run: Run, account_id: int, serial_no: str) -> Row:
    return only(run.entries, account_id=account_id, serial_no=serial_no)


def give_back_too_much(run: Run) -> None:
    run.order(
        refund("R-yen", "501", serial_no="F-yen", currency="JPY"),
        "succeeded",
        (DORA, -501),
        (CLEARING_YEN, 501),
    )
    run.write()


def take_before_it_is_there(run: Run) -> None:
    run.moves.sort(key=lambda move: move[0] != "T-1")
    run.write()


def move_too_much(run: Run) -> None:
    run.moves = [
        (serial_no, account_id, moved // 1_000 * 1_001 if serial_no == "T-1" else moved)
        for serial_no, account_id, moved in run.moves
    ]
    run.write()


def make_a_gift(run: Run) -> None:
    run.moves += [("gift", FRANK, 100), ("gift", CLEARING, -100)]
    run.write()


def wait_on(run: Run) -> None:
    order(run, "R-gone").update(status="pending")
    run.tell()


def hold_on(run: Run) -> None:
    order(run, "H-over").update(status="active")
    account(run, GINA).update(reserved=300)
    run.tell()


def lose_a_contra_line(run: Run) -> None:
    run.moves.remove(("R-yen", CLEARING_YEN, -500))
    run.write()


def lose_an_account(run: Run) -> None:
    run.moves = [move for move in run.moves if move[1] not in {DORA, CLEARING_YEN}]
    run.accounts.remove(account(run, DORA))
    run.write()


def retold(event_type: str, serial_no: str, **data: Any) -> Callable[[Run], None]:
    """Return what has an event heard with other data than it had."""

    def retell(run: Run) -> None:
        run.unhear(event_type, serial_no)
        run.hear(event_type, serial_no, **data)

    return retell


def with_line(serial_no: str, **changed: object) -> Callable[[Run], None]:
    """Return what has the end of an order heard with its first line changed."""

    def retell(run: Run) -> None:
        first, *others = lines_told(run, serial_no)
        retold("order.succeeded.v1", serial_no, entries=[first | changed, *others])(run)

    return retell


def tell_a_line_again(run: Run) -> None:
    retold("order.active.v1", "H-used", entries=lines_told(run, "T-1")[:1])(run)


def lines_told(run: Run, serial_no: str) -> list[Json]:
    (body,) = run.heard.told[f"order.succeeded.v1 of {serial_no}"]
    document: list[Json] = json.loads(body)["data"]["entries"]
    return document


def mistake(run: Run, note: Note, reason: str) -> None:
    run.heard.dead_letters[note.mark] = {reason}


def replied(serial_no: str, **fields: object) -> Callable[[Run], None]:
    """Return what has the one command of a serial number, or else its conflict, answered otherwise than it was."""

    def reply(run: Run) -> None:
        number = number_of(run, serial_no)
        del run.heard.replies[str(number)]
        run.reply(number, **fields)

    return reply


def number_of(run: Run, serial_no: str) -> int:
    """Return the last sending of a serial number that wants a reply."""
    return max(
        number
        for number, (note, _) in enumerate(run.notes, 1)
        if note.wants_reply and note.serial_no == serial_no
    )


def asked(serial_no: str, kind: str, **data: str) -> Callable[[Run], None]:
    """Return what has the gateway asked about an order."""
    return lambda run: run.ask(serial_no, kind, **data)


_OTHERWISE = "orders that ended otherwise than they must, or whose command was not applied"
_BALANCES = "invariant 4: balance differs from the model's"
_LINES = "invariant 4: accounts do not add up"
_MISASKED = "invariant 7: requests that say what is not so"
_MISTOLD = "invariant 7: lines were told otherwise than they are"
_MISTAKEN = "invariant 5: dead letters for another reason than was due"
_MISANSWERED = "invariant 7: replies that say what is not so"
_UNTRUE = "invariant 7: events that say what is not so"
_THERE = "accounts that are there and should not be, or not and should"

STORED = (
    Damage(
        "a command is lost",
        lambda run: run.commands.remove(command(run, "W-not")),
        ["invariant 1: confirmed commands have no outcome: W-not"],
    ),
    Damage(
        "a command is there twice",
        lambda run: run.commands.append(command(run, "R-card")),
        ["invariant 2: commands are there more than once: R-card"],
    ),
    Damage(
        "an order is there twice",
        lambda run: run.orders.append(order(run, "R-card")),
        ["invariant 2: orders are there more than once: R-card"],
    ),
    Damage(
        "an order has two lines on one account",
        lambda run: line(run, ALICE, "C-all").update(serial_no="R-card"),
        ["invariant 2: lines are there more than once: R-card on 101"],
    ),
    Damage(
        "an order has two contra lines",
        lambda run: line(run, CLEARING, "W-1").update(serial_no="R-card"),
        ["invariant 2: contra lines are there more than once: R-card"],
    ),
    Damage(
        "an account is there twice",
        lambda run: run.account(106, "dora", "JPY"),
        ["invariant 2: accounts are there more than once: dora JPY"],
    ),
    Damage(
        "an outcome is of a command that nobody sent",
        lambda run: run.commands.append(command(run, "W-not") | {"serial_no": "W-ghost"}),
        ["invariant 3: nobody sent these: W-ghost", "invariant 3: events about nothing sent: W-ghost"],
    ),
    Damage(
        "a command is refused for no reason",
        lambda run: command(run, "W-not").update(code="ACCOUNT_CLOSED"),
        ["invariant 3: outcomes other than were due: W-not got ACCOUNT_CLOSED, not OK|INSUFFICIENT_BALANCE"],
    ),
    Damage(
        "an order ended otherwise",
        lambda run: order(run, "R-not").update(status="succeeded"),
        [f"invariant 3: {_OTHERWISE}: R-not is succeeded, not failed"],
    ),
    Damage(
        "an order is that of a refused command",
        lambda run: command(run, "T-1").update(status="refused", code="INSUFFICIENT_BALANCE"),
        [
            f"invariant 3: {_OTHERWISE}: T-1 is succeeded, not to be there",
            f"{_BALANCES}: alice TWD: 4400, by the model 7400, bob TWD: 8100, by the model 5100",
        ],
    ),
    Damage(
        "an applied command has no order",
        lambda run: run.orders.remove(order(run, "T-1")),
        ["invariant 3: applied, and there is no order: T-1"],
    ),
    Damage(
        "an order that moved nothing is of another amount",
        lambda run: order(run, "R-not").update(amount=1_100),
        ["invariant 3: orders of other amounts than were sent: R-not: 11.00 TWD"],
    ),
    Damage(
        "an order is late that cannot be",
        lambda run: order(run, "R-card").update(late=True),
        ["invariant 3: orders that are late and cannot be: R-card"],
    ),
    Damage(
        "an account is there that nobody opened",
        lambda run: run.account(106, "erin", "TWD"),
        [f"invariant 3: {_THERE}: ('erin', 'TWD')"],
    ),
    Damage(
        "an account was opened and is not there",
        lambda run: run.accounts.remove(account(run, FRANK)),
        [f"invariant 3: {_THERE}: ('frank', 'TWD')"],
    ),
    Damage(
        "an account is gone, and its money with it",
        lose_an_account,
        [
            f"invariant 3: {_THERE}: ('dora', 'JPY')",
            f"{_BALANCES}: dora JPY: 0, by the model 800",
        ],
    ),
    Damage(
        "a closed account is open",
        lambda run: account(run, CAROL).update(status="active"),
        ["invariant 3: accounts that are closed and should not be, or not and should: carol"],
    ),
    Damage(
        "an account is closed that nobody closed",
        lambda run: account(run, FRANK).update(status="closed"),
        ["invariant 3: accounts that are closed and should not be, or not and should: frank"],
    ),
    Damage(
        "a contra line is gone",
        lose_a_contra_line,
        ["invariant 4: entries do not sum to zero: JPY 500"],
    ),
    Damage(
        "the numbering of the lines has a gap",
        lambda run: line(run, ALICE, "C-all").update(line_no=7),
        [f"{_LINES}: (101, 'line_no has gaps')"],
    ),
    Damage(
        "a line floats",
        lambda run: line(run, BOB, "C-part").update(balance_before=8_001, balance_after=8_401),
        [
            f"{_LINES}: (102, 'line 3 does not follow the one before'), (102, 'line 4 does not follow the one before')",
        ],
    ),
    Damage(
        "a line begins otherwise than the one before it ended",
        lambda run: line(run, BOB, "C-part").update(balance_before=8_001),
        [f"{_LINES}: (102, 'line 3 does not follow the one before')"],
    ),
    Damage(
        "a line does not add up",
        lambda run: line(run, BOB, "C-part").update(amount=401),
        [
            "invariant 4: entries do not sum to zero: TWD 1",
            f"{_LINES}: (102, 'line 3 does not follow the one before')",
        ],
    ),
    Damage(
        "money left an account before it was there",
        take_before_it_is_there,
        [f"{_LINES}: (101, 'overdrawn by line 1')"],
    ),
    Damage(
        "an account believes in a line too many",
        lambda run: account(run, BOB).update(line_no=5),
        [f"{_LINES}: (102, 'the balance is not that of its last line')"],
    ),
    Damage(
        "a balance was raised",
        lambda run: account(run, BOB).update(balance=8_101),
        [
            f"{_LINES}: (102, 'the balance is not that of its last line')",
            f"{_BALANCES}: bob TWD: 8101, by the model 8100",
        ],
    ),
    Damage(
        "money came from nowhere",
        make_a_gift,
        [
            f"{_BALANCES}: frank TWD: 100, by the model 0",
            "invariant 7: lines that nobody was told of: ('no. frank', 1)",
        ],
    ),
    Damage(
        "more is reserved than is there",
        lambda run: account(run, BOB).update(reserved=8_101),
        [
            f"{_LINES}: (102, 'overdrawn')",
            "invariant 4: reserved differs from the model's: bob TWD: 8101, by the model 0",
        ],
    ),
    Damage(
        "a hold reserves nothing",
        lambda run: account(run, ALICE).update(reserved=0),
        ["invariant 4: reserved differs from the model's: alice TWD: 0, by the model 800"],
    ),
    Damage(
        "an order moved more than it was of",
        move_too_much,
        [
            f"{_BALANCES}: alice TWD: 4397, by the model 4400, bob TWD: 8103, by the model 8100",
        ],
    ),
    Damage(
        "more is given back than was recharged",
        give_back_too_much,
        ["invariant 4: more was given than there was: R-yen"],
    ),
    Damage(
        "a serial number is stored with other content",
        lambda run: command(run, "R-card").update(content=CONFLICT.body.decode()),
        ["invariant 6: R-card is stored with other content than was sent first"],
    ),
)
"""What the database may have wrong, and then tells the world."""

_INNOCENT = b'{"innocent": true}'

HEARD = (
    Damage(
        "a bad message is no dead letter",
        lambda run: run.heard.dead_letters.pop(POISON.mark),
        ["invariant 1: confirmed bad messages are no dead letters: poison P-1"],
    ),
    Damage(
        "somebody hears of what nobody sent",
        lambda run: run.hear("order.succeeded.v1", "R-ghost"),
        [
            "invariant 3: events about nothing sent: R-ghost",
            "invariant 7: events of what did not happen: ('R-ghost', 'order.succeeded.v1')",
        ],
    ),
    Damage(
        "a good message is a dead letter",
        lambda run: run.hear_dead_letter(_INNOCENT, "MALFORMED"),
        [f"invariant 5: dead letters that should not be: {_INNOCENT!r} for ['MALFORMED']"],
    ),
    Damage(
        "the wallet failed on a message",
        lambda run: run.hear_dead_letter(POISON.body, "INTERNAL"),
        [
            "invariant 5: INTERNAL: no JSON",
            f"{_MISTAKEN}: poison P-1 for ['INTERNAL', 'MALFORMED'], not MALFORMED",
        ],
    ),
    *(
        Damage(
            f"a message is a dead letter for another reason: {note.kind}",
            partial(mistake, note=note, reason=reason),
            [f"{_MISTAKEN}: {note.kind} {note.serial_no} for ['{reason}'], not {note.expects}"],
        )
        for note, reason in (
            (POISON, "BAD_SIGNATURE"),
            (FORGED, "ORDER_NOT_FOUND"),
            (OVERTAKEN, "AMOUNT_MISMATCH"),
        )
    ),
    Damage(
        "a conflict is taken for something else",
        lambda run: run.hear_dead_letter(CONFLICT.body, "MALFORMED"),
        ["invariant 6: a conflict about R-card is a dead letter for ['MALFORMED', 'SERIAL_CONFLICT']"],
    ),
    Damage(
        "a message waits in the outbox",
        lambda run: setattr(run, "outbox", 1),
        ["invariant 7: 1 messages are left in the outbox"],
    ),
    Damage(
        "nobody heard how an order ended",
        lambda run: run.unhear("order.captured.v1", "H-gone"),
        ["invariant 7: events are missing: ('H-gone', 'order.captured.v1')"],
    ),
    Damage(
        "nobody heard that an order failed before its money came",
        lambda run: run.unhear("order.failed.v1", "R-late"),
        ["invariant 7: events are missing: ('R-late', 'order.failed.v1')"],
    ),
    Damage(
        "an order that never failed is told to have",
        lambda run: order(run, "R-late").update(late=False),
        ["invariant 7: events of what did not happen: ('R-late', 'order.failed.v1')"],
    ),
    Damage(
        "something is told twice over",
        lambda run: run.hear("order.active.v1", "H-used", event_id="another"),
        ["invariant 7: one thing was told under several event_ids: ('H-used', 'order.active.v1')"],
    ),
    Damage(
        "an event changes when it is told again",
        lambda run: run.hear("order.active.v1", "H-used", updated_at="later"),
        ["invariant 7: one event_id has told several things: order.active.v1 of H-used"],
    ),
    *(
        Damage(
            f"an event of an order has another {name}",
            retold("order.failed.v1", "R-not", **{name: answer}),
            [f"{_UNTRUE}: R-not: order.failed.v1 says {name} {answer}, and it is {so}"],
        )
        for name, answer, so in (
            ("status", "expired", "failed"),
            ("code", "INTERNAL", "OK"),
            ("amount", "10.0", "10.00"),
            ("currency", "USD", "TWD"),
            ("order_type", "refund", "recharge"),
            ("user_id", "nobody", "bob"),
            ("account_no", "no. nobody", "no. bob"),
            ("to_user_id", "alice", None),
            ("to_account_no", "no. alice", None),
        )
    ),
    Damage(
        "a refund is told as one of another recharge",
        retold("order.succeeded.v1", "F-1", original_serial_no="R-late"),
        [f"{_UNTRUE}: F-1: order.succeeded.v1 says original_serial_no R-late, and it is R-card"],
    ),
    Damage(
        "a capture is told as one of another hold",
        retold("order.succeeded.v1", "C-all", hold_serial_no="H-used"),
        [f"{_UNTRUE}: C-all: order.succeeded.v1 says hold_serial_no H-used, and it is H-gone"],
    ),
    Damage(
        "an order's end is told without what it moved",
        retold("order.succeeded.v1", "T-1", entries=[]),
        ["invariant 7: lines that nobody was told of: ('no. alice', 2), ('no. bob', 2)"],
    ),
    Damage(
        "a line is told under another number",
        with_line("T-1", line_no=999),
        [
            "invariant 7: lines that nobody was told of: ('no. alice', 2)",
            "invariant 7: lines were told that are not there: ('no. alice', 999)",
        ],
    ),
    Damage(
        "a line is told by the event of another order too",
        tell_a_line_again,
        [
            "invariant 7: one line was told in several events: ('no. alice', 2)",
            f"{_MISTOLD}: ('no. alice', 2): serial_no H-used, and it is T-1",
        ],
    ),
    *(
        Damage(
            f"a line is told with another {name}",
            with_line("T-1", **{name: answer}),
            [f"{_MISTOLD}: ('no. alice', 2): {name} {answer}, and it is {so}"],
        )
        for name, answer, so in (
            ("amount", "31.00", "30.00"),
            ("balance_before", "99.00", "100.00"),
            ("balance_after", "-1.00", "70.00"),
            ("direction", "credit", "debit"),
            ("currency", "USD", "TWD"),
            ("order_type", "capture", "transfer"),
        )
    ),
    Damage(
        "an event of an account is about another",
        retold("account.opened.v1", "O-frank", user_id="erin"),
        [f"{_UNTRUE}: O-frank: account.opened.v1 says user_id erin, and it is frank"],
    ),
    Damage(
        "a refusal is told with another reason",
        retold("command.refused.v1", "W-not", code="ACCOUNT_FROZEN"),
        [f"{_UNTRUE}: W-not: command.refused.v1 says code ACCOUNT_FROZEN, and it is INSUFFICIENT_BALANCE"],
    ),
    Damage(
        "the gateway was never asked to pay out",
        lambda run: run.heard.requests.pop(("W-1", "payout")),
        ["invariant 7: payments nobody was asked for: ('W-1', 'payout')"],
    ),
    Damage(
        "the gateway is asked how a payment stands, and was never asked to give it back",
        lambda run: run.heard.requests.update({("F-1", "status"): run.heard.requests.pop(("F-1", "refund"))}),
        ["invariant 7: payments nobody was asked for: ('F-1', 'refund')"],
    ),
    Damage(
        "the gateway is asked to pay out what was refused",
        lambda run: run.ask("W-not"),
        ["invariant 7: payments asked for that are not due: ('W-not', 'payout')"],
    ),
    Damage(
        "the gateway is asked for the wrong thing",
        lambda run: run.ask("R-card", "payout"),
        ["invariant 7: payments asked for that are not due: ('R-card', 'payout')"],
    ),
    Damage(
        "the gateway is asked for one payment in two ways",
        lambda run: run.ask("R-card", requested_at="later"),
        ["invariant 7: one payment was asked for in several ways: ('R-card', 'charge')"],
    ),
    *(
        Damage(
            f"the gateway is asked with another {name}",
            asked("R-card", "status", **{name: answer}),
            [f"{_MISASKED}: R-card: status says {name} {answer}, and it is {so}"],
        )
        for name, answer, so in (
            ("amount", "10.00", "100.00"),
            ("currency", "USD", "TWD"),
            ("channel", "again", "card"),
        )
    ),
    Damage(
        "a command has no reply",
        lambda run: run.heard.replies.pop(str(number_of(run, "W-not"))),
        ["invariant 7: sendings without a reply: W-not"],
    ),
    Damage(
        "a repeat has no reply",
        lambda run: run.heard.replies.pop(str(number_of(run, "O-alice"))),
        ["invariant 7: sendings without a reply: O-alice"],
    ),
    Damage(
        "somebody is answered who has not asked",
        lambda run: run.heard.replies.update({"None": {b"{}"}}),
        ["invariant 7: replies nobody asked for: None"],
    ),
    *(
        Damage(
            f"a reply has another {name}",
            replied("W-not", **{name: answer}),
            [f"{_MISANSWERED}: W-not: {name} {answer}, and it is {so}"],
        )
        for name, answer, so in (
            ("type", "command.outcome.v2", "command.outcome.v1"),
            ("status", "applied", "refused"),
            ("code", "ACCOUNT_FROZEN", "INSUFFICIENT_BALANCE"),
            ("result", {"of": "W-not"}, {"object": "none"}),
            ("different", ["amount"], None),
        )
    ),
    Damage(
        "the reply to a conflict is wrong about what is different",
        replied("R-card", different=["amount"]),
        [f"{_MISANSWERED}: R-card: different ['amount'], and it is ['user_id']"],
    ),
    Damage(
        "a repeat is answered as if it were the first",
        replied("O-alice", duplicate=False),
        ["invariant 2: several sendings were answered as the first: O-alice"],
    ),
    Damage(
        "nothing was answered as the first",
        replied("T-1", duplicate=True),
        ["invariant 7: no sending was answered as the first: T-1"],
    ),
    Damage(
        "a result is parked",
        lambda run: setattr(run, "parked", 2),
        ["invariant 8: 2 results are still parked"],
    ),
    Damage(
        "a message found no way",
        lambda run: run.heard.unrouted.append(b"lost"),
        ["invariant 8: 1 messages found no way: b'lost'"],
    ),
    Damage(
        "a message is left in a queue",
        lambda run: run.queues.update({"wallet.commands": 3}),
        ["invariant 8: 3 messages are left in wallet.commands"],
    ),
)
"""What subscribers may hear wrongly, of a database that has it right; and what is left lying about."""


EXPIRY = (
    Damage(
        "a recharge that nobody paid still waits",
        wait_on,
        [f"invariant 3: {_OTHERWISE}: R-gone is pending, not expired"],
    ),
    Damage(
        "a hold whose time is over still holds",
        hold_on,
        [
            f"invariant 3: {_OTHERWISE}: H-over is active, not expired",
            "invariant 4: reserved differs from the model's: gina TWD: 300, by the model 0",
        ],
    ),
    Damage(
        "an order expired where none does",
        lambda run: setattr(run, "expiring", False),
        [
            f"invariant 3: {_OTHERWISE}: R-gone is expired, not pending",
            "invariant 3: orders that are late and cannot be: R-tardy",
        ],
    ),
    Damage(
        "the gateway is not asked about a recharge that expires",
        lambda run: run.heard.requests.pop(("R-gone", "status")),
        ["invariant 7: payments nobody was asked for: ('R-gone', 'status')"],
    ),
    Damage(
        "an order is told to have failed and expired before its money came",
        lambda run: run.hear("order.failed.v1", "R-tardy"),
        ["invariant 7: events of what did not happen: ('R-tardy', 'order.expired.v1')"],
    ),
)
"""What may go wrong with an order that is due, wherever it shows."""


def test_a_run_in_which_all_went_well_is_clean() -> None:
    assert clean().violations() == []
    assert with_expiry().violations() == []


@pytest.mark.parametrize("damage", STORED, ids=lambda damage: damage.name)
def test_damage_in_the_database_is_found_where_it_is(damage: Damage) -> None:
    run = clean()

    damage.do(run)
    run.tell()

    assert run.violations() == damage.found


@pytest.mark.parametrize("damage", HEARD, ids=lambda damage: damage.name)
def test_damage_to_what_is_heard_is_found_where_it_is(damage: Damage) -> None:
    run = clean()

    damage.do(run)

    assert run.violations() == damage.found


@pytest.mark.parametrize("damage", EXPIRY, ids=lambda damage: damage.name)
def test_damage_to_what_expires_is_found_where_it_is(damage: Damage) -> None:
    run = with_expiry()

    damage.do(run)

    assert run.violations() == damage.found


def test_an_unknown_sending_may_be_lost_and_a_confirmed_one_may_not() -> None:
    run = clean()
    run.commands.remove(command(run, "W-not"))
    run.tell()

    run.notes = [
        (note, Answer.UNKNOWN if note.serial_no == "W-not" else answer) for note, answer in run.notes
    ]

    assert run.violations() == []


def test_the_gateway_may_be_asked_again_and_again_how_a_payment_stands() -> None:
    run = clean()

    run.ask("R-card", "status", requested_at="now")
    run.ask("R-card", "status", requested_at="later")

    assert run.violations() == []


def test_only_the_first_offenders_are_shown() -> None:
    run = clean()
    ghosts = [command(run, "W-not") | {"serial_no": f"ghost-{number}"} for number in range(7)]

    run.commands += ghosts

    assert run.violations()[0] == (
        "invariant 3: nobody sent these: ghost-0, ghost-1, ghost-2, ghost-3, ghost-4 and 2 more"
    )


def test_everything_that_the_checker_can_say_is_said_of_some_damage() -> None:
    answers = [sentence for damage in (*STORED, *HEARD, *EXPIRY) for sentence in damage.found]

    patterns = sentences(Path(checker.__file__).read_text())

    assert len(patterns) > 30
    assert [pattern for pattern in patterns if not any(re.search(pattern, item) for item in answers)] == []


def sentences(source: str) -> list[str]:
    """Return a pattern for every sentence in the checker's source that says what is wrong."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id="_unless_empty" | "Violation"), args=[_, *_, what]):
                found.append(what)
            case ast.Yield(value=ast.Tuple(elts=[_, what])):
                found.append(what)
            case _:
                pass
    return [_pattern(what) for what in found]


def _pattern(what: ast.expr) -> str:
    match what:
        case ast.Constant(value=str(words)):
            return re.escape(words)
        case ast.JoinedStr(values=parts):
            return "".join(_pattern(part) for part in parts)
        case _:
            return ".*"
