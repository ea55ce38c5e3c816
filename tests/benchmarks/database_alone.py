"""The database alone: pgbench doing the same writes in one SQL function, one transaction for each message.

No broker, no network but loopback, no program of anybody's: what a worker that is infinitely fast could have, one
message at a time.
"""

import asyncio
import random
import re
import subprocess
import tempfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Final

import asyncpg

from tests.benchmarks import state
from tests.benchmarks.verdict import WrongResultError
from tests.servers import Servers
from tests.servers.postgres import find_binaries

_SEED: Final = 1

# As the worker: the dedupe row, the order, the entries, the balances, the receipt, what is to be published, and the
# removal of what was published for the message before.
_FUNCTIONS: Final = (
    "CREATE SCHEMA bench",
    """
    CREATE FUNCTION bench.publish(exchange text, routing_key text, body json, published uuid) RETURNS uuid
    LANGUAGE plpgsql AS $$
    DECLARE
        id uuid := gen_random_uuid();
    BEGIN
        INSERT INTO outbox (message_id, exchange, routing_key, body, created_at, publish_after)
        VALUES (id, exchange, routing_key, convert_to(body::text, 'UTF8'), now(), now() + interval '10 seconds');
        DELETE FROM outbox WHERE message_id = published;
        RETURN id;
    END
    $$
    """,
    """
    CREATE FUNCTION bench.command(number text, type text, content text, result json) RETURNS boolean
    LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO commands (serial_no, command_type, fingerprint, content, status, code, result, created_at)
        VALUES (number, type, sha256(convert_to(content, 'UTF8')), content::json, 'applied', 'OK', result, now())
        ON CONFLICT DO NOTHING;
        RETURN FOUND;
    END
    $$
    """,
    """
    CREATE FUNCTION bench.open(number text, who text, published uuid) RETURNS uuid LANGUAGE plpgsql AS $$
    DECLARE
        fresh text := to_char(now(), 'YYYYMMDD') || lpad((random() * 99999999999)::bigint::text, 11, '0');
    BEGIN
        IF NOT bench.command(number, 'account.open.v1',
                format('{"account_type":"basic","currency":"TWD","serial_no":"%s","type":"account.open.v1",'
                       '"user_id":"%s"}', number, who),
                json_build_object('user_id', who, 'account_type', 'basic', 'currency', 'TWD', 'account_no', fresh))
        THEN
            RETURN NULL;
        END IF;
        INSERT INTO accounts (kind, account_no, user_id, account_type, currency, status, balance, reserved, line_no,
                              created_at, updated_at)
        VALUES ('user', fresh, who, 'basic', 'TWD', 'active', 0, 0, 0, now(), now());
        RETURN bench.publish('wallet.events', 'account.opened',
            json_build_object('type', 'account.opened.v1', 'event_id', gen_random_uuid(), 'occurred_at', now(),
                'serial_no', number, 'data', json_build_object('user_id', who, 'account_no', fresh,
                'account_type', 'basic', 'currency', 'TWD', 'balance', '0.00', 'available', '0.00', 'status', 'active',
                'created_at', now(), 'updated_at', now())), published);
    END
    $$
    """,
    """
    CREATE FUNCTION bench.recharge(number text, who text, published uuid) RETURNS uuid LANGUAGE plpgsql AS $$
    DECLARE
        account accounts;
        id uuid := gen_random_uuid();
    BEGIN
        SELECT * INTO STRICT account FROM accounts a
        WHERE a.kind = 'user' AND a.user_id = who AND a.account_type = 'basic' AND a.currency = 'TWD'
          AND a.status <> 'closed';
        IF NOT bench.command(number, 'order.recharge.v1',
                format('{"account_type":"basic","amount":"100.00","currency":"TWD","recharge_type":"card",'
                       '"serial_no":"%s","type":"order.recharge.v1","user_id":"%s"}', number, who),
                json_build_object('user_id', who, 'account_type', 'basic', 'amount', '100.00', 'currency', 'TWD',
                                  'recharge_type', 'card', 'serial_no', number, 'order_status', 'pending'))
        THEN
            RETURN NULL;
        END IF;
        INSERT INTO orders (order_id, serial_no, order_type, account_id, amount, currency, status, code, channel, late,
                            expires_at, due_at, created_at, updated_at)
        VALUES (id, number, 'recharge', account.account_id, 10000, 'TWD', 'pending', 'OK', 'card', false,
                now() + interval '24 hours', now() + interval '1 minute', now(), now());
        PERFORM bench.publish('payment.requests', 'payment.request',
            json_build_object('type', 'payment.request.v1', 'payment_order_no', number, 'kind', 'charge',
                'amount', '100.00', 'currency', 'TWD', 'channel', 'card', 'requested_at', now(),
                'expires_at', now() + interval '24 hours'), published);
        RETURN bench.publish('wallet.events', 'order.pending',
            json_build_object('type', 'order.pending.v1', 'event_id', gen_random_uuid(), 'occurred_at', now(),
                'serial_no', number, 'data', json_build_object('order_id', id, 'serial_no', number, 'user_id', who,
                'account_no', account.account_no, 'order_type', 'recharge', 'amount', '100.00', 'currency', 'TWD',
                'status', 'pending', 'code', 'OK', 'transacted_at', null, 'created_at', now(), 'updated_at', now(),
                'expires_at', now() + interval '24 hours')), NULL);
    END
    $$
    """,
    """
    CREATE FUNCTION bench.result(number text, published uuid) RETURNS uuid LANGUAGE plpgsql AS $$
    DECLARE
        paid orders;
        account accounts;
        lane accounts;
    BEGIN
        SELECT * INTO STRICT paid FROM orders WHERE serial_no = number FOR NO KEY UPDATE;
        IF paid.status <> 'pending' THEN
            RETURN NULL;
        END IF;
        SELECT * INTO STRICT account FROM accounts WHERE account_id = paid.account_id FOR NO KEY UPDATE;
        SELECT * INTO STRICT lane FROM accounts
        WHERE system_name = 'clearing' AND currency = paid.currency
        ORDER BY accounts.lane LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED;
        UPDATE accounts
        SET balance = balance + CASE account_id WHEN paid.account_id THEN paid.amount ELSE -paid.amount END,
            line_no = line_no + 1, updated_at = now()
        WHERE account_id IN (paid.account_id, lane.account_id);
        UPDATE orders SET status = 'succeeded', due_at = NULL, transacted_at = now(), updated_at = now()
        WHERE order_id = paid.order_id AND status = 'pending';
        INSERT INTO entries (account_id, line_no, order_id, direction, amount, balance_before, balance_after,
                             created_at)
        VALUES (lane.account_id, lane.line_no + 1, paid.order_id, 'debit', paid.amount, lane.balance,
                lane.balance - paid.amount, now()),
               (account.account_id, account.line_no + 1, paid.order_id, 'credit', paid.amount, account.balance,
                account.balance + paid.amount, now());
        INSERT INTO payment_results (payment_order_no, fingerprint, status, amount, currency, gateway_ref, occurred_at,
                                     received_at, processing, code)
        VALUES (number, sha256(convert_to(number, 'UTF8')), 'succeeded', '100.00', 'TWD', 'gw-' || number, now(), now(),
                'processed', 'OK')
        ON CONFLICT DO NOTHING;
        RETURN bench.publish('wallet.events', 'order.succeeded',
            json_build_object('type', 'order.succeeded.v1', 'event_id', gen_random_uuid(), 'occurred_at', now(),
                'serial_no', number, 'data', json_build_object('order_id', paid.order_id, 'serial_no', number,
                'user_id', account.user_id, 'account_no', account.account_no, 'order_type', 'recharge',
                'amount', '100.00', 'currency', 'TWD', 'status', 'succeeded', 'code', 'OK', 'transacted_at', now(),
                'created_at', paid.created_at, 'updated_at', now(), 'expires_at', paid.expires_at,
                'entries', json_build_array(json_build_object('account_no', account.account_no,
                    'line_no', account.line_no + 1, 'order_type', 'recharge', 'direction', 'credit',
                    'amount', '100.00', 'currency', 'TWD', 'balance_before', account.balance,
                    'balance_after', account.balance + paid.amount, 'created_at', now()))))
            , published);
    END
    $$
    """,
)

