"""Statements and orders as files, and the gateway's settlement file compared with the orders."""
