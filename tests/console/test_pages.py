"""The pages: what they show, to whom, and what they say where something is away or not as it was."""

import base64
import json
import re
from dataclasses import replace
from datetime import datetime
from html import unescape
from pathlib import Path
from types import MappingProxyType
from urllib.parse import parse_qsl, urlencode

import pytest

from tests.console import canned
from tests.console.stage import Browser, Stage
from wallet_worker.console import query_params
from wallet_worker.console.rendering import ASSETS_FOLDER
from wallet_worker.dead_letters.model.errors import (
    ApprovalNeededError,
    InvalidEditError,
    NotPossibleError,
    StaleError,
)
from wallet_worker.dead_letters.model.filters import AuditFilter, Filter
from wallet_worker.dead_letters.model.json import document
from wallet_worker.dead_letters.model.plans import Difference, PlannedLetter, ReplayPace
from wallet_worker.dead_letters.model.predictions import PredictedOutcome, Prediction
from wallet_worker.dead_letters.model.signing import Signature
from wallet_worker.dead_letters.model.states import Action, LetterState, PlanState
from wallet_worker.settings.operators import Role
from wallet_worker.store.errors import ConflictError, InvariantBrokenError, UnavailableError, UnfitError
from wallet_worker.store.payment_results import GatewayResult

PAGES = (
    "/",
    "/letters",
    "/letters/1",
    "/letters/1/edit",
    "/plans",
    "/plans/a-plan",
    "/plans/new?action=replay&reason=AMOUNT_MISMATCH",
    "/operations",
    "/operations/00000000-0000-0000-0000-000000000007",
    "/audit",
    "/keys",
)

LEDGER_PAGES = ("/accounts?user_id=alice", "/orders?serial_no=R-1", "/find?q=R-1", "/health")

HOSTILE = (
    "<script>alert(1)</script>\x1b[31m\u202egnp.exe\x00\u2066'\"&{{7*7}}\ud800 \r\n\t\u200b" + "A" * 65_536
)
"""HTML, terminal sequences, a text that runs backwards, half a surrogate pair, and 64 KiB of one line."""


async def signed_in(stage: Stage, name: str = "ann") -> Browser:
    """Return the browser of somebody who is signed in."""
    browser = stage.browser()
    await browser.sign_in(name)
    return browser


def text_of(html: str) -> str:
    """Return what a person reads of a page."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


@pytest.fixture
def hostile(stage: Stage) -> Stage:
    """Return a console whose letters, notes and plans are an attacker's."""
    readable = HOSTILE.replace("\ud800", "")
    line = canned.line(
        reason=readable,
        detail=readable,
        source=readable,
        message_type=readable,
        serial_no=readable,
        user_id=readable,
    )
    body = readable.encode() + b"\xff\xfe\x80"
    whole = canned.whole(
        body,
        None,
        line=line,
        exchange=readable,
        routing_key=readable,
        properties={readable: readable},
        headers={readable: readable},
        worker=readable,
        trace_id=readable,
    )
    detail = canned.detail(whole)
    row = canned.audit_row(1, readable, readable, actor=readable, via=readable, detail={readable: readable})
    truth = replace(
        detail.truth,
        outcome=MappingProxyType({"status": readable, "code": readable}),
        results=(GatewayResult(*(readable,) * 6, canned.NOW, canned.NOW, readable, readable),),
    )
    prediction = Prediction(PredictedOutcome.WOULD_DEAD_LETTER, readable, readable)
    stage.operations.lines = (line,)
    stage.operations.detail = replace(detail, audit=(row,), truth=truth, prediction=prediction)
    stage.operations.rows = (row,)
    stage.operations.shown_plan = canned.plan(
        made_by=readable,
        reason=readable,
        filter=Filter(reason=readable, serial_no=readable),
        counts=((prediction, 1),),
        sample=(PlannedLetter(1, readable, prediction),),
        differences=(Difference(readable, readable, readable),),
        edited_body=body,
    )
    stage.operations.shown_operation = canned.operation(
        actor=readable, reason=readable, standing=readable, filter=Filter(source=readable)
    )
    return stage


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.need(13)
async def test_an_attackers_text_is_harmless_on_every_page(hostile: Stage, path: str) -> None:
    html = (await (await signed_in(hostile)).get(path)).text

    assert "<script>alert" not in html
    assert "onerror" not in html
    assert "49" not in html.partition("{{7")[0][-5:]
    unseen = {mark for mark in html if not mark.isprintable() and mark not in "\n\t"}
    assert unseen <= {"\u202f"}, unseen
    assert "\t" not in html.replace("\n", "")
    assert html.count("<script") == 1


