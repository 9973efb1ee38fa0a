"""`maxcut` and its proofs: exact sums, blocks, tables, and what a run that goes on from a checkpoint may claim."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sdp.maxcut import blockwise
from sdp.maxcut.graph import Graph
from sdp.maxcut.solve import maxcut
from tests.maxcut.random_graphs import graph_of, small_matrix
from tests.maxcut.sound import assert_sound, quick
from tools.make_graphs import torus


def test_fractional_weights_are_proved_by_exact_sums() -> None:
    """Bounds are rounded up, so that only sums without rounding say that a cut is the largest."""
    triangle = quick(Graph.from_edges([0, 1, 2], [1, 2, 0], [0.1, 0.2, 0.3]), time_limit=10)
    assert (triangle.status, triangle.cut_value) == ("optimal", 0.5)
    least = quick(Graph.from_edges([0, 1, 2], [1, 2, 0], [5e-324, -5e-324, 1e-323]), time_limit=10)
    assert (least.status == "optimal") <= (least.cut_value >= 1.5e-323)
    uneven = quick(Graph.from_edges([0, 2, 4], [1, 3, 5], [1e30, 1e-2, 1e-30]), time_limit=10)
    ends = uneven.partition.reshape(3, 2)
    assert uneven.status == "optimal"
    assert (ends[:, 0] != ends[:, 1]).all()


def test_zero_weights_beside_a_block_that_is_solved() -> None:
    weights = np.zeros((30, 30))
    weights[:6, :6] = np.random.default_rng(0).uniform(1.0, 1.1, (6, 6))
    u, v = np.triu_indices(30, 1)
    keep = (v < 6) | (u >= 6)
    graph = Graph.from_edges(u[keep], v[keep], weights[u[keep], v[keep]])
    assert_sound(quick(graph, time_limit=10), graph)


def test_many_blocks_keep_to_the_time() -> None:
    corner = np.arange(0, 8000, 2)
    cactus = Graph.from_edges(
        np.concatenate((corner, corner + 1, corner + 2)), np.concatenate((corner + 1, corner + 2, corner))
    )
    begin = time.perf_counter()
    result = maxcut(cactus, time_limit=1.0, reduce=False)
    assert time.perf_counter() - begin < 6.0  # a process for each of 4,000 blocks would take far longer
    assert_sound(result, cactus)


def test_twenty_four_vertices_are_always_solved() -> None:
    graph = graph_of(small_matrix(24, "dense", "normal", 3))
    result = quick(graph, time_limit=20)
    assert (result.status, result.bound_kind) == ("optimal", "exact reduction")


def test_a_resumed_run_looks_for_cycles_again(tmp_path: Path) -> None:
    graph = torus(30, 30, seed=1)
    first = maxcut(graph, method="hyperplanes", time_limit=1.0, checkpoint=tmp_path / "state")
    assert first.status != "optimal"
    second = maxcut(graph, time_limit=20.0, checkpoint=tmp_path / "state")
    assert second.status == "optimal"


def test_a_resumed_run_proves_what_it_certifies(tmp_path: Path) -> None:
    graph = torus(16, 16, seed=2)
    first = maxcut(graph, time_limit=20.0, checkpoint=tmp_path / "state")
    assert first.status == "optimal"
    second = maxcut(graph, time_limit=20.0, checkpoint=tmp_path / "state", certificate=tmp_path / "c.json.gz")
    assert second.status == "optimal"
    assert not [note for note in second.notes if note.startswith("the certificate proves")]


def test_without_a_dual_the_faces_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no such process")

    monkeypatch.setattr(blockwise, "DUAL_EDGES", 0)
    monkeypatch.setattr(blockwise, "matching_dual", broken)
    part = blockwise.Blockwise(torus(20, 20, seed=3)).parts[0]
    blockwise.bound_by_packing(part, lambda: False)
    part.bound = replace(part.bound, kind="matching")
    notes: list[str] = []
    blockwise.bound_by_program(
        part, seed=0, time_limit=20.0, should_stop=lambda: False, improved=lambda: None, note=notes.append
    )
    assert notes == ["no dual of the matching: no such process"]
    assert part.bound.kind in ("cycle LP", "branch and cut")


def test_a_sum_of_blocks_is_rounded_up() -> None:
    graph = Graph.from_edges([0, 2], [1, 3], [1.0, 2.0**-60])
    assert blockwise.Blockwise(graph).bound().value > 1.0
