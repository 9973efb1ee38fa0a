"""Compiling, or loading from numba's cache, the inner loops that a solve will need."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from sdp.maxcut import growth
from sdp.maxcut.balance import balanced_signs
from sdp.maxcut.bound import chebyshev_bound, ritz_vectors
from sdp.maxcut.branch import branch_and_cut
from sdp.maxcut.cycles import find_cycles
from sdp.maxcut.derandomize import METHODS as DERANDOMIZERS
from sdp.maxcut.derandomize import derandomize
from sdp.maxcut.graph import Graph
from sdp.maxcut.matching import MOST_ODD_OPEN, match
from sdp.maxcut.placement import is_interpreted
from sdp.maxcut.polish import Polisher
from sdp.maxcut.problem import Problem, prepare
from sdp.maxcut.relax import HIGH_RANK, LOW_RANK, WIDE_RANK, random_rows, relax
from sdp.maxcut.rounding import hyperplanes
from sdp.maxcut.rows import packing_bound
from sdp.maxcut.shrink import shrink, solve_blocks
from sdp_kernels.graph import fields

CPU = torch.device("cpu")


def rehearse(method: str, device: torch.device = CPU, n_edges: int = 0) -> float:
    """Runs every stage of a method on four vertices, once a process and device; the seconds it took.

    So many edges decide whether there may be enough frustrated cycles to need loops of their own.

    Half a minute on a fresh installation, a fraction of a second once the machine code is in the cache. Of stages whose
    kernels are interpreted, which compiles nothing, none.
    """
    begin = time.perf_counter()
    if is_interpreted(device):
        _host_stages()
    elif method in DERANDOMIZERS:
        _derandomizers(device)
    else:
        _stages(device)
    if n_edges > MOST_ODD_OPEN and method == "auto":
        _many_cycles()
    return time.perf_counter() - begin


@cache
def _stages(device: torch.device) -> tuple[Problem, Tensor]:
    """The problem of four vertices on this device, and the rows of its relaxation."""
    problem = _host_stages().to(device)
    # Compiled kernels are made for one rank; the CPU's are made for all.
    for rank in () if device.type == "cpu" else (LOW_RANK, 2 * LOW_RANK, HIGH_RANK, WIDE_RANK):
        relax(problem, target_gap=0.0, time_limit=0.0, rank=rank)
    V = relax(problem, target_gap=0.0, time_limit=0.0).V
    h = fields(problem.csr, V)[0]
    for seed in seeds(device):
        random_rows(problem.n_vertices, LOW_RANK, seed, device)
        # Only graphs above the dense bound's size need the Chebyshev steps.
        block = chebyshev_bound(problem, h, steps=2, delta=0.5, seed=seed)[1]
    ritz_vectors(problem, h, block)
    signs = hyperplanes(problem.csr, V, 1, 0)[0]
    for seed in seeds(device):
        _polish(problem, signs, seed)
    if device.type != "cpu":  # whose annealing has another way for weights of several magnitudes
        weighted = prepare(Graph.from_edges([0, 0, 1, 2], [1, 2, 2, 3], [1, 2, 3, 4])).to(device)
        for seed in seeds(device):
            _polish(weighted, signs, seed)
    return problem, V


def seeds(device: torch.device) -> tuple[int, ...]:
    """Seeds to rehearse with: a kernel compiled for a number of 32 bits is compiled again for one of 64."""
    return (0,) if device.type == "cpu" else (0, 1 << 62)


@cache
def _host_stages() -> Problem:
    """The problem of four vertices, on the CPU."""
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
    return problem


@cache
def _many_cycles() -> None:
    graph = Graph.from_edges([0, 0, 1, 2], [1, 2, 2, 3])
    family = find_cycles(graph)
    grown = growth.least_join(graph, family)
    assert grown is not None
    # Asked for more than there is, patches are tried, too.
    growth.cut_near(graph, family, replace(grown, least=-1.0), seed=0, should_stop=lambda: False)


def _polish(problem: Problem, start: Tensor, seed: int) -> None:
    polisher = Polisher(
        problem, seed=seed, should_stop=lambda: False, improved=lambda _: None, time_limit=1e-3
    )
    polisher.run([start], 2)


@cache
def _derandomizers(device: torch.device) -> None:
    problem, V = _stages(device)
    for method in DERANDOMIZERS:
        derandomize(problem.csr, V, method, seed=0)
