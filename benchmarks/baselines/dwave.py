"""dwave-samplers: simulated annealing and tabu search, both on one thread.

Simulated annealing takes a number of sweeps, not a time, so two short runs find how many sweeps fill the
time. Its binary quadratic model is set up before the clock starts, and so is the range of temperatures, a
Python loop over the edges that takes longer than the annealing of a large graph. The clock is the
sampler's own ``sampling_ns``, so that not even its copying of arrays is charged. One long run: on graphs
of this size it beats several shorter ones at equal time.
"""

import importlib
from typing import Any

import numpy as np

from benchmarks._graphs import edges
from benchmarks.baselines._answer import Answer, Stopwatch, sides
from sdp.maxcut.graph import Graph

CALIBRATION_SHARE = 0.04  # of the time limit, for the longer of the two short runs
FIRST_SWEEPS = 10
EARLY = 0.93  # a run that took less than this share of the time is run again with more sweeps
LARGEST_TABU = 12_000  # vertices: the sampler makes dense float64 (n, n) matrices, three at a time


def quadratic_model(graph: Graph) -> Any:
    """The model whose energy is sum_e w_e s_u s_v, lowest where the cut is largest; every vertex is in it."""
    dimod: Any = importlib.import_module("dimod")  # typed where installed, and here it need not be
    u, v, w = edges(graph)
    return dimod.BinaryQuadraticModel.from_numpy_vectors(
        np.zeros(graph.n_vertices), (u, v, w), 0.0, dimod.SPIN
    )


def simulated_annealing(graph: Graph, time_limit: float, seed: int) -> Answer:
    """The sampler's default schedule over as many sweeps as fill the time.

    Args:
        graph: at least one edge.
        time_limit: seconds of sampling.
        seed: of the sampler.
    """
    import dwave.samplers

    watch = Stopwatch()
    model = quadratic_model(graph)
    sampler: Any = dwave.samplers.SimulatedAnnealingSampler  # has no types
    annealer = sampler()

    def sample(n_sweeps: int, beta_range: Any) -> tuple[Any, float]:
        found = annealer.sample(model, num_reads=1, num_sweeps=n_sweeps, beta_range=beta_range, seed=seed)
        return found, found.info["timing"]["sampling_ns"] * 1e-9

    found, first = sample(FIRST_SWEEPS, None)
    beta_range = list(found.info["beta_range"])
    more_sweeps = FIRST_SWEEPS + max(FIRST_SWEEPS, int(CALIBRATION_SHARE * time_limit / first * FIRST_SWEEPS))
    _, more = sample(more_sweeps, beta_range)
    seconds_a_sweep = max((more - first) / (more_sweeps - FIRST_SWEEPS), 1e-9)
    fixed = max(first - FIRST_SWEEPS * seconds_a_sweep, 0.0)
    n_sweeps = max(FIRST_SWEEPS, int((time_limit - fixed) / seconds_a_sweep))
    found, seconds = sample(n_sweeps, beta_range)
    if seconds < EARLY * time_limit:  # the short runs met a busier machine: give it what it is owed
        n_sweeps = int(n_sweeps * time_limit / seconds)
        found, seconds = sample(n_sweeps, beta_range)
    setup_seconds = watch.lap() - seconds
    partition = _in_vertex_order(found, graph.n_vertices)
    return Answer(partition, seconds, setup_seconds, {"sweeps": n_sweeps, "beta_range": beta_range})


def tabu(graph: Graph, time_limit: float, seed: int) -> Answer:
    """Multistart tabu search with its defaults, until the time is up.

    Raises:
        ValueError: the graph has more vertices than the sampler's dense matrices have room for.
    """
    import dwave.samplers

    if graph.n_vertices > LARGEST_TABU:
        raise ValueError(
            f"tabu needs dense matrices: at most {LARGEST_TABU} vertices here; got {graph.n_vertices}."
        )
    watch = Stopwatch()
    model = quadratic_model(graph)
    setup_seconds = watch.lap()
    sampler: Any = dwave.samplers.TabuSampler  # has no types
    found = sampler().sample(model, num_reads=1, timeout=int(1000 * time_limit), seed=seed)
    # Its clock starts after the matrices are made, and it cannot be read from outside.
    partition = _in_vertex_order(found, graph.n_vertices)
    return Answer(partition, time_limit, setup_seconds, {"with_matrices_seconds": watch.lap()})


def _in_vertex_order(found: Any, n_vertices: int) -> Any:
    best = found.record[int(np.argmin(found.record.energy))].sample
    spins = np.ones(n_vertices, dtype=np.int8)
    spins[np.fromiter(found.variables, dtype=np.int64, count=len(found.variables))] = best
    return sides(spins)
