"""What a deployment sets: the environment's variables, limits of money, and who may act without a second person."""
