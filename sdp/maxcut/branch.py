"""Closing the gap: branch and cut over the edges of a sparse graph.

A node is a set of edges that are fixed to be cut or not. Its linear program over cycle rows (`sdp.maxcut.linear`; rows
are valid everywhere, so all nodes share them) gives a bound, and cuts read off its points. A node whose bound, rounded
down to the grid on which cuts lie, is no better than the best cut is done; another is split by an edge on which its
point cannot decide and which weighs on the bound. The node with the highest bound comes next, and among equals the
deepest, so the search dives while the bound allows it.

The tree is the proof: leaves are rows with multipliers, each for the edges fixed above it.

Source: Barahona, Groetschel, Juenger and Reinelt (1988); Liers, Juenger, Reinelt and Rinaldi (2004) on spin glasses.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdp.maxcut._program import CUT, FREE, UNCUT, CycleProgram, proved_bound
from sdp.maxcut.bound import Bound
from sdp.maxcut.graph import Graph
from sdp.maxcut.lattice import rounded_down
from sdp.maxcut.linear import Rounds, first_rows, numba_threads
from sdp.maxcut.proof import Branch, CycleRows, Proof
from sdp.maxcut.separation import Rows

PATIENCE = 2  # rounds in which the gap must shrink by `TAIL_SHARE`, below the root
ROOT_PATIENCE, LONG_PATIENCE = 12, 40  # at the root: of small programs, and of those whose nodes cost seconds
SMALL = 1500  # edges
KIND = "branch and cut"


@dataclass(frozen=True, eq=False)
class BranchAndCut:
    """What branch and cut found.

    Attributes:
        bound: deterministic, in units of the graph's weights; of kind "cycle LP" if the root's was not split.
        partition: uint8 (n,) of 0 and 1, the best cut known, the one that was handed in among them.
        cut_value: of that partition.
        proof: of the bound: a tree over edges in the order of `Graph.edges`.
        nodes: how many nodes were bounded.
        rounds: linear programs solved.
        status: "optimal" (no cut is better than `partition`) or "time limit".
    """

    bound: Bound
    partition: NDArray[np.uint8]
    cut_value: float
    proof: Proof
    nodes: int
    rounds: int
    status: str


@dataclass(eq=False)
class _Node:
    """Edges fixed on the way here, what is proved of them, and the two halves once it is split."""

    path: tuple[tuple[int, int], ...]
    bound: float
    proof: CycleRows
    edge: int = -1
    halves: list[int] = field(default_factory=list)


def branch_and_cut(
    graph: Graph,
    *,
    partition: ArrayLike | None = None,
    start_rows: Rows | CycleRows | None = None,
    time_limit: float = math.inf,
    max_nodes: int | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    report: Callable[[float, NDArray[np.uint8]], None] = lambda bound, partition: None,
    seed: int = 0,
    threads: int | None = None,
) -> BranchAndCut:
    """The maximum cut of a sparse graph with its proof, or as much of both as time allows.

    Args:
        graph: with weights of either sign; best a reduced one.
        partition: (n,) of 0 and 1 or of -1 and +1, a cut to be improved or proved; None for none.
        start_rows: to begin with, with multipliers or without; None for the frustrated cycles of `find_cycles`.
        time_limit: seconds.
        max_nodes: nodes after which to stop; None for any number.
        should_stop: asked before every linear program.
        report: called after every linear program with the bound and the best partition so far.
        seed: of the trees that read cuts off points, and of which violated rows are found.
        threads: of the search for rows; None for numba's. They do not change the result.

    Raises:
        ValueError: an argument out of range or of another shape.

    Complexity: a node costs a few linear programs; there may be exponentially many. Tori of 2,500 vertices with weights
    of +-1 take one node and 3 s.

    >>> found = branch_and_cut(Graph.from_edges([0, 0, 0, 1, 1, 2], [1, 2, 3, 2, 3, 3]))  # the complete graph K4
    >>> found.cut_value, found.bound.value, found.status
    (4.0, 4.0, 'optimal')
    """
    if not time_limit >= 0:
        raise ValueError(f"`time_limit` must be at least 0 seconds; got {time_limit}.")
    if max_nodes is not None and max_nodes < 1:
        raise ValueError(f"`max_nodes` must be at least 1; got {max_nodes}.")
    sides = np.zeros(graph.n_vertices, np.uint8)
    if partition is not None:
        graph.cut_value(partition)  # refuses what is no partition
        sides = (np.asarray(partition) > 0).astype(np.uint8)
    until = time.monotonic() + time_limit
    with numba_threads(threads):
        search = _Search(graph, sides, start_rows, until, should_stop, seed)
        search.run(max_nodes, report)
    return search.result()


class _Search:
    """The tree, the queue of its open leaves, and the one program that all nodes share."""

    def __init__(
        self,
        graph: Graph,
        sides: NDArray[np.uint8],
        start_rows: Rows | CycleRows | None,
        until: float,
        should_stop: Callable[[], bool],
        seed: int,
    ) -> None:
        self.graph, self.until, self.should_stop = graph, until, should_stop
        self.weights = graph.edges()[2]
        self.program = CycleProgram(self.weights, Rows.none())
        self.program.start(start_rows if start_rows is not None else first_rows(graph, self._stop))
        self.rounds = Rounds(graph, self.program, None, seed)
        self.rounds.offer(sides)
        # What the first rows prove; without multipliers, the sum of the positive weights.
        first = self.program.proof()
        free = np.full(self.weights.size, FREE, np.int8)
        self.nodes = [_Node((), self._rounded(first, free), first)]
        self.queue: list[tuple[float, int, int]] = [(-self.nodes[0].bound, 0, 0)]
        self.bounded, self.given_up = 0, -math.inf

    def run(self, max_nodes: int | None, report: Callable[[float, NDArray[np.uint8]], None]) -> None:
        """Nodes from the queue, until none can hold a better cut, or time is up."""
        while self.queue and not self._stop() and (max_nodes is None or self.bounded < max_nodes):
            number = heapq.heappop(self.queue)[2]
            if self._is_done(self.nodes[number]):
                continue
            self._bound(number, report)

    def _bound(self, number: int, report: Callable[[float, NDArray[np.uint8]], None]) -> None:
        """Solves a node's program and splits it unless it is done."""
        node = self.nodes[number]

        def tell() -> None:
            assert self.rounds.partition is not None
            report(self._top(min(node.bound, self.rounds.bound)), self.rounds.partition)

        fixed = self._fixed(node.path)
        self.program.fix(fixed)
        at_root = ROOT_PATIENCE if self.weights.size <= SMALL else LONG_PATIENCE
        patience = PATIENCE if number else at_root
        self.rounds.run(fixed, self._stop, lambda: self.until - time.monotonic(), patience, tell)
        self.bounded += 1
        if self.rounds.bound < node.bound:
            node.bound, node.proof = self.rounds.bound, self.rounds.proof
        if self._is_done(node):
            return
        if self._stop():
            heapq.heappush(self.queue, (-node.bound, -2 * len(node.path), number))
            return
        edge = self._undecided(fixed)
        if (
            edge < 0
        ):  # all is fixed and the program could not be solved to the end: nothing more can be done here
            self.given_up = max(self.given_up, node.bound)
            return
        node.edge = edge
        for value in (CUT, UNCUT):
            path = (*node.path, (edge, value))
            bound = min(node.bound, self._rounded(node.proof, self._fixed(path)))
            self.nodes.append(_Node(path, bound, node.proof))
            node.halves.append(len(self.nodes) - 1)
            # Among equals first the deepest, and of two halves the one that the point prefers.
            ahead = (self.program.x[edge] > 0.5) == (value == CUT)
            heapq.heappush(self.queue, (-bound, -2 * len(path) - ahead, len(self.nodes) - 1))

    def _undecided(self, fixed: NDArray[np.int8]) -> int:
        """A free edge far from 0 and 1 that weighs on the bound, by its weight and its rows' multipliers; or -1."""
        program = self.program
        each = program.multipliers[program.rows.row_of]
        stakes = np.abs(self.weights) + np.bincount(program.rows.members, each, minlength=self.weights.size)
        score = np.minimum(program.x, 1.0 - program.x) * stakes
        score[fixed != FREE] = -1.0
        best = int(np.argmax(score)) if score.size else -1
        return best if best >= 0 and score[best] >= 0 else -1

    def _fixed(self, path: tuple[tuple[int, int], ...]) -> NDArray[np.int8]:
        fixed = np.full(self.weights.size, FREE, np.int8)
        for edge, value in path:
            fixed[edge] = value
        return fixed

    def _rounded(self, proof: CycleRows, fixed: NDArray[np.int8]) -> float:
        return rounded_down(proved_bound(self.weights, proof, fixed), self.rounds.step)

    def _is_done(self, node: _Node) -> bool:
        return self.rounds.closes(node.bound)

    def _stop(self) -> bool:
        return time.monotonic() >= self.until or self.should_stop()

    def _top(self, bound: float) -> float:
        """The bound of the whole while a node has this one: the highest of those open, or the best cut."""
        return max(bound, -self.queue[0][0] if self.queue else -math.inf, self.given_up, self.rounds.best)

    def result(self) -> BranchAndCut:
        """Folds the tree from its leaves; a split that proves no more than the node itself is left out."""
        bounds = [node.bound for node in self.nodes]
        trees: list[Proof] = [node.proof for node in self.nodes]
        for number in range(len(self.nodes) - 1, -1, -1):
            node = self.nodes[number]
            if node.halves:
                cut, uncut = node.halves
                below = max(bounds[cut], bounds[uncut])
                if below < bounds[number]:
                    bounds[number] = below
                    trees[number] = Branch(node.edge, trees[cut], trees[uncut])
        kind = KIND if isinstance(trees[0], Branch) else "cycle LP"
        sides = self.rounds.partition
        assert sides is not None
        return BranchAndCut(
            bound=Bound(bounds[0], kind, 0.0),
            partition=sides,
            cut_value=self.rounds.cut_value,
            proof=trees[0],
            nodes=self.bounded,
            rounds=self.rounds.count,
            status="optimal" if self.rounds.closes(bounds[0]) else "time limit",
        )
