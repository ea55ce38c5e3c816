"""The table `currencies`: how many digits each currency's stored amounts have after the point, for ever."""

from collections.abc import Iterable

import asyncpg

from wallet_schemas.money import minor_digits

_NOTE = """
INSERT INTO currencies (currency, digits)
SELECT n.currency, n.digits
FROM unnest($1::text[], $2::smallint[]) AS n (currency, digits)
ON CONFLICT (currency) DO NOTHING
"""

_DIGITS = "SELECT currency, digits FROM currencies ORDER BY currency"


async def differing(connection: asyncpg.Connection, currencies: Iterable[str]) -> list[str]:
    """Note the digits of new currencies, and return a sentence for each that has other digits than what is stored.

    With other digits, every stored balance of the currency would be read as ten or a hundred times as much, or as
    little.
    """
    wanted = sorted(set(currencies))
    await connection.execute(_NOTE, wanted, [minor_digits(currency) for currency in wanted])
    stored = {row["currency"]: row["digits"] for row in await connection.fetch(_DIGITS)}
    return [
        f"amounts in {currency} are stored with {stored[currency]} digits after the point, and the package iso4217 "
        f"says {minor_digits(currency)} now: every balance would be read wrongly"
        for currency in wanted
        if stored[currency] != minor_digits(currency)
    ]
