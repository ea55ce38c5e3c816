"""The payment simulator: its table of moods, its memory, and the whole process on a real broker."""
