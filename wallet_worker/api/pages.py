"""What needs no key: the OpenAPI document, a page made of it, and a page for each problem. None has a script.

All are made once, from the document alone, and leave nothing to a browser: no script, no frame, nothing from elsewhere.
"""

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import Any, Final

from jinja2 import Environment, PackageLoader
from markupsafe import Markup, escape
from starlette.responses import Response

from wallet_schemas import openapi
from wallet_schemas.codes import Code
from wallet_schemas.http import AnyCode, ApiCode, problem_type, retry_of, status_of
from wallet_schemas.names import CONTENT_TYPE
from wallet_worker.api.parts import ApiState
from wallet_worker.api.problems import RequestRefused
from wallet_worker.api.request import ApiRequest

PROBLEMS: Final = "/problems/"
STYLE: Final = "/docs/style.css"
_FOR_AN_HOUR: Final = "public, max-age=3600"
_HEADERS: Final = {
    "cache-control": _FOR_AN_HOUR,
    "content-security-policy": "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
}

_WHAT_TO_DO: Final = {
    "never": "The wallet has decided, and it is final for this number. A new attempt takes a new number.",
    "mend": "Nothing was done, and the number is unused. Mend the request, and send it.",
    "same": "Send exactly the same again, with the same number, until the answer is another one.",
}


async def document(parts: ApiState, request: ApiRequest) -> Response:
    """Return the OpenAPI document."""
    del parts, request
    return Response(_document_text(), 200, {"cache-control": _FOR_AN_HOUR}, CONTENT_TYPE)


async def docs(parts: ApiState, request: ApiRequest) -> Response:
    """Return the document as a page to read."""
    del parts, request
    return Response(_docs_page(), 200, _HEADERS, "text/html")


async def style(parts: ApiState, request: ApiRequest) -> Response:
    """Return how the pages look."""
    del parts, request
    return Response(_environment().get_template("style.css").render(), 200, _HEADERS, "text/css")


async def problem(parts: ApiState, request: ApiRequest) -> Response:
    """Return the page that says what a problem means."""
    del parts
    code = _CODES.get(request.path)
    if code is None:
        raise RequestRefused(ApiCode.NO_SUCH_PATH)
    status = status_of(code)
    retry = retry_of(code, status).value
    page = _environment().get_template("problem.html")
    return Response(
        page.render(
            code=code.value, meaning=code.meaning, status=status, retry=retry, action=_WHAT_TO_DO[retry]
        ),
        200,
        _HEADERS,
        "text/html",
    )


PAGES: Final[Mapping[str, Callable[[ApiState, ApiRequest], Awaitable[Response]]]] = {
    "/v1/openapi.json": document,
    "/docs": docs,
    STYLE: style,
}

_CODES: Final[dict[str, AnyCode]] = {
    problem_type(code): code for code in (*Code, *ApiCode) if code is not Code.OK
}


@cache
def _document() -> dict[str, Any]:
    return openapi.document()


@cache
def _document_text() -> str:
    return json.dumps(_document(), ensure_ascii=False, separators=(",", ":"))


@cache
def _docs_page() -> str:
    found = _document()
    operations = [
        {"method": method.upper(), "path": path, **operation, "curl": _curl(method, path, operation, found)}
        for path, methods in found["paths"].items()
        for method, operation in methods.items()
    ]
    codes = [
        (code.value, status_of(code), retry_of(code, status_of(code)).value, code.meaning, path)
        for path, code in _CODES.items()
    ]
    return (
        _environment()
        .get_template("docs.html")
        .render(info=found["info"], tags=found["tags"], operations=operations, document=found, codes=codes)
    )


def _curl(method: str, path: str, operation: dict[str, Any], document: dict[str, Any]) -> str:
    """Return a line that a person can try."""
    if method == "get":
        query = _QUERIES.get(path, "")
        return f'curl -H "Authorization: Bearer $KEY" "$WALLET{path}{"?" if query else ""}{query}"'
    schema = operation["requestBody"]["content"][CONTENT_TYPE]["schema"]
    named = (schema.get("$ref") or schema["oneOf"][0]["$ref"]).rpartition("/")[2]
    example = dict(document["components"]["schemas"][named]["examples"][0])
    example.pop("metadata", None)
    lines = [f'curl "$WALLET{path}"']
    if path.endswith("payment-results"):
        lines.append('-H "x-signature: $SIGNATURE"')
    else:
        lines.append('-H "Authorization: Bearer $KEY"')
    if "serial_no" in example and path != "/v1/commands":
        lines.append(f'-H "Idempotency-Key: {example.pop("serial_no")}"')
    return " \\\n  ".join([*lines, '-H "Content-Type: application/json"', f"-d '{json.dumps(example)}'"])


_QUERIES: Final = {
    "/v1/accounts": "user_id=user-1001",
    "/v1/orders": "serial_no=R-20260102-000001",
    "/v1/outcomes": "serial_no=R-20260102-000001",
    "/v1/statements": "user_id=user-1001&currency=TWD",
    "/v1/history": "user_id=user-1001&currency=TWD",
}


@cache
def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("wallet_worker.api", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["prose"] = _prose
    found.filters["words"] = _words
    found.filters["pretty"] = lambda value: json.dumps(value, indent=2, ensure_ascii=False)
    found.filters["kind"] = _kind
    found.filters["resolved"] = _resolved
    return found


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the component that a reference leads to, or the schema itself."""
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: Any = _document()
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return dict(found)


def _kind(schema: dict[str, Any]) -> str:
    """Return in a word or two what values a schema allows."""
    if "$ref" in schema:
        target = _resolved(schema)
        return (
            " | ".join(target["enum"])
            if len(target.get("enum", ())) in range(1, 8)
            else target.get("title", "")
        )
    if "const" in schema:
        return f'"{schema["const"]}"'
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(kind) for kind in schema["anyOf"]))
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    bounds = [
        f"{word} {schema[name]}"
        for name, word in (("minimum", "from"), ("maximum", "to"), ("maxLength", "at most"))
        if name in schema
    ]
    return " ".join([schema.get("format") or schema.get("type", "any"), *bounds])


_CODE_WORD: Final = re.compile(r"`([^`]+)`")


def _prose(text: str) -> Markup:
    """Return the little Markdown that the document has as HTML: headings, tables, lists, and words of code."""
    blocks = [block for block in text.strip().split("\n\n") if block.strip()]
    return Markup("\n").join(_block(block) for block in blocks)


def _block(block: str) -> Markup:
    lines = block.splitlines()
    if lines[0].startswith("## "):
        rest = "\n".join(lines[1:])
        head = Markup("<h3>{}</h3>").format(_words(lines[0].removeprefix("## ")))
        return head + (_block(rest) if rest else Markup(""))
    if lines[0].startswith("|"):
        rows = [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in lines
            if not set(line) <= set("|- ")
        ]
        head = Markup("").join(Markup("<th>{}</th>").format(_words(cell)) for cell in rows[0])
        body = Markup("").join(
            Markup("<tr>{}</tr>").format(
                Markup("").join(Markup("<td>{}</td>").format(_words(cell)) for cell in row)
            )
            for row in rows[1:]
        )
        return Markup('<div class="wide"><table><tr>{}</tr>{}</table></div>').format(head, body)
    if lines[0].startswith("- "):
        items = Markup("").join(
            Markup("<li>{}</li>").format(_words(line.removeprefix("- "))) for line in lines
        )
        return Markup("<ul>{}</ul>").format(items)
    return Markup("<p>{}</p>").format(_words(" ".join(lines)))


def _words(text: str) -> Markup:
    return Markup(_CODE_WORD.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 -- escaped before