async def test_a_letter_is_shown_as_text_and_as_bytes_and_given_byte_for_byte(stage: Stage) -> None:
    body = b'{"type": "x", "amount": \xff\xfe\x1b[31m"\xe2\x80\xae"}'
    stage.operations.detail = canned.detail(canned.whole(body, None))
    browser = await signed_in(stage)

    page = (await browser.get("/letters/1")).text
    file = await browser.get("/letters/1/payload")

    assert "\\xff\\xfe" in page
    assert '<span class="unseen">\\x1b</span>' in page
    assert '<span class="unseen">\\u202e</span>' in page
    assert "7b 22 74 79 70 65 22 3a  20 22 78 22 2c 20 22 61" in page
    assert ("payload", ("ann", 1)) in stage.operations.asked  # which is what leaves a line in the audit
    assert file.content == body
    assert file.headers["content-type"] == "application/octet-stream"
    assert file.headers["content-disposition"] == 'attachment; filename="letter-1.bin"'


async def test_bytes_are_shown_in_part_and_whole_when_asked(stage: Stage) -> None:
    stage.operations.detail = canned.detail(canned.whole(b"\x01" * 65_536, None))
    browser = await signed_in(stage)

    part = (await browser.get("/letters/1")).text
    every = (await browser.get("/letters/1?bytes=all")).text

    assert "00fff0" not in part
    assert "Show 61\u202f440 bytes more" in part
    assert "00fff0" in every


@pytest.mark.need(13)
async def test_a_viewer_sees_no_payload_and_no_way_to_act(stage: Stage) -> None:
    browser = await signed_in(stage, "vera")

    letter = (await browser.get("/letters/1")).text
    file = await browser.get("/letters/1/payload")
    letters = (await browser.get("/letters")).text

    assert "Viewers do not see them" in letter
    assert "Plan a replay of letter" not in letter
    assert "Keep the note" not in letter
    assert file.status_code == 403
    assert "an operator may see it, a viewer may not" in text_of(file.text)
    assert 'name="ids"' not in letters
    assert "an operator can plan" in text_of(letters)


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/plans", {"action": "replay", "why": "x"}),
        ("/plans/a-plan/execute", {}),
        ("/plans/a-plan/sign", {"why": "x"}),
        ("/letters/1/notes", {"text": "x"}),
    ],
)
@pytest.mark.need(13)
async def test_what_a_viewer_sends_reaches_the_operations_as_a_viewers(
    stage: Stage, path: str, form: dict[str, str]
) -> None:
    browser = await signed_in(stage, "vera")

    await browser.post(path, form)

    name, what = stage.operations.asked[-1]
    assert name in {"plan", "execute", "to_sign", "note", "plans", "count"}
    assert "vera" in str(what)


@pytest.mark.need(13)
async def test_a_missing_role_is_said_in_a_sentence(stage: Stage) -> None:
    answer = await (await signed_in(stage, "vera")).post("/plans", {"action": "replay", "why": "x"})

    assert answer.status_code == 403
    assert "A viewer looks and does nothing." in text_of(answer.text)


