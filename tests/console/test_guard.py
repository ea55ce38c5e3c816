"""What holds for every request: where it came from, what it may carry, and what the browser is told."""

from pathlib import Path

import pytest

from tests.console.stage import ADDRESS, PASSWORDS, Stage, csrf_of

DEEDS = [
    "/letters/1/notes",
    "/letters/1/edit",
    "/plans",
    "/plans/a-plan/sign",
    "/plans/a-plan/execute",
    "/operations/00000000-0000-0000-0000-000000000007/pause",
    "/operations/00000000-0000-0000-0000-000000000007/resume",
    "/operations/00000000-0000-0000-0000-000000000007/stop",
    "/sign-out",
]


@pytest.mark.parametrize("path", DEEDS)
@pytest.mark.need(13)
async def test_a_form_without_the_token_of_the_session_does_nothing(stage: Stage, path: str) -> None:
    browser, other = stage.browser(), stage.browser()
    await browser.sign_in("bob")
    await other.sign_in("ann")
    foreign = csrf_of_plans = (
        (await other.get("/plans")).text.partition('name="csrf" value="')[2].partition('"')[0]
    )
    stage.operations.asked.clear()

    for csrf in (None, "", "guessed", foreign):
        answer = await browser.post(path, {"why": "x", "text": "x"}, csrf=csrf)
        assert answer.status_code == 403
        assert "Nothing was done" in answer.text
    assert stage.operations.asked == []
    assert csrf_of_plans
    assert (await browser.get("/plans")).status_code == 200


@pytest.mark.parametrize("path", [*DEEDS, "/sign-in", "/theme"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": ADDRESS},
        {"sec-fetch-site": "same-origin", "origin": "https://evil.example"},
    ],
    ids=str,
)
@pytest.mark.need(13)
async def test_a_form_from_elsewhere_does_nothing(stage: Stage, path: str, headers: dict[str, str]) -> None:
    browser = stage.browser()
    await browser.sign_in("bob")
    csrf = (await browser.get("/plans")).text.partition('name="csrf" value="')[2].partition('"')[0]
    stage.operations.asked.clear()

    answer = await browser.post(
        path,
        {"name": "ann", "password": PASSWORDS["ann"], "theme": "dark", "why": "x"},
        csrf=csrf,
        headers=headers,
    )

    assert answer.status_code == 403
    assert "nothing was done" in answer.text
    assert "set-cookie" not in answer.headers
    assert stage.operations.asked == []


@pytest.mark.parametrize("path", ["/letters.jsonl", "/audit.jsonl", "/letters/1/payload"])
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.need(13)
async def test_a_link_elsewhere_leaves_nothing_in_the_audit(stage: Stage, path: str, site: str) -> None:
    browser = stage.browser()
    await browser.sign_in("ann")
    stage.operations.asked.clear()

    answers = [await browser.get(path, headers={"sec-fetch-site": site})]
    request = list(stage.operations.asked)
    answers += [await browser.get(path, headers={"sec-fetch-site": own}) for own in ("same-origin", "none")]
    page = await browser.get("/letters/1", headers={"sec-fetch-site": site})

    assert ([answer.status_code for answer in answers], request) == ([403, 200, 200], [])
    assert page.status_code == 200  # a link to a letter can be sent


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "203.0.113.9:9310", "", "[::1", "127.0.0.1.nip.example"],
)
@pytest.mark.need(13)
async def test_another_name_that_leads_here_is_turned_away(stage: Stage, host: str) -> None:
    browser = stage.browser()
    await browser.sign_in("ann")

    answer = await browser.get("/letters", headers={"host": host})

    assert answer.status_code == 421
    assert "AMOUNT_MISMATCH" not in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1:9310", "[::1]:9310", "localhost"])
@pytest.mark.need(13)
async def test_on_this_machine_every_name_of_it_does(stage: Stage, host: str) -> None:
    assert (await stage.browser().get("/sign-in", headers={"host": host})).status_code == 200


