"""Each advice of the runbook, followed on a real wallet from the state in which it is given.

The list of advices is the runbook's own: an advice without a scenario here is a failing test, and so is a scenario in
which the wallet gives another advice.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from pamqp.commands import Basic
from pamqp.common import FieldValue

from tests.dead_letters.conftest import OTTO, VERA, Wallet
from tests.dead_letters.letters import arrived, headers
from tests.dead_letters.people import agreed
from tests.journeys.messages import (
    Json,
    account_command,
    cancel,
    encoded,
    fresh,
    open_account,
    recharge,
    refund,
    result,
    signed,
    transfer,
    withdraw,
)
from tests.workers import KEYS, until
from wallet_schemas.codes import Code
from wallet_schemas.values import OrderStatus, OrderType
from wallet_worker.broker import topology
from wallet_worker.core.context import Policy
from wallet_worker.core.senders import Rights, Senders
from wallet_worker.dead_letters import runbook
from wallet_worker.dead_letters.advice import ADVICE, Situation
from wallet_worker.dead_letters.meanings import REFUSALS, meaning_of
from wallet_worker.dead_letters.model.errors import InvalidEditError, NotPossibleError
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.plans import ReplayPace
from wallet_worker.dead_letters.model.predictions import PredictedOutcome
from wallet_worker.dead_letters.model.states import Action
from wallet_worker.dead_letters.operations import DeadLetterDesk
from wallet_worker.dead_letters.payment_states import PAYMENT_STATES, of_order
from wallet_worker.dead_letters.reasons import REASONS
from wallet_worker.dead_letters.replay import predict

OTHER_KEY: Final = {"k2": "a secret that came later"}


@dataclass
class Shift:
    """An operator at work on a wallet: takes advice, and does what it says."""

    wallet: Wallet
    given: set[str] = field(default_factory=set)

    async def advice(self, letter_id: int) -> str:
        """Return the name of the advice that a letter gets now, and note that it was given."""
        found = (await self.wallet.operations.letter(OTTO, letter_id)).runbook
        self.given.add(found.advice)
        return found.advice

    async def says(self, letter_id: int) -> str:
        """Return what the advice says is safe."""
        return (await self.wallet.operations.letter(OTTO, letter_id)).runbook.safe

    async def letter(self, content: Json | bytes, reason: str, *, source: str = "wallet.commands") -> int:
        """Return a letter that was set aside for a reason, well signed if it is a payment result."""
        message_headers = headers(reason, source=source) | _signature(source, content)
        before = set(await self.wallet.ids())
        await self.wallet.take_in(arrived(content, message_headers))
        (letter_id,) = set(await self.wallet.ids()) - before
        return letter_id

    async def result(self, content: Json | bytes, reason: str) -> int:
        """Return a letter of a payment result."""
        return await self.letter(content, reason, source="payment.results")

    async def by_broker(self, queue: str, content: Json | bytes, why: str) -> int:
        """Return a letter that the broker has set aside."""
        death: FieldValue = [{"queue": queue, "reason": why, "count": 1, "routing-keys": ["a.key"]}]
        before = set(await self.wallet.ids())
        await self.wallet.take_in(arrived(content, {"x-death": death, **_signature(queue, content)}))
        (letter_id,) = set(await self.wallet.ids()) - before
        return letter_id

    async def replays(self, letter_id: int, *, state: str = "resolved") -> str:
        """Plan and execute the replay of a letter; return the code of its outcome."""
        await self.wallet.replayed([letter_id])
        await until(
            self.wallet.owner,
            "SELECT count(*) FROM dead_letter_replays WHERE letter_id = $1 AND ended_at IS NULL",
            0,
            letter_id,
        )
        assert await self.wallet.state(letter_id) == state
        return str((await self.wallet.operations.letter(OTTO, letter_id)).replays[-1].code)

    async def discards(self, letter_id: int) -> None:
        """Discard a letter."""
        await self._does(Action.DISCARD, letter_id)
        assert await self.wallet.state(letter_id) == "discarded"

    async def restores(self, letter_id: int) -> None:
        """Have a letter wait again."""
        await self._does(Action.RESTORE, letter_id)
        assert await self.wallet.state(letter_id) == "waiting"

    async def edits(self, letter_id: int, message: Json) -> None:
        """Plan the edit of a letter, have a second person approve it, and execute it."""
        plan = await self.wallet.operations.plan_edit(OTTO, letter_id, encoded(message), reason="a test")
        await agreed(self.wallet.operations, self.wallet.owner, plan)
        await self.wallet.operations.execute(OTTO, plan.token)

    async def cannot(self, action: Action, letter_id: int) -> str:
        """Return why something cannot be done to a letter."""
        with pytest.raises(NotPossibleError) as caught:
            await self.wallet.operations.plan(OTTO, action, Filter(ids=(letter_id,)), reason="a test")
        return str(caught.value)

    async def cannot_edit(self, letter_id: int, message: Json) -> None:
        """A letter cannot be edited into this message."""
        with pytest.raises((NotPossibleError, InvalidEditError)):
            await self.wallet.operations.plan_edit(OTTO, letter_id, encoded(message), reason="a test")

    async def _does(self, action: Action, letter_id: int) -> None:
        plan = await self.wallet.operations.plan(OTTO, action, Filter(ids=(letter_id,)), reason="ref 90211")
        await self.wallet.operations.execute(OTTO, plan.token)

    async def verdict(self, letter_id: int) -> tuple[PredictedOutcome, str]:
        """Return what a replay would do now."""
        found = (await self.wallet.operations.letter(OTTO, letter_id)).prediction
        return found.verdict, found.code

    async def applied(self, content: Json) -> None:
        """Send a command, which is applied."""
        await self.wallet.upstream.applied(content)

    async def pays(self, number: str, status: str = "succeeded", **fields: Any) -> tuple[str, str]:
        """Have the gateway publish a result; return what became of it, and the code."""
        answer = await self.wallet.upstream.processed(result(number, status, **fields))
        return answer["processing_status"], answer["code"]

    async def asked(self) -> tuple[bytes, dict[str, FieldValue]]:
        """Return body and headers of the next payment request, as the gateway takes it."""
        channel = await self.wallet.upstream.new_channel()
        async with asyncio.timeout(60):
            while True:
                got = await channel.basic_get("payment.requests", no_ack=True)
                if isinstance(got.delivery, Basic.GetOk):
                    await channel.close()
                    return got.body, got.header.properties.headers or {}
                await asyncio.sleep(0.05)

    async def balances(self, user: str) -> tuple[str, str]:
        """Return balance and available."""
        return await self.wallet.upstream.balances(user)


def _signature(queue: str, content: Json | bytes) -> dict[str, FieldValue]:
    return {"x-signature": signed(encoded(content))} if queue == "payment.results" else {}


Scenario = Callable[[Shift], Awaitable[None]]
SCENARIOS: dict[str, Scenario] = {}


def follows(scenario: Scenario) -> Scenario:
    """Register what follows the advice that the scenario is named after."""
    SCENARIOS[scenario.__name__.replace("_", "-")] = scenario
    return scenario


def test_each_advice_has_a_scenario_that_follows_it() -> None:
    assert set(SCENARIOS) == {row.name for row in ADVICE}


@pytest.mark.parametrize("name", [row.name for row in ADVICE])
async def test_each_advice_can_be_followed_from_the_state_in_which_it_is_given(
    wallet: Wallet, name: str
) -> None:
    shift = Shift(wallet)

    await SCENARIOS[name](shift)

    assert name in shift.given


# Whatever the reason is


@follows
async def resolved(shift: Shift) -> None:
    await shift.wallet.start()
    letter_id = await shift.letter(open_account(fresh("user")), "INTERNAL")
    await shift.replays(letter_id)

    assert await shift.advice(letter_id) == "resolved"
    for action in (Action.REPLAY, Action.DISCARD, Action.RESTORE):
        await shift.cannot(action, letter_id)


@follows
async def discarded(shift: Shift) -> None:
    letter_id = await shift.letter(open_account(fresh("user")), "INTERNAL")
    await shift.discards(letter_id)

    assert await shift.advice(letter_id) == "discarded"
    await shift.restores(letter_id)


@follows
async def edited(shift: Shift) -> None:
    wallet = shift.wallet
    keeper = await wallet.start_keeper()
    user, other = fresh("user"), fresh("user")
    first, second = [
        await shift.letter(open_account(each, currency="twd"), "MALFORMED") for each in (user, other)
    ]
    for letter_id, each in ((first, user), (second, other)):
        await shift.edits(letter_id, open_account(each))

    assert await shift.advice(first) == "edited"
    await shift.cannot(Action.RESTORE, first)
    await until(
        wallet.owner, "SELECT count(*) FROM dead_letter_replays WHERE state = 'published'", 2
    )  # no worker takes them
    await wallet.owner.execute(
        "UPDATE dead_letter_replays SET published_at = published_at - interval '16 minutes' WHERE letter_id = $1",
        second,
    )
    assert await shift.advice(second) == "edited"
    await shift.restores(second)
    await keeper.stop()
    await wallet.start()
    await until(wallet.owner, "SELECT count(*) FROM accounts WHERE user_id = $1", 1, user)


@follows
async def replaying(shift: Shift) -> None:
    wallet = shift.wallet
    await wallet.start_keeper()
    letter_id = await shift.letter(open_account(fresh("user")), "INTERNAL")
    await wallet.replayed([letter_id])
    await until(wallet.owner, "SELECT count(*) FROM dead_letter_replays WHERE state = 'published'", 1)

    assert await shift.advice(letter_id) == "replaying"
    await shift.cannot(Action.RESTORE, letter_id)
    await wallet.owner.execute(
        "UPDATE dead_letter_replays SET published_at = published_at - interval '16 minutes'"
    )
    await shift.restores(letter_id)


@follows
async def repeats(shift: Shift) -> None:
    await shift.wallet.start()
    command, user = open_account(fresh("user")), await shift.wallet.upstream.opened()
    charge = recharge(user)
    letters = [await shift.letter(command, "INTERNAL") for _ in range(2)]
    paid = await shift.result(result(charge["serial_no"]), "INTERNAL")
    await shift.applied(command)
    await shift.applied(charge)
    await shift.pays(charge["serial_no"])

    for letter_id in (*letters, paid):
        assert await shift.advice(letter_id) == "repeats"
    assert await shift.replays(letters[0]) == "OK"
    await shift.replays(paid)
    await shift.discards(letters[1])
    assert await shift.balances(user) == ("100.00", "100.00")


@follows
async def request_waits(shift: Shift) -> None:
    wallet = shift.wallet
    await wallet.start()
    charge = recharge(await wallet.upstream.opened())
    await shift.applied(charge)
    body, _ = await shift.asked()

    letters = [
        await shift.by_broker("payment.requests", body, why)
        for why in ("rejected", "expired", "maxlen", "delivery_limit")
    ]

    for letter_id in letters:
        assert await shift.advice(letter_id) == "request-waits"
    await wallet.replayed([letters[0]])
    again, answer = await shift.asked()
    assert (again, "x-wallet-replay-id" in answer) == (body, True)
    await shift.pays(charge["serial_no"])
    await wallet.until_state(letters[0], "resolved")


@follows
async def request_over(shift: Shift) -> None:
    wallet = shift.wallet
    await wallet.start()
    charge = recharge(await wallet.upstream.opened())
    await shift.applied(charge)
    body, _ = await shift.asked()
    await shift.pays(charge["serial_no"])

    for each in (body, encoded(json.loads(body) | {"payment_order_no": fresh("R")}), b"{}"):
        letter_id = await shift.by_broker("payment.requests", each, "rejected")
        assert await shift.advice(letter_id) == "request-over"
        assert "cannot be replayed" in await shift.cannot(Action.REPLAY, letter_id)
        await shift.discards(letter_id)


@follows
async def not_replayable(shift: Shift) -> None:
    command = open_account(fresh("user"))
    nobodys = await shift.letter(command, "INTERNAL", source="their.own.queue")
    unread = await shift.by_broker("their.own.queue", command, "expired")

    for letter_id in (nobodys, unread):
        assert await shift.advice(letter_id) == "not-replayable"
        assert "cannot be replayed" in await shift.cannot(Action.REPLAY, letter_id)
        await shift.discards(letter_id)
    await shift.wallet.start()
    await shift.applied(command)  # the sender sends it again


@follows
async def worn(shift: Shift) -> None:
    await shift.wallet.start()
    command = open_account(fresh("user"))
    letter_id = await shift.letter(command, "INTERNAL")
    await shift.wallet.owner.execute("UPDATE dead_letters SET replays = 10")

    assert await shift.advice(letter_id) == "worn"
    assert "not replayed any more" in await shift.cannot(Action.REPLAY, letter_id)
    await shift.applied(command)
    await shift.discards(letter_id)


@follows
async def refused_now(shift: Shift) -> None:
    await shift.wallet.start()
    user = fresh("user")
    mended, refused, unwanted = [await shift.letter(recharge(user), "INTERNAL") for _ in range(3)]

    for letter_id in (mended, refused, unwanted):
        assert await shift.advice(letter_id) == "refused-now"
    assert await shift.replays(refused) == "ACCOUNT_NOT_FOUND"
    await shift.discards(unwanted)
    await shift.applied(open_account(user))
    assert await shift.verdict(mended) == (PredictedOutcome.WILL_APPLY, "OK")
    assert await shift.replays(mended) == "OK"


@follows
async def fits_now(shift: Shift) -> None:
    wallet = shift.wallet
    worker = await wallet.start()
    user = await wallet.upstream.opened()
    charge, early = recharge(user), recharge(user)
    await shift.applied(charge)
    body = encoded(result(charge["serial_no"]))
    (kid, secret), *_ = OTHER_KEY.items()
    message_headers = headers(
        "BAD_SIGNATURE", source="payment.results", x_signature=signed(body, key_id=kid, secret=secret)
    )
    await wallet.take_in(arrived(body, message_headers))
    (unsigned,) = await wallet.ids()
    assert await shift.advice(unsigned) == "signature-wrong"

    keys = KEYS | OTHER_KEY
    wallet.operations = DeadLetterDesk(wallet.operating, Policy(), keys)
    assert await shift.advice(unsigned) == "fits-now"
    await worker.stop()
    await wallet.start(WALLET_PAYMENT_KEYS=json.dumps(keys))
    assert await shift.replays(unsigned) == "OK"

    late = await shift.result(result(early["serial_no"]), "ORDER_NOT_FOUND")
    await shift.applied(early)
    assert await shift.advice(late) == "fits-now"
    assert await shift.replays(late) == "OK"
    assert await shift.balances(user) == ("200.00", "200.00")


# By reason


@follows
async def malformed_mended(shift: Shift) -> None:
    await shift.wallet.start()
    command = open_account(fresh("user"))
    letter_id = await shift.letter(command | {"currency": 7}, "MALFORMED")
    await shift.applied(command)

    assert await shift.advice(letter_id) == "malformed-mended"
    await shift.cannot_edit(letter_id, open_account(fresh("user")))
    await shift.discards(letter_id)


@follows
async def malformed_command(shift: Shift) -> None:
    wallet = shift.wallet
    await wallet.start()
    edit, again = open_account(fresh("user")), open_account(fresh("user"))
    await wallet.upstream.publish("wallet.commands", edit | {"currency": "twd"})
    await wallet.upstream.publish("wallet.commands", again | {"currency": "twd"})
    first, second = [await wallet.until_letter(each["serial_no"]) for each in (edit, again)]

    for letter_id in (first, second):
        assert await shift.advice(letter_id) == "malformed-command"
        assert await shift.replays(letter_id, state="waiting") == "MALFORMED"
    await shift.edits(first, edit | {"serial_no": fresh("O")})
    await until(wallet.owner, "SELECT count(*) FROM accounts WHERE user_id = $1", 1, edit["user_id"])
    await shift.applied(again)  # with the same serial number
    await shift.discards(second)


@follows
async def malformed_result(shift: Shift) -> None:
    wallet = shift.wallet
    await wallet.start()
    user = await wallet.upstream.opened()
    charge = recharge(user)
    await shift.applied(charge)
    await wallet.upstream.result(result(charge["serial_no"], amount=100))
    letter_id = await wallet.until_letter(charge["serial_no"])

    assert await shift.advice(letter_id) == "malformed-result"
    assert await shift.replays(letter_id, state="waiting") == "MALFORMED"
    await shift.cannot_edit(letter_id, recharge(user))
    assert await shift.pays(charge["serial_no"]) == ("processed", "OK")
    await shift.discards(letter_id)


@follows
async def unsupported_type(shift: Shift) -> None:
    wallet = shift.wallet
    await wallet.start()
    command = open_account(fresh("user")) | {"type": "account.open.v9"}
    await wallet.upstream.publish("wallet.commands", command)
    letter_id = await wallet.until_letter(command["serial_no"])

    assert await shift.advice(letter_id) == "unsupported-type"
    assert await shift.replays(letter_id, state="waiting") == "UNSUPPORTED_TYPE"
    await shift.discards(letter_id)


@follows
async def not_allowed(shift: Shift) -> None:
    wallet = shift.wallet
    await wallet.start(WALLET_SENDERS='{"somebody": {"types": ["*"]}}')
    command = open_account(fresh("user"))
    await wallet.upstream.publish("wallet.commands", command)
    letter_id = await wallet.until_letter(command["serial_no"])

    senders = Senders({"somebody": Rights(types=("*",))})
    wallet.operations = DeadLetterDesk(wallet.operating, Policy(senders=senders), KEYS)
    assert await shift.advice(letter_id) == "not-allowed"
    assert await shift.verdict(letter_id) == (
        PredictedOutcome.WOULD_DEAD_LETTER,
        "NOT_ALLOWED",
    )  # it is not replayed
    await shift.discards(letter_id)


@follows
async def key_not_allowed(shift: Shift) -> None:
    wallet = shift.wallet
    await wallet.start()
    user = await wallet.upstream.opened()
    charge = recharge(user)
    await shift.applied(charge)
    early = result(charge["serial_no"])
    await wallet.upstream.result(early, signature=signed(encoded(early), at=1))
    letter_id = await wallet.until_letter(charge["serial_no"])

    assert await shift.advice(letter_id) == "key-not-allowed"
    assert await shift.balances(user) == ("0.00", "0.00")
    assert await shift.verdict(letter_id) == (
        PredictedOutcome.WOULD_DEAD_LETTER,
        "KEY_NOT_ALLOWED",
    )  # it is not replayed
    await shift.discards(letter_id)


@follows
async def signature_wrong(shift: Shift) -> None:
    wallet = shift.wallet
    await wallet.start()
    user = await wallet.upstream.opened()
    charge = recharge(user)
    await shift.applied(charge)
    await wallet.upstream.result(result(charge["serial_no"]), signature="t=1,kid=k1,v1=00")
    letter_id = await wallet.until_letter(charge["serial_no"])

    assert await shift.advice(letter_id) == "signature-wrong"
    assert await shift.balances(user) == ("0.00", "0.00")
    await shift.cannot_edit(letter_id, charge)
    assert await shift.verdict(letter_id) == (
        PredictedOutcome.STILL_MALFORMED,
        "BAD_SIGNATURE",
    )  # it is not replayed


@follows
async def serial_conflict(shift: Shift) -> None:
    wallet = shift.wallet
    await wallet.start()
    first = open_account(fresh("user"))
    await shift.applied(first)
    both = [first | {"user_id": fresh("user")} for _ in range(2)]
    for each in both:
        await wallet.upstream.publish("wallet.commands", each)
    await wallet.until_letters(2)
    meant, unwanted = await wallet.ids()

    assert await shift.advice(meant) == "serial-conflict"
    assert await shift.replays(meant, state="waiting") == "SERIAL_CONFLICT"
    message = json.loads((await wallet.operations.letter(OTTO, meant)).whole.body or b"")
    await shift.edits(meant, message | {"serial_no": fresh("O")})
    await until(wallet.owner, "SELECT count(*) FROM accounts WHERE user_id = $1", 1, message["user_id"])
    assert await shift.advice(unwanted) == "serial-conflict"
    await shift.discards(unwanted)


@follows
async def out_of_range(shift: Shift) -> None:
    """A balance near the end of 64 bits cannot be reached by orders in a test: the row is made so by hand."""
    wallet = shift.wallet
    await wallet.start()
    user = await wallet.upstream.opened()
    charge = recharge(user)
    await shift.applied(charge)
    await wallet.owner.execute("UPDATE accounts SET balance = 9223372036854775807 WHERE user_id = $1", user)
    await wallet.upstream.result(result(charge["serial_no"]))
    letter_id = await wallet.until_letter(charge["serial_no"])

    assert await shift.advice(letter_id) == "out-of-range"
    assert await shift.replays(letter_id, state="waiting") == "AMOUNT_OUT_OF_RANGE"
    await wallet.owner.execute("UPDATE accounts SET balance = 0 WHERE user_id = $1", user)
    assert await shift.advice(letter_id) == "fits-now"
    assert await shift.replays(letter_id) == "OK"


async def expired(shift: Shift, user: str) -> str:
    """Return a recharge of a user that has expired."""
    charge = recharge(user)
    await shift.applied(charge)
    query = "SELECT status FROM orders WHERE serial_no = $1"
    await until(shift.wallet.owner, query, "expired", charge["serial_no"])
    serial_no: str = charge["serial_no"]
    return serial_no


@follows
async def account_closed(shift: Shift) -> None:
    wallet = shift.wallet
    await wallet.start(WALLET_RECHARGE_EXPIRES_SECONDS="1")
    user = await wallet.upstream.opened()
    number = await expired(shift, user)
    await shift.applied(account_command("close", user))
    await wallet.upstream.result(result(number))
    letter_id = await wallet.until_letter(number)

    assert await shift.advice(letter_id) == "account-closed"
    await shift.applied(open_account(user))  # a new account is another one
    found = await wallet.operations.letter(OTTO, letter_id)
    assert found.truth.account is not None
    assert (found.runbook.advice, found.truth.account.status) == ("account-closed", "closed")
    assert await shift.replays(letter_id, state="waiting") == "ACCOUNT_CLOSED"
    await shift.discards(letter_id)


@follows
async def instructions(shift: Shift) -> None:
    wallet = shift.wallet
    await wallet.start()
    user = await wallet.upstream.opened()
    charge = recharge(user)
    await shift.applied(charge)
    number = charge["serial_no"]
    told = {
        "type": "payment.instructions.v1",
        "payment_order_no": number,
        "gateway_ref": f"gw-{number}",
        "amount": "99.00",
        "currency": "TWD",
        "action": "store_code",
        "code": "LLL1",
        "occurred_at": "2026-01-02T03:04:05Z",
    }
    await wallet.upstream.result(told)
    letter_id = await wallet.until_letter(number)

    assert await shift.advice(letter_id) == "instructions"
    assert await shift.replays(letter_id, state="waiting") == "AMOUNT_MISMATCH"
    await wallet.upstream.result({**told, "amount": "100.00", "revision": 2})
    await until(
        wallet.owner,
        "SELECT revision FROM payment_instructions JOIN orders USING (order_id) WHERE serial_no = $1",
        2,
        number,
    )
    await shift.discards(letter_id)


@follows
async def unexpected_payment(shift: Shift) -> None:
    wallet = shift.wallet
    await wallet.start(WALLET_CHANNELS='{"card": {"gateway_refs": "unique"}}')
    company, user = await house(shift), await wallet.upstream.opened()
    number = await wallet.upstream.paid(user)
    await wallet.upstream.result(result(number, gateway_ref="gw-again"))
    letter_id = await wallet.until_letter(number)

    assert await shift.advice(letter_id) == "unexpected-payment"
    await shift.applied(transfer(company, user))
    await shift.discards(letter_id)
    assert await shift.balances(user) == ("200.00", "200.00")


@follows
async def reversal(shift: Shift) -> None:
    wallet = shift.wallet
    await wallet.start()
    user = await wallet.upstream.opened()
    number = await wallet.upstream.paid(user)
    dispute = {
        "type": "payment.reversal.v1",
        "payment_order_no": number,
        "reversal_ref": "dp-1",
        "kind": "dispute",
        "sequence": 1,
        "status": "moved",
        "amount": "100.01",
        "currency": "TWD",
        "occurred_at": "2026-01-02T03:04:05Z",
    }
    await wallet.upstream.result(dispute)
    letter_id = await wallet.until_letter(number)

    assert await shift.advice(letter_id) == "reversal"
    assert await shift.replays(letter_id, state="waiting") == "AMOUNT_EXCEEDS_ORIGINAL"
    await wallet.upstream.result({**dispute, "sequence": 2, "amount": "100.00"})
    await until(
        wallet.owner,
        "SELECT moved FROM reversals JOIN orders USING (order_id) WHERE serial_no = $1",
        10_000,
        number,
    )
    await shift.discards(letter_id)
    assert await shift.balances(user) == ("0.00", "0.00")


@follows
async def order_without_payment(shift: Shift) -> None:
    wallet = shift.wallet
    await wallet.start()
    sent = transfer(await wallet.upstream.funded(), await wallet.upstream.opened())
    await shift.applied(sent)
    await wallet.upstream.result(result(sent["serial_no"]))
    letter_id = await wallet.until_letter(sent["serial_no"])

    assert await shift.advice(letter_id) == "order-without-payment"
    assert await shift.replays(letter_id, state="waiting") == "ORDER_NOT_FOUND"
    await shift.discards(letter_id)


@follows
async def order_in_a_letter(shift: Shift) -> None:
    wallet = shift.wallet
    await wallet.start()
    user = await wallet.upstream.opened()
    charge = recharge(user)
    command = await shift.letter(charge, "INTERNAL")
    letter_id = await shift.result(result(charge["serial_no"]), "ORDER_NOT_FOUND")

    assert await shift.advice(letter_id) == "order-in-a-letter"
    assert await shift.replays(command) == "OK"
    assert await shift.replays(letter_id) == "OK"
    assert await shift.balances(user) == ("100.00", "100.00")


@follows
async def order_nowhere(shift: Shift) -> None:
    letter_id = await shift.result(result(fresh("R")), "ORDER_NOT_FOUND")

    assert await shift.advice(letter_id) == "order-nowhere"
    await shift.discards(letter_id)


@follows
async def mismatch(shift: Shift) -> None:
    wallet = shift.wallet
    await wallet.start()
    user = await wallet.upstream.opened()
    for reason, wrong in (
        ("AMOUNT_MISMATCH", {"amount": "1.00"}),
        ("CURRENCY_MISMATCH", {"currency": "USD"}),
    ):
        charge = recharge(user)
        await shift.applied(charge)
        await wallet.upstream.result(result(charge["serial_no"], **wrong))
        letter_id = await wallet.until_letter(charge["serial_no"])

        assert await shift.advice(letter_id) == "mismatch"
        assert await shift.replays(letter_id, state="waiting") == reason
        await shift.cannot_edit(letter_id, charge)
        assert await shift.pays(charge["serial_no"]) == ("processed", "OK")
        await shift.discards(letter_id)
    assert await shift.balances(user) == ("200.00", "200.00")


async def house(shift: Shift, amount: str = "1000.00") -> str:
    """Return the user of the company's own account, with money in it."""
    return await shift.wallet.upstream.funded(amount)


