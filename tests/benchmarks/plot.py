"""The record as a picture."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import drawsvg

from tests.benchmarks.contest import Contestant
from tests.benchmarks.record import Record
from tests.benchmarks.runs import DATABASE, LATENCY, RATE
from tests.benchmarks.workloads import Workload

_WIDTH, _LABEL, _ROW, _BAR, _HEAD = 860, 250, 24, 16, 44
_OURS, _OTHERS, _LIMIT, _INK, _PAPER = "#1f6f5c", "#b9853b", "#9aa3ab", "#1c2126", "#ffffff"
_FONT: Final = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its name, the values of the rounds, and its colour."""

    label: str
    values: Sequence[float]
    colour: str

    @property
    def middle(self) -> float:
        """The median."""
        ordered = sorted(self.values)
        return ordered[len(ordered) // 2]


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars on one scale."""

    title: str
    bars: Sequence[Bar]
    logarithmic: bool = False


def svg(record: Record) -> str:
    """Return the picture: rates of the mix, rates of all workloads, latencies. Thin lines span the rounds."""
    panels = [panel for panel in (_mix(record), _workloads(record), _latency(record)) if panel.bars]
    height = sum(_HEAD + _ROW * len(panel.bars) + 18 for panel in panels) + 16
    drawing = drawsvg.Drawing(_WIDTH, height, font_family=_FONT)
    drawing.append(drawsvg.Rectangle(0, 0, _WIDTH, height, fill=_PAPER))
    top = 8
    for panel in panels:
        _draw(drawing, panel, top)
        top += _HEAD + _ROW * len(panel.bars) + 18
    text: str = drawing.as_svg()
    return text + "\n"


def _mix(record: Record) -> Panel:
    bars = _bars(record, RATE, lambda _, what: what == Workload.MIX, lambda who, _: who)
    bars += [
        Bar(f"the database alone, {who}", record.rounds(DATABASE, who, Workload.MIX), _LIMIT)
        for who in record.whos(DATABASE)
        if record.rounds(DATABASE, who, Workload.MIX)
    ]
    return Panel("Messages a second, mix of commands and payment results", bars)


def _workloads(record: Record) -> Panel:
    both = {Contestant.OURS, Contestant.USUAL}
    bars = [
        bar
        for workload in record.whats(RATE)
        if workload != Workload.MIX
        for bar in _bars(
            record,
            RATE,
            lambda who, what, wanted=workload: what == wanted and who in both,  # type: ignore[misc]
            lambda who, what: f"{what}: {'wallet' if who == Contestant.OURS else 'usual'}",
        )
    ]
    return Panel("Messages a second, by workload", bars)


def _latency(record: Record) -> Panel:
    bars = []
    for what in record.whats(LATENCY):
        if "p99.9" not in what:
            bars += [
                Bar(
                    f"{what}: {'wallet' if who == Contestant.OURS else 'usual'}",
                    record.rounds(LATENCY, who, what),
                    _OURS if who == Contestant.OURS else _OTHERS,
                )
                for who in record.whos(LATENCY)
                if record.rounds(LATENCY, who, what)
            ]
    return Panel("Milliseconds to the outcome, logarithmic", bars, logarithmic=True)


def _bars(
    record: Record, section: str, wanted: Callable[[str, str], bool], label: Callable[[str, str], str]
) -> list[Bar]:
    ours = {Contestant.OURS, Contestant.OURS_TWO}
    return [
        Bar(label(key.who, key.what), values, _OURS if key.who in ours else _OTHERS)
        for key, values in record.values.items()
        if key.section == section and wanted(key.who, key.what)
    ]


def _draw(drawing: drawsvg.Drawing, panel: Panel, top: float) -> None:
    drawing.append(drawsvg.Text(panel.title, 15, 16, top + 22, fill=_INK, font_weight="600"))
    largest = max(max(bar.values) for bar in panel.bars)
    least = min(min(bar.values) for bar in panel.bars)
    room = _WIDTH - _LABEL - 110

    def length(value: float) -> float:
        if not panel.logarithmic:
            return room * value / largest
        floor = least / 2
        return room * math.log(value / floor) / math.log(largest / floor)

    for number, bar in enumerate(panel.bars):
        y = top + _HEAD - 8 + number * _ROW
        centre = y + _BAR / 2
        drawing.append(drawsvg.Text(bar.label, 12, _LABEL - 8, centre + 4, text_anchor="end", fill=_INK))
        drawing.append(drawsvg.Rectangle(_LABEL, y, length(bar.middle), _BAR, fill=bar.colour, rx=2))
        low, high = _LABEL + length(min(bar.values)), _LABEL + length(max(bar.values))
        drawing.append(drawsvg.Line(low, centre, high, centre, stroke=_INK, stroke_width=1.5))
        shape = ",.1f" if panel.logarithmic else ",.0f"
        drawing.append(drawsvg.Text(f"{bar.middle:{shape}}", 12, high + 6, centre + 4, fill=_INK))
