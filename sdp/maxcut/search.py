"""The state of one solve: its clock, the best cut and bound with its proof, and who must hear of them."""

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

import numpy as np
from numpy.typing import NDArray

from sdp.maxcut import certificate as certificates
from sdp.maxcut import checkpoint as checkpoints
from sdp.maxcut.bound import Bound
from sdp.maxcut.graph import Graph
from sdp.maxcut.lattice import cut_step, rounded_down
from sdp.maxcut.placement import Place
from sdp.maxcut.proof import PositiveWeights, Proof
from sdp.maxcut.result import MaxCutResult, Progress, relative_gap

CHECKPOINT_SECONDS = 1.0
NEARLY = 1e-9  # relative, between cut and bound: so much rounding to the safe side may leave
TICK_SECONDS = 0.1  # between two calls of the callback when nothing improves


class Stop(Exception):  # noqa: N818 - it is no error
    """The callback asked for the end, a signal came, or a target is reached."""


class Search:
    """Best cut and bound of a graph so far, both of the whole graph."""

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
        proves: bool,
    ) -> None:
        self.proves = proves  # whether only bounds of this run may end it, because a certificate is wanted
        self.graph, self.time_limit, self.seed, self.delta = graph, time_limit, seed, delta
        self.step = cut_step(graph)
        self.target_gap, self.target_cut, self.callback = target_gap, target_cut, callback
        self.partition: NDArray[np.uint8] = np.zeros(graph.n_vertices, np.uint8)
        self.cut_value = 0.0
        self.bound = Bound(math.inf, "none", 0.0)
        self._proved, self._prove = self.bound, _nothing  # the best bound of this run, and its proof
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
        self._compared = (
            math.nan,
            math.nan,
            False,
        )  # a cut value, a number below it, and which is larger exactly
        self._tried = math.inf  # the bound that was last worked out exactly
        if checkpoint is not None and os.path.exists(checkpoint):
            self._resume(checkpoints.load(checkpoint, graph))

    def elapsed(self) -> float:
        """Seconds since the start of this run."""
        return time.perf_counter() - self.started

    # What is found.

    def offer_partition(self, partition: NDArray[np.uint8]) -> None:
        """Keeps a partition if it cuts more than the best."""
        value = self.graph.cut_value(partition)
        if value > self.cut_value or (not self.history and value == self.cut_value):
            self.partition, self.cut_value = partition, value
            self._record()

    def offer_bound(self, bound: Bound, prove: Callable[[], Proof]) -> None:
        """Keeps a bound if it is below the best.

        Args:
            bound: rounded down here to the grid on which all cuts lie.
            prove: its proof, made when a certificate is asked for.
        """
        value = rounded_down(bound.value, self.step)
        if value < self._proved.value:
            self._proved, self._prove = replace(bound, value=value), prove
        if value < self.bound.value:
            # The least of two bounds is wrong if either is.
            delta = min(1.0, bound.delta + self.earlier_delta) if bound.delta else 0.0
            self.bound = replace(bound, value=value, delta=delta)
            self._record()

    def _record(self) -> None:
        self.history.append((self.earlier + self.elapsed(), self.cut_value, self.bound.value))
        self._unsaved = True
        self._told = -math.inf

    # When to stop.

    def gap(self) -> float:
        """As `MaxCutResult.gap`."""
        return relative_gap(self.cut_value, self.bound.value)

    def is_optimal(self, bound: float | None = None) -> bool:
        """Whether the cut meets the bound: the best known if none is given."""
        bound = self.bound.value if bound is None else bound
        if self.graph.is_integer:
            return self.cut_value >= bound
        # Sums of fractional weights are rounded, bounds upwards: the cut must lie above the number before the bound.
        below = math.nextafter(bound, -math.inf)
        return self.cut_value >= below and self._cuts_more_than(below)

    def _cuts_more_than(self, value: float) -> bool:
        """Whether the partition's cut, summed without rounding, is above a number: once a pair, it is asked often."""
        if self._compared[:2] != (self.cut_value, value):
            u, v, w = self.graph.edges()
            cut = w[self.partition[u] != self.partition[v]]
            self._compared = (self.cut_value, value, math.fsum([*cut.tolist(), -value]) > 0)
        return self._compared[2]

    def reached_target(self) -> bool:
        """Whether the gap or the cut is what was asked for."""
        by_gap = self.target_gap is not None and self.gap() <= self.target_gap
        return by_gap or (self.target_cut is not None and self.cut_value >= self.target_cut)

    def should_stop(self) -> bool:
        """Tells the callback, keeps the checkpoint, and says whether the search must end."""
        now = self.elapsed()
        self._tell(now)
        if self._unsaved and now - self._saved >= CHECKPOINT_SECONDS:
            self._save()
        if now >= self.time_limit or self.interrupted or self.cancelled:
            return True
        self._bound_exactly()
        if self.proves:
            gap = relative_gap(self.cut_value, self._proved.value)
            by_gap = self.target_gap is not None and gap <= self.target_gap
            by_cut = self.target_cut is not None and self.cut_value >= self.target_cut
            return by_gap or by_cut or self.is_optimal(self._proved.value)
        return self.is_optimal() or self.reached_target()

    def _bound_exactly(self) -> None:
        """Works the bound out without rounding, once, where fractional weights leave only that to the cut."""
        bound = self._proved.value
        near = self.cut_value >= bound - NEARLY * abs(bound) and not self.graph.is_integer
        if near and bound < self._tried and not self._proved.delta:
            self._tried = bound
            if not self.is_optimal(bound):
                self.offer_bound(replace(self._proved, value=self._exactly()), self._prove)

    def _exactly(self) -> float:
        try:
            return certificates.bound_of(self.graph, self._prove())
        except (ValueError, RuntimeError, OSError) as error:
            self.notes.append(f"the bound could not be worked out exactly: {error}")
            return math.inf

    def _tell(self, now: float) -> None:
        if self.callback is not None and now - self._told >= TICK_SECONDS:
            self._told = now
            progress = Progress(now, self.stage, self.cut_value, self.bound.value, self.gap())
            self.cancelled = bool(self.callback(progress)) or self.cancelled

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

    def check(self) -> None:
        """Ends the search where it must end."""
        if self.should_stop():
            raise Stop

    # The way in and out.

    def _resume(self, state: checkpoints.Checkpoint) -> None:
        self.partition, self.cut_value = state.partition, self.graph.cut_value(state.partition)
        self.bound = Bound(rounded_down(state.upper_bound, self.step), state.bound_kind, state.delta)
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

    def certify(self, path: str | os.PathLike[str]) -> None:
        """Writes the certificate of the best cut and of the best bound that this run has proved.

        Where the checker proves more than was known, as it may in exact arithmetic, that is the bound from now on. A
        proof that it does not accept becomes a note, and so does whatever else keeps the file from being written, a
        signal among them: the result must not be lost by it.
        """
        self._save()
        self._told, asked = -math.inf, self.interrupted

        def progress(stage: str, done: int, total: int) -> None:
            self._tell(self.elapsed())
            if self.interrupted and not asked:
                raise KeyboardInterrupt

        try:
            claims = certificates.write(
                path,
                self.graph,
                self.partition,
                self.bound.value,
                self._prove(),
                progress=progress,
            )
        except (ValueError, RuntimeError, OSError, MemoryError, KeyboardInterrupt) as error:
            self.notes.append(f"no certificate was written: {error or type(error).__name__}")
            return
        if claims.upper_bound < self.bound.value:
            # The least of two bounds with blocks of their own is wrong if either is.
            delta = min(1.0, self._proved.delta + claims.delta)
            self.offer_bound(replace(self._proved, value=claims.upper_bound, delta=delta), self._prove)
        if claims.note:
            self.notes.append(claims.note)

    def result(self, status: str, method: str, threads: int, place: Place) -> MaxCutResult:
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
            device=place.device.type,
            engine=place.engine,
            graph_name=self.graph.name,
            n_vertices=self.graph.n_vertices,
            n_edges=self.graph.n_edges,
            notes=tuple(self.notes),
        )


def _nothing() -> Proof:
    return PositiveWeights()
