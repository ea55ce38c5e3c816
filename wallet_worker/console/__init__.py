"""The operators' web page: dead letters, plans and operations, and what the ledger says of accounts and orders."""
