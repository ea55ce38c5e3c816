"""Clients that share no code with us: shell, Node alone, and clients generated from the OpenAPI document."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.api.other_python import CACHE, other_python, run
from tests.api.process import ApiProcess, Apis
from tests.documents.pages import ROOT
from tests.workers import KEYS, WorkerProcess
from wallet_schemas.generate import HERE as SCHEMAS
from wallet_worker.broker import topology

NODE = Path(__file__).parent / "node"
NODE_PACKAGES = (
    "openapi-typescript@7.13.0",
    "openapi-fetch@0.17.0",
    "typescript@5.9.3",
    "@types/node@24.10.1",
)


def executed(page: str, name: str) -> str:
    """Return the lines of a page that are marked as executed under this name."""
    found = re.search(rf"<!-- executed: {name} -->\n```sh\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.usefixtures("worker")
async def test_lines_of_the_pages_run(apis: Apis, tmp_path: Path) -> None:
    await topology.apply(apis.amqp_url, events=True)
    api = await apis.start()
    folder = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment = {**apis.environment, **folder, "WALLET": api.url}

    life = executed("docs/http-api.md", "life").replace("wait=25", "wait=1")
    curl = executed("README.md", "curl").replace("http://127.0.0.1:9320", api.url)
    life += executed("docs/http-api.md", "cancel")
    life += executed("docs/http-api.md", "events")
    printed = await run(["/bin/sh", "-ec", life], tmp_path, **environment)
    short = await run(["/bin/sh", "-ec", curl], tmp_path, **environment)

    assert printed.count('"status":"applied"') >= 3, printed
    assert '"order_status":"pending"' in printed
    assert '"status":"cancelled"' in printed
    assert '"type":"statement.v1"' in printed
    assert '"type":"order.pending.v1"' in printed.rpartition('"type":"event.page.v1"')[2]
    assert '"user_id":"bob"' in short


@pytest.mark.usefixtures("worker")
async def test_node_alone_lives_a_whole_life(api: ApiProcess, key: str) -> None:
    ((key_id, secret),) = KEYS.items()

    printed = await run(
        ["node", "wallet.mjs"], NODE, WALLET=api.url, KEY=key, SIGNING_KEY=f"{key_id}:{secret}"
    )

    assert "a life by HTTP, done" in printed


@pytest.mark.timeout(600)
async def test_typescript_client_that_is_generated_compiles_and_works(
    worker: WorkerProcess, api: ApiProcess, key: str
) -> None:
    del worker
    folder = CACHE / "node"
    if not (folder / "made").exists() or (folder / "made").read_text() != " ".join(NODE_PACKAGES):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "package.json").write_text('{"private": true, "type": "module"}\n')
        await run(["npm", "install", "--no-audit", "--no-fund", "--silent", *NODE_PACKAGES], folder)
        (folder / "made").write_text(" ".join(NODE_PACKAGES))
    shutil.copy(NODE / "client.ts", folder)

    openapi = str(SCHEMAS / "openapi.yaml")
    await run(["npx", "--no-install", "openapi-typescript", openapi, "--output", "wallet.d.ts"], folder)
    strict = ["--strict", "--target", "es2022", "--module", "nodenext", "--skipLibCheck", "--types", "node"]
    await run(["npx", "--no-install", "tsc", *strict, "client.ts"], folder)
    printed = await run(["node", "client.js"], folder, WALLET=api.url, KEY=key)

    assert "typed: 0 lines" in printed


USES_PYTHON_CLIENT = """
import os
from wallet_client import AuthenticatedClient
from wallet_client.api.accounts import list_accounts, open_account
from wallet_client.api.orders import get_outcome
from wallet_client.models import OpenAccountRequest, Outcome

client = AuthenticatedClient(base_url=os.environ["WALLET"], token=os.environ["KEY"])
body = OpenAccountRequest(user_id="petra", currency="TWD")
opened = open_account.sync(client=client, body=body, idempotency_key="OPEN-PETRA")
assert isinstance(opened, Outcome), opened
found = list_accounts.sync(client=client, user_id="petra")
assert found.accounts[0].currency == "TWD", found
again = get_outcome.sync(client=client, serial_no="OPEN-PETRA")
assert isinstance(again, Outcome), again
print("generated client, done")
"""


@pytest.mark.timeout(600)
async def test_python_client_that_is_generated_works(
    worker: WorkerProcess, api: ApiProcess, key: str, tmp_path: Path
) -> None:
    del worker
    programs = await other_python()
    (tmp_path / "config.yaml").write_text(
        "package_name_override: wallet_client\nproject_name_override: wallet-client\n"
    )

    await run(
        [
            str(programs / "openapi-python-client"), "generate",
            "--path", str(SCHEMAS / "openapi.yaml"), "--meta", "none", "--config", "config.yaml",
            "--output-path", str(tmp_path / "wallet_client"),
        ],
        tmp_path,
        PATH=f"{programs}:{os.environ['PATH']}",
    )  # fmt: skip
    (tmp_path / "use.py").write_text(USES_PYTHON_CLIENT)
    printed = await run(
        [str(programs / "python"), "use.py"], tmp_path, WALLET=api.url, KEY=key, PYTHONPATH=str(tmp_path)
    )

    assert "generated client, done" in printed
