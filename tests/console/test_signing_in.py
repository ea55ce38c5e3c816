"""Who gets in, who does not, and for how long."""

from pathlib import Path

import asyncpg
import pytest
import structlog

from tests.console.stage import PASSWORDS, Stage, csrf_of
from wallet_worker.cli import environment
from wallet_worker.console.app import parts_of
from wallet_worker.console.pages.sign_in import DEVICE_COOKIE
from wallet_worker.console.security import login_throttle
from wallet_worker.console.security.devices import device_of
from wallet_worker.console.security.users import Users, change
from wallet_worker.settings.operators import Role
from wallet_worker.store.errors import AccessDeniedError, UnavailableError, translate_errors


@pytest.mark.need(13)
async def test_nothing_is_shown_before_signing_in(stage: Stage) -> None:
    browser = stage.browser()

    for path in (
        "/",
        "/letters",
        "/letters/1",
        "/letters/1/payload",
        "/letters.jsonl",
        "/plans",
        "/plans/a-plan",
        "/plans/new",
        "/operations",
        "/audit",
        "/audit.jsonl",
        "/accounts",
        "/orders",
        "/health",
        "/find?q=x",
    ):
        answer = await browser.get(path)
        assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/sign-in"), path
    assert stage.operations.asked == []


@pytest.mark.need(13)
async def test_signing_in_leads_to_the_page_that_was_asked_for(stage: Stage) -> None:
    browser = stage.browser()
    request = await browser.get("/letters?states=waiting")

    answer = await browser.sign_in("ann", target="/letters?states=waiting")

    assert request.headers["location"] == "/sign-in?next=%2Fletters%3Fstates%3Dwaiting"
    assert (answer.status_code, answer.headers["location"]) == (303, "/letters?states=waiting")
    assert (await browser.get("/letters")).status_code == 200


@pytest.mark.parametrize(
    "target",
    ["//evil.example/", "https://evil.example/", "/\\evil.example", "javascript:alert(1)", "evil", "/\tx"],
)
@pytest.mark.need(13)
async def test_signing_in_never_leads_elsewhere(stage: Stage, target: str) -> None:
    answer = await stage.browser().sign_in("ann", target=target)

    assert (answer.status_code, answer.headers["location"]) == (303, "/")


@pytest.mark.parametrize(
    ("name", "password"),
    [("ann", "not the password"), ("nobody", "whatever it is"), ("", ""), ("ann", "x" * 5_000)],
)
@pytest.mark.need(13)
async def test_a_wrong_name_or_password_says_not_which(stage: Stage, name: str, password: str) -> None:
    browser = stage.browser()

    answer = await browser.sign_in(name, password)

    assert answer.status_code == 403
    assert "The name or the password is not right." in answer.text
    assert (await browser.get("/letters")).status_code == 303


@pytest.mark.need(13)
async def test_the_cookie_is_for_this_host_only_and_no_script_reads_it(stage: Stage) -> None:
    cookie = (await stage.browser().sign_in("ann")).headers["set-cookie"].lower()

    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "domain" not in cookie


@pytest.mark.need(13)
async def test_behind_https_cookies_are_secure_and_of_this_very_host(users: Path) -> None:
    stage = Stage(users, origin="https://console.example")

    answer = await stage.browser().sign_in("ann")

    assert answer.headers["set-cookie"].startswith("__Host-wallet_console=")
    assert "Secure" in answer.headers["set-cookie"]
    assert answer.headers["strict-transport-security"].startswith("max-age=")


@pytest.mark.need(13)
async def test_signing_in_makes_a_new_session_whatever_the_browser_had(stage: Stage) -> None:
    browser = stage.browser()
    browser.client.cookies.set("wallet_console", "planted", domain="localhost")

    await browser.sign_in("ann")

    assert (await browser.get("/letters")).status_code == 200
    assert stage.parts.sessions.find("planted", touch=False) is None


@pytest.mark.need(13)
async def test_signing_out_ends_the_session_also_for_a_copied_cookie(stage: Stage) -> None:
    browser = stage.browser()
    await browser.sign_in("ann")
    kept = dict(browser.client.cookies)

    await browser.post("/sign-out")

    thief = stage.browser()
    thief.client.cookies.update(kept)
    assert (await thief.get("/letters")).status_code == 303


