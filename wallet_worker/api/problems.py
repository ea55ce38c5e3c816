"""Refusals of the API: a problem is raised where it is seen, and becomes an answer in one place."""

import random
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

from starlette.responses import Response

from wallet_schemas.codes import Code
from wallet_schemas.commands import Fault, Outcome, RefusalDetails
from wallet_schemas.encode import encode
from wallet_schemas.http import (
    PROBLEM_TYPE,
    QUOTA_PROBLEM,
    AnyCode,
    ApiCode,
    Problem,
    problem_type,
    retry_of,
    status_of,
)
from wallet_worker.text import printable

DETAIL_LENGTH_MAX: Final = 500


class RequestRefused(Exception):  # noqa: N818 -- named after what happened to the request
    """The request has no answer of its own kind; `code` says why, and the rest what the problem shows.

    `status` is that of the code where it is absent.
    """

    def __init__(
        self,
        code: AnyCode,
        detail: str | None = None,
        *,
        status: int | None = None,
        serial_no: str | None = None,
        faults: Sequence[Fault] = (),
        different: Sequence[str] = (),
        duplicate: bool | None = None,
        details: RefusalDetails | None = None,
        policy: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code.value)
        self.code = code
        self.status = status_of(code) if status is None else status
        self.detail = detail
        self.serial_no = serial_no
        self.faults = faults
        self.different = different
        self.duplicate = duplicate
        self.details = details
        self.policy = policy
        self.headers = dict(headers or {})

    def answer(self, request_id: str) -> Response:
        """Return the problem as the answer to a request."""
        number = self.serial_no
        problem = Problem(
            type=QUOTA_PROBLEM if self.policy else problem_type(self.code),
            title=self.code.meaning,
            status=self.status,
            code=self.code.value,
            retry=retry_of(self.code, self.status),
            detail=_beginning(self.detail) if self.detail else None,
            serial_no=number,
            duplicate=self.duplicate,
            instance=outcome_path(number) if number is not None else None,
            different=list(self.different) or None,
            faults=list(self.faults) or None,
            details=self.details,
            violated_policies=[self.policy] if self.policy else None,
            request_id=request_id,
        )
        return Response(encode(problem), self.status, self.headers, PROBLEM_TYPE)


def refused_outcome(outcome: Outcome, *, tell_different: bool) -> RequestRefused:
    """Return a refusal of the wallet as a problem; where `tell_different` is not set, nothing of the first command."""
    return RequestRefused(
        outcome.code,
        # Of a conflict, the sentence names the fields that differ.
        outcome.message if tell_different or outcome.code is not Code.SERIAL_CONFLICT else None,
        serial_no=outcome.serial_no,
        duplicate=outcome.duplicate,
        different=(outcome.different or []) if tell_different else (),
        faults=outcome.faults or (),
        details=outcome.details,
        headers={"idempotent-replayed": "true"} if outcome.duplicate else None,
    )


def retry_after(seconds: float) -> dict[str, str]:
    """Return the header that says when to try again: at least so many seconds, spread a little, at most 60."""
    return {"retry-after": str(min(60, max(1, round(seconds * random.uniform(1.0, 1.5)))))}


def outcome_path(serial_no: str) -> str:
    """Return where the outcome of a number is looked up."""
    return f"/v1/outcomes?serial_no={quote(serial_no, safe='')}"


def malformed(field: str, message: str, serial_no: str | None = None) -> RequestRefused:
    """Return the problem of one thing that is wrong with a request."""
    return RequestRefused(
        Code.MALFORMED, serial_no=serial_no, faults=(Fault(field=field, message=_beginning(message)),)
    )


def _beginning(text: str) -> str:
    """Return the beginning of a text with whatever is not printable escaped."""
    return printable(text[:DETAIL_LENGTH_MAX])[:DETAIL_LENGTH_MAX]


def not_sent(reason: str, serial_no: str | None = None) -> RequestRefused:
    """Return the problem that the broker does not have the message."""
    return RequestRefused(ApiCode.NOT_SENT, reason, serial_no=serial_no, headers=retry_after(1))
