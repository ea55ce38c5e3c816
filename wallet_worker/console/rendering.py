"""From values to pages: everything is escaped, and what cannot be seen is written out."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from wallet_worker.console import charts, labels, query_params, untrusted_text
from wallet_worker.settings.operators import Role
from wallet_worker.text import printable

ASSETS_FOLDER = Path(__file__).parent / "assets"

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
_KIB = 1_024


def environment() -> Environment:
    """Return what renders the templates."""
    env = Environment(
        loader=PackageLoader("wallet_worker.console"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_harmless,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters.update(
        shown=untrusted_text.shown,
        shown_lines=untrusted_text.shown_lines,
        exact=_exact,
        when=when,
        ago=ago,
        lasting=lasting,
        number=number,
        size=size,
        query=_query,
        time_field=query_params.time_field,
        word=labels.word,
        field=labels.field_name,
        capitalize_first=_capitalize_first,
        sentence=_sentence,
        lower_first=_lower_first,
    )
    env.globals.update(
        asset=_asset_urls().__getitem__,
        bars=charts.bars,
        shares=charts.shares,
        Role=Role,
        verdict_class=labels.verdict_class,
        concern=labels.concern,
        detail=labels.detail,
        ending=labels.ending,
        product_version=version("wallet-worker"),
    )
    return env


def _harmless(value: object) -> object:
    """Return what an expression gave, harmless also where no filter was used, inside attributes too."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return printable(value)
    return value


def _exact(value: str) -> Markup:
    """Return a text of several lines for a text field, every character of it kept."""
    return Markup("%s") % value


def _asset_urls() -> Mapping[str, str]:
    """Return where each file of the pages is, under an address that changes with what is in it."""
    return {
        path.name: f"/assets/{path.name}?v={hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
        for path in ASSETS_FOLDER.iterdir()
    }


def when(time: datetime | None, *, seconds: bool = True) -> Markup:
    """Return a time in UTC, its microseconds beside it for whoever points at it."""
    if time is None:
        return Markup('<span class="none">not yet</span>')
    utc = time.astimezone(UTC)
    text = utc.strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")
    return Markup('<time datetime="{iso}" title="{iso}">{text}Z</time>').format(
        iso=utc.isoformat(timespec="microseconds").replace("+00:00", "Z"), text=text
    )


def ago(time: datetime | None) -> Markup:
    """Return how long ago a time was, the time itself beside it for whoever points at it."""
    if time is None:
        return Markup('<span class="none">never</span>')
    utc = time.astimezone(UTC)
    seconds = (datetime.now(UTC) - utc).total_seconds()
    text = (
        "just now"
        if -1 < seconds < 1
        else f"{lasting(seconds)} ago"
        if seconds > 0
        else f"in {_roughly(-seconds)}"
    )
    return Markup('<time datetime="{iso}" title="{title} UTC">{text}</time>').format(
        iso=utc.isoformat(timespec="seconds").replace("+00:00", "Z"),
        title=utc.strftime("%Y-%m-%d %H:%M:%S"),
        text=text,
    )


def _roughly(seconds: float) -> str:
    """Return a span of time as people say it: a second unit only where the first is small."""
    text = lasting(seconds)
    first, _, rest = text.partition(" ")
    unit, _, rest = rest.partition(" ")
    is_small = int(first) < 10 and unit in {"h", "d"} and not rest.startswith("0")  # noqa: PLR2004 -- one digit
    return f"{first} {unit} {rest}" if rest and is_small else f"{first} {unit}"


def lasting(seconds: float) -> str:
    """Return a span of time in its two largest units."""
    whole = int(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min" + (f" {whole % _MINUTE} s" if whole < 10 * _MINUTE else "")
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def number(value: float) -> Markup:
    """Return a number with its thousands apart, by a narrow space: commas and points mean different things abroad."""
    return Markup("\u202f").join(f"{value:,}".split(","))


def size(count: int) -> Markup:
    """Return a number of bytes."""
    if count < 10 * _KIB:
        return Markup("{} bytes").format(number(count))
    return Markup("{:.1f} KiB").format(count / _KIB)


def _capitalize_first(text: str) -> str:
    """Return a sentence with a capital; Jinja's own makes the rest of it lower case, serial numbers too."""
    return text[:1].upper() + text[1:]


def _sentence(text: str) -> str:
    """Return a sentence with its capital and full stop; the operations say theirs without, for a terminal."""
    return _capitalize_first(text) + ("" if text.endswith((".", "!", "?")) else ".") if text else ""


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _query(parameters: Mapping[str, Any], **more: object) -> str:
    """Return names and values as a query string, with more of them; None takes one away."""
    merged = {name: value for name, value in {**parameters, **more}.items() if value is not None}
    return urlencode(merged)
