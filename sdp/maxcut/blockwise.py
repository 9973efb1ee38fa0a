"""Bounds from short cycles, block by block: what is proved of each block adds up."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sdp.maxcut.blocks import Block, blocks, glue
from sdp.maxcut.bound import Bound, positive_weight_bound
from sdp.maxcut.branch import branch_and_cut
from sdp.maxcut.cycles import CycleFamily, find_cycles
from sdp.maxcut.graph import Graph
from sdp.maxcut.lattice import cut_step, rounded_down
from sdp.maxcut.matching import match
from sdp.maxcut.matching_dual import matching_dual
from sdp.maxcut.proof import CycleRows, PositiveWeights, Proof, Split
from sdp.maxcut.rows import packing_bound, packing_rows
from sdp.maxcut.separation import Rows

MESH_DEGREE = 7.0  # mean degree up to which short cycles are looked for; king's moves have 8, and no faces
NEARLY_PLANAR = 0.9  # of the cycles that a planar drawing has: from there on they are worth matching
PARTLY_PLANAR = 0.25  # of the cycles: from there on linear programs over them prove more than the relaxation
SMALL = 1000  # edges of a block up to which linear programs are always worth trying
MOST_EDGES = {"mesh": 100_000, "partly": 20_000, "small": SMALL}  # of a block that they are tried on
DUAL_EDGES = 5000  # from there on it saves time to start them from the matching's multipliers
MOST_FRUSTRATED = 0.9  # of the cycles: beyond, as in triangulations with equal weights, matching takes hours

MOST_BLOCKS = 100  # beyond, a graph that was not shrunk is one part: each costs a process
MOST_NODES = 1000  # of branch and cut where no clock ends it
DUAL_SECONDS = 300.0  # that the proof of a matching's bound may take; beyond, the packing's has to do
_TRIVIAL = "sum of positive weights"  # exact for bridges, which are worth no name beside others

Proved = Callable[[], Proof]  # made when a certificate is asked for


@dataclass(eq=False)
class Part:
    """What is known of one block.

    Attributes:
        block: of what is left of the graph.
        step: of the grid on which the block's cuts lie, or 0.
        bound: the best so far, rounded down to the grid.
        prove: its proof.
        faces: the family of short cycles found, or None before they were looked for.
        partition: uint8 (b,), the best of the block by itself, or None.
        cut_value: of the partition.
    """

    block: Block
    step: float
    bound: Bound
    prove: Proved
    faces: CycleFamily | None = None
    partition: NDArray[np.uint8] | None = None
    cut_value: float = -math.inf

    @staticmethod
    def of(block: Block) -> Part:
        """With the sum of the positive weights for a bound."""
        step = cut_step(block.graph)
        bound = positive_weight_bound(block.graph)
        return Part(block, step, replace(bound, value=rounded_down(bound.value, step)), PositiveWeights)

    def offer_bound(self, bound: Bound, prove: Proved) -> bool:
        """Keeps a bound if it is below the best; whether it was."""
        value = rounded_down(bound.value, self.step)
        if value >= self.bound.value:
            return False
        self.bound, self.prove = replace(bound, value=value), prove
        return True

    def offer_partition(self, partition: NDArray[np.uint8]) -> bool:
        """Keeps a partition if it cuts more than the best; whether it did."""
        value = self.block.graph.cut_value(partition)
        if value <= self.cut_value:
            return False
        self.partition, self.cut_value = partition, value
        return True

    def is_optimal(self) -> bool:
        """Whether the partition meets the bound."""
        return self.cut_value >= self.bound.value

    def planarity(self) -> float:
        """Cycles found for each that a planar drawing of the block has, about; 0 for blocks of a vertex or two."""
        graph = self.block.graph
        n_faces = graph.n_edges - graph.n_vertices
        return 0.0 if self.faces is None or n_faces <= 0 else self.faces.n_cycles / n_faces


class Blockwise:
    """Blocks of a graph, their bounds and their sum."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        found = blocks(graph)
        if len(found) > MOST_BLOCKS:
            found = [Block(graph, np.arange(graph.n_vertices), np.arange(graph.n_edges))]
        self.parts = [Part.of(block) for block in found]

    def bound(self) -> Bound:
        """The sum of the blocks' bounds, named after all their kinds, that of the largest block first."""
        kinds = list(dict.fromkeys(part.bound.kind for part in self.parts))
        if len(kinds) > 1 and _TRIVIAL in kinds:
            kinds.remove(_TRIVIAL)
        value = math.fsum(part.bound.value for part in self.parts)
        if not self.graph.is_integer:
            value = math.nextafter(value, math.inf)
        return Bound(value, " + ".join(kinds), 0.0)

    def proof(self) -> Proof:
        """Of that sum."""
        if len(self.parts) == 1 and self.parts[0].block.graph is self.graph:
            return self.parts[0].prove()
        return Split(tuple((part.block.vertices, part.prove()) for part in self.parts))

    def partition(self, sides: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The blocks' own partitions put together; where a block has none, these sides uint8 (n,)."""
        each = [
            (part.block.vertices, sides[part.block.vertices] if part.partition is None else part.partition)
            for part in self.parts
        ]
        return glue(self.graph.n_vertices, each)


def bound_by_packing(part: Part, should_stop: Callable[[], bool]) -> None:
    """Finds the faces of a block and packs them."""
    graph = part.block.graph
    family = find_cycles(graph, should_stop=should_stop)
    part.faces = family
    part.offer_bound(packing_bound(graph, family), lambda: packing_rows(graph, family))


def bound_by_matching(
    part: Part, seed: int, should_stop: Callable[[], bool], should_hurry: Callable[[], bool]
) -> None:
    """The matching bound and its cut, where a block is nearly planar and not every cycle frustrated.

    Raises:
        RuntimeError, OSError: as `match`.
    """
    graph, family = part.block.graph, part.faces
    if family is None or part.planarity() < NEARLY_PLANAR:
        return
    if int(family.frustrated(graph.edges()[2]).sum()) > MOST_FRUSTRATED * family.n_cycles:
        return
    matching = match(graph, family, seed=seed, should_stop=should_stop, should_hurry=should_hurry)
    if matching is not None:
        rows = matching.rows
        part.offer_bound(matching.bound, lambda: _dual_or_packing(graph, family) if rows is None else rows)
        part.offer_partition(matching.partition)


def wants_program(part: Part, kind: str) -> bool:
    """Whether linear programs over a block's cycles are worth their time.

    Args:
        part: the block.
        kind: "mesh" for nearly planar blocks, "small" for small ones of another kind, "partly" for the rest.
    """
    n_edges, planarity = part.block.graph.n_edges, part.planarity()
    if part.is_optimal() or n_edges > MOST_EDGES[kind]:
        return False
    if planarity >= NEARLY_PLANAR:
        return kind == "mesh"
    if n_edges <= SMALL:
        return kind == "small"
    return kind == "partly" and planarity >= PARTLY_PLANAR


def bound_by_program(
    part: Part,
    *,
    seed: int,
    time_limit: float,
    should_stop: Callable[[], bool],
    improved: Callable[[], None],
    note: Callable[[str], None],
) -> None:
    """Branch and cut over the cycles of a block.

    Args:
        part: changed in place.
        seed: as for `branch_and_cut`.
        time_limit: seconds.
        should_stop: asked before every linear program.
        improved: called when the block's partition became better.
        note: told why the matching's multipliers are not to be had, if so; the faces have to do then.
    """

    def report(bound: float, partition: NDArray[np.uint8]) -> None:
        if part.offer_partition(partition):
            improved()

    until = time.monotonic() + time_limit

    def stop() -> bool:
        return should_stop() or time.monotonic() >= until

    graph, faces = part.block.graph, part.faces
    first = None if faces is None else _first_rows(part, graph, faces, stop, note)
    found = branch_and_cut(
        graph,
        partition=part.partition,
        start_rows=first,
        time_limit=max(0.0, until - time.monotonic()),
        max_nodes=None if math.isfinite(time_limit) else MOST_NODES,
        should_stop=should_stop,
        report=report,
        seed=seed,
    )
    part.offer_bound(found.bound, lambda: found.proof)
    report(found.bound.value, found.partition)


def _first_rows(
    part: Part,
    graph: Graph,
    faces: CycleFamily,
    should_stop: Callable[[], bool],
    note: Callable[[str], None],
) -> Rows | CycleRows:
    """What a linear program starts from: the T-cuts of the matching with their multipliers, or the frustrated faces."""
    if part.bound.kind == "matching" and graph.n_edges > DUAL_EDGES:
        try:
            dual = matching_dual(graph, faces, should_stop=should_stop)
        except (RuntimeError, OSError) as error:
            note(f"no dual of the matching: {error}")
            dual = None
        if dual is not None:
            return dual.rows
    return Rows.frustrated(faces, graph.edges()[2])


def _dual_or_packing(graph: Graph, family: CycleFamily) -> Proof:
    until = time.monotonic() + DUAL_SECONDS
    dual = matching_dual(graph, family, should_stop=lambda: time.monotonic() >= until)
    return packing_rows(graph, family) if dual is None else dual.rows
