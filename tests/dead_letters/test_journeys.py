"""Dead letters from end to end: a worker sets aside, a keeper takes in, an operator replays, the outcome comes back."""

from tests.dead_letters.conftest import OTTO, Wallet
from tests.journeys.messages import recharge
from tests.workers import until
from wallet_worker.dead_letters.model.states import LetterState


async def test_a_malformed_command_is_taken_in_with_its_reason(wallet: Wallet) -> None:
    await wallet.start()

    await wallet.upstream.publish("wallet.commands", b"\xff no JSON")
    await wallet.until_letters(1)

    (letter_id,) = await wallet.ids()
    found = await wallet.operations.letter(OTTO, letter_id)
    assert found.whole.body == b"\xff no JSON"
    assert (found.whole.line.reason, found.whole.line.source) == ("MALFORMED", "wallet.commands")
    assert found.prediction.label == "is still unreadable (MALFORMED)"


async def test_a_letter_is_replayed_applied_and_resolved(wallet: Wallet) -> None:
    await wallet.start()
    user = await wallet.upstream.opened()
    order = recharge(user)
    (letter_id,) = await wallet.set_aside(order)

    await wallet.replayed([letter_id])

    await wallet.until_state(letter_id, "resolved")
    await until(wallet.owner, "SELECT count(*) FROM orders WHERE serial_no = $1", 1, order["serial_no"])
    (replay,) = (await wallet.operations.letter(OTTO, letter_id)).replays
    assert (replay.state, replay.code, replay.number) == ("resolved", "OK", 1)


async def test_a_replay_that_fails_comes_back_to_its_record(wallet: Wallet) -> None:
    await wallet.start()
    (letter_id,) = await wallet.set_aside(b"no JSON")

    await wallet.replayed([letter_id])

    await until(wallet.owner, "SELECT count(*) FROM dead_letter_attempts WHERE letter_id = $1", 2, letter_id)
    assert await wallet.ids() == [letter_id]
    found = await wallet.operations.letter(OTTO, letter_id)
    assert found.whole.line.state is LetterState.WAITING
    assert found.whole.line.reason == "MALFORMED"
    assert [(replay.state, replay.code) for replay in found.replays] == [("failed", "MALFORMED")]
