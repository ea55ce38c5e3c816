"""The worker process: tasks, batches, the outbox, several processes, and the keeper as a process of its own."""
