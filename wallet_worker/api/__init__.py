"""The HTTP API: a stateless process between HTTP clients and the broker, which decides nothing of money."""
