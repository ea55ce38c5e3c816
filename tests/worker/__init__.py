"""Batches against a real database, without a broker."""
