"""Faults on purpose: servers and workers are broken under load, and a model of the load judges what is left."""
