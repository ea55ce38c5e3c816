"""The figures of a benchmark in a file: each part as it was measured last, so that a run can go on another day."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.record import Key, Record
from tests.benchmarks.runs import Part

TITLE: Final = "Benchmark"


class Kept:
    """Records by part, read from a file if it is there, and written to it with each that is put."""

    def __init__(self, path: Path) -> None:
        self._path = path
        found = json.loads(path.read_text()) if path.exists() else {}
        self._parts = {Part(name): _record(part) for name, part in found.items()}

    def put(self, part: Part, record: Record) -> None:
        """Keep what was measured of a part, in place of what was kept of it before."""
        self._parts[part] = record
        whole = {part: _plain(self._parts[part]) for part in Part if part in self._parts}
        beside = self._path.with_suffix(".new")
        beside.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
        beside.replace(self._path)

    @property
    def whole(self) -> Record:
        """All parts as one record, which says what was not the same for all of them."""
        return together(TITLE, {part: self._parts[part] for part in Part if part in self._parts})


def together(title: str, parts: Mapping[Part, Record]) -> Record:
    """Return the records of several parts as one."""
    machine: dict[str, str] = {}
    apart: dict[str, dict[str, str]] = {}
    for name in dict.fromkeys(name for record in parts.values() for name in record.machine):
        fields = {part.value: record.machine.get(name, "") for part, record in parts.items()}
        if len(set(fields.values())) == 1:
            machine[name] = next(iter(fields.values()))
        else:
            apart[name] = fields
    whole = Record(title, machine, apart)
    for record in parts.values():
        whole.values.update({key: list(values) for key, values in record.values.items()})
        whole.notes += record.notes
    return whole


def _plain(record: Record) -> dict[str, object]:
    figures = [{**key._asdict(), "rounds": values} for key, values in record.values.items()]
    return {"machine": dict(record.machine), "notes": record.notes, "figures": figures}


def _record(part: Mapping[str, Any]) -> Record:
    record = Record(TITLE, dict(part["machine"]), notes=list(part["notes"]))
    for figure in part["figures"]:
        record.values[Key(figure["section"], figure["who"], figure["what"])] = list(figure["rounds"])
    return record
