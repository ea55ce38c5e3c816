"""Every reference leads somewhere: a link, a section or rule of the contract, a need, a row of the faults."""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.documents.generated import needs, rules
from tests.documents.pages import CONTRACT, FAULTS, NEEDS, ROOT, pages, texts
from tests.faults.matrix import MATRIX

INVARIANTS = set(range(1, 9))
SECTIONS = {int(number) for number in re.findall(r"^## (\d+)\. ", CONTRACT.read_text(), re.MULTILINE)}

_NUMBERS = r"(\d+(?:(?:, | and | to | or )\d+)*)"
_SECTION = re.compile(rf"(?:docs/contract\.md|contract)[^.]?[^.]{{0,40}}\bsections? {_NUMBERS}")
_ANY_SECTION = re.compile(rf"\bsections? {_NUMBERS}")
_ELSEWHERE = re.compile(r"RFC|W3C|ISO|section 4 of")
_RULE = re.compile(r"\brules? (\d+\.\d+)")
_NEED = re.compile(rf"(?<!worker )(?<!wallet )\b[Nn]eeds? {_NUMBERS}\b(?![,.]\d)|mark\.need\((\d+)\)")
_ROW = re.compile(rf"\b[Rr]ows? {_NUMBERS}|test_rows?_(\d+)_")
_INVARIANT = re.compile(r"\binvariant (\d+)")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_NOT_HERE = re.compile(
    r"numbers of the design|\b(?:house|ux|style|traps|performance|scale-out|payment-life)\.md\b"
)

HERE = Path(__file__).parent
OURS = [path for path in texts() if Path(__file__) != path]


def numbers(text: str) -> Iterator[int]:
    """Yield the numbers of `1 to 5, 25`."""
    for part in re.split(r", | and | or ", text):
        first, _, last = part.partition(" to ")
        yield from range(int(first), int(last or first) + 1)


def found(pattern: re.Pattern[str], text: str) -> set[int]:
    """Return every number that a reference of this form names."""
    return {
        number
        for match in pattern.finditer(text)
        for group in match.groups()
        if group
        for number in numbers(group)
    }


def named(path: Path) -> str:
    """Return a path as it is in the repository."""
    return path.relative_to(ROOT).as_posix()


def beyond(path: Path, text: str) -> Iterator[str]:
    """Yield each number in a file that its page does not have."""
    known: list[tuple[str, set[int], set[int]]] = [
        ("section", found(_SECTION, text), SECTIONS),
        ("need", found(_NEED, text), set(needs())),
    ]
    if (
        "tests" in path.parts or path == FAULTS
    ):  # elsewhere an invariant or a row is one of a table of the database
        known.append(("invariant", found(_INVARIANT, text), INVARIANTS))
    if "faults" in path.parts or path.name == "test_faults.py":
        known.append(("row", found(_ROW, text), set(MATRIX)))
    for what, named_there, there in known:
        for number in named_there - there:
            yield f"{named(path)}: {what} {number}"
    for rule in set(_RULE.findall(text)) - rules().keys():
        yield f"{named(path)}: rule {rule}"


def test_every_number_is_one_of_its_page() -> None:
    assert [fault for path in OURS for fault in beyond(path, texts()[path])] == []


def unnamed(path: Path, text: str) -> Iterator[str]:
    """Yield each line of prose that has a number, in a file that does not name the number's page."""
    prose = [line for line in text.splitlines() if "def test_" not in line]
    joined = "\n".join(prose)
    pages_of = (
        (CONTRACT, _ANY_SECTION),
        (NEEDS, re.compile(rf"\b[Nn]eeds? {_NUMBERS}\b(?!,)(?!\.\d)")),
        (FAULTS, re.compile(r"\b[Rr]ows? \d+ (?:of|to|and)|matrix of (?:the )?faults")),
    )
    for page, pattern in pages_of:
        if f"docs/{page.name}" not in joined:
            for line in prose:
                if pattern.search(line) and not _ELSEWHERE.search(line):
                    yield f"{named(path)}: {line.strip()}"


def test_a_file_whose_prose_has_numbers_names_their_page() -> None:
    files = [path for path in OURS if path.suffix == ".py" and HERE not in path.parents]

    assert [fault for path in files for fault in unnamed(path, texts()[path])] == []


def test_nothing_refers_to_a_page_that_is_not_here() -> None:
    assert [named(path) for path in OURS if _NOT_HERE.search(texts()[path])] == []


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(path: Path, text: str) -> Iterator[str]:
    """Yield each link of a page that leads nowhere."""
    for link in _LINK.findall(text):
        if "://" not in link:
            target, _, anchor = link.partition("#")
            there = path.parent / target if target else path
            if not there.exists() or (anchor and anchor not in anchors(there)):
                yield f"{named(path)}: {link}"


def test_every_link_leads_somewhere() -> None:
    assert [link for path, text in pages().items() for link in broken(path, text)] == []


# A report or a file of the reader's own, in an example.
_THEIRS = {"alice.csv", "mended.json", "definitions.json"}
_PATH = re.compile(r"`([\w.-]+(?:/[\w.-]+)*/?\.?(?:py|md|yaml|toml|js))(?:::\w+)?`")


def absent(path: Path, text: str) -> Iterator[str]:
    """Yield each file that a page names in backticks and that is nowhere to be found."""
    roots = (path.parent, ROOT, ROOT / "wallet_worker", ROOT / "tests", ROOT / "schemas")
    for name in _PATH.findall(text):
        if name not in _THEIRS and not any((root / name).exists() for root in roots):
            yield f"{named(path)}: {name}"


def test_every_file_that_a_page_names_exists() -> None:
    changelog = ROOT / "CHANGELOG.md"
    files = [fault for path, text in pages().items() if path != changelog for fault in absent(path, text)]

    assert files == []
