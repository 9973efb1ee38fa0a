"""Compiling, or loading from numba's cache, the inner loops that a solve will need."""

from __future__ import annotations

import time
from functools import cache

from torch import Tensor

from sdp.maxcut.balance import balanced_signs
from sdp.maxcut.bound import chebyshev_bound, ritz_vectors
from sdp.maxcut.branch import branch_and_cut
from sdp.maxcut.cycles import find_cycles
from sdp.maxcut.derandomize import METHODS as DERANDOMIZERS
from sdp.maxcut.derandomize import derandomize
from sdp.maxcut.graph import Graph
from sdp.maxcut.matching import match
from sdp.maxcut.polish import Polisher
from sdp.maxcut.problem import Problem, prepare
from sdp.maxcut.relax import relax
from sdp.maxcut.rounding import hyperplanes
from sdp.maxcut.rows import packing_bound
from sdp.maxcut.shrink import shrink, solve_blocks
from sdp_kernels.graph import fields


def rehearse(method: str) -> float:
    """Runs every stage of a method on four vertices, once a process; the seconds it took.

    Half a minute on a fresh installation, a fraction of a second once the machine code is in the cache.
    """
    begin = time.perf_counter()
    if method in DERANDOMIZERS:
        _derandomizers()
    else:
        _stages()
    return time.perf_counter() - begin


@cache
def _stages() -> tuple[Problem, Tensor]:
    """The problem of four vertices and the rows of its relaxation."""
    graph = Graph.from_edges([0, 0, 1, 2], [1, 2, 2, 3])
    shrink(graph).lift([])
    wide = Graph.from_edges([0, 0, 0, 1, 1, 2], [1, 2, 3, 2, 3, 3])
    solved = solve_blocks(wide)
    assert solved is not None
    solved.lift([])
    match(graph, find_cycles(graph, 2))
    branch_and_cut(wide)
    packing_bound(graph, find_cycles(graph))
    problem = prepare(graph)
    balanced_signs(problem)
    V = relax(problem, target_gap=0.0, time_limit=0.0).V
    h = fields(problem.csr, V)[0]
    # Only graphs above the dense bound's size need the Chebyshev steps.
    block = chebyshev_bound(problem, h, steps=2, delta=0.5, seed=0, columns=2)[1]
    ritz_vectors(problem, h, block)
    signs = hyperplanes(problem.csr, V, 1, 0)[0]
    polisher = Polisher(problem, seed=0, should_stop=lambda: False, improved=lambda _: None, time_limit=1e-3)
    polisher.run([signs], 2)
    return problem, V


@cache
def _derandomizers() -> None:
    problem, V = _stages()
    for method in DERANDOMIZERS:
        derandomize(problem.csr, V, method, seed=0)
