"""The breakable servers of the faults, which the tests of their harness break too."""

from tests.faults.conftest import breakable, breakable_migrated_url, make_world

__all__ = ["breakable", "breakable_migrated_url", "make_world"]
