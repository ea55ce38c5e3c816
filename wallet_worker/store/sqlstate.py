"""What each error of PostgreSQL and of its driver means for the work in hand: one total table.

PostgreSQL names every error by an SQLSTATE: five characters, of which the first two are its class
(https://www.postgresql.org/docs/current/errcodes-appendix.html). `CODES` goes before `CLASSES`, and `UNKNOWN` is for
what neither names. `CLIENT` is for the driver's own errors, which have no SQLSTATE, and `CONSTRAINTS` for constraints
that judge something else than a message. A test holds them to the published list, to the driver and to the schema.

Only a value can be a message's fault. The session, the plan, the schema, the privileges and the server never are: what
is not known to come from a value waits. Waiting moves no money, and a dead letter of an innocent message would need a
person.
"""

import socket
import ssl
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

import asyncpg
from asyncpg.exceptions._base import DataError as ClientDataError


class Verdict(StrEnum):
    """What is done about an error."""

    MESSAGE = "message"
    """A value of the message cannot be stored: halve the batch, and set the message aside."""
    BEGIN_AGAIN = "begin again"
    """Nothing was written, and the same may succeed at once: begin again, a bounded number of times, then wait."""
    WAIT = "wait"
    """The infrastructure: wait until it is mended, say so, and go on."""
    STOP = "stop"
    """A bug of this program: stop, and acknowledge nothing."""


class Cause(StrEnum):
    """What somebody has to look at while the wallet waits."""

    SERVER = "server"
    """The server or the network."""
    ACCESS = "access"
    """The user, the password, or the server's list of who may connect."""
    SCHEMA = "schema"
    """The tables, the privileges or the settings of the database: `wallet doctor` says which."""


class Rule(NamedTuple):
    """What an error means. `meaning` is a clause for a person, to which the server's own sentence is added."""

    verdict: Verdict
    meaning: str
    cause: Cause = Cause.SERVER


_WAIT, _MESSAGE, _AGAIN, _STOP = Verdict.WAIT, Verdict.MESSAGE, Verdict.BEGIN_AGAIN, Verdict.STOP

_VALUE = Rule(_MESSAGE, "the database cannot store a value")
_BEGIN_AGAIN = Rule(_AGAIN, "the transaction was rolled back because of another one")
_FOREIGN_CODE = Rule(_WAIT, "a function or a trigger that is not the wallet's has failed", Cause.SCHEMA)
_SESSION = Rule(
    _WAIT,
    "the session is not as this program left it, which a pooler in transaction mode does: connect without it",
)
_SCHEMA = Rule(_WAIT, "the schema is not the one that this program was written for", Cause.SCHEMA)
_PRIVILEGES = Rule(_WAIT, "a privilege is missing", Cause.SCHEMA)
_RESOURCES = Rule(_WAIT, "the server has run out of something")
_STATEMENT = Rule(_STOP, "a statement of this program is wrong")
_NOT_ERRORS = Rule(_WAIT, "the server reports as an error what is none")

