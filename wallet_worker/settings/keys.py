"""The keys of a process: what it believes of gateways, what it signs requests with, what it seals letters with."""

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog
from typing_extensions import override

from wallet_schemas.keys import (
    DEMO_PREFIX,
    KeyFileInvalid,
    read_seal_key,
    read_signing_key,
    read_verifying_keys,
)
from wallet_schemas.signature import (
    Algorithm,
    BadSignature,
    SigningDirection,
    SigningKey,
    VerifyingKey,
    verify,
)
from wallet_worker.settings.files import WatchedFile

NONE: Final = "none"
"""In place of a key file: do without, and say so."""

log = structlog.get_logger(__name__)


class PaymentKeys(Mapping[str, VerifyingKey]):
    """The keys that a gateway's results are verified with, by key id, as they stand now.

    Those of a file are read again when it changes. A retired key is not there any more, and neither is a key of the
    simulated gateway where this is no demo.
    """

    def __init__(
        self, secrets: Mapping[str, str], file: Path | None, *, environment: str, is_demo: bool
    ) -> None:
        """Raises ValueError with a sentence for a person, of a file that is wrong."""
        self._environment = environment
        self._is_demo = is_demo
        self._fixed = self._checked(
            {
                key_id: VerifyingKey(Algorithm.HMAC_SHA256, secret.encode(), environment=environment)
                for key_id, secret in secrets.items()
            }
        )
        self._file = (
            None
            if file is None
            else WatchedFile(file, self._read, on_fault=_log_fault, on_change=_log_change)
        )

    def reload(self) -> None:
        """Read the file again now."""
        if self._file is not None:
            self._file.reload()

    @override
    def __getitem__(self, key_id: str) -> VerifyingKey:
        key = self._now()[key_id]
        if key.is_retired(datetime.now(UTC)):
            raise KeyError(key_id)
        return key

    @override
    def __iter__(self) -> Iterator[str]:
        now = datetime.now(UTC)
        return iter([key_id for key_id, key in self._now().items() if not key.is_retired(now)])

    @override
    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _now(self) -> Mapping[str, VerifyingKey]:
        return self._fixed if self._file is None else self._file.value

    def _read(self, text: str) -> Mapping[str, VerifyingKey]:
        found = self._checked(read_verifying_keys(text, self._environment))
        if twice := sorted(found.keys() & self._fixed.keys()):
            raise KeyFileInvalid(f"the key {twice[0]!r} stands in WALLET_PAYMENT_KEYS too")
        return {**self._fixed, **found}

    def _checked(self, keys: dict[str, VerifyingKey]) -> dict[str, VerifyingKey]:
        if not self._is_demo:
            for key_id in keys:
                if key_id.startswith(DEMO_PREFIX):
                    raise KeyFileInvalid(
                        f"the key {key_id!r} is the simulated gateway's: whoever has it makes money of nothing. "
                        "Set WALLET_DEMO=1 where that is what you want"
                    )
        return keys


class RequestKey:
    """The key that the wallet signs payment requests with, as it stands now; without one they go out unsigned."""

    def __init__(self, file: Path | None, *, environment: str) -> None:
        """Raises ValueError with a sentence for a person, of a file that is wrong."""
        self._file = (
            None
            if file is None
            else WatchedFile(
                file,
                lambda text: read_signing_key(text, environment),
                on_fault=_log_fault,
                on_change=_log_change,
            )
        )

    @property
    def key(self) -> SigningKey | None:
        """The key, if there is one."""
        return None if self._file is None else self._file.value

    def sign(self, body: bytes) -> str | None:
        """Return the header that proves a request to a gateway, as said now; absent without a key."""
        key = self.key
        return None if key is None else key.sign(body, int(time.time()), SigningDirection.REQUESTS)

    def has_signed(self, header: object, body: bytes) -> bool:
        """Return whether a header is this key's signature of a request, whenever it was made."""
        key = self.key
        if key is None:
            return False
        try:
            verify(header, body, {key.key_id: key.public}, direction=SigningDirection.REQUESTS)
        except BadSignature:
            return False
        return True

    def reload(self) -> None:
        """Read the file again now."""
        if self._file is not None:
            self._file.reload()


def refuse_shared(keys: Mapping[str, VerifyingKey], request_key: SigningKey | None) -> None:
    """Return if nobody who verifies one direction could sign the other with what it has. Raises ValueError."""
    if request_key is None:
        return
    mine = request_key.public.material
    for key_id, key in keys.items():
        if key.material == mine:
            raise ValueError(
                f"the key {key_id!r} of the gateway is the wallet's own: one key for both directions proves nothing"
            )


def read_seal(file: Path | None) -> tuple[str, bytes] | None:
    """Return id and secret of the key that letters are sealed with, if there is one. Raises ValueError."""
    return None if file is None else WatchedFile(file, read_seal_key).value


def _log_fault(path: Path, reason: str) -> None:
    log.error("keys.not_read", file=str(path), reason=reason, detail="the keys stay as they were")


def _log_change(path: Path) -> None:
    log.info("keys.read_again", file=str(path))
