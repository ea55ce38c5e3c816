"""The documents: what is generated in them, and tests that hold every word of the rest to the code."""
