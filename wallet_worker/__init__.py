"""A wallet that applies commands and payment results from RabbitMQ to PostgreSQL exactly once."""
