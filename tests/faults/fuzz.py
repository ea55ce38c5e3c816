"""The parser under a fuzzer that watches which branches its inputs reach: `make fuzz SECONDS=60`.

It needs `atheris`, which has no wheel for every platform and is no part of the locked environment. For any bytes the
parser may raise its own two errors and nothing else, and may take no longer than 50 ms; a body that breaks this is
kept in the working folder as `crash-…`: put it into `tests/contract/corpus`.
"""

import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

CORPUS: Final = Path(__file__).parents[1] / "rules" / "contract" / "corpus"
LIMIT_SECONDS: Final = 10 * 0.05
"""Of the processor's time, for code that is instrumented, which makes it ten times slower."""
TRIES: Final = 3  # the best of them counts, because the machine has other work too


def main(seconds: int) -> None:
    """Fuzz for so long, beginning with the corpus, the examples of the contract, and bodies of 64 KiB."""
    import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]

    with atheris.instrument_imports(include=["wallet_schemas"]):
        from wallet_schemas.message import Message
        from wallet_schemas.parse import COMMANDS, QUERIES, RESULTS, Malformed, UnsupportedType, parse

    everything: dict[str, type[Message]] = {**COMMANDS, **RESULTS, **QUERIES}

    def try_one(body: bytes) -> None:
        taken: list[float] = []
        while len(taken) < TRIES and min(taken, default=LIMIT_SECONDS) >= LIMIT_SECONDS:
            begun = time.process_time()
            with suppress(Malformed, UnsupportedType):
                parse(body, everything)
            taken.append(time.process_time() - begun)
        if min(taken) >= LIMIT_SECONDS:
            msg = f"{len(body)} bytes took {min(taken):.2f} s"
            raise AssertionError(msg)

    with tempfile.TemporaryDirectory(prefix="wallet-fuzz-") as folder:
        _write_seeds(Path(folder), everything)
        options = ["fuzz", f"-max_total_time={seconds}", "-max_len=65536", "-print_final_stats=1", folder]
        atheris.Setup(options, try_one)
        atheris.Fuzz()


def _write_seeds(folder: Path, messages: dict[str, Any]) -> None:
    from tests.rules.contract.blown_up import SLOW
    from tests.rules.contract.bodies import body

    seeds = [path.read_bytes() for path in CORPUS.rglob("*") if path.is_file()]
    seeds += [body(example) for message in messages.values() for example in message.examples()]
    seeds += SLOW.values()
    for number, seed in enumerate(seeds):
        (folder / str(number)).write_bytes(seed)


if __name__ == "__main__":
    main(int(sys.argv[1]))
