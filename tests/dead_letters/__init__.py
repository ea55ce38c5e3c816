"""Dead letters: the numbered needs of operators, each with its tests."""
