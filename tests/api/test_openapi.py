"""The OpenAPI document is valid, its examples are, and a running API keeps to it."""

import json
from typing import Any

import httpx2 as httpx
import jsonschema
import pytest
from openapi_spec_validator import validate
from referencing import Registry, Resource

from tests.api.fuzz import fuzz, open_key
from tests.api.process import ApiProcess, Apis
from wallet_schemas import openapi
from wallet_schemas.codes import Code
from wallet_schemas.http import (
    ANY_COMMAND,
    CHANGES,
    OPERATIONS,
    WEBHOOKS,
    ApiCode,
    HttpOperation,
    problem_type,
)
from wallet_worker.broker import topology

DOCUMENT: dict[str, Any] = json.loads(json.dumps(openapi.document()))
ROOT = "urn:wallet"


def check(instance: object, pointer: str) -> None:
    """Fail if the instance is not what the schema at this place of the document says."""
    whole = Resource.from_contents(
        {"$schema": "https://json-schema.org/draft/2020-12/schema", **DOCUMENT, "$id": ROOT}
    )
    registry = Registry().with_resource(ROOT, whole)
    jsonschema.Draft202012Validator({"$ref": f"{ROOT}#{pointer}"}, registry=registry).validate(instance)


def test_document_is_valid() -> None:
    validate(DOCUMENT)


def test_every_operation_is_in_it_and_its_scopes_are_said() -> None:
    for operation in OPERATIONS:
        found = DOCUMENT["paths"][operation.path][operation.method.lower()]
        assert found["operationId"] == operation.name
        if len(operation.scopes) == 1:
            assert found["security"] == [{"apiKey": sorted(operation.scopes)}]


def test_every_example_is_what_its_schema_says() -> None:
    seen = 0
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            for status, answer in operation["responses"].items():
                if "$ref" in answer:
                    continue
                slashed = path.replace("/", "~1")
                place = f"/paths/{slashed}/{method}/responses/{status}/content/application~1json/schema"
                check(answer["content"]["application/json"]["example"], place)
                seen += 1
    for name, answer in DOCUMENT["components"]["responses"].items():
        (kind,) = answer["content"]
        for example in answer["content"][kind]["examples"].values():
            check(example["value"], f"/components/responses/{name}/content/application~1problem+json/schema")
            seen += 1
    for name, schema in DOCUMENT["components"]["schemas"].items():
        for example in schema.get("examples", ()):
            check(example, f"/components/schemas/{name}")
            seen += 1

    assert seen > 80


async def test_it_is_served_with_pages_that_have_no_script(shared_api: ApiProcess) -> None:
    async with shared_api.client() as nobody:
        assert (await nobody.get("/v1/openapi.json")).json() == DOCUMENT
        page = await nobody.get("/docs")
        problems = {
            code: await nobody.get(problem_type(code)) for code in (*Code, *ApiCode) if code is not Code.OK
        }
        unknown = await nobody.get("/problems/nothing")

    assert page.status_code == 200
    assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src 'self'")
    assert "<script" not in page.text
    assert "http://" not in page.text.replace("http://www.w3.org", "")
    for code, answer in problems.items():
        assert answer.status_code == 200, code
        assert code.value in answer.text
    assert (unknown.status_code, unknown.json()["code"]) == (404, "NO_SUCH_PATH")


@pytest.mark.usefixtures("worker")
@pytest.mark.timeout(600)
async def test_api_keeps_to_its_document_whatever_it_is_asked(api: ApiProcess, apis: Apis) -> None:
    await topology.apply(apis.amqp_url, events=True)
    status, printed = await fuzz(api, await open_key(apis), examples=8, seed=15)

    assert status == 0, printed[-6_000:]
    assert "api.failed" not in api.log()


async def test_valid_requests_are_accepted_where_nobody_works(http: httpx.AsyncClient) -> None:
    for operation in (*CHANGES, ANY_COMMAND):
        body = example(operation)
        body["serial_no"] += operation.path.replace("/", ".")

        answer = await http.post(operation.path, json=body, headers={"Prefer": "wait=0"})

        assert answer.status_code == 202, (operation.path, answer.text)
        assert answer.headers["location"].startswith("/v1/outcomes?serial_no=")


async def test_valid_requests_about_webhooks_are_done(api: ApiProcess, apis: Apis) -> None:
    async with api.client(await open_key(apis)) as http:
        for operation in WEBHOOKS:
            if operation.method == "POST":
                answer = await http.post(operation.path, json=example(operation))
                assert answer.status_code == operation.applied, (operation.path, answer.text)


def example(operation: HttpOperation) -> dict[str, Any]:
    """Return the first example of the body that the document gives an operation."""
    taken = DOCUMENT["paths"][operation.path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    name = (taken.get("$ref") or taken["oneOf"][0]["$ref"]).rpartition("/")[2]
    return dict(DOCUMENT["components"]["schemas"][name]["examples"][0])
