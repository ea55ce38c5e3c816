"""The rules are checked without a server, and every body that leaves the core is compared with its model."""

from collections.abc import Iterator
from typing import Final, NoReturn

import orjson
import pytest
from pydantic import TypeAdapter

from wallet_schemas.commands import Result
from wallet_schemas.generate import MESSAGES
from wallet_schemas.message import Body
from wallet_worker.core import outbound

_MODELS: Final = {message.TYPE: TypeAdapter[object](message) for message in MESSAGES}
_RESULT: Final = TypeAdapter[object](Result)


@pytest.fixture(scope="session")
def servers() -> NoReturn:
    """Fail the test: what needs a server belongs to another folder."""
    pytest.fail("the rules are checked without a server")


@pytest.fixture(scope="session", autouse=True)
def _bodies_are_what_their_models_say() -> Iterator[None]:
    """Fail where a body is not valid, or is not byte for byte what its model writes.

    The core writes plain dicts. So the shape of a message stands twice, and here the two are held together in every
    test of the rules, those that try random histories among them.
    """
    original = outbound.encode

    def checked(body: Body) -> bytes:
        written = original(body)
        model = _MODELS[body["type"]] if "type" in body else _RESULT
        by_model = model.dump_json(model.validate_json(written))
        assert by_model == written, f"the model writes {by_model!r}, the core {written!r}"
        assert orjson.loads(written), "a body says nothing"
        return written

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outbound, "encode", checked)
        yield
