"""`wallet audit --follow`: new lines are checked as they come, and the first broken rule ends it."""

import asyncio
import json
import math
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

import asyncpg
import pytest

from tests.audit import ledger
from tests.faults.proxy import Proxy
from tests.servers.ports import free_ports
from wallet_worker.audit import follow as following
from wallet_worker.audit.findings import AuditReport, Invariant
from wallet_worker.audit.follow import FollowMetrics, follow
from wallet_worker.cli.exits import Exit
from wallet_worker.store.errors import ConflictError

PATIENCE_SECONDS = 30.0

COMMAND = """
INSERT INTO commands (serial_no, command_type, fingerprint, content, status, code, result, created_at)
VALUES ($1, $2, sha256($1::text::bytea), '{}', 'applied', 'OK', '{}', now())
"""
ORDER = """
INSERT INTO orders (order_id, serial_no, order_type, account_id, amount, currency, status, code, channel, late,
                    transacted_at, created_at, updated_at)
VALUES (gen_random_uuid(), $1, 'recharge', 101, 700, 'TWD', 'succeeded', 'OK', 'card', false, now(), now(), now())
"""
REFUND = """
INSERT INTO orders (order_id, serial_no, order_type, account_id, amount, currency, status, code, channel, late,
                    about_serial_no, transacted_at, created_at, updated_at)
SELECT gen_random_uuid(), $1, 'refund', account_id, amount, currency, 'succeeded', 'OK', channel, false,
       serial_no, now(), now(), now()
FROM orders
WHERE serial_no = $2
"""
RESULT = """
INSERT INTO payment_results (payment_order_no, fingerprint, status, amount, currency, gateway_ref, occurred_at,
                             received_at, processing, code)
VALUES ($1, sha256($1::text::bytea), 'succeeded', '7.00', 'TWD', 'gw-' || $1, now(), now(), 'processed', 'OK')
"""
LINE = """
WITH moved AS (
    UPDATE accounts
    SET line_no = line_no + 1, balance = balance + CASE $3 WHEN 'credit' THEN 700 ELSE -700 END
    WHERE account_id = $1
    RETURNING account_id, line_no, balance
)
INSERT INTO entries (account_id, line_no, order_id, direction, amount, balance_before, balance_after, created_at)
SELECT m.account_id, m.line_no, o.order_id, $3, 700,
       m.balance - CASE $3 WHEN 'credit' THEN 700 ELSE -700 END, m.balance, now() - $4::interval
FROM moved m, orders o
WHERE o.serial_no = $2
"""


WAITS_FOR_A_LOCK = """
SELECT EXISTS (
    SELECT
    FROM pg_locks
    JOIN pg_database ON pg_database.oid = pg_locks.database
    WHERE datname = current_database() AND relation = 'entries'::regclass AND NOT granted
)
"""
LANE = "SELECT account_id FROM accounts WHERE system_name = 'clearing' AND currency = 'TWD' AND lane = 0"


async def pay_alice(
    owner: asyncpg.Connection, serial_no: str, *, contra: bool = True, ago: timedelta = timedelta(0)
) -> None:
    """Credit alice, and debit the clearing account, in one transaction; or forget to."""
    async with owner.transaction():
        await owner.execute(COMMAND, serial_no, "order.recharge.v1")
        await owner.execute(ORDER, serial_no)
        await owner.execute(RESULT, serial_no)
        await write_lines(owner, serial_no, contra=contra, ago=ago)


async def refund_alice(owner: asyncpg.Connection, serial_no: str, about: str) -> None:
    """Debit alice, and credit the clearing account, for all of a recharge of hers."""
    async with owner.transaction():
        await owner.execute(COMMAND, serial_no, "order.refund.v1")
        await owner.execute(REFUND, serial_no, about)
        await owner.execute(RESULT, serial_no)
        await owner.execute(LINE, ledger.ALICE, serial_no, "debit", timedelta(0))
        await owner.execute(LINE, await owner.fetchval(LANE), serial_no, "credit", timedelta(0))


