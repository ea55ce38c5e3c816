"""The audit, on ledgers that were broken on purpose."""
