"""What comes before a request is one: sizes, times, what is no HTTP, and what would be two meanings."""

import asyncio
import gzip
import json
import time
from contextlib import suppress

import httpx2 as httpx
import pytest

from tests.api.money import depth
from tests.api.process import ApiProcess, read_answer
from tests.workers import WorkerProcess

OPEN = {"user_id": "alice", "currency": "TWD"}


def head(key: str, *lines: str, path: str = "/v1/accounts", method: str = "POST") -> bytes:
    fields = ["Host: localhost", f"Authorization: Bearer {key}", "Content-Type: application/json", *lines]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *fields, "", ""]).encode()


def of(answer: bytes) -> tuple[int, dict[str, object]]:
    """Return the status and the problem of the first answer."""
    top, _, body = answer.partition(b"\r\n\r\n")
    return int(top.split()[1]), json.loads(body)


@pytest.mark.parametrize(
    ("lines", "status", "code"),
    [
        (["X-Long: " + "x" * 33 * 1024], 431, "HEADERS_TOO_LARGE"),
        ([f"X-{n}: y" for n in range(101)], 431, "HEADERS_TOO_LARGE"),
        (["Content-Length: 5", "Content-Length: 6"], 400, "BAD_REQUEST"),
        (["Content-Length: 5", "Transfer-Encoding: chunked"], 400, "BAD_REQUEST"),
        (["Transfer-Encoding: gzip, chunked"], 400, "BAD_REQUEST"),
        (["Transfer-Encoding: xchunked"], 400, "BAD_REQUEST"),
        (["Content-Length: -1"], 400, "BAD_REQUEST"),
        (["Content-Length: 0", "Host: elsewhere"], 400, "BAD_REQUEST"),
        (["Content-Length: 0", "Authorization: Bearer other"], 400, "BAD_REQUEST"),
        (["Content-Length: 0", "Idempotency-Key: A", "Idempotency-Key: B"], 400, "BAD_REQUEST"),
        (["Content-Length: 65537"], 413, "TOO_LARGE"),
        (["Content-Length: 9999999999"], 413, "TOO_LARGE"),
        (["Content-Length: 2", "Upgrade: h2c", "Connection: Upgrade"], 400, "BAD_REQUEST"),
    ],
    ids=lambda value: value[0][:40] if isinstance(value, list) else None,
)
async def test_head_that_is_out_of_bounds_or_has_two_meanings_is_refused(
    lines: list[str], status: int, code: str, api: ApiProcess, key: str
) -> None:
    answer = await api.raw(head(key, *lines, "Connection: close" if "Upgrade" not in lines[-1] else "X: y"))

    assert of(answer)[0] == status
    assert of(answer)[1]["code"] == code


async def test_target_that_is_too_long_is_refused(api: ApiProcess, key: str) -> None:
    answer = await api.raw(head(key, path="/v1/accounts?user_id=" + "x" * 9_000, method="GET"))

    assert of(answer)[0] == 414


async def test_header_without_end_is_cut_off(api: ApiProcess) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.public_port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: ")
    sent = 0
    with suppress(ConnectionError):
        while sent < 8 * 2**20:
            writer.write(b"x" * 65_536)
            await writer.drain()
            sent += 65_536
    answer = b""
    with suppress(ConnectionError):
        answer = await reader.read()
    writer.close()

    assert sent < 8 * 2**20 or answer.startswith(b"HTTP/1.1 431")


async def test_slow_head_and_slow_body_are_given_up_and_others_are_unharmed(
    api: ApiProcess, key: str, http: httpx.AsyncClient
) -> None:
    began = time.monotonic()

    async def drip(beginning: bytes, rest: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.public_port)
        writer.write(beginning)
        reading = asyncio.create_task(reader.read())
        for byte in rest:
            if reading.done():
                break
            writer.write(bytes([byte]))
            await asyncio.sleep(0.5)
        answer = await reading
        writer.close()
        return answer

    slow_head = asyncio.create_task(drip(b"GET /healthz HTTP/1.1\r\n", b"Host: " + b"x" * 60))
    slow_body = asyncio.create_task(drip(head(key, "Content-Length: 100"), b"{" + b" " * 60))
    for _ in range(20):
        asked_at = time.monotonic()
        assert (await http.get("/v1/client")).status_code == 200
        assert time.monotonic() - asked_at < 2.0
        await asyncio.sleep(0.2)

    assert await slow_head == b""
    status, problem = of(await slow_body)
    assert (status, problem["code"]) == (408, "READ_TIMEOUT")
    assert 9.0 < time.monotonic() - began < 25.0


