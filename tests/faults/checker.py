"""The eight invariants, from the notebook's model against what database, broker and subscribers really have.

Sets of ids are compared, never counts: duplicates can fill a count.
"""

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import asyncpg
from typing_extensions import override

from tests.faults.model import Model, Owner, text
from tests.faults.notebook import Note

SHOWN_MAX = 5

FIRST_EVENTS = {
    "account.open.v1": "account.opened.v1",
    "account.freeze.v1": "account.frozen.v1",
    "account.unfreeze.v1": "account.unfrozen.v1",
    "account.close.v1": "account.closed.v1",
    "order.recharge.v1": "order.pending.v1",
    "order.withdraw.v1": "order.pending.v1",
    "order.refund.v1": "order.pending.v1",
    "order.transfer.v1": "order.succeeded.v1",
    "order.capture.v1": "order.succeeded.v1",
    "order.release.v1": "order.succeeded.v1",
    "order.hold.v1": "order.active.v1",
}
"""What is told when a command is applied."""

STATUS = "status"
"""The kind of a request that asks how a payment stands."""

Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that does not hold, by its number, with the first offenders."""

    invariant: int
    what: str

    @override
    def __str__(self) -> str:
        return f"invariant {self.invariant}: {self.what}"


@dataclass(slots=True)
class Heard:
    """What subscribers heard."""

    events: defaultdict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    """(serial number, type) to event ids."""
    times: Counter[str] = field(default_factory=Counter)
    """Event id to how often it was heard."""
    told: defaultdict[str, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    """Event id to bodies: one, however often it was heard."""
    dead_letters: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Mark of the body to reasons: a set, also with keepers. Two records of one dead letter are seen only by the
    tests of row 19."""
    bodies: dict[str, bytes] = field(default_factory=dict)
    """Mark to the body of the dead letter."""
    unrouted: list[bytes] = field(default_factory=list)
    requests: defaultdict[tuple[str, str], set[bytes]] = field(default_factory=lambda: defaultdict(set))
    """(serial number, kind) to the bodies in which the gateway was asked: one, however often that came."""
    replies: defaultdict[str, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    """The number of a sending to the bodies in which it was answered."""

    def hear(self, body: bytes) -> tuple[str, str]:
        """Note an event; return its type and its serial number."""
        event = json.loads(body)
        self.events[event["serial_no"], event["type"]].add(event["event_id"])
        self.times[event["event_id"]] += 1
        self.told[event["event_id"]].add(body)
        return event["type"], event["serial_no"]

    def hear_request(self, body: bytes) -> Row:
        """Note what the gateway is asked; return it."""
        request: Row = json.loads(body)
        self.requests[request["payment_order_no"], request["kind"]].add(body)
        return request


@dataclass(frozen=True, slots=True)
class Stored:
    """What the database has."""

    commands: list[Row]
    orders: list[Row]
    accounts: list[Row]
    entries: list[Row]
    outbox: int
    parked: int


_COMMANDS = "SELECT serial_no, command_type, status, code, content, result FROM commands"
_ORDERS = """
SELECT o.serial_no, o.order_type, o.status, o.code, o.amount, o.currency, o.late, a.user_id, a.account_no,
       payee.user_id AS to_user_id, payee.account_no AS to_account_no, o.about_serial_no
FROM orders o
JOIN accounts a USING (account_id)
LEFT JOIN accounts payee ON payee.account_id = o.counter_account_id
"""
_ACCOUNTS = "SELECT account_id, kind, user_id, currency, status, balance, reserved, line_no FROM accounts"
_ENTRIES = """
SELECT e.account_id, e.line_no, e.direction, e.amount, e.balance_before, e.balance_after, a.kind, a.currency,
       a.account_no, o.serial_no, o.order_type
FROM entries e
JOIN accounts a USING (account_id)
LEFT JOIN orders o USING (order_id)
ORDER BY e.account_id, e.line_no
"""


async def stored(connection: asyncpg.Connection) -> Stored:
    """Return everything that the checker looks at, from one snapshot."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return Stored(
            await _rows(connection, _COMMANDS),
            await _rows(connection, _ORDERS),
            await _rows(connection, _ACCOUNTS),
            await _rows(connection, _ENTRIES),
            await connection.fetchval("SELECT count(*) FROM outbox"),
            await connection.fetchval("SELECT count(*) FROM parked_results"),
        )


async def _rows(connection: asyncpg.Connection, query: str) -> list[Row]:
    return [dict(row) for row in await connection.fetch(query)]


def check(model: Model, found: Stored, heard: Heard, queues: Mapping[str, int]) -> list[Violation]:
    """Return everything that is wrong, nothing if nothing is. `queues` has each queue's messages at the end."""
    return [
        *_nothing_is_lost(model, found, heard),
        *_nothing_is_twice(found),
        *_there_are_no_ghosts(model, found, heard),
        *_orders_and_accounts_are_as_due(model, found),
        *_the_books_add_up(model, found),
        *_no_bystanders(model, heard),
        *_conflicts_change_nothing(model, found, heard),
        *_events_are_complete(found, heard),
        *_events_say_what_is_so(found, heard),
        *_every_line_is_told(found, heard),
        *_the_gateway_is_asked(model, found, heard),
        *_replies_are_the_outcome(model, found, heard),
        *_everything_is_quiet(found, heard, queues),
    ]


def _nothing_is_lost(model: Model, found: Stored, heard: Heard) -> Iterable[Violation]:
    answered = {row["serial_no"] for row in found.commands}
    yield from _unless_empty(1, model.confirmed - answered, "confirmed commands have no outcome")
    yield from _unless_empty(
        1,
        _named(model, model.poison_confirmed - heard.dead_letters.keys()),
        "confirmed bad messages are no dead letters",
    )


def _nothing_is_twice(found: Stored) -> Iterable[Violation]:
    for what, numbers in (
        ("commands", [row["serial_no"] for row in found.commands]),
        ("orders", [row["serial_no"] for row in found.orders]),
        (
            "lines",
            [f"{row['serial_no']} on {row['account_id']}" for row in found.entries if row["kind"] == "user"],
        ),
        ("contra lines", [row["serial_no"] for row in found.entries if row["kind"] == "system"]),
        (
            "accounts",
            [f"{row['user_id']} {row['currency']}" for row in found.accounts if row["kind"] == "user"],
        ),
    ):
        twice = {str(number) for number, count in Counter(numbers).items() if count > 1}
        yield from _unless_empty(2, twice, f"{what} are there more than once")


def _there_are_no_ghosts(model: Model, found: Stored, heard: Heard) -> Iterable[Violation]:
    sent = model.commands
    yield from _unless_empty(
        3, {row["serial_no"] for row in found.commands} - sent.keys(), "nobody sent these"
    )
    yield from _unless_empty(
        3, {number for number, _ in heard.events} - sent.keys(), "events about nothing sent"
    )
    wrong = {
        f"{row['serial_no']} got {row['code']}, not {sent[row['serial_no']].expects}"
        for row in found.commands
        if row["serial_no"] in sent and row["code"] not in sent[row["serial_no"]].expects.split("|")
    }
    yield from _unless_empty(3, wrong, "outcomes other than were due")


def _orders_and_accounts_are_as_due(model: Model, found: Stored) -> Iterable[Violation]:
    """Compare with what the applied commands make, in both directions."""
    applied = _applied(model, found)
    due = model.statuses(applied)
    wrong = {
        f"{row['serial_no']} is {row['status']}, not {due.get(row['serial_no'], 'to be there')}"
        for row in found.orders
        if row["status"] not in due.get(row["serial_no"], "").split("|")
    }
    yield from _unless_empty(
        3, wrong, "orders that ended otherwise than they must, or whose command was not applied"
    )
    missing = due.keys() - {row["serial_no"] for row in found.orders}
    yield from _unless_empty(3, missing, "applied, and there is no order")
    amounts = model.amounts(applied)
    wrong = {
        f"{row['serial_no']}: {text(row['amount'], row['currency'])} {row['currency']}"
        for row in found.orders
        if row["serial_no"] in amounts and (row["amount"], row["currency"]) != amounts[row["serial_no"]]
    }
    yield from _unless_empty(3, wrong, "orders of other amounts than were sent")
    late = {row["serial_no"] for row in found.orders if row["late"]}
    yield from _unless_empty(3, late - model.late(applied), "orders that are late and cannot be")
    opened = {(row["user_id"], row["currency"]) for row in found.accounts if row["kind"] == "user"}
    yield from _unless_empty(
        3,
        map(str, opened ^ model.owners(applied)),
        "accounts that are there and should not be, or not and should",
    )
    closed = {row["user_id"] for row in found.accounts if row["status"] == "closed"}
    yield from _unless_empty(
        3, closed ^ model.closed(applied), "accounts that are closed and should not be, or not and should"
    )


def _applied(model: Model, found: Stored) -> set[str]:
    """Return the serial numbers of the commands that were sent, and of which the world was told that they are done."""
    return {row["serial_no"] for row in found.commands if row["status"] == "applied"} & model.commands.keys()


def _the_books_add_up(model: Model, found: Stored) -> Iterable[Violation]:
    sums: defaultdict[str, int] = defaultdict(int)
    by_account: defaultdict[int, list[Row]] = defaultdict(list)
    for row in found.entries:
        sums[row["currency"]] += _signed(row)
        by_account[row["account_id"]].append(row)
    yield from _unless_empty(
        4, {f"{currency} {total}" for currency, total in sums.items() if total}, "entries do not sum to zero"
    )
    yield from _unless_empty(
        4, {str(account) for account in _broken_accounts(found, by_account)}, "accounts do not add up"
    )
    applied = _applied(model, found)
    for what, due in (("balance", model.balances(applied)), ("reserved", model.reserved(applied))):
        there: Counter[Owner] = Counter()
        for row in found.accounts:
            if row["kind"] == "user":
                there[row["user_id"], row["currency"]] += row[what]
        wrong = {
            f"{user_id} {currency}: {there[user_id, currency]}, by the model {due.get((user_id, currency), 0)}"
            for user_id, currency in due.keys() | there.keys()
            if there[user_id, currency] != due.get((user_id, currency), 0)
        }
        yield from _unless_empty(4, wrong, f"{what} differs from the model's")
    yield from _unless_empty(4, model.overdrawn(applied), "more was given than there was")


def _broken_accounts(found: Stored, by_account: Mapping[int, list[Row]]) -> Iterable[tuple[int, str]]:
    for account in found.accounts:
        number, before = account["account_id"], 0
        lines = by_account.get(number, [])
        if [line["line_no"] for line in lines] != list(range(1, len(lines) + 1)):
            yield number, "line_no has gaps"
        for line in lines:
            if line["balance_before"] != before or line["balance_after"] != before + _signed(line):
                yield number, f"line {line['line_no']} does not follow the one before"
            if account["kind"] == "user" and line["balance_after"] < 0:
                yield number, f"overdrawn by line {line['line_no']}"
            before = line["balance_after"]
        if account["balance"] != before or account["line_no"] != len(lines):
            yield number, "the balance is not that of its last line"
        if account["kind"] == "user" and not 0 <= account["reserved"] <= account["balance"]:
            yield number, "overdrawn"


def _signed(line: Row) -> int:
    return int(line["amount"] if line["direction"] == "credit" else -line["amount"])


def _no_bystanders(model: Model, heard: Heard) -> Iterable[Violation]:
    innocent = heard.dead_letters.keys() - model.poison.keys() - model.perhaps.keys()
    shown = {f"{heard.bodies[mark][:120]!r} for {sorted(heard.dead_letters[mark])}" for mark in innocent}
    yield from _unless_empty(5, shown, "dead letters that should not be")
    failed = {mark for mark, reasons in heard.dead_letters.items() if "INTERNAL" in reasons}
    yield from _unless_empty(
        5, {heard.bodies[mark][:120].decode(errors="replace") for mark in failed}, "INTERNAL"
    )
    wrong = {
        f"{note.kind} {note.serial_no} for {sorted(heard.dead_letters[mark])}, not {note.expects}"
        for mark, note in (model.poison | model.perhaps).items()
        if note.expects != "OK" and not heard.dead_letters.get(mark, set()) <= {note.expects}
    }
    yield from _unless_empty(5, wrong, "dead letters for another reason than was due")


def _conflicts_change_nothing(model: Model, found: Stored, heard: Heard) -> Iterable[Violation]:
    for row in found.commands:
        note = model.commands.get(row["serial_no"])
        if note is not None and json.loads(row["content"]) != note.fields:
            yield Violation(6, f"{row['serial_no']} is stored with other content than was sent first")
    for mark, reasons in heard.dead_letters.items():
        note = model.poison.get(mark)
        if note is not None and note.kind == "conflict" and reasons != {"SERIAL_CONFLICT"}:
            yield Violation(6, f"a conflict about {note.serial_no} is a dead letter for {sorted(reasons)}")


def _events_are_complete(found: Stored, heard: Heard) -> Iterable[Violation]:
    if found.outbox:
        yield Violation(7, f"{found.outbox} messages are left in the outbox")
    due: set[tuple[str, str]] = set()
    for row in found.commands:
        if row["status"] == "refused":
            due.add((row["serial_no"], "command.refused.v1"))
        else:
            due.add((row["serial_no"], FIRST_EVENTS[row["command_type"]]))
    for row in found.orders:
        if row["status"] not in {"pending", "active"}:
            due.add((row["serial_no"], f"order.{row['status']}.v1"))
        if row["late"]:  # it had failed before the money came, or expired, and not both
            expired = (row["serial_no"], "order.expired.v1")
            failed = (row["serial_no"], "order.failed.v1")
            due.add(expired if expired in heard.events and failed not in heard.events else failed)
    yield from _unless_empty(7, map(str, due - heard.events.keys()), "events are missing")
    yield from _unless_empty(7, map(str, heard.events.keys() - due), "events of what did not happen")
    several = {str(key) for key, ids in heard.events.items() if len(ids) > 1}
    yield from _unless_empty(7, several, "one thing was told under several event_ids")
    changed = {event_id for event_id, bodies in heard.told.items() if len(bodies) > 1}
    yield from _unless_empty(7, changed, "one event_id has told several things")


def _events_say_what_is_so(found: Stored, heard: Heard) -> Iterable[Violation]:
    commands = {row["serial_no"]: row for row in found.commands}
    orders = {row["serial_no"]: row for row in found.orders}
    wrong: set[str] = set()
    for body in itertools.chain.from_iterable(heard.told.values()):
        event = json.loads(body)
        of, answer = event["type"].split(".")[0], event["data"]
        row = (orders if of == "order" else commands).get(event["serial_no"])
        if row is None:
            continue  # it tells of what did not happen
        match of:
            case "order":
                status = event["type"].split(".")[1]
                so = _order(row) | {"status": status}
                if status != row["status"] and "code" in so:
                    # The row has the code of how it stands now; an order that was pending had no failure.
                    so["code"] = "OK" if status == "pending" else answer.get("code")
            case "account":
                document = json.loads(row["content"])
                so = {name: document[name] for name in ("user_id", "currency")}
            case _:
                so = {name: row[name] for name in ("command_type", "code")}
        wrong |= {
            f"{event['serial_no']}: {event['type']} says {name} {answer.get(name)}, and it is {so[name]}"
            for name in so
            if answer.get(name) != so[name]
        }
    yield from _unless_empty(7, wrong, "events that say what is not so")


def _order(row: Row) -> Row:
    """Return what every event of an order says of it; what is None is left out there."""
    about = "original_serial_no" if row["order_type"] == "refund" else "hold_serial_no"
    same = ("order_type", "code", "currency", "user_id", "account_no", "to_user_id", "to_account_no")
    return {name: row[name] for name in same} | {
        "amount": text(row["amount"], row["currency"]),
        about: row["about_serial_no"],
    }


def _every_line_is_told(found: Stored, heard: Heard) -> Iterable[Violation]:
    """Compare each user's lines with those that events have told: each in one event, that of its order."""
    lines = {_number(row): _line(row) for row in found.entries if row["kind"] == "user"}
    notified: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
    wrong: set[str] = set()
    for event_id, bodies in heard.told.items():
        for event in map(json.loads, bodies):
            for entry in event["data"].get("entries") or ():
                number = _number(entry)
                notified[number].add(event_id)
                answer = entry | {"serial_no": event["serial_no"]}
                wrong |= {
                    f"{number}: {name} {answer[name]}, and it is {so}"
                    for name, so in lines.get(number, {}).items()
                    if answer[name] != so
                }
    yield from _unless_empty(7, map(str, lines.keys() - notified.keys()), "lines that nobody was told of")
    yield from _unless_empty(
        7, map(str, notified.keys() - lines.keys()), "lines were told that are not there"
    )
    several = {str(number) for number, ids in notified.items() if len(ids) > 1}
    yield from _unless_empty(7, several, "one line was told in several events")
    yield from _unless_empty(7, wrong, "lines were told otherwise than they are")


def _number(line: Row) -> tuple[str, int]:
    """Return what a user knows a line by."""
    return line["account_no"], line["line_no"]


def _line(row: Row) -> Row:
    """Return what an event says of a line."""
    amounts = ("amount", "balance_before", "balance_after")
    return {name: text(row[name], row["currency"]) for name in amounts} | {
        name: row[name] for name in ("serial_no", "order_type", "direction", "currency")
    }


def _the_gateway_is_asked(model: Model, found: Stored, heard: Heard) -> Iterable[Violation]:
    """Compare what was asked with the payments that are due; how one of them stands may be asked besides."""
    due = model.payments(_applied(model, found))
    may_ask = due.keys() | {(serial_no, STATUS) for serial_no, _ in due}
    expired = {
        (row["serial_no"], STATUS)
        for row in found.orders
        if row["order_type"] == "recharge" and row["status"] == "expired"
    }
    missing = (due.keys() | expired) - heard.requests.keys()
    yield from _unless_empty(7, map(str, missing), "payments nobody was asked for")
    yield from _unless_empty(
        7, map(str, heard.requests.keys() - may_ask), "payments asked for that are not due"
    )
    several = {str(key) for key, bodies in heard.requests.items() if len(bodies) > 1 and key[1] != STATUS}
    yield from _unless_empty(7, several, "one payment was asked for in several ways")
    orders = {serial_no: so for (serial_no, _), so in due.items()}
    wrong = {
        f"{number}: {kind} says {name} {load[name]}, and it is {so}"
        for number, kind in heard.requests.keys() & may_ask
        for load in map(json.loads, heard.requests[number, kind])
        for name, so in orders[number].items()
        if load[name] != so
    }
    yield from _unless_empty(7, wrong, "requests that say what is not so")


def _replies_are_the_outcome(model: Model, found: Stored, heard: Heard) -> Iterable[Violation]:
    """Compare with the stored outcomes: of all sendings of a serial number one is its first, the others repeat it."""
    commands = {row["serial_no"]: row for row in found.commands}
    answerable = {
        number
        for number in model.asking_confirmed
        if model.calls[number].kind == "conflict" or model.calls[number].serial_no in commands
    }
    yield from _unless_empty(
        7,
        {model.calls[number].serial_no for number in answerable - heard.replies.keys()},
        "sendings without a reply",
    )
    yield from _unless_empty(7, heard.replies.keys() - model.calls.keys(), "replies nobody asked for")
    firsts: dict[str, set[str]] = {}
    wrong: set[str] = set()
    for number in heard.replies.keys() & model.calls.keys():
        note = model.calls[number]
        is_conflict = note.kind == "conflict"
        so = {"type": "command.outcome.v1", "serial_no": note.serial_no}
        so |= _conflict(model, note) if is_conflict else _outcome(commands.get(note.serial_no))
        for load in map(json.loads, heard.replies[number]):
            first = not load.pop("duplicate")
            wrong |= {
                f"{note.serial_no}: {name} {load.get(name)}, and it is {so.get(name)}"
                for name in load.keys() | so.keys()
                if load.get(name) != so.get(name)
            }
            if not is_conflict:
                firsts.setdefault(note.serial_no, set()).update({number} if first else ())
    yield from _unless_empty(7, wrong, "replies that say what is not so")
    several = {serial_no for serial_no, numbers in firsts.items() if len(numbers) > 1}
    yield from _unless_empty(2, several, "several sendings were answered as the first")
    none = {serial_no for serial_no, numbers in firsts.items() if not numbers}
    yield from _unless_empty(7, none, "no sending was answered as the first")


def _outcome(row: Row | None) -> Row:
    """Return what every reply to a command says."""
    return {} if row is None else {name: row[name] for name in ("status", "code")} | _result(row)


def _result(row: Row) -> Row:
    """Return the result of a reply; of a refusal, what is stored in its place says why."""
    stored = json.loads(row["result"])
    return {"result": stored} if row["status"] == "applied" else {"result": {"object": "none"}, **stored}


def _conflict(model: Model, note: Note) -> Row:
    """Return what the reply says to other content under a serial number."""
    first, second = model.commands[note.serial_no].fields, json.loads(note.body)
    different = {name for name in first.keys() | second.keys() if first.get(name) != second.get(name)}
    return {
        "status": "refused",
        "code": "SERIAL_CONFLICT",
        "result": {"object": "none"},
        "message": f"the serial number was used before with different {', '.join(sorted(different))}",
        "different": sorted(different),
    }


def _everything_is_quiet(found: Stored, heard: Heard, queues: Mapping[str, int]) -> Iterable[Violation]:
    if found.parked:
        yield Violation(8, f"{found.parked} results are still parked")
    if heard.unrouted:
        yield Violation(8, f"{len(heard.unrouted)} messages found no way: {heard.unrouted[0][:120]!r}")
    for queue, messages in queues.items():
        if messages:
            yield Violation(8, f"{messages} messages are left in {queue}")


def _named(model: Model, marks: Iterable[str]) -> set[str]:
    return {f"{model.poison[mark].kind} {model.poison[mark].serial_no}" for mark in marks}


def _unless_empty(invariant: int, offenders: Iterable[str], what: str) -> Iterable[Violation]:
    found = sorted(offenders)
    if found:
        shown = ", ".join(found[:SHOWN_MAX])
        more = f" and {len(found) - SHOWN_MAX} more" if len(found) > SHOWN_MAX else ""
        yield Violation(invariant, f"{what}: {shown}{more}")
