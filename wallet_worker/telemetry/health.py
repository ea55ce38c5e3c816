"""What the worker knows of its own state: ready while everything it needs is there."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Health:
    """The parts that a worker needs, each with the reason why it is not ready, or nothing."""

    _reasons: dict[str, str] = field(default_factory=dict)

    def expect(self, *parts: str) -> None:
        """Be unready until each of these parts has reported."""
        for part in parts:
            self._reasons.setdefault(part, "starting")

    def ready(self, part: str) -> bool:
        """Note that a part works; return whether it did not before."""
        return self._reasons.pop(part, None) is not None

    def unready(self, part: str, reason: str) -> bool:
        """Note why a part does not work; return whether it did before."""
        before = part not in self._reasons
        self._reasons[part] = reason
        return before

    @property
    def is_ready(self) -> bool:
        """Whether nothing is missing."""
        return not self._reasons

    @property
    def reasons(self) -> dict[str, str]:
        """What is missing, by part."""
        return dict(self._reasons)