async def write_lines(
    owner: asyncpg.Connection, serial_no: str, *, contra: bool = True, ago: timedelta = timedelta(0)
) -> None:
    """Write the two lines of a recharge of alice's, or only hers."""
    await owner.execute(LINE, ledger.ALICE, serial_no, "credit", ago)
    if contra:
        await owner.execute(LINE, await owner.fetchval(LANE), serial_no, "debit", ago)


class Following:
    """A follower that is running."""

    def __init__(self, url: str) -> None:
        self.signals = FollowMetrics()
        self.stopping = asyncio.Event()
        self.away = asyncio.Event()
        self.task = asyncio.create_task(
            follow(
                url, self.stopping, self.signals, every_seconds=0.02, on_away=lambda _reason: self.away.set()
            )
        )

    def value(self, name: str) -> float:
        return self.signals.registry.get_sample_value(name) or 0.0

    async def until(self, name: str, wanted: float) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while math.isnan(self.value(name)) or self.value(name) < wanted:  # noqa: ASYNC110 -- a metric sends no signal
                await asyncio.sleep(0.01)

    async def report(self) -> AuditReport:
        found = await self.ended()
        assert found is not None
        return found

    async def ended(self) -> AuditReport | None:
        return await asyncio.wait_for(self.task, PATIENCE_SECONDS)


@pytest.fixture
async def follower(clean_url: str) -> AsyncIterator[Following]:
    found = Following(clean_url)
    await found.until("wallet_audit_checked_timestamp_seconds", 1)
    yield found
    found.stopping.set()
    await found.report()


async def test_good_lines_are_counted_and_it_goes_on(follower: Following, owner: asyncpg.Connection) -> None:
    for number in range(5):
        await pay_alice(owner, f"R-new-{number}")
    await refund_alice(owner, "F-new", about="R-new-0")
    await follower.until("wallet_audit_lines_total", 12)

    assert not follower.task.done()
    follower.stopping.set()
    report = await follower.report()
    assert report.clean
    assert follower.value("wallet_audit_lines_total") == 12
    assert follower.value("wallet_audit_findings") == 0


async def test_lines_that_are_committed_out_of_order_are_all_checked(
    follower: Following, owner: asyncpg.Connection, clean_url: str
) -> None:
    # Bob's line is drawn first and committed last; alice's is checked in between.
    other = await asyncpg.connect(clean_url)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("UPDATE accounts SET balance = balance + 1 WHERE account_id = $1", ledger.BOB)
    await pay_alice(owner, "R-between")
    await follower.until("wallet_audit_lines_total", 2)
    assert not follower.task.done()

    await transaction.commit()
    await other.close()

    report = await follower.report()
    assert report.counts == {Invariant.BALANCE: 1}
    assert report.findings[0].account == ledger.account_no(ledger.BOB)


Damage = Callable[[asyncpg.Connection], Awaitable[object]]


async def _no_contra_entry(owner: asyncpg.Connection) -> None:
    await pay_alice(owner, "R-forgotten", contra=False)


async def _balance_without_a_line(owner: asyncpg.Connection) -> None:
    await owner.execute("UPDATE accounts SET balance = balance + 1 WHERE account_id = $1", ledger.EVE)


async def _line_number_without_a_line(owner: asyncpg.Connection) -> None:
    await owner.execute("UPDATE accounts SET line_no = line_no + 1 WHERE account_id = $1", ledger.ALICE)


async def _paid_twice(owner: asyncpg.Connection) -> None:
    async with owner.transaction():
        await write_lines(owner, "R-good")


async def _lines_of_yesterday(owner: asyncpg.Connection) -> None:
    await pay_alice(owner, "R-late", ago=timedelta(days=1))


UNTOUCHED = """
INSERT INTO entries (account_id, line_no, order_id, direction, amount, balance_before, balance_after, created_at)
SELECT a.account_id, a.line_no + 1, o.order_id, l.direction, 700, a.balance, a.balance + l.moved, now()
FROM (VALUES ($1::bigint, 'credit', 700), ($2::bigint, 'debit', -700)) AS l (account_id, direction, moved)
JOIN accounts a USING (account_id)
JOIN orders o ON o.serial_no = 'R-untouched'
"""


