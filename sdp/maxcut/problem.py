"""`Problem`: a graph as the solver wants it, and the way back.

Isolated vertices are left out: they cut nothing. The rest are coloured greedily by falling degree, so that
a colour class can be updated in parallel with the same result as one vertex after another, and numbered
by (class, reverse Cuthill-McKee rank): inside a class neighbours in the graph lie near one another in
memory. On a Delaunay triangulation of 2^19 points in random order that makes a sweep five times faster.

Weights are scaled by a power of two, so that the largest is between 1 and 2, and rounded to float32. What
rounding lost is kept, because a proved bound must pay for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from sdp.maxcut import _ordering
from sdp.maxcut._sums import exact_sum
from sdp.maxcut.graph import Graph
from sdp_kernels.graph import CSR

_FLOAT32_MOST = 2.0**127  # the largest power of two that float32 holds


@dataclass(frozen=True, eq=False)
class Problem:
    """A graph without isolated vertices, coloured, renumbered and scaled.

    `prepare` makes it on the CPU; `to` moves what the solver reads again and again to a device. Graph, order and
    colour classes stay: they steer, and are not computed with.

    Attributes:
        graph: where it comes from.
        csr: rows of the renumbered graph, weights scaled and rounded.
        class_ptr: int64 (n_classes + 1,), colour class c is the vertices class_ptr[c] to class_ptr[c + 1]; on the CPU.
        order: int64 (n,), problem vertex k is the graph's vertex order[k].
        scale: power of two; a problem weight is a graph weight times this.
        total_weight: sum of the rounded weights over edges, in problem units.
        absolute_weight: sum of their absolute values.
        lost_weight: sum of |rounded - exact| over edges, in problem units: no cut value differs by more.
        unit: median of the weights' absolute values, zeros left out: the scale of temperatures.
    """

    graph: Graph
    csr: CSR
    class_ptr: Tensor
    order: NDArray[np.int64]
    scale: float
    total_weight: float
    absolute_weight: float
    lost_weight: float
    unit: float

    def to(self, device: torch.device) -> Problem:
        """The same problem with its rows and degrees on a device; itself where they are there already."""
        if device == self.device:
            return self
        moved = replace(self, csr=CSR(*(tensor.to(device) for tensor in self.csr)))
        moved.__dict__["degrees"] = self.degrees.to(device)  # where `cached_property` keeps it
        return moved

    @property
    def device(self) -> torch.device:
        """Where the rows are."""
        return self.csr.indptr.device

    @property
    def n_vertices(self) -> int:
        """Number of vertices that have an edge."""
        return self.order.size

    @property
    def n_edges(self) -> int:
        """Number of edges."""
        return self.csr.indices.numel() // 2

    @property
    def is_exact(self) -> bool:
        """Whether float32 holds every gain exactly: integer weights of moderate size."""
        return self.lost_weight == 0 and self._finest_bits() <= 24

    def _finest_bits(self) -> float:
        """Bits between the largest field at a vertex and the unit in which all weights are whole."""
        if not self.graph.is_integer:
            return math.inf
        return math.log2(max(float(self.degrees.max()) / self.scale, 1.0))

    @cached_property
    def degrees(self) -> Tensor:
        """float64 (n,): sum of |w| over each vertex's edges, in problem units."""
        sums = np.empty(self.n_vertices)
        _ordering.absolute_sums(self.csr.indptr.numpy(), self.csr.weights.numpy(), sums)
        return torch.from_numpy(sums)

    def partition(self, signs: Tensor) -> NDArray[np.uint8]:
        """Sides of the graph's vertices, uint8 (n,) of 0 and 1, from signs int8 (n,) in problem order."""
        sides = np.zeros(self.graph.n_vertices, np.uint8)
        sides[self.order] = signs.cpu().numpy() > 0
        return sides

    def signs(self, partition: ArrayLike) -> Tensor:
        """Signs int8 (n,) in problem order from 0/1, boolean or -1/+1 sides of the graph's vertices."""
        positive = np.asarray(partition)[self.order] > 0
        return torch.from_numpy(np.where(positive, 1, -1).astype(np.int8)).to(self.device)

    def cut_value(self, signs: Tensor) -> float:
        """Cut value in the units of the graph's weights, exact where `Graph.cut_value` is."""
        return self.graph.cut_value(self.partition(signs))


