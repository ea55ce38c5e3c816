"""The page of statements is kept true: its tests are there, and no alarm and no label of a page is left out."""

import re
from pathlib import Path

import wallet_worker
from tests.alarms.rules import ALARMS

HERE = Path(__file__).parent
PAGE = (HERE / "STATEMENTS.md").read_text()
ROWS = [
    line.split(" | ")
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| where")
]
TEMPLATES = Path(wallet_worker.__file__).parent / "console" / "templates"
OF_THE_STATE = ("overview", "health", "operation", "operations", "order", "accounts")
"""The pages that tell how the wallet stands."""

_LABEL = re.compile(r"<(?:dt|th)[^>]*>(?:<span[^>]*></span>)?([^<{]+)")
_TEST = re.compile(r"`([\w/]+\.py)::(test_\w+)`")


def test_each_test_that_is_named_is_there() -> None:
    named = _TEST.findall(PAGE)

    assert len(named) >= len(ROWS) // 2
    for file, name in named:
        assert re.search(rf"^(async )?def {name}\(", (HERE / file).read_text(), re.MULTILINE), (
            f"{file}::{name}"
        )


def test_each_alarm_has_a_row() -> None:
    assert set(re.findall(r"\bWallet[A-Z]\w+", PAGE)) == set(ALARMS)


def test_each_label_of_a_page_about_the_wallets_state_has_a_row() -> None:
    notified = " ".join(row[1] for row in ROWS)
    labels = {
        (page, label.strip())
        for page in OF_THE_STATE
        for label in _LABEL.findall((TEMPLATES / f"{page}.html").read_text())
        if label.strip()
    }

    assert labels
    assert {label for label in labels if label[1] not in notified} == set()
