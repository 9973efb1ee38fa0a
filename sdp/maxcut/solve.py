"""`maxcut`: relaxation, certified bound, rounding and polish under one clock."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from sdp.maxcut import checkpoint as checkpoints
from sdp.maxcut._arguments import METHODS, check_arguments, check_threads, check_types, check_warm_start
from sdp.maxcut.balance import balanced_signs
from sdp.maxcut.bound import Bound, positive_weight_bound
from sdp.maxcut.cycles import CycleFamily, find_cycles, packing_bound
from sdp.maxcut.derandomize import METHODS as DERANDOMIZERS
from sdp.maxcut.derandomize import derandomize
from sdp.maxcut.graph import Graph, as_graph
from sdp.maxcut.matching import Matching, match
from sdp.maxcut.polish import Polisher
from sdp.maxcut.problem import Problem, prepare
from sdp.maxcut.reduce import Reduction
from sdp.maxcut.reduce import reduce as reduce_graph
from sdp.maxcut.rehearse import rehearse
from sdp.maxcut.relax import Relaxation, relax
from sdp.maxcut.result import MaxCutResult, Progress, relative_gap
from sdp.maxcut.rounding import hyperplanes

RELAXATION_GAP = 1e-4  # certified, at which `auto` turns from the bound to the cut
RELAXATION_SHARE = 0.25  # of the time limit that `auto` gives the relaxation at most ...
RELAXATION_SECONDS = 10.0  # ... or so long, if that is no more than half of the time
PLANES = 1000
MESH_DEGREE = 8.0  # mean degree up to which short cycles are looked for
WHOLE_LONGEST = 4  # edges of a cycle of the graph before it was reduced: meshes show their faces there
NEARLY_PLANAR = 0.9  # of the cycles that a planar drawing has: from there on they are worth matching
MOST_FRUSTRATED = 0.9  # of the cycles: beyond, as in triangulations with equal weights, matching takes hours
CYCLE_SHARE = 0.2  # of the time limit that `auto` gives the cycles at most ...
CYCLE_SECONDS = 10.0  # ... or so long, if that is no more than half of the time
CHECKPOINT_SECONDS = 1.0
TICK_SECONDS = 0.1  # between two calls of the callback when nothing improves

_PROVED = ("chebyshev", "dense", "matching", "cycle packing")  # kinds of bounds that took some time

__all__ = ["METHODS", "MaxCutResult", "Progress", "maxcut"]


def maxcut(
    graph: Any,
    *,
    time_limit: float = 60.0,
    target_gap: float | None = None,
    target_cut: float | None = None,
    seed: int = 0,
    threads: int | None = None,
    method: str = "auto",
    warm_start: ArrayLike | None = None,
    callback: Callable[[Progress], bool | None] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    delta: float = 1e-6,
    bound_share: float | None = None,
    reduce: bool = True,
    max_rounds: int | None = None,
) -> MaxCutResult:
    """Finds a large cut of a graph, and a certified upper bound on every cut.

    Ctrl-C and SIGTERM end the search early with the best cut so far and status "interrupted" (only where Python lets
    signal handlers be set: in the main thread). Loading the compiled inner loops happens before the clock
    starts and is reported in `timings`.

    Args:
        graph: a `Graph`, a file, a scipy.sparse matrix, a networkx or igraph graph, a torch sparse tensor, or arrays
            (u, v) or (u, v, w). Weights may be negative.
        time_limit: seconds, positive; may be infinite if `max_rounds` or a target is given.
        target_gap: stop when (upper_bound - cut_value) / |upper_bound| is at most this.
        target_cut: stop when the cut is at least this, in units of edge weight.
        seed: 0 <= seed < 2^31. Time only decides how far a run gets: with an infinite time limit and `max_rounds` the
            result is the same, bit for bit, at every run and for any number of threads.
        threads: of the inner loops; all that numba has when None.
        method: "auto" (short cycles, relaxation, bound, hyperplanes, polish), "anneal" (polish only: no bound but
            what the exact rules prove), or the relaxation followed by one way of rounding and nothing else:
            "hyperplanes", "sosp", "homotopy", "conditional".
        warm_start: (n,) sides of a partition to start from: 0/1, booleans or -1/+1.
        callback: called with a `Progress` at every improvement and about ten times a second; True stops the search.
        checkpoint: file that is kept up to date every few seconds and at the end; if it exists the search goes on
            from it.
        delta: probability that the bound is wrong, over the solver's random numbers; in (0, 1).
        bound_share: of the time limit that the relaxation and its bound may take, in (0, 1). When None, a quarter
            or 10 s if "auto" must polish after it, and half for methods that do not.
        reduce: whether to shrink the graph by exact rules first (`sdp.maxcut.reduce`); everything reported, the
            checkpoint and the warm start speak of the whole graph either way.
        max_rounds: of polishing.

    Returns:
        The best cut, its bound, and how they came about.

    Raises:
        ValueError, TypeError: an argument is out of range; the sentence names it.
        OSError: a file cannot be read or written.

    Complexity: O(m) memory, about 120 bytes an edge; time as allowed.

    >>> triangle = Graph.from_edges([0, 1, 2], [1, 2, 0])
    >>> result = maxcut(triangle, time_limit=10)
    >>> result.cut_value, result.upper_bound, result.status
    (2.0, 2.0, 'optimal')
    """
    whole = as_graph(graph)
    check_types(time_limit, target_gap, target_cut, seed, delta, bound_share, max_rounds, threads, callback)
    check_arguments(time_limit, target_gap, target_cut, seed, method, delta, bound_share, max_rounds)
    threads = check_threads(threads)
    start = None if warm_start is None else check_warm_start(whole, warm_start)
    with _thread_count(threads):
        compiled = rehearse(method)
        state = _Solve(
            whole,
            time_limit,
            target_gap,
            target_cut,
            int(seed),
            callback,
            checkpoint,
            delta,
            bound_share,
            reduce,
        )
        state.timings["compile"] = compiled
        with state.signals_caught():
            if start is not None:
                state.offer_partition(start)
            status = state.run(method, math.inf if max_rounds is None else max_rounds)
        return state.result(status, method, threads)


class _Stop(Exception):  # noqa: N818 - it is no error
    """The callback asked for the end, a signal came, or a target is reached."""


class _Solve:
    """State of one solve: the clock, the best cut and bound, and who must hear of them."""

    def __init__(
        self,
        graph: Graph,
        time_limit: float,
        target_gap: float | None,
        target_cut: float | None,
        seed: int,
        callback: Callable[[Progress], bool | None] | None,
        checkpoint: str | os.PathLike[str] | None,
        delta: float,
        bound_share: float | None,
        reduce: bool,
    ) -> None:
        self.bound_share, self.reduce = bound_share, reduce
        self.reduction: Reduction | None = None
        self.graph, self.time_limit, self.seed, self.delta = graph, time_limit, seed, delta
        self.target_gap, self.target_cut, self.callback = target_gap, target_cut, callback
        self.partition: NDArray[np.uint8] = np.zeros(graph.n_vertices, np.uint8)
        self.cut_value = 0.0
        self.bound = Bound(math.inf, "none", 0.0)
        self.relaxation_value = math.nan
        self.history: list[tuple[float, float, float]] = []
        self.timings: dict[str, float] = {}
        self.notes = list(graph.notes)
        self.stage = "prepare"
        self.interrupted = self.cancelled = False
        self.checkpoint, self.earlier, self.earlier_delta, self.runs = checkpoint, 0.0, 0.0, 0
        self.started = time.perf_counter()
        self._told = self._saved = -math.inf
        self._unsaved = False
        if checkpoint is not None and os.path.exists(checkpoint):
            self._resume(checkpoints.load(checkpoint, graph))

    def elapsed(self) -> float:
        return time.perf_counter() - self.started

    # What is found.

    def offer_partition(self, partition: NDArray[np.uint8]) -> None:
        """Keeps a partition if it cuts more than the best."""
        value = self.graph.cut_value(partition)
        if value > self.cut_value or (not self.history and value == self.cut_value):
            self.partition, self.cut_value = partition, value
            self._record()

    def offer_bound(self, bound: Bound) -> None:
        """Keeps a bound if it is below the best."""
        if bound.value < self.bound.value:
            # The least of two bounds is wrong if either is.
            delta = min(1.0, bound.delta + self.earlier_delta) if bound.delta else 0.0
            self.bound = replace(bound, delta=delta)
            self._record()

    def offer_signs(self, problem: Problem, signs: Tensor) -> None:
        """Keeps the partition of the whole graph that extends signs of the problem, if it cuts more than the best."""
        self.offer_left(problem.partition(signs))

    def offer_left(self, partition: NDArray[np.uint8]) -> None:
        """Keeps the partition of the whole graph that extends one of what is left, if it cuts more than the best."""
        self.offer_partition(partition if self.reduction is None else self.reduction.lift(partition))

    def offer_problem_bound(self, bound: Bound) -> None:
        """Keeps a bound on the cuts of the problem as one on those of the whole graph, if it is below the best."""
        if self.reduction is not None:
            kind = bound.kind if self.reduction.graph.n_edges else "exact reduction"
            bound = replace(bound, value=self.reduction.upper_bound(bound.value), kind=kind)
        self.offer_bound(bound)

    def _record(self) -> None:
        self.history.append((self.earlier + self.elapsed(), self.cut_value, self.bound.value))
        self._unsaved = True
        self._told = -math.inf

    # When to stop.

    def gap(self) -> float:
        return relative_gap(self.cut_value, self.bound.value)

    def is_optimal(self) -> bool:
        if self.graph.is_integer:
            return self.cut_value >= self.bound.value
        # No number lies between the two: sums of fractional weights are rounded, bounds upwards.
        return math.nextafter(self.cut_value, math.inf) >= self.bound.value

    def reached_target(self) -> bool:
        by_gap = self.target_gap is not None and self.gap() <= self.target_gap
        return by_gap or (self.target_cut is not None and self.cut_value >= self.target_cut)

    def should_stop(self) -> bool:
        """Tells the callback, keeps the checkpoint, and says whether the search must end."""
        now = self.elapsed()
        if self.callback is not None and now - self._told >= TICK_SECONDS:
            self._told = now
            progress = Progress(now, self.stage, self.cut_value, self.bound.value, self.gap())
            self.cancelled = bool(self.callback(progress)) or self.cancelled
        if self._unsaved and now - self._saved >= CHECKPOINT_SECONDS:
            self._save()
        over = now >= self.time_limit or self.interrupted or self.cancelled
        return over or self.is_optimal() or self.reached_target()

    @contextmanager
    def signals_caught(self) -> Iterator[None]:
        """Turns the first SIGINT or SIGTERM into a request to stop; the second acts as it always does."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before: dict[int, Any] = {}

        def request(number: int, frame: FrameType | None) -> None:
            self.interrupted = True
            restore()

        def restore() -> None:
            for caught, handler in before.items():
                signal.signal(caught, handler)

        for caught in (signal.SIGINT, signal.SIGTERM):
            before[caught] = signal.signal(caught, request)
        try:
            yield
        finally:
            restore()

    # The stages.

    def run(self, method: str, max_rounds: float) -> str:
        """Runs the stages and returns the status."""
        try:
            self.offer_bound(positive_weight_bound(self.graph))
            self.offer_partition(self.partition)
            self._check()
            if self.reduce:
                self._timed("reduce", self._reduce)
                self._check()
            problem = self._timed("prepare", lambda: prepare(self._left()))
            self.offer_problem_bound(positive_weight_bound(problem.graph))
            self.offer_signs(problem, balanced_signs(problem))
            self._check()
            if problem.n_edges:
                self._solve(problem, method, max_rounds)
        except _Stop:
            pass
        if self.is_optimal():
            return "optimal"
        if self.reached_target():
            return "target reached"
        if self.interrupted or self.cancelled:
            return "interrupted"
        return "time limit" if self.elapsed() >= self.time_limit else "rounds done"

    def _solve(self, problem: Problem, method: str, max_rounds: float) -> None:
        if (
            method == "auto"
            and not self._relaxed_earlier()
            and 2 * self._left().n_edges <= MESH_DEGREE * self._left().n_vertices
        ):
            self._timed("cycles", self._cycles)
            self._check()
        starts = [self._start(problem)] if self.cut_value > 0 else []
        if method != "anneal" and not (method == "auto" and self._relaxed_earlier()):
            relaxed = self._timed("relax", lambda: self._relax(problem, method))
            self._check()
            signs = self._timed("round", lambda: self._round(problem, relaxed.V, method))
            self.offer_signs(problem, signs)
            self._check()
            starts.append(signs)
        if method in ("auto", "anneal"):
            self._timed("polish", lambda: self._polish(problem, starts, max_rounds))

    def _reduce(self) -> None:
        reduction = reduce_graph(self.graph)
        if any(reduction.removed.values()):
            self.reduction = reduction
            left = reduction.graph
            self.notes.append(f"reduced exactly to {left.n_vertices:,} vertices and {left.n_edges:,} edges")

    def _left(self) -> Graph:
        """The graph to be solved."""
        return self.graph if self.reduction is None else self.reduction.graph

    def _shrinkage(self) -> float:
        """Sum of |w| of the whole graph over that of what is left, in the same units."""
        if self.reduction is None:
            return 1.0
        return self.graph.absolute_weight / (self.reduction.unit * self.reduction.graph.absolute_weight)

    def _start(self, problem: Problem) -> Tensor:
        """Signs of the best partition so far."""
        whole = self.partition
        return problem.signs(whole if self.reduction is None else self.reduction.restrict(whole))

    def _relaxed_earlier(self) -> bool:
        """Whether an earlier run came to the end of the relaxation: its bound is in the checkpoint."""
        return self.runs > 0 and self.bound.kind in _PROVED and self.relaxation_value > -math.inf

    def _cycles(self) -> None:
        """Bounds from short cycles, and a cut that goes with them where the graph is nearly planar."""
        graph = self._left()
        until = min(self.time_limit / 2, max(CYCLE_SHARE * self.time_limit, CYCLE_SECONDS))

        def should_stop() -> bool:
            return self.should_stop() or self.elapsed() > until

        family = find_cycles(graph, should_stop=should_stop)
        self.offer_problem_bound(packing_bound(graph, family))
        odd = int(family.frustrated(graph.edges()[2]).sum())
        if family.n_cycles >= NEARLY_PLANAR * (graph.n_edges - graph.n_vertices) and (
            odd <= MOST_FRUSTRATED * family.n_cycles
        ):
            matching = self._match(graph, family, should_stop)
            if matching is not None:
                self.offer_problem_bound(matching.bound)
                self.offer_left(matching.partition)
        elif self.reduction is not None and not should_stop():
            self.offer_bound(packing_bound(self.graph, find_cycles(self.graph, WHOLE_LONGEST, should_stop)))

    def _match(self, graph: Graph, family: CycleFamily, should_stop: Callable[[], bool]) -> Matching | None:
        """The matching, or None and a note: its process may lack memory, a disk or pymatching, and the rest goes on."""
        try:
            return match(graph, family, seed=self.seed, should_stop=should_stop)
        except (RuntimeError, OSError) as error:
            self.notes.append(f"no matching bound: {error}")
            return None

    def _relax(self, problem: Problem, method: str) -> Relaxation:
        limit = self.time_limit * (self.bound_share or 1 / 2)
        if method == "auto" and self.bound_share is None:
            limit = min(limit, max(RELAXATION_SHARE * self.time_limit, RELAXATION_SECONDS))
        relaxed = relax(
            problem,
            target_gap=RELAXATION_GAP * self._shrinkage(),
            time_limit=limit - self.elapsed() + self.timings.get("cycles", 0.0),
            seed=self.seed,
            delta=self.delta,
            report=lambda value, bound: self.offer_problem_bound(bound),
            should_stop=self.should_stop,
        )
        if not self.interrupted:  # a run that goes on from here must relax anew
            value = relaxed.value
            self.relaxation_value = value if self.reduction is None else self.reduction.value(value)
        return relaxed

    def _round(self, problem: Problem, V: Tensor, method: str) -> Tensor:
        if method in DERANDOMIZERS:
            return derandomize(problem.csr, V, method, seed=self.seed, should_stop=self.should_stop).signs
        return hyperplanes(problem.csr, V, PLANES, self.seed)[0]

    def _polish(self, problem: Problem, starts: list[Tensor], max_rounds: float) -> None:
        Polisher(
            problem,
            seed=self.seed + (self.runs << 32),
            should_stop=self.should_stop,
            improved=lambda signs: self.offer_signs(problem, signs),
            time_limit=self.time_limit,
        ).run(starts, max_rounds)

    def _timed(self, stage: str, work: Callable[[], Any]) -> Any:
        self.stage, begin = stage, self.elapsed()
        try:
            return work()
        finally:
            self.timings[stage] = self.elapsed() - begin

    def _check(self) -> None:
        if self.should_stop():
            raise _Stop

    # The way in and out.

    def _resume(self, state: checkpoints.Checkpoint) -> None:
        self.partition, self.cut_value = state.partition, self.graph.cut_value(state.partition)
        self.bound = Bound(state.upper_bound, state.bound_kind, state.delta)
        self.earlier_delta = state.delta
        self.relaxation_value, self.earlier, self.runs = state.relaxation_value, state.elapsed, state.runs
        self.history = list(state.history)
        self.notes.append(f"went on from a checkpoint after {state.elapsed:.1f} s and {state.runs} run(s)")

    def _save(self) -> None:
        self._unsaved, self._saved = False, self.elapsed()
        if self.checkpoint is not None:
            state = checkpoints.Checkpoint(
                self.partition,
                self.bound.value,
                self.bound.kind,
                self.bound.delta,
                self.relaxation_value,
                tuple(self.history),
                self.earlier + self.elapsed(),
                self.runs + 1,
            )
            checkpoints.save(self.checkpoint, self.graph, state)

    def result(self, status: str, method: str, threads: int) -> MaxCutResult:
        """The result; the checkpoint is brought up to date."""
        self._save()
        self.history.append((self.earlier + self.elapsed(), self.cut_value, self.bound.value))
        self.timings["total"] = self.elapsed()
        return MaxCutResult(
            cut_value=self.cut_value,
            partition=self.partition,
            upper_bound=self.bound.value,
            gap=self.gap(),
            bound_kind=self.bound.kind,
            delta=self.bound.delta,
            relaxation_value=self.relaxation_value,
            status=status,
            history=tuple(self.history),
            timings=self.timings,
            seed=self.seed,
            method=method,
            threads=threads,
            graph_name=self.graph.name,
            n_vertices=self.graph.n_vertices,
            n_edges=self.graph.n_edges,
            notes=tuple(self.notes),
        )


@contextmanager
def _thread_count(threads: int) -> Iterator[None]:
    before, torch_before = numba.get_num_threads(), torch.get_num_threads()
    numba.set_num_threads(threads)
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        numba.set_num_threads(before)
        torch.set_num_threads(torch_before)
