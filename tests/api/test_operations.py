"""The operations of the HTTP API cover the contract."""

from collections import Counter

from wallet_schemas.http import CHANGES
from wallet_schemas.parse import COMMANDS


def test_every_command_has_one_operation_beside_the_earlier_versions_of_itself() -> None:
    taken = Counter(command for operation in CHANGES for command in operation.takes)

    assert taken == Counter(COMMANDS.values())
    for operation in CHANGES:
        assert len({command.TYPE.rpartition(".")[0] for command in operation.takes}) == 1, operation.name
