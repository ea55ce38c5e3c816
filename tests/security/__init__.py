"""Who may speak: senders, signatures, rights at the broker, and what an attacker is stopped by."""
