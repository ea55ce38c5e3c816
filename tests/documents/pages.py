"""The project's pages, and the text files of the repository that may refer to them."""

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONTRACT = ROOT / "docs" / "contract.md"
FAULTS = ROOT / "docs" / "faults.md"
NEEDS = ROOT / "docs" / "operators-needs.md"

_TEXTS = {".md", ".py", ".toml", ".yaml", ".yml", ".html", ""}
_NOT_PROSE = ("tests/benchmarks/results/", "tests/rules/contract/corpus/", "LICENSE")


@cache
def texts() -> dict[Path, str]:
    """Return every text file that git knows or would take, with its text; no lock files, corpora or figures."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return {
        ROOT / name: (ROOT / name).read_text()
        for name in listed.stdout.splitlines()
        if Path(name).suffix in _TEXTS and not name.startswith(_NOT_PROSE) and (ROOT / name).is_file()
    }


def pages() -> dict[Path, str]:
    """Return the Markdown pages."""
    return {path: text for path, text in texts().items() if path.suffix == ".md"}
