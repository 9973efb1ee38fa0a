"""`Graph`: an immutable weighted undirected graph, from files, arrays and other libraries' objects.

The adjacency matrix is stored as compressed rows, both directions of every edge, rows sorted by column.
Weights are float32, which is what the solver's inner loops read; where that rounds, `exact_weights` keeps
the float64 values, and everything a person is told (cut values, sums) comes from those.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdp.maxcut import _rows, convert
from sdp.maxcut.listing import Listing, symmetric_rows

if TYPE_CHECKING:
    import scipy.sparse

    from sdp_kernels.graph import CSR

EXACT_INTEGERS = 2.0**53  # float64 holds every integer up to here
_HASHED_AT_ONCE = 1 << 20  # entries


@dataclass(frozen=True, eq=False, repr=False)
class Graph:
    """A weighted undirected graph without self-loops; its arrays are read-only.

    Make one with `from_file`, `from_edges`, `from_scipy`, `from_networkx`, `from_igraph`, `from_torch` or
    `as_graph`; the constructor takes over arrays that are already in order, and checks only their shapes.

    Attributes:
        indptr: int64 (n + 1,), row i is entries indptr[i] to indptr[i + 1].
        indices: int32 (2m,), column of each entry, rising within a row.
        weights: float32 (2m,), weight of each entry.
        exact_weights: float64 (2m,), only where float32 rounded some weight, else None.
        labels: int64 (n,), names of the vertices in the source, rising, or None when the source numbers
            its vertices without gaps from the base of its format (0, or 1 in rudy, Matrix Market, METIS).
        name: what to call the graph, "" when nobody said.
        notes: what was dropped or summed when the graph was made, in words.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    weights: NDArray[np.float32]
    exact_weights: NDArray[np.float64] | None = None
    labels: NDArray[np.int64] | None = None
    name: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shapes = {
            "indptr": (np.int64, max(self.indptr.size, 1)),
            "indices": (np.int32, self.indices.size),
            "weights": (np.float32, self.indices.size),
            "exact_weights": (np.float64, self.indices.size),
            "labels": (np.int64, self.indptr.size - 1),
        }
        for field, (dtype, size) in shapes.items():
            array = getattr(self, field)
            if array is None:
                continue
            if array.dtype != dtype or array.shape != (size,):
                raise ValueError(
                    f"{field} must be {np.dtype(dtype)} ({size},); got {array.dtype} {array.shape}."
                )
            view = array.view()
            view.flags.writeable = False
            object.__setattr__(self, field, view)
        if self.indptr[0] != 0 or self.indptr[-1] != self.indices.size:
            raise ValueError(
                f"indptr must run from 0 to the {self.indices.size} entries of indices; "
                f"got {self.indptr[0]} to {self.indptr[-1]}."
            )

    def __reduce__(self) -> tuple[Any, ...]:
        fields = (self.indptr, self.indices, self.weights, self.exact_weights, self.labels)
        return Graph, (*fields, self.name, self.notes)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], format: str | None = None) -> Graph:
        """Reads a graph file; see `sdp.maxcut.io.read_graph`."""
        from sdp.maxcut.io import read_graph  # io builds graphs, so it imports this module

        return read_graph(path, format)

    @classmethod
    def from_edges(
        cls, u: ArrayLike, v: ArrayLike, w: ArrayLike | None = None, n_vertices: int | None = None
    ) -> Graph:
        """A graph from arrays of edges, each edge given once; repeated edges add up, loops are dropped.

        Args:
            u: (m,) integers, first vertex of each edge, from 0.
            v: (m,) integers, second vertex.
            w: (m,) finite real weights, |w| <= 1e37; None for all 1.
            n_vertices: number of vertices; None for one more than the largest named.

        Raises:
            ValueError: shapes differ, a vertex or a weight is out of range, or the graph is too large.
            TypeError: vertices are not integers, or weights are not real numbers.

        Complexity: O(n + m).

        >>> Graph.from_edges([0, 1, 2], [1, 2, 0]).cut_value([0, 1, 1])
        2.0
        """
        return cls._from_listing(convert.listing_of_edges(u, v, w, n_vertices))

    @classmethod
    def from_scipy(cls, matrix: Any) -> Graph:
        """A graph from its adjacency matrix, a scipy.sparse array or matrix; the diagonal is dropped.

        The matrix must be symmetric, or hold all its entries in one triangle. Stored zeros are edges.

        Raises:
            ValueError: it is not square, not symmetric (the first entry that differs is named), or an entry
                is not finite.
            TypeError: it is not sparse, or complex.
        """
        return cls._from_listing(convert.listing_of_scipy(matrix))

    @classmethod
    def from_networkx(cls, graph: Any, weight: str = "weight") -> Graph:
        """A graph from a networkx graph of any kind; edges without the attribute `weight` weigh 1.

        Vertices are the nodes in rising order when all nodes are integers (`labels` names them if they are
        not 0 to n - 1), and in the order of `graph.nodes` otherwise. Parallel edges add up. In a directed
        graph so do the two directions, unless every edge has its reverse with an equal weight.

        Raises:
            ValueError: a weight is not a finite number.
        """
        return cls._from_listing(convert.listing_of_networkx(graph, weight), str(graph.name or ""))

    @classmethod
    def from_igraph(cls, graph: Any, weight: str = "weight") -> Graph:
        """A graph from an igraph graph, vertices in its order; directed graphs as in `from_networkx`.

        Raises:
            ValueError: a weight is not a finite number.
        """
        return cls._from_listing(convert.listing_of_igraph(graph, weight))

    @classmethod
    def from_torch(cls, tensor: Any) -> Graph:
        """A graph from its adjacency matrix, a torch sparse tensor (COO, CSR or CSC) on any device.

        Raises:
            ValueError: as `from_scipy`.
            TypeError: it is dense, complex, or its entries are not numbers.
        """
        return cls._from_listing(convert.listing_of_torch(tensor))

    @classmethod
    def _from_listing(cls, listing: Listing, name: str = "") -> Graph:
        """Sorts a listing into rows; rounds weights to float32 and keeps them in float64 where that matters.

        Raises:
            ValueError: as `symmetric_rows`.
        """
        indptr, indices, exact, notes = symmetric_rows(listing)
        weights = exact.astype(np.float32)
        is_exact = np.array_equal(weights, exact)
        return cls(indptr, indices, weights, None if is_exact else exact, listing.labels, name, notes)

    @property
    def n_vertices(self) -> int:
        """Number of vertices, those without an edge included."""
        return self.indptr.size - 1

    @property
    def n_edges(self) -> int:
        """Number of edges, those of weight 0 included."""
        return self.indices.size // 2

    @property
    def weights64(self) -> NDArray[np.float64]:
        """float64 (2m,): the exact weights. A new array at each access when float32 was exact."""
        if self.exact_weights is not None:
            return self.exact_weights
        return self.weights.astype(np.float64)

    @property
    def total_weight(self) -> float:
        """Sum of w over the edges, in float64; exact for integers whose |w| add up to less than 2^53."""
        return self._sums[0]

    @property
    def absolute_weight(self) -> float:
        """Sum of |w| over the edges, in float64."""
        return self._sums[1]

    @cached_property
    def is_integer(self) -> bool:
        """Whether all weights are integers and every sum of them is exact in float64."""
        finest = self._finest_weights
        return self.absolute_weight < EXACT_INTEGERS and bool(np.array_equal(finest, np.rint(finest)))

    def edges(self) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
        """Every edge once: u int32 (m,), v int32 (m,), w float64 (m,), with u < v, sorted by (u, v)."""
        u = np.repeat(np.arange(self.n_vertices, dtype=np.int32), np.diff(self.indptr))
        upper = u < self.indices
        return u[upper], self.indices[upper], self._finest_weights[upper].astype(np.float64)

    def cut_value(self, partition: ArrayLike) -> float:
        """Sum of w over the edges whose ends lie on different sides, in units of edge weight, in float64.

        Args:
            partition: (n,) of 0 and 1, of booleans, or of -1 and +1.

        Raises:
            ValueError: the shape is not (n,), or some entry is none of these.

        Complexity: O(n + m).
        """
        sides = np.asarray(partition)
        if sides.shape != (self.n_vertices,):
            raise ValueError(f"partition must have shape ({self.n_vertices},); got {sides.shape}.")
        side = sides > 0
        if sides.dtype != np.bool_ and sides.size:
            low = -1 if (sides < 0).any() else 0
            stranger = np.flatnonzero((sides != low) & (sides != 1))
            if stranger.size:
                raise ValueError(
                    "partition must hold 0 and 1, or -1 and +1; "
                    f"entry {stranger[0]} is {sides[stranger[0]]} and the least is {sides.min()}."
                )
        return float(_rows.cut_sum(self.indptr, self.indices, self._finest_weights, side))

    def to_scipy(self) -> scipy.sparse.csr_array[np.float64]:
        """The adjacency matrix as scipy.sparse.csr_array, float64, a copy of the graph's arrays."""
        import scipy.sparse

        n = self.n_vertices
        parts = (np.array(self.weights64), np.array(self.indices), np.array(self.indptr))
        return scipy.sparse.csr_array(parts, shape=(n, n))

    def to_csr(self) -> CSR:
        """The adjacency matrix as torch CPU tensors for `sdp_kernels`, a copy of the graph's arrays."""
        import torch

        from sdp_kernels.graph import CSR

        arrays = (self.indptr, self.indices, self.weights)
        return CSR(*(torch.from_numpy(np.array(array)) for array in arrays))

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the number of vertices and the exact rows; name, labels and notes do not count."""
        return self._fingerprint

    def __repr__(self) -> str:
        named = f" {self.name!r}" if self.name else ""
        sizes = (
            f"{_counted(self.n_vertices, 'vertex', 'vertices')}, {_counted(self.n_edges, 'edge', 'edges')}"
        )
        if self.n_edges:
            low, high = float(self._finest_weights.min()), float(self._finest_weights.max())
            sizes += f", every weight {low:g}" if low == high else f", weights from {low:g} to {high:g}"
        return f"<Graph{named}: {'; '.join((sizes, *self.notes))}>"

    @property
    def _finest_weights(self) -> NDArray[Any]:
        """The exact weights without a copy: float32 where that is exact."""
        return self.weights if self.exact_weights is None else self.exact_weights

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(f"{self.n_vertices} {self.indices.size}\n".encode())
        for array, dtype in ((self.indptr, "<i8"), (self.indices, "<i4"), (self._finest_weights, "<f8")):
            for begin in range(0, array.size, _HASHED_AT_ONCE):
                # Adding 0 turns -0.0 into 0.0, which is the same weight.
                part = array[begin : begin + _HASHED_AT_ONCE] + array.dtype.type(0)
                digest.update(part.astype(dtype).data)
        return digest.hexdigest()

    @cached_property
    def _sums(self) -> tuple[float, float]:
        total, absolute = _rows.edge_sums(self.indptr, self.indices, self._finest_weights)
        return float(total), float(absolute)


def as_graph(source: Any) -> Graph:
    """A `Graph` from whatever holds one.

    Args:
        source: a Graph (returned as it is), the path of a file, a scipy.sparse matrix, a networkx or igraph
            graph, a torch sparse tensor, or a tuple (u, v) or (u, v, w) of arrays of edges.

    Raises:
        TypeError: it is none of these.
        ValueError: what is in it is no graph; the sentence says what.
        OSError: the file cannot be read.
    """
    if isinstance(source, Graph):
        return source
    if isinstance(source, (str, os.PathLike)):
        return Graph.from_file(source)
    if isinstance(source, tuple) and len(source) in (2, 3):
        return Graph.from_edges(*source)
    makers: dict[str, Callable[[Any], Graph]] = {
        "scipy": Graph.from_scipy,
        "networkx": Graph.from_networkx,
        "igraph": Graph.from_igraph,
        "torch": Graph.from_torch,
    }
    for library, make in makers.items():
        if convert.is_from(source, library):
            return make(source)
    raise TypeError(
        "a graph must be a Graph, a path, a scipy.sparse matrix, a networkx or igraph graph, a torch sparse "
        f"tensor or a tuple (u, v) or (u, v, w); got {type(source).__name__}."
    )


def _counted(number: int, one: str, many: str) -> str:
    """A number and its noun: 1 edge, 1,234 edges."""
    return f"{number:,} {one if number == 1 else many}"
