"""Every statement of the product, as its modules hold it.

Statements are constants that begin with a verb of SQL, or are written by functions whose name ends in `_sql`.
"""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType

import wallet_worker

VERB = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH|LOCK)\s")
NOT_FOR_POSTGRESQL = re.compile(r"\?|\{lock\}|(?<![:\w]):[a-z]")
"""A place for a value of SQLite's, one of a template, and one of SQLAlchemy's, with which `migrate` works."""


def statements() -> dict[str, str]:
    """Return the text of every statement, by the module and the name that it has there."""
    found: dict[str, str] = {}
    for module in _modules():
        for name, value in vars(module).items():
            if isinstance(value, str) and VERB.match(value) and not NOT_FOR_POSTGRESQL.search(value):
                found.setdefault(f"{module.__name__}.{name}", value)
            elif name.endswith("_sql") and callable(value) and value.__module__ == module.__name__:
                found[f"{module.__name__}.{name}"] = value()
    return found


def _modules() -> Iterator[ModuleType]:
    for package in pkgutil.walk_packages(wallet_worker.__path__, "wallet_worker."):
        if not package.name.startswith(("wallet_worker.store.migrations", "wallet_worker.__main__")):
            yield importlib.import_module(package.name)
