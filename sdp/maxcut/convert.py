"""Listings of edges from arrays and from other libraries' objects.

No library is imported here that the caller did not bring: an object's class says where it comes from.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdp.maxcut.listing import MAX_WEIGHT, Listing, Reading, check_size


def is_from(thing: object, library: str) -> bool:
    """Whether a thing's class, or one that it inherits from, is defined in this library."""
    return any(kind.__module__.partition(".")[0] == library for kind in type(thing).__mro__)


def listing_of_edges(
    u: ArrayLike, v: ArrayLike, w: ArrayLike | None = None, n_vertices: int | None = None
) -> Listing:
    """Arrays of edges, each edge once; see `Graph.from_edges`."""
    heads, tails = _vertices("u", u), _vertices("v", v)
    if heads.size != tails.size:
        raise ValueError(f"u has {heads.size} entries but v has {tails.size}; an edge needs both.")
    weights = None if w is None else _weights(w)
    if weights is not None and weights.size != heads.size:
        raise ValueError(f"w has {weights.size} entries but u and v have {heads.size}.")
    largest = max((int(ends.max()) for ends in (heads, tails) if ends.size), default=-1)
    if n_vertices is None:
        n_vertices = largest + 1
    else:
        n_vertices = operator.index(n_vertices)
        if n_vertices <= largest:
            raise ValueError(f"n_vertices must exceed every vertex; got {n_vertices} and vertex {largest}.")
        if n_vertices < 0:
            raise ValueError(f"n_vertices must not be negative; got {n_vertices}.")
    check_size(n_vertices, heads.size)
    return Listing(heads, tails, weights, n_vertices, "edges")


def listing_of_scipy(matrix: Any) -> Listing:
    """Entries of a scipy.sparse matrix; see `Graph.from_scipy`."""
    import scipy.sparse

    is_sparse: bool = scipy.sparse.issparse(matrix)
    if not is_sparse:
        raise TypeError(f"matrix must be a scipy.sparse matrix; got {type(matrix).__name__}.")
    n = _square(matrix.shape)
    check_size(n, matrix.nnz)
    entries = matrix.tocoo()  # repeated entries stay apart; they are summed later, and counted
    rows, cols = (ends.astype(np.int64) for ends in (entries.row, entries.col))
    return Listing(rows, cols, _weights(entries.data), n, "matrix")


def listing_of_torch(tensor: Any) -> Listing:
    """Entries of a torch sparse tensor; see `Graph.from_torch`."""
    import torch

    if not isinstance(tensor, torch.Tensor) or tensor.layout == torch.strided:
        raise TypeError(f"tensor must be a torch sparse tensor; got a dense {type(tensor).__name__}.")
    n = _square(tuple(tensor.shape))
    tensor = tensor.detach().cpu()
    if tensor.layout in (torch.sparse_csr, torch.sparse_csc):
        by_row = tensor.layout == torch.sparse_csr
        starts = tensor.crow_indices() if by_row else tensor.ccol_indices()
        minor = (tensor.col_indices() if by_row else tensor.row_indices()).numpy().astype(np.int64)
        major = np.repeat(np.arange(n, dtype=np.int64), np.diff(starts.numpy()))
        rows, cols = (major, minor) if by_row else (minor, major)
        values = tensor.values()
    elif tensor.layout == torch.sparse_coo:
        tensor = tensor.coalesce()
        rows, cols = tensor.indices().numpy()
        values = tensor.values()
    else:
        raise TypeError(f"tensor must be sparse COO, CSR or CSC; got {tensor.layout}.")
    if values.dim() != 1:
        raise ValueError(f"entries must be numbers; got blocks of shape {tuple(values.shape[1:])}.")
    if values.is_complex():
        raise TypeError(f"weights must be real numbers; got {values.dtype}.")
    check_size(n, rows.size)
    return Listing(rows, cols, _weights(values.double().numpy()), n, "matrix")


