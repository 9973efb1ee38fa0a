"""One side of `maxcut_against_earlier_commit`: a process that imports one checkout and times what it is told to.

Run by its path, with the checkout's folders first in PYTHONPATH. It calls what has been public since the earlier
commits: `prepare`, `mixing_sweep`, `fields`, `chebyshev_bound`, `hyperplanes`, `maxcut`. It is told a task a line on
standard input and answers each with its seconds, a line of JSON.

    python benchmarks/_one_version.py GRAPHS.npz THREADS CHECKOUT
"""

import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch

SWEEPS, STEPS, PLANES, RANK = 20, 60, 20_000, 32
ROUNDS = 4  # of polishing in a whole solve
DELTA = 1e-6


def tasks(graph: Any, threads: int) -> dict[str, Callable[[], float]]:
    """What can be timed on a graph, each of the same work in every version; a call returns what was found."""
    from sdp.maxcut.bound import chebyshev_bound
    from sdp.maxcut.problem import prepare
    from sdp.maxcut.rounding import hyperplanes
    from sdp.maxcut.solve import maxcut
    from sdp_kernels.graph import fields, mixing_sweep

    problem = prepare(graph)
    drawn = np.random.default_rng(0).standard_normal((problem.n_vertices, RANK), dtype=np.float32)
    start = torch.from_numpy(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))

    def sweeps() -> torch.Tensor:
        V = start.clone()
        for _ in range(SWEEPS):
            mixing_sweep(problem.csr, problem.class_ptr, V, 0.9)
        return V

    V = sweeps()
    h = fields(problem.csr, V)[0]

    def certificate() -> float:
        # The bound of h as it is may be weak: the steps cost the same.
        return chebyshev_bound(problem, h, steps=STEPS, delta=DELTA, seed=1)[0].value

    def solve() -> float:
        found = maxcut(
            graph, time_limit=math.inf, max_rounds=ROUNDS, method="anneal", seed=0, threads=threads
        )
        return found.cut_value

    return {
        "preparation": lambda: float(prepare(graph).n_edges),
        "relaxation": lambda: float(fields(problem.csr, sweeps())[1].sum()),
        "certificate": certificate,
        "hyperplanes": lambda: hyperplanes(problem.csr, V, PLANES, 0)[1],
        "whole solve": solve,
    }


def main(graphs: str, threads: int, checkout: str) -> None:
    """Answers tasks until standard input ends; "FAMILY" alone makes that graph's tasks ready."""
    numba.set_num_threads(threads)
    torch.set_num_threads(threads)
    import sdp
    from sdp.maxcut.graph import Graph

    found = Path(sdp.__file__).resolve()
    if not found.is_relative_to(Path(checkout).resolve()):
        raise RuntimeError(f"sdp was imported from {found}, not from {checkout}.")
    arrays, known = np.load(graphs), dict[str, dict[str, Callable[[], float]]]()
    for line in sys.stdin:
        family, _, task = line.strip().partition(" ")
        if family not in known:
            u, v, w, n = (arrays[f"{family} {name}"] for name in ("u", "v", "w", "n"))
            known = {family: tasks(Graph.from_edges(u, v, w, n_vertices=int(n)), threads)}
        began = time.perf_counter()
        answer = known[family][task]() if task else 0.0
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, "answer": answer}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
