"""Two versions in pairs: turns, ratios, refusals, and that each process times the checkout it was given."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import maxcut_against_earlier_commit as module
from benchmarks._machine import REPOSITORY
from benchmarks._records import Record


class Scripted(module.Version):
    """A version that takes the seconds it is told to, and notes its turns."""

    def __init__(self, name: str, seconds: list[float], turns: list[str]) -> None:
        self._name, self._seconds, self._turns = name, iter(seconds), turns

    def time(self, family: str, task: str = "") -> Record:
        self._turns.append(self._name)
        return {"seconds": next(self._seconds), "answer": 7.0}


def test_pairs_take_turns_and_the_first_does_not_count() -> None:
    turns: list[str] = []
    before = Scripted("before", [9.0, 1.0, 2.0, 4.0], turns)
    now = Scripted("now", [99.0, 1.1, 2.0, 2.0], turns)
    found = module.compared((before, now), "any", "work", repeats=3)
    assert turns == ["now", "before", "before", "now", "now", "before", "before", "now"]
    assert (found["before_seconds"], found["after_seconds"]) == (2.0, 2.0)
    assert found["ratio"] == 1.0
    assert found["ratio_range"] == [0.5, 1.1]
    assert found["ratio_of_minima"] == pytest.approx(1.1)


def test_the_table_says_where_the_bar_does_not_hold() -> None:
    record = {
        "family": "a", "n_edges": 10, "threads": 2, "task": "work", "before_seconds": 1.0, "after_seconds": 1.03,
        "ratio": 1.03, "ratio_range": [1.0, 1.1], "ratio_of_minima": 1.0,
    }  # fmt: skip
    assert "DOES NOT HOLD" not in module.table([record])
    assert "DOES NOT HOLD" in module.table([{**record, "ratio": 1.031}])


def test_neither_a_folder_nor_a_revision(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="must be a folder with a checkout or a revision"),
        module.checkout_of(str(tmp_path)),
    ):
        pass


def test_a_process_times_the_checkout_it_was_given(tmp_path: Path) -> None:
    graphs = tmp_path / "graphs.npz"
    module.save_graphs(["torus-4"], 200, graphs)
    version = module.Version(REPOSITORY, graphs, 1)
    answer = version.time("torus-4", "preparation")
    version.close()
    assert answer["answer"] == 200
    assert 0 < answer["seconds"] < 60
    elsewhere = subprocess.run(
        [sys.executable, module.WORKER, graphs, "1", tmp_path],
        input="torus-4\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert elsewhere.returncode != 0
    assert f"not from {tmp_path}." in elsewhere.stderr