@pytest.mark.need(13)
async def test_a_session_ends_when_nothing_is_done_and_a_page_that_refreshes_itself_does_nothing(
    stage: Stage,
) -> None:
    browser = stage.browser()
    await browser.sign_in("ann")

    for _ in range(4):
        stage.clock.now += 500
        await browser.get("/operations", headers={"x-live": "1"})

    assert (await browser.get("/letters")).status_code == 303


@pytest.mark.need(13)
async def test_a_session_ends_in_any_case_after_its_whole_time(stage: Stage) -> None:
    browser = stage.browser()
    await browser.sign_in("ann")

    for _ in range(43):
        stage.clock.now += 1_000
        assert (await browser.get("/plans")).status_code == 200
    stage.clock.now += 200

    assert (await browser.get("/plans")).status_code == 303


@pytest.mark.need(13)
async def test_whoever_is_removed_is_out_with_the_next_click(stage: Stage, users: Path) -> None:
    browser = stage.browser()
    await browser.sign_in("ann")

    change(users, lambda everybody: everybody.removed("ann"))

    assert (await browser.get("/letters")).status_code == 303


@pytest.mark.need(13)
async def test_a_new_password_ends_the_sessions_of_the_old_one(stage: Stage, users: Path) -> None:
    browser = stage.browser()
    await browser.sign_in("ann")

    change(users, lambda everybody: everybody.with_password("ann", "another good one"))

    assert (await browser.get("/letters")).status_code == 303
    assert (await browser.sign_in("ann", "another good one")).status_code == 303


@pytest.mark.need(13)
async def test_a_users_file_that_cannot_be_read_lets_nobody_in_and_says_so(stage: Stage, users: Path) -> None:
    browser = stage.browser()
    await browser.sign_in("ann")

    users.write_text("{")  # noqa: ASYNC240 -- nobody else waits

    assert (await browser.get("/letters")).status_code == 303
    page = await browser.get("/sign-in")
    assert page.status_code == 503
    assert "users file cannot be read" in page.text
    refused = await browser.post(
        "/sign-in", {"name": "ann", "password": PASSWORDS["ann"]}, csrf=csrf_of(page.text)
    )
    assert refused.status_code == 503


@pytest.mark.need(13)
async def test_without_users_the_page_says_how_the_first_is_made(stage: Stage, users: Path) -> None:
    users.unlink()  # noqa: ASYNC240 -- nobody else waits

    assert "wallet console user add" in (await stage.browser().get("/sign-in")).text


@pytest.mark.need(13)
async def test_after_five_wrong_passwords_the_right_one_is_not_looked_at_for_a_while(
    stage: Stage,
) -> None:
    browser = stage.browser()
    for _ in range(5):
        await browser.sign_in("ann", "a wrong password")

    held = await browser.sign_in("ann")

    assert held.status_code == 429
    assert "Too many wrong tries. Wait 15 minutes" in held.text
    assert int(held.headers["retry-after"]) == login_throttle.SPAN_SECONDS
    stage.clock.now += login_throttle.SPAN_SECONDS
    assert (await browser.sign_in("ann")).status_code == 303


@pytest.mark.need(13)
async def test_wrong_passwords_from_elsewhere_do_not_lock_a_colleague_out(stage: Stage) -> None:
    stranger = stage.browser("198.51.100.1")
    for _ in range(6):
        await stranger.sign_in("ann", "a wrong password")

    assert (await stage.browser("203.0.113.7").sign_in("ann")).status_code == 303


@pytest.mark.need(13)
async def test_strangers_lock_nobody_out_of_a_device_that_they_have_signed_in_with(
    stage: Stage, users: Path
) -> None:
    own = stage.browser("203.0.113.7")
    await own.sign_in("ann")
    await own.post("/sign-out")
    for number in range(60):  # more than the bounds of a name, and of a name at this address
        stage.parts.attempts.failed("ann", f"198.51.100.{number}")
        stage.parts.attempts.failed("ann", "203.0.113.7")

    assert (await stage.browser("203.0.113.8").sign_in("ann")).status_code == 429
    assert (await own.sign_in("bob")).status_code == 429  # another's device is none of his
    assert (await own.sign_in("ann")).status_code == 303

    # It has a bound of its own, and a new password forgets it.
    await own.post("/sign-out")
    for _ in range(5):
        await own.sign_in("ann", "a wrong password")
    assert (await own.sign_in("ann")).status_code == 429
    change(users, lambda everybody: everybody.with_password("ann", "another good one"))
    assert device_of(stage.parts.users.users().get("ann"), own.client.cookies[DEVICE_COOKIE]) is None


