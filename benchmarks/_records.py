"""Records of measurements: kept in one JSON file a question and device, added one at a time.

A run may stop anywhere and go on later: a record that is there already is not measured again. Two
processes may add to the same file at the same time; each addition takes a lock, reads the file again,
and replaces it in one step.
"""

import contextlib
import fcntl
import json
import math
import os
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import _machine

RESULTS_FOLDER = Path(__file__).resolve().parent / "results"
Record = dict[str, Any]


class Results:
    """The records of one question on one device.

    Args:
        question: name of the benchmark's file, without its ending.
        key: fields that tell one measurement from another; a later record with the same values of
            these replaces the earlier one.
        folder: where the JSON lies.
        device: short name of the machine; this one where left out.
        measured: whether the records are measurements; False for predictions, whose device is where they were made.
    """

    def __init__(
        self,
        question: str,
        key: Sequence[str],
        folder: Path = RESULTS_FOLDER,
        device: str | None = None,
        *,
        measured: bool = True,
    ) -> None:
        self.question, self.measured = question, measured
        self.key = tuple(key)
        self.path = folder / f"{question}-{device or _machine.device_name()}.json"

    def records(self) -> list[Record]:
        """All records so far, in the order in which they were first added."""
        return list(self._read()["records"]) if self.path.exists() else []

    def has(self, record: Record) -> bool:
        """Whether a record with the same key was added before."""
        wanted = self._key_of(record)
        return any(self._key_of(other) == wanted for other in self.records())

    def add(self, record: Record) -> None:
        """Add one record, or replace the one that has the same key."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked():
            document = self._read()
            document["device"] = _machine.facts()
            wanted = self._key_of(record)
            for position, other in enumerate(document["records"]):
                if self._key_of(other) == wanted:
                    document["records"][position] = record
                    break
            else:
                document["records"].append(record)
            temporary = self.path.with_suffix(f".{os.getpid()}.tmp")
            temporary.write_text(json.dumps(_json_ready(document), indent=1, allow_nan=False) + "\n")
            temporary.replace(self.path)

    def _read(self) -> dict[str, Any]:
        if self.path.exists():
            document: dict[str, Any] = json.loads(self.path.read_text())
            return document
        return {
            "question": self.question,
            "measured": self.measured,
            "key": list(self.key),
            "device": {},
            "records": [],
        }

    def _key_of(self, record: Record) -> tuple[Any, ...]:
        return tuple(record.get(name) for name in self.key)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.path.parent / f".{self.path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def of_newest_commit(records: Iterable[Record], group: Sequence[str]) -> list[Record]:
    """The records of each group that were made with the commit of its last one: never two programs in one comparison.

    Args:
        records: in the order in which they were added.
        group: fields that tell one comparison from another.

    >>> old, new = {"graph": "a", "commit": "1"}, {"graph": "a", "commit": "2"}
    >>> of_newest_commit([old, new, {"graph": "b", "commit": "1"}], ["graph"])
    [{'graph': 'a', 'commit': '2'}, {'graph': 'b', 'commit': '1'}]
    """
    kept = list(records)
    newest = {tuple(record.get(name) for name in group): record.get("commit") for record in kept}
    return [
        record for record in kept if record.get("commit") == newest[tuple(record.get(name) for name in group)]
    ]


def load(path: Path) -> list[Record]:
    """The records of a results file."""
    document = json.loads(path.read_text())
    return list(document["records"])


def latest(question: str, folder: Path = RESULTS_FOLDER) -> Path | None:
    """The results file of a question that was written last, on whatever device."""
    found = sorted(folder.glob(f"{question}-*.json"), key=lambda path: path.stat().st_mtime)
    return found[-1] if found else None


def _json_ready(value: Any) -> Any:
    """The same value with infinities and NaN as None, which JSON can hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _json_ready(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_ready(entry) for entry in value]
    return value


@dataclass(frozen=True)
class Spread:
    """Median of repeated measurements, with the smallest, the largest and their number."""

    median: float
    low: float
    high: float
    count: int

    def text(self, digits: int = 3) -> str:
        """Such as ``1.52 (1.48 to 1.61)``; the bracket is left out for a single measurement."""
        middle = f"{self.median:.{digits}g}"
        return middle if self.count == 1 else f"{middle} ({self.low:.{digits}g} to {self.high:.{digits}g})"


def spread(values: Iterable[float]) -> Spread:
    """Median and range of at least one number.

    >>> spread([3.0, 1.0, 2.0]).text()
    '2 (1 to 3)'
    """
    numbers = sorted(values)
    if not numbers:
        raise ValueError("spread needs at least one measurement; got none.")
    return Spread(statistics.median(numbers), numbers[0], numbers[-1], len(numbers))


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; None becomes a dash.

    >>> print(markdown_table(["graph", "cut"], [["G1", 11624], ["G2", None]]))
    | graph | cut |
    | --- | --- |
    | G1 | 11624 |
    | G2 | - |
    """
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join("-" if cell is None else str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)
