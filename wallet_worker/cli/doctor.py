"""`wallet doctor`."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from wallet_worker.cli import environment, exits, terminal
from wallet_worker.cli.options import Json

if TYPE_CHECKING:
    from wallet_worker.store.requirements import CheckedRequirement


class Process(StrEnum):
    """What the login of WALLET_DATABASE_URL is for."""

    worker = "worker"
    worker_without_keeper = "worker-without-keeper"
    keeper = "keeper"
    console = "console"
    reader = "reader"
    api = "api"
    webhooks = "webhooks"
    owner = "owner"


def doctor(
    *,
    process: Annotated[
        Process,
        typer.Option(
            "--for",
            help="What the login is for: reader is export, reconcile and audit; owner is migrate.",
        ),
    ] = Process.worker,
    as_json: Json = None,
) -> None:
    """Check whether the database named by WALLET_DATABASE_URL is what the wallet needs. Changes nothing.

    A worker and a keeper check the same when they start. A warning is something that works and ought to be known.

    Exit status: 0 nothing is missing (there may be warnings), 1 something is, 2 wrong settings, 3 the database cannot
    be looked at.

    Example: wallet doctor && wallet worker
    """
    url = environment.database_url()
    from wallet_worker.store.requirements import Grade, check

    findings = exits.run(check(url, process=process.value))
    if terminal.wants_json(as_json):
        terminal.print_json({"requirements": [_document(finding) for finding in findings]})
    else:
        terminal.print_table(
            "what the wallet needs of the database",
            ("needed", "state", "what to do"),
            [
                (finding.requirement.name, _state(finding), "\n".join(finding.sentences) or "-")
                for finding in findings
            ],
        )
    if any(finding.sentences and finding.requirement.grade is not Grade.ADVISED for finding in findings):
        raise typer.Exit(exits.Exit.FOUND)


def _state(finding: "CheckedRequirement") -> str:
    if not finding.sentences:
        return "ok" if finding.was_seen else "not looked at"
    return {"required": "MISSING", "waited for": "NOT NOW", "advised": "warning"}[
        finding.requirement.grade.value
    ]


def _document(finding: "CheckedRequirement") -> dict[str, object]:
    return {
        "name": finding.requirement.name,
        "grade": finding.requirement.grade.value,
        "met": finding.is_met,
        "sentences": list(finding.sentences),
    }
