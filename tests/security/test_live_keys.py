"""The keys of a process are those of the file as it stands now, and a file that has become wrong changes nothing."""

import json
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from wallet_schemas.keys import signing_entry, verifying_entry
from wallet_schemas.signature import Algorithm, SigningKey
from wallet_worker.settings import files
from wallet_worker.settings.keys import PaymentKeys, RequestKey, refuse_shared

NEW = SigningKey("acme-2", Algorithm.ED25519, bytes(range(32)))
OLD = SigningKey("acme-1", Algorithm.ED25519, bytes(32))


@pytest.fixture(autouse=True)
def _look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LOOK_SECONDS", 0.0)


def keys_of(path: Path, *, is_demo: bool = False) -> PaymentKeys:
    return PaymentKeys({}, path, environment="default", is_demo=is_demo)


def written(path: Path, **keys: dict[str, object]) -> Path:
    path.write_text(json.dumps(keys))
    return path


def test_a_key_that_is_added_is_believed_without_a_restart(tmp_path: Path) -> None:
    path = written(tmp_path / "keys.json", **{"acme-1": verifying_entry(OLD)})
    keys = keys_of(path)
    assert list(keys) == ["acme-1"]

    written(path, **{"acme-1": verifying_entry(OLD), "acme-2": verifying_entry(NEW)})

    assert keys["acme-2"] == NEW.public
    written(path, **{"acme-2": verifying_entry(NEW)})
    assert keys.get("acme-1") is None


@pytest.mark.parametrize("text", ["", "{", '{"a b": {}}', '{"test-1": {}}'])
def test_a_file_that_has_become_wrong_leaves_the_keys_as_they_were(tmp_path: Path, text: str) -> None:
    path = written(tmp_path / "keys.json", **{"acme-1": verifying_entry(OLD)})
    keys = keys_of(path)

    path.write_text(text)
    assert list(keys) == ["acme-1"]
    path.unlink()
    assert list(keys) == ["acme-1"]


@pytest.mark.parametrize("text", ["", '{"test-1": {}}'])
def test_a_process_does_not_start_with_a_file_that_is_wrong(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(text)

    with pytest.raises(ValueError, match=r"the file .*keys\.json"):
        keys_of(path)


def test_a_retired_key_is_not_there(tmp_path: Path) -> None:
    ended = datetime.now(UTC) - timedelta(days=7, hours=1)
    path = written(
        tmp_path / "keys.json",
        **{"acme-1": verifying_entry(OLD, not_after=ended), "acme-2": verifying_entry(NEW)},
    )

    keys = keys_of(path)

    assert (list(keys), len(keys), keys.get("acme-1")) == (["acme-2"], 1, None)


@pytest.mark.parametrize("is_demo", [True, False])
def test_the_simulated_gateways_key_is_believed_in_a_demo_only(tmp_path: Path, *, is_demo: bool) -> None:
    path = written(tmp_path / "keys.json", **{"test-gateway": verifying_entry(NEW)})

    if is_demo:
        assert "test-gateway" in keys_of(path, is_demo=True)
    else:
        with pytest.raises(ValueError, match="WALLET_DEMO=1"):
            keys_of(path)
        with pytest.raises(ValueError, match="WALLET_DEMO=1"):
            PaymentKeys({"test-k": "a secret of the tests"}, None, environment="default", is_demo=False)


def test_the_wallets_own_key_is_read_again_too(tmp_path: Path) -> None:
    path = tmp_path / "request.json"
    path.write_text(json.dumps(signing_entry(OLD)))
    request_key = RequestKey(path, environment="default")
    assert request_key.key == OLD

    path.write_text(json.dumps(signing_entry(NEW)))

    assert request_key.key == NEW
    assert RequestKey(None, environment="default").key is None


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_one_key_for_both_directions_is_refused(algorithm: Algorithm) -> None:
    mine = SigningKey("wallet-1", algorithm, bytes(range(32)))

    with pytest.raises(ValueError, match="both directions"):
        refuse_shared({"acme-1": mine.public}, mine)
    refuse_shared({"acme-1": OLD.public}, mine)


def test_no_key_shows_itself() -> None:
    for key in (NEW, NEW.public):
        assert b64encode(key.material).decode() not in repr(key)
        assert repr(key.material) not in repr(key)