async def test_a_plan_is_made_of_the_filter_and_the_pace_that_were_asked_for(stage: Stage) -> None:
    browser = await signed_in(stage)
    form = (await browser.get("/plans/new?action=replay&reason=AMOUNT_MISMATCH")).text

    answer = await browser.post(
        "/plans",
        {
            "action": "replay",
            "states": "waiting",
            "reason": "AMOUNT_MISMATCH",
            "why": "corrected",
            "canary": "5",
            "rate": "10",
            "stop_percent": "40",
        },
    )

    assert "Make the plan for 128 letters" in text_of(form)
    assert "Waiting letters with reason AMOUNT_MISMATCH" in text_of(form)
    assert "More than 100 letters need a second person" in text_of(form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/plans/a-plan")
    which = Filter(states=(LetterState.WAITING,), reason="AMOUNT_MISMATCH")
    assert stage.operations.asked[-1] == (
        "plan",
        ("ann", Action.REPLAY, which, "corrected", ReplayPace(5, 10.0, 0.4)),
    )


@pytest.mark.need(5)
async def test_what_is_planned_for_all_leaves_alone_what_arrived_since(stage: Stage) -> None:
    newest = stage.operations.lines[0].letter_id
    browser = await signed_in(stage)

    page = (await browser.get("/letters?states=waiting")).text

    links = [unescape(link) for link in re.findall(r'href="(/[^"]*)"', page)]
    fields = {link.partition("?")[0]: dict(parse_qsl(link.partition("?")[2])) for link in links}
    assert ("count", Filter(states=(LetterState.WAITING,), seen_up_to=newest)) in stage.operations.asked
    for path in ("/plans/new", "/letters.jsonl", "/letters"):
        assert fields[path]["seen_up_to"] == str(newest), path


async def test_ticked_letters_are_planned_by_their_numbers(stage: Stage) -> None:
    page = text_of((await (await signed_in(stage)).get("/plans/new?ids=3&ids=1&action=discard")).text)

    assert ("count", Filter(ids=(3, 1))) in stage.operations.asked
    assert "Waiting letters with number 3, 1" in page


@pytest.mark.parametrize(
    "query", ["states=none", "ids=x", "since=tomorrow", "after=x", "ids=0", "after=99999999999999999999999"]
)
async def test_a_filter_that_cannot_be_read_is_said(stage: Stage, query: str) -> None:
    answer = await (await signed_in(stage)).get(f"/letters?{query}")

    assert answer.status_code == 400
    assert 'role="alert"' in answer.text


@pytest.mark.need(17)
async def test_every_confirmation_says_how_many_and_which(stage: Stage) -> None:
    browser = await signed_in(stage, "bob")

    ready = text_of((await browser.get("/plans/a-plan")).text)
    stage.operations.shown_plan = canned.plan(state=PlanState.NEEDS_APPROVAL)
    waiting = text_of((await browser.get("/plans/a-plan")).text)
    progress = text_of((await browser.get("/operations/00000000-0000-0000-0000-000000000007")).text)

    assert "Replay 128 letters now" in ready
    assert "Replay 128 letters: waiting letters with reason AMOUNT_MISMATCH." in ready
    assert "Approve: replay 128 letters" in waiting
    assert "Pause: 60 not sent yet" in progress
    assert "Stop: 60 letters wait again" in progress


@pytest.mark.need(13)
async def test_whoever_planned_it_is_not_offered_to_approve_it(stage: Stage) -> None:
    stage.operations.shown_plan = canned.plan(state=PlanState.NEEDS_APPROVAL, made_by="bob")

    page = (await (await signed_in(stage, "bob")).get("/plans/a-plan")).text

    assert '/sign"' not in page
    assert "somebody else has to agree" in text_of(page)


@pytest.mark.parametrize(
    "error",
    [
        StaleError("Letter 3 has changed since the plan: plan again."),
        StaleError("ann has executed this plan already, at 12:00."),
        ApprovalNeededError("A second person must approve first."),
    ],
)
async def test_a_plan_that_cannot_be_executed_stays_in_view_with_the_reason(
    stage: Stage, error: Exception
) -> None:
    browser = await signed_in(stage)
    stage.operations.raises = None
    csrf = (await browser.get("/plans")).text.partition('name="csrf" value="')[2].partition('"')[0]
    stage.operations.raises = error

    answer = await browser.post("/plans/a-plan/execute", {}, csrf=csrf)

    assert answer.status_code == 409
    assert str(error).lower() in text_of(answer.text).lower()
    assert "Replay 128 letters" in text_of(answer.text)


async def test_a_letter_that_somebody_else_replays_already_is_said(stage: Stage) -> None:
    browser = await signed_in(stage)
    csrf = (await browser.get("/plans")).text.partition('name="csrf" value="')[2].partition('"')[0]
    stage.operations.refusals["plan"] = NotPossibleError(
        "No letter fits: 1 is being replayed by bob already."
    )
    answer = await browser.post("/plans", {"action": "replay", "ids": "1", "why": "x"}, csrf=csrf)

    assert answer.status_code == 409
    assert "being replayed by bob already" in text_of(answer.text)


async def test_an_edit_that_the_schema_refuses_keeps_what_was_written(stage: Stage) -> None:
    browser = await signed_in(stage)
    csrf = (await browser.get("/plans")).text.partition('name="csrf" value="')[2].partition('"')[0]
    stage.operations.refusals["plan_edit"] = InvalidEditError("The new message is none.", ())
    answer = await browser.post("/letters/1/edit", {"body": '{"mine": 1}', "why": "because"}, csrf=csrf)

    assert answer.status_code == 422
    assert "The new message is none." in text_of(answer.text)
    assert "{&#34;mine&#34;: 1}" in answer.text
    assert 'value="because"' in answer.text


@pytest.mark.parametrize("ended_at", [None, canned.NOW])
@pytest.mark.need(10)
async def test_an_edit_without_an_outcome_can_be_restored_and_one_with_an_outcome_not(
    stage: Stage, ended_at: datetime | None
) -> None:
    found = canned.detail()
    (replay,) = found.replays
    line = replace(found.whole.line, state=LetterState.EDITED)
    stage.operations.detail = replace(
        found,
        whole=replace(found.whole, line=line),
        replays=(replace(replay, is_edit=True, serial_no="R-1-b", ended_at=ended_at),),
    )

    page = text_of((await (await signed_in(stage)).get("/letters/1")).text)

    assert ("Restore, so that it waits again" in page) == (ended_at is None)
    assert ("Nothing is left to do with it" in page) == (ended_at is not None)


@pytest.mark.need(11)
async def test_a_letter_says_how_many_others_have_its_number_and_an_edit_what_the_sender_must_know(
    stage: Stage,
) -> None:
    of_a_command = canned.detail(canned.whole(line=canned.line(source="wallet.commands")))
    stage.operations.detail = replace(of_a_command, same_number=2)
    browser = await signed_in(stage)

    page = (await browser.get("/letters/1")).text
    form = text_of((await browser.get("/letters/1/edit")).text)

    number = stage.operations.detail.whole.line.serial_no
    assert f'<a href="/letters?serial_no={number}">2 other letters of this number</a>' in page
    assert f"Tell the sender not to send {number} again" in form


@pytest.mark.need(11)
async def test_an_edit_shows_its_differences_before_anything_is_done(stage: Stage) -> None:
    stage.operations.shown_plan = canned.EDIT

    page = (await (await signed_in(stage, "bob")).get("/plans/a-plan")).text

    assert "<del><bdi>1.0</bdi></del>" in page
    assert "<ins><bdi>1.00</bdi></ins>" in page
    assert "Approve: edit letter 1" in text_of(page)


async def test_what_would_not_be_seen_can_be_edited_as_an_escape(stage: Stage) -> None:
    stage.operations.detail = canned.detail(
        canned.whole(
            b"{}", '{\n  "note": "a\u202eb\U000e0001"\n}', line=canned.line(source="wallet.commands")
        )
    )

    page = (await (await signed_in(stage)).get("/letters/1/edit")).text

    assert "a\\u202eb\\udb40\\udc01" in page


@pytest.mark.parametrize(
    "path",
    [
        *PAGES,
        "/accounts?user_id=alice",
        "/orders?serial_no=R-1",
        "/find?q=R-1",
        "/health",
        "/audit.jsonl",
        "/letters.jsonl",
    ],
)
async def test_without_a_database_every_page_still_comes_and_says_so(stage: Stage, path: str) -> None:
    browser = await signed_in(stage)
    stage.operations.raises = UnavailableError("gone")

    answer = await browser.get(path)

    assert answer.status_code in {200, 503}
    assert "<nav" in answer.text
    if path != "/plans/a-plan":
        assert "cannot be reached now" in text_of(answer.text)
    assert "gone" not in answer.text


async def test_what_was_asked_for_while_the_database_went_away_is_said_to_be_whole_or_not_at_all(
    stage: Stage,
) -> None:
    browser = await signed_in(stage)
    csrf = (await browser.get("/plans")).text.partition('name="csrf" value="')[2].partition('"')[0]
    stage.operations.raises = UnavailableError("gone")

    answer = await browser.post("/plans/a-plan/execute", {}, csrf=csrf)

    assert answer.status_code == 503
    assert "done whole or not at all" in text_of(answer.text)


async def test_a_database_that_is_not_migrated_is_said_so(stage: Stage) -> None:
    browser = await signed_in(stage)
    stage.operations.raises = UnfitError("no such table")

    assert "wallet migrate" in text_of((await browser.get("/letters")).text)


async def test_an_invariant_that_is_broken_is_not_told_as_a_database_that_is_away(stage: Stage) -> None:
    browser = await signed_in(stage)
    stage.operations.raises = InvariantBrokenError("a row was not as it must be")

    answer = await browser.get("/letters")

    assert (answer.status_code, "The console failed on this page" in answer.text) == (500, True)


async def test_without_a_broker_the_first_page_says_so_and_shows_the_rest(stage: Stage) -> None:
    page = text_of((await (await signed_in(stage)).get("/")).text)

    assert "The broker cannot be reached" in page
    assert "AMOUNT_MISMATCH" in page
    assert "guest:guest" not in page


OF_THE_LEDGER = {"/accounts", "/orders", "/history", "/find"}
WITH_THEIR_DATABASE = OF_THE_LEDGER | {"/webhooks"}
"""Those that are asked everything in the tests that give them what they show."""
HOSTILE_VALUES = (
    "9" * 5_000,
    "-1",
    "nan",
    "\0",
    "%",
    "'",
    "\u202e\U0001f4a9",
    "2026-02-30",
    "1e400",
    " ",
    "None",
)


async def assert_answered(stage: Stage, path: str) -> None:
    """A page answers whatever its address asks: it shows something, or says why not, and does not fail."""
    browser = await signed_in(stage)
    for name in sorted({*query_params.KNOWN.get(path, ()), "bytes", "zz"}):
        for value in HOSTILE_VALUES:
            answer = await browser.get(f"{path}?{urlencode({name: value})}")
            assert answer.status_code in {200, 303, 400, 404}, (path, name, value)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("/letters?state=waiting", "does not know state. Did you mean states?"),
        ("/letters?user=ann", "does not know user. Did you mean user_id?"),
        ("/letters?serial_no=A&serial_no=B", "asks for serial_no more than once"),
        ("/letters.jsonl?reasons=INTERNAL", "Did you mean reason?"),
        ("/plans/new?action=discard&reason=A&reason=B", "asks for reason more than once"),
        ("/audit?user=ann", "does not know user. It knows action, actor"),
        ("/audit.jsonl?letter=17", "Did you mean letter_id?"),
        ("/accounts?user_id=ann&user_id=bob", "asks for user_id more than once"),
        ("/orders?serial=A", "Did you mean serial_no?"),
        ("/find?query=A", "It knows q."),
    ],
)
async def test_what_a_page_cannot_look_for_is_said_and_is_not_an_empty_list(
    stage: Stage, address: str, says: str
) -> None:
    answer = await (await signed_in(stage)).get(address)

    assert (answer.status_code, says in text_of(answer.text)) == (400, True)


