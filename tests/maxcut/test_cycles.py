"""Cycle families, the packing bound and the matching bound: never below brute force, and tight where theory says so."""

from __future__ import annotations

import importlib
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from hypothesis import given, settings
from numpy.typing import NDArray

from sdp.maxcut.cycles import CycleFamily, find_cycles
from sdp.maxcut.graph import Graph
from sdp.maxcut.matching import match
from sdp.maxcut.reduce import reduce
from sdp.maxcut.rows import packing_bound
from sdp.maxcut.solve import maxcut
from tests.maxcut.random_graphs import SHAPES, WEIGHTS, graph_of, small_matrix
from tests.reference import cuts
from tools.make_graphs import random_sparse, torus

process_module = importlib.import_module("sdp.maxcut._process")


def grid(rows: int, columns: int, weights: str, seed: int) -> Graph:
    """A planar grid with one diagonal in some of its squares."""
    rng = np.random.default_rng(seed)
    at = np.arange(rows * columns).reshape(rows, columns)
    pairs = [(at[:, :-1], at[:, 1:]), (at[:-1], at[1:]), (at[:-1, :-1], at[1:, 1:])]
    u, v = (np.concatenate([pair[side].ravel() for pair in pairs]) for side in (0, 1))
    kept = np.arange(u.size) < u.size - at[1:, 1:].size
    kept |= rng.random(u.size) < 0.5
    draws = {
        "signs": rng.choice([-1.0, 1.0], u.size),
        "integers": rng.integers(-9, 10, u.size).astype(float),
        "normal": rng.normal(size=u.size),
        "large": rng.integers(-(2**40), 2**40, u.size).astype(float),
    }
    return Graph.from_edges(u[kept], v[kept], draws[weights][kept], n_vertices=at.size)


def best_cut_of_strip(graph: Graph, columns: int) -> float:
    """Maximum cut of a graph whose edges join neighbouring rows of `columns` vertices: dynamic programming by rows."""
    spins = np.array(list(itertools.product((0, 1), repeat=columns)))
    W = graph.to_scipy().toarray()
    best = np.zeros(len(spins))
    for row in range(graph.n_vertices // columns):
        here = slice(row * columns, (row + 1) * columns)
        differ = spins[:, :, None] != spins[:, None, :]
        within = 0.5 * np.einsum("sij,ij->s", differ, W[here, here])
        if row:
            before = slice((row - 1) * columns, row * columns)
            across = W[before, here]
            apart = spins @ across.sum(0)  # where the row before is all 0
            between = apart[None, :] + (spins @ across.sum(1))[:, None] - 2 * spins @ across @ spins.T
            best = (best[:, None] + between).max(0)
        best = best + within
    return float(best.max())


def lp_bound(graph: Graph, family: CycleFamily) -> float:
    """The bound of all odd subsets of the family's cycles by linear programming: another way to the same value."""
    weights = graph.edges()[2]
    rows, right = [], []
    for c in range(family.n_cycles):
        edges = family.members[family.pointers[c] : family.pointers[c + 1]]
        for size in range(1, len(edges) + 1, 2):
            for odd in itertools.combinations(range(len(edges)), size):
                row = np.zeros(graph.n_edges)
                row[edges] = -1.0
                row[edges[list(odd)]] = 1.0
                rows.append(row)
                right.append(size - 1.0)
    found = scipy.optimize.linprog(-weights, scipy.sparse.csr_array(np.array(rows)), right, bounds=(0, 1))
    assert found.status == 0
    return float(-found.fun)


class TestFamilies:
    @pytest.mark.parametrize(("rows", "columns"), [(5, 5), (7, 30), (50, 40)])
    def test_faces_of_a_torus(self, rows: int, columns: int) -> None:
        graph = torus(rows, columns, seed=0)
        family = find_cycles(graph)
        assert family.n_cycles == graph.n_vertices
        assert set(np.diff(family.pointers)) == {4}
        assert (np.bincount(family.members) == 2).all()

    def test_faces_of_a_triangulation(self) -> None:
        import scipy.spatial

        points = np.random.default_rng(0).random((2000, 2))
        triangles = scipy.spatial.Delaunay(points).simplices
        pairs = np.sort(
            np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [0, 2]]]), axis=1
        )
        u, v = np.unique(pairs, axis=0).T
        graph = Graph.from_edges(u, v)
        family = find_cycles(graph, 3)
        assert family.n_cycles == len(triangles)
        # Every triangle leaves an edge uncut, and an edge lies in at most two.
        assert packing_bound(graph, family).value == np.floor(graph.n_edges - len(triangles) / 2)

    @settings(max_examples=200, deadline=None)
    @given(n=st.integers(2, 40), degree=st.floats(0, 8), seed=st.integers(0, 2**31 - 1))
    def test_members_are_simple_cycles(self, n: int, degree: float, seed: int) -> None:
        graph = random_sparse(n, min(degree, n - 1.0), seed=seed)
        u, v, _ = graph.edges()
        family = find_cycles(graph, 7)
        assert family.n_edges == graph.n_edges
        assert (np.bincount(family.members, minlength=1) <= 2).all()
        for c in range(family.n_cycles):
            edges = family.members[family.pointers[c] : family.pointers[c + 1]]
            ends = np.concatenate([u[edges], v[edges]])
            assert len(edges) >= 3
            assert (np.unique(ends, return_counts=True)[1] == 2).all()
            assert len(np.unique(ends)) == len(edges)

    def test_hubs_stop_searches_and_nothing_has_no_cycles(self) -> None:
        star = Graph.from_edges(np.zeros(3000, int), np.arange(1, 3001))
        assert find_cycles(star).n_cycles == 0
        assert find_cycles(Graph.from_edges([], [], n_vertices=3)).n_cycles == 0

    def test_it_can_be_stopped(self) -> None:
        graph = torus(20, 20, seed=0)
        assert (
            find_cycles(graph, should_stop=lambda: True).n_cycles == 0
        )  # after the triangles, of which there are none


