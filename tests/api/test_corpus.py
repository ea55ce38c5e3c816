"""The contract's corpus by HTTP: what no reader accepts is 400 with the faults of `parse`, and no dead letter."""

import time

import httpx2 as httpx

from tests.api.money import depth
from tests.api.process import CORPUS
from wallet_schemas.parse import COMMANDS, Malformed, UnsupportedType, parse

SECONDS_MAX = 1.0  # of one body on a machine that others use, too; most take two milliseconds


async def test_every_malformed_body_is_400_with_its_faults_and_no_dead_letter(
    http: httpx.AsyncClient, amqp_url: str
) -> None:
    seen = 0
    for path in sorted((CORPUS / "malformed").iterdir()) + sorted((CORPUS / "unsupported").iterdir()):
        body = path.read_bytes()
        try:
            parse(body, COMMANDS)
        except (Malformed, UnsupportedType) as exc:
            wanted = exc
        else:
            raise AssertionError(path.name)

        began = time.monotonic()
        answer = await http.post("/v1/commands", content=body, headers={"content-type": "application/json"})
        took = time.monotonic() - began

        problem = answer.json()
        if problem["code"] == "SERIAL_NO_MISSING":
            assert wanted.serial_no is None, path.name
        else:
            assert problem["code"] == wanted.code, path.name
            assert problem["faults"] == [fault.model_dump() for fault in wanted.faults], path.name
        assert answer.status_code == 400, path.name
        assert took < SECONDS_MAX, path.name
        seen += 1

    assert seen > 100
    assert await depth(amqp_url) == 0
    assert await depth(amqp_url, "wallet.commands") == 0
