"""Webhooks: events posted to the addresses that clients have named, by a process of its own."""
