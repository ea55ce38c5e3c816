"""What the documents say of the code is what the code says of itself."""

import re
from pathlib import Path

import pytest

from tests.documents import named_tests
from tests.documents.generated import BLOCKS, EXAMPLES, differences, needs, rules
from tests.documents.pages import CONTRACT, ROOT, pages
from tests.documents.rules import RULES
from tests.faults.matrix import MATRIX
from wallet_schemas.values import OrderType
from wallet_worker.core.endings import Ending
from wallet_worker.settings.settings import Settings

README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "wallet_worker" / "ARCHITECTURE.md").read_text()
README_LINES_MAX = 200
NEEDS_COUNT = 18
GLOSSARY_LINES_MAX = 45
SHOWN_WHOLE = ("wallet_worker/core", "wallet_worker/worker")


def test_what_is_generated_in_the_documents_is_what_the_code_says() -> None:
    stale = [path.relative_to(ROOT).as_posix() for path in differences()]

    assert stale == [], "`make docs` writes them"


def test_every_generated_part_has_a_place() -> None:
    placed = set(re.findall(r"<!-- (?:generated|example): ([^>]+?) -->", "\n".join(pages().values())))

    assert BLOCKS.keys() | EXAMPLES.keys() <= placed


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= README_LINES_MAX


def test_every_page_is_linked_from_the_readme() -> None:
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)", README))
    there = {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")}

    assert there - linked == {"docs/operators-needs.md"}  # which the operators' page leads to


def test_the_limits_that_are_shown_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    example = page.split("<!-- example: limits -->\n```json\n")[1].split("```")[0]
    monkeypatch.setenv("WALLET_AMQP_URL", "amqp://wallet@broker/")
    monkeypatch.setenv("WALLET_DATABASE_URL", "postgresql://wallet@database/wallet")
    monkeypatch.setenv("WALLET_LIMITS", example)

    limits = Settings().rules.limits

    bonus = limits.accounts["bonus", "TWD"].orders[OrderType.WITHDRAW]
    assert bonus.amount_max_minor == 0
    assert limits.accounts["*", "JPY"].balance_max_minor == 5_000_000
    assert limits.has_daily_limits


# The architecture


def test_the_architecture_lists_every_ending() -> None:
    listed = re.findall(r"^\| (\w+) \| .* \| .* \|$", ARCHITECTURE.split("## Endings")[1], re.MULTILINE)

    assert set(listed) - {"ending"} == {ending.value for ending in Ending}


def shown_tree() -> tuple[set[str], set[str]]:
    """Return the folders and the files of the tree in ARCHITECTURE.md, by their paths in the repository."""
    block = re.search(r"<!-- tree -->\n```\n(.*?)```", ARCHITECTURE, re.DOTALL)
    assert block is not None
    folders, files = set[str](), set[str]()
    inside: list[tuple[int, str]] = []
    for line in block[1].splitlines():
        depth = len(line) - len(line.lstrip())
        inside = [(other, name) for other, name in inside if other < depth]
        for name in line.strip().partition("  ")[0].split():
            path = "".join(folder for _, folder in inside) + name
            if name.endswith("/"):
                folders.add(path)
            else:
                files.add(path)
        first = line.split()[0]
        if first.endswith("/"):
            inside.append((depth, first))
    return folders, files


def is_shown(folder: Path) -> bool:
    """Return whether a folder belongs in the tree: one that git knows, of code, and no data of a package."""
    return any(folder.glob("*.py")) and "migrations" not in folder.parts


def test_the_tree_of_the_architecture_is_the_real_one() -> None:
    folders, files = shown_tree()
    real = {
        f"{folder.relative_to(ROOT).as_posix()}/"
        for top in ("wallet_worker", "payment_simulator", "schemas/wallet_schemas")
        for folder in [ROOT / top, *(ROOT / top).rglob("*")]
        if folder.is_dir() and is_shown(folder)
    }

    assert {folder for folder in folders if is_shown(ROOT / folder)} == real
    assert [name for name in folders | files if not (ROOT / name).exists()] == []


def test_every_module_of_the_ground_floor_is_in_the_tree() -> None:
    _, files = shown_tree()

    ground = {f"wallet_worker/{path.name}" for path in (ROOT / "wallet_worker").glob("[a-z]*.py")}
    assert ground <= files


def test_a_folder_whose_modules_are_in_the_tree_has_all_of_them_there() -> None:
    _, files = shown_tree()

    modules = {
        path.relative_to(ROOT).as_posix()
        for folder in SHOWN_WHOLE
        for path in (ROOT / folder).glob("[a-z]*.py")
    }
    assert modules - files == set()


def test_the_glossary_fits_on_a_screen() -> None:
    glossary = ARCHITECTURE.split("## Words\n")[1].split("\n## ")[0]

    assert len(glossary.splitlines()) <= GLOSSARY_LINES_MAX


# Rules, needs and faults


def test_the_map_of_the_tests_names_every_folder() -> None:
    folders = {path.parent.name for path in named_tests.TESTS.glob("*/__init__.py")}
    table = (named_tests.TESTS / "README.md").read_text().split("\n\n")[1]

    named = re.findall(r"`(\w+)/`", "\n".join(row.split("|")[1] for row in table.splitlines()))
    assert sorted(named) == sorted(folders)


def test_every_rule_of_the_contract_has_a_test_and_every_test_is_there() -> None:
    there = named_tests.names()

    assert RULES.keys() == rules().keys()
    assert [test for tests in RULES.values() for test in tests if test not in there] == []
    assert all(RULES.values())


def test_the_rules_are_numbered_by_their_sections() -> None:
    section, number = "", 0
    for line in CONTRACT.read_text().splitlines():
        if heading := re.match(r"## (\d+)\. ", line):
            section, number = heading[1], 0
        elif rule := re.match(r"- \*\*(\d+)\.(\d+)\*\* ", line):
            number += 1
            assert (rule[1], rule[2]) == (section, str(number))


def test_every_need_has_a_test() -> None:
    assert list(needs()) == list(range(1, NEEDS_COUNT + 1))
    assert set(named_tests.of_needs()) == set(needs())


def test_every_row_of_the_faults_has_a_test() -> None:
    assert set(named_tests.of_rows()) == set(MATRIX) == set(range(1, len(MATRIX) + 1))
