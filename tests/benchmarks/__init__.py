"""The benchmark: the wallet against other ways of doing the same durable work. Read `README.md` first."""