@settings(max_examples=2000, deadline=None)
@given(
    n=st.integers(2, 12),
    shape=st.sampled_from(SHAPES),
    weights=st.sampled_from(WEIGHTS),
    seed=st.integers(0, 2**31 - 1),
)
def test_packing_is_never_below_brute_force(n: int, shape: str, weights: str, seed: int) -> None:
    W = small_matrix(n, shape, weights, seed)
    graph = graph_of(W)
    oracle = 0.0 if graph.is_integer else 1e-14 * graph.absolute_weight
    assert packing_bound(graph, find_cycles(graph, 6)).value >= cuts.best_cut(W) - oracle


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("weights", WEIGHTS)
def test_matching_is_never_below_brute_force(weights: str, seed: int) -> None:
    W = small_matrix(11, "random", weights, seed)
    graph = graph_of(W)
    if graph.n_edges == 0:
        return
    found = match(graph, find_cycles(graph, 6))
    assert found is not None
    oracle = 0.0 if graph.is_integer else 1e-14 * graph.absolute_weight
    best = cuts.best_cut(W)
    assert found.bound.value >= best - oracle
    assert graph.cut_value(found.partition) <= best + oracle


@pytest.mark.parametrize("weights", ["signs", "integers", "large", "normal"])
@pytest.mark.parametrize("rows", [4, 25])
def test_planar_graphs_are_solved(rows: int, weights: str) -> None:
    graph = grid(rows, 6, weights, rows)
    best = best_cut_of_strip(graph, 6)
    found = match(graph, find_cycles(graph))
    assert found is not None
    # Weights beyond 2^23 are rounded down to a grid on which the largest is 2^23.
    rounding = graph.n_edges * 2.0**-22 * float(np.abs(graph.weights64).max())
    slack = rounding if weights in ("large", "normal") else 0.0
    assert best <= found.bound.value * (1 + 1e-15) <= best + slack + 1e-9
    assert graph.cut_value(found.partition) >= best - slack - 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_linear_programming_finds_the_same_bound(seed: int) -> None:
    for graph in (
        grid(4, 5, "integers", seed),
        torus(3, 5, seed=seed),
        random_sparse(14, 3.0, "signs", seed),
    ):
        family = find_cycles(graph, 5)
        found = match(graph, family)
        assert found is not None
        # Edges on one cycle only may end anywhere, so both are the least T-join, one by duality.
        assert found.bound.value == pytest.approx(np.floor(lp_bound(graph, family) + 1e-6), abs=1e-6)


