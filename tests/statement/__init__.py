"""Statements: which lines are on a page, and which balances stand around them."""
