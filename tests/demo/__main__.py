"""`python -m tests.demo`."""

import signal


def main() -> None:
    """The command has run; the process ends with its exit status."""
    # Importing takes a second, in which nothing is started yet: Ctrl-C just ends it, without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from tests.demo.cli import app

    app(prog_name="python -m tests.demo")


if __name__ == "__main__":
    main()
