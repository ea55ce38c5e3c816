"""The payment simulator: its table of behaviours, its memory, and the whole process on a real broker."""
