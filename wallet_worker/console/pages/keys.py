"""The reader's own keys, and a new passkey, whose public half the database's owner adds."""

from starlette.responses import Response

from wallet_worker.console.request import Form, PageContext
from wallet_worker.console.security import passkeys
from wallet_worker.core.proofs import OperatorKey, ProofAlgorithm, public_text
from wallet_worker.dead_letters.model.errors import NotPossibleError


async def keys(visit: PageContext) -> Response:
    """Show the reader's keys, and what makes a passkey."""
    return await _show(visit)


async def show_public(visit: PageContext, form: Form) -> Response:
    """Show the public half of a passkey that the browser has just made. Nothing is stored."""
    try:
        key = passkeys.made(
            visit.user.name, _origin(visit), passkeys.challenge_of(visit.session.csrf), form.get("passkey")
        )
    except ValueError:
        msg = "the browser sent no new passkey. Open the page again, and make it there"
        raise NotPossibleError(msg) from None
    return await _show(visit, key)


async def _show(visit: PageContext, made: OperatorKey | None = None) -> Response:
    known = await visit.parts.operations.keys_of(visit.actor)
    origin = _origin(visit)
    options = None
    if passkeys.rp_id_of(origin) is not None:
        options = passkeys.making_options(
            visit.user.name,
            origin,
            passkeys.challenge_of(visit.session.csrf),
            [row.key for row in known if not row.is_revoked],
        )
    return visit.show(
        "keys.html",
        keys=known,
        options=options,
        origin=origin,
        made=made,
        public=None if made is None else public_text(made),
        ProofAlgorithm=ProofAlgorithm,
    )


def _origin(visit: PageContext) -> str:
    return visit.parts.origin.of(visit.request.headers.get("host", "")) or ""
