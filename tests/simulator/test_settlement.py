"""The settlement file: what stands in it, and what is wrong with it on purpose."""

import csv
import json
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from typer.testing import CliRunner

from payment_simulator.behaviours import Behaviour
from payment_simulator.cli import app
from payment_simulator.intake import IncomingRequest, take
from payment_simulator.scenario import Scenario
from payment_simulator.settlement import LineDefect, Span, settled, write
from payment_simulator.state import State, StateUnusable, settled_payments
from tests.simulator.requests import NOON, body
from wallet_schemas.settlement import COLUMNS, SettlementLine

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
TICKING = Scenario(delay_min_seconds=1, delay_max_seconds=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite3"


@pytest.fixture
def state(path: Path) -> Iterator[State]:
    """Give a memory that stays open, as that of a gateway at work."""
    state = State.open(path)
    yield state
    state.close()


def send_requests(state: State, *bodies: bytes) -> None:
    take(state, TICKING, [IncomingRequest(item) for item in bodies], NOON)


def rows(path: Path, after: timedelta, span: Span | None = None) -> list[tuple[str, ...]]:
    """Return the lines of the file, as it is written that long after noon, without those that are the same."""
    with settled_payments(path, NOON + after) as found:
        return [
            (line.payment_order_no, line.kind, line.amount, line.currency, line.status)
            for line in settled(found, span or Span())
        ]


def spoilt(path: Path, **shares: float) -> tuple[list[str], dict[str, int]]:
    """Return the lines of a file with differences, without the first, and how often which difference is in it."""
    out = StringIO()
    wanted = {LineDefect(name): share for name, share in shares.items()}
    with settled_payments(path, NOON + HOUR) as found:
        payments, differences = write(settled(found, Span()), out, shares=wanted, seed=7)
    header, *lines = out.getvalue().removesuffix("\r\n").split("\r\n")
    assert header == ",".join(COLUMNS)
    assert payments == len(rows(path, HOUR))
    return lines, {name.value: times for name, times in differences.items()}


def test_each_payment_stands_in_it_once_with_the_state_that_it_is_in(state: State, path: Path) -> None:
    send_requests(
        state,
        *(body(f"C-{behaviour}", channel=behaviour.channel) for behaviour in list(Behaviour)[:12]),
        body("C-dispute_won", channel=Behaviour.DISPUTE_WON.channel),
        body("C-instructed", channel=Behaviour.INSTRUCTED.channel),
        body("C-stoppable", channel=Behaviour.STOPPABLE.channel),
        body("P-1", kind="payout", expires_at=None),
        body("R-1", kind="refund", channel=Behaviour.DECLINED.channel, expires_at=None),
    )

    assert rows(path, timedelta(0)) == []
    assert rows(path, HOUR) == [
        ("C-bad_signature", "charge", "100.00", "TWD", "succeeded"),
        ("C-contradiction", "charge", "100.00", "TWD", "failed"),
        ("C-declined", "charge", "100.00", "TWD", "failed"),
        ("C-dispute_won", "charge", "100.00", "TWD", "succeeded"),
        ("C-duplicate", "charge", "100.00", "TWD", "succeeded"),
        ("C-failed_then_succeeded", "charge", "100.00", "TWD", "succeeded"),
        ("C-instructed", "charge", "100.00", "TWD", "succeeded"),
        ("C-late", "charge", "100.00", "TWD", "succeeded"),
        ("C-silent", "charge", "100.00", "TWD", "succeeded"),
        ("C-succeeded", "charge", "100.00", "TWD", "succeeded"),
        ("C-unknown_then_succeeded", "charge", "100.00", "TWD", "succeeded"),
        ("C-wrong_amount", "charge", "100.01", "TWD", "succeeded"),
        ("C-wrong_currency", "charge", "100.00", "USD", "succeeded"),
        ("P-1", "payout", "100.00", "TWD", "succeeded"),
        ("R-1", "refund", "100.00", "TWD", "failed"),
    ]


def test_it_follows_a_payment_through_its_states(state: State, path: Path) -> None:
    send_requests(state, body("C-1", channel=Behaviour.FAILED_THEN_SUCCEEDED.channel))

    heard = [[status for *_, status in rows(path, seconds * SECOND)] for seconds in (0, 1, 2, 3)]

    assert heard == [[], ["failed"], ["succeeded"], ["succeeded"]]


def test_a_span_is_that_of_the_time_when_the_state_was_reached(state: State, path: Path) -> None:
    send_requests(state, body("C-1"), body("C-2", channel=Behaviour.UNKNOWN_THEN_SUCCEEDED.channel))

    assert [number for number, *_ in rows(path, HOUR, Span(since=NOON + SECOND * 2))] == ["C-2"]
    assert [number for number, *_ in rows(path, HOUR, Span(before=NOON + SECOND * 2))] == ["C-1"]
    assert rows(path, HOUR, Span(since=NOON, before=NOON + SECOND)) == []


def test_the_differences_are_those_that_were_asked_for(state: State, path: Path) -> None:
    send_requests(state, *(body(f"C-{number}") for number in range(600)))
    good, none = spoilt(path)
    assert (len(good), none) == (600, {})

    for difference in LineDefect:
        lines, counts = spoilt(path, **{difference: 0.5})
        found = counts[difference]
        assert 200 < found < 400
        assert spoilt(path, **{difference: 0.5}) == (lines, counts)  # drawn, and not random
        kept = [line for line in lines if line in set(good)]
        match difference:
            case LineDefect.MISSING:
                assert (len(lines), len(kept)) == (600 - found, 600 - found)
            case LineDefect.STRANGER:
                strangers = [line for line in lines if line not in set(good)]
                assert (len(kept), len(strangers)) == (600, found)
                assert all(line.startswith("stranger_") for line in strangers)
            case LineDefect.AMOUNT:
                assert (len(kept), sum(",100.01,TWD,succeeded," in line for line in lines)) == (
                    600 - found,
                    found,
                )
            case LineDefect.STATUS:
                assert (len(kept), sum(",100.00,TWD,failed," in line for line in lines)) == (
                    600 - found,
                    found,
                )
            case LineDefect.DUPLICATE:
                assert (len(kept), len(set(kept))) == (600 + found, 600)
            case LineDefect.GARBLED:
                assert (len(kept), sum(line.startswith('"') for line in lines)) == (600 - found, found)


def test_the_command_writes_it_while_the_gateway_is_at_work(state: State, path: Path, tmp_path: Path) -> None:
    send_requests(state, body("C-1"), body("P-1", kind="payout", expires_at=None))
    file = tmp_path / "settlement.csv"

    result = CliRunner().invoke(app, ["settlement", "--state", str(path), "-o", str(file)])
    printed = CliRunner().invoke(app, ["settlement", "--state", str(path), "--from", "2026-01-03"])
    every = CliRunner().invoke(
        app, ["settlement", "--state", str(path), "-o", str(file), "--differ", "amount=1"]
    )

    assert (result.exit_code, printed.exit_code, every.exit_code) == (0, 0, 0)
    assert json.loads(result.stdout)["payments"] == 2
    assert not any(json.loads(result.stdout)["differences"].values())
    assert printed.stdout.splitlines() == [",".join(COLUMNS)]
    assert json.loads(every.stdout)["differences"]["amount"] == 2
    with file.open(newline="") as lines:
        read = [SettlementLine.model_validate(row) for row in csv.DictReader(lines)]
    assert [(line.kind, line.amount) for line in read] == [("charge", "100.01"), ("payout", "100.01")]


@pytest.mark.parametrize(
    ("options", "status", "sentence"),
    [
        (
            ["--differ", "amount"],
            2,
            "none of missing, stranger, amount, status, duplicate, garbled with a share",
        ),
        (["--differ", "amount=1.5"], 2, "none of missing"),
        (["--differ", "luck=0.5"], 2, "none of missing"),
        (["--differ", "amount=0.6", "--differ", "missing=0.6"], 2, "add up to more than 1"),
        (["-o", "/nowhere/at/all.csv"], 5, "/nowhere/at/all.csv cannot be written: No such file"),
        (["--state", "/nowhere/at/all.sqlite3"], 1, "/nowhere/at/all.sqlite3 cannot be read: unable to open"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    state: State, path: Path, options: list[str], status: int, sentence: str
) -> None:
    send_requests(state)

    refused = CliRunner().invoke(app, ["settlement", "--state", str(path), *options])

    assert (refused.exit_code, refused.stdout) == (status, "")
    (line,) = refused.stderr.splitlines()
    assert line.startswith("payment-simulator: ")
    assert sentence in line


def test_books_of_another_version_are_not_read(state: State, path: Path) -> None:
    state._connection.execute("UPDATE schema_version SET version = 99")

    with (
        pytest.raises(StateUnusable, match="cannot be read: it has schema version 99"),
        settled_payments(path, NOON),
    ):
        pass
