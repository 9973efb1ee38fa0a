"""Patches are discs, and cuts of tori are found where the least T-join is none."""

from __future__ import annotations

import numpy as np
import pytest

from sdp.maxcut import _cycle_family
from sdp.maxcut._patches import patches
from sdp.maxcut.cycles import find_cycles
from sdp.maxcut.dual_graph import dual_graph
from sdp.maxcut.graph import Graph
from sdp.maxcut.matching import match
from tests.maxcut.test_matching_dual import here
from tools.make_graphs import torus

__all__ = ["here"]


def best_cut_of_torus(graph: Graph, rows: int, columns: int) -> float:
    """Maximum cut of a torus: dynamic programming round it, once for each state of the first row."""
    W = graph.to_scipy().toarray()
    spins = 1 - 2 * ((np.arange(2**columns)[:, None] >> np.arange(columns)) & 1)
    blocks = W.reshape(rows, columns, rows, columns).transpose(0, 2, 1, 3)
    within = [
        0.25 * (blocks[r, r].sum() - np.einsum("si,ij,sj->s", spins, blocks[r, r], spins))
        for r in range(rows)
    ]
    across = [
        0.5 * (blocks[r, (r + 1) % rows].sum() - spins @ blocks[r, (r + 1) % rows] @ spins.T)
        for r in range(rows)
    ]
    best = np.where(np.eye(len(spins), dtype=bool), within[0][:, None], -np.inf)
    for r in range(1, rows):
        best = np.stack([(line[:, None] + across[r - 1]).max(0) for line in best]) + within[r]
    return float((best + across[-1].T).max())


@pytest.mark.parametrize(("rows", "columns", "many"), [(12, 17, 1), (30, 20, 6)])
def test_patches_of_a_torus_are_discs(rows: int, columns: int, many: int) -> None:
    graph = torus(rows, columns, seed=0)
    family = find_cycles(graph)
    faces, edges = dual_graph(family)
    u, v, _ = graph.edges()
    ends = np.stack([u, v], 1)[edges].astype(np.int64)
    rng = np.random.default_rng(0)
    centres = rng.permutation(family.n_cycles)[:many]
    label, inside = patches(faces, ends, centres, family.n_cycles, graph.n_vertices)
    assert sorted(set(label.tolist())) == list(range(many))
    assert (label[faces[inside, 0]] == label[faces[inside, 1]]).all()
    # A disc with f faces, e edges inside and n vertices inside has f - e + n = 1; every disc's faces hang together.
    outer = np.unique(ends[~inside])
    assert family.n_cycles - inside.sum() + (graph.n_vertices - outer.size) == many
    # Turning vertices inside over changes edges inside only.
    flips = np.zeros(graph.n_vertices, np.bool_)
    flips[np.setdiff1d(np.arange(graph.n_vertices), outer)] = rng.random(graph.n_vertices - outer.size) < 0.5
    loop = flips[ends[:, 0]] != flips[ends[:, 1]]
    assert inside[loop].all()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("seed", range(8))
def test_cuts_of_tori_are_the_best(seed: int) -> None:
    graph = torus(11, 6, seed=seed)
    found = match(graph, find_cycles(graph))
    assert found is not None
    best = best_cut_of_torus(graph, 11, 6)
    assert graph.cut_value(found.partition) == best <= found.bound.value


def test_agreeing_sides_of_a_cut_are_its_own() -> None:
    graph = torus(9, 9, seed=2)
    u, v, _ = graph.edges()
    sides = np.random.default_rng(1).integers(0, 2, graph.n_vertices).astype(np.uint8)
    crosses = sides[u] != sides[v]
    again = _cycle_family.agreeing_sides(u, v, np.arange(u.size), crosses, graph.n_vertices)
    assert ((again[u] != again[v]) == crosses).all()
