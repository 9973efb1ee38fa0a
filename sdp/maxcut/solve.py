"""`maxcut`: relaxation, certified bound, rounding and polish under one clock."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from sdp.maxcut._arguments import METHODS, check_arguments, check_threads, check_types, check_warm_start
from sdp.maxcut.balance import balanced_signs
from sdp.maxcut.blockwise import (
    MESH_DEGREE,
    Blockwise,
    Proved,
    bound_by_matching,
    bound_by_packing,
    bound_by_program,
    wants_program,
)
from sdp.maxcut.bound import Bound, positive_weight_bound
from sdp.maxcut.certificate import spectral_proof
from sdp.maxcut.cycles import find_cycles
from sdp.maxcut.derandomize import METHODS as DERANDOMIZERS
from sdp.maxcut.derandomize import derandomize
from sdp.maxcut.graph import as_graph
from sdp.maxcut.lattice import cut_step, rounded_down
from sdp.maxcut.placement import Place, choose, cpu_instead, no_room
from sdp.maxcut.polish import Polisher
from sdp.maxcut.problem import Problem, prepare
from sdp.maxcut.proof import PositiveWeights
from sdp.maxcut.rehearse import rehearse
from sdp.maxcut.relax import Relaxation, most_columns, relax
from sdp.maxcut.result import MaxCutResult, Progress
from sdp.maxcut.rounding import hyperplanes
from sdp.maxcut.rows import packing_bound, packing_rows
from sdp.maxcut.search import Search, Stop
from sdp.maxcut.shrink import Shrunk, shrink

RELAXATION_GAP = 1e-4  # certified, at which `auto` turns from the bound to the cut
RELAXATION_SHARE = 0.25  # of the time limit that `auto` gives the relaxation at most ...
RELAXATION_SECONDS = 10.0  # ... or so long, if that is no more than half of the time
PLANES = 1000
WHOLE_LONGEST = 4  # edges of a cycle of the graph before it was reduced: meshes show their faces there
CYCLE_SHARE = 0.2  # of the time limit that `auto` gives the cycles at most ...
MATCHING_SHARE = 0.85  # of the time limit, up to which least T-joins may be bettered ...
GROWTH_SHARE = (
    0.6  # ... and up to which one of many frustrated cycles may grow: making a cut of it takes the rest
)
CYCLE_SECONDS = 10.0  # ... or so long, if that is no more than half of the time
# Of the time left that `auto` gives linear programs where cycles do not close the gap alone.
PROGRAM_SHARE = 0.3
SMALL_SHARE = 0.8  # the same for small blocks, whose best cut is soon found
BRIEFLY = 1.0  # seconds of polishing before small blocks are branched on

_PROVED = (
    "chebyshev",
    "dense",
    "matching",
    "cycle packing",
    "cycle LP",
    "branch and cut",
)  # kinds of bounds that took some time

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
    certificate: str | os.PathLike[str] | None = None,
    device: str = "auto",
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
        method: "auto" (short cycles and linear programs over them, relaxation, bound, hyperplanes, polish), "anneal"
            (polish only: no bound but what the exact rules prove), or the relaxation followed by one way of rounding
            and nothing else: "hyperplanes", "sosp", "homotopy", "conditional".
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
        certificate: file for the partition, the bound and its proof, which `sdp verify` checks (see
            `sdp.maxcut.certificate`). It is written after the time limit. Bounds carried over from a checkpoint have no
            proof; a run that writes a certificate relaxes anew.
        device: where relaxation, bound and local search are computed: "cpu", "cuda", or "auto", which is a GPU where
            torch sees one that has room for the graph. Reductions, cycles and linear programs are the CPU's. A device
            anneals more partitions at once, so its cut for a seed is another.

    Returns:
        The best cut, its bound, and how they came about.

    Raises:
        ValueError, TypeError: an argument is out of range, or `device` "cuda" cannot be used or has too little memory;
            the sentence says which.
        OSError: a file cannot be read or written.

    Complexity: O(m) memory, about 120 bytes an edge; time as allowed.

    >>> from sdp import Graph
    >>> triangle = Graph.from_edges([0, 1, 2], [1, 2, 0])
    >>> result = maxcut(triangle, time_limit=10)
    >>> result.cut_value, result.upper_bound, result.status
    (2.0, 2.0, 'optimal')
    """
    whole = as_graph(graph)
    check_types(time_limit, target_gap, target_cut, seed, delta, bound_share, max_rounds, threads, callback)
    check_arguments(time_limit, target_gap, target_cut, seed, method, delta, bound_share, max_rounds)
    threads, place = check_threads(threads), choose(device, method)
    if certificate is not None and not Path(certificate).resolve().parent.is_dir():
        raise ValueError(
            f"certificate must be a file in a folder that exists; got {os.fspath(certificate)!r}."
        )
    start = None if warm_start is None else check_warm_start(whole, warm_start)
    with _thread_count(threads):
        place, compiled = _rehearsed(place, method, whole.n_edges)
        state = _Solve(
            whole,
            time_limit,
            target_gap,
            target_cut,
            int(seed),
            callback,
            checkpoint,
            delta,
            certificate is not None,
            bound_share=bound_share,
            reduce=reduce,
            place=place,
        )
        state.timings["compile"] = compiled
        with state.signals_caught():
            if start is not None:
                state.offer_partition(start)
            status = state.run(method, math.inf if max_rounds is None else max_rounds)
            if certificate is not None:
                state.timed("certificate", lambda: state.certify(certificate))
                status = "optimal" if state.is_optimal() else status
        return state.result(status, method, threads, state.place)


