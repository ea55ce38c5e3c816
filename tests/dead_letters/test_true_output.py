"""What `wallet dlq` tells people is true, in states in which the naive answer is wrong."""

import json

import pytest

from tests.cli.terminal import wallet
from tests.dead_letters.conftest import OTTO, Desk, Wallet
from tests.dead_letters.letters import arrived
from tests.dead_letters.people import know
from tests.journeys.messages import open_account
from wallet_worker.cli.dlq.tables import ending
from wallet_worker.cli.exits import Exit
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.states import Action


@pytest.fixture
def url(database_url: str) -> str:
    """Give the address of the desk's database."""
    return database_url


@pytest.mark.parametrize(
    ("people", "role"),
    [({}, "no role given"), ({"otto": "operator"}, "operator")],
    ids=["nobody is known", "otto is known"],
)
async def test_the_audit_names_no_role_that_nobody_gave(
    desk: Desk, url: str, people: dict[str, str], role: str
) -> None:
    """Whoever reached the database once stood there as an approver, though nobody could approve at a shell."""
    await desk.take_in(arrived(open_account("user-1")))
    await know(desk.owner, people)

    ended = await wallet(
        "dlq", "note", "1", "looked at it", "--as", "otto", "--json", WALLET_DATABASE_URL=url
    )

    assert json.loads(ended.out)["role"] == role
    assert await desk.owner.fetchval("SELECT role FROM dead_letter_audit WHERE action = 'note'") == role


async def test_a_plan_that_cannot_succeed_says_so_before_how_to_execute_it(desk: Desk, url: str) -> None:
    await desk.take_in(arrived(b"no JSON"), arrived(b"nor this"))

    hopeless = await wallet(
        "dlq", "replay", "--why", "a test", "--as", "otto", "--table", WALLET_DATABASE_URL=url
    )
    await desk.take_in(arrived(open_account("user-1")))
    mixed = await wallet(
        "dlq", "replay", "--why", "a test", "--as", "otto", "--table", WALLET_DATABASE_URL=url
    )

    sentence = "every letter of it is predicted to be a dead letter again"
    assert sentence in hopeless.err
    assert hopeless.err.index(sentence) < hopeless.err.index("to do it:")
    assert sentence not in mixed.err


async def test_an_operation_of_which_all_failed_is_not_done(wallet: Wallet) -> None:
    await wallet.start()
    await wallet.take_in(arrived(b"no JSON"))
    plan = await wallet.operations.plan(OTTO, Action.REPLAY, Filter(), reason="a test")
    operation = await wallet.operations.execute(OTTO, plan.token)
    await wallet.until_operation(operation.operation_id, "done")

    found = await wallet.operations.operation(OTTO, operation.operation_id)

    assert (found.state.value, ending(found)) == ("done", "failed")


async def test_a_reason_that_is_none_is_an_error_that_names_what_was_meant(url: str) -> None:
    ended = await wallet("dlq", "list", "--reason", "AMOUNT_MISMACH", WALLET_DATABASE_URL=url)

    assert ended.status == Exit.MISUSED
    assert "did you mean AMOUNT_MISMATCH?" in " ".join(ended.err.split()).replace("│ ", "")


async def test_no_plan_is_said_and_not_shown_as_nothing(desk: Desk, url: str) -> None:
    del desk

    ended = await wallet("dlq", "plan", WALLET_DATABASE_URL=url)

    assert "no plan can be executed now" in ended.err