@pytest.mark.parametrize(
    "path", [*sorted(query_params.KNOWN.keys() - WITH_THEIR_DATABASE), "/letters/1", "/", "/health", "/plans"]
)
async def test_whatever_an_address_asks_is_answered(stage: Stage, path: str) -> None:
    await assert_answered(stage, path)


async def test_what_is_not_there_is_said(stage: Stage) -> None:
    browser = await signed_in(stage)
    too_long = f"/letters/{'9' * 5_000}"

    for path in ("/letters/9999", "/letters/99999999999999999999", too_long, "/operations/x", "/nothing"):
        answer = await browser.get(path)
        assert answer.status_code == 404, path
        assert "There is no" in text_of(answer.text)


async def test_pages_are_in_the_colours_that_were_chosen(stage: Stage) -> None:
    browser = await signed_in(stage)

    answer = await browser.post("/theme", {"theme": "dark", "next": "/letters"})
    page = (await browser.get("/letters")).text

    assert (answer.status_code, answer.headers["location"]) == (303, "/letters")
    assert 'data-theme="dark"' in page
    await browser.post("/theme", {"theme": '"><script>', "next": "//evil.example"})
    assert 'data-theme="dark"' in (await browser.get("/letters")).text


async def test_no_page_loads_anything_from_elsewhere_or_carries_script_or_style(stage: Stage) -> None:
    browser = await signed_in(stage, "bob")

    for path in (*PAGES, "/accounts", "/orders", "/health", "/sign-in"):
        html = (await browser.get(path)).text
        assert re.findall(r"""(?:src|href|action)=["'](?:https?:)?//""", html) == [], path
        assert " style=" not in html
        assert "<style" not in html
        assert re.findall(r"\son[a-z]+=", html) == []
        assert re.findall(r"<script(?! src=\"/assets/)", html) == []