@pytest.mark.usefixtures("worker")
async def test_what_is_no_request_does_not_answer_for_the_one_before_it(api: ApiProcess, key: str) -> None:
    """A 400 in the place of the outcome would tell the client that its number is unused."""
    body = json.dumps(OPEN).encode()
    sent = head(key, f"Content-Length: {len(body)}", "Idempotency-Key: OPEN-1") + body + b"\0garbage\r\n\r\n"

    answer = await api.raw(sent)

    assert answer.startswith(b"HTTP/1.1 201"), answer
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.usefixtures("worker")
async def test_pipelined_requests_are_answered_in_order(api: ApiProcess, key: str) -> None:
    bodies = [json.dumps({**OPEN, "user_id": f"u-{n}"}).encode() for n in range(4)]
    sent = b"".join(
        head(key, f"Content-Length: {len(body)}", f"Idempotency-Key: OPEN-{n}") + body
        for n, body in enumerate(bodies)
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", api.public_port)

    writer.write(sent)
    answers = [await read_answer(reader) for _ in bodies]
    writer.close()

    assert [answer.json["result"]["user_id"] for answer in answers] == ["u-0", "u-1", "u-2", "u-3"]


async def test_body_is_not_asked_for_where_the_key_does_not_open(api: ApiProcess) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.public_port)

    writer.write(head("wrong", "Content-Length: 60000", "Expect: 100-continue"))
    answer = await read_answer(reader)
    rest = await reader.read()
    writer.close()

    assert answer.status == 401
    assert answer.headers["connection"] == "close"
    assert rest == b""


async def test_chunked_body_without_end_is_cut_off_and_a_broken_one_refused(
    api: ApiProcess, key: str
) -> None:
    chunk = b"1000\r\n" + b" " * 4096 + b"\r\n"
    endless = await api.raw(head(key, "Transfer-Encoding: chunked", "Idempotency-Key: A") + chunk * 40)
    broken = await api.raw(head(key, "Transfer-Encoding: chunked", "Idempotency-Key: A") + b"zz\r\n{}\r\n")

    assert of(endless)[0] == 413
    assert of(broken)[0] == 400


async def test_half_a_body_publishes_nothing(api: ApiProcess, key: str, amqp_url: str) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", api.public_port)
    writer.write(head(key, "Content-Length: 100", "Idempotency-Key: OPEN-1") + b'{"user_id":')
    await writer.drain()
    writer.close()
    await writer.wait_closed()

    async with asyncio.timeout(10):
        while not (found := api.events("api.command")):  # noqa: ASYNC110 -- the log of another process
            await asyncio.sleep(0.05)
    assert found[0]["status"] == 499
    assert await depth(amqp_url, "wallet.commands") == 0


async def test_client_that_leaves_while_it_waits_has_its_outcome_stored(
    worker: WorkerProcess, api: ApiProcess, key: str, http: httpx.AsyncClient
) -> None:
    worker.freeze()
    body = json.dumps(OPEN).encode()
    _, writer = await asyncio.open_connection("127.0.0.1", api.public_port)
    writer.write(head(key, f"Content-Length: {len(body)}", "Idempotency-Key: OPEN-1") + body)
    await writer.drain()
    async with asyncio.timeout(10):
        while await api.metric("wallet_api_waiting") < 1:  # noqa: ASYNC110 -- the metric of another process
            await asyncio.sleep(0.05)

    writer.transport.abort()
    worker.thaw()

    outcome = await http.get("/v1/outcomes?serial_no=OPEN-1", headers={"Prefer": "wait=20"})
    assert outcome.json()["status"] == "applied"
    async with asyncio.timeout(15):
        while not (found := api.events("api.command")):  # noqa: ASYNC110 -- the log of another process
            await asyncio.sleep(0.05)
    assert found[0]["status"] == 499