async def contradicted(shift: Shift, number: str, status: str, **fields: Any) -> int:
    """Have the gateway say the contrary of an order; return the letter."""
    await shift.wallet.upstream.result(result(number, status, **fields))
    return await shift.wallet.until_letter(number)


@follows
async def recharge_taken_back(shift: Shift) -> None:
    wallet = shift.wallet
    await wallet.start()
    company, user, honest = await house(shift), await wallet.upstream.opened(), await wallet.upstream.opened()
    taken_back, right = await wallet.upstream.paid(user), await wallet.upstream.paid(honest)
    letter_id, mistaken = [await contradicted(shift, each, "failed") for each in (taken_back, right)]

    for each in (letter_id, mistaken):
        assert await shift.advice(each) == "recharge-taken-back"
        assert await shift.replays(each, state="waiting") == "CONTRADICTING_RESULT"
    await shift.applied(account_command("freeze", user))
    assert await wallet.upstream.code(transfer(user, company)) == "ACCOUNT_FROZEN"
    await shift.applied(account_command("unfreeze", user))
    assert await wallet.upstream.code(transfer(user, company, "100.01")) == "INSUFFICIENT_BALANCE"
    await shift.applied(transfer(user, company))
    for each in (letter_id, mistaken):
        await shift.discards(each)
    assert (await shift.balances(user), await shift.balances(company)) == (
        ("0.00", "0.00"),
        ("1100.00", "1100.00"),
    )
    assert await shift.balances(honest) == ("100.00", "100.00")