async def test_exports_are_lines_of_json_with_the_bytes_whole(stage: Stage) -> None:
    browser = await signed_in(stage)

    letters = (await browser.get("/letters.jsonl?states=waiting")).text.splitlines()
    audit = (await browser.get("/audit.jsonl")).text.splitlines()

    assert base64.b64decode(json.loads(letters[0])["body"]) == canned.BODY
    assert json.loads(letters[0]) == document(canned.whole())
    assert json.loads(audit[0]) == document(stage.operations.rows[0])
    assert [json.loads(line)["action"] for line in audit] == ["execute", "note"]


async def test_actors_carry_the_role_that_the_file_gives_them_now(stage: Stage) -> None:
    browser = await signed_in(stage, "bob")

    proof = json.dumps({"id": "Y3JlZGVudGlhbA"})
    await browser.post("/plans/a-plan/sign", {"why": "checked", "at": canned.NOW.isoformat(), "proof": proof})

    signature = Signature("0" * 16, canned.NOW, proof.encode())
    assert stage.operations.asked[-1] == ("sign", ("bob", Role.APPROVER, "a-plan", signature, "checked"))


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({}, 403),
        ({"proof": "no JSON", "at": "2026-01-02T03:04:05+00:00"}, 403),
        ({"proof": "[]", "at": "2026-01-02T03:04:05+00:00"}, 403),
        ({"proof": '{"id": "c29tZWJvZHkgZWxzZQ"}', "at": "2026-01-02T03:04:05+00:00"}, 403),
        ({"proof": '{"id": "Y3JlZGVudGlhbA"}', "at": "yesterday"}, 403),
        ({"proof": '{"id": "Y3JlZGVudGlhbA"}', "at": "2026-01-02T03:04:05"}, 409),
        ({"proof": '{"id": "' + "A" * 9_000 + '"}', "at": "2026-01-02T03:04:05+00:00"}, 403),
    ],
)
async def test_a_password_alone_signs_nothing(stage: Stage, form: dict[str, str], status: int) -> None:
    browser = await signed_in(stage, "bob")

    answer = await browser.post("/plans/a-plan/sign", {"why": "checked", **form})

    assert answer.status_code == status
    assert "sign" not in [name for name, _ in stage.operations.asked]