def prepare(graph: Graph) -> Problem:
    """Colours, renumbers and scales a graph.

    Complexity: O(n log n + m log(degree)).
    """
    kept, indptr, indices = _without_isolated(graph)
    order, class_ptr = _order(indptr, indices)
    weights, scale, lost = _scaled(graph)
    magnitudes = np.abs(weights)
    return Problem(
        graph=graph,
        csr=_renumbered(indptr, indices, weights, order),
        class_ptr=torch.from_numpy(class_ptr),
        order=kept[order],
        scale=scale,
        total_weight=exact_sum(weights) / 2,
        absolute_weight=exact_sum(magnitudes) / 2,
        lost_weight=lost,
        unit=_median(magnitudes),
    )


def _without_isolated(graph: Graph) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """The vertices that have an edge, rising, and rows of the graph that they induce; read-only."""
    degrees = np.diff(graph.indptr)
    kept = np.flatnonzero(degrees)
    if kept.size == degrees.size:
        return kept, graph.indptr, graph.indices
    # A vertex before which k isolated ones were left out moves down by k.
    compact = np.cumsum(degrees > 0, dtype=np.int32) - np.int32(1)
    indptr = np.concatenate([[0], np.cumsum(degrees[kept])]).astype(np.int64)
    indices = compact[graph.indices]
    indptr.flags.writeable = indices.flags.writeable = False  # as a graph's: one type for the compiled loops
    return kept, indptr, indices


def _order(
    indptr: NDArray[np.int64], indices: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Vertices by (colour, reverse Cuthill-McKee rank), and where each colour begins."""
    n = indptr.size - 1
    degree = np.diff(indptr).astype(np.int32)
    near, order, colours = (np.empty(n, np.int32) for _ in range(3))
    _ordering.cuthill_mckee(indptr, indices, degree, np.argsort(degree), near)
    near = near[::-1].copy()
    largest = int(degree.max(initial=0))
    _ordering.sorted_by(largest - degree, largest + 1, near, order)
    n_classes = _ordering.greedy_colours(indptr, indices, order, colours)
    class_ptr = _ordering.sorted_by(colours, n_classes, near, order)
    return order, class_ptr


def _scaled(graph: Graph) -> tuple[NDArray[np.float32], float, float]:
    """Weights float32 (2m,) times a power of two, that power, and the sum of |rounded - exact| over the edges."""
    if graph.exact_weights is None:
        magnitudes = np.abs(graph.weights)
        largest = float(magnitudes.max(initial=0.0))
        scale = _power(largest)
        least = float(magnitudes.min(initial=np.inf)) or float(magnitudes[magnitudes > 0].min(initial=np.inf))
        if scale <= _FLOAT32_MOST and least * scale >= np.finfo(np.float32).smallest_normal:
            return graph.weights * np.float32(scale), scale, 0.0
    exact = graph.weights64
    scale = _power(float(np.abs(exact).max(initial=0.0)))
    weights = (exact * scale).astype(np.float32)
    return weights, scale, float(np.abs(weights.astype(np.float64) - exact * scale).sum()) / 2


def _power(largest: float) -> float:
    """The power of two that brings this number between 1 and 2, if 2^1023 does; 1 for 0."""
    return 2.0 ** min(-math.floor(math.log2(largest)), 1023) if largest > 0 else 1.0


def _median(magnitudes: NDArray[np.float32]) -> float:
    """Of the numbers that are not 0; 1 if there are none."""
    least, largest = float(magnitudes.min(initial=np.inf)), float(magnitudes.max(initial=0.0))
    if largest == 0.0:
        return 1.0
    if least == largest:
        return largest
    return float(np.median(magnitudes if least else magnitudes[magnitudes != 0]))


def _renumbered(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    weights: NDArray[np.float32],
    order: NDArray[np.int32],
) -> CSR:
    """Rows of the graph whose vertex k is vertex order[k] here, in arrays of numpy's, which asks for huge pages."""
    new_indptr, new_indices, new_weights = map(np.empty_like, (indptr, indices, weights))
    pairs = np.empty(indices.size, np.int64)
    _ordering.renumber(indptr, indices, weights.view(np.int32), order, new_indptr, pairs)
    _ordering.split(pairs, new_indices, new_weights.view(np.int32))
    return CSR(*map(torch.from_numpy, (new_indptr, new_indices, new_weights)))
