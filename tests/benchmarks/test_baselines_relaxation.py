"""The torch baselines reach the known SDP optimum of small graphs; each observer call sees unit rows."""

import math

import numpy as np
import pytest
import torch

from benchmarks.baselines import torch_relaxation
from sdp.maxcut.graph import Graph

# The relaxation of a cycle of length 5 is 5/2 (1 + cos(pi/5)), Goemans and Williamson (1995).
PENTAGON = 2.5 * (1 + math.cos(math.pi / 5))
ITERATIONS = 400
RANK = 4
RELATIVE_ERROR = 2e-6  # float32 rows: 2^-24 each, and the square of the last step's error


def pentagon() -> Graph:
    return Graph.from_edges(np.arange(5), (np.arange(5) + 1) % 5)


def bipartite() -> Graph:
    u, v = np.divmod(np.arange(42), 6)
    return Graph.from_edges(u, 7 + v)


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("method", torch_relaxation.METHODS)
@pytest.mark.parametrize(
    ("graph", "optimum"), [(pentagon(), PENTAGON), (bipartite(), 42.0)], ids=["pentagon", "bipartite"]
)
def test_reaches_the_sdp_optimum(method: str, graph: Graph, optimum: float) -> None:
    relaxation = torch_relaxation.Relaxation.of(graph)
    values: list[float] = []

    def observe(v: torch.Tensor, value: float) -> bool:
        assert torch.allclose(v.norm(dim=1), torch.ones(graph.n_vertices), atol=1e-5)
        values.append(value)
        return len(values) == ITERATIONS

    start = torch_relaxation.start(graph.n_vertices, RANK, seed=3)
    before = start.clone()
    torch_relaxation.METHODS[method](relaxation, start, observe)
    assert torch.equal(start, before)
    assert values[-1] == pytest.approx(optimum, rel=RELATIVE_ERROR)
    assert max(values) <= optimum * (1 + RELATIVE_ERROR)


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("method", torch_relaxation.METHODS)
def test_isolated_vertices_and_negative_weights_keep_rows_finite(method: str) -> None:
    graph = Graph.from_edges([0, 1, 2], [1, 2, 0], [1.0, -2.0, -1.0], n_vertices=6)
    relaxation = torch_relaxation.Relaxation.of(graph)
    seen: list[torch.Tensor] = []

    def observe(v: torch.Tensor, value: float) -> bool:
        seen.append(v)
        return len(seen) == 50

    torch_relaxation.METHODS[method](relaxation, torch_relaxation.start(6, RANK, seed=0), observe)
    assert torch.isfinite(seen[-1]).all()
    assert relaxation.value(float((seen[-1] * (relaxation.adjacency @ seen[-1])).sum())) <= 1.0 + 1e-5


def test_same_seed_same_start() -> None:
    assert torch.equal(torch_relaxation.start(30, 5, seed=1), torch_relaxation.start(30, 5, seed=1))
    assert not torch.equal(torch_relaxation.start(30, 5, seed=1), torch_relaxation.start(30, 5, seed=2))
