"""The exploits of the review, as the attacker that each had: what each tries, and what stops it.

An attack returns what stopped it, or raises `WorkedError`. `F4` and so on are the findings of the review.
"""

import asyncio
import hashlib
import json
import secrets
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final, NamedTuple
from uuid import UUID, uuid4

import aiormq
import asyncpg

from tests.dead_letters.people import agreed, know, signed
from tests.security.place import Place, at_the_desk, fresh
from tests.security.place import signed as signed_by_gateway
from wallet_schemas.keys import read_signing_key, read_verifying_keys
from wallet_schemas.signature import SigningDirection
from wallet_worker.broker.management import Management, ManagementError, Node, management
from wallet_worker.client import NotAcceptedError
from wallet_worker.dead_letters.model.actors import Actor
from wallet_worker.dead_letters.model.errors import ApprovalNeededError, NotAllowedError, NotPossibleError
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.plans import Plan
from wallet_worker.dead_letters.model.states import Action
from wallet_worker.dead_letters.operations import DeadLetterDesk
from wallet_worker.settings.operators import Role

REFUSED: Final = (aiormq.exceptions.ChannelAccessRefused, aiormq.exceptions.ChannelPreconditionFailed)


class WorkedError(Exception):
    """The exploit did what its attacker wanted."""


class Attack(NamedTuple):
    """One exploit: its finding, what the attacker wants, and the attempt."""

    finding: str
    wants: str
    attempt: Callable[[Place], Awaitable[str]]


ATTACKS: list[Attack] = []


def attack(
    finding: str, wants: str
) -> Callable[[Callable[[Place], Awaitable[str]]], Callable[[Place], Awaitable[str]]]:
    """Add an attempt to the list."""

    def added(attempt: Callable[[Place], Awaitable[str]]) -> Callable[[Place], Awaitable[str]]:
        ATTACKS.append(Attack(finding, wants, attempt))
        return attempt

    return added


async def refused_by_broker(place: Place, role: str, exchange: str, key: str, **options: object) -> str:
    """Return that the broker refused a message; raises WorkedError if it took it."""
    try:
        await place.publish(role, exchange, key, b"{}", **options)  # type: ignore[arg-type]
    except REFUSED as exc:
        return f"the broker: {str(exc).split(' - ')[0]}"
    raise WorkedError(f"{role} has published to {exchange or 'a queue'} under {key}")


async def not_allowed(
    place: Place, role: str, key: str, command: Mapping[str, object], **options: object
) -> str:
    """Return that the worker refused a command; raises WorkedError for any other answer."""
    notified = await place.ask(role, "wallet.commands", key, dict(command), **options)
    if notified["code"] != "NOT_ALLOWED":
        raise WorkedError(f"{command['type']} was answered with {notified['status']} {notified['code']}")
    letter = await place.letter_of(str(command["serial_no"]))
    if letter["reason"] != "NOT_ALLOWED" or letter["seal"] != "sealed":
        raise WorkedError(f"the dead letter is {letter['reason']}, {letter['seal']}")
    return f"the worker: NOT_ALLOWED ({letter['detail']})"


# F1: the console's login of the database


async def denied(connection: asyncpg.Connection, statement: str, *values: object) -> None:
    """Return if the database refuses a statement for want of a right; raises WorkedError if it was executed."""
    try:
        async with connection.transaction():
            await connection.execute(statement, *values)
    except (asyncpg.InsufficientPrivilegeError, asyncpg.RestrictViolationError):
        return
    raise WorkedError(f"it was executed: {' '.join(statement.split())[:80]}")


STOLEN_REPLAY: Final = (
    """
    INSERT INTO dead_letter_operations (operation_id, token, action, state, actor, via, approved_by, reason, filter,
                                        canary, rate, stop_ratio, total, standing, publish_at, started_at)
    VALUES (gen_random_uuid(), 'stolen', 'edit', 'running', 'ann', 'console', 'bob', 'fine', '{}', 0, 50, 1, 1, '',
            now(), now())
    """,
    """
    INSERT INTO dead_letter_replays (replay_id, letter_id, operation_id, position, number, verdict, verdict_code, body,
                                     body_digest, serial_no, ordered_at)
    SELECT gen_random_uuid(), letter_id, gen_random_uuid(), 0, 1, 'will apply', 'OK', '{}', sha256('{}'), 'STEAL-1',
           now()
    FROM dead_letters LIMIT 1
    """,
    """
    INSERT INTO dead_letter_audit (at, actor, role, via, action, reason, detail)
    VALUES (now() - interval '2 days', 'bob', 'approver', 'console', 'approve', 'seen the ticket', '{}')
    """,
)
"""What moved money in the review: an operation that nobody planned, its replay, and an approval of two days ago."""


@attack("F1", "money moved by three INSERTs, with the console's login of the database")
async def _(place: Place) -> str:
    for role in ("wallet_operator", "wallet_readonly", None):
        async with place.database("console", role) as connection:
            for statement in STOLEN_REPLAY:
                await denied(connection, statement)
    return "the database: permission denied, for each of the three and as each of its roles"