@pytest.mark.need(13)
async def test_many_names_from_one_address_are_held_as_well(stage: Stage) -> None:
    stage.parts.attempts._bounds = login_throttle.ThrottleBounds(name_at_address=5, address=3, name=50)
    stranger = stage.browser("198.51.100.1")
    for name in ("a", "b", "c"):
        await stranger.sign_in(name, "a wrong password")

    assert (await stranger.sign_in("ann")).status_code == 429


@pytest.mark.need(13)
async def test_a_right_password_forgets_the_wrong_ones_before_it(stage: Stage) -> None:
    browser = stage.browser()
    for _ in range(3):
        for _ in range(3):
            await browser.sign_in("ann", "a wrong password")
        assert (await browser.sign_in("ann")).status_code == 303
        await browser.post("/sign-out")


@pytest.mark.need(13)
async def test_right_passwords_are_not_counted_however_many_come_from_one_address(
    stage: Stage,
) -> None:
    stage.parts.attempts._bounds = login_throttle.ThrottleBounds(name_at_address=2, address=3, name=3)

    for _ in range(8):
        assert (await stage.browser().sign_in("ann")).status_code == 303


@pytest.mark.need(13)
async def test_names_are_found_however_they_are_capitalised(stage: Stage) -> None:
    assert (await stage.browser().sign_in("Ann ", PASSWORDS["ann"])).status_code == 303


@pytest.mark.need(13)
async def test_a_form_of_another_browser_does_not_sign_in(stage: Stage) -> None:
    token = csrf_of((await stage.browser().get("/sign-in")).text)
    browser = stage.browser()
    await browser.get("/sign-in")

    answer = await browser.post("/sign-in", {"name": "ann", "password": PASSWORDS["ann"]}, csrf=token)

    assert answer.status_code == 403
    assert "gone stale" in answer.text


@pytest.mark.need(13)
async def test_the_oldest_sessions_of_one_person_go_when_there_are_too_many(stage: Stage) -> None:
    first = stage.browser()
    await first.sign_in("ann")
    user = stage.parts.users.users().get("ann")
    assert user is not None

    for _ in range(10):
        stage.parts.sessions.begin("ann", user.hash)

    assert (await first.get("/letters")).status_code == 303


@pytest.mark.need(13)
def test_what_is_kept_of_a_session_is_not_what_its_cookie_holds(stage: Stage) -> None:
    token = stage.parts.sessions.begin("ann", "hash")

    assert token not in repr(stage.parts.sessions._sessions)


@pytest.mark.need(13)
def test_a_password_is_as_argon2_keeps_it(users: Path) -> None:
    text = users.read_text()

    assert "$argon2id$" in text
    assert all(password not in text for password in PASSWORDS.values())
    user = Users.read(users).get("ann")
    assert user is not None
    assert user.knows(PASSWORDS["ann"])
    assert not user.knows(PASSWORDS["bob"])


@pytest.mark.need(13)
async def test_what_was_typed_as_a_name_is_not_logged_unless_it_is_one(stage: Stage) -> None:
    with structlog.testing.capture_logs() as answer:
        for name in ("correct horse battery", "ann"):
            for _ in range(6):
                await stage.browser().sign_in(name, "a wrong password")

    assert {item["event"] for item in answer} == {"console.sign_in_refused", "console.sign_in_throttled"}
    assert {item["user"] for item in answer} == {"ann", "(nobody of the users file)"}
    assert "correct horse" not in repr(answer)


@pytest.mark.parametrize(
    ("first", "other", "is_held"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:198.51.100.1", "198.51.100.1", True),
        ("198.51.100.1", "198.51.100.2", False),
    ],
)
@pytest.mark.need(13)
async def test_addresses_of_one_ipv6_network_are_counted_as_one(
    stage: Stage, first: str, other: str, *, is_held: bool
) -> None:
    for _ in range(5):
        await stage.browser(first).sign_in("ann", "a wrong password")

    assert ((await stage.browser(other).sign_in("ann")).status_code == 429) is is_held


