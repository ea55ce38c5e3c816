"""The contract: what bytes are messages, what they mean, and what is told to other languages."""