async def test_a_passkey_is_for_the_name_of_the_console_and_no_other(stage: Stage, users: Path) -> None:
    by_name = (await (await signed_in(stage, "bob")).get("/keys")).text
    numbers = Stage(users, origin="http://127.0.0.1:9310")

    by_number = (await (await signed_in(numbers, "bob")).get("/keys")).text
    forged = await (await signed_in(stage, "bob")).post("/keys", {"passkey": "{}"})

    assert "Make a passkey" in by_name
    assert "Browsers keep no passkey for an address of numbers" in text_of(by_number)
    assert forged.status_code == 409


HUGE = "9" * 19
FAR = ("0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-14:00", "0001-01-01")


@pytest.mark.parametrize(
    "path",
    [
        f"/letters?after={HUGE}",
        f"/letters?limit={HUGE}",
        f"/letters?ids={HUGE}",
        *(f"/letters?since={time}" for time in FAR),
        *(f"/letters.jsonl?until={time}" for time in FAR),
        *(f"/plans/new?since={time}" for time in FAR),
        f"/letters/{HUGE}9/edit",
        f"/letters/{HUGE}9",
        f"/letters/{HUGE}9/payload",
        "/letters/" + "9" * 5_000,
        f"/audit?after={HUGE}",
        "/audit?after=x",
        f"/audit?letter_id={HUGE}",
        *(f"/audit?since={time}" for time in FAR),
        f"/audit.jsonl?since={FAR[0]}",
        *(f"/accounts?user_id=alice&currency=TWD&from={time}" for time in FAR),
        f"/accounts?user_id=alice&currency=TWD&after={HUGE}",
    ],
)
async def test_numbers_and_times_that_no_database_holds_are_answered_in_a_sentence(
    stage: Stage, path: str
) -> None:
    browser = await signed_in(stage)
    stage.operations.asked.clear()

    answer = await browser.get(path)

    assert answer.status_code in {400, 404}
    assert "int()" not in answer.text
    assert stage.operations.asked == []