@attack("F1", "plans, letters and approvals changed by SQL, with the console's login")
async def _(place: Place) -> str:
    async with place.database("console") as connection:
        for statement in (
            "UPDATE dead_letter_plans SET approved_by = 'bob'",
            "UPDATE dead_letter_plans SET letter_ids = '{1}'",
            "UPDATE dead_letters SET state = 'discarded'",
            "UPDATE dead_letters SET seal = 'sealed'",
            "INSERT INTO dead_letters DEFAULT VALUES",
            "UPDATE dead_letter_operations SET state = 'running'",
            "UPDATE dead_letter_replays SET state = 'ordered'",
            "DELETE FROM dead_letter_audit",
            "UPDATE accounts SET balance = balance + 1",
            "INSERT INTO outbox DEFAULT VALUES",
        ):
            await denied(connection, statement)
        for role in ("wallet_worker", "wallet_keeper", place.login_name("owner")):
            await denied(connection, f"SET ROLE {role}")
    return "the database: permission denied, and it may be neither a worker, a keeper nor the owner"


@attack("F1", "an approval written into the audit log through the function for notes")
async def _(place: Place) -> str:
    log = "SELECT dead_letter_log($1, '{approver}', '{console}', $2, '{fine}', '{NULL}', '{NULL}', ARRAY['{}'::json])"
    async with place.database("console") as connection:
        for actor, action in (("bob", "approve"), ("bob", "execute replay"), ("keeper", "note")):
            await denied(connection, log, [actor], [action])
        await connection.execute(log, ["bob"], ["note"])
    row = await place.owner.fetchrow("SELECT at, login FROM dead_letter_audit ORDER BY audit_id DESC LIMIT 1")
    if row is None or row["login"] != place.login_name("console"):
        raise WorkedError(f"the row says that it was written by {row and row['login']}")
    return "the database: only the deed itself is logged so, and each row has the login that wrote it, and its own time"


@attack("F1", "an edit of a letter executed without a second person, through the functions for operators")
async def _(place: Place) -> str:
    body = {
        "type": "order.transfer.v1",
        "serial_no": fresh("STEAL"),
        "user_id": "shop:holder",
        "amount": "1.00",
    }
    body |= {"to_user_id": "evil:me", "currency": "TWD"}
    await place.publish("up-evil", "wallet.commands", "account.open", b"not json")
    async with asyncio.timeout(15):
        while not (letter_id := await place.owner.fetchval("SELECT max(letter_id) FROM dead_letters")):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    async with place.database("console") as connection:
        await connection.execute(
            """
            SELECT dead_letter_make_plan('stolen', 'edit', 'ann', 'operator', 'console', '1 hour', 'fine', '{}', 0, 50,
                                         1, ARRAY[$1::bigint], '{"will apply"}', '{OK}', 0, false, $2, '[]')
            """,
            letter_id,
            json.dumps(body).encode(),
        )
        execute = "SELECT dead_letter_execute('stolen', gen_random_uuid(), 'ann', 'operator', 'console', $1)"
        await denied(connection, execute, [uuid.uuid4()])
    return "the database: an edit needs a second person, whatever its plan says"


# F12: a worker's login of the database


@attack("F12", "lines of the ledger rewritten, with the worker's login or the owner's")
async def _(place: Place) -> str:
    for login in ("worker", "owner"):
        async with place.database(login) as connection:
            for statement in (
                "UPDATE entries SET amount = amount + 1",
                "DELETE FROM entries",
                "TRUNCATE entries CASCADE",
                "SET session_replication_role = replica",
            ):
                await denied(connection, statement)
    return "the database: no privilege for the worker, a trigger that fires always for the owner, who is no superuser"


@attack("F12", "outcomes, orders and dead letters rewritten, with the worker's login")
async def _(place: Place) -> str:
    async with place.database("worker") as connection:
        for statement in (
            "UPDATE commands SET code = 'OK'",
            "DELETE FROM commands",
            "UPDATE orders SET amount = 1",
            "DELETE FROM orders",
            "UPDATE accounts SET user_id = 'evil:me'",
            "UPDATE currencies SET digits = 1",
            "UPDATE outbox SET body = ''",
            "INSERT INTO dead_letter_replays DEFAULT VALUES",
            "UPDATE dead_letters SET state = 'discarded'",
            "CREATE TABLE wallet.mine ()",
        ):
            await denied(connection, statement)
        for role in ("wallet_operator", "wallet_keeper", "wallet_api", place.login_name("owner")):
            await denied(connection, f"SET ROLE {role}")
    return (
        "the database: permission denied, and a worker without a keeper is neither a keeper nor an operator"
    )


@attack("F12", "a balance raised unseen, with the worker's login")
async def _(place: Place) -> str:
    from wallet_worker.audit.report import audit

    await place.paid("up-evil", "evil:rich")
    raised = "UPDATE accounts SET balance = balance + $1 WHERE user_id = 'evil:rich'"
    async with place.database("worker") as connection:
        await connection.execute(raised, 90_000)
        report = await audit(place.logins["audit"], shown_max=5)
        await connection.execute(raised, -90_000)
    if report.clean:
        raise WorkedError("the audit finds everything in order")
    return f"the audit: {report.findings[0].invariant.value}"


