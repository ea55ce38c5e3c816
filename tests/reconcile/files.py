"""Settlement files, as a gateway writes them."""

import csv
from io import BytesIO, StringIO
from typing import Any

from wallet_schemas.settlement import COLUMNS
from wallet_worker.accounting.settlement_file import SettlementReader

GOOD = {
    "payment_order_no": "R-1",
    "kind": "charge",
    "amount": "100.00",
    "currency": "TWD",
    "status": "succeeded",
    "gateway_ref": "gw-1",
    "occurred_at": "2026-01-02T03:04:05Z",
}


def line(**changes: str) -> str:
    """Return a line about R-1, which succeeded with 100.00 TWD, unless the changes say otherwise."""
    return joined((GOOD | changes).values())


def joined(values: Any, **style: Any) -> str:
    """Return the values as a line of CSV, without its end."""
    out = StringIO()
    csv.writer(out, lineterminator="", **style).writerow(values)
    return out.getvalue()


def reader(*lines: str, columns: tuple[str, ...] = COLUMNS) -> SettlementReader:
    """Return a reader of a file with these lines after the first."""
    return SettlementReader(BytesIO("\n".join([",".join(columns), *lines]).encode()))
