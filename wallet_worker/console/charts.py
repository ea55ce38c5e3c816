"""Numbers as shapes: what the templates draw as SVG. No chart says anything that does not stand beside it in words."""

from collections.abc import Sequence
from typing import NamedTuple


class Bar(NamedTuple):
    """One bar, in the units of its picture."""

    x: float
    y: float
    width: float
    height: float
    value: int


def bars(values: Sequence[int], width: float, height: float, gap: float = 1.0) -> list[Bar]:
    """Return a bar for each value, the highest as high as the picture; a value above 0 is never invisible."""
    if not values:
        return []
    each = (width + gap) / len(values) - gap
    top = max(*values, 1) if len(values) > 1 else max(values[0], 1)
    found = []
    for index, value in enumerate(values):
        tall = max(2.0, height * value / top) if value else 1.0
        found.append(
            Bar(
                round(index * (each + gap), 2), round(height - tall, 2), round(each, 2), round(tall, 2), value
            )
        )
    return found


class Share(NamedTuple):
    """One part of a whole, in the units of its picture."""

    x: float
    width: float
    kind: str


def shares(parts: Sequence[tuple[str, int]], width: float) -> list[Share]:
    """Return the parts side by side, as wide as they are many; those of 0 are left out."""
    total = sum(count for _, count in parts)
    found, x = [], 0.0
    for kind, count in parts:
        if count:
            wide = width * count / total
            found.append(Share(round(x, 2), round(wide, 2), kind))
            x += wide
    return found
