"""Tests of what tests and measures the wallet: the checker, the proxy, the servers, the demo, the benchmark."""
