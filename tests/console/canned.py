"""Operations that answer with what a test put there: for pages, where nothing of the letters' own rules is asked."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from typing_extensions import override

from wallet_schemas.events import ACCOUNT_EXAMPLE, PENDING_ORDER_EXAMPLE, AccountView, OrderView
from wallet_worker.core.context import Policy
from wallet_worker.core.proofs import OperatorKey, ProofAlgorithm, ProofPurpose, SignedStatement
from wallet_worker.dead_letters.model.actors import Actor
from wallet_worker.dead_letters.model.audit_log import AuditPage, AuditRow
from wallet_worker.dead_letters.model.errors import NotAllowedError, NotFoundError
from wallet_worker.dead_letters.model.filters import AuditFilter, Filter
from wallet_worker.dead_letters.model.letters import (
    PAGE_LETTERS,
    Attempt,
    Group,
    LedgerView,
    LetterContent,
    LetterDetail,
    LetterSummary,
    Overview,
    Page,
    Replay,
    RunbookLine,
)
from wallet_worker.dead_letters.model.plans import Difference, Operation, Plan, PlannedLetter, ReplayPace
from wallet_worker.dead_letters.model.predictions import PredictedOutcome, Prediction
from wallet_worker.dead_letters.model.signing import Signature, ToSign
from wallet_worker.dead_letters.model.states import (
    Action,
    LetterState,
    OperationState,
    PlanState,
    ReplayState,
)
from wallet_worker.dead_letters.operations import DeadLetterDesk
from wallet_worker.settings.operators import Role
from wallet_worker.store.database import READONLY_ROLE, Database
from wallet_worker.store.operators import KeyRow

NOW = datetime.now(UTC)
OPERATION_ID = UUID(int=7)
TOKEN = "a-plan"

BODY = (
    b'{"type":"payment.result.v1","payment_order_no":"R-20260102-000001","amount":"1.00","currency":"TWD",'
    b'"status":"succeeded","gateway_ref":"GW-8841","occurred_at":"2026-01-02T03:04:07.250000Z"}'
)


def line(letter_id: int = 1, **changes: object) -> LetterSummary:
    """Return a line of the list."""
    usual = LetterSummary(
        letter_id=letter_id,
        state=LetterState.WAITING,
        reason="AMOUNT_MISMATCH",
        detail="the result says 1.00 TWD, the order 100.00 TWD",
        source="payment.results",
        message_type="payment.result.v1",
        serial_no=f"R-20260102-{letter_id:06}",
        user_id="user-1001",
        attempts=1,
        replays=0,
        first_seen=NOW - timedelta(minutes=7 * letter_id),
        arrived_at=NOW - timedelta(minutes=7 * letter_id),
        updated_at=NOW,
    )
    return replace(usual, **changes)  # type: ignore[arg-type]


def whole(body: bytes = BODY, pretty: str | None = "", **changes: object) -> LetterContent:
    """Return a letter as it was taken in."""
    import json

    usual = LetterContent(
        line=line(),
        exchange="payment.results",
        routing_key="payment.result",
        body=body,
        body_bytes=len(body),
        pretty=json.dumps(json.loads(body), indent=2) if pretty == "" else pretty,
        properties={
            "content_type": "application/json",
            "message_id": "4f0c8f0b2a4d4f4e",
            "delivery_mode": "2",
        },
        headers={
            "x-wallet-reason": "AMOUNT_MISMATCH",
            "x-wallet-source": "payment.results",
            "x-signature": "t=1767323047,kid=2026-01,v1=6f1c0a",
            "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        },
        worker="0.1.0 wallet-1:4711",
        trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
        edit_of=None,
    )
    return replace(usual, **changes)  # type: ignore[arg-type]


def audit_row(audit_id: int, action: str, reason: str = "", **changes: object) -> AuditRow:
    """Return a line of the audit."""
    usual = AuditRow(audit_id, NOW, "ann", "operator", "console", action, reason, 1, None, {})
    return replace(usual, **changes)  # type: ignore[arg-type]


PREDICTION = Prediction(
    PredictedOutcome.WOULD_DEAD_LETTER, "AMOUNT_MISMATCH", "the amount is not that of the order"
)


def detail(shown: LetterContent | None = None) -> LetterDetail:
    """Return all about one letter."""
    shown = shown or whole()
    return LetterDetail(
        whole=shown,
        attempts=(
            Attempt("AMOUNT_MISMATCH", shown.line.detail, "0.1.0 wallet-1:4711", 1, NOW, NOW, 1, None),
        ),
        replays=(
            Replay(
                UUID(int=3),
                OPERATION_ID,
                1,
                is_edit=False,
                state=ReplayState.FAILED,
                predicted=PREDICTION,
                code="AMOUNT_MISMATCH",
                detail="it came back",
                serial_no=None,
                ordered_at=NOW,
                published_at=NOW,
                ended_at=NOW,
            ),
        ),
        truth=LedgerView(
            outcome={"status": "applied", "code": "OK"},
            order=OrderView.model_validate(PENDING_ORDER_EXAMPLE),
            account=AccountView.model_validate(ACCOUNT_EXAMPLE),
            results=(),
        ),
        prediction=PREDICTION,
        runbook=RunbookLine(
            "AMOUNT_MISMATCH",
            "The gateway reports another amount than the order asked for.",
            "Nothing moved. Never edit it: ask the gateway for a corrected result, which arrives by itself.",
            "The payment gateway's support, with the payment_order_no and gateway_ref.",
        ),
        audit=(audit_row(1, "note", "asked the gateway, ticket 4711"),),
    )


def plan(**changes: object) -> Plan:
    """Return a plan that is ready."""
    usual = Plan(
        token=TOKEN,
        action=Action.REPLAY,
        state=PlanState.READY,
        made_by="ann",
        made_at=NOW,
        expires_at=NOW + timedelta(hours=1),
        reason="the gateway has corrected its amounts",
        filter=Filter(states=(LetterState.WAITING,), reason="AMOUNT_MISMATCH"),
        total=128,
        skipped=2,
        counts=(
            (Prediction(PredictedOutcome.WILL_APPLY), 117),
            (Prediction(PredictedOutcome.WOULD_DEAD_LETTER, "AMOUNT_MISMATCH"), 9),
            (Prediction(PredictedOutcome.REPEATS), 2),
        ),
        sample=tuple(PlannedLetter(number, f"R-{number}", PREDICTION) for number in range(1, 4)),
        pace=ReplayPace(canary=5),
        approved_by=None,
        operation_id=None,
    )
    return replace(usual, **changes)  # type: ignore[arg-type]


EDIT = plan(
    action=Action.EDIT,
    total=1,
    skipped=0,
    state=PlanState.NEEDS_APPROVAL,
    filter=Filter(ids=(1,)),
    counts=((Prediction(PredictedOutcome.WILL_APPLY), 1),),
    sample=(PlannedLetter(1, "R-1", Prediction(PredictedOutcome.WILL_APPLY)),),
    differences=(
        Difference("amount", "1.0", "1.00"),
        Difference("serial_no", "R-1", "R-1-mended"),
        Difference("note", "x", None),
    ),
    edited_body=b'{"type":"order.recharge.v1","serial_no":"R-1-mended","amount":"1.00"}',
)


def operation(**changes: object) -> Operation:
    """Return an operation that is running."""
    usual = Operation(
        operation_id=OPERATION_ID,
        action=Action.REPLAY,
        state=OperationState.RUNNING,
        actor="ann",
        approved_by="bob",
        reason="the gateway has corrected its amounts",
        filter=Filter(states=(LetterState.WAITING,), reason="AMOUNT_MISMATCH"),
        pace=ReplayPace(canary=5),
        total=128,
        ordered=60,
        published=12,
        resolved=51,
        failed=5,
        cancelled=0,
        standing="51 of 128 are resolved, 5 have failed; 12 are on their way.",
        started_at=NOW,
        ended_at=None,
    )
    return replace(usual, **changes)  # type: ignore[arg-type]


class Canned(DeadLetterDesk):
    """Answers with its attributes, and keeps what was asked of it in `asked`."""

    def __init__(self) -> None:
        super().__init__(
            Database("postgresql://nobody@127.0.0.1:1/none", role=READONLY_ROLE, application="test"),
            Policy.__new__(Policy),
            {},
        )
        self.lines: tuple[LetterSummary, ...] = tuple(line(number) for number in range(1, 4))
        self.detail = detail()
        self.shown_plan = plan()
        self.origin = "http://localhost:9310"
        self.shown_operation = operation()
        self.rows: tuple[AuditRow, ...] = (
            audit_row(
                2,
                "execute",
                "the gateway has corrected its amounts",
                operation_id=OPERATION_ID,
                detail={"total": 128},
            ),
            audit_row(1, "note", "asked the gateway"),
        )
        self.rows_next: int | None = None
        self.raises: Exception | None = None
        self.refusals: dict[str, Exception] = {}
        self.asked: list[tuple[str, object]] = []

    def _note(self, name: str, what: object = None) -> None:
        self.asked.append((name, what))
        refusal = self.refusals.get(name, self.raises)
        if refusal is not None:
            raise refusal

    @override
    async def letters(
        self, actor: Actor, which: Filter, *, after: int | None = None, limit: int = PAGE_LETTERS
    ) -> Page:
        self._note("letters", which)
        return Page(self.lines[:limit], self.lines[-1].letter_id if self.lines else None)

    @override
    async def count(self, actor: Actor, which: Filter) -> int:
        self._note("count", which)
        return 128

    @override
    async def groups(
        self, actor: Actor, which: Filter, *, span: timedelta = timedelta(hours=24), buckets: int = 24
    ) -> list[Group]:
        self._note("groups")
        series = tuple((7 * n * n) % 11 if n > 9 else 0 for n in range(buckets))
        ago = [NOW - timedelta(hours=h) for h in (30, 1)]
        return [
            Group(
                "AMOUNT_MISMATCH",
                "payment.results",
                164,
                128,
                ago[0],
                NOW - timedelta(minutes=2),
                series,
                191,
            ),
            Group("MALFORMED", "wallet.commands", 23, 9, ago[0], ago[1], series[::-1], 190),
            Group("BAD_SIGNATURE", "payment.results", 4, 4, ago[1], ago[1], (0,) * 20 + (3, 0, 0, 1), 189),
            Group("SERIAL_CONFLICT", "wallet.commands", 2, 0, ago[0], ago[0], (0,) * buckets, 188),
        ]

    @override
    async def overview(self, actor: Actor) -> Overview:
        self._note("overview")
        return Overview(
            states={
                LetterState.WAITING: 141,
                LetterState.REPLAYING: 12,
                LetterState.RESOLVED: 3204,
                LetterState.DISCARDED: 18,
            },
            oldest_waiting=NOW - timedelta(hours=30),
            last_arrival=NOW - timedelta(minutes=2),
            keeper_seen=NOW - timedelta(seconds=3),
            keeper_standing="",
            depths={"wallet.dead-letters": 0},
            running=1,
            awaiting_approval=1,
        )

    @override
    async def letter(self, actor: Actor, letter_id: int) -> LetterDetail:
        self._note("letter", letter_id)
        if letter_id > 1_000:
            msg = f"There is no letter {letter_id}."
            raise NotFoundError(msg)
        shown = self.detail
        if actor.role < Role.OPERATOR:
            shown = replace(shown, whole=replace(shown.whole, body=None))
        return shown

    @override
    async def plan(
        self, actor: Actor, action: Action, which: Filter, *, reason: str, pace: ReplayPace | None = None
    ) -> Plan:
        self._note("plan", (actor.name, action, which, reason, pace))
        if actor.role < Role.OPERATOR:
            msg = "A viewer looks and does nothing."
            raise NotAllowedError(msg)
        return self.shown_plan

    @override
    async def plan_edit(self, actor: Actor, letter_id: int, body: bytes, *, reason: str) -> Plan:
        self._note("plan_edit", body)
        return self.shown_plan

    @override
    async def plan_of(self, actor: Actor, token: str) -> Plan:
        self.asked.append(("plan_of", token))
        return self.shown_plan

    @override
    async def plans(self, actor: Actor, *, awaiting_approval: bool = False) -> list[Plan]:
        self._note("plans")
        return [self.shown_plan, EDIT]

    @override
    async def to_sign(self, actor: Actor, token: str) -> ToSign:
        self._note("to_sign", (actor.name, token))
        statement = SignedStatement(
            "plan", "default", ProofPurpose.APPROVAL, token, bytes(32), actor.name, NOW
        )
        passkey = OperatorKey(
            "0" * 16, actor.name, ProofAlgorithm.WEBAUTHN, b"public", b"credential", "localhost", self.origin
        )
        return ToSign(statement, (passkey,), Role.OPERATOR)

    @override
    async def sign(self, actor: Actor, token: str, signature: Signature, *, reason: str) -> Plan:
        self._note("sign", (actor.name, actor.role, token, signature, reason))
        return self.shown_plan

    @override
    async def keys_of(self, actor: Actor) -> list[KeyRow]:
        self._note("keys_of", actor.name)
        return [
            KeyRow(key, "approver", is_revoked=False, added_at=NOW)
            for key in (await self.to_sign(actor, TOKEN)).keys
        ]

    @override
    async def execute(self, actor: Actor, token: str) -> Operation:
        self._note("execute", (actor.name, actor.role, token))
        return self.shown_operation

    @override
    async def pause(self, actor: Actor, operation_id: UUID, *, reason: str) -> Operation:
        self._note("pause", reason)
        return self.shown_operation

    @override
    async def resume(self, actor: Actor, operation_id: UUID, *, reason: str) -> Operation:
        self._note("resume", reason)
        return self.shown_operation

    @override
    async def stop(self, actor: Actor, operation_id: UUID, *, reason: str) -> Operation:
        self._note("stop", reason)
        return self.shown_operation

    @override
    async def operation(self, actor: Actor, operation_id: UUID) -> Operation:
        self._note("operation", operation_id)
        return self.shown_operation

    @override
    async def operations(self, actor: Actor, *, limit: int = 50) -> list[Operation]:
        self._note("operations")
        return [self.shown_operation]

    @override
    async def note(self, actor: Actor, letter_id: int, text: str) -> AuditRow:
        self._note("note", (actor.name, letter_id, text))
        return self.rows[0]

    @override
    async def looked(self, actor: Actor, what: str, about: Mapping[str, str | int]) -> None:
        self._note("looked", (actor.name, what, dict(about)))

    @override
    async def export(self, actor: Actor, which: Filter) -> AsyncIterator[LetterContent]:
        self._note("export", which)
        yield self.detail.whole

    @override
    async def payload(self, actor: Actor, letter_id: int) -> bytes:
        self._note("payload", (actor.name, letter_id))
        return self.detail.whole.body or b""

    @override
    async def audit(
        self, actor: Actor, which: AuditFilter, *, after: int | None = None, limit: int = 100
    ) -> AuditPage:
        self._note("audit", which)
        return AuditPage(self.rows, self.rows_next)

    @override
    async def export_audit(self, actor: Actor, which: AuditFilter) -> AsyncIterator[AuditRow]:
        self._note("export_audit", which)
        for row in self.rows:
            yield row
