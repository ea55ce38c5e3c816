"""A short chaos run: all faults at random under load. The long ones are `make chaos MINUTES=10`."""

from pathlib import Path

import pytest

from tests.faults.chaos import run
from tests.servers import Servers

SEED = 20260102
MINUTES = 1.75


async def test_a_random_mix_of_all_faults_under_load_breaks_nothing(
    breakable: Servers, breakable_migrated_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = await run(breakable, breakable_migrated_url, tmp_path, seed=SEED, minutes=MINUTES)

    with capsys.disabled():
        print("\n" + "\n".join(report.lines()))  # noqa: T201 -- the report of the run
    assert report.violations == []
    assert report.kills