async def _lines_whose_accounts_know_nothing(owner: asyncpg.Connection) -> None:
    async with owner.transaction():
        await owner.execute(COMMAND, "R-untouched", "order.recharge.v1")
        await owner.execute(ORDER, "R-untouched")
        await owner.execute(RESULT, "R-untouched")
        await owner.execute(UNTOUCHED, ledger.ALICE, await owner.fetchval(LANE))


async def _lines_without_their_order(owner: asyncpg.Connection) -> None:
    async with owner.transaction():
        await owner.execute("SET LOCAL session_replication_role = replica")  # no foreign keys
        await pay_alice(owner, "R-gone")
        await owner.execute("DELETE FROM orders WHERE serial_no = 'R-gone'")


async def _nobody_asked(owner: asyncpg.Connection) -> None:
    async with owner.transaction():
        await owner.execute("SET LOCAL session_replication_role = replica")
        await pay_alice(owner, "R-unasked")
        await owner.execute("DELETE FROM commands WHERE serial_no = 'R-unasked'")


async def _no_result(owner: asyncpg.Connection) -> None:
    async with owner.transaction():
        await pay_alice(owner, "R-unpaid")
        await owner.execute("DELETE FROM payment_results WHERE payment_order_no = 'R-unpaid'")


async def _refunded_twice(owner: asyncpg.Connection) -> None:
    await pay_alice(owner, "R-besides")
    async with owner.transaction():
        for serial_no in ("F-once", "F-twice"):
            await refund_alice(owner, serial_no, about="R-good")


@pytest.mark.parametrize(
    ("damage", "broken"),
    [
        (
            _no_contra_entry,
            {Invariant.CURRENCY_SUM: 1, Invariant.ORDER_SUM: 1, Invariant.ORDER_ENTRIES: 1},
        ),
        (_balance_without_a_line, {Invariant.BALANCE: 1}),
        (_line_number_without_a_line, {Invariant.LAST_LINE: 1}),
        (_paid_twice, {Invariant.ORDER_ENTRIES: 1}),
        (_lines_of_yesterday, {Invariant.LINE_TIMES: 2}),
        (_lines_whose_accounts_know_nothing, {Invariant.LAST_LINE: 2, Invariant.BALANCE: 2}),
        (_lines_without_their_order, {Invariant.STRAY_LINE: 2}),
        (_nobody_asked, {Invariant.ORDER_COMMAND: 1}),
        (_no_result, {Invariant.RESULT: 1}),
        (_refunded_twice, {Invariant.REFUNDS: 1}),
    ],
)
async def test_the_first_broken_rule_ends_it_and_is_a_metric(
    follower: Following, owner: asyncpg.Connection, damage: Damage, broken: dict[Invariant, int]
) -> None:
    await pay_alice(owner, "R-good")
    await follower.until("wallet_audit_lines_total", 2)
    await damage(owner)

    report = await follower.report()

    assert report.counts == broken
    assert follower.value("wallet_audit_findings") == sum(broken.values())


async def test_accounts_are_asked_for_lines_that_they_do_not_know_in_turns(
    monkeypatch: pytest.MonkeyPatch, clean_url: str, owner: asyncpg.Connection
) -> None:
    monkeypatch.setattr(following, "PROBED_ACCOUNTS", 2)
    follower = Following(clean_url)
    await follower.until("wallet_audit_checked_timestamp_seconds", 1)
    await _lines_whose_accounts_know_nothing(owner)

    report = await follower.report()

    # The lane and alice are not in one turn, and the first is enough.
    assert report.counts == {Invariant.LAST_LINE: 1, Invariant.BALANCE: 1, Invariant.CURRENCY_SUM: 1}


async def test_stopping_during_the_whole_audit_ends_it_at_once_and_nothing_is_known(
    clean_url: str, owner: asyncpg.Connection
) -> None:
    async with owner.transaction():
        await owner.execute("LOCK TABLE entries IN ACCESS EXCLUSIVE MODE")
        follower = Following(clean_url)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await owner.fetchval(WAITS_FOR_A_LOCK):  # noqa: ASYNC110 -- a lock sends no signal
                await asyncio.sleep(0.01)

        follower.stopping.set()

        assert await follower.ended() is None
    assert not follower.away.is_set()
    assert math.isnan(follower.value("wallet_audit_checked_timestamp_seconds"))
    assert math.isnan(follower.value("wallet_audit_findings"))


