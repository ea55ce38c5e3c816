"""Tests, the demo and the servers that both stand on."""
