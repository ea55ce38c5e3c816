"""What the person sees while it goes on: live bars at a terminal, plain lines elsewhere."""

import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

LINE_EVERY_SECONDS: Final = 5.0  # a log of the demo is read by a person too
REFRESHES_PER_SECOND: Final = 6
PLAIN_WIDTH: Final = 110
BAR_WIDTH: Final = 24


class Phase:
    """One part of the story: how much of it is done, how fast, and what came of it."""

    def __init__(self, title: str, total: int) -> None:
        self.title = title
        self.total = total
        self.done = 0
        self.counts: Counter[str] = Counter()
        self._begun = time.monotonic()
        self._ended: float | None = None

    @property
    def seconds(self) -> float:
        """How long it has taken, so far or in all."""
        return max((self._ended or time.monotonic()) - self._begun, 1e-6)

    @property
    def rate(self) -> float:
        """How many in a second, on the average."""
        return self.done / self.seconds

    def count(self, what: str) -> None:
        """One more is done, and this came of it."""
        self.done += 1
        self.counts[what] += 1

    def show(self, done: int, counts: Mapping[str, int]) -> None:
        """So many are done, and this came of them."""
        self.done = done
        self.counts = Counter(counts)

    def end(self) -> None:
        """The time stands still."""
        self._ended = self._ended or time.monotonic()

    @property
    def has_ended(self) -> bool:
        """Whether its time stands still."""
        return self._ended is not None

    @property
    def told(self) -> str:
        """What came of it, in words."""
        return ", ".join(f"{number:,} {what}" for what, number in self.counts.most_common())


class Screen:
    """Writes to standard output; `live` says whether a person watches it at a terminal."""

    def __init__(self) -> None:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")  # an old locale must not end the demo
        console = Console(highlight=False)
        self.live = console.is_terminal and not console.is_dumb_terminal
        self._console = console if self.live else Console(highlight=False, width=PLAIN_WIDTH)
        self._phases: list[Phase] = []
        self._told_at = 0.0

    def say(self, line: str, style: str = "") -> None:
        """One line is on the screen."""
        self._console.print(Text(line, style=style), soft_wrap=True)
        sys.stdout.flush()

    def show(self, *what: RenderableType) -> None:
        """It is on the screen."""
        for each in what:
            self._console.print(each, crop=False)
        sys.stdout.flush()

    @contextmanager
    def acts(self) -> Iterator[None]:
        """Inside, phases are shown, one below the other."""
        self._phases = []
        if not self.live:
            yield
            return
        with Live(
            console=self._console,
            get_renderable=self._render,
            refresh_per_second=REFRESHES_PER_SECOND,
            transient=False,
        ):
            yield

    @contextmanager
    def phase(self, title: str, total: int) -> Iterator[Phase]:
        """Give a phase that is on the screen; afterwards its time stands still."""
        phase = Phase(title, total)
        self._phases.append(phase)
        try:
            yield phase
        finally:
            phase.end()
        if not self.live:
            self._tell(phase)

    def tick(self) -> None:
        """Where no bars move, lines tell how far it is, now and then."""
        if self.live or time.monotonic() < self._told_at + LINE_EVERY_SECONDS:
            return
        self._told_at = time.monotonic()
        for phase in self._phases:
            if not phase.has_ended:
                self._tell(phase)

    def _tell(self, phase: Phase) -> None:
        self.say(
            f"{phase.title}: {phase.done:,} of {phase.total:,} in {phase.seconds:.1f} s, "
            f"{phase.rate:,.0f} a second{': ' if phase.told else ''}{phase.told}"
        )

    def _render(self) -> RenderableType:
        """Give two lines for each phase: how far it is, and what came of it."""
        bars = Table(box=None, show_header=False, padding=(0, 1), pad_edge=False)
        for number in range(4):
            bars.add_column(justify="right" if number > 1 else "left", no_wrap=True)
        for phase in self._phases:
            bars.add_row(
                phase.title,
                ProgressBar(total=max(phase.total, 1), completed=phase.done, width=BAR_WIDTH),
                f"{phase.done:,}/{phase.total:,}",
                f"{phase.rate:,.0f}/s",
            )
        notified = (Text(f"{phase.title}: {phase.told}", style="dim") for phase in self._phases)
        return Group(bars, *notified)


def table(*columns: str, numbers: tuple[str, ...] = ()) -> Table:
    """Return an empty table; the columns named in `numbers` are set to the right, and only the last one wraps."""
    made = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 1))
    for column in columns:
        made.add_column(
            column, justify="right" if column in numbers else "left", no_wrap=column != columns[-1]
        )
    return made
