"""Texts and bytes from outside, made harmless to look at: they are whatever an attacker wanted them to be."""

import json
from collections.abc import Iterator
from typing import NamedTuple

from markupsafe import Markup, escape

from wallet_worker.text import escaped, printable

HEX_LINE_BYTES = 16
_LINE_END = "\n"


def shown(text: object) -> Markup:
    """Return it for a page: escaped, with what would not be seen marked, and turning nothing around it about."""
    return Markup("<bdi>%s</bdi>") % _marked(str(text), keep="")


def shown_lines(text: str) -> Markup:
    """Return a text of several lines for a `pre`, in the same way."""
    return _marked(text, keep=_LINE_END)


def _marked(text: str, *, keep: str) -> Markup:
    if text.isprintable():
        return escape(text)
    pieces: list[str] = []
    run: list[str] = []
    for mark in text:
        if mark.isprintable() or mark in keep:
            run.append(mark)
        else:
            pieces.append(str(escape("".join(run))))
            run.clear()
            pieces.append(f'<span class="unseen">{escaped(mark)}</span>')
    pieces.append(str(escape("".join(run))))
    return Markup("".join(pieces))  # noqa: S704 -- every piece was escaped above


def editable(pretty: str | None, body: bytes) -> str:
    """Return a payload for a text field: what would not be seen of it stands there as JSON's own escapes.

    `pretty` is the payload as indented JSON, if it is JSON. What is none comes as it can be read.
    """
    if pretty is None:
        return plain_lines(body.decode(errors="backslashreplace"))
    return "".join(
        mark if mark.isprintable() or mark == _LINE_END else json.dumps(mark)[1:-1] for mark in pretty
    )


def plain_lines(text: str) -> str:
    """Return the text, its line ends kept, with what would not be seen written out."""
    return "\n".join(printable(line) for line in text.split(_LINE_END))


class HexLine(NamedTuple):
    """Sixteen bytes, or fewer at the end."""

    offset: str
    bytes: str
    text: str


def hex_lines(body: bytes) -> Iterator[HexLine]:
    """Give the bytes as a hex dump."""
    for at in range(0, len(body), HEX_LINE_BYTES):
        part = body[at : at + HEX_LINE_BYTES]
        halves = part[:8].hex(" "), part[8:].hex(" ")
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "·" for byte in part)  # noqa: PLR2004 -- printable ASCII
        yield HexLine(f"{at:06x}", "  ".join(halves).strip().ljust(49), text)
