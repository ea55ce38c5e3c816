"""One word, one meaning: what a name would have to be explained for."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.documents.pages import ROOT

PRODUCT = ("wallet_worker", "payment_simulator", "schemas/wallet_schemas")
MIGRATIONS = "versions"  # what has landed is never edited

# Each of these was the name of half a dozen things: a text, a header, a form, a result, an element of any list.
NOT_NAMES = frozenset(
    {"said", "say", "says", "told", "tell", "asked", "asking", "one", "ones", "passing", "naming"}
)

# `said_at` leaves open what was done then: an event was sent, or a plan was signed.
NOT_PARTS = frozenset({"said", "told", "asking", "telling"})

HIDING = ("Have ", "Let ", "Know ")


@cache
def modules() -> dict[str, ast.Module]:
    """Return the modules of the product, by path."""
    paths = (path for folder in PRODUCT for path in sorted((ROOT / folder).rglob("*.py")))
    return {
        path.relative_to(ROOT).as_posix(): ast.parse(path.read_text())
        for path in paths
        if MIGRATIONS not in path.parts
    }


def test_every_public_class_has_a_name_of_its_own() -> None:
    places: defaultdict[str, list[str]] = defaultdict(list)
    for path, module in modules().items():
        for node in module.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(path)

    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


def test_nothing_is_named_by_a_word_of_many_meanings() -> None:
    found = [
        f"{path}: {name}"
        for path, module in modules().items()
        for name in _named(module)
        if name in NOT_NAMES
    ]

    assert found == []


def test_no_name_has_a_word_in_it_that_hides_what_was_meant() -> None:
    found = [
        f"{path}: {name}"
        for path, module in modules().items()
        for name in (*_named(module), *_classes_and_keywords(module))
        if NOT_PARTS & parts(name)
    ]

    assert found == []


def test_the_parts_of_a_name_are_its_words_however_it_is_written() -> None:
    assert parts("said_at") == {"said", "at"}
    assert parts("_SaidHTTPMessage2") == {"said", "http", "message", "2"}


def parts(name: str) -> set[str]:
    """Return the words of a name that is written as snake_case or as CamelCase, in lower case."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", name)}


def _classes_and_keywords(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        match node:
            case ast.ClassDef(name=name) | ast.keyword(arg=str(name)):
                yield name
            case _:
                pass


def _named(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name.lstrip("_")
            case ast.Attribute(attr=name, ctx=ast.Store()):
                yield name.lstrip("_")
            case _:
                pass


def test_no_docstring_begins_with_a_verb_that_hides_who_does_it() -> None:
    """The first word is what the code does: lock, return, publish. "Have it locked" leaves out who locks."""
    found = [
        f"{path}: {sentence}"
        for path, module in modules().items()
        for node in ast.walk(module)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and (sentence := (ast.get_docstring(node) or "").partition("\n")[0]).startswith(HIDING)
    ]

    assert found == []


def test_no_module_is_named_by_one_of_them() -> None:
    assert {Path(path).stem for path in modules()} & NOT_NAMES == set()