CLASSES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        "00": _NOT_ERRORS,
        "01": _NOT_ERRORS,
        "02": _NOT_ERRORS,
        "03": _SESSION,
        # Poolers report under this class whatever goes wrong between them and the server.
        "08": Rule(_WAIT, "the connection to the database failed"),
        "09": _FOREIGN_CODE,  # a trigger's; the wallet's own raise 23001
        # Such as what a standby cannot do. A cached plan that a change of the schema has made invalid comes under this
        # class too: the driver has an error of its own for it, in CLIENT.
        "0A": Rule(_WAIT, "the server does not support what it was asked"),
        "0B": _SESSION,
        "0F": _FOREIGN_CODE,
        "0L": _PRIVILEGES,
        "0P": _PRIVILEGES,  # a role that does not exist
        "0Z": _FOREIGN_CODE,
        "10": _FOREIGN_CODE,
        "20": _FOREIGN_CODE,
        # Two rows where a statement takes one: it depends on what is in the batch, and halving it helps.
        "21": Rule(_MESSAGE, "a statement found more rows than it can take"),
        "22": _VALUE,
        # A constraint that has a name judges a value, whoever has added it (`rule_of_code`). Without a name it is
        # the table that cannot hold a row, such as one for which there is no partition.
        "23": Rule(_WAIT, "the table cannot hold the row", Cause.SCHEMA),
        "24": _SESSION,
        "25": _SESSION,
        "26": _SESSION,  # a prepared statement that this server connection has never seen
        "27": _FOREIGN_CODE,
        "28": Rule(_WAIT, "the database does not let this login in", Cause.ACCESS),
        "2B": _PRIVILEGES,
        "2D": _SESSION,
        "2F": _FOREIGN_CODE,
        "34": _SESSION,
        "38": _FOREIGN_CODE,
        "39": _FOREIGN_CODE,
        "3B": _SESSION,
        "3D": Rule(_WAIT, "the database does not exist"),
        "3F": _SCHEMA,
        "40": _BEGIN_AGAIN,
        # The text of every statement is checked against the schema by a test: when one fails all the same, somebody has
        # changed the schema, and the statement works again once it is as it was. The rest of the class is in CODES.
        "42": _SCHEMA,
        "44": _FOREIGN_CODE,  # a view of somebody's in place of a table
        "53": _RESOURCES,
        "54": Rule(_WAIT, "a limit of the server was met"),
        "55": Rule(_WAIT, "the database is in no state for this"),
        "57": Rule(_WAIT, "the server has ended the work, or is not ready for it"),
        "58": Rule(_WAIT, "the server's own files or disks failed"),
        "72": _BEGIN_AGAIN,  # the snapshot is too old; before PostgreSQL 17
        "F0": Rule(_WAIT, "the server's configuration is wrong"),
        "HV": _FOREIGN_CODE,  # a foreign table of somebody's
        "P0": _FOREIGN_CODE,
        # Also what is passing, such as "cache lookup failed" while a table is replaced.
        "XX": Rule(_WAIT, "the server has failed inside"),
    }
)
"""By class, for every code of it that is not in CODES."""

CODES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        # What PgBouncer says of a setting that it does not pass on, of a server that is away, and of much else.
        "08P01": Rule(
            _WAIT,
            "the server, or a pooler before it, refuses what it was sent; the wallet needs a direct connection",
        ),
        # Class 22 is for values, but for these.
        "22023": Rule(
            _WAIT, "a setting of the session is refused", Cause.SCHEMA
        ),  # a role that does not exist, too
        "22P03": _SESSION,  # the driver's bytes are not what the server expects of a type: it has changed
        "22P04": _SESSION,
        "2200H": _RESOURCES,  # a sequence is at its end
        # The triggers that keep the ledger and the audit append-only.
        "23001": Rule(_STOP, "something was to change that is written once"),
        # No statement leaves out a column of its own, and none gives NULL where the schema forbids it: it is a column
        # that somebody has added without a default.
        "23502": Rule(_WAIT, "a column that is not the wallet's has to be given", Cause.SCHEMA),
        "25006": Rule(_WAIT, "the database is read-only, as a standby is"),
        "25P02": _BEGIN_AGAIN,  # what follows a failure in the same transaction; nothing was written
        "25P03": Rule(_WAIT, "the server has ended a transaction that was idle too long"),
        "25P04": Rule(_WAIT, "the server has ended a transaction that took too long"),
        "40003": Rule(_WAIT, "the server does not know whether the statement was completed"),
        # Class 42 is for a schema that was changed, but for these.
        "42501": _PRIVILEGES,
        "42P03": _SESSION,
        "42P05": _SESSION,  # a prepared statement that another client of a pooler has made
        "42601": _STATEMENT,
        "42602": _STATEMENT,
        "42622": _STATEMENT,
        "42712": _STATEMENT,
        "42803": _STATEMENT,
        "42P02": _STATEMENT,
        "42P08": _STATEMENT,
        "42P09": _STATEMENT,
        "42P18": _STATEMENT,
        "42P19": _STATEMENT,
        "42P20": _STATEMENT,
        "53100": Rule(_WAIT, "the server's disk is full"),
        "53200": Rule(_WAIT, "the server is out of memory"),
        "53300": Rule(_WAIT, "the server takes no more connections"),
        "54000": _VALUE,  # larger than an index or a field can hold
        "55P03": Rule(_AGAIN, "a lock was not given in time"),
        "57014": Rule(_WAIT, "the server has cancelled a statement, mostly because it took too long"),
        "57P01": Rule(_WAIT, "the server has ended the connection, mostly because it shuts down"),
        "57P02": Rule(_WAIT, "the server has crashed, and starts anew"),
        "57P03": Rule(_WAIT, "the server takes no connections yet"),
    }
)
"""By code, where one means something else than its class."""