@follows
async def payout_bounced(shift: Shift) -> None:
    wallet = shift.wallet
    await wallet.start()
    company, user = await house(shift), await wallet.upstream.opened()
    original = await wallet.upstream.paid(user)
    for payout in (refund(original), withdraw(user)):
        if payout["type"] == "order.withdraw.v1":
            await shift.applied(transfer(company, user))  # what is to be withdrawn
        await shift.applied(payout)
        assert await shift.pays(payout["serial_no"]) == ("processed", "OK")
        letter_id = await contradicted(shift, payout["serial_no"], "failed")

        assert await shift.advice(letter_id) == "payout-bounced"
        assert await shift.replays(letter_id, state="waiting") == "CONTRADICTING_RESULT"
        assert await shift.balances(user) == ("0.00", "0.00")
        await shift.applied(transfer(company, user))
        await shift.discards(letter_id)
        assert await shift.balances(user) == ("100.00", "100.00")
        assert await wallet.upstream.code(refund(original)) == "AMOUNT_EXCEEDS_ORIGINAL"
        await shift.applied(transfer(user, company))


@follows
async def payout_went_out(shift: Shift) -> None:
    wallet = shift.wallet
    await wallet.start()
    company, user = await house(shift), await wallet.upstream.opened()
    original = await wallet.upstream.paid(user)
    for payout in (refund(original), withdraw(user)):
        await shift.applied(payout)
        assert await shift.pays(payout["serial_no"], "failed") == ("processed", "OK")
        letter_id = await contradicted(shift, payout["serial_no"], "succeeded")

        assert await shift.advice(letter_id) == "payout-went-out"
        assert await shift.replays(letter_id, state="waiting") == "CONTRADICTING_RESULT"
        assert await shift.balances(user) == ("100.00", "100.00")
        await shift.applied(transfer(user, company))
        await shift.discards(letter_id)
        assert await shift.balances(user) == ("0.00", "0.00")
        await shift.applied(transfer(company, user))