def listing_of_networkx(graph: Any, weight: str = "weight") -> Listing:
    """Edges of a networkx graph of any kind; see `Graph.from_networkx`."""
    nodes = list(graph.nodes)
    labels = None
    notes: tuple[str, ...] = ()
    if all(isinstance(node, (int, np.integer)) and not isinstance(node, bool) for node in nodes):
        nodes.sort()
        if nodes != list(range(len(nodes))):
            labels = _int64("node", nodes)
    else:
        notes = ("vertices are in the order of graph.nodes",)
    number = {node: i for i, node in enumerate(nodes)}
    pairs = list(graph.edges(data=weight, default=1))
    ends = np.array([(number[a], number[b]) for a, b, _ in pairs], dtype=np.int64).reshape(-1, 2)
    weights = _weights([_number(w, f"edge ({a!r}, {b!r})") for a, b, w in pairs])
    reading = _reading(graph.is_directed())
    return Listing(ends[:, 0].copy(), ends[:, 1].copy(), weights, len(nodes), reading, labels, notes)


def listing_of_igraph(graph: Any, weight: str = "weight") -> Listing:
    """Edges of an igraph graph; see `Graph.from_igraph`."""
    ends = np.array(graph.get_edgelist(), dtype=np.int64).reshape(-1, 2)
    weights = None
    if weight in graph.es.attributes():
        weights = _weights([_number(w, f"edge {k}") for k, w in enumerate(graph.es[weight])])
    reading = _reading(graph.is_directed())
    return Listing(ends[:, 0].copy(), ends[:, 1].copy(), weights, graph.vcount(), reading)


def _reading(is_directed: bool) -> Reading:
    """How the edges of another library's graph are to be read."""
    return "edges or both directions" if is_directed else "edges"


def _square(shape: tuple[int, ...]) -> int:
    """Side of a square matrix."""
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(f"the matrix must be square; got shape {tuple(shape)}.")
    return int(shape[0])


def _vertices(name: str, numbers: ArrayLike) -> NDArray[np.int64]:
    """Numbers of vertices as int64 (m,), none negative."""
    array = np.asarray(numbers)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one dimension; got shape {array.shape}.")
    if array.size == 0:
        return np.zeros(0, np.int64)
    if array.dtype.kind not in "iu":
        # Integers beyond int64 come as objects or, from numpy, as uint64.
        if array.dtype == object and all(isinstance(x, int) for x in array):
            return _int64(f"vertex of {name}", array.tolist())
        raise TypeError(f"{name} must hold integers; got {array.dtype}.")
    low, high = array.min(), array.max()
    if low < 0:
        raise ValueError(f"vertices are integers from 0; entry {int(array.argmin())} of {name} is {low}.")
    if high > np.iinfo(np.int64).max:
        return _int64(f"vertex of {name}", array.tolist())
    return array.astype(np.int64)


def _int64(what: str, numbers: list[int]) -> NDArray[np.int64]:
    """Python integers as int64."""
    limits = np.iinfo(np.int64)
    for number in numbers:
        if not limits.min <= number <= limits.max:
            raise ValueError(f"a {what} must fit 64 bits; got {number}.")
    return np.array(numbers, dtype=np.int64)


def _weights(numbers: ArrayLike) -> NDArray[np.float64]:
    """Weights as float64 (m,), finite and within the limit."""
    array = np.asarray(numbers)
    if array.ndim != 1:
        raise ValueError(f"w must have one dimension; got shape {array.shape}.")
    if array.size == 0:
        return np.zeros(0)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"weights must be real numbers; got {array.dtype}.")
    weights = array.astype(np.float64)
    good = np.abs(weights) <= MAX_WEIGHT
    if not good.all():
        k = int(np.flatnonzero(~good)[0])
        limit = f"lie within +-{MAX_WEIGHT:g}" if np.isfinite(weights[k]) else "be finite"
        raise ValueError(f"weights must {limit}; entry {k} is {weights[k]:g}.")
    return weights


def _number(weight: Any, edge: str) -> float:
    """One weight as a float."""
    try:
        return float(weight)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"weights must be numbers; that of {edge} is {weight!r}.") from None
