"""Which cycle inequalities a point violates.

For a cycle C and an odd F in C every cut x has sum_F x - sum_{C - F} x <= |F| - 1 (Barahona and Mahjoub 1986), that is,

    sum_F (1 - x) + sum_{C - F} x >= 1,

so a violated row is an odd cycle shorter than 1, where an edge may be taken at length x_e, or at length 1 - x_e as one
of F. `Separator.search` finds one whenever there is one. Rows come as simple cycles without chords: a chord splits a
cycle into two whose rows add up to its own, so rows of cycles with chords say nothing new.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from sdp.maxcut import _cycle_family, _separation
from sdp.maxcut.cycles import CycleFamily
from sdp.maxcut.graph import Graph
from sdp.maxcut.proof import CycleRows

WIDTH = 64  # edges of a cycle that the first pass has room for
MOST_ENTRIES = 1 << 24  # of the table of a pass for longer ones: 64 MB
CHUNKS_PER_THREAD = 4


@dataclass(frozen=True, eq=False)
class Rows:
    """Cycle inequalities, without multipliers.

    Attributes:
        pointers: int64 (r + 1,); row i is entries pointers[i] to pointers[i + 1] - 1 of the arrays below.
        members: int32 (k,), numbers of edges in the order of `Graph.edges`.
        in_F: bool (k,), whether a member belongs to F, of which each row has an odd number.
        hashes: uint64 (r,), equal for equal rows.
    """

    pointers: NDArray[np.int64]
    members: NDArray[np.int32]
    in_F: NDArray[np.bool_]  # noqa: N815 - F is the letter of the inequality
    hashes: NDArray[np.uint64]

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.pointers.size - 1

    @property
    def row_of(self) -> NDArray[np.int64]:
        """int64 (k,), the row of each entry."""
        return np.repeat(np.arange(self.n_rows), np.diff(self.pointers))

    @property
    def right_sides(self) -> NDArray[np.float64]:
        """|F| - 1 of each row, float64 (r,)."""
        return np.asarray(np.bincount(self.row_of[self.in_F], minlength=self.n_rows) - 1.0, np.float64)

    def violations(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """1 - length of each row at x float64 (m,): positive where the row is violated."""
        at = x[self.members]
        lengths = np.bincount(self.row_of, np.where(self.in_F, 1.0 - at, at), minlength=self.n_rows)
        return np.asarray(1.0 - lengths)

    def only(self, kept: NDArray[np.bool_]) -> Rows:
        """The rows of a mask, bool (r,)."""
        entries = np.repeat(kept, np.diff(self.pointers))
        pointers = _pointers(np.diff(self.pointers)[kept])
        return Rows(pointers, self.members[entries], self.in_F[entries], self.hashes[kept])

    def united(self, other: Rows) -> Rows:
        """These rows and those of the others that are not among them."""
        return self + other.only(~np.isin(other.hashes, self.hashes))

    def __add__(self, other: Rows) -> Rows:
        pointers = np.concatenate((self.pointers, self.pointers[-1] + other.pointers[1:]))
        return Rows(
            pointers,
            np.concatenate((self.members, other.members)),
            np.concatenate((self.in_F, other.in_F)),
            np.concatenate((self.hashes, other.hashes)),
        )

    @staticmethod
    def of(proof: CycleRows) -> Rows:
        """The rows of a proof, such as the dual of a matching, without its multipliers."""
        steps = (2 * proof.members + proof.in_F).astype(np.int32)
        hashes = _separation.row_hashes(proof.pointers, steps)
        return Rows(proof.pointers, proof.members.astype(np.int32), proof.in_F, hashes)

    @staticmethod
    def none() -> Rows:
        """No rows."""
        return Rows(
            np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.bool_), np.empty(0, np.uint64)
        )

    @staticmethod
    def frustrated(family: CycleFamily, weights: NDArray[np.float64]) -> Rows:
        """The rows that forbid to cut all positive edges of a cycle and no other, where there is an odd number of them.

        Args:
            family: cycles.
            weights: float64 (m,), of the edges.
        """
        odd = family.only(family.frustrated(weights))
        in_F = weights[odd.members] > 0
        steps = (2 * odd.members + in_F).astype(np.int32)
        return Rows(odd.pointers, odd.members, in_F, _separation.row_hashes(odd.pointers, steps))


class Separator:
    """Searches a graph for violated rows."""

    def __init__(self, graph: Graph) -> None:
        self._indptr, self._indices = graph.indptr, graph.indices
        self._edge = _cycle_family.half_edges(graph.indptr, graph.indices)[0]
        self._n_edges = graph.n_edges

    def search(
        self,
        x: NDArray[np.float64],
        *,
        least: float = 1e-6,
        most_settled: int | None = None,
        spread: int = 2,
        seed: int = 0,
    ) -> tuple[Rows, bool]:
        """Violated rows at a point, no two the same, most violated first.

        Args:
            x: float64 (m,), in [0, 1].
            least: violation of a row, at least.
            most_settled: vertices that the search from one vertex looks at, at most; None for all.
            spread: a row is kept while one of its edges is in fewer rows than this.
            seed: of the order of the vertices, on which depends which of the violated rows are found.

        Returns:
            The rows, and whether that they are none says that there is none: no search stopped at `most_settled`. The
            same whatever the number of threads.

        Complexity: O(n b log b) for b edges within length 1/2 of a vertex, which is all of them at worst.
        """
        n = self._indptr.size - 1
        most = n if most_settled is None else most_settled
        # A cycle takes two edges at each of its vertices.
        roots = np.flatnonzero(np.diff(self._indptr) > 1)
        rank = np.random.Generator(np.random.Philox(key=seed)).permutation(n)
        rows, too_long, width, cut_short = self._pass(x, roots, rank, least, most, spread, WIDTH)
        if too_long.size:
            # Some of them at least; the rest may come in the next round.
            too_long = too_long[: max(1, MOST_ENTRIES // width)]
            rows += self._pass(x, too_long, rank, least, most, spread, width)[0]
        return rows, rows.n_rows == 0 and cut_short == 0

    def _pass(
        self,
        x: NDArray[np.float64],
        roots: NDArray[np.int64],
        rank: NDArray[np.int64],
        least: float,
        most: int,
        spread: int,
        width: int,
    ) -> tuple[Rows, NDArray[np.int64], int, int]:
        """Rows of cycles up to a length, roots of longer ones, the longest, and searches that were cut short."""
        cycles = np.empty((roots.size, width), np.int32)
        sizes, lengths = np.zeros(roots.size, np.int64), np.ones(roots.size)
        hashes = np.zeros(roots.size, np.uint64)
        chunks = CHUNKS_PER_THREAD * numba.get_num_threads()
        cut_short = _separation.odd_cycles(
            self._indptr,
            self._indices,
            self._edge,
            x,
            roots,
            rank,
            least,
            most,
            chunks,
            cycles,
            sizes,
            lengths,
            hashes,
        )
        found = np.flatnonzero(sizes > 0)
        distinct = found[np.unique(hashes[found], return_index=True)[1]]
        order = distinct[np.lexsort((distinct, lengths[distinct]))]
        order = order[_separation.spread_out(cycles, sizes, order, spread, self._n_edges)]
        members = _separation.gathered(cycles, sizes, order)
        rows = Rows(_pointers(sizes[order]), members >> 1, (members & 1).astype(np.bool_), hashes[order])
        return rows, roots[sizes < 0], -int(sizes.min(initial=0)), int(cut_short)


def _pointers(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)))
