"""Growing regions: T-joins as light as another code's, T-cuts that weigh the same, at any time a bound."""

from __future__ import annotations

import importlib
import itertools

import numba
import numpy as np
import pytest
from numpy.typing import NDArray

from sdp.maxcut import _grown, _moats, growth
from sdp.maxcut._growth import grow
from sdp.maxcut._match import least_join
from sdp.maxcut._regions import planted
from sdp.maxcut.cycles import find_cycles
from sdp.maxcut.dual_graph import check_packing, dual_graph
from sdp.maxcut.graph import Graph
from sdp.maxcut.matching import match
from sdp.maxcut.matching_dual import matching_dual
from tests.maxcut.test_cycles import best_cut_of_strip, grid
from tests.maxcut.test_matching_dual import dense_bound, here
from tests.maxcut.test_patches import best_cut_of_torus
from tools.make_graphs import torus, triangulation

__all__ = ["here"]
matching_module = importlib.import_module("sdp.maxcut.matching")
dual_module = importlib.import_module("sdp.maxcut.matching_dual")


def by_growing(patch: pytest.MonkeyPatch) -> None:
    """Has even few frustrated cycles matched by growing."""
    patch.setattr(matching_module, "MOST_ODD", 0)
    patch.setattr(matching_module, "MOST_ODD_OPEN", 0)
    patch.setattr(dual_module, "MOST_ODD", 0)


@pytest.fixture
def grown(monkeypatch: pytest.MonkeyPatch) -> None:
    by_growing(monkeypatch)


def random_ends(n: int, m: int, rng: np.random.Generator, *, outside: bool) -> NDArray[np.int64]:
    """A connected multigraph without loops on nodes 0 to n - 1 and, if so, the outside n, int64 (m, 2)."""
    last = n + outside
    tree = np.stack([np.arange(1, last), [rng.integers(0, k) for k in range(1, last)]], 1)
    more = rng.integers(0, last, (m, 2))
    return np.concatenate([tree, more[more[:, 0] != more[:, 1]]]).astype(np.int64)


def weight_by_pymatching(ends: NDArray[np.int64], costs: NDArray[np.int64], odd: NDArray[np.bool_]) -> int:
    import scipy.sparse

    places, columns = ends.ravel(), np.repeat(np.arange(len(ends)), 2)
    inner = places < odd.size
    incidence = scipy.sparse.csc_matrix(
        (np.ones(int(inner.sum()), np.uint8), (places[inner], columns[inner])), shape=(odd.size, len(ends))
    )
    return int(costs[least_join(incidence, costs.astype(np.float64), odd)].sum())


@pytest.mark.parametrize("largest", [1, 3, 1000], ids=["unit", "small with zeros", "large"])
@pytest.mark.parametrize("outside", [False, True])
def test_random_graphs_agree_with_another_code(largest: int, outside: bool) -> None:
    for seed in range(150):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(2, 60))
        ends = random_ends(n, int(rng.integers(0, 3 * n)), rng, outside=outside)
        costs = rng.integers(largest == 1 or (largest > 3), largest + 1, len(ends))
        odd = rng.random(n) < rng.choice([0.2, 0.5, 1.0])
        if not outside and odd.sum() % 2:
            odd[0] ^= True
        regions = planted(ends, 2 * costs, np.flatnonzero(odd), n)
        assert grow(regions, 2**62) == 0
        join = _grown.join_of(regions)
        parity = np.bincount(ends[join].ravel(), minlength=n + 1)[:n] % 2 == 1
        assert (parity == odd).all()
        sets = _grown.nested_sets(regions)
        cuts = _moats.t_cuts(ends, 2 * costs, n + 1, *sets)
        check_packing(2 * costs, *cuts, int(sets[2].sum()))
        assert 2 * costs[join].sum() == sets[2].sum() == 2 * weight_by_pymatching(ends, costs, odd)


def test_what_has_no_join_is_said() -> None:
    ends = np.array([[0, 1], [1, 2]])
    assert grow(planted(ends, np.array([2, 2]), np.array([0, 1, 2]), 3), 2**62) < 0


