"""Checkpoints: round trips, strangers, damage, and runs that go on."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdp.maxcut import checkpoint as checkpoints
from sdp.maxcut import solve
from sdp.maxcut.checkpoint import Checkpoint
from sdp.maxcut.graph import Graph
from sdp.maxcut.polish import Polisher
from sdp.maxcut.problem import Problem
from sdp.maxcut.solve import maxcut
from tools.make_graphs import random_sparse

GRAPH = random_sparse(37, 5.0, "signs", 1)
STATE = Checkpoint(
    partition=np.random.default_rng(0).integers(0, 2, 37).astype(np.uint8),
    upper_bound=61.25,
    bound_kind="chebyshev",
    delta=1e-6,
    relaxation_value=60.1,
    history=((0.1, 3.0, math.inf), (0.25, 40.0, 61.25)),
    elapsed=12.5,
    runs=3,
)


def assert_equal(one: Checkpoint, other: Checkpoint) -> None:
    for field in dataclasses.fields(Checkpoint):
        np.testing.assert_equal(getattr(one, field.name), getattr(other, field.name))


@pytest.mark.parametrize(
    "state",
    [
        STATE,
        dataclasses.replace(STATE, upper_bound=math.inf, bound_kind="none", relaxation_value=math.nan),
        dataclasses.replace(STATE, history=()),
    ],
    ids=["whole", "no bound", "no history"],
)
def test_round_trip(tmp_path: Path, state: Checkpoint) -> None:
    path = tmp_path / "state"  # no suffix is added
    checkpoints.save(path, GRAPH, state)
    assert [file.name for file in tmp_path.iterdir()] == ["state"]
    found = checkpoints.load(path, GRAPH)
    assert found.partition.dtype == np.uint8
    assert_equal(found, state)


def test_no_vertices(tmp_path: Path) -> None:
    empty = Graph.from_edges([], [])
    state = dataclasses.replace(STATE, partition=np.zeros(0, np.uint8))
    checkpoints.save(tmp_path / "state", empty, state)
    assert_equal(checkpoints.load(tmp_path / "state", empty), state)


def test_a_stranger_is_named(tmp_path: Path) -> None:
    path = tmp_path / "state"
    checkpoints.save(path, GRAPH, STATE)
    other = dataclasses.replace(random_sparse(37, 5.0, "signs", 2), name="roads")
    with pytest.raises(ValueError, match=r"^checkpoint '.*state' belongs to another graph than 'roads'\.$"):
        checkpoints.load(path, other)
    heavier = Graph.from_scipy(2 * GRAPH.to_scipy())
    with pytest.raises(
        ValueError, match=r"^checkpoint '.*state' belongs to another graph than 'this one'\.$"
    ):
        maxcut(heavier, checkpoint=path, time_limit=1)
    assert_equal(checkpoints.load(path, GRAPH), STATE)  # untouched


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    kind = rng.integers(4)
    at = int(rng.integers(len(data)))
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + bytes([data[at] ^ (1 << int(rng.integers(8)))]) + data[at + 1 :]
    if kind == 2:
        return data[:at] + rng.bytes(16) + data[at + 16 :]
    return data[:at] + data[at + int(rng.integers(1, 40)) :]


def test_damage_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "state"
    checkpoints.save(path, GRAPH, STATE)
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    refused, sentences = 0, set()
    for _ in range(400):
        path.write_bytes(damaged(data, rng))
        try:
            assert_equal(checkpoints.load(path, GRAPH), STATE)  # the byte belonged to nothing that is read
        except ValueError as error:
            sentences.add(str(error))
            refused += 1
    assert sentences == {f"checkpoint {str(path)!r} is damaged or no checkpoint of sdp maxcut."}
    assert refused > 300


@pytest.mark.parametrize("content", [b"", b"3 3\n1 2\n", b"PK\x03\x04", b"\x93NUMPY\x01\x00"])
def test_other_files_are_no_checkpoints(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "graph.txt"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"^checkpoint '.*graph\.txt' is damaged or no checkpoint of sdp maxcut\.$"
    ):
        checkpoints.load(path, GRAPH)
    assert path.read_bytes() == content


def test_other_archives_are_no_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    for header in ("{}", '{"format": 2}', "[]", "null", '{"format": 1, "graph": 3, "runs": 1e999}', "{"):
        np.savez(
            path,
            header=np.array(header),
            numbers=np.zeros(4),
            partition=np.zeros(1),
            history=np.zeros((0, 3)),
        )
        with pytest.raises(ValueError, match="is damaged or no checkpoint"):
            checkpoints.load(path, GRAPH)
    np.savez(path, numbers=np.zeros(4))
    with pytest.raises(ValueError, match="is damaged or no checkpoint"):
        checkpoints.load(path, GRAPH)


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        maxcut(GRAPH, checkpoint=tmp_path / "nowhere" / "state", time_limit=1, max_rounds=1)


class TestResuming:
    GRAPH = random_sparse(300, 7.0, "signs", 2)

    def test_the_best_is_not_lost(self, tmp_path: Path) -> None:
        path = tmp_path / "state"
        first = maxcut(self.GRAPH, time_limit=math.inf, max_rounds=20, checkpoint=path)
        kept = checkpoints.load(path, self.GRAPH)
        assert kept.runs == 1
        assert kept.upper_bound == first.upper_bound
        assert (kept.partition == first.partition).all()
        again = maxcut(self.GRAPH, time_limit=math.inf, max_rounds=0, checkpoint=path, seed=5)
        assert again.cut_value == first.cut_value
        assert (again.partition == first.partition).all()
        assert again.upper_bound == first.upper_bound
        assert again.bound_kind == first.bound_kind == "dense"
        assert again.relaxation_value == first.relaxation_value
        assert "relax" in first.timings
        assert "relax" not in again.timings  # its bound is in the file
        assert any("went on from a checkpoint" in note for note in again.notes)
        assert again.history[: len(first.history) - 1] == first.history[:-1]
        seconds = [row[0] for row in again.history]
        assert seconds == sorted(seconds)
        assert checkpoints.load(path, self.GRAPH).runs == 2

    def test_it_goes_on_with_other_random_numbers(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seeds: list[int] = []

        class Spy(Polisher):
            def __init__(self, problem: Problem, *, seed: int, **keywords: Any) -> None:
                seeds.append(seed)
                super().__init__(problem, seed=seed, **keywords)

        monkeypatch.setattr(solve, "Polisher", Spy)
        path = tmp_path / "state"
        solve.maxcut(Graph.from_edges([0], [1]))  # loads the kernels, and polishes meanwhile
        seeds.clear()
        hard = random_sparse(1500, 9.0, "signs", 4)
        values = [
            maxcut(
                hard, time_limit=math.inf, max_rounds=3, method="anneal", checkpoint=path, target_cut=1e9
            ).cut_value
            for _ in range(3)
        ]
        assert values == sorted(values)
        assert len(set(seeds)) == 3

    def test_a_bound_of_two_runs_fails_with_either(self, tmp_path: Path) -> None:
        path = tmp_path / "state"
        graph = random_sparse(2100, 5.0, "signs", 3)
        weak = Checkpoint(np.zeros(2100, np.uint8), 5000.0, "chebyshev", 0.01, math.nan, (), 1.0, 1)
        checkpoints.save(path, graph, weak)
        result = maxcut(graph, time_limit=20, max_rounds=0, checkpoint=path, delta=0.02, reduce=False)
        assert result.upper_bound < 5000
        assert result.delta == pytest.approx(0.03)

    def test_an_empty_cut_and_a_warm_start(self, tmp_path: Path) -> None:
        path = tmp_path / "state"
        first = maxcut(self.GRAPH, time_limit=math.inf, max_rounds=10, checkpoint=path)
        worse = np.zeros(300, int)
        again = maxcut(self.GRAPH, time_limit=math.inf, max_rounds=0, checkpoint=path, warm_start=worse)
        assert again.cut_value == first.cut_value
