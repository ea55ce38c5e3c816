"""The command `wallet`, as people run it."""
