"""`python -m payment_simulator`."""

from payment_simulator.cli import main

main()