@contextmanager
def a_bug_of_the_wallet() -> Iterator[None]:
    """Have the prediction meet a bug, as the worker would."""

    def fails(*_: object) -> None:
        msg = "a bug"
        raise ZeroDivisionError(msg)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(predict, "decide", fails)
        yield


@follows
async def internal_fails(shift: Shift) -> None:
    wallet = shift.wallet
    wallet.workers.program = ("-m", "tests.faults.sabotaged_worker", "fails")
    worker = await wallet.start()
    command = open_account(fresh("user"), serial_no=fresh("FAILS"))
    await wallet.upstream.publish("wallet.commands", command)
    letter_id = await wallet.until_letter(command["serial_no"])

    with a_bug_of_the_wallet():
        assert await shift.advice(letter_id) == "internal-fails"
    assert await shift.replays(letter_id, state="waiting") == "INTERNAL"  # what the advice warns of
    await worker.stop()
    wallet.workers.program = ("-m", "wallet_worker", "worker")  # the mended version
    await wallet.start()
    assert await shift.advice(letter_id) == "internal"
    assert await shift.replays(letter_id) == "OK"


@follows
async def internal(shift: Shift) -> None:
    wallet = shift.wallet
    await wallet.start()
    group = [await shift.letter(open_account(fresh("user")), "INTERNAL") for _ in range(3)]

    assert {await shift.advice(letter_id) for letter_id in group} == {"internal"}
    await replayed_with_a_canary(shift, group)


