"""How often a solve calls each graph operation, and with what shapes: counted in runs of the CPU engine.

Every public operation of `sdp_kernels` asks `twin(...)` for the module that does the work. While `counting()` is open
those answers are wrapped, so that each call is noted whatever pipeline makes it; nothing else changes. The same
pipeline calls the same operations on a GPU: the counts are what a model of that GPU multiplies with times a call.
"""

import contextlib
import importlib
import itertools
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import torch

from benchmarks import _machine
from benchmarks._records import Record
from sdp.maxcut import relax
from sdp.maxcut.bound import COLUMNS, chebyshev_bound
from sdp.maxcut.graph import Graph
from sdp.maxcut.problem import Problem, prepare
from sdp.maxcut.shrink import shrink
from sdp.maxcut.solve import maxcut
from sdp_kernels.graph import CSR
from tools import make_graphs

COUNTED = ("sdp_kernels.graph", "sdp_kernels.anneal", "sdp_kernels.replicas")
SMALLEST = 1000  # vertices: rehearsals before the clock use smaller graphs
TARGET_GAP = 1e-3
DELTA = 1e-6

# Name -> graph of about so many edges. The number is the mean degree.
FAMILIES: dict[str, Callable[[int, int], Graph]] = {
    "random-8": lambda m, seed: make_graphs.random_sparse(m // 4, 8.0, seed=seed),
    "random-16": lambda m, seed: make_graphs.random_sparse(m // 8, 16.0, seed=seed),
    "rmat-8": lambda m, seed: _rmat(m, 4, seed),
    "rmat-16": lambda m, seed: _rmat(m, 8, seed),
    "torus-4": lambda m, seed: make_graphs.torus(side := round((m / 2) ** 0.5), side, seed=seed),
    "delaunay-6": lambda m, seed: make_graphs.triangulation(m // 3, weights="ones", seed=seed),
}


def _rmat(n_edges: int, edges_a_vertex: int, seed: int) -> Graph:
    scale = round(np.log2(n_edges / edges_a_vertex))
    return make_graphs.rmat(scale, n_edges / 2**scale, seed=seed)


class Counts:
    """Calls of each operation by shape.

    Attributes:
        tallies: by (operation, vertices, shape): calls, seconds, and what an operation adds (sweeps, changes).
    """

    def __init__(self) -> None:
        self.tallies: dict[tuple[Any, ...], dict[str, float]] = {}

    def note(self, name: str, seconds: float, tensors: tuple[Any, ...], answer: Any) -> None:
        """Adds one call; a step that the CPU makes with rounded rows counts as the step of other engines."""
        if name == "rounded_chebyshev_step":
            name, tensors = "chebyshev_step", (tensors[0], *tensors[4][:1])
        vertices, shape, added = _described(name, tensors, answer)
        if vertices < SMALLEST:
            return
        tally = self.tallies.setdefault(
            (name, vertices, *sorted(shape.items())), {"calls": 0, "seconds": 0.0}
        )
        for field, value in {"calls": 1, "seconds": seconds, **added}.items():
            tally[field] = tally.get(field, 0) + value

    def records(self) -> list[Record]:
        """One dictionary an operation and shape: "operation", "vertices", the shape, and the tally."""
        return [
            {"operation": name, "vertices": vertices, **dict(shape), **tally}
            for (name, vertices, *shape), tally in self.tallies.items()
        ]


def _described(
    name: str, arguments: tuple[Any, ...], answer: Any
) -> tuple[int, dict[str, int], dict[str, float]]:
    """Vertices, shape, and further sums of a call."""
    tensors = [a for a in arguments if isinstance(a, torch.Tensor)]
    graph = next((a for a in arguments if isinstance(a, CSR)), None)
    vertices = graph.n_vertices if graph is not None else tensors[0].shape[0]
    if name in ("gains", "one_opt", "partition_crossover"):
        return vertices, {"replicas": tensors[-1].shape[0]}, {}
    if name == "anneal":
        temperatures = next(a for a in tensors if a.dtype == torch.float32 and a.shape[-1] != vertices)
        replicas, sweeps = temperatures.shape
        return vertices, {"replicas": replicas}, {"sweeps": sweeps, "changes": float(answer.sum())}
    if name == "mixing_sweeps":
        shape = {"columns": tensors[1].shape[1], "bytes": tensors[1].element_size()}
        return vertices, shape, {"sweeps": next(a for a in arguments if isinstance(a, int))}
    if name == "chebyshev_steps":
        steps = next(a for a in arguments if isinstance(a, int))
        return vertices, {"columns": tensors[-1].shape[1]}, {"steps": steps}
    if name == "anneal_packed":
        packed = next(a for a in tensors if a.dtype == torch.int32 and a.ndim == 2)
        return vertices, {"words": packed.shape[1]}, {"sweeps": tensors[-1].shape[1]}
    if name == "project_signs":
        return vertices, {"columns": tensors[0].shape[1], "planes": tensors[1].shape[1]}, {}
    if name == "cut_values":
        return vertices, {"words": tensors[-1].shape[1]}, {}
    matrices = [a for a in tensors if a.ndim == 2]
    return vertices, {"columns": matrices[-1].shape[1]} if matrices else {}, {}


class _Wrapped:
    """A twin whose functions note their calls."""

    def __init__(self, module: ModuleType, counts: Counts) -> None:
        self._module, self._counts = module, counts

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._module, name)
        if not callable(function):
            return function

        def counted(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            answer = function(*arguments, **named)
            self._counts.note(name, time.perf_counter() - began, arguments, answer)
            return answer

        return counted


@contextlib.contextmanager
def counting() -> Iterator[Counts]:
    """Counts the calls of graph operations until the end of the block."""
    counts = Counts()
    with contextlib.ExitStack() as stack:
        for name in COUNTED:
            module = importlib.import_module(name)
            found = module.twin
            stack.enter_context(
                mock.patch.object(
                    module, "twin", lambda *a, found=found, **k: _Wrapped(found(*a, **k), counts)
                )
            )
        yield counts


@contextlib.contextmanager
def _randomness() -> Iterator[dict[str, float]]:
    """Counts the "normals" that are drawn, those of the "certificates" among them, and these."""
    drawn = {"normals": 0.0, "certificates": 0.0}
    rows, bound = relax.random_rows, chebyshev_bound

    def counted_rows(n: int, rank: int, *arguments: Any) -> torch.Tensor:
        drawn["normals"] += n * rank
        return rows(n, rank, *arguments)

    def counted_bound(problem: Problem, *arguments: Any, **named: Any) -> Any:
        drawn["certificates"] += 1
        drawn["normals"] += problem.n_vertices * named.get("columns", COLUMNS)
        return bound(problem, *arguments, **named)

    with (
        mock.patch.object(relax, "random_rows", counted_rows),
        mock.patch.object(relax, "chebyshev_bound", counted_bound),
    ):
        yield drawn


def host_seconds(graph: Graph, *, reduced: bool, repeats: int = 5) -> dict[str, float]:
    """Seconds of what a solve does before anything can move to a device, the least of several runs.

    Args:
        graph: as it is in memory.
        reduced: whether it is reduced exactly first, as a whole solve does ("reduce"); then what is left is prepared.
        repeats: runs of each.

    Returns:
        "prepare", the weighted degrees included, and "reduce" where asked for.
    """
    seconds, left = {}, graph
    if reduced:
        seconds["reduce"], shrunk = _least(lambda: shrink(graph, lambda: False), repeats)
        left = shrunk.graph
    seconds["prepare"], _ = _least(lambda: prepare(left).degrees, repeats)
    return seconds


def _least(work: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """The shortest of several runs, and what the last one returned."""
    seconds, answer = [], None
    for _ in range(repeats):
        began = time.perf_counter()
        answer = work()
        seconds.append(time.perf_counter() - began)
    return min(seconds), answer


def count_relaxation(graph: Graph, threads: int, seed: int = 0) -> Record:
    """From the graph in memory to a relaxation whose gap is certified to be at most `TARGET_GAP`.

    Returns:
        Sizes, the colour classes, seconds of each stage, what was reached, and "operations": the counts.
    """
    problem = prepare(graph)
    with counting() as counts, _randomness() as drawn:
        began = time.perf_counter()
        found = relax.relax(problem, target_gap=TARGET_GAP, seed=seed, delta=DELTA)
        seconds = time.perf_counter() - began
    gap = found.relative_gap(problem)
    return {
        **_sizes(graph, problem),
        "seconds": {**host_seconds(graph, reduced=False), "relax": seconds},
        "gap": gap,
        "reached": gap <= TARGET_GAP,
        **drawn,
        "sweeps": found.sweeps,
        "rank": found.V.shape[1],
        "operations": counts.records(),
        **_circumstances(threads, seed),
    }


def count_solve(graph: Graph, threads: int, time_limit: float, seed: int = 0) -> Record:
    """A whole solve by `maxcut`, and the exact reduction alone.

    Returns:
        As `count_relaxation`, of the reduced graph; "seconds" by the stages that `maxcut` reports.
    """
    left = shrink(graph, lambda: False).graph
    problem = prepare(left)
    with counting() as counts, _randomness() as drawn:
        result = maxcut(graph, time_limit=time_limit, seed=seed, threads=threads, device="cpu")
    return {
        **_sizes(left, problem),
        "whole_vertices": graph.n_vertices,
        "whole_edges": graph.n_edges,
        "seconds": {**result.timings, **host_seconds(graph, reduced=True)},
        "status": result.status,
        "cut_value": result.cut_value,
        "upper_bound": result.upper_bound,
        "bound_kind": result.bound_kind,
        **drawn,
        "operations": counts.records(),
        **_circumstances(threads, seed),
    }


def _sizes(graph: Graph, problem: Problem) -> Record:
    degrees = problem.csr.indptr.diff()
    return {
        "n_vertices": problem.n_vertices,
        "n_edges": problem.n_edges,
        "max_degree": int(degrees.max()) if degrees.numel() else 0,
        "classes": _classes(problem),
        "integer_weights": graph.is_integer,
    }


def _classes(problem: Problem) -> dict[str, list[int]]:
    """What the kernels' row plan makes of each colour class: one number a class in each list.

    "rows", "entries"; "items" of at most a chunk of entries; "passes" of a group of entries over all items, and in
    the "longest" item; "heavy" rows, which a second launch sums, "slots" of their parts, and passes of a group of
    slots in the row that has the most, "longest_heavy"; and of the rows that packed annealing treats alike, up to 4, 8,
    16 entries and more, "items_4", "entries_4" and so on to "items_many".
    """
    from sdp_kernels.triton._rows import GROUP, row_plan
    from sdp_kernels.triton.multispin import FEW

    plan = row_plan(problem.csr.indptr, problem.class_ptr)
    passes = ((plan.counts + GROUP - 1) // GROUP).tolist()
    least = torch.tensor([0, *FEW]) + (torch.arange(len(FEW) + 1) > 0)
    kinds = (torch.searchsorted(least, plan.counts.long(), right=True) - 1).clamp_(max=len(FEW))
    kinds[plan.targets < 0] = len(FEW)
    slots = plan.heavy_slots.diff().tolist()
    spans, heavy = list(itertools.pairwise(plan.class_items)), list(itertools.pairwise(plan.class_heavy))
    alike: dict[str, list[int]] = {}
    for kind, name in enumerate([*map(str, FEW), "many"]):
        chosen = kinds == kind
        for what, values in (("items", torch.ones_like(plan.counts)), ("entries", plan.counts)):
            sums = torch.nn.functional.pad((values * chosen).cumsum(0), (1, 0))
            alike[f"{what}_{name}"] = sums[torch.tensor(plan.class_items)].diff().tolist()
    return {
        **alike,
        "rows": problem.class_ptr.diff().tolist(),
        "entries": problem.csr.indptr[problem.class_ptr].diff().tolist(),
        "items": [end - begin for begin, end in spans],
        "passes": [sum(passes[begin:end]) for begin, end in spans],
        "longest": [max(passes[begin:end], default=0) for begin, end in spans],
        "heavy": [end - begin for begin, end in heavy],
        "slots": [sum(slots[begin:end]) for begin, end in heavy],
        "longest_heavy": [-(-max(slots[begin:end], default=0) // GROUP) for begin, end in heavy],
    }


def _circumstances(threads: int, seed: int) -> Record:
    return {
        "threads": threads,
        "seed": seed,
        "load_average": _machine.load_average(),
        "commit": _machine.commit(),
    }
