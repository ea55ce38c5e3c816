"""Which tests show that a rule of docs/contract.md holds; `rules.toml` has them by the rule's number."""

import tomllib
from pathlib import Path
from typing import Final

RULES: Final[dict[str, list[str]]] = tomllib.loads((Path(__file__).parent / "rules.toml").read_text())
"""By the rule's number: the file below tests/, and the test."""