async def replayed_with_a_canary(shift: Shift, group: list[int], **pace: Any) -> None:
    """Replay letters of one group, one of them first."""
    desk = shift.wallet.operations
    plan = await desk.plan(
        OTTO,
        Action.REPLAY,
        Filter(ids=tuple(group)),
        reason="a test",
        pace=ReplayPace(**{"canary": 1} | pace),
    )
    operation = await desk.execute(OTTO, plan.token)
    await shift.wallet.until_operation(operation.operation_id, "done")
    assert {await shift.wallet.state(letter_id) for letter_id in group} == {"resolved"}


async def _set_aside_by_the_broker(shift: Shift, why: str, name: str) -> list[int]:
    """Return a command and a payment result that the broker has set aside; both get the advice."""
    user = await shift.wallet.upstream.opened()
    charge = recharge(user)
    await shift.applied(charge)
    letters = [
        await shift.by_broker("wallet.commands", open_account(fresh("user")), why),
        await shift.by_broker("payment.results", result(charge["serial_no"]), why),
    ]
    assert {await shift.advice(letter_id) for letter_id in letters} == {name}
    return letters


@follows
async def broker_rejected(shift: Shift) -> None:
    await shift.wallet.start()
    for letter_id in await _set_aside_by_the_broker(shift, "rejected", "broker-rejected"):
        assert await shift.replays(letter_id) == "OK"


