"""From a message in the dead-letter queue to a stored dead letter."""
