"""What `wallet dlq` itself answers for: who a second person is, which letters, the exit status, and its warnings.

What it can do is in `tests/dead_letters/test_command_line.py`.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from tests.cli.terminal import CommandResult, wallet
from tests.dead_letters.conftest import Desk, a_desk
from tests.dead_letters.letters import arrived, headers
from tests.dead_letters.people import PASSPHRASE, key_file, know
from tests.journeys.messages import open_account, recharge
from tests.workers import KEYS
from wallet_worker.cli.dlq import options
from wallet_worker.cli.dlq.runs import exit_status_of
from wallet_worker.cli.exits import Exit
from wallet_worker.dead_letters.model.actors import Actor
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.plans import Operation, Plan, ReplayPace
from wallet_worker.dead_letters.model.states import Action, LetterState, OperationState, PlanState
from wallet_worker.settings.operators import ApprovalLimits, Role

CONSOLE = Actor("ann", Role.OPERATOR, "console")


@pytest.fixture
def sits(monkeypatch: pytest.MonkeyPatch) -> "Sits":
    """Return what has somebody sit at the terminal."""
    return Sits(monkeypatch)


class Sits:
    """Whose login the commands have, on a machine of any name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, login: str, machine: str = "desk") -> None:
        """Have somebody sit there from now on."""
        self._monkeypatch.setattr(options, "login_name", lambda: login)
        self._monkeypatch.setattr("socket.gethostname", lambda: machine)


async def dlq(url: str, *arguments: str, typed: str = "", **settings: str) -> CommandResult:
    """Run `wallet dlq` where one letter is more than one person may replay."""
    given = {
        "WALLET_DATABASE_URL": url,
        "WALLET_DLQ_SINGLE_PERSON_MAX": "0",
        "WALLET_PAYMENT_KEYS": json.dumps(KEYS),
    }
    return await wallet("dlq", *arguments, typed=typed, **given | settings)


async def planned(desk: Desk, who: Actor = CONSOLE) -> Plan:
    """Return a plan that needs a second person."""
    await desk.take_in(arrived(open_account("user-1")))
    plan = await desk.operations.plan(who, Action.REPLAY, Filter(), reason="a test")
    assert plan.state is PlanState.NEEDS_SIGNATURE
    return plan


async def test_whoever_has_the_database_and_another_name_is_no_second_person(
    database_url: str, sits: Sits, tmp_path: Path
) -> None:
    """One person, anna, with the password of the database, her own key, and whatever name she likes."""
    async with a_desk(database_url, ApprovalLimits(single_person_max=0)) as desk:
        await desk.take_in(arrived(open_account("user-1")))
        await know(desk.owner)
        sits("root")
        made = await dlq(database_url, "replay", "--why", "a test", "--as", "olga", "--json")
        token = json.loads(made.out)["token"]

        async def signs(verb: str, *more: str) -> CommandResult:
            key = str(key_file(tmp_path, "anna"))
            return await dlq(
                database_url,
                verb,
                token,
                "--key",
                key,
                "--why",
                "seen",
                "--passphrase-stdin",
                *more,
                typed=f"{PASSPHRASE}\n",
            )

        as_olga = await signs("sign", "--as", "olga")
        agreed = await signs("approve")
        (plan,) = await desk.operations.plans(CONSOLE)

        assert (as_olga.status, as_olga.out) == (Exit.FOUND, "")
        assert "is anna's, and not olga's" in as_olga.err
        assert (agreed.status, agreed.out) == (Exit.FOUND, "")
        assert "olga has not signed this plan yet" in agreed.err
        assert plan.approved_by is None


async def test_the_audit_has_the_login_beside_the_name(database_url: str, sits: Sits) -> None:
    async with a_desk(database_url) as desk:
        await desk.take_in(arrived(recharge("user-1")))
        (letter_id,) = await desk.ids()
        sits("anna")

        await dlq(database_url, "note", str(letter_id), "asked", "--as", "bob")

        (row,) = (await desk.operations.letter(CONSOLE, letter_id)).audit
        assert (row.actor, row.via) == ("bob", "cli, anna")


