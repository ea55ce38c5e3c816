r"""Untrusted text made safe: to be printed, written as UTF-8, or stored by PostgreSQL.

Text from outside may contain control characters that steer a terminal, direction marks that reorder a line, bytes that
are not UTF-8 (Python keeps them as lone surrogates), and NUL, which PostgreSQL stores in no text.
"""

REPLACEMENT = "\ufffd"


def printable(text: str) -> str:
    r"""Return the text with control characters, direction marks and their like written as `\x1b`, `\u202e`, ….

    The result has no line ends, so that nobody can fake a line of the wallet.
    """
    if text.isprintable():
        return text
    return "".join(mark if mark.isprintable() else escaped(mark) for mark in text)


def escaped(mark: str) -> str:
    r"""Return one character as an escape in ASCII, such as `\x1b`."""
    return mark.encode("unicode_escape").decode("ascii")


def readable(text: str) -> str:
    r"""Return text that can be written as UTF-8: what is not UTF-8 stands there as `\xff` or `\ud800`."""
    try:
        raw = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a pair that no byte was read as
        raw = text.encode("utf-8", "backslashreplace")
    return raw.decode("utf-8", "backslashreplace")


def without_nul(text: str) -> str:
    """Return text that PostgreSQL can store, from text that can be written as UTF-8."""
    return text.replace("\0", REPLACEMENT)


def storable(text: str, bytes_max: int) -> str:
    """Return text that PostgreSQL can store, cut to `bytes_max` bytes of UTF-8.

    U+FFFD stands for what is not UTF-8, and for NUL.
    """
    replaced = without_nul(text.encode(errors="surrogateescape").decode(errors="replace"))
    return replaced.encode()[:bytes_max].decode(errors="ignore")
