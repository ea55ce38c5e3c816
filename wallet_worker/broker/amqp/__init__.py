"""All that knows the inside of the AMQP client libraries: frames, properties, deliveries and confirms."""