@pytest.mark.need(13)
async def test_a_new_role_holds_from_the_next_click_and_is_logged(stage: Stage, users: Path) -> None:
    browser = stage.browser()
    await browser.sign_in("vera")
    before = (await browser.get("/letters")).text

    change(users, lambda everybody: everybody.with_role("vera", Role.OPERATOR))
    with structlog.testing.capture_logs() as answer:
        after = (await browser.get("/letters")).text

    assert "an operator can plan" in before
    assert "an operator can plan" not in after
    assert [{**item, "log_level": ""} for item in answer] == [
        {
            "event": "console.user_changed",
            "user": "vera",
            "change": "role",
            "role": "operator",
            "log_level": "",
        }
    ]


@pytest.mark.need(13)
async def test_what_is_kept_of_a_wrong_name_is_small_and_not_what_was_typed(stage: Stage) -> None:
    typed = "correct horse battery " * 5_000

    refused = await stage.browser().sign_in(typed, "a wrong password")

    assert refused.status_code == 403
    kept = stage.parts.attempts._failures
    assert len(kept) == 3
    assert {len(key) for key in kept} == {32}
    assert b"correct horse" not in b"".join(kept)


@pytest.mark.need(13)
async def test_a_page_that_refreshes_itself_leaves_what_is_to_be_said_to_the_next_that_is_opened(
    stage: Stage,
) -> None:
    browser = stage.browser()
    await browser.sign_in("ann")
    (session,) = stage.parts.sessions._sessions.values()
    session.notices.append(("done", "Three letters discarded."))

    refreshed = await browser.get("/operations", headers={"x-live": "1"})
    opened = await browser.get("/letters")
    after = await browser.get("/letters")

    answers = ["Three letters discarded." in answer.text for answer in (refreshed, opened, after)]
    assert answers == [False, True, False]


@pytest.mark.need(13)
async def test_a_database_that_does_not_take_the_password_is_not_said_to_be_away(
    stage: Stage,
) -> None:
    browser = stage.browser()
    await browser.sign_in("ann")
    stage.operations.raises = AccessDeniedError("InvalidPasswordError: password authentication failed")

    answer = await browser.get("/plans")

    assert answer.status_code == 503
    assert "The database lets nobody in" in answer.text
    assert "does not take the user or the password of WALLET_DATABASE_URL" in answer.text
    assert "The database is away" not in answer.text


@pytest.mark.need(13)
def test_only_a_password_or_a_machine_that_the_server_refuses_is_one_that_is_not_let_in() -> None:
    for kind in (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError):
        with pytest.raises(AccessDeniedError), translate_errors():
            raise kind("as the driver would say")
    with pytest.raises(UnavailableError) as caught, translate_errors():
        raise asyncpg.CannotConnectNowError("as the driver would say")
    assert caught.type is UnavailableError


@pytest.mark.parametrize(
    ("origin", "keys", "warned"),
    [
        ("http://console.example", '{"k1": "a secret of a demo"}', {"console.not_encrypted"}),
        ("http://localhost:8080", '{"k1": "a secret of a demo"}', set()),
        ("http://127.0.0.1", '{"k1": "a secret of a demo"}', set()),
        ("http://[::1]:8080", '{"k1": "a secret of a demo"}', set()),
        ("", '{"k1": "a secret of a demo"}', set()),
        ("", "{}", {"console.no_payment_keys"}),
    ],
)
@pytest.mark.need(13)
def test_a_console_says_at_its_start_what_it_had_better_not_be_run_with(
    monkeypatch: pytest.MonkeyPatch, users: Path, origin: str, keys: str, warned: set[str]
) -> None:
    for name, value in {
        "AMQP_URL": "amqp://guest:guest@127.0.0.1:1/",
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "CONSOLE_ORIGIN": origin,
        "CONSOLE_USERS": str(users),
        "PAYMENT_KEYS": keys,
    }.items():
        monkeypatch.setenv(f"WALLET_{name}", value)

    with structlog.testing.capture_logs() as answer:
        parts_of(environment.worker())

    assert {item["event"] for item in answer} - {"console.users_readable"} == warned
