"""What people must never read: patterns, representations, names of classes, drivers' sentences, stacks.

The helpers of the tests through which output comes (`tests.cli.terminal`, the browsers of `tests.console.stage`) hand
all of it to `assert_for_people`, so that a word for programmers fails the test in which it is shown, whatever the test
is about. So do the errors of the client, see `conftest`.
"""

import re
from typing import Final

NOT_FOR_PEOPLE: Final = {
    "a regular expression": re.compile(r"should match pattern|\(\?[:=!<]|\[\^?[A-Za-z0-9]-[A-Za-z0-9][^\]\s]*\][+*{$]"),
    "a stack": re.compile(r"Traceback \(most recent call last\)|^  File \"[^\"]+\", line \d+", re.MULTILINE),
    "a driver's sentence": re.compile(
        r"query argument \$\d|asyncpg|aiormq|aio_pika|pamqp|psycopg|sqlalchemy\.|pydantic|starlette|\[Errno \d+\]"
        r"|relation \"[^\"]+\" does not exist|column \"?[\w.]+\"? does not exist|SQLSTATE [0-9A-Z]{5}|cursor .* exist"
    ),
    "the name of an error": re.compile(r"\b(?:[A-Z][a-z0-9]+){1,}(?:Error|Exception|Warning)\b"),
    "a representation": re.compile(
        r"<[\w.]+ object at 0x|<class '|<function |datetime\.datetime\(|UUID\('|SecretStr\(|Decimal\('|Timestamp\("
        r"|\{'\w+': |\[\('|\bb'[^']*\\x|\bNoneType\b|<\w+\.\w+: "
    ),
    "a word of Python's": re.compile(
        r"\bValue error, |Input should be a valid (?:dictionary|tuple)|validation errors? for "
        r"|unable to parse string|found `.` at \d"
    ),
}  # fmt: skip


def words_for_programmers(text: str) -> list[str]:
    """Return what of a text people must not read, with what it is."""
    return [
        f"{kind}: {found[0]!r}" for kind, pattern in NOT_FOR_PEOPLE.items() if (found := pattern.search(text))
    ]


def assert_for_people(text: str) -> None:
    """It has nothing in it that only programmers understand."""
    found = words_for_programmers(text)
    assert not found, f"{'; '.join(found)}, in: {text[:2_000]}"
