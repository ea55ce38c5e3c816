"""`wallet dlq`: its commands, in the order in which the help shows them. The operations are in `dead_letters`."""

import typer

from wallet_worker.cli.dlq import act, browse, runs

app = typer.Typer(
    no_args_is_help=True,
    help="Show, replay, discard or edit dead letters. Needs WALLET_DATABASE_URL and, to predict "
    "what a worker would do, that worker's other settings.",
    epilog="Exit status: 0 done, 1 it was refused, or some replays failed or were given up, 2 wrong usage or settings, "
    "3 the database is away, 4 it goes on without this command.",
)

app.command("list")(browse.list_)
app.command("groups")(browse.groups)
app.command("status")(browse.status)
app.command("show")(browse.show)
app.command("export")(browse.export)
app.command("audit")(browse.audit)
app.command("runbook")(browse.runbook)
app.command("plan")(act.plan)
app.command("replay")(act.replay)
app.command("discard")(act.discard)
app.command("restore")(act.restore)
app.command("edit")(act.edit)
app.command("sign")(act.sign)
app.command("approve")(act.approve)
app.command("note")(act.note)
app.command("operations")(runs.operations)
app.command("progress")(runs.progress)
app.command("pause")(runs.pause)
app.command("resume")(runs.resume)
app.command("stop")(runs.stop)