@follows
async def broker_expired(shift: Shift) -> None:
    await shift.wallet.start()
    wanted, unwanted = await _set_aside_by_the_broker(shift, "expired", "broker-expired")
    assert await shift.replays(wanted) == "OK"
    await shift.discards(unwanted)


@follows
async def broker_maxlen(shift: Shift) -> None:
    await shift.wallet.start()
    letters = await _set_aside_by_the_broker(shift, "maxlen", "broker-maxlen")
    await replayed_with_a_canary(shift, letters, canary=0, rate_per_second=20)


@follows
async def broker_delivery_limit(shift: Shift) -> None:
    await shift.wallet.start()
    letters = await _set_aside_by_the_broker(shift, "delivery_limit", "broker-delivery-limit")
    await replayed_with_a_canary(shift, letters)


@follows
async def unrouted(shift: Shift) -> None:
    wallet = shift.wallet
    await wallet.start()
    command = open_account(fresh("user"))
    channel = await wallet.upstream.new_channel()
    await channel.queue_unbind("wallet.commands", "wallet.commands", "#")
    await wallet.upstream.publish("wallet.commands", command, routing_key="account.open")
    letter_id = await wallet.until_letter(command["serial_no"])

    assert await shift.advice(letter_id) == "unrouted"
    await topology.apply(wallet.workers.amqp_url)
    assert await shift.replays(letter_id) == "OK"


