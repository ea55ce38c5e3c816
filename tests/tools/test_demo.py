"""The demo tells its story to the end, notices what is lost, and leaves nothing behind, however it ends."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import psutil
import pytest

from tests.demo import place
from tests.demo.accounting import Found, complaints, statement_faults, unaccounted
from tests.demo.drawing import draw
from tests.demo.fates import PLAYED
from tests.demo.plan import SANDBOX_CHANNELS, AnyCommand, Plan, Sending
from tests.demo.report import Verdict
from tests.servers import Origin, Servers, reaper
from tests.servers.management import Management
from wallet_schemas.codes import Code
from wallet_schemas.commands import (
    AccountResult,
    CloseAccount,
    FreezeAccount,
    NoResult,
    OpenAccount,
    OpenAccountResult,
    OrderResult,
    Outcome,
    Recharge,
    RechargeResult,
    Refund,
    UnfreezeAccount,
    Withdraw,
)
from wallet_schemas.events import ACCOUNT_EXAMPLE, TRANSFER_EXAMPLE, EntryView
from wallet_schemas.parse import COMMANDS, Unreadable, parse
from wallet_schemas.values import Direction, OrderStatus, OrderType, OutcomeStatus

LINE_SECONDS = 120.0
GONE_SECONDS = 30.0
ACCOUNTS = 30

# What is sent.


@pytest.fixture(scope="module")
def plan() -> Plan:
    return draw(accounts=ACCOUNTS, recharges=3 * ACCOUNTS, seed=1)


def test_the_same_seed_plans_the_same_story(plan: Plan) -> None:
    again, other = (draw(accounts=ACCOUNTS, recharges=3 * ACCOUNTS, seed=seed) for seed in (1, 2))

    assert list(again) == list(plan)
    assert list(other) != list(plan)


def test_a_small_plan_meets_every_behaviour_and_every_currency_with_other_digits(plan: Plan) -> None:
    commands = [item.command for item in plan if item.fate]
    recharges = [command for command in commands if isinstance(command, Recharge)]
    channels = {command.serial_no: command.recharge_type for command in recharges}

    assert set(SANDBOX_CHANNELS) <= set(channels.values())
    assert {"JPY", "KWD", "TWD"} <= {command.currency for command in recharges}
    assert {behaviour.channel for behaviour in PLAYED} <= {
        command.payout_type for command in commands if isinstance(command, Withdraw)
    }
    assert {behaviour.refund_channel for behaviour in PLAYED} <= {
        channels[command.original_serial_no] for command in commands if isinstance(command, Refund)
    }


def test_a_small_plan_has_every_command_and_every_end_of_an_order(plan: Plan) -> None:
    applied = [item for item in plan if item.answer and item.answer.code is Code.OK and not item.repeats]

    assert {item.command.type for item in applied if item.command} == set(COMMANDS)
    assert {item.fate.status for item in applied if item.fate} == set(OrderStatus)


def test_nobody_spends_what_may_not_be_there_yet(plan: Plan) -> None:
    """Everything that spends succeeds in whatever order it is applied."""
    left: dict[tuple[str, str], int] = {}
    for item in plan:
        if isinstance(item.command, Recharge) and item.fate and not item.fate.asked and not item.fate.is_late:
            for account, minor in item.moved:
                left[account] = left.get(account, 0) + minor
    for item in plan:
        for account, minor in (*item.moved, *((account, -minor) for account, minor in item.reserved)):
            if minor < 0:
                left[account] = left.get(account, 0) + minor

    assert min(left.values()) >= 0


def test_every_message_of_a_plan_has_a_label_of_its_own(plan: Plan) -> None:
    labels = Counter(item.label for item in plan)

    assert set(labels.values()) == {1}


def test_what_is_no_command_is_refused_by_the_contract_for_the_planned_reason(plan: Plan) -> None:
    bad = [item for item in plan if item.command is None]

    assert len(bad) > 10
    for item in bad:
        with pytest.raises(Unreadable) as refused:
            parse(item.body, COMMANDS)
        assert refused.value.code is item.dead_letter


def test_what_is_a_command_is_one_by_the_contract(plan: Plan) -> None:
    for item in plan:
        assert item.command is None or parse(item.body, COMMANDS) == item.command


# What is found.


def test_a_run_in_which_all_is_as_it_must_be_is_not_complained_of(plan: Plan) -> None:
    found = perfect(plan)

    assert complaints(plan, found) == []
    assert unaccounted(plan, found) == set()


def test_a_lost_command_is_named(plan: Plan) -> None:
    found = perfect(plan)
    del found.answers["R-000007"]

    assert unaccounted(plan, found) == {"R-000007"}
    assert "R-000007" in complaints(plan, found)[0]


def test_a_lost_message_that_was_no_command_is_named(plan: Plan) -> None:
    found = perfect(plan)
    del found.dead_letters["BAD-000003", Code.MALFORMED.value]

    assert unaccounted(plan, found) == {"BAD-000003"}
    assert len(complaints(plan, found)) == 2  # it is missing from what was sent, and among the dead letters


def test_a_loss_is_noticed_behind_a_count_that_is_right(plan: Plan) -> None:
    found = perfect(plan)
    found.answers["R-999999"] = found.answers.pop("R-000007")

    notified = complaints(plan, found)

    assert len(found.answers) == len(perfect(plan).answers)
    assert any("R-000007" in sentence for sentence in notified)
    assert any("R-999999" in sentence for sentence in notified)


def forget_a_command(found: Found) -> None:
    found.commands -= {"OPEN-000004"}


def remember_a_stranger(found: Found) -> None:
    found.commands |= {"R-999999"}


def answer_otherwise(found: Found) -> None:
    found.answers["R-000007"] = refused("R-000007", Code.ACCOUNT_NOT_FOUND)


def repeat_with_another_number(found: Found) -> None:
    label = next(label for label in found.answers if label.startswith("OPEN") and label.endswith("again"))
    first = found.answers[label]
    assert isinstance(first.result, OpenAccountResult)
    other = first.result.model_copy(update={"account_no": "2026010200000000000"})
    found.answers[label] = first.model_copy(update={"result": other})


def lose_a_dead_letter_of_the_gateway(found: Found) -> None:
    reference = next(key for key in found.dead_letters if key[1] == Code.BAD_SIGNATURE.value)
    del found.dead_letters[reference]


def set_an_innocent_aside(found: Found) -> None:
    found.dead_letters["R-000007", Code.INTERNAL.value] += 1


def set_one_aside_twice(found: Found) -> None:
    found.dead_letters["BAD-000003", Code.MALFORMED.value] += 1


def leave_an_order_waiting(found: Found) -> None:
    settled = next(number for number, status in found.orders.items() if status is OrderStatus.SUCCEEDED)
    found.orders = {**found.orders, settled: OrderStatus.PENDING}


def credit_one_that_waits(found: Found) -> None:
    waiting = next(number for number, status in found.orders.items() if status is OrderStatus.EXPIRED)
    found.orders = {**found.orders, waiting: OrderStatus.SUCCEEDED}


def lose_an_order(found: Found) -> None:
    found.orders = {number: status for number, status in found.orders.items() if number != "R-000007"}


def credit_a_minor_unit_too_much(found: Found) -> None:
    account, minor = next(iter(found.balances_minor.items()))
    found.balances_minor = {**found.balances_minor, account: minor + 1}


def open_an_account_nobody_wanted(found: Found) -> None:
    found.balances_minor = {**found.balances_minor, ("nobody", "TWD"): 0}


def keep_a_reserve(found: Found) -> None:
    account, minor = next(iter(found.reserved_minor.items()))
    found.reserved_minor = {**found.reserved_minor, account: minor + 1}


def forget_that_one_was_late(found: Found) -> None:
    found.late = frozenset(sorted(found.late)[1:])


def find_a_difference_that_nothing_explains(found: Found) -> None:
    found.differences |= {("R-000007", "missing_here")}


def miss_a_difference(found: Found) -> None:
    found.differences = frozenset(sorted(found.differences)[1:])


@pytest.mark.parametrize(
    "go_wrong",
    [
        forget_a_command,
        remember_a_stranger,
        answer_otherwise,
        repeat_with_another_number,
        lose_a_dead_letter_of_the_gateway,
        set_an_innocent_aside,
        set_one_aside_twice,
        leave_an_order_waiting,
        credit_one_that_waits,
        lose_an_order,
        credit_a_minor_unit_too_much,
        open_an_account_nobody_wanted,
        keep_a_reserve,
        forget_that_one_was_late,
        find_a_difference_that_nothing_explains,
        miss_a_difference,
    ],
)
def test_each_thing_that_goes_wrong_is_complained_of_once(
    plan: Plan, go_wrong: Callable[[Found], None]
) -> None:
    found = perfect(plan)

    go_wrong(found)

    assert len(complaints(plan, found)) == 1


def test_what_the_gateway_insists_on_may_come_again(plan: Plan) -> None:
    found = perfect(plan)
    number, code = next(iter(plan.insisted))

    found.dead_letters[number, code.value] += 3

    assert complaints(plan, found) == []


def entry(line_no: int, before: str, amount: str, after: str) -> EntryView:
    return EntryView(
        account_no="2026010200000000000",
        line_no=line_no,
        serial_no=f"R-{line_no}",
        order_type=OrderType.RECHARGE,
        direction=Direction.CREDIT,
        amount=amount,
        currency="TWD",
        balance_before=before,
        balance_after=after,
        created_at=datetime(2026, 1, 2, tzinfo=UTC),
    )


GOOD_STATEMENT = (
    entry(1, "0.00", "1.00", "1.00"),
    entry(2, "1.00", "2.50", "3.50"),
    entry(3, "3.50", "0.01", "3.51"),
)


def test_a_good_statement_has_no_faults() -> None:
    assert statement_faults(GOOD_STATEMENT) == []


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ([GOOD_STATEMENT[0], GOOD_STATEMENT[2]], "line 3 stands where line 2 should"),
        ([GOOD_STATEMENT[0], entry(2, "1.01", "2.50", "3.51")], "line 2 begins with another balance"),
        ([GOOD_STATEMENT[0], entry(2, "1.00", "2.50", "3.51")], "line 2 does not add up"),
        ([entry(1, "5.00", "1.00", "6.00")], "line 1 begins with another balance"),
        (GOOD_STATEMENT[1:], "line 2 stands where line 1 should"),
    ],
)
def test_a_statement_with_a_line_lost_or_changed_has_faults(lines: list[EntryView], fault: str) -> None:
    assert any(found.startswith(fault) for found in statement_faults(lines))


@pytest.mark.parametrize(
    ("verdict", "status"),
    [
        (Verdict(complaints=[], statement_faults=[], audit_status=0, audit_said=""), 0),
        (Verdict(complaints=["lost"], statement_faults=[], audit_status=0, audit_said=""), 1),
        (Verdict(complaints=[], statement_faults=["gap"], audit_status=0, audit_said=""), 1),
        (Verdict(complaints=[], statement_faults=[], audit_status=3, audit_said=""), 3),
    ],
)
def test_only_a_run_without_any_fault_ends_with_0(verdict: Verdict, status: int) -> None:
    assert verdict.exit_status == status


# The whole of it, as a process.


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Give an empty folder for temporary files, which a server's own user can pass through too."""
    folder = Path(tempfile.mkdtemp(prefix="demo-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def environment(servers: Servers, scratch: Path) -> dict[str, str]:
    """Give the environment of a demo that is a guest on the servers of the tests."""
    others = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("WALLET_") and name not in {"KEEP", "FORCE_COLOR", "TTY_COMPATIBLE"}
    }
    return others | {
        "TMPDIR": str(scratch),
        "WALLET_AMQP_URL": servers.amqp_url,
        "WALLET_DATABASE_URL": servers.database_url,
        "WALLET_MANAGEMENT_URL": servers.management_url,
    }


@pytest.fixture
async def servers_stay_as_they_were(servers: Servers) -> AsyncIterator[None]:
    before = await vhosts_and_databases(servers)
    yield
    assert await vhosts_and_databases(servers) == before


@pytest.mark.usefixtures("servers_stay_as_they_were")
async def test_the_demo_accounts_for_everything_and_leaves_nothing(
    environment: dict[str, str], scratch: Path
) -> None:
    async with demo(environment, "--accounts", str(ACCOUNTS), "--workers", "2") as running:
        status, result = await running.end()

    assert status == 0, result
    for promised in (
        "opening accounts: 32 of 32",
        "32 applied",
        "The statement of user-00001",
        "balance before",
        "CONTRADICTING_RESULT",
        "INSUFFICIENT_BALANCE",
        "ACCOUNT_FROZEN",
        "LIMIT_EXCEEDED",
        "the gateway paid out; debited once",
        "expired; the rest is available again",
        "made on purpose by the simulator",
        "everything is in order",
        "messages are accounted for",
        "every balance follows",
        "every difference is explained",
        "the audit is clean",
    ):
        assert promised in result
    assert "WRONG" not in result
    assert left_in(scratch) == []


@pytest.mark.parametrize(
    "sign", ["PostgreSQL and RabbitMQ answer", "database migrated", "are ready", "opening accounts"]
)
@pytest.mark.usefixtures("servers_stay_as_they_were")
async def test_ctrl_c_leaves_no_process_and_no_folder(
    environment: dict[str, str], scratch: Path, sign: str
) -> None:
    async with demo(environment, "--accounts", "1000") as running:
        await running.until(sign)

        await running.interrupt()

    assert left_in(scratch) == []


async def test_ctrl_c_while_its_own_servers_start_leaves_none_of_them(
    environment: dict[str, str], scratch: Path, servers: Servers
) -> None:
    if servers.origin is not Origin.ENVIRONMENT:  # else this machine may have no other servers
        for name in ("WALLET_AMQP_URL", "WALLET_DATABASE_URL", "WALLET_MANAGEMENT_URL"):
            del environment[name]
        environment["WALLET_SERVERS_FROM"] = servers.origin.value
    async with demo(environment) as running:
        await running.until("starting" if servers.origin is not Origin.ENVIRONMENT else "Wallet demo")

        await running.interrupt()

    assert left_in(scratch) == []


@pytest.mark.usefixtures("servers_stay_as_they_were")
async def test_what_is_kept_works_and_can_be_stopped(environment: dict[str, str], scratch: Path) -> None:
    async with demo(environment | {"KEEP": "1"}, "--accounts", str(ACCOUNTS)) as running:
        status, result = await running.end()
    (folder,) = left_in(scratch)
    kept = reaper.members(folder)
    try:
        assert status == 0, result
        assert await run(*wallet_in(folder, result), env=environment) == 0
    finally:
        stopped = await run(sys.executable, "-m", "tests.demo", "stop", str(folder), env=environment)

    assert stopped == 0
    assert place.stop_command(folder) in result
    assert len(kept) == 6  # worker, gateway, keeper, audit, console, API
    assert not any(is_alive(process) for process in kept)
    assert left_in(scratch) == []


# How it is done.


def perfect(plan: Plan) -> Found:
    """Return what is found after a run in which everything went as it must."""
    answers: dict[str, Outcome] = {}
    for item in plan:
        if item.command is not None:
            answers[item.label] = answer(item, answers)
    return Found(
        answers=answers,
        dead_letters=Counter(
            {(number, code.value): times for (number, code), times in plan.dead_letters.items()}
        ),
        commands=frozenset(str(outcome.serial_no) for outcome in answers.values()),
        orders={item.label: item.fate.status for item in plan if item.fate},
        late=frozenset(item.label for item in plan if item.fate and item.fate.is_late),
        balances_minor=plan.balances_minor,
        reserved_minor=plan.reserved_minor,
        differences=plan.differences,
    )


def answer(sending: Sending, before: Mapping[str, Outcome]) -> Outcome:
    assert sending.command is not None
    assert sending.answer is not None
    if sending.repeats:
        return before[sending.repeats].model_copy(update={"duplicate": True})
    if sending.answer.code is not Code.OK:
        return refused(sending.command.serial_no, sending.answer.code, *sending.answer.different)
    return Outcome(
        serial_no=sending.command.serial_no,
        status=OutcomeStatus.APPLIED,
        code=Code.OK,
        duplicate=False,
        result=applied(sending.command),
    )


def refused(serial_no: str, code: Code, *different: str) -> Outcome:
    return Outcome(
        serial_no=serial_no,
        status=OutcomeStatus.REFUSED,
        code=code,
        duplicate=False,
        result=NoResult(),
        different=list(different) or None,
    )


def applied(command: AnyCommand) -> OpenAccountResult | RechargeResult | OrderResult | AccountResult:
    match command:
        case OpenAccount():
            return OpenAccountResult(
                user_id=command.user_id,
                account_type=command.account_type,
                currency=command.currency,
                account_no="2026010204815162347",
            )
        case Recharge():
            return RechargeResult(
                user_id=command.user_id,
                account_type=command.account_type,
                amount=command.amount,
                currency=command.currency,
                recharge_type=command.recharge_type,
                serial_no=command.serial_no,
                order_status=OrderStatus.PENDING,
            )
        case FreezeAccount() | UnfreezeAccount() | CloseAccount():
            return AccountResult.model_validate(ACCOUNT_EXAMPLE)
        case _:
            return OrderResult.model_validate(TRANSFER_EXAMPLE)


@dataclass(slots=True)
class Demo:
    """A running demo, and what it has said so far."""

    process: asyncio.subprocess.Process
    lines: list[str]

    async def until(self, sign: str) -> None:
        """Wait until it says a line with the sign in it."""
        while not any(sign in line for line in self.lines):
            assert await self._hear(), f"it ended without saying {sign!r}:\n{''.join(self.lines)}"

    async def end(self) -> tuple[int, str]:
        """Wait for its end; return exit status and all that it said."""
        while await self._hear():
            pass
        return await self.process.wait(), "".join(self.lines)

    async def interrupt(self) -> None:
        """Press Ctrl-C, and see it end within seconds, together with all that it had started."""
        started = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(GONE_SECONDS):
            status, text = await self.end()
        assert status == 130, text
        assert "Interrupted" in text
        assert started
        assert not any(is_alive(process) for process in started)

    async def _hear(self) -> bool:
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), LINE_SECONDS)
        self.lines.append(line.decode())
        return bool(line)


@asynccontextmanager
async def demo(environment: Mapping[str, str], *arguments: str) -> AsyncIterator[Demo]:
    """Give a demo that has been started; it is ended if it has not by itself."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.demo",
        *arguments,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield Demo(process, [])
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
            await process.wait()


def wallet_in(folder: Path, sentence: str) -> list[str]:
    """Return the command that the demo gave as an example, with the environment that it wrote."""
    (example,) = (line.strip() for line in sentence.splitlines() if "wallet show statement" in line)
    return ["/bin/sh", "-c", f". {folder}/{place.ENVIRONMENT} && {example}"]


async def run(*command: str, env: Mapping[str, str]) -> int:
    process = await asyncio.create_subprocess_exec(*command, env=env)
    return await process.wait()


def left_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def vhosts_and_databases(servers: Servers) -> tuple[set[str], set[str]]:
    management = Management(servers.management_url)
    vhosts = {vhost["name"] for vhost in await management.get("/api/vhosts")}
    connection = await asyncpg.connect(servers.database_url)
    databases = {name for (name,) in await connection.fetch("SELECT datname FROM pg_database")}
    await connection.close()
    return vhosts, databases


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