async def test_a_deed_with_a_number_that_no_letter_has_is_answered_in_a_sentence(stage: Stage) -> None:
    browser = await signed_in(stage)

    edit = await browser.post(f"/letters/{HUGE}9/edit", {"body": "{}", "why": "x"})
    note = await browser.post(f"/letters/{HUGE}9/notes", {"text": "x"})
    plan = await browser.post("/plans", {"action": "replay", "ids": "1", "why": "x", "canary": HUGE})

    assert [answer.status_code for answer in (edit, note, plan)] == [404, 404, 400]
    assert not {"plan", "plan_edit", "note"} & {name for name, _ in stage.operations.asked}


async def test_a_field_labelled_utc_holds_the_time_in_utc_with_its_seconds(stage: Stage) -> None:
    browser = await signed_in(stage)

    letters = (await browser.get("/letters?since=2026-11-22T12:00:30%2B02:00")).text
    audit = (await browser.get("/audit?since=2026-11-22T12:00:30%2B02:00")).text

    assert 'value="2026-11-22T10:00:30"' in letters
    assert 'value="2026-11-22T10:00:30"' in audit


async def test_of_a_large_letter_64_kib_of_bytes_are_shown_at_most(stage: Stage) -> None:
    stage.operations.detail = canned.detail(canned.whole(b"\x01" * 1_000_000, None))
    browser = await signed_in(stage)

    part = (await browser.get("/letters/1")).text
    every = (await browser.get("/letters/1?bytes=all")).text

    assert "Show 61\u202f440 bytes more" in part
    assert "00fff0" in every
    assert "010000" not in every
    assert "934\u202f464 bytes more are not shown; the download has every byte" in every


