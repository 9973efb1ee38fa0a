"""Results files: resumed, shared by processes, and never holding what JSON cannot."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks import _graphs, _records


def test_records_are_found_again_and_replaced(tmp_path: Path) -> None:
    results = _records.Results("question", ("graph", "repeat"), tmp_path, "here")
    assert not results.has({"graph": "G1", "repeat": 0})
    results.add({"graph": "G1", "repeat": 0, "cut": 1.0})
    results.add({"graph": "G1", "repeat": 1, "cut": float("inf")})
    results.add({"graph": "G1", "repeat": 0, "cut": 2.0})
    assert results.has({"graph": "G1", "repeat": 1, "cut": "whatever"})
    assert results.records() == [
        {"graph": "G1", "repeat": 0, "cut": 2.0},
        {"graph": "G1", "repeat": 1, "cut": None},
    ]
    document = json.loads((tmp_path / "question-here.json").read_text())
    assert document["measured"] is True
    assert document["device"]["cores"] >= 1


def test_records_added_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        for number in range(20):
            pool.submit(_records.Results("question", ("number",), tmp_path, "here").add, {"number": number})
    kept = _records.Results("question", ("number",), tmp_path, "here").records()
    assert sorted(record["number"] for record in kept) == list(range(20))


def test_graphs_are_found_by_name(tmp_path: Path) -> None:
    for name in ("G1", "G22", "notes.md", "roads.txt.gz"):
        (tmp_path / name).write_text("x" * len(name))
    found = _graphs.find_graphs([tmp_path], ["roads", "G22"])
    assert list(found) == ["G22", "roads"]
    with pytest.raises(ValueError, match="G99: no such graph"):
        _graphs.find_graphs([tmp_path], ["G99"])
    with pytest.raises(ValueError, match="is not a folder"):
        _graphs.find_graphs([tmp_path / "absent"])


def test_best_known_values_name_their_source() -> None:
    known = _graphs.best_known()
    assert known["G81"].value == 14060
    assert all(entry.source for entry in known.values())