# F2: requests to the gateway


def payout(number: str) -> dict[str, object]:
    """Return a request to pay out 99,999.00 to nobody's order."""
    return {
        "type": "payment.request.v1",
        "payment_order_no": number,
        "kind": "payout",
        "amount": "99999.00",
        "currency": "TWD",
        "channel": "card",
        "requested_at": "2026-01-02T03:04:05.000006Z",
        "expires_at": None,
    }


@attack("F2", "a payout ordered at the gateway by an upstream service")
async def _(place: Place) -> str:
    return await refused_by_broker(place, "up-evil", "payment.requests", "payment.request")


@attack("F2", "a payout ordered at the gateway by somebody who can write its queue")
async def _(place: Place) -> str:
    number = fresh("STEAL")
    before = await unproven(place)
    await place.publish("keeper", "payment.requests", "payment.request", json.dumps(payout(number)).encode())
    async with asyncio.timeout(15):
        while await unproven(place) == before:  # noqa: ASYNC110 -- another process
            await asyncio.sleep(0.05)
    return "the gateway: it is not signed"


@attack("F2", "a payout whose proof is a result's, played back")
async def _(place: Place) -> str:
    body, key = (
        json.dumps(payout(fresh("STEAL"))).encode(),
        read_signing_key((place.folder / "request.json").read_text()),
    )
    header = key.sign(body, int(time.time()), SigningDirection.RESULTS)
    before = await unproven(place)
    await place.publish(
        "keeper", "payment.requests", "payment.request", body, headers={"x-signature": header}
    )
    async with asyncio.timeout(15):
        while await unproven(place) == before:  # noqa: ASYNC110 -- another process
            await asyncio.sleep(0.05)
    return "the gateway: the direction is part of what is signed"


@attack("F12", "a payout past the ledger, by a row of the outbox, with the worker's login of the database")
async def _(place: Place) -> str:
    message_id, body = uuid.uuid4(), json.dumps(payout(fresh("STEAL"))).encode()
    write = (
        "INSERT INTO outbox (message_id, exchange, routing_key, body, created_at, publish_after)"
        " VALUES ($1, 'payment.requests', 'payment.request', $2, now(), now())"
    )
    tried = "SELECT attempts FROM outbox WHERE message_id = $1"
    async with place.database("worker") as connection:
        await connection.execute(write, message_id, body)
        async with asyncio.timeout(15):
            while (attempts := await connection.fetchval(tried, message_id)) == 0:  # noqa: ASYNC110 -- another process
                await asyncio.sleep(0.05)
        await connection.execute("DELETE FROM outbox WHERE message_id = $1", message_id)
    if attempts is None:
        raise WorkedError("a worker has signed and published it")
    return "the relay: the row has no seal, whose key is in no database"


async def unproven(place: Place) -> int:
    """Return how many requests the gateway has refused for want of a proof."""
    _, page = await place.get("gateway-acme", "/healthz")
    return int(json.loads(page)["requests"]["unproven"])


# F3: one administrator for everybody


@attack("F3", "users and queues through the management API, with an upstream's password")
async def _(place: Place) -> str:
    login = place.login("up-evil")
    its = Management((Node(place.api.nodes[0].base, login, place.passwords[login]),), place.api.vhost)
    for method, path in (("PUT", ("users", "mallory")), ("GET", ("queues", its.vhost)), ("GET", ("users",))):
        with suppress(ManagementError):
            await asyncio.to_thread(
                its.call, method, *path, body={"password": "x" * 16, "tags": "administrator"}
            )
            raise WorkedError(f"{method} {path} was done")
    return "the broker: 401, no user of the wallet is an administrator"


@attack("F3", "to read or delete the queues of commands, results and requests")
async def _(place: Place) -> str:
    for queue in ("wallet.commands", "payment.results", "payment.requests", "wallet.dead-letters"):
        for deed in ("get", "purge", "delete"):
            async with place.channel("up-evil") as channel:
                try:
                    if deed == "get":
                        await channel.basic_get(queue, no_ack=True)
                    elif deed == "purge":
                        await channel.queue_purge(queue)
                    else:
                        await channel.queue_delete(queue)
                except REFUSED:
                    continue
                raise WorkedError(f"{deed} of {queue}")
    return "the broker: ACCESS_REFUSED, for each of four queues"


# F4: commands have no sender


@attack("F4", "a transfer out of another service's user")
async def _(place: Place) -> str:
    command = {
        "type": "order.transfer.v1",
        "serial_no": fresh("T"),
        "user_id": "shop:victim",
        "amount": "1.00",
    }
    command |= {"to_user_id": "evil:me", "currency": "TWD"}
    return await not_allowed(place, "up-evil", "order.transfer", command)


