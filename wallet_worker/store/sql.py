"""SQL text that is written from the tables of the core."""

from collections.abc import Iterable
from enum import StrEnum


def literals(values: Iterable[StrEnum]) -> str:
    """Return values as literals for `IN (…)`, in a fixed order."""
    return ", ".join(f"'{value}'" for value in sorted(values))
