"""Webhooks on real servers: a broker, a database, and a small HTTPS server that events are posted to."""