@pytest.mark.parametrize(
    ("headers", "content", "status", "code"),
    [
        ({"content-type": "text/plain"}, b"{}", 415, "MEDIA_TYPE"),
        ({"content-type": "application/x-www-form-urlencoded"}, b"a=b", 415, "MEDIA_TYPE"),
        ({"content-type": "application/json; charset=utf-16"}, b"{}", 415, "MEDIA_TYPE"),
        (
            {"content-type": "application/json", "content-encoding": "gzip"},
            gzip.compress(b"{}", mtime=0),
            415,
            "MEDIA_TYPE",
        ),
        ({"content-type": "application/json"}, b"\xef\xbb\xbf{}", 400, "MALFORMED"),
        ({"content-type": "application/json"}, json.dumps(OPEN).encode("utf-16"), 400, "MALFORMED"),
        ({"content-type": "application/json"}, b"", 400, "MALFORMED"),
        ({"content-type": "application/json"}, b"[]", 400, "MALFORMED"),
        ({"content-type": "application/json"}, json.dumps(OPEN).encode(), 400, "SERIAL_NO_MISSING"),
        ({"content-type": "application/json"}, json.dumps({**OPEN, "serial_no": "A"}).encode(), 0, ""),
    ],
)
async def test_body_of_another_kind_is_refused(
    headers: dict[str, str], content: bytes, status: int, code: str, http: httpx.AsyncClient
) -> None:
    if not status:
        headers, status, code = headers | {"idempotency-key": "B"}, 400, "SERIAL_NO_DIFFERS"

    answer = await http.post("/v1/accounts", content=content, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_type_of_another_path_is_refused(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/accounts", json={**OPEN, "type": "order.recharge.v1", "serial_no": "A"})

    assert (answer.status_code, answer.json()["code"]) == (400, "TYPE_DIFFERS")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("user_id=u&nobody=1", "PARAMETER_UNKNOWN"),
        ("user_id=u&user_id=v", "PARAMETER_REPEATED"),
        ("", "PARAMETER_MISSING"),
        ("user_id=%ff", "MALFORMED"),
        ("user_id=u%00", "MALFORMED"),
        ("user_id=", "MALFORMED"),
        ("user_id", "MALFORMED"),
        ("user_id=u&currency=twd", "MALFORMED"),
        ("user_id=u&type=x", "PARAMETER_UNKNOWN"),
    ],
)
async def test_parameters_that_are_not_known_or_twice_are_refused(
    query: str, code: str, http: httpx.AsyncClient
) -> None:
    answer = await http.get(f"/v1/accounts?{query}")

    assert (answer.status_code, answer.json()["code"]) == (400, code)


@pytest.mark.parametrize(
    "path", ["/v1/account", "/v1/accounts/", "/v1/%61ccounts", "/", "//v1/accounts", "/v1/../v1/accounts"]
)
async def test_path_has_one_spelling(path: str, api: ApiProcess, key: str) -> None:
    answer = await api.raw(head(key, "Connection: close", path=f"{path}?user_id=u", method="GET"))

    assert of(answer)[0] == 404
    assert of(answer)[1]["code"] == "NO_SUCH_PATH"


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE"])
async def test_other_methods_are_told_which_there_are(method: str, http: httpx.AsyncClient) -> None:
    answer = await http.request(method, "/v1/accounts")

    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, POST"


async def test_answers_are_kept_by_nobody_and_sniffed_by_nobody(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/client", headers={"X-Request-Id": "mine-1"})

    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-request-id"] == "mine-1"
    assert "access-control-allow-origin" not in answer.headers
    assert "server" not in answer.headers


async def test_a_client_that_reads_no_answer_costs_bounded_memory(api: ApiProcess, key: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.public_port)
    first = head(key, path="/v1/client", method="GET")
    sent = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(2):
            while sent < 50_000:
                writer.write(first)
                await writer.drain()
                sent += 1
    writer.transport.abort()
    del reader

    assert (await api.get("/healthz"))[0] == 200
