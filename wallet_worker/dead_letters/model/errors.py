"""Why an operation is not done."""

from wallet_schemas.commands import Fault


class OperationError(Exception):
    """Why something is not done; the text is a sentence for the person who asked. Nothing was changed."""


class NotAllowedError(OperationError):
    """The actor's role may not, or it must be somebody else."""


class NotFoundError(OperationError):
    """The letter, plan or operation does not exist."""


class StaleError(OperationError):
    """What was planned is not so any more: a token that is old or used, letters or predictions that changed."""


class BusyError(StaleError):
    """Somebody else is at the same letters at this moment; the same can be asked again."""


class NotPossibleError(OperationError):
    """The letter or operation is not in a state in which this can be done."""


class ApprovalNeededError(OperationError):
    """A second person must approve first."""


class InvalidEditError(OperationError):
    """The wallet does not take the edited message; `faults` say why."""

    def __init__(self, sentence: str, faults: tuple[Fault, ...] = ()) -> None:
        super().__init__(sentence)
        self.faults = faults
