"""The whole story on real servers, for a person at a terminal: `make demo`, or `python -m tests.demo`.

Real servers, a worker and the simulated gateway are started as processes of their own; thousands of accounts
are opened and recharged, well and badly; then everything that was sent is looked for, message by message.

    cli          the command: read `tell` first
    plan         what is sent, drawn from a seed, and what must become of each message
    story        sending it, and waiting until all is quiet
    accounting   what was sent against what was found: sets, not counts
    processes    the worker and the gateway, as operators start them
    place        the addresses and secrets of one run; leaving it running, and ending it later
    look         reading the dead letters, the orders and the balances without changing them
    screen       what the person sees while it goes on
    report       what the person sees in the end
"""
