"""What every result of `maxcut` promises, a quick call, and two graphs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sdp.maxcut.graph import Graph
from sdp.maxcut.result import MaxCutResult, relative_gap
from sdp.maxcut.solve import maxcut
from tools.make_graphs import random_sparse

MIDDLE = random_sparse(300, 7.0, "signs", 2)
LARGE = random_sparse(2600, 6.0, "signs", 1)  # above the dense bound's size

BOUND_KINDS = (
    "chebyshev",
    "cycle LP",
    "cycle packing",
    "dense",
    "exact reduction",
    "matching",
    "none",
    "sum of positive weights",
)


def assert_sound(result: MaxCutResult, graph: Graph) -> None:
    """What every result promises."""
    assert result.partition.dtype == np.uint8
    assert result.partition.shape == (graph.n_vertices,)
    assert set(np.unique(result.partition)) <= {0, 1}
    assert result.cut_value == graph.cut_value(result.partition)
    assert result.cut_value >= 0
    assert result.upper_bound >= result.cut_value * (1 - 1e-15)
    assert result.gap == relative_gap(result.cut_value, result.upper_bound) >= -1e-15
    assert set(result.bound_kind.split(" + ")) <= set(BOUND_KINDS)
    assert (result.delta > 0) == (result.bound_kind == "chebyshev")
    assert result.status in ("optimal", "target reached", "time limit", "rounds done", "interrupted")
    assert (result.n_vertices, result.n_edges) == (graph.n_vertices, graph.n_edges)
    seconds, values, bounds = zip(*result.history, strict=True)
    assert list(seconds) == sorted(seconds)
    assert list(values) == sorted(values)
    assert list(bounds) == sorted(bounds, reverse=True)
    assert values[-1] == result.cut_value
    assert bounds[-1] == result.upper_bound
    assert {"compile", "total"} <= set(result.timings)
    assert all(time >= 0 for time in result.timings.values())
    stages = sum(
        result.timings.get(stage, 0.0)
        for stage in ("reduce", "prepare", "cycles", "relax", "round", "polish")
    )
    assert stages <= result.timings["total"]


def quick(graph: Any, **keywords: Any) -> MaxCutResult:
    return maxcut(graph, **{"time_limit": math.inf, "max_rounds": 5, **keywords})
