"""`python -m wallet_worker` is the command `wallet`."""

from wallet_worker.cli import main

if __name__ == "__main__":
    main()
