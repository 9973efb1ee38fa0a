"""Each installed peer finds the maximum cut of a small graph, in vertex order and within its time."""

import itertools

import numpy as np
import pytest

from sdp.maxcut.graph import Graph

SECONDS = 0.3


def small() -> Graph:
    """Eleven vertices of weights of either sign, one of them isolated, so that an order mixed up shows."""
    rng = np.random.default_rng(5)
    pairs = np.array(list(itertools.combinations(range(10), 2)))
    pairs = pairs[rng.random(len(pairs)) < 0.6]
    return Graph.from_edges(pairs[:, 0], pairs[:, 1], rng.integers(-3, 6, len(pairs)), n_vertices=11)


def maximum(graph: Graph) -> float:
    return max(
        graph.cut_value(np.array([0, *sides, 0]))
        for sides in itertools.product([0, 1], repeat=graph.n_vertices - 2)
    )


@pytest.mark.parametrize("name", ["simulated_annealing", "tabu"])
def test_dwave(name: str) -> None:
    pytest.importorskip("dwave.samplers")
    from benchmarks.baselines import dwave

    graph = small()
    answer = getattr(dwave, name)(graph, SECONDS, seed=0)
    assert answer.partition.shape == (graph.n_vertices,)
    assert graph.cut_value(answer.partition) == maximum(graph)
    assert answer.seconds < 10 * SECONDS


@pytest.mark.filterwarnings("ignore:Sparse")
def test_simulated_bifurcation() -> None:
    pytest.importorskip("simulated_bifurcation")
    from benchmarks.baselines import bifurcation

    graph = small()
    answer = bifurcation.discrete(graph, SECONDS, seed=0)
    assert answer.partition.shape == (graph.n_vertices,)
    # It is no exact method; a mixed-up order would give about half.
    assert graph.cut_value(answer.partition) >= 0.9 * maximum(graph)


def test_mqlib() -> None:
    pytest.importorskip("MQLib")
    from benchmarks.baselines import mqlib

    graph = small()
    answer = mqlib.burer2002(graph, SECONDS, seed=0)
    assert graph.cut_value(answer.partition) == maximum(graph)