@follows
async def unknown(shift: Shift) -> None:
    await shift.wallet.start()
    letter_id = await shift.letter(open_account(fresh("user")), "NO_REASON_OF_OURS")

    assert await shift.advice(letter_id) == "unknown"
    assert await shift.verdict(letter_id) == (PredictedOutcome.WILL_APPLY, "OK")
    assert await shift.replays(letter_id) == "OK"


@follows
async def refusal(shift: Shift) -> None:
    await shift.wallet.start()
    for reason in sorted(REFUSALS):
        letter_id = await shift.letter(open_account(fresh("user")), reason)

        assert await shift.advice(letter_id) == "refusal"
        plan = await shift.wallet.operations.plan(
            OTTO, Action.REPLAY, Filter(ids=(letter_id,)), reason="a test"
        )
        assert [count.verdict for count, _ in plan.counts] == [PredictedOutcome.WILL_APPLY]


# What counts is what would happen now


@pytest.mark.parametrize("reason", ["INTERNAL", "MALFORMED", "ORDER_NOT_FOUND", "BAD_SIGNATURE"])
async def test_of_a_letter_that_would_come_back_for_another_reason_that_reason_counts(
    wallet: Wallet, reason: str
) -> None:
    await wallet.start()
    shift = Shift(wallet)
    charge = recharge(await wallet.upstream.opened())
    await shift.applied(charge)

    letter_id = await shift.result(result(charge["serial_no"], amount="1.00"), reason)

    assert await shift.advice(letter_id) == "mismatch"
    assert await shift.replays(letter_id, state="waiting") == "AMOUNT_MISMATCH"


