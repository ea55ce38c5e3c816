"""The operations of the HTTP API cover the contract."""

from wallet_schemas.http import CHANGES
from wallet_schemas.parse import COMMANDS


def test_every_command_has_an_operation_of_its_own() -> None:
    assert {operation.takes for operation in CHANGES} == {(command,) for command in COMMANDS.values()}
