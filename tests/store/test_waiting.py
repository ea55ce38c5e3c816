"""A task outlives what it may outlive, and a lost race is not run for ever."""

import pytest

from wallet_worker.store.database import Database
from wallet_worker.store.errors import ConflictError, InvariantBrokenError, UnavailableError
from wallet_worker.store.races import Races
from wallet_worker.store.waiting import Waiting
from wallet_worker.telemetry.health import Health

FAULTS = [InvariantBrokenError("two balances"), KeyError("a fault of the task's own code")]


class Work:
    """Work that fails once with an error, and is then done."""

    def __init__(self, exc: Exception) -> None:
        self.exc = exc
        self.attempts = 0

    async def __call__(self) -> None:
        """Do it."""
        self.attempts += 1
        if self.attempts == 1:
            raise self.exc


@pytest.mark.parametrize("exc", FAULTS, ids=lambda exc: type(exc).__name__)
async def test_a_fault_ends_a_task_that_may_not_outlive_it(database: Database, exc: Exception) -> None:
    work = Work(exc)

    with pytest.raises(type(exc)):
        await Waiting("database", database, Health()).done(work)

    assert work.attempts == 1


async def test_a_task_that_outlives_faults_is_unready_until_it_is_done(database: Database) -> None:
    health, work = Health(), Work(KeyError("a fault of the task's own code"))
    health.expect("database")

    assert await Waiting("database", database, health, outlives_faults=True).done(work)

    assert (work.attempts, health.is_ready) == (2, True)


async def test_a_broken_invariant_ends_a_task_that_outlives_faults(database: Database) -> None:
    work = Work(InvariantBrokenError("two balances"))

    with pytest.raises(InvariantBrokenError):
        await Waiting("database", database, Health(), outlives_faults=True).done(work)

    assert work.attempts == 1


async def test_the_last_race_that_may_be_lost_is_raised() -> None:
    races, lost = Races(seconds=60), ConflictError("another was first")

    await races.wait(lost, races_max=2)
    with pytest.raises(ConflictError) as raised:
        await races.wait(lost, races_max=2)

    assert (raised.value, races.lost) == (lost, 2)


async def test_races_that_take_too_long_are_reported_as_a_database_that_is_away() -> None:
    with pytest.raises(UnavailableError, match="1 races were lost in a row: another was first"):
        await Races(seconds=0).wait(ConflictError("another was first"), races_max=20)