async def test_a_table_that_is_locked_is_waited_for() -> None:
    reasons: list[str] = []
    answers = iter([ConflictError("LockNotAvailableError"), "checked"])

    async def work() -> str:
        answer = next(answers)
        if isinstance(answer, ConflictError):
            raise answer
        return str(answer)

    assert await following.retry_unless_stopped(work, asyncio.Event(), reasons.append) == "checked"
    assert reasons == ["LockNotAvailableError"]


async def test_the_command_ends_with_3_when_it_is_stopped_before_it_has_checked_anything() -> None:
    (port,) = free_ports(1)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "wallet_worker", "audit", "--follow",
        env=os.environ | {"WALLET_DATABASE_URL": f"postgresql://nobody@127.0.0.1:{port}/none"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE_SECONDS):
        first = await process.stderr.readline()
        process.terminate()
        out, rest = await process.communicate()

    assert first.startswith(b"wallet: waiting for the database")
    assert process.returncode == Exit.UNAVAILABLE
    assert (out, rest.splitlines()[-1]) == (
        b"",
        b"wallet: stopped before the first check was complete: nothing was checked",
    )


async def test_a_ledger_that_is_broken_already_ends_it_at_once(
    clean_url: str, owner: asyncpg.Connection
) -> None:
    await _balance_without_a_line(owner)

    report = await Following(clean_url).report()

    assert set(report.counts) == {Invariant.BALANCE}


async def test_a_database_that_is_away_is_waited_for_and_nothing_is_missed(
    clean_url: str, owner: asyncpg.Connection
) -> None:
    async with Proxy(clean_url) as proxy:
        follower = Following(proxy.url)
        await follower.until("wallet_audit_checked_timestamp_seconds", 1)
        proxy.refuse()
        await asyncio.wait_for(follower.away.wait(), PATIENCE_SECONDS)
        await pay_alice(owner, "R-meanwhile")
        await _line_number_without_a_line(owner)
        proxy.heal()

        report = await follower.report()

    assert set(report.counts) == {Invariant.LAST_LINE}


async def metric(port: int, name: str) -> float:
    """Return a metric of the command's, 0 while nobody listens."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return 0.0
    try:
        writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
        lines = (await reader.read()).decode().splitlines()
    finally:
        writer.close()
    notified = (
        float(line.rpartition(" ")[2]) for line in lines if line.startswith(f'{name}{{role="audit"}} ')
    )
    value = next(notified, math.nan)
    return 0.0 if math.isnan(value) else value


async def test_the_command_shows_the_metric_until_it_is_stopped_and_ends_with_1(
    clean_url: str, owner: asyncpg.Connection
) -> None:
    (port,) = free_ports(1)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "wallet_worker", "audit", "--follow", "--every", "0.1", "--json",
        "--metrics-port", str(port),
        env=os.environ | {"WALLET_DATABASE_URL": clean_url},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await metric(port, "wallet_audit_checked_timestamp_seconds"):  # noqa: ASYNC110 -- asked over HTTP
            await asyncio.sleep(0.05)
        await _line_number_without_a_line(owner)
        while not await metric(port, "wallet_audit_findings"):  # noqa: ASYNC110 -- asked over HTTP
            await asyncio.sleep(0.05)
        with suppress(TimeoutError):  # longer than it checks
            await asyncio.wait_for(process.wait(), 1)
        assert await metric(port, "wallet_audit_findings") == 1
        process.terminate()
        out, _ = await process.communicate()

    assert process.returncode == 1
    assert json.loads(out)["found"] == {"last_line": 1}


async def test_the_command_ends_with_0_when_it_is_stopped_and_all_is_well(clean_url: str) -> None:
    (port,) = free_ports(1)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "wallet_worker", "audit", "--follow", "--metrics-port", str(port),
        env=os.environ | {"WALLET_DATABASE_URL": clean_url},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await metric(port, "wallet_audit_checked_timestamp_seconds"):  # noqa: ASYNC110 -- asked over HTTP
            await asyncio.sleep(0.05)
        process.terminate()

        assert await process.wait() == 0
