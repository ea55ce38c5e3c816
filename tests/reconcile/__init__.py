"""The gateway's settlement file against the orders."""
