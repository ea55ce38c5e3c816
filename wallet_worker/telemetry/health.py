"""What the worker knows of its own state: ready while everything it needs is there."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Health:
    """The components that a worker needs, each with the reason why it is not ready, or nothing."""

    _reasons: dict[str, str] = field(default_factory=dict)

    def expect(self, *components: str) -> None:
        """Be unready until each of these components has reported."""
        for component in components:
            self._reasons.setdefault(component, "starting")

    def ready(self, component: str) -> bool:
        """Note that a component works; return whether it did not before."""
        return self._reasons.pop(component, None) is not None

    def unready(self, component: str, reason: str) -> bool:
        """Note why a component does not work; return whether it did before."""
        before = component not in self._reasons
        self._reasons[component] = reason
        return before

    @property
    def is_ready(self) -> bool:
        """Whether nothing is missing."""
        return not self._reasons

    @property
    def reasons(self) -> dict[str, str]:
        """What is missing, by component."""
        return dict(self._reasons)