@attack("F4", "to capture another service's hold")
async def _(place: Place) -> str:
    await place.paid("up-shop", "shop:holder", "50.00")
    number = fresh("H")
    async with place.client("up-shop") as wallet:
        await wallet.hold("shop:holder", "40.00", "TWD", 3_600, serial_no=number)
    async with place.client("up-evil") as wallet:
        await wallet.open_account("evil:me", "TWD", serial_no=fresh("O"))
    command = {
        "type": "order.capture.v1",
        "serial_no": fresh("C"),
        "hold_serial_no": number,
        "amount": "40.00",
    }
    command |= {"currency": "TWD", "to_user_id": "evil:me"}
    stopped = await not_allowed(place, "up-evil", "order.capture", command)
    if await place.money_of("evil:me"):
        raise WorkedError("the hold was captured")
    return stopped


@attack("F4", "to freeze another service's user")
async def _(place: Place) -> str:
    command = {
        "type": "account.freeze.v1",
        "serial_no": fresh("F"),
        "user_id": "shop:holder",
        "currency": "TWD",
    }
    return await not_allowed(place, "up-evil", "account.freeze", command | {"reason": "spite"})


@attack("F4", "a transfer under the routing key that the attacker may use")
async def _(place: Place) -> str:
    command = {"type": "order.transfer.v1", "serial_no": fresh("T"), "user_id": "evil:me", "amount": "1.00"}
    command |= {"to_user_id": "evil:you", "currency": "TWD"}
    return await not_allowed(place, "up-evil", "account.open", command)


@attack("F4", "a command without a sender")
async def _(place: Place) -> str:
    command = {"type": "account.open.v1", "serial_no": fresh("O"), "user_id": "evil:x", "currency": "TWD"}
    return await not_allowed(place, "up-evil", "account.open", command, user_id=None)


@attack("F4", "a command in another service's name")
async def _(place: Place) -> str:
    victim = place.login("up-shop")
    return await refused_by_broker(place, "up-evil", "wallet.commands", "account.open", user_id=victim)


@attack("F4", "a command in another's name, as the keeper's replays and the API's clients are")
async def _(place: Place) -> str:
    command = {"type": "account.open.v1", "serial_no": fresh("O"), "user_id": "shop:x", "currency": "TWD"}
    headers = {"x-wallet-sender": place.login("up-shop"), "x-wallet-client": "shop/k1"}
    return await not_allowed(place, "up-evil", "account.open", command, headers=headers)


@attack("F4", "another service's outcome, by repeating its command")
async def _(place: Place) -> str:
    number = fresh("O")
    command = {"type": "account.open.v1", "serial_no": number, "user_id": "shop:told", "currency": "TWD"}
    first = await place.ask("up-shop", "wallet.commands", "account.open", command)
    notified = await place.ask(
        "up-evil", "wallet.commands", "account.open", command | {"user_id": "evil:told"}
    )
    if (
        first["code"] != "OK"
        or notified["code"] != "SERIAL_CONFLICT"
        or "different" in notified
        or notified["result"] != {"object": "none"}
    ):
        raise WorkedError(f"it was told {notified}")
    return "the worker: SERIAL_CONFLICT, which tells nothing of the first command"


@attack("F4", "another service's balances and orders, by queries")
async def _(place: Place) -> str:
    query_sent = {"type": "account.get.v1", "user_id": "shop:holder"}
    accounts = await place.ask("up-evil", "wallet.queries", "account.get", query_sent)
    number = await place.owner.fetchval(
        "SELECT serial_no FROM commands WHERE sent_by = $1", place.login("up-shop")
    )
    order = await place.ask(
        "up-evil", "wallet.queries", "order.get", {"type": "order.get.v1", "serial_no": number}
    )
    own = await place.ask(
        "up-shop", "wallet.queries", "order.get", {"type": "order.get.v1", "serial_no": number}
    )
    if (accounts.get("code"), order.get("code")) != ("NOT_ALLOWED", "NOT_ALLOWED") or own[
        "type"
    ] != "order.detail.v1":
        raise WorkedError(f"it was told {accounts} and {order}")
    return "the worker: NOT_ALLOWED, for accounts and for orders"


# F5: where answers go


@attack("F5", "to have the worker write into the wallet's and the gateway's queues")
async def _(place: Place) -> str:
    queues = (
        "payment.requests",
        "payment.results",
        "wallet.commands",
        "wallet.dead-letters",
        "wallet.unrouted",
    )
    before = await place.owner.fetchval("SELECT count(*) FROM dead_letters")
    for number, queue in enumerate((*queues, f"reply.{place.login('up-shop')}.1")):
        command = {
            "type": "account.open.v1",
            "serial_no": fresh("O"),
            "user_id": f"evil:{number}",
            "currency": "TWD",
        }
        await place.publish("up-evil", "wallet.commands", "account.open", command, reply_to=queue)
        await place.publish(
            "up-evil", "wallet.queries", "account.get", {"type": "account.get.v1"}, reply_to=queue
        )
    async with asyncio.timeout(15):
        while await metric(place, "wallet_replies_refused_total") < 12:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    if await place.owner.fetchval("SELECT count(*) FROM dead_letters") != before:
        raise WorkedError("an answer became a dead letter")
    return "the worker: it answers only to its sender's own queues, and counts the others"


