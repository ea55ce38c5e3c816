"""Dead letters: taken in from their queues, looked at, and replayed, discarded or edited by operators."""
