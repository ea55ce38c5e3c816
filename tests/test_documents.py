"""What the documents say of the code is what the code says of itself."""

import re
from pathlib import Path

import pytest

from wallet_schemas.values import OrderType
from wallet_worker.core import accounts, orders
from wallet_worker.core.endings import Ending
from wallet_worker.settings.limits import LimitSettings
from wallet_worker.settings.settings import Settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "wallet_worker" / "ARCHITECTURE.md").read_text()


def settings_table() -> str:
    """Return the rows of the README's table of settings."""
    rows = []
    for name, field in Settings.model_fields.items():
        match field.get_default(call_default_factory=True):
            case _ if field.is_required():
                default = "required"
            case None | {} | LimitSettings():
                default = ""
            case tuple() as several:
                default = f"`{','.join(map(str, several))}`"
            case value:
                default = f"`{value}`"
        rows.append(f"| `WALLET_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows)


def test_the_readme_lists_every_setting_with_its_default() -> None:
    assert settings_table() in README, f"it should have:\n{settings_table()}"


def test_the_limits_of_the_readme_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    example = README.split("<!-- example: limits -->\n```json\n")[1].split("```")[0]
    monkeypatch.setenv("WALLET_AMQP_URL", "amqp://wallet@broker/")
    monkeypatch.setenv("WALLET_DATABASE_URL", "postgresql://wallet@database/wallet")
    monkeypatch.setenv("WALLET_LIMITS", example)

    limits = Settings().rules.limits

    bonus = limits.accounts["bonus", "TWD"].orders[OrderType.WITHDRAW]
    assert bonus.amount_max_minor == 0
    assert limits.accounts["*", "JPY"].balance_max_minor == 5_000_000
    assert limits.has_daily_limits


def test_the_pictures_of_orders_and_accounts_are_those_of_the_tables() -> None:
    for picture in (*orders.diagrams().values(), accounts.diagram()):
        assert f"```mermaid\n{picture}\n```" in ARCHITECTURE


def test_the_architecture_lists_every_ending() -> None:
    listed = re.findall(r"^\| (\w+) \| .* \| .* \|$", ARCHITECTURE.split("## Endings")[1], re.MULTILINE)

    assert set(listed) - {"ending"} == {ending.value for ending in Ending}


def test_every_path_that_the_documents_name_exists() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)

    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def example(name: str) -> str:
    """Return the code of one of the README's examples."""
    found = re.search(rf"<!-- example: {name} -->\n```\w+\n(.*?)\n```\n<!-- end -->", README, re.DOTALL)
    assert found is not None, f"the README has no example {name}"
    return found[1]


def test_the_readme_shows_the_example_of_the_client_that_a_test_runs() -> None:
    shown, run = example("client"), (ROOT / "tests" / "client" / "example.py").read_text()

    assert shown == run.partition("\n")[2].strip()


def test_the_readme_shows_the_example_in_another_language_that_a_test_runs() -> None:
    run = (ROOT / "tests" / "journeys" / "node" / "open_account.js").read_text()

    assert example("node") == run.strip()
