"""The cycle bound by linear programming, the cuts that its points suggest, and the edges that it decides.

    maximise  sum_e w_e x_e   over   0 <= x <= 1   and the cycle rows   sum_F x - sum_{C - F} x <= |F| - 1,  |F| odd

(Barahona and Mahjoub 1986). Its value is the maximum cut of graphs that do not contract to K5 (planar ones among them),
and close to it on sparse ones; on dense graphs the semidefinite relaxation says more. Rows are found by `Separator` and
added in rounds, idle ones are dropped. What is reported is never the solver's objective: by `CycleRows`, any
multipliers >= 0 prove a bound, so those of any round do, however roughly it was solved.

An edge whose multipliers leave it a reduced cost above the distance to a known cut is as that cost wants it in every
better cut: `decided_edges`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdp.maxcut import _cycle_family, _separation
from sdp.maxcut._program import CUT, FREE, LOOSEST, TIGHTEST, UNCUT, CycleProgram, proved_bound
from sdp.maxcut.bound import Bound
from sdp.maxcut.cycles import find_cycles
from sdp.maxcut.graph import Graph
from sdp.maxcut.lattice import cut_step, rounded_down
from sdp.maxcut.proof import CycleRows
from sdp.maxcut.separation import Rows, Separator

ROUGH, FINE = 1e-3, 1e-5  # violation from which a row counts, while the program is rough and once it is fine
TREES = 4  # spanning trees tried at every point
NOISE = 0.2  # of how decided an edge is, in all trees but the first
SEARCHED = 500  # vertices that a search settles at first
SEARCH_GROWTH = 8
SEARCHES, FEW_ROWS = 4, 0.3  # of a point at most, while they find fewer rows than this share of the program's
SHARE_OF_GAP = 0.05  # of the distance to the best cut to which a program is solved
KIND = "cycle LP"
LEAN_GAP = 0.01  # relative gap below which it is worth the time to read cuts off a second point
LEAN = 0.05  # of each weight, at most, for points that decide more edges
FLOAT_SHARE = 1e-9  # of all weights together: cuts of rounded weights that differ by less count as equal
INTEGRAL = 1e-6  # distance from an integer that counts as none
TAIL_SHARE = 0.1  # of the gap, which so many rounds must win to be worth their time
PENALTY = 4.0  # of all weights together, at first, and its growth
PENALTIES = 8


@dataclass(frozen=True, eq=False)
class CycleLP:
    """What the linear program over cycle rows says.

    Attributes:
        bound: deterministic, in units of the graph's weights.
        x: float64 (m,), the last point, by edge in the order of `Graph.edges`.
        rows: with the multipliers that prove the bound.
        is_integral: whether the last point is a cut, which is then a maximum one.
        partition: uint8 (n,) of 0 and 1, the best cut read off the points.
        cut_value: of that partition.
        rounds: linear programs solved.
        status: "optimal" (no cut is better than the best one known), "solved" (no row is violated) or "time limit".
    """

    bound: Bound
    x: NDArray[np.float64]
    rows: CycleRows
    is_integral: bool
    partition: NDArray[np.uint8]
    cut_value: float
    rounds: int
    status: str


def cycle_lp(
    graph: Graph,
    *,
    start_rows: Rows | CycleRows | None = None,
    incumbent: float | None = None,
    fixed: ArrayLike | None = None,
    time_limit: float = math.inf,
    should_stop: Callable[[], bool] = lambda: False,
    seed: int = 0,
    threads: int | None = None,
) -> CycleLP:
    """The linear program over cycle rows, in rounds, until no row is violated or no better cut is possible.

    Args:
        graph: with weights of either sign; best a reduced one.
        start_rows: to begin with, with multipliers or without; None for the frustrated cycles of `find_cycles`.
        incumbent: value of a known cut, in units of the graph's weights.
        fixed: (m,) of -1 (free), 0 (not cut) and 1 (cut), by edge; the bound is then one of cuts that agree.
        time_limit: seconds; the round under way is given up.
        should_stop: asked between rounds.
        seed: of the trees and of which violated rows are found.
        threads: of the search for rows; None for numba's. They do not change the result.

    Raises:
        TypeError, ValueError: an argument of another kind, out of range, or of another shape.

    Complexity: a round costs O(n b log b) for b edges near a vertex, and a linear program; G32 (4,000 edges) takes 6
    rounds, 1 s in all.
    """
    chosen = check_fixed(graph, fixed)
    if not time_limit >= 0:
        raise ValueError(f"`time_limit` must be at least 0 seconds; got {time_limit}.")
    if incumbent is not None and not math.isfinite(incumbent):
        raise ValueError(f"`incumbent` must be finite; got {incumbent}.")
    until = time.monotonic() + time_limit

    def stop() -> bool:
        return time.monotonic() >= until or should_stop()

    with numba_threads(threads):
        program = CycleProgram(graph.edges()[2], Rows.none())
        program.start(start_rows if start_rows is not None else first_rows(graph, stop))
        program.fix(chosen)
        rounds = Rounds(graph, program, incumbent, seed)
        rounds.run(chosen, stop, lambda: until - time.monotonic())
    return rounds.result()


def first_rows(graph: Graph, should_stop: Callable[[], bool] = lambda: False) -> Rows:
    """The rows of frustrated short cycles, no edge in more than two of them."""
    return Rows.frustrated(find_cycles(graph, should_stop=should_stop), graph.edges()[2])


def decided_edges(graph: Graph, rows: CycleRows, bound: float, incumbent: float) -> NDArray[np.int8]:
    """What reduced costs decide: in every cut better than a known one, edges are as this says.

    Args:
        graph: of the rows.
        rows: with multipliers.
        bound: which they prove.
        incumbent: value of a known cut.

    Returns:
        int8 (m,): -1 (open), 0 (not cut) or 1 (cut). The other way the bound falls by the reduced cost
        |w_e - (A^T lambda)_e|, to the incumbent or below.
    """
    row_of = np.repeat(np.arange(rows.multipliers.size), np.diff(rows.pointers))
    each = rows.multipliers[row_of]
    cost = graph.edges()[2] - np.bincount(
        rows.members, np.where(rows.in_F, each, -each), minlength=graph.n_edges
    )
    # Twice the roundings that the bound itself allows for, and more.
    margin = bound - incumbent + 1e-9 * (1.0 + graph.absolute_weight)
    return np.where(np.abs(cost) < margin, FREE, np.where(cost > 0, CUT, UNCUT)).astype(np.int8)


class Rounds:
    """Rounds of one program: solve, prove, read cuts off the point, add what it violates.

    Attributes:
        bound: the best proved so far, for the fixings of the last run.
        proof: of that bound.
        cut_value: of the best partition; -inf before the first.
        partition: uint8 (n,), or None before the first.
        count: linear programs solved.
    """

    def __init__(self, graph: Graph, program: CycleProgram, incumbent: float | None, seed: int) -> None:
        self.graph, self.program, self.seed = graph, program, seed
        self.step = cut_step(graph)
        self.known = -math.inf if incumbent is None else incumbent
        self.cut_value, self.count = -math.inf, 0
        self.partition: NDArray[np.uint8] | None = None
        self.status = "time limit"
        self._u, self._v, self._weights = graph.edges()
        self._both = graph.weights64
        self._separator = Separator(graph)
        self._searched = SEARCHED
        self.bound, self._raw, self.proof = math.inf, math.inf, program.proof()

    @property
    def best(self) -> float:
        """Value of the best cut known."""
        return max(self.known, self.cut_value)

    def closes(self, bound: float) -> bool:
        """Whether no cut below this bound is better than the best one known.

        Cuts whose weights are no integers count as equal when they differ by `FLOAT_SHARE` of all weights.
        """
        return bound <= self.best + (0.0 if self.step else FLOAT_SHARE * self.graph.absolute_weight)

    def offer(self, sides: NDArray[np.uint8]) -> None:
        """Keeps a partition if it is the best so far."""
        value = self.graph.cut_value(sides)
        if value > self.cut_value:
            self.cut_value, self.partition = value, sides

    def run(
        self,
        fixed: NDArray[np.int8],
        stop: Callable[[], bool],
        seconds_left: Callable[[], float],
        patience: int | None = None,
        after_round: Callable[[], None] = lambda: None,
    ) -> None:
        """Rounds until the bound meets the best cut, nothing is violated, time is up, or nothing moves.

        Args:
            fixed: int8 (m,), as the program has been told.
            stop: asked before every round.
            seconds_left: for one program.
            patience: rounds after which the gap must have shrunk by `TAIL_SHARE`; None for any number.
            after_round: called after every program.
        """
        self.bound, self._raw, self.status = math.inf, math.inf, "time limit"
        is_fine = False
        trail: list[float] = []
        if self.partition is None:
            self.offer_point(self.program.x)
        self._prove(fixed)  # the multipliers at hand: none yet, or those of the node before
        if self.closes(self.bound):
            self.status = "optimal"
            return
        while not stop():
            accuracy = TIGHTEST if is_fine else self._accuracy()
            if not self.program.solve(accuracy, seconds_left()):
                if self.program.is_infeasible:
                    self._refute(fixed, seconds_left)
                return
            self.count += 1
            self._prove(fixed)
            self.offer_point(self.program.x)
            if not self.closes(self.bound) and self._raw - self.best < LEAN_GAP * abs(self._raw):
                self._offer_leaning(seconds_left)
            after_round()
            if self.closes(self.bound):
                self.status = "optimal"
                return
            trail.append(self._raw)
            if patience is not None and self._is_stuck(trail, patience):
                self.status = "stuck"
                return
            if self._separate(FINE if is_fine else ROUGH, stop):
                continue
            if is_fine:
                self.status = "solved"
                return
            is_fine = True

    def _separate(self, least: float, stop: Callable[[], bool]) -> bool:
        """Adds violated rows; False when none was found."""
        while not stop():
            rows, none = self._search(least, 0)
            for again in range(1, SEARCHES):
                # A program costs more than a search, and another order of the vertices finds other rows.
                if none or rows.n_rows >= FEW_ROWS * self.program.rows.n_rows or stop():
                    break
                rows = rows.united(self._search(least, again)[0])
            self.program.purge()
            if self.program.add(rows):
                return True
            if none or rows.n_rows or self._searched >= self.graph.n_vertices:
                return False
            self._searched *= SEARCH_GROWTH
        return False

    def _search(self, least: float, again: int) -> tuple[Rows, bool]:
        return self._separator.search(
            self.program.x, least=least, most_settled=self._searched, seed=self._key() + (again << 16)
        )

    def _prove(self, fixed: NDArray[np.int8]) -> None:
        """Takes the bound of the program's multipliers if it is a better one."""
        proof = self.program.proof()
        raw = proved_bound(self._weights, proof, fixed)
        if raw < self._raw:
            self._raw, self.bound, self.proof = raw, rounded_down(raw, self.step), proof

    def _refute(self, fixed: NDArray[np.int8], seconds_left: Callable[[], float]) -> None:
        """Proves what the program's infeasibility says: a bound below every cut known."""
        penalty = PENALTY * float(np.abs(self._weights).sum())
        for _ in range(PENALTIES):
            if not self.program.solve_freely(fixed, penalty, seconds_left()):
                return
            self._prove(fixed)
            if self.closes(self.bound):
                self.status = "optimal"
                return
            penalty *= PENALTY

    def offer_point(self, x: NDArray[np.float64]) -> None:
        """Reads cuts off a point: spanning trees of its most decided edges say which sides differ."""
        doubt = np.minimum(x, 1.0 - x)
        crosses = x > 0.5
        noise = np.random.Generator(np.random.Philox(key=self._key()))
        for tree in range(TREES):
            order = np.argsort(doubt + NOISE * noise.random(doubt.size) * (tree > 0), kind="stable")
            sides = _cycle_family.agreeing_sides(self._u, self._v, order, crosses, self.graph.n_vertices)
            _separation.one_opt(self.graph.indptr, self.graph.indices, self._both, sides)
            self.offer(sides)

    def _offer_leaning(self, seconds_left: Callable[[], float]) -> None:
        """Cuts off a point that is nearly as good and decides more edges."""
        noise = np.random.Generator(np.random.Philox(key=self._key() + (1 << 31)))
        lean = LEAN * np.abs(self._weights) * (2.0 * noise.random(self._weights.size) - 1.0)
        point = self.program.leaning_point(lean, seconds_left())
        if point is not None:
            self.offer_point(point)

    def result(self) -> CycleLP:
        """What came out."""
        assert self.partition is not None
        x = self.program.x
        wanted = math.fsum(self._weights[x > 0.5].tolist())
        integral = bool((np.minimum(x, 1.0 - x) <= INTEGRAL).all())
        return CycleLP(
            bound=Bound(self.bound, KIND, 0.0),
            x=x,
            rows=self.proof,
            is_integral=integral and self.cut_value >= wanted,
            partition=self.partition,
            cut_value=self.cut_value,
            rounds=self.count,
            status=self.status,
        )

    def _accuracy(self) -> float:
        """Relative gap to which the next program is solved: a share of the distance to the best cut."""
        if not math.isfinite(self._raw) or not math.isfinite(self.best):
            return LOOSEST
        return SHARE_OF_GAP * (self._raw - self.best) / max(abs(self._raw), 1e-300)

    def _is_stuck(self, trail: list[float], patience: int) -> bool:
        if len(trail) <= patience:
            return False
        before = min(trail[:-patience])
        return before - min(trail) < TAIL_SHARE * (before - self.best)

    def _key(self) -> int:
        """Of the random numbers of this round."""
        return (self.seed << 32) + self.count


def check_fixed(graph: Graph, fixed: ArrayLike | None) -> NDArray[np.int8]:
    """Fixings, int8 (m,); all free when None.

    Raises:
        ValueError: the shape is another, or an entry is none of -1, 0 and 1.
    """
    if fixed is None:
        return np.full(graph.n_edges, FREE, np.int8)
    values = np.asarray(fixed)
    if values.shape != (graph.n_edges,):
        raise ValueError(f"`fixed` must have shape ({graph.n_edges},); got {values.shape}.")
    strangers = ~np.isin(values, (FREE, UNCUT, CUT))
    if strangers.any():
        raise ValueError(f"`fixed` must hold -1, 0 and 1; got {values[strangers][0]}.")
    return values.astype(np.int8)


@contextmanager
def numba_threads(threads: int | None) -> Iterator[None]:
    """So many threads for numba's loops, then as before; None changes nothing."""
    before = numba.get_num_threads()
    if threads is not None:
        numba.set_num_threads(threads)
    try:
        yield
    finally:
        numba.set_num_threads(before)
