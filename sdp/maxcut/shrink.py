"""From a graph to what is hard of it, and back: exact rules and the blocks that dynamic programming solves, in turn."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.csgraph import connected_components

from sdp.maxcut.blocks import Block, blocks, glue
from sdp.maxcut.exact import MOST_VERTICES, Exact, elimination, solve_exactly
from sdp.maxcut.graph import Graph
from sdp.maxcut.proof import Proof, Reduced, Split, Table
from sdp.maxcut.reduce import Reduction, reduce

LEAST_SHARE = (
    0.005  # of the vertices, in blocks that may be solved: for fewer a second graph is not worth its making
)


@dataclass(frozen=True, eq=False)
class Solved:
    """A graph without the blocks that were solved.

    Attributes:
        original: the graph.
        graph: what is left, without isolated vertices.
        kept: int64 (graph.n_vertices,), its vertices in the original, rising.
        solved: the blocks and their maximum cuts.
        constant: sum of the cuts solved, in units of edge weight.
    """

    original: Graph
    graph: Graph
    kept: NDArray[np.int64]
    solved: tuple[tuple[Block, Exact], ...]
    constant: float

    def lift(self, partition: ArrayLike) -> NDArray[np.uint8]:
        """A partition uint8 (original.n_vertices,) that cuts `constant` more than one of what is left.

        Components of what is left may be turned over as wholes.
        """
        sides = (np.asarray(partition) > 0).astype(np.uint8)
        left = [(self.kept[part], sides[part]) for part in self._components]
        parts = [(block.vertices, exact.partition) for block, exact in self.solved]
        return glue(self.original.n_vertices, [*left, *parts])

    def restrict(self, partition: ArrayLike) -> NDArray[np.uint8]:
        """Sides of the vertices that are left, from a partition of the original."""
        return (np.asarray(partition)[self.kept] > 0).astype(np.uint8)

    def value(self, cut_value: float) -> float:
        """The cut of a lifted partition, in units of edge weight."""
        return self.constant + cut_value

    def upper_bound(self, bound: float) -> float:
        """An upper bound on the original's cuts from one on the cuts of what is left, rounded to the safe side."""
        proved = math.fsum([bound, *(exact.upper_bound for _, exact in self.solved)])
        if not math.isfinite(proved) or (self.original.is_integer and proved == math.floor(proved)):
            return proved
        return math.nextafter(proved, math.inf)

    def proof(self, left: Proof) -> Proof:
        """The proof of that bound from a proof of what is left."""
        tables = [(block.vertices, Table(exact.order)) for block, exact in self.solved]
        return Split((*([(self.kept, left)] if self.kept.size else []), *tables))

    @cached_property
    def _components(self) -> list[NDArray[np.int64]]:
        """Vertices of the components of what is left."""
        count, label = connected_components(self.graph.to_scipy(), directed=False)
        order = np.argsort(label, kind="stable")
        return np.split(order, np.searchsorted(label[order], np.arange(1, count))) if count else []


@dataclass(frozen=True, eq=False)
class Shrunk:
    """What is left of a graph after several stages.

    Attributes:
        original: the graph.
        stages: in the order in which they were applied; each one's `graph` is the next one's `original`.
    """

    original: Graph
    stages: tuple[Reduction | Solved, ...]

    @property
    def graph(self) -> Graph:
        """What is left."""
        return self.stages[-1].graph if self.stages else self.original

    @property
    def unit(self) -> float:
        """Of the weights left, in units of the original's weights."""
        return math.prod(stage.unit for stage in self.stages if isinstance(stage, Reduction))

    def lift(self, partition: ArrayLike) -> NDArray[np.uint8]:
        """A partition uint8 (original.n_vertices,) that extends one of what is left, up to turning components over."""
        sides = (np.asarray(partition) > 0).astype(np.uint8)
        for stage in reversed(self.stages):
            sides = stage.lift(sides)
        return sides

    def restrict(self, partition: ArrayLike) -> NDArray[np.uint8]:
        """Sides of the vertices that are left, from a partition of the original."""
        sides = (np.asarray(partition) > 0).astype(np.uint8)
        for stage in self.stages:
            sides = stage.restrict(sides)
        return sides

    def value(self, cut_value: float) -> float:
        """The cut of a lifted partition, in units of the original's weights."""
        for stage in reversed(self.stages):
            cut_value = stage.value(cut_value)
        return cut_value

    def upper_bound(self, bound: float) -> float:
        """An upper bound on the original's cuts from one on the cuts of what is left."""
        for stage in reversed(self.stages):
            bound = stage.upper_bound(bound)
        return bound

    def proof(self, left: Proof) -> Proof:
        """The proof of that bound from a proof of what is left."""
        for stage in reversed(self.stages):
            left = Reduced(stage, left) if isinstance(stage, Reduction) else stage.proof(left)
        return left


