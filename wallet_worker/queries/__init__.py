"""The read side: answers from one snapshot, and the service that gives them over RabbitMQ."""