@pytest.mark.parametrize("state", [LetterState.DISCARDED, LetterState.REPLAYING])
async def test_a_restore_can_be_of_the_one_state_or_the_other(database_url: str, state: LetterState) -> None:
    async with a_desk(database_url) as desk:
        await desk.take_in(*(arrived(open_account(f"user-{number}")) for number in range(2)))
        ids = dict(zip((LetterState.DISCARDED, LetterState.REPLAYING), await desk.ids(), strict=True))
        for action, letter_id in zip((Action.DISCARD, Action.REPLAY), ids.values(), strict=True):
            plan = await desk.operations.plan(CONSOLE, action, Filter(ids=(letter_id,)), reason="a test")
            await desk.operations.execute(CONSOLE, plan.token)
        await desk.owner.execute(
            "UPDATE dead_letter_replays SET state = 'published', published_at = now() - interval '16 minutes'"
        )

        both = await dlq(database_url, "restore", "--why", "a test", "--as", "one", "--json")
        only = await dlq(
            database_url, "restore", "--state", state.value, "--why", "a test", "--as", "one", "--json"
        )

        assert [row["letter_id"] for row in json.loads(both.out)["sample"]] == list(ids.values())
        assert [row["letter_id"] for row in json.loads(only.out)["sample"]] == [ids[state]]


async def test_a_discard_of_letters_in_a_state_in_which_there_is_none_says_so(database_url: str) -> None:
    async with a_desk(database_url) as desk:
        await desk.take_in(arrived(recharge("user-1")))

        found = await dlq(database_url, "discard", "--state", "discarded", "--why", "a test", "--as", "one")

        assert (found.status, found.out) == (Exit.FOUND, "")
        assert "no letter fits" in found.err


@pytest.mark.parametrize(
    ("state", "failed", "cancelled", "status"),
    [
        (OperationState.DONE, 0, 0, Exit.DONE),
        (OperationState.DONE, 1, 0, Exit.FOUND),
        (OperationState.DONE, 0, 1, Exit.FOUND),
        (OperationState.STOPPED, 0, 0, Exit.FOUND),
        (OperationState.RUNNING, 0, 0, Exit.UNKNOWN),
        (OperationState.PAUSED, 1, 1, Exit.UNKNOWN),
    ],
)
def test_the_exit_status_says_whether_every_letter_has_its_outcome(
    state: OperationState, failed: int, cancelled: int, status: Exit
) -> None:
    operation = Operation(
        operation_id=UUID(int=1),
        action=Action.REPLAY,
        state=state,
        actor="one",
        approved_by=None,
        reason="a test",
        filter=Filter(),
        pace=ReplayPace(),
        total=3,
        ordered=0,
        published=0,
        resolved=3 - failed - cancelled,
        failed=failed,
        cancelled=cancelled,
        standing="",
        started_at=datetime(2026, 1, 2, tzinfo=UTC),
        ended_at=None,
    )

    assert exit_status_of(operation) is status


@pytest.mark.parametrize(("keys", "warned"), [("{}", 1), (json.dumps(KEYS), 0)], ids=["none", "some"])
async def test_a_prediction_without_the_gateways_keys_is_warned_of(
    database_url: str, keys: str, warned: int
) -> None:
    async with a_desk(database_url) as desk:
        await desk.take_in(arrived(recharge("user-1"), headers()))
        (letter_id,) = await desk.ids()

        shown = await dlq(
            database_url, "show", str(letter_id), "--as", "one", "--json", WALLET_PAYMENT_KEYS=keys
        )
        listed = await dlq(database_url, "list", "--as", "one", "--json", WALLET_PAYMENT_KEYS=keys)

        assert shown.status == Exit.DONE
        assert shown.err.count("WALLET_PAYMENT_KEYS is empty here") == warned
        assert listed.err == ""