async def metric(place: Place, name: str) -> float:
    """Return what the worker counts."""
    _, page = await place.get("worker", "/metrics")
    (line,) = [line for line in page.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
    return float(line.split()[-1])


# F6: where the password goes


@attack("F6", "the broker's password in clear HTTP, with amqps")
async def _(place: Place) -> str:
    if management(place.amqp_url.replace("amqp:", "amqps:"), None) is not None:
        raise WorkedError("port 15672 is asked")
    return "the wallet: with amqps nothing is asked that nobody has named, and no redirect is followed"


# F7: forged dead letters


@attack("F7", "a dead letter in the worker's name, by an upstream service")
async def _(place: Place) -> str:
    return await refused_by_broker(place, "up-evil", "wallet.dead-letters", "order.transfer")


@attack("F7", "a dead letter in the worker's name, by somebody who can write the queue")
async def _(place: Place) -> str:
    number = fresh("FORGED")
    body = {"type": "order.transfer.v1", "serial_no": number, "user_id": "shop:holder", "amount": "1.00"}
    headers = {
        "x-wallet-reason": "INTERNAL",
        "x-wallet-source": "wallet.commands",
        "x-wallet-seal": "kid=seal-1,v1=" + "0" * 64,
    }
    await place.publish("setup", "wallet.dead-letters", "order.transfer", body, headers=headers)
    letter = await place.letter_of(number)
    if letter["seal"] != "unsealed":
        raise WorkedError(f"the letter is taken for {letter['seal']}")
    return "the keeper: the letter has no good seal, and is shown so"


@attack("F7", "a dead letter that looks as if the broker had set it aside")
async def _(place: Place) -> str:
    number = fresh("FORGED")
    body = {"type": "order.transfer.v1", "serial_no": number, "user_id": "shop:holder", "amount": "1.00"}
    headers = {"x-death": [{"queue": "wallet.commands", "reason": "delivery_limit", "count": 1}]}
    await place.publish("setup", "wallet.dead-letters", "order.transfer", body, headers=headers)
    letter = await place.letter_of(number)
    if letter["seal"] != "unsealed":
        raise WorkedError(f"the letter is taken for {letter['seal']}")
    return "the keeper: nothing proves who set it aside"


async def forged(place: Place) -> tuple[str, int]:
    """Return number and letter of a forged command, which an attacker wants to have applied."""
    number = fresh("FORGED")
    body = {"type": "account.open.v1", "serial_no": number, "user_id": "shop:mallory", "currency": "TWD"}
    headers = {"x-wallet-reason": "INTERNAL", "x-wallet-source": "wallet.commands"}
    await place.publish("setup", "wallet.dead-letters", "account.open", body, headers=headers)
    return number, int((await place.letter_of(number))["letter_id"])


@attack("F7", "a forged dead letter replayed by one operator alone")
async def _(place: Place) -> str:
    _, letter_id = await forged(place)
    async with at_the_desk(place) as desk:
        await know(place.owner)
        ann = Actor("ann", Role.OPERATOR, "attack")
        plan = await desk.plan(ann, Action.REPLAY, Filter(ids=(letter_id,)), reason="a canary is safe")
        try:
            await desk.execute(ann, plan.token)
        except ApprovalNeededError as exc:
            return f"the desk: {exc}"
    raise WorkedError("it was replayed")


@attack("F7", "a forged dead letter among many honest ones")
async def _(place: Place) -> str:
    numbers = [await forged(place) for _ in range(2)]
    async with at_the_desk(place) as desk:
        await know(place.owner)
        ann = Actor("ann", Role.OPERATOR, "attack")
        which = Filter(ids=tuple(letter_id for _, letter_id in numbers))
        try:
            await desk.plan(ann, Action.REPLAY, which, reason="all of them")
        except NotPossibleError as exc:
            return f"the desk: {exc}"
    raise WorkedError("they were planned together")


@attack("F7", "a forged dead letter replayed past the desk, through the functions for operators")
async def _(place: Place) -> str:
    number, letter_id = await forged(place)
    await know(place.owner)
    token = fresh("plan")
    async with place.database("console") as connection:
        await connection.execute(
            """
            SELECT dead_letter_make_plan($1, 'replay', 'ann', 'operator', 'console', '1 hour', 'fine', '{}', 0, 50, 1,
                                         ARRAY[$2::bigint], '{"will_apply"}', '{OK}', 0, false, NULL, '[]')
            """,
            *(token, letter_id),
        )
    return await until_stopped(place, await executed_by_function(place, token), number)


# F8: four eyes with two


async def edit_of(place: Place, desk: DeadLetterDesk, by: Actor) -> Plan:
    """Return the plan of an edit, which needs two people."""
    number, letter_id = await forged(place)
    body = {
        "type": "account.open.v1",
        "serial_no": f"{number}-e",
        "user_id": "shop:mallory",
        "currency": "TWD",
    }
    return await desk.plan_edit(by, letter_id, json.dumps(body).encode(), reason="mended")


@attack("F8", "to approve one's own plan under a second name that a users file makes an approver")
async def _(place: Place) -> str:
    async with at_the_desk(place) as desk:
        await know(place.owner)
        plan = await edit_of(place, desk, Actor("ann", Role.OPERATOR, "console"))
        await signed(desk, Actor("ann", Role.OPERATOR, "console"), plan.token)
        try:
            await signed(desk, Actor("ann2", Role.APPROVER, "console"), plan.token)
        except NotAllowedError as exc:
            return f"the desk: {exc}"
    raise WorkedError("ann2 has approved")


@attack("F8", "to plan in a colleague's name, and approve with one's own key")
async def _(place: Place) -> str:
    async with at_the_desk(place) as desk:
        await know(place.owner)
        plan = await edit_of(place, desk, Actor("otto", Role.OPERATOR, "cli, root"))
        try:
            await signed(desk, Actor("bob", Role.APPROVER, "cli, root"), plan.token)
        except NotPossibleError as exc:
            return f"the desk: {exc}"
    raise WorkedError("bob has approved what nobody else has asked for")


@attack("F8", "a role of one's own from the environment")
async def _(place: Place) -> str:
    process = await place.start(
        "refused", "wallet_worker", "worker", WALLET_DLQ_ROLES='{"nobody": "approver"}'
    )
    if await asyncio.wait_for(process.wait(), 60) != 2:
        raise WorkedError("the setting is taken")
    return "the wallet: roles are in the database"


async def until_stopped(place: Place, operation_id: UUID, number: str) -> str:
    """Return what a keeper says as it stops an operation; raises WorkedError if its message was published."""
    query = (
        "SELECT state, standing FROM dead_letter_operations WHERE operation_id = $1 AND state <> 'running'"
    )
    async with asyncio.timeout(30):
        while (found := await place.owner.fetchrow(query, operation_id)) is None:  # noqa: ASYNC110 -- another process
            await asyncio.sleep(0.05)
    if await place.owner.fetchval("SELECT count(*) FROM commands WHERE serial_no = $1", number):
        raise WorkedError("the command was applied")
    if found["state"] != "stopped" or "not authorised" not in found["standing"]:
        raise WorkedError(f"the operation is {found['state']}: {found['standing']}")
    return f"the keeper: {found['standing']}"


@attack("F8", "an approval that is a row written by SQL, with a signature of somebody else's")
async def _(place: Place) -> str:
    async with at_the_desk(place) as desk:
        await know(place.owner)
        otto = Actor("otto", Role.OPERATOR, "console")
        other, plan = await edit_of(place, desk, otto), await edit_of(place, desk, otto)
        await agreed(desk, place.owner, other, by="bob")
        await signed(desk, otto, plan.token)
        copied = await place.owner.fetchrow(
            "SELECT * FROM dead_letter_signatures WHERE token = $1 AND purpose = 'approval'", other.token
        )
        assert copied is not None
        async with place.database("console") as connection:
            await connection.execute(
                "SELECT dead_letter_plan_sign($1, 'approval', $2, 'bob', $3, clock_timestamp(), $4, 'x', 'x')",
                *(plan.token, copied["digest"], copied["key_id"], copied["proof"]),
            )
        try:
            await desk.execute(otto, plan.token)
        except NotAllowedError:
            pass
        else:
            raise WorkedError("the desk has executed it")
        operation_id = await executed_by_function(place, plan.token)
    number = await place.owner.fetchval(
        "SELECT serial_no FROM dead_letter_replays WHERE operation_id = $1", operation_id
    )
    return await until_stopped(place, operation_id, number)


@attack("F8", "an execution that the tables' owner writes by SQL, of a plan that nobody has approved")
async def _(place: Place) -> str:
    async with at_the_desk(place) as desk:
        await know(place.owner)
        plan = await edit_of(place, desk, Actor("otto", Role.OPERATOR, "console"))
        await place.owner.execute(
            "UPDATE dead_letter_plans SET approved_by = 'bob' WHERE token = $1", plan.token
        )
        operation_id = await executed_by_sql(place, plan)
    number = await place.owner.fetchval(
        "SELECT serial_no FROM dead_letter_replays WHERE operation_id = $1", operation_id
    )
    return await until_stopped(place, operation_id, number)


async def executed_by_function(place: Place, token: str) -> UUID:
    """Execute a plan of one letter past the desk, with the console's login; return the operation."""
    operation_id = uuid4()
    execute = "SELECT dead_letter_execute($1, $2, 'otto', 'operator', 'console', $3)"
    async with place.database("console") as connection:
        await connection.execute(execute, token, operation_id, [uuid4()])
    return operation_id


async def executed_by_sql(place: Place, plan: Plan) -> UUID:
    """Write, as the tables' owner, what executing the edit of a plan writes; return the operation."""
    operation_id = uuid4()
    async with place.owner.transaction():
        await place.owner.execute(
            """
            INSERT INTO dead_letter_operations (operation_id, token, action, state, actor, via, approved_by, reason,
                filter, canary, rate, stop_ratio, total, standing, publish_at, started_at)
            VALUES ($1, $2, 'edit', 'running', 'otto', 'console', 'bob', 'x', '{}', 0, 50, 0.2, 1, '', now(), now())
            """,
            *(operation_id, plan.token),
        )
        await place.owner.execute(
            "UPDATE dead_letter_plans SET operation_id = $2 WHERE token = $1", plan.token, operation_id
        )
        await place.owner.execute(
            """
            INSERT INTO dead_letter_replays (replay_id, letter_id, operation_id, position, number, verdict,
                verdict_code, body, body_digest, serial_no, ordered_at)
            VALUES ($1, $2, $3, 0, 1, 'will_apply', '', $4, sha256($4), $5, now())
            """,
            *(uuid4(), plan.sample[0].letter_id, operation_id, plan.edited_body),
            json.loads(plan.edited_body or b"{}")["serial_no"],
        )
        await place.owner.execute(
            "UPDATE dead_letters SET state = 'edited' WHERE letter_id = $1", plan.sample[0].letter_id
        )
    return operation_id


# F9: bodies of megabytes

LARGE_BYTES: Final = 8_000_000  # the broker of tests takes them: it is not set up as compose's is
LARGE: Final = 15
GROWTH_BYTES_MAX: Final = 4 * LARGE_BYTES  # some frames of each may be on their way at once


@attack("F9", "a worker's memory and the database, filled with bodies of megabytes")
async def _(place: Place) -> str:
    before = await metric(place, "process_resident_memory_bytes")
    body, number = secrets.token_bytes(LARGE_BYTES), fresh("O")
    for _ in range(LARGE):
        await place.publish("up-evil", "wallet.commands", "account.open", body)
    honest = {"type": "account.open.v1", "serial_no": number, "user_id": "shop:honest", "currency": "TWD"}
    answered = await place.ask("up-shop", "wallet.commands", "account.open", honest)
    kept = "SELECT count(*) FROM dead_letters WHERE body_digest = $1"
    async with asyncio.timeout(30):
        while not await place.owner.fetchval(kept, hashlib.sha256(body).digest()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    grown = await metric(place, "process_resident_memory_bytes") - before
    largest = await place.owner.fetchval("SELECT max(octet_length(body)) FROM dead_letters")
    if answered["code"] != "OK" or grown > GROWTH_BYTES_MAX or largest > 65_536:
        raise WorkedError(f"the worker has {grown:,.0f} bytes more, the largest letter has {largest:,}")
    return (
        f"the worker: it keeps size, digest and 1 KiB of each, and {max(grown, 0) / 2**20:.0f} MiB of memory"
    )


# F10, F11: keys and results


async def result_is(place: Place, code: str, key_id: str, at_unix: int, **headers: str) -> None:
    """Return if a signed success of a waiting order became a dead letter with this code."""
    number, user = fresh("R"), f"shop:{fresh('u').lower()}"
    async with place.client("up-shop") as wallet:
        await wallet.open_account(user, "TWD", serial_no=fresh("O"))
        await wallet.recharge(user, "70.00", "TWD", "sandbox_silent", serial_no=number)
    body = {"type": "payment.result.v1", "payment_order_no": number, "amount": "70.00", "currency": "TWD"}
    body |= {"status": "succeeded", "gateway_ref": "forged", "occurred_at": "1999-01-02T03:04:05Z"}
    content = json.dumps(body).encode()
    header = headers or signed_by_gateway(content, key_id, at_unix)
    await place.publish("gateway-acme", "payment.results", "payment.result", content, headers=header)
    letter = await place.letter_of(number)
    if letter["reason"] != code or await place.money_of(user):
        raise WorkedError(f"the result was {letter['reason']}, and the user has {await place.money_of(user)}")


@attack("F10", "to credit a recharge with a key that speaks of another channel")
async def _(place: Place) -> str:
    await result_is(place, "KEY_NOT_ALLOWED", "acme-bank", int(time.time()))
    return "the worker: KEY_NOT_ALLOWED"


@attack("F10", "to sign results with what a wallet process has of an Ed25519 key")
async def _(place: Place) -> str:
    from wallet_schemas.signature import sign

    public = json.loads((place.folder / "wallet-keys.json").read_text())["wallet-1"]["public"]
    keys = read_verifying_keys(json.dumps({"wallet-1": {"algorithm": "ed25519", "public": public}}))
    from wallet_schemas.signature import BadSignature, verify

    try:
        verify(sign(b"{}", {"wallet-1": public}, 1), b"{}", keys)
    except BadSignature:
        return "the scheme: who verifies with a public key has nothing to sign with"
    raise WorkedError("a public key signed")


@attack("F10", "a short secret, or a name that stands twice, in the keys")
async def _(place: Place) -> str:
    for keys in ('{"k": "x"}', '{"k": "a long enough secret", "k": "another long enough secret"}'):
        process = await place.start(
            "refused", "wallet_worker", "worker", WALLET_PAYMENT_KEYS=keys
        )  # never connects
        if await asyncio.wait_for(process.wait(), 60) != 2:
            raise WorkedError(f"a worker runs with {keys}")
    return "the worker: it does not start"


@attack("F11", "a result that was signed long before its order")
async def _(place: Place) -> str:
    await result_is(place, "KEY_NOT_ALLOWED", "test-acme", 0)
    return "the worker: KEY_NOT_ALLOWED"


# F14: the simulator beside real money


@attack("F14", "the simulated gateway with the production key")
async def _(place: Place) -> str:
    keys = json.dumps({"acme-2026": "a production secret"})
    process = await place.start("simulator", "payment_simulator", WALLET_PAYMENT_KEYS=keys)
    if await asyncio.wait_for(process.wait(), 60) != 2:
        raise WorkedError("the simulator signs with it")
    return "the simulator: its keys' ids begin with test-"


@attack("F14", "a production worker that believes the simulated gateway")
async def _(place: Place) -> str:
    process = await place.start("refused", "wallet_worker", "worker", WALLET_DEMO="0")
    if await asyncio.wait_for(process.wait(), 60) != 2:
        raise WorkedError("a worker runs with a key of the simulator")
    return "the worker: it does not start with such a key, unless told that it is a demo"


@attack("F15", "to delete queues with a worker's password")
async def _(place: Place) -> str:
    for role, queue in (("worker", "wallet.commands"), ("keeper", "wallet.dead-letters")):
        async with place.channel(role) as channel:
            try:
                await channel.queue_delete(queue)
            except REFUSED:
                continue
            raise WorkedError(f"{role} has deleted {queue}")
    return "the broker: ACCESS_REFUSED, workers and keepers need no right to configure"


@attack("F16", "the broker's address and user from /readyz, or its password from the log")
async def _(place: Place) -> str:
    process = await place.start(
        "lost",
        "wallet_worker",
        "worker",
        WALLET_AMQP_URL="amqp://me:TOP@SECRET@127.0.0.1:1/",
        WALLET_KEEPER="false",
    )
    async with asyncio.timeout(60):
        while "127.0.0.1:1" not in place.log("lost"):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        page = ""
        while not page:  # what is wrong is logged before the port is open
            with suppress(OSError):
                _, page = await place.get("lost", "/readyz")
            await asyncio.sleep(0.1)
    process.terminate()
    if "SECRET" in page + place.log("lost") or "127.0.0.1" in page or "me:" in page:
        raise WorkedError(page)
    return "the worker: /readyz names parts, the log names the host, neither a user or a password"


@attack("F18", "an account of a type that nobody has limited")
async def _(place: Place) -> str:
    command = {"type": "account.open.v1", "serial_no": fresh("O"), "user_id": "evil:me", "currency": "TWD"}
    notified = await place.ask(
        "up-evil", "wallet.commands", "account.open", command | {"account_type": "basic2"}
    )
    if notified["code"] != "ACCOUNT_TYPE_NOT_SUPPORTED":
        raise WorkedError(f"it was {notified['code']}")
    return "the worker: ACCOUNT_TYPE_NOT_SUPPORTED"


@attack("F20", "the probes of a worker, by 600 half requests")
async def _(place: Place) -> str:
    silent = []
    for _ in range(600):
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", place.ports["worker"])
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n")
            silent.append(writer)
    try:
        status, _ = await place.get("worker", "/readyz")
    finally:
        for writer in silent:
            writer.close()
    if status != 200:
        raise WorkedError(f"/readyz says {status}")
    return "the worker: a new connection takes the place of a silent one, which ends after 5 s in any case"


@attack("F22", "stored balances read ten times as large, by another iso4217")
async def _(place: Place) -> str:
    await place.owner.execute("UPDATE currencies SET digits = 1 WHERE currency = 'KWD'")
    try:
        process = await place.start("refused", "wallet_worker", "worker", WALLET_KEEPER="false")
        status = await asyncio.wait_for(process.wait(), 60)
    finally:
        await place.owner.execute("UPDATE currencies SET digits = 3 WHERE currency = 'KWD'")
    if status != 1:
        raise WorkedError("a worker runs")
    return "the worker: it does not start, the database has other digits"


@attack("F23", "a client that sends again and again what it may not send")
async def _(place: Place) -> str:
    async with place.client("gateway-acme") as wallet:
        try:
            await wallet.open_account("shop:x", "TWD", serial_no=fresh("O"))
        except NotAcceptedError as exc:
            return f"the client: {str(exc)[:60]}"
    raise WorkedError("it was sent")


async def run(place: Place, answer: Callable[[str], None]) -> int:
    """Run every attack and say, in a line each, what stopped it; return how many worked."""
    worked = 0
    for item in ATTACKS:
        try:
            outcome = f"stopped  {item.finding:4} {item.wants}: {await item.attempt(place)}"
        except WorkedError as exc:
            worked += 1
            outcome = f"WORKED   {item.finding:4} {item.wants}: {exc}"
        except Exception as exc:  # noqa: BLE001 -- an attack that breaks proves nothing
            worked += 1
            outcome = f"UNKNOWN  {item.finding:4} {item.wants}: {type(exc).__name__}: {exc}"
        answer(outcome)
    answer(f"{len(ATTACKS) - worked} of {len(ATTACKS)} exploits were stopped")
    return worked


def _main() -> int:
    from tests.security.place import deployed
    from tests.servers import start_servers

    async def attacked() -> int:
        async with start_servers(durable=False) as servers, deployed(servers) as place:
            return await run(place, print)

    return 1 if asyncio.run(attacked()) else 0


if __name__ == "__main__":
    sys.exit(_main())
