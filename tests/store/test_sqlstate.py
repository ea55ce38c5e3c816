"""The table of errors is total: over what PostgreSQL has published, over what the driver raises, and beyond."""

import ssl
from pathlib import Path

import asyncpg
import pytest
from asyncpg.exceptions import _base

from tests.servers.postgres import find_binaries
from tests.servers.server import ServersUnavailable
from wallet_worker.store.errors import (
    ConflictError,
    InvariantBrokenError,
    StatementRejectedError,
    StoreError,
    UnavailableError,
    translate_errors,
    translated,
    waited_for,
)
from wallet_worker.store.sqlstate import (
    CLASSES,
    CLIENT,
    CODES,
    CONSTRAINTS,
    UNKNOWN,
    Verdict,
    rule_of,
    rule_of_code,
)


def _of_this_server() -> set[str]:
    """Return the codes of the list that comes with PostgreSQL, where one is installed."""
    try:
        path = find_binaries().parent / "share" / "errcodes.txt"
    except ServersUnavailable:
        return set()
    return _listed(path) if path.exists() else set()


def _listed(path: Path) -> set[str]:
    lines = (line.split() for line in path.read_text().splitlines())
    return {words[0] for words in lines if len(words) >= 3 and words[1] in {"E", "W", "S"}}


OF_THE_SERVER: list[tuple[str, type[BaseException]]] = sorted(
    vars(_base.PostgresMessageMeta)["_message_map"].items()
)
PUBLISHED = {*dict(OF_THE_SERVER), *_of_this_server()}
"""The driver's own list is made from PostgreSQL's; both, so that neither may lag behind the other."""


def _all(kind: type[BaseException]) -> list[type[BaseException]]:
    return [kind, *(item for child in kind.__subclasses__() for item in _all(child))]


OF_THE_DRIVER = [
    kind
    for kind in (*_all(asyncpg.InterfaceError), *_all(asyncpg.InternalClientError))
    if kind.__module__.startswith("asyncpg.")  # our own have the rule of the class that they are of
]


def test_every_published_class_has_a_rule_and_no_rule_is_for_a_class_that_was_never_published() -> None:
    assert len(PUBLISHED) > 260
    assert {code[:2] for code in PUBLISHED} | {"00"} == set(CLASSES)  # the driver leaves out what is no error
    assert set(CODES) <= PUBLISHED


def test_every_error_of_the_driver_itself_has_a_rule() -> None:
    assert set(OF_THE_DRIVER) <= set(CLIENT)


def test_no_exception_repeats_what_its_class_says() -> None:
    assert [code for code, rule in CODES.items() if rule == CLASSES[code[:2]]] == []


@pytest.mark.parametrize(("sqlstate", "kind"), OF_THE_SERVER)
def test_every_error_of_the_server_comes_out_as_what_the_table_says(
    sqlstate: str, kind: type[BaseException]
) -> None:
    if not issubclass(kind, asyncpg.PostgresError):
        return  # a warning, which the server sends beside an answer
    wanted = {
        Verdict.MESSAGE: StatementRejectedError,
        Verdict.BEGIN_AGAIN: ConflictError,
        Verdict.WAIT: UnavailableError,
        Verdict.STOP: InvariantBrokenError,
    }[rule_of_code(sqlstate).verdict]

    with pytest.raises(wanted, match=sqlstate), translate_errors():
        raise kind("as the server would say")


@pytest.mark.parametrize(
    "kind", [*OF_THE_DRIVER, OSError, TimeoutError, ConnectionResetError, EOFError, ssl.SSLError]
)
def test_no_error_of_the_driver_passes_as_it_is(kind: type[BaseException]) -> None:
    with pytest.raises(StoreError), translate_errors():
        raise kind("as the driver would say")


@pytest.mark.parametrize("sqlstate", ["57P99", "53999", "40999", "58XYZ", "0A999"])
def test_a_code_that_is_not_published_goes_by_its_class(sqlstate: str) -> None:
    assert rule_of_code(sqlstate) == CLASSES[sqlstate[:2]]


@pytest.mark.parametrize("sqlstate", ["", "45000", "ZZ000", "WX001", "99999"])
def test_a_class_that_is_not_published_is_waited_for(sqlstate: str) -> None:
    assert rule_of_code(sqlstate) == UNKNOWN
    assert UNKNOWN.verdict is Verdict.WAIT


def test_an_error_without_a_class_of_the_driver_s_goes_by_its_code() -> None:
    unknown = asyncpg.PostgresError.new({"C": "57P99", "M": "a reason of tomorrow", "S": "FATAL"})

    assert type(unknown) is asyncpg.UnknownPostgresError
    assert rule_of(unknown) == CLASSES["57"]


def test_only_what_judges_a_value_is_a_message_s_fault() -> None:
    """Whoever adds to this list says of a fault of the server that it is a message's."""
    at_fault = {code for code in PUBLISHED if rule_of_code(code).verdict is Verdict.MESSAGE}

    assert {code for code in at_fault if code[:2] != "22"} == {"21000", "54000"}
    assert {code for code in PUBLISHED if code[:2] == "22"} - at_fault == {"22023", "22P03", "22P04", "2200H"}


def test_a_violation_goes_by_the_name_of_its_constraint() -> None:
    assert rule_of_code("23505", "commands_pkey").verdict is Verdict.BEGIN_AGAIN
    assert rule_of_code("23505", "entries_pkey").verdict is Verdict.STOP
    assert rule_of_code("23514", "somebody_s_check").verdict is Verdict.MESSAGE
    assert rule_of_code("23514", None).verdict is Verdict.WAIT  # such as a row without a partition
    assert rule_of_code("23502", None).verdict is Verdict.WAIT


async def test_the_constraints_of_the_table_are_those_of_the_schema(owner: asyncpg.Connection) -> None:
    names = await owner.fetch(
        """
        SELECT i.relname FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
        WHERE x.indisunique AND i.relnamespace = 'wallet'::regnamespace
        """
    )

    assert set(CONSTRAINTS) <= {row[0] for row in names}


@pytest.mark.parametrize("sqlstate", ["22023", "22021", "23514", "42501", "26000", "57P01", "ZZ000"])
def test_where_no_message_takes_part_nothing_is_a_message_s_fault(sqlstate: str) -> None:
    exc = asyncpg.PostgresError.new({"C": sqlstate, "M": "no", "n": "somebody_s_check"})

    with pytest.raises(UnavailableError), waited_for():
        raise exc


def test_a_plan_that_a_change_of_the_schema_has_made_invalid_is_begun_again() -> None:
    stale = asyncpg.PostgresError.new(
        {"C": "0A000", "M": "wie immer es auf Deutsch heisst", "R": "RevalidateCachedQuery"}
    )
    other = asyncpg.PostgresError.new({"C": "0A000", "M": "no such thing on a standby", "R": "Else"})

    assert type(translated(stale)) is ConflictError
    assert isinstance(translated(other), UnavailableError)


def test_a_person_reads_what_happened_and_no_row_and_no_class_name() -> None:
    full = asyncpg.PostgresError.new(
        {
            "C": "53100",
            "M": "could not extend file",
            "D": "Failing row contains (balance 1).",
            "H": "Check free disk.",
        }
    )

    assert str(translated(full)) == "the server's disk is full: could not extend file (SQLSTATE 53100)"
    assert str(translated(TimeoutError())) == "the database does not answer in time"
    assert str(translated(ConnectionRefusedError(111, "Connection refused"))) == (
        "the database cannot be reached: nobody listens there"
    )
