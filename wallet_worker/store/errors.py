"""What can go wrong with the database, in the three kinds that the wallet acts on, and one more.

Driver errors become these here and nowhere else, by constraint name and SQLSTATE.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

_RACES = frozenset(
    {
        "commands_pkey",
        "accounts_open_key",
        "accounts_account_no_key",
        "orders_serial_no_key",
    }
)
"""Constraints that two workers may meet at without either being wrong: the loser reads again."""


_BROKEN = frozenset({"entries_pkey"})
"""Constraints that locked and guarded rows cannot meet at: the ledger is not what it was read as."""


class StoreError(Exception):
    """Anything below."""


class UnavailableError(StoreError):
    """The database is away, too slow, or read-only: pause and try again. Nothing is known of a commit."""


class NotLetInError(UnavailableError):
    """The database is there and does not know the user, the password or this machine; somebody may be changing them."""


class LostRaceError(StoreError):
    """Another worker was first, or both waited for each other: nothing was written, read again."""


class RefusedError(StoreError):
    """The database will not have this: nothing was written, and trying again changes nothing."""


class InvariantBrokenError(StoreError):
    """A row was not as it must be: our bug. Stop, and acknowledge nothing."""


@contextmanager
def mapped() -> Iterator[None]:
    """Raise the errors above instead of the driver's."""
    try:
        yield
    except asyncpg.UniqueViolationError as exc:
        if exc.constraint_name in _RACES:
            raise LostRaceError(exc.constraint_name) from exc
        if exc.constraint_name in _BROKEN:
            raise InvariantBrokenError(_said(exc)) from exc
        raise RefusedError(_said(exc)) from exc
    except (
        asyncpg.DeadlockDetectedError,
        asyncpg.SerializationError,
        asyncpg.LockNotAvailableError,
    ) as exc:
        raise LostRaceError(type(exc).__name__) from exc
    except (
        asyncpg.PostgresConnectionError,
        asyncpg.InvalidAuthorizationSpecificationError,
        asyncpg.InsufficientResourcesError,  # disk full, out of memory, too many connections
        asyncpg.OperatorInterventionError,  # shutting down, cannot connect now, query cancelled
        asyncpg.ReadOnlySQLTransactionError,  # still on the old primary after a failover
        asyncpg.PostgresSystemError,  # the server's own input and output
        asyncpg.InternalServerError,
        asyncpg.IdleInTransactionSessionTimeoutError,
        asyncpg.InvalidCatalogNameError,
        asyncpg.ObjectNotInPrerequisiteStateError,  # the database takes no connections
    ) as exc:
        is_shut_out = isinstance(exc, asyncpg.InvalidAuthorizationSpecificationError)
        kind = NotLetInError if is_shut_out else UnavailableError
        raise kind(f"{type(exc).__name__}: {exc}") from exc
    except asyncpg.SyntaxOrAccessError as exc:
        # A missing table or privilege is no message's fault: nothing may be set aside for it.
        raise InvariantBrokenError(_said(exc)) from exc
    except asyncpg.ClientConfigurationError as exc:
        raise InvariantBrokenError(f"the address of the database is wrong: {exc}") from exc
    except asyncpg.PostgresError as exc:
        raise RefusedError(_said(exc)) from exc
    except (
        OSError,
        TimeoutError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,  # the server has ended a connection, and the driver is not done reading why
    ) as exc:
        raise UnavailableError(f"{type(exc).__name__}: {exc}") from exc


def _said(exc: asyncpg.PostgresError) -> str:
    """Return the server's sentence without its DETAIL, which has the row in it, balances and all."""
    return f"{type(exc).__name__}: {exc.args[0] if exc.args else ''}"
