"""A listing: edges as a source gives them, before they become the rows of a `Graph`.

Sources differ in what a line or an entry means. An edge list gives each edge once; a matrix gives both
triangles or one of them; many edge lists give both directions of every edge. `Listing.reading` says which,
and `symmetric_rows` turns any of them into one symmetric matrix without diagonal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sdp.maxcut import _rows

MAX_VERTICES = 2**31 - 1  # vertices are int32
MAX_EDGES = 2**31 - 1  # entries of a listing are numbered by int32
MAX_ISOLATED = 2**24  # vertices that nothing in the listing can reach; 8 bytes each, 134 MB in all
MAX_WEIGHT = 1e37  # sums over the rows of float32 copies stay far from 3.4e38
ABSENT = "absent"  # what an error says of an entry that is not there

Reading = Literal["edges", "edges or both directions", "matrix", "both directions"]


@dataclass(frozen=True)
class Listing:
    """Edges of a graph as a source lists them: in any order, with loops and repetitions.

    Attributes:
        u: int64 (m,), first vertex of each entry, in [0, n_vertices).
        v: int64 (m,), second vertex.
        w: float64 (m,) finite weights, or None when all are 1.
        n_vertices: number of vertices.
        reading: "edges": every entry is an edge, repeated ones add up. "edges or both directions": the same,
            unless every edge is given in both directions with equal weights; it then counts once. "matrix":
            entries of a matrix that must be symmetric or a triangle. "both directions": every edge must be
            given in both directions with equal weights.
        labels: int64 (n_vertices,), names of the vertices in the source, rising, or None when they are the
            numbers of the vertices.
        notes: what the source left out, in words.
    """

    u: NDArray[np.int64]
    v: NDArray[np.int64]
    w: NDArray[np.float64] | None
    n_vertices: int
    reading: Reading
    labels: NDArray[np.int64] | None = None
    notes: tuple[str, ...] = ()


class Rows(NamedTuple):
    """A symmetric matrix without diagonal: indptr int64 (n + 1,), indices int32, weights float64 (2m,)."""

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    weights: NDArray[np.float64]
    notes: tuple[str, ...]


class AsymmetricError(ValueError):
    """Entry (row, col) of a listing that must be symmetric differs from entry (col, row)."""

    def __init__(self, row: int, col: int, weight: float | None, mirror: float | None) -> None:
        def value(w: float | None) -> str:
            return ABSENT if w is None else f"{w:g}" if float(f"{w:g}") == w else repr(w)

        self.row, self.col = row, col
        self.weight, self.mirror = value(weight), value(mirror)
        super().__init__(
            f"the matrix must be symmetric or a triangle; entry ({row}, {col}) is {self.weight} "
            f"but entry ({col}, {row}) is {self.mirror}."
        )


class TooLargeError(ValueError):
    """A graph passes a limit of this package."""


def check_size(n_vertices: int, n_entries: int) -> None:
    """Refuses, before anything is allocated, what the arrays of a `Graph` cannot hold.

    Args:
        n_vertices: number of vertices.
        n_entries: number of edges, or of entries of a listing.

    Raises:
        TooLargeError: there are more than `MAX_VERTICES` vertices or `MAX_EDGES` edges, or more than
            `MAX_ISOLATED` vertices beyond the 2 n_entries that edges can reach.
    """
    if n_vertices > MAX_VERTICES:
        raise TooLargeError(f"a graph has at most {MAX_VERTICES} vertices; got {n_vertices}.")
    if n_entries > MAX_EDGES:
        raise TooLargeError(f"a graph has at most {MAX_EDGES} edges; got {n_entries}.")
    if n_vertices - 2 * n_entries > MAX_ISOLATED:
        raise TooLargeError(
            f"a graph has at most {MAX_ISOLATED} vertices without an edge; "
            f"got {n_vertices} vertices with {n_entries} {'edge' if n_entries == 1 else 'edges'}."
        )


def symmetric_rows(listing: Listing) -> Rows:
    """The adjacency matrix of a listing, and notes on what was dropped or summed.

    Edges of weight 0 are kept: a grid stays whole. Loops are dropped: they are never cut.

    Raises:
        TooLargeError: as `check_size`, or repeated edges add up to more than `MAX_WEIGHT`.
        ValueError: a vertex is out of range, or the arrays have different lengths.
        AsymmetricError: the listing contradicts its `reading`.

    Complexity: O(n + m); a listing of both triangles costs three sorts in place of one.
    """
    u, v, n = listing.u, listing.v, listing.n_vertices
    w = np.ones(u.size) if listing.w is None else listing.w
    check_size(n, u.size)
    _check_ranges(listing)
    notes = list(listing.notes)
    proper = u != v
    n_loops = u.size - int(np.count_nonzero(proper))
    if n_loops:
        notes.append(f"{_count(n_loops, 'self-loop')} dropped")
        u, v, w = u[proper], v[proper], w[proper]
    del proper

    rows = None
    if listing.reading != "edges" and u.size:
        rows, n_repeated = _mirrored_rows(n, u, v, w, listing.reading)
        if rows is not None and listing.reading == "edges or both directions":
            notes.append("every edge is listed in both directions and counts once")
    if rows is None:
        rows = _rows.sorted_rows(n, u, v, w, True)
        n_repeated = u.size - rows[1].size // 2
    if n_repeated:
        notes.append(f"{_count(n_repeated, 'repeated listing')} of edges summed")
    weights = rows[2]
    if n_repeated and weights.size and not np.abs(weights).max() <= MAX_WEIGHT:
        raise TooLargeError(f"weights must lie within +-{MAX_WEIGHT:g}; repeated edges add up to more.")
    return Rows(*rows, tuple(notes))


def _check_ranges(listing: Listing) -> None:
    """Refuses what would send the kernels out of their arrays: other libraries need not check indices."""
    u, v, n = listing.u, listing.v, listing.n_vertices
    if u.size != v.size or (listing.w is not None and listing.w.size != u.size):
        raise ValueError(
            f"every entry needs a row, a column and a value; got {u.size} rows, {v.size} columns."
        )
    for ends in (u, v):
        if ends.size and not 0 <= int(ends.min()) <= int(ends.max()) < n:
            raise ValueError(f"vertices must lie in [0, {n}); got {ends.min()} to {ends.max()}.")


def _mirrored_rows(
    n: int, u: NDArray[np.int64], v: NDArray[np.int64], w: NDArray[np.float64], reading: Reading
) -> tuple[tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]] | None, int]:
    """Rows of a listing that holds both directions, or None when it is to be read as edges; repetitions."""
    upper = u < v
    is_triangle = bool(upper.all()) or not upper.any()
    if is_triangle and reading != "both directions":
        return None, 0
    there = _rows.sorted_rows(n, u, v, w, False)
    back = _rows.sorted_rows(n, v, u, w, False)
    row, col, n_lone, lone_row, lone_col = _rows.compare_rows(n, *there, *back)
    must_be_whole = reading != "matrix"
    if reading == "edges or both directions" and (row >= 0 or n_lone):
        return None, 0
    if must_be_whole and n_lone:
        row, col = lone_row, lone_col
    if row >= 0:
        raise AsymmetricError(row, col, _entry(there, row, col), _entry(back, row, col))
    n_repeated = u.size - there[1].size
    if not n_lone:
        return there, n_repeated
    # Only zeros stand alone here. Keep the edge with the weight of its upper entry: that, or 0.
    return _rows.sorted_rows(n, u, v, np.where(upper, w, 0.0), True), n_repeated


def _entry(
    rows: tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]], row: int, col: int
) -> float | None:
    """Value of one entry, or None when it is not stored."""
    begin, end = rows[0][row], rows[0][row + 1]
    at = begin + int(np.searchsorted(rows[1][begin:end], col))
    return float(rows[2][at]) if at < end and rows[1][at] == col else None


def _count(number: int, thing: str) -> str:
    """A number and its noun: 1 edge, 2 edges."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