def _rehearsed(place: Place, method: str, n_edges: int) -> tuple[Place, float]:
    """The place with its inner loops compiled, and the seconds that took.

    Where nobody asked for the GPU and its kernels cannot be compiled or run, whatever its compiler or driver raises
    becomes a note, and the CPU solves.
    """
    try:
        return place, rehearse(method, place.device, n_edges)
    except Exception as error:
        if place.is_choice or place.device.type == "cpu":
            raise
        reason = str(error).strip().splitlines() or [type(error).__name__]
        place = cpu_instead(f"kernels do not run on the GPU ({reason[0]})", method)
        return place, rehearse(method, place.device, n_edges)


class _Solve(Search):
    """The stages of one solve, in order."""

    def __init__(self, *search: Any, bound_share: float | None, reduce: bool, place: Place) -> None:
        super().__init__(*search)
        self.bound_share, self.reduce, self.place = bound_share, reduce, place
        self.notes += place.notes
        self.shrunk = Shrunk(self.graph, ())
        self.blockwise: Blockwise | None = None
        self.step_left = 0.0  # of the grid on which cuts of what is left lie

    def offer_signs(self, problem: Problem, signs: Tensor) -> None:
        """Keeps the partition of the whole graph that extends signs of the problem, if it cuts more than the best."""
        self.offer_left(problem.partition(signs))

    def offer_left(self, partition: NDArray[np.uint8]) -> None:
        """Keeps the partition of the whole graph that extends one of what is left, if it cuts more than the best."""
        self.offer_partition(self.shrunk.lift(partition))

    def offer_left_bound(self, bound: Bound, prove: Proved) -> None:
        """Keeps a bound on the cuts of what is left as one on those of the whole graph, if it is below the best."""
        left = rounded_down(bound.value, self.step_left)
        kind = bound.kind if self.shrunk.graph.n_edges else "exact reduction"
        value = self.shrunk.upper_bound(left)
        self.offer_bound(replace(bound, value=value, kind=kind), lambda: self.shrunk.proof(prove()))

    def run(self, method: str, max_rounds: float) -> str:
        """Runs the stages and returns the status."""
        try:
            self.offer_bound(positive_weight_bound(self.graph), PositiveWeights)
            self.offer_partition(self.partition)
            self.check()
            if self.reduce:
                self.timed("reduce", self._reduce)
                self.check()
            left = self.shrunk.graph
            self.step_left = cut_step(left)
            problem = self.timed("prepare", lambda: prepare(left))
            self.offer_left_bound(positive_weight_bound(left), PositiveWeights)
            self.offer_signs(problem, balanced_signs(problem))
            self.check()
            if problem.n_edges:
                moved = self.timed("prepare", lambda: self._placed(problem, method))
                self._solve(moved, method, max_rounds)
        except Stop:
            pass
        if self.is_optimal():
            return "optimal"
        if self.reached_target():
            return "target reached"
        if self.interrupted or self.cancelled:
            return "interrupted"
        return "time limit" if self.elapsed() >= self.time_limit else "rounds done"

    def _placed(self, problem: Problem, method: str) -> Problem:
        """The problem where it will be solved: on the device, if that has room for what is left of the graph."""
        sizes = problem.n_vertices, 2 * problem.n_edges, most_columns(problem)
        reason = no_room(*sizes, method, self.place.device)
        if reason is None:
            return problem.to(self.place.device)
        if self.place.is_choice:
            raise ValueError(f"`device` {self.place.device.type} cannot be used: {reason}")
        self.place = cpu_instead(reason, method)
        self.notes += self.place.notes
        return problem

    def _solve(self, problem: Problem, method: str, max_rounds: float) -> None:
        left = self.shrunk.graph
        is_sparse = 2 * left.n_edges <= MESH_DEGREE * left.n_vertices
        if method == "auto" and is_sparse:
            self.timed("cycles", self._cycles)
            self.check()
            if self._wants_program("mesh"):
                seconds = PROGRAM_SHARE * (self.time_limit - self.elapsed())
                self.timed("program", lambda: self._program("mesh", seconds))
        starts = [problem.signs(self.shrunk.restrict(self.partition))] if self.cut_value > 0 else []
        if method != "anneal" and not (method == "auto" and self._relaxed_earlier()):
            relaxed = self.timed("relax", lambda: self._relax(problem, method))
            self.check()
            signs = self.timed("round", lambda: self._round(problem, relaxed.V, method))
            self.offer_signs(problem, signs)
            self.check()
            starts.append(signs)
        if method == "auto" and self._wants_program("small") and math.isfinite(self.time_limit):
            brief = self.elapsed() + min(BRIEFLY, PROGRAM_SHARE * (self.time_limit - self.elapsed()))
            self.timed("polish", lambda: self._polish(problem, starts, max_rounds, brief, stream=1))
            self.check()
            seconds = SMALL_SHARE * (self.time_limit - self.elapsed())
            self.timed("program", lambda: self._program("small", seconds))
            starts.append(problem.signs(self.shrunk.restrict(self.partition)))
        if method in ("auto", "anneal"):
            # Without a clock nothing would end programs that cycles alone do not close.
            late = PROGRAM_SHARE if self._wants_program("partly") and math.isfinite(self.time_limit) else 0.0
            until = self.time_limit - (late and late * (self.time_limit - self.elapsed()))
            self.timed("polish", lambda: self._polish(problem, starts, max_rounds, until))
            self.check()
            if late:
                self.timed("program", lambda: self._program("partly", self.time_limit - self.elapsed()))

    def _wants_program(self, kind: str) -> bool:
        return self.blockwise is not None and any(wants_program(part, kind) for part in self.blockwise.parts)

    def _reduce(self) -> None:
        shrunk = shrink(self.graph, self.should_stop)
        if shrunk.stages:
            self.shrunk = shrunk
            left = shrunk.graph
            self.notes.append(f"reduced exactly to {left.n_vertices:,} vertices and {left.n_edges:,} edges")

    def _shrinkage(self) -> float:
        """Sum of |w| of the whole graph over that of what is left, in the same units."""
        left = self.shrunk.unit * self.shrunk.graph.absolute_weight
        return self.graph.absolute_weight / left if left else 1.0

    def _relaxed_earlier(self) -> bool:
        """Whether an earlier run came to the end of the relaxation: its bound is in the checkpoint."""
        proved = any(kind in _PROVED for kind in self.bound.kind.split(" + "))
        return not self.proves and self.runs > 0 and proved and self.relaxation_value > -math.inf

    def _cycles(self) -> None:
        """Bounds from short cycles, block by block, and the cuts that go with them where a block is nearly planar."""
        most = max(CYCLE_SHARE * self.time_limit, CYCLE_SECONDS)
        until = min(self.time_limit / 2, self.elapsed() + most)

        def should_stop() -> bool:
            return self.should_stop() or self.elapsed() > until

        def should_hurry() -> bool:
            return self.elapsed() > GROWTH_SHARE * self.time_limit

        self.blockwise = Blockwise(self.shrunk.graph)
        for part in self.blockwise.parts:
            if not should_stop():
                bound_by_packing(part, should_stop)
        self._offer_blocks()
        # Of nearly planar graphs the relaxation, which comes next, knows little: matchings may have its time.
        until = MATCHING_SHARE * self.time_limit
        for part in self.blockwise.parts:
            if should_stop():
                break
            try:
                bound_by_matching(part, self.seed, should_stop, should_hurry)
            except (RuntimeError, OSError) as error:
                # The process may lack memory, a disk or pymatching; the rest goes on.
                self._note(f"no matching bound: {error}")
        self._offer_blocks()
        if self.shrunk.stages and "matching" not in self.blockwise.bound().kind and not should_stop():
            graph, faces = self.graph, find_cycles(self.graph, WHOLE_LONGEST, should_stop)
            self.offer_bound(packing_bound(graph, faces), lambda: packing_rows(graph, faces))

    def _program(self, kind: str, seconds: float) -> None:
        """Branch and cut over the cycles of blocks, the smallest first: what time they leave is for the others."""
        assert self.blockwise is not None
        parts = [part for part in reversed(self.blockwise.parts) if wants_program(part, kind)]
        until = self.elapsed() + seconds
        for k, part in enumerate(parts):
            if part.partition is None:
                part.offer_partition(self.shrunk.restrict(self.partition)[part.block.vertices])
            share = (until - self.elapsed()) / (len(parts) - k)
            bound_by_program(
                part,
                seed=self.seed,
                time_limit=max(0.0, share),
                should_stop=self.should_stop,
                improved=self._offer_blocks,
                note=self._note,
            )
            self._offer_blocks()
            self.check()

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)

    def _offer_blocks(self) -> None:
        """Keeps what the blocks add up to."""
        blockwise = self.blockwise
        assert blockwise is not None
        self.offer_left_bound(blockwise.bound(), blockwise.proof)
        self.offer_left(blockwise.partition(self.shrunk.restrict(self.partition)))

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
            report=lambda value, bound: self.offer_left_bound(bound, lambda: spectral_proof(problem, bound)),
            should_stop=self.should_stop,
        )
        if not self.interrupted:  # a run that goes on from here must relax anew
            self.relaxation_value = self.shrunk.value(relaxed.value)
        return relaxed

    def _round(self, problem: Problem, V: Tensor, method: str) -> Tensor:
        if method in DERANDOMIZERS:
            return derandomize(problem.csr, V, method, seed=self.seed, should_stop=self.should_stop).signs
        return hyperplanes(problem.csr, V, PLANES, self.seed)[0]

    def _polish(
        self, problem: Problem, starts: list[Tensor], max_rounds: float, until: float, stream: int = 0
    ) -> None:
        Polisher(
            problem,
            seed=self.seed + (self.runs << 32) + (stream << 60),
            should_stop=lambda: self.should_stop() or self.elapsed() >= until,
            improved=lambda signs: self.offer_signs(problem, signs),
            time_limit=until,
        ).run(starts, max_rounds)

    def timed(self, stage: str, work: Callable[[], Any]) -> Any:
        """Does the work of a stage and notes how long it took."""
        self.stage, begin = stage, self.elapsed()
        try:
            return work()
        finally:
            self.timings[stage] = self.timings.get(stage, 0.0) + self.elapsed() - begin


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