UNKNOWN: Final = Rule(_WAIT, "the server reports what no version of PostgreSQL has published")
"""A class that is not published: an extension's, or of a function of somebody's."""

CLIENT: Final[Mapping[type[BaseException], Rule]] = MappingProxyType(
    {
        asyncpg.InvalidCachedStatementError: Rule(_AGAIN, "the schema has changed, and plans are made anew"),
        asyncpg.OutdatedSchemaCacheError: Rule(_AGAIN, "the schema has changed, and types are read anew"),
        asyncpg.InterfaceError: Rule(_WAIT, "the connection cannot be used"),
        # What is wrong from the beginning is refused as a setting; a certificate may come back.
        asyncpg.ClientConfigurationError: Rule(
            _WAIT, "the address of the database cannot be used", Cause.ACCESS
        ),
        ClientDataError: _VALUE,  # what the driver cannot encode; mostly it says so as SQLSTATE 22000
        asyncpg.UnsupportedClientFeatureError: Rule(_WAIT, "the server asks for what the driver cannot"),
        asyncpg.UnsupportedServerFeatureError: Rule(_WAIT, "the server cannot do what the driver asks for"),
        asyncpg.InternalClientError: Rule(_WAIT, "the server's answer cannot be read"),
        asyncpg.ProtocolError: Rule(_WAIT, "the server's answer cannot be read"),
        asyncpg.TargetServerAttributeNotMatched: Rule(_WAIT, "none of the servers is the primary"),
        TimeoutError: Rule(_WAIT, "the database does not answer in time"),
        ssl.SSLError: Rule(_WAIT, "the encrypted connection to the database failed", Cause.ACCESS),
        EOFError: Rule(_WAIT, "the connection ended in the middle"),
        ssl.SSLCertVerificationError: Rule(
            _WAIT, "the certificate of the database is not one that this machine believes", Cause.ACCESS
        ),
        socket.gaierror: Rule(_WAIT, "the database cannot be reached: its host is not known"),
        ConnectionRefusedError: Rule(_WAIT, "the database cannot be reached: nobody listens there"),
        # The driver's own: what listens there does not answer as PostgreSQL does when TLS is asked for.
        ConnectionError: Rule(
            _WAIT,
            "the database cannot be reached: what listens there speaks no TLS, or is no PostgreSQL",
        ),
        **dict.fromkeys(
            (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, OSError),
            Rule(_WAIT, "the database cannot be reached"),
        ),
    }
)
"""By type, for what the driver raises by itself; of several that fit, the most specific one."""

CONSTRAINTS: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        # Two workers may meet at these without either being wrong: the loser reads again.
        **dict.fromkeys(
            (
                *("commands_pkey", "accounts_open_key", "accounts_account_no_key", "orders_serial_no_key"),
                "gateway_refs_pkey",
            ),
            Rule(_AGAIN, "another worker was first"),
        ),
        # Locked and guarded rows cannot meet at it: the ledger is not what it was read as.
        "entries_pkey": Rule(_STOP, "a line of the ledger is there already"),
    }
)
"""By name, the constraints whose violation is not the fault of a message."""

_OF_A_CONSTRAINT: Final = frozenset({"23000", "23503", "23505", "23514", "23P01"})


def rule_of(exc: BaseException) -> Rule | None:
    """Return what an error means, or None for what comes neither from the server nor from its driver."""
    if isinstance(exc, asyncpg.PostgresError) and type(exc) not in CLIENT:
        return rule_of_code(exc.sqlstate or "", exc.constraint_name)
    for kind in type(exc).__mro__:
        if kind in CLIENT:
            return CLIENT[kind]
    return None


def rule_of_code(sqlstate: str, constraint: str | None = None) -> Rule:
    """Return what a code means; of a constraint's violation, what the name of the constraint says."""
    if sqlstate in _OF_A_CONSTRAINT and constraint:
        return CONSTRAINTS.get(constraint, _VALUE)
    return CODES.get(sqlstate) or CLASSES.get(sqlstate[:2]) or UNKNOWN
