"""The HTTP API, with real API processes, workers, and servers."""