@pytest.mark.parametrize("graph", [torus(14, 14, seed=3), grid(15, 12, "normal", 2)], ids=["torus", "grid"])
def test_a_stopped_search_bounds(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    family = find_cycles(graph)
    faces, _ = dual_graph(family)
    whole = growth.least_join(graph, family)
    assert whole is not None
    assert whole.is_least
    best = growth.cut_near(graph, family, whole, seed=0, should_stop=lambda: False)
    monkeypatch.setattr(growth, "EVENTS", 50)
    sums = []
    for questions in itertools.count(1):
        asked = iter([False] * questions)
        found = growth.least_join(graph, family, should_hurry=lambda asked=asked: next(asked, True))  # type: ignore[misc]
        assert found is not None
        parity = np.bincount(faces[found.join].ravel(), minlength=family.n_cycles + 1)[:-1] % 2 == 1
        assert (parity == family.frustrated(graph.edges()[2])).all()
        assert dense_bound(graph, found.rows) >= graph.cut_value(best) - 1e-9
        sums.append(found.least)
        if found.is_least:
            break
        sides = growth.cut_near(graph, family, found, seed=0, should_stop=lambda: False)
        assert graph.cut_value(sides) <= dense_bound(graph, whole.rows) + 1e-9
    assert len(sums) > 3
    assert sums == sorted(sums)
    assert sums[0] < sums[-1] == whole.least


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("weights", ["signs", "integers", "normal"])
def test_open_and_closed_surfaces_agree_with_the_other_codes(
    weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for graph in (grid(25, 6, weights, 3), torus(13, 9, "signs" if weights == "signs" else "normal", 4)):
        family = find_cycles(graph)
        found, dual = match(graph, family), matching_dual(graph, family)
        with monkeypatch.context() as patch:
            by_growing(patch)
            again, rows = match(graph, family), matching_dual(graph, family)
        assert found is not None
        assert dual is not None
        assert again is not None
        assert again.rows is not None
        assert rows is not None
        # The finer grid can only lower the bound, by a part in 2^23 of the T-join.
        assert found.bound.value * (1 - 1e-6) <= again.bound.value <= found.bound.value * (1 + 1e-12)
        assert rows.least == pytest.approx(dual.least, rel=1e-6)
        assert rows.least == dual.least or not graph.is_integer
        assert dense_bound(graph, again.rows) == pytest.approx(dense_bound(graph, rows.rows), rel=1e-12)


@pytest.mark.usefixtures("grown")
@pytest.mark.parametrize("weights", ["signs", "integers", "large"])
def test_cuts_of_strips_are_the_best(weights: str) -> None:
    graph = grid(25, 6, weights, 3)
    found = match(graph, find_cycles(graph))
    assert found is not None
    best = best_cut_of_strip(graph, 6)
    assert graph.cut_value(found.partition) == best
    # Weights up to 10^12 are beyond the grid of 36 bits.
    assert best <= found.bound.value <= best * (1 + (1e-9 if weights == "large" else 0))


@pytest.mark.usefixtures("grown")
def test_cuts_of_tori_are_nearly_the_best() -> None:
    for seed in range(6):
        graph = torus(11, 6, seed=seed)
        found = match(graph, find_cycles(graph))
        assert found is not None
        best = best_cut_of_torus(graph, 11, 6)
        # A torus so narrow is one patch: what is left is the choice of how to go round.
        assert best - 8 <= graph.cut_value(found.partition) <= best <= found.bound.value


@pytest.mark.usefixtures("grown")
@pytest.mark.parametrize(
    "graph", [torus(40, 30, seed=1), triangulation(900, "signs", 1)], ids=["torus", "mesh"]
)
def test_threads_and_repetition_change_nothing(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "PATCH", 100)
    monkeypatch.setattr(growth, "LARGE_PATCH", 300)
    family, before = find_cycles(graph), numba.get_num_threads()
    found = []
    try:
        for threads in (1, before, before):
            numba.set_num_threads(threads)
            found.append(match(graph, family, seed=5))
    finally:
        numba.set_num_threads(before)
    first = found[0]
    assert first is not None
    assert first.rows is not None
    assert first.bound.value - graph.cut_value(first.partition) <= 0.01 * first.bound.value
    for other in found[1:]:
        assert other is not None
        assert other.rows is not None
        assert (other.partition == first.partition).all()
        assert (other.rows.members == first.rows.members).all()
        assert (other.rows.multipliers == first.rows.multipliers).all()
