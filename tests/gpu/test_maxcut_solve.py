"""On a GPU: a relaxation to its certified gap and whole solves, against the CPU engine. Run by `make gpu`.

The CPU and a device anneal different numbers of partitions, so their cuts differ; bounds are of the same relaxation.
"""

from __future__ import annotations

import math
import os

import numpy as np
import pytest
import torch

from sdp.maxcut.graph import Graph
from sdp.maxcut.problem import prepare
from sdp.maxcut.relax import relax
from sdp.maxcut.solve import maxcut
from tools import make_graphs

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    pytest.mark.skipif(
        os.environ.get("TRITON_INTERPRET") == "1", reason="triton interprets here; run make gpu"
    ),
]

GRAPHS = {
    "hubs": make_graphs.rmat(12, 8.0, seed=1),
    "signed": make_graphs.random_sparse(3000, 8.0, weights="signs", seed=2),
    "fractional": make_graphs.random_sparse(3000, 8.0, weights="normal", seed=3),
}


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS.keys())
def test_relaxation_reaches_its_certified_gap(graph: Graph) -> None:
    gap = 1e-3
    problem = prepare(graph)
    ours, theirs = (relax(problem.to(torch.device(d)), target_gap=gap, seed=4) for d in ("cuda", "cpu"))
    assert ours.V.device.type == "cuda"
    assert ours.relative_gap(problem) <= gap
    assert abs(ours.value - theirs.value) * problem.scale <= 2 * gap * problem.absolute_weight
    # Either bound is valid for the other's value.
    assert ours.bound is not None
    assert theirs.bound is not None
    assert min(ours.bound.value, theirs.bound.value) >= max(ours.value, theirs.value) * (1 - 1e-6)


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS.keys())
def test_a_solve_cuts_what_it_says_and_repeats_itself(graph: Graph) -> None:
    found = [
        maxcut(graph, device="cuda", seed=5, time_limit=math.inf, max_rounds=3, method=method)
        for method in ("auto", "auto", "anneal")
    ]
    for result in found:
        assert result.cut_value == graph.cut_value(result.partition)
        assert result.cut_value <= result.upper_bound
    assert np.array_equal(found[0].partition, found[1].partition)
    assert found[0].upper_bound == found[1].upper_bound
    on_cpu = maxcut(graph, device="cpu", seed=5, time_limit=math.inf, max_rounds=3)
    assert found[0].cut_value >= 0.99 * on_cpu.cut_value
    assert found[0].cut_value <= on_cpu.upper_bound
