"""The invariants of the ledger, checked on a live database: once, or for ever."""