def shrink(graph: Graph, should_stop: Callable[[], bool] = lambda: False) -> Shrunk:
    """Applies the rules of `reduce` and solves the blocks of small treewidth, in turn, until neither finds anything.

    Complexity: as `reduce`; blocks of up to 4,000 vertices are searched for an order, some 0.1 ms a vertex, and solved
    within some 5 s each.

    >>> ladder = Graph.from_edges([0, 1, 2, 3, 0, 1, 2, 3], [1, 2, 3, 0, 4, 5, 6, 7])
    >>> shrunk = shrink(ladder)
    >>> shrunk.graph.n_vertices, ladder.cut_value(shrunk.lift([])), shrunk.upper_bound(0.0)
    (0, 8.0, 8.0)
    """
    stages: list[Reduction | Solved] = []
    left = graph
    while not should_stop():
        reduction = reduce(left)
        if any(reduction.removed.values()):
            stages.append(reduction)
            left = reduction.graph
        solved = solve_blocks(left, should_stop)
        if solved is None:
            break
        stages.append(solved)
        left = solved.graph
    return Shrunk(graph, tuple(stages))


def solve_blocks(graph: Graph, should_stop: Callable[[], bool] = lambda: False) -> Solved | None:
    """Solves the blocks of small treewidth; None where they are few or none.

    Complexity: see `shrink`.
    """
    small = (
        [block for block in blocks(graph) if block.vertices.size <= MOST_VERTICES] if graph.n_edges else []
    )
    if sum(block.vertices.size for block in small) < LEAST_SHARE * graph.n_vertices:
        return None
    solved: list[tuple[Block, Exact]] = []
    for block in small:
        order = None if should_stop() else elimination(block.graph)
        exact = None if order is None else solve_exactly(block.graph, order, should_stop=should_stop)
        if exact is not None:
            solved.append((block, exact))
    solved = _apart(graph, solved)
    if not solved:
        return None
    left = np.ones(graph.n_edges, np.bool_)
    for block, _ in solved:
        left[block.edges] = False
    u, v, _ = graph.edges()
    held = np.zeros(graph.n_vertices, np.bool_)
    held[u[left]] = held[v[left]] = True
    rest = Block(graph, np.flatnonzero(held), np.flatnonzero(left))
    return Solved(
        graph, rest.graph, rest.vertices, tuple(solved), math.fsum(exact.value for _, exact in solved)
    )


def _apart(graph: Graph, solved: list[tuple[Block, Exact]]) -> list[tuple[Block, Exact]]:
    """The blocks without an edge between two vertices that are left, so that what is left is an induced subgraph."""
    u, v, _ = graph.edges()
    while True:
        left = np.ones(graph.n_edges, np.bool_)
        for block, _ in solved:
            left[block.edges] = False
        held = np.zeros(graph.n_vertices, np.bool_)
        held[u[left]] = held[v[left]] = True
        apart = [
            (block, exact)
            for block, exact in solved
            if not (held[u[block.edges]] & held[v[block.edges]]).any()
        ]
        if len(apart) == len(solved):
            return apart
        solved = apart