@pytest.mark.parametrize("deed", ["/plans/a-plan/execute", "/plans/a-plan/sign"])
async def test_a_lost_race_is_said_to_be_one(stage: Stage, deed: str) -> None:
    browser = await signed_in(stage, "bob")
    csrf = (await browser.get("/plans")).text.partition('name="csrf" value="')[2].partition('"')[0]
    stage.operations.raises = ConflictError("LockNotAvailableError")

    answer = await browser.post(deed, {"why": "x"}, csrf=csrf)

    assert answer.status_code == 409
    assert "Somebody else is at these letters; nothing was done." in text_of(answer.text)
    assert "migrate" not in answer.text
    assert "database" not in answer.text


async def test_a_plan_of_which_nothing_can_succeed_warns_and_does_not_invite(stage: Stage) -> None:
    browser = await signed_in(stage)
    hopeful = (await browser.get("/plans/a-plan")).text
    stage.operations.shown_plan = canned.plan(counts=((canned.PREDICTION, 128),))

    hopeless = (await browser.get("/plans/a-plan")).text

    assert "Nothing of this can succeed" not in hopeful
    assert '<button class="main">Replay 128 letters now' in hopeful
    assert "Nothing of this can succeed" in hopeless
    assert "<button>Replay 128 letters now" in hopeless


async def test_a_prediction_says_as_of_when_it_is(stage: Stage) -> None:
    made_at = f"{canned.NOW:%Y-%m-%d %H:%M:%S}"

    page = text_of((await (await signed_in(stage)).get("/plans/a-plan")).text)

    assert f"What would happen, as of {made_at}" in page
    assert "What would happen now" not in page


async def test_a_letters_history_is_its_newest_rows_and_leads_to_the_older_ones(stage: Stage) -> None:
    stage.operations.rows = (
        canned.audit_row(9, "note", "newest"),
        canned.audit_row(8, "note", "second last"),
    )
    stage.operations.rows_next = 8

    page = (await (await signed_in(stage)).get("/letters/1")).text

    assert ("audit", AuditFilter(letter_id=1)) in stage.operations.asked
    assert 0 < page.index("newest") < page.index("second last")
    assert "/audit?letter_id=1&amp;after=8" in page


async def test_forms_offer_what_the_operations_take_and_no_less(stage: Stage) -> None:
    browser = await signed_in(stage)

    plan = (await browser.get("/plans/new?action=replay")).text
    letter = (await browser.get("/letters/1")).text

    assert re.search(r'name="stop_percent"[^>]* min="0"', plan) is None
    assert 'name="text" rows="2" required maxlength="4000"' in letter


async def test_an_operation_says_which_of_its_lines_it_leads_to(stage: Stage) -> None:
    page = text_of(
        (await (await signed_in(stage)).get("/operations/00000000-0000-0000-0000-000000000007")).text
    )

    assert "every line of it" not in page
    assert "the plan and the approval before it are lines of their own" in page


def test_the_console_brings_nothing_along_that_is_not_its_own() -> None:
    assert {path.suffix for path in ASSETS_FOLDER.iterdir()} == {".css", ".js", ".svg"}
    assert "@font-face" not in (ASSETS_FOLDER / "console.css").read_text()
