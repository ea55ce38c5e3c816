"""A payment gateway for tests, demos and rehearsals: it behaves like real ones, on their bad days too.

Read `behaviours.py` first, the table of all that it can do, then `decide.py`, which chooses from it.
`app.py` is the shell around them. It shares nothing with the wallet but `wallet_schemas`.
"""
