"""Programs that stand beside the wallet in the benchmark: each a process of its own, told by the environment.

They share the contract (`schemas/`) and the database's schema with the worker, and nothing else of it but how
identifiers are made.
"""
