"""The record as a page: what was to be reached and what was, then every figure with its spread."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tests.benchmarks.contest import Contestant
from tests.benchmarks.record import Key, Ratio, Record
from tests.benchmarks.runs import (
    BACKLOG,
    BROKER,
    CORES,
    DATABASE,
    EMPTY,
    FUNCTIONS,
    GROWN,
    GROWTH,
    LATENCY,
    LOCKS,
    LONG,
    MEMORY,
    PEAK,
    PROFILE,
    RATE,
    REST,
    cpu,
)
from tests.benchmarks.workloads import Workload

_SHOWN_FUNCTIONS: Final = 22


@dataclass(frozen=True, slots=True)
class Aim:
    """One figure that the wallet is to reach: a ratio, or a value where `under` is absent."""

    title: str
    over: Key
    under: Key | None
    done: float
    aim: float
    least_is_best: bool = False

    def verdict(self, value: float) -> str:
        """Return how far it was reached, in a word."""

        def reached(bound: float) -> bool:
            return value <= bound if self.least_is_best else value >= bound

        if reached(self.aim):
            return "aim reached"
        return "done" if reached(self.done) else "**not reached**"


_OURS_MIX: Final = Key(RATE, Contestant.OURS, Workload.MIX)

AIMS: Final = (
    Aim("ours : usual worker, mix", _OURS_MIX, Key(RATE, Contestant.USUAL, Workload.MIX), 5, 8),
    Aim("ours : echo without a database", _OURS_MIX, Key(RATE, Contestant.ECHO, Workload.MIX), 1.5, 2),
    Aim(
        "hot account : spread",
        Key(RATE, Contestant.OURS, Workload.HOT),
        Key(RATE, Contestant.OURS, Workload.RESULTS),
        0.9,
        1,
    ),
    Aim(
        "10 million entries : empty",
        Key(GROWTH, Contestant.OURS, GROWN),
        Key(GROWTH, Contestant.OURS, EMPTY),
        0.85,
        0.95,
    ),
    Aim(
        "p99 latency at 100/s, ours : usual worker",
        Key(LATENCY, Contestant.OURS, "100/s p99"),
        Key(LATENCY, Contestant.USUAL, "100/s p99"),
        1,
        0.7,
        least_is_best=True,
    ),
    Aim("two processes : one", Key(RATE, Contestant.OURS_TWO, Workload.MIX), _OURS_MIX, 1.3, 1.6),
    Aim(
        "two processes : one, where the mix has 10,000 users",
        Key(RATE, Contestant.OURS_TWO, Workload.MIX_FEW),
        Key(RATE, Contestant.OURS, Workload.MIX_FEW),
        1.3,
        1.6,
    ),
    Aim(
        "peak memory of the worker, a backlog of a million, MB",
        Key(BACKLOG, LONG, PEAK),
        None,
        150,
        100,
        least_is_best=True,
    ),
)


def page(record: Record, *, plot: str | None = None) -> str:
    """Return the record as Markdown; `plot` is the name of the picture beside it."""
    parts = [f"# {record.title}", *_circumstances(record)]
    if plot:
        parts.append(f"![Messages a second and latency]({plot})")
    parts += ["## What is to be reached", _aims(record), *_two_processes(record)]
    for title, section, note, show in (
        (
            "## Messages a second",
            RATE,
            "Drained from a backlog, the steady part of it: the median of the rounds, and the least and the greatest.",
            _whole,
        ),
        ("## The database alone, transactions a second", DATABASE, "", _whole),
        ("## The broker alone, messages a second", BROKER, "", _whole),
        (
            "## Latency, milliseconds from a command's moment to its outcome",
            LATENCY,
            "Open loop: the moment is when it was due, not when it was sent.",
            _fine,
        ),
        ("## Growth, messages a second", GROWTH, "The mix, on an empty database and on a full one.", _whole),
        ("## A long backlog", BACKLOG, "Recharge commands, one run.", _whole),
        ("## Peak memory of the worker's process, MB", MEMORY, "", _whole),
    ):
        if record.whats(section):
            parts += [title, *([note] if note else []), _matrix(record, section, show)]
    parts += _efforts(record)
    for title, section in (
        ("## Where the worker's time goes: the innermost function", PROFILE),
        ("## Where the worker's time goes: what the rest is", REST),
        ("## Where the worker's time goes: a function with all that it calls", FUNCTIONS),
    ):
        if record.whos(section):
            parts += [title, _shares(record, section)]
    if record.notes:
        parts += ["## Notes", "\n".join(f"- {note}" for note in record.notes)]
    return "\n\n".join(parts) + "\n"


_BEGIN: Final = "<!-- benchmark -->"
_END: Final = "<!-- end -->"


def on_page(text: str, record: Record, page: str) -> str:
    """Return docs/benchmarks.md with what is to be reached, and what was, between its markers; `page` has the rest."""
    before, begin, rest = text.partition(f"{_BEGIN}\n")
    _, end, after = rest.partition(_END)
    if not begin or not end:
        msg = f"there is no {_BEGIN} and {_END} to write between"
        raise ValueError(msg)
    picture = page.removesuffix(".md") + ".svg"
    answers = [_stated(record, name) for name in ("machine", "servers", "client")]
    answers.append(f"commit {_stated(record, 'code')}")
    parts = [
        _aims(record),
        f"![Messages a second and latency]({picture})",
        f"Measured on {_stated(record, 'date')}: {'; '.join(answers)}. [All figures]({page}).",
    ]
    return "".join((before, _BEGIN, "\n", "\n\n".join(parts), "\n", _END, after))


def aims(record: Record) -> list[tuple[str, str, str, str, str]]:
    """Return a row for each aim that was measured: title, value, spread, what is wanted, verdict."""
    rows = []
    for aim in AIMS:
        found = _measured(record, aim)
        if found is not None:
            wanted = f"{aim.done:g}, aim {aim.aim:g}"
            spread = "one run" if found.rounds == 1 else f"{found.low:.2f} to {found.high:.2f}"
            rows.append((aim.title, f"{found.value:.2f}", spread, wanted, aim.verdict(found.value)))
    return rows


def _measured(record: Record, aim: Aim) -> Ratio | None:
    if aim.under is not None:
        return record.ratio(aim.over, aim.under)
    values = record.rounds(*aim.over)
    median = record.median(*aim.over)
    return None if median is None else Ratio(median, min(values), max(values), len(values))


def _circumstances(record: Record) -> list[str]:
    """Return what was the same for all parts, once, and a table of what was not."""
    found = ["\n".join(f"- {name}: {value}" for name, value in record.machine.items())]
    if record.apart:
        measured = list(dict.fromkeys(part for answer in record.apart.values() for part in answer))
        rows = [(part, *(answer[part] for answer in record.apart.values())) for part in measured]
        found.append(_table(("part", *record.apart), rows))
    return found


def _stated(record: Record, name: str) -> str:
    """Return one of the circumstances in words, with the parts for which it was another than for most."""
    if name not in record.apart:
        return record.machine.get(name, "")
    parts: dict[str, list[str]] = {}
    for part, value in record.apart[name].items():
        parts.setdefault(value, []).append(part)
    most = max(parts, key=lambda value: len(parts[value]))
    others = "; ".join(f"{', '.join(parts[value])}: {value}" for value in parts if value != most)
    return f"{most} ({others})"


def _two_processes(record: Record) -> list[str]:
    """Return what a second process gives, with how much of the machine is in use and how long who waits."""
    rows = []
    for what in record.whats(RATE):
        first, two = Key(RATE, Contestant.OURS, what), Key(RATE, Contestant.OURS_TWO, what)
        gain = record.ratio(two, first)
        if gain is not None:
            each = f"{gain.value:.2f} ({'one run' if gain.rounds == 1 else f'{gain.low:.2f} to {gain.high:.2f}'})"
            rows.append(
                (
                    what,
                    each,
                    *(_of(record, CORES, who, what, ",.2f") for who in (first.who, two.who)),
                    *(_of(record, LOCKS, who, what, ",.0f") for who in (first.who, two.who)),
                )
            )
    head = ("", "two : one", "cores, one", "cores, two", "waits for locks, one, %", "waits for locks, two, %")
    note = (
        "Cores are those that the worker, RabbitMQ and PostgreSQL kept busy together. Waits are the share of the "
        "time in which a session of the worker waited for another one's lock."
    )
    return ["## What a second process gives", note, _table(head, rows)] if rows else []


_GROWTH_TITLES: Final = {EMPTY: "growth: the mix, empty", GROWN: "growth: the mix, grown"}


def _efforts(record: Record) -> list[str]:
    """Return a table of processor time for each workload."""
    tables = []
    for what in (*record.whats(RATE), *record.whats(GROWTH)):
        section = cpu(what)
        components = record.whats(section)
        rows = [
            (
                who,
                *(_of(record, section, who, component, ",.0f") for component in components),
                _of(record, CORES, who, what, ",.2f"),
                _of(record, LOCKS, who, what, ",.0f"),
            )
            for who in record.whos(section)
        ]
        head = ("", *components, "cores in use", "waits for locks, %")
        tables += [f"### {_GROWTH_TITLES.get(what, what)}", _table(head, rows)]
    note = "Of PostgreSQL's time up to 8 ms a second are of who looks for waits, where there are such."
    return ["## Processor time of each message, µs", note, *tables] if tables else []


def _of(record: Record, section: str, who: str, what: str, shape: str) -> str:
    return _spread(record.rounds(section, who, what), shape)


def _aims(record: Record) -> str:
    return _table(("figure", "measured", "rounds", "done at", ""), aims(record))


def _matrix(record: Record, section: str, show: Callable[[Sequence[float]], str]) -> str:
    """Return who against what; turned round where there is much more of what than of who."""
    whos, whats = record.whos(section), record.whats(section)
    turned = len(whats) > len(whos) + 1
    rows, columns = (whats, whos) if turned else (whos, whats)
    cells = [
        (
            row,
            *(
                show(record.rounds(section, *((column, row) if turned else (row, column))))
                for column in columns
            ),
        )
        for row in rows
    ]
    return _table(("", *columns), cells)


def _whole(values: Sequence[float]) -> str:
    return _spread(values, ",.0f")


def _fine(values: Sequence[float]) -> str:
    return _spread(values, ",.1f")


def _spread(values: Sequence[float], shape: str) -> str:
    if not values:
        return ""
    ordered = sorted(values)
    middle = ordered[len(ordered) // 2] if len(ordered) % 2 else sum(ordered[len(ordered) // 2 - 1 :][:2]) / 2
    if len(ordered) == 1:
        return format(middle, shape)
    return f"{middle:{shape}} ({ordered[0]:{shape}} to {ordered[-1]:{shape}})"


def _shares(record: Record, section: str) -> str:
    rows = [(who, f"{100 * (record.median(section, who, '') or 0):.1f} %") for who in record.whos(section)]
    return _table(("", "share"), rows[:_SHOWN_FUNCTIONS])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)
