"""simulated-bifurcation: discrete simulated bifurcation, helped to a sparse matrix and a fitting schedule.

As published the package keeps a dense (n, n) matrix, symmetrised by two more dense copies, which leaves a
few steps a second at 7,000 vertices. Its integrator takes a sparse COO matrix as well (not CSR), so here
that is what it gets. Its pressure rises by a fixed slope and arrives after 1,000 steps whatever the time;
here a few steps are timed first, then the number of agents is chosen so that enough steps fit, and the slope
so that the pressure arrives at the end of the run.
"""

import time
from typing import Any

import torch

from benchmarks.baselines._answer import Answer, Stopwatch, sides
from sdp.maxcut.graph import Graph

AGENTS = (128, 32, 8, 2)
ENOUGH_STEPS = 3_000
TIMED_STEPS = 20
DENSE_FROM = 0.02  # share of entries: from here on the dense product is the faster one
TIME_STEP = 0.1  # the package's default
DEFAULT_SLOPE = 0.01


def discrete(graph: Graph, time_limit: float, seed: int, threads: int = 1) -> Answer:
    """Discrete simulated bifurcation for the given time; the best agent's partition.

    Args:
        graph: at least one edge.
        time_limit: seconds of simulation, kept by the package itself.
        seed: of torch's global generator, which is the one that the package draws from.
        threads: of torch.
    """
    import simulated_bifurcation

    torch.set_num_threads(threads)
    watch = Stopwatch()
    couplings = _couplings(graph)
    model = _sparse_model(couplings)

    def run(agents: int, steps: int | None, seconds: float | None, slope: float) -> torch.Tensor:
        simulated_bifurcation.set_env(time_step=TIME_STEP, pressure_slope=slope)
        torch.manual_seed(seed)
        spins: torch.Tensor = model.minimize(
            agents=agents,
            max_steps=steps,
            timeout=seconds,
            mode="discrete",
            verbose=False,
            early_stopping=False,
        )
        return spins  # float32 (n, agents)

    run(AGENTS[-1], 1, None, DEFAULT_SLOPE)  # whatever a first call sets up
    for agents in AGENTS:
        began = time.perf_counter()
        run(agents, TIMED_STEPS, None, DEFAULT_SLOPE)
        steps = max(1, int(TIMED_STEPS * time_limit / (time.perf_counter() - began)))
        if steps >= ENOUGH_STEPS:
            break
    setup_seconds = watch.lap()
    spins = run(agents, None, time_limit, 1 / (TIME_STEP * steps))
    seconds = watch.lap()
    best = torch.einsum("ia,ia->a", spins, couplings @ spins).argmax()
    details = {"agents": agents, "steps_expected": steps}
    return Answer(sides(spins[:, int(best)].numpy()), seconds, setup_seconds, details)


def _couplings(graph: Graph) -> torch.Tensor:
    """Minus the weighted adjacency matrix, float32 (n, n), COO or dense: the package minimises -sum J s s."""
    degrees = torch.from_numpy(graph.indptr.copy()).diff()
    rows = torch.repeat_interleave(torch.arange(graph.n_vertices), degrees)
    entries = torch.stack([rows, torch.from_numpy(graph.indices.astype("int64"))])
    shape = (graph.n_vertices, graph.n_vertices)
    couplings = torch.sparse_coo_tensor(entries, -torch.from_numpy(graph.weights.copy()), shape).coalesce()
    return couplings.to_dense() if graph.indices.size > DENSE_FROM * graph.n_vertices**2 else couplings


def _sparse_model(couplings: torch.Tensor) -> Any:
    """The package's Ising model, less its step that symmetrises the matrix, which ours is already."""
    from simulated_bifurcation.core.ising import Ising

    class SparseIsing(Ising):  # type: ignore[misc]  # the package has no types
        def as_simulated_bifurcation_tensor(self) -> torch.Tensor:
            return couplings

    return SparseIsing(couplings)