# A transfer as the library pgledger makes it: two balances with their versions, one transfer, two entries.
_PGLEDGER: Final = (
    "CREATE SCHEMA pgledger",
    """
    CREATE TABLE pgledger.accounts (
        id bigint PRIMARY KEY, name text NOT NULL, currency text NOT NULL, balance numeric NOT NULL DEFAULT 0,
        version bigint NOT NULL DEFAULT 0, created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    """
    CREATE TABLE pgledger.transfers (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(), from_account_id bigint NOT NULL REFERENCES pgledger.accounts,
        to_account_id bigint NOT NULL REFERENCES pgledger.accounts, amount numeric NOT NULL CHECK (amount > 0),
        created_at timestamptz NOT NULL DEFAULT now(), event_at timestamptz NOT NULL DEFAULT now(), metadata jsonb
    )
    """,
    "CREATE INDEX ON pgledger.transfers (from_account_id)",
    "CREATE INDEX ON pgledger.transfers (to_account_id)",
    """
    CREATE TABLE pgledger.entries (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(), account_id bigint NOT NULL REFERENCES pgledger.accounts,
        transfer_id uuid NOT NULL REFERENCES pgledger.transfers, amount numeric NOT NULL,
        account_previous_balance numeric NOT NULL, account_current_balance numeric NOT NULL,
        account_version bigint NOT NULL, created_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX ON pgledger.entries (account_id)",
    "CREATE INDEX ON pgledger.entries (transfer_id)",
    """
    INSERT INTO pgledger.accounts (id, name, currency)
    SELECT n, 'account ' || n, 'TWD' FROM generate_series(0, 9999) n
    """,
    """
    CREATE FUNCTION pgledger.transfer(source bigint, target bigint, moved numeric) RETURNS uuid
    LANGUAGE plpgsql AS $$
    DECLARE
        made uuid;
        paying pgledger.accounts;
        paid pgledger.accounts;
    BEGIN
        PERFORM FROM pgledger.accounts WHERE id IN (source, target) ORDER BY id FOR UPDATE;
        INSERT INTO pgledger.transfers (from_account_id, to_account_id, amount) VALUES (source, target, moved)
        RETURNING id INTO made;
        UPDATE pgledger.accounts SET balance = balance - moved, version = version + 1, updated_at = now()
        WHERE id = source RETURNING * INTO paying;
        INSERT INTO pgledger.entries (account_id, transfer_id, amount, account_previous_balance,
                                      account_current_balance, account_version)
        VALUES (source, made, -moved, paying.balance + moved, paying.balance, paying.version);
        UPDATE pgledger.accounts SET balance = balance + moved, version = version + 1, updated_at = now()
        WHERE id = target RETURNING * INTO paid;
        INSERT INTO pgledger.entries (account_id, transfer_id, amount, account_previous_balance,
                                      account_current_balance, account_version)
        VALUES (target, made, moved, paid.balance - moved, paid.balance, paid.version);
        RETURN made;
    END
    $$
    """,
)


class Script(StrEnum):
    """What pgbench runs."""

    RECHARGE = "recharge commands"
    RESULTS = "payment results"
    MIX = "mix"
    TRANSFERS = "transfers, pgledger's way"


# `published` is what the message before has left in the outbox; each client pays orders of its own.
_RECHARGE = (
    "SELECT bench.recharge('R-' || :client_id || '-' || :n, 'u-' || :who, :published) AS published \\gset\n"
)
_RESULT = (
    "\\set paid :paid + 1\n\\set number :client_id * :each + :paid\n"
    "SELECT bench.result('P-' || lpad((:number)::text, 8, '0'), :published) AS published \\gset\n"
)
_OPEN = (
    "SELECT bench.open('O-' || :client_id || '-' || :n, 'n-' || :client_id || '-' || :n, :published) AS published "
    "\\gset\n"
)
_NUMBERED = "\\set n :n + 1\n\\set who random(1, :users)\n"
_SCRIPTS: Final = MappingProxyType(
    {
        Script.RECHARGE: _NUMBERED + _RECHARGE,
        Script.RESULTS: _RESULT,
        Script.MIX: (
            f"{_NUMBERED}\\set kind random(1, 21)\n\\if :kind = 1\n{_OPEN}\\elif :kind <= 11\n{_RECHARGE}"
            f"\\else\n{_RESULT}\\endif\n"
        ),
        Script.TRANSFERS: (
            "\\set source random(0, 9999)\n\\set target (:source + random(1, 9999)) % 10000\n"
            "SELECT pgledger.transfer(:source, :target, 1);\n"
        ),
    }
)

_TPS = re.compile(r"^tps = ([0-9.]+) \(without initial connection time\)", re.MULTILINE)
_FAILED = re.compile(r"^number of failed transactions: ([0-9]+)", re.MULTILINE)
_NOBODY = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class Pace:
    """What pgbench reports of one run."""

    script: Script
    clients: int
    rate: float


async def run(
    servers: Servers, template_url: str, script: Script, *, clients: int, count: int, users: int
) -> Pace:
    """Return the rate of about `count` transactions by so many clients, on a copy of the furnished database.

    They are of `users` users, drawn by lot as in the workloads: taken in turns, they would have clients meet.
    """
    each = count // clients
    chance = random.Random(_SEED)
    async with servers.database(template=template_url) as url:
        connection = await asyncpg.connect(url, command_timeout=600)
        try:
            for statement in _PGLEDGER if script is Script.TRANSFERS else _FUNCTIONS:
                await connection.execute(statement)
            if script in {Script.RESULTS, Script.MIX}:
                paid = [chance.randint(1, users) for _ in range(each * clients)]
                await state.add_waiting(connection, "P-", paid)
            await state.settle_down(connection)
            answer = await asyncio.to_thread(_pgbench, url, script, clients, each, users)
            await _assert_done(connection, script, each * clients)
        finally:
            await connection.close()
    rate, failed = _TPS.search(answer), _FAILED.search(answer)
    if rate is None or failed is None or failed[1] != "0":
        raise WrongResultError(answer)
    return Pace(script, clients, float(rate[1]))


def _pgbench(url: str, script: Script, clients: int, each: int, users: int) -> str:
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        path = Path(folder) / "script.sql"
        path.write_text(_SCRIPTS[script])
        given = {"n": 0, "paid": 0, "each": each, "users": users, "published": _NOBODY}
        command = [
            str(find_binaries() / "pgbench"),
            "--no-vacuum",
            "--protocol=prepared",
            f"--random-seed={_SEED}",
            f"--client={clients}",
        ]
        command += [f"--jobs={min(clients, 2)}", f"--transactions={each}", f"--file={path}"]
        command += [f"--define={name}={value}" for name, value in given.items()]
        done = subprocess.run([*command, url], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise WrongResultError(done.stdout + done.stderr)
    return done.stdout


_EFFECTS: Final = MappingProxyType(
    {
        Script.RECHARGE: "SELECT count(*) FROM orders WHERE serial_no LIKE 'R-%'",
        Script.RESULTS: "SELECT count(*) / 2 FROM entries",
        Script.MIX: (
            "SELECT (SELECT count(*) FROM commands WHERE serial_no NOT LIKE 'P-%') "
            "+ (SELECT count(*) / 2 FROM entries)"
        ),
        Script.TRANSFERS: "SELECT count(*) / 2 FROM pgledger.entries",
    }
)


async def _assert_done(connection: asyncpg.Connection, script: Script, count: int) -> None:
    found = await connection.fetchval(_EFFECTS[script])
    if found != count:
        msg = f"pgbench, {script}: {found} effects instead of {count}"
        raise WrongResultError(msg)
