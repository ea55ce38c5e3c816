"""What to say of the database to a person: what it means, in the words of `sqlstate`.

Of what whoever runs the server can mend, the server's own sentence is added: which user, which database, which table.
Any other sentence of the server or its driver is about statements and values of this program, and for the log.
"""

from typing import Final

import asyncpg

from wallet_worker.store.errors import StoreError
from wallet_worker.store.sqlstate import rule_of

_FOR_OPERATORS: Final = (
    "28",  # who may connect
    "3D",  # which databases there are
    "53",  # what the server has run out of
    "57P",  # starting, stopping
    "42501",  # privileges
    "22023",  # roles that are not there
)
OF_THE_ADDRESS: Final = "it names a setting"
_UNKNOWN_SETTING: Final = "unrecognized configuration parameter"


def explain(exc: StoreError) -> str:
    """Return why the database did not do something, as a clause for a person."""
    cause = exc.__cause__
    while isinstance(cause, StoreError):
        cause = cause.__cause__
    rule = None if cause is None else rule_of(cause)
    if rule is None:
        return str(exc)  # a sentence of this program's own
    if isinstance(cause, asyncpg.UndefinedObjectError) and str(cause).startswith(_UNKNOWN_SETTING):
        # No statement of this program names a setting that some PostgreSQL does not have.
        return f"{OF_THE_ADDRESS} that the server does not know: {str(cause).splitlines()[0]}"
    is_for_operators = isinstance(cause, asyncpg.PostgresError) and (cause.sqlstate or "").startswith(
        _FOR_OPERATORS
    )
    sentence = str(cause.args[0]).strip() if is_for_operators and cause is not None and cause.args else ""
    return f"{rule.meaning}: {sentence}" if sentence else rule.meaning
