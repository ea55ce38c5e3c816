"""RabbitMQ through aio-pika: the topology as data, sessions, the inbox, the publisher."""