# The state of the order

EXPECTED: Final = {
    "A right `succeeded` credits it.": ("succeeded", ("processed", "OK")),
    "A right `succeeded` is still credited, late.": ("succeeded", ("processed", "OK")),
    "A right `succeeded` debits the reserved amount.": ("succeeded", ("processed", "OK")),
    "Another `succeeded` changes nothing.": ("succeeded", ("duplicate", "OK")),
    "A `succeeded` would contradict it, and move nothing.": (
        "succeeded",
        ("refused", "CONTRADICTING_RESULT"),
    ),
    "A `succeeded` would be a dead letter, too, because its account is closed.": (
        "succeeded",
        ("refused", "ACCOUNT_CLOSED"),
    ),
    "A right `failed` ends it.": ("failed", ("processed", "OK")),
    "A right `failed` makes the reserved amount available again.": ("failed", ("processed", "OK")),
    "Another `failed` changes nothing.": ("failed", ("duplicate", "OK")),
    "A `failed` changes nothing.": ("failed", ("duplicate", "OK")),
    "A `failed` would contradict it, and move nothing.": ("failed", ("refused", "CONTRADICTING_RESULT")),
}
"""What the gateway is answered, if each sentence is true."""


async def an_order(shift: Shift, order_type: OrderType, status: OrderStatus) -> tuple[str, str]:
    """Return serial number and user of an order in a state."""
    upstream = shift.wallet.upstream
    user = await upstream.opened()
    if order_type is not OrderType.RECHARGE:
        original = await upstream.paid(user)
        order = refund(original) if order_type is OrderType.REFUND else withdraw(user)
    elif status is OrderStatus.EXPIRED:
        return await expired(shift, user), user
    else:
        order = recharge(user)
    await shift.applied(order)
    if status is OrderStatus.CANCELLED:
        await shift.applied(cancel(order["serial_no"]))
    elif status is not OrderStatus.PENDING:
        assert await shift.pays(order["serial_no"], status.value) == ("processed", "OK")
    return order["serial_no"], user


@pytest.mark.parametrize("signal", ["succeeded", "failed"])
@pytest.mark.parametrize(("order_type", "status"), PAYMENT_STATES)
async def test_what_the_advice_says_of_an_order_is_what_a_right_result_then_does(
    wallet: Wallet, order_type: OrderType, status: OrderStatus, signal: str
) -> None:
    settings = {"WALLET_RECHARGE_EXPIRES_SECONDS": "1"} if status is OrderStatus.EXPIRED else {}
    await wallet.start(**settings)
    shift = Shift(wallet)
    number, _ = await an_order(shift, order_type, status)
    letter_id = await contradicted(shift, number, "succeeded", amount="1.00", gateway_ref="gw-wrong")

    answer = await shift.says(letter_id)
    assert answer.endswith(of_order(order_type, status))
    (sentence,) = [each for each, (of, _) in EXPECTED.items() if each in answer and of == signal]

    assert await shift.pays(number, signal) == EXPECTED[sentence][1]


async def test_of_an_order_whose_account_is_closed_nothing_is_promised(wallet: Wallet) -> None:
    await wallet.start(WALLET_RECHARGE_EXPIRES_SECONDS="1")
    shift = Shift(wallet)
    user = await wallet.upstream.opened()
    number = await expired(shift, user)
    letter_id = await contradicted(shift, number, "failed", amount="1.00")
    assert "is still credited, late" in await shift.says(letter_id)

    await shift.applied(account_command("close", user))

    (sentence,) = [each for each in EXPECTED if each in await shift.says(letter_id) and "`succeeded`" in each]
    assert await shift.pays(number) == EXPECTED[sentence][1] == ("refused", "ACCOUNT_CLOSED")


# What is shown


async def test_a_viewer_gets_the_same_advice(wallet: Wallet) -> None:
    letter_id = await Shift(wallet).result(result(fresh("R")), "ORDER_NOT_FOUND")

    found = await wallet.operations.letter(VERA, letter_id)

    assert found.runbook == (await wallet.operations.letter(OTTO, letter_id)).runbook


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_has_a_meaning_and_a_last_row_that_always_applies(reason: str) -> None:
    assert meaning_of(reason)
    assert runbook.lines(reason)


def test_a_reason_that_nobody_knows_has_advice() -> None:
    assert runbook.line(Situation("WHATEVER")).advice == "unknown"


def test_the_codes_that_the_wallet_sets_messages_aside_for_are_no_refusals() -> None:
    assert Code.CONTRADICTING_RESULT not in REFUSALS
    assert Code.INSUFFICIENT_BALANCE in REFUSALS
