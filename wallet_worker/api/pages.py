"""What needs no key: the OpenAPI document, a page made of it, and a page for each problem. None has a script."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from starlette.responses import Response

from wallet_schemas.http import ApiCode
from wallet_worker.api.parts import AppState
from wallet_worker.api.problems import Refused
from wallet_worker.api.visit import PageContext

PROBLEMS: Final = "/problems/"


async def problem(parts: AppState, visit: PageContext) -> Response:
    """Return the page that says what a problem means."""
    del parts, visit
    raise Refused(ApiCode.NO_SUCH_PATH)


PAGES: Final[Mapping[str, Callable[[AppState, PageContext], Awaitable[Response]]]] = {}