@pytest.mark.parametrize("seed", [0, 3, 4])
def test_tori_are_optimal(seed: int) -> None:
    graph = torus(30, 40, seed=seed)
    result = maxcut(graph, time_limit=60)
    assert result.status == "optimal"
    assert result.cut_value == result.upper_bound
    assert (result.bound_kind, result.delta) == ("matching", 0.0)


def test_planar_graphs_are_optimal_through_the_front_door() -> None:
    graph = grid(60, 60, "integers", 1)
    result = maxcut(graph, time_limit=40)
    assert result.status == "optimal"
    assert result.bound_kind == "matching"
    assert result.delta == 0.0


def test_the_bound_of_what_is_left_is_one_of_the_whole() -> None:
    graph = grid(25, 6, "integers", 7)
    reduction = reduce(graph)
    if reduction.graph.n_edges:
        found = match(reduction.graph, find_cycles(reduction.graph))
        assert found is not None
        assert reduction.upper_bound(found.bound.value) >= best_cut_of_strip(graph, 6)


class TestTheProcess:
    GRAPH = torus(12, 12, seed=1)

    def test_it_can_be_stopped(self) -> None:
        assert match(self.GRAPH, find_cycles(self.GRAPH), should_stop=lambda: True) is None

    def test_a_solve_survives_its_failure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(process_module.sys, "executable", None)
        result = maxcut(self.GRAPH, time_limit=20, max_rounds=3)
        assert any(note.startswith("no matching bound: there is no Python") for note in result.notes)
        assert result.cut_value > 0

    def test_the_folder_of_the_user_does_not_matter(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "token.py").write_text("raise SystemExit('not this one')")
        monkeypatch.chdir(tmp_path)
        assert match(self.GRAPH, find_cycles(self.GRAPH)) is not None

    def test_it_ends_with_its_parent(self, tmp_path: Path) -> None:
        program = (
            "import sys, time; from sdp.maxcut import _process\n"
            "_process.time.sleep = lambda seconds: (print(flush=True), time.monotonic)\n"
            "from sdp.maxcut import matching; from sdp.maxcut.cycles import find_cycles\n"
            "from tools.make_graphs import torus\n"
            "graph = torus(300, 300, seed=0); matching.match(graph, find_cycles(graph))\n"
        )
        environment = {
            **os.environ,
            "TMPDIR": str(tmp_path),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        with subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment
        ) as parent:
            assert parent.stdout is not None
            parent.stdout.readline()  # the child has been started
            parent.kill()
        until = time.monotonic() + 60
        while list(tmp_path.glob("sdp-matching-*")) and time.monotonic() < until:
            time.sleep(0.05)
        assert not list(tmp_path.glob("sdp-matching-*"))

    def test_what_fails_is_told(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        broken = tmp_path / "python"
        broken.write_text("#!/bin/sh\necho no blossoms >&2\nexit 3\n")
        broken.chmod(0o755)
        monkeypatch.setattr(process_module.sys, "executable", str(broken))
        with pytest.raises(RuntimeError, match="status 3: no blossoms"):
            match(self.GRAPH, find_cycles(self.GRAPH))

    def test_the_same_seed_gives_the_same_cut(self) -> None:
        family = find_cycles(self.GRAPH)
        found = [match(self.GRAPH, family, seed=seed) for seed in (5, 5, 6)]
        one, other, third = (matching.partition for matching in found if matching is not None)
        np.testing.assert_array_equal(one, other)
        assert not np.array_equal(one, third)

    def test_nothing_frustrated_needs_no_matching(self) -> None:
        graph = Graph.from_edges([0, 1, 2, 3], [1, 2, 3, 0])
        found = match(graph, find_cycles(graph))
        assert found is not None
        assert found.bound.value == graph.cut_value(found.partition) == 4.0


def wheel(spokes: int) -> NDArray[np.float64]:
    W = np.zeros((spokes + 1, spokes + 1))
    for i in range(spokes):
        W[spokes, i] = W[i, spokes] = 1.0
        W[i, (i + 1) % spokes] = W[(i + 1) % spokes, i] = 1.0
    return W


@pytest.mark.parametrize("spokes", [4, 5, 8, 11])
def test_wheels(spokes: int) -> None:
    W = wheel(spokes)
    found = match(graph_of(W), find_cycles(graph_of(W), spokes))
    assert found is not None
    assert found.bound.value == cuts.best_cut(W)
