"""The command `payment-simulator`, also as `python -m payment_simulator`. A client's install lacks its packages."""

import sys

OWN = ("payment_simulator", "wallet_schemas")


def main() -> None:
    """Run the command; the process ends with its exit status, or with 2 if a package of the server is missing."""
    try:
        from payment_simulator.cli import main as run
    except ModuleNotFoundError as exc:
        missing = exc.name or str(exc)
        if missing.partition(".")[0] in OWN:
            raise
        reason = f"payment-simulator: the package {missing} is missing. Install it: pip install 'wallet-worker[server]'"
        print(reason, file=sys.stderr)  # noqa: T201 -- this is how a command speaks
        sys.exit(2)
    run()


if __name__ == "__main__":
    main()