@pytest.mark.need(13)
async def test_with_an_origin_only_its_name_does(users: Path) -> None:
    browser = Stage(users, origin="https://console.example").browser()

    assert (await browser.get("/sign-in")).status_code == 200
    assert (await browser.get("/sign-in", headers={"host": "localhost:9310"})).status_code == 421
    assert (await browser.sign_in("ann")).status_code == 303


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://console.example:443", "console.example"),
        ("https://console.example", "console.example:443"),
        ("http://console.example:80", "console.example"),
    ],
)
@pytest.mark.need(13)
async def test_the_port_that_browsers_leave_out_may_stand_in_the_origin(
    users: Path, origin: str, host: str
) -> None:
    browser = Stage(users, origin=origin).browser()
    text = f"{origin.partition(':')[0]}://console.example"

    page = await browser.get("/sign-in", headers={"host": host})
    answer = await browser.post(
        "/sign-in",
        {"name": "ann", "password": PASSWORDS["ann"]},
        csrf=csrf_of(page.text),
        headers={"host": host, "origin": text, "sec-fetch-site": "same-origin"},
    )

    assert (page.status_code, answer.status_code) == (200, 303)
    assert (await browser.get("/sign-in", headers={"host": "console.example:8443"})).status_code == 421


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/letters",
        "/letters/1",
        "/letters/9999",
        "/letters/1/payload",
        "/nothing",
        "/sign-in",
        "/assets/console.css",
        "/assets/nothing",
        "/healthz",
        "/letters.jsonl",
        "/accounts?user_id=x",
    ],
)
@pytest.mark.need(13)
async def test_every_answer_has_the_headers_that_protect_it(stage: Stage, path: str) -> None:
    browser = stage.browser()
    await browser.sign_in("bob")

    headers = (await browser.get(path)).headers

    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "http" not in policy
    for answer in (
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "script-src 'self'",
        "require-trusted-types-for 'script'",
    ):
        assert answer in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert "server" not in headers
    if not path.startswith("/assets/console"):
        assert headers["cache-control"] == "no-store"


@pytest.mark.need(13)
async def test_an_answer_to_what_fails_is_protected_too_and_says_nothing_of_the_fault(
    stage: Stage,
) -> None:
    browser = stage.browser()
    await browser.sign_in("bob")
    stage.operations.raises = RuntimeError("a secret of the program")

    answer = await browser.get("/letters")

    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "content-security-policy" in answer.headers


@pytest.mark.need(13)
async def test_a_form_that_is_too_large_or_of_another_kind_is_refused(stage: Stage) -> None:
    browser = stage.browser()
    await browser.sign_in("ann")
    own = {"origin": ADDRESS}

    large = await browser.post("/letters/1/notes", {"text": "x" * 300_000})
    kind = await browser.client.post("/letters/1/notes", json={"text": "x"}, headers=own)
    many = await browser.post("/letters/1/notes", {f"name{n}": "x" for n in range(1_100)})
    broken = await browser.client.post(
        "/letters/1/notes",
        content=b"text=%ff%fe",
        headers={**own, "content-type": "application/x-www-form-urlencoded"},
    )

    assert [answer.status_code for answer in (large, kind, many, broken)] == [413, 415, 400, 400]
    assert all("content-security-policy" in answer.headers for answer in (large, kind, many, broken))
    assert [name for name, _ in stage.operations.asked if name == "note"] == []


@pytest.mark.parametrize(
    "path", ["/assets/../app.py", "/assets/..%2fapp.py", "/assets/%2e%2e/app.py", "/assets//etc/passwd"]
)
@pytest.mark.need(13)
async def test_only_the_files_of_the_pages_are_given(stage: Stage, path: str) -> None:
    browser = stage.browser()
    await browser.sign_in("bob")

    assert (await browser.get(path)).status_code == 404


@pytest.mark.need(13)
async def test_a_page_cannot_be_asked_in_a_way_that_it_is_not_for(stage: Stage) -> None:
    browser = stage.browser()
    await browser.sign_in("bob")

    assert (await browser.get("/plans/a-plan/execute")).status_code in {404, 405}
    assert (await browser.post("/letters", {})).status_code == 405
    assert [name for name, _ in stage.operations.asked if name == "execute"] == []


@pytest.mark.need(13)
async def test_it_is_alive_for_whoever_asks_by_any_name(stage: Stage) -> None:
    answer = await stage.browser().get("/healthz", headers={"host": "10.1.2.3"})

    assert (answer.status_code, answer.text) == (200, "alive\n")
