"""The process that `sdp.maxcut.matching` starts: `main` reads a problem and writes an answer.

The answer is int64 (1 + k,): twice a lower bound on the cost of a T-join, then a T-join of the k edges, of 0 and 1. It
appears when the first T-join is found and is replaced by each whose cut is better.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from sdp.maxcut import _cycle_family
from sdp.maxcut._patches import patches
from sdp.maxcut._process import end_with_the_parent, write

LARGEST_COST = 2**23  # pymatching computes with integers below 2^24
PATCH = 2500  # cycles of a patch in which a cut is bettered
PASSES = 4  # over other patches each, in vain, before a cut is let be
IN_VAIN = 10  # T-joins tried on end without a better cut


def main(problem: str, answer: str) -> None:
    """Tries least T-joins until one is a cut, or as many as the problem asks for."""
    end_with_the_parent(problem)
    with np.load(problem) as given:
        search = Search(**dict(given), answer=answer)
    search.as_a_whole()


@dataclass
class Search:
    """A problem, and the best cut found.

    Attributes:
        indices, indptr: of the incidence matrix, cycles x edges, by columns.
        costs: float64 (k,), integers, of each edge that lies on a cycle.
        odd: bool (cycles,), the frustrated ones.
        u, v: int32 (m,), vertices of all edges of the graph.
        weights: float64 (m,).
        listed: int64 (k,), numbers of the edges that lie on cycles.
        order: int64 (m,), edges by who has the say.
        n_vertices: of the graph.
        count: of T-joins tried.
        seed: of the choice among least T-joins.
        answer: name of the file.
    """

    indices: NDArray[np.int32]
    indptr: NDArray[np.int32]
    costs: NDArray[np.float64]
    odd: NDArray[np.bool_]
    u: NDArray[np.int32]
    v: NDArray[np.int32]
    weights: NDArray[np.float64]
    listed: NDArray[np.int64]
    order: NDArray[np.int64]
    n_vertices: int
    count: int
    seed: int
    answer: str

    def __post_init__(self) -> None:
        self.n_vertices, self.count = int(self.n_vertices), int(self.count)
        self.rng = np.random.Generator(np.random.Philox(key=int(self.seed)))
        ones = np.ones(self.indices.size, np.uint8)
        self.incidence = scipy.sparse.csc_matrix(
            (ones, self.indices, self.indptr), shape=(self.odd.size, self.costs.size)
        )
        self.faces = np.full((self.costs.size, 2), self.odd.size, np.int64)
        self.faces[:, 0] = self.indices[self.indptr[:-1]]
        pairs = np.diff(self.indptr) == 2
        self.faces[pairs, 1] = self.indices[self.indptr[:-1][pairs] + 1]
        self.ends = np.stack([self.u, self.v], 1)[self.listed].astype(np.int64)
        self.best_value, self.best = -np.inf, np.zeros(self.costs.size, np.bool_)

    def as_a_whole(self) -> None:
        """A least T-join, then others of the same cost, and the cuts near them, until one is a cut."""
        join = least_join(self.incidence, self.costs, self.odd)
        self.twice = 2 * int(self.costs[join].sum())
        best, value = self._offer(join), self.best_value
        factor = LARGEST_COST // int(self.costs.max())
        # However the spread falls, the edges of a least join add up to less than one unit of cost.
        spread = factor // (int(join.sum()) + 1)
        in_vain = 0
        for _ in range(self.count - 1):
            self._better(best, 1)
            if self._is_least(self.best) or in_vain == IN_VAIN:
                return
            if spread > 1:
                costs = self.costs * (factor - 1) + self.rng.integers(0, spread, self.costs.size)
                join = least_join(self.incidence, costs, self.odd)
                if 2 * int(self.costs[join].sum()) != self.twice:
                    raise RuntimeError(
                        f"least T-joins of costs {self.costs[join].sum()} and {self.twice / 2}."
                    )
                best = self._offer(join)
            in_vain = in_vain + 1 if self.best_value <= value else 0
            value = self.best_value

    def _better(self, join: NDArray[np.bool_], many: int) -> None:
        """Betters the T-join of a cut within patches, new ones each time, until that does not help any more."""
        in_vain = 0
        while in_vain < PASSES and not self._is_least(join):
            centres = self.rng.integers(0, self.odd.size, many)
            _, inside = patches(self.faces, self.ends, centres, self.odd.size, self.n_vertices)
            rest = self.odd ^ (self.incidence @ (join & ~inside).astype(np.int64) % 2 == 1)
            after = join.copy()
            after[inside] = least_join(self.incidence[:, inside], self.costs[inside], rest)
            after = self._offer(after)
            in_vain = in_vain + 1 if self.costs[after].sum() >= self.costs[join].sum() else 0
            join = after

    def _offer(self, join: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The T-join of the cut read off an edge set; it is written down if its cut is the best."""
        crosses = _cycle_family.wanted(self.weights, self.listed, join)
        sides = _cycle_family.agreeing_sides(self.u, self.v, self.order, crosses, self.n_vertices)
        cut = sides[self.u] != sides[self.v]
        value = float(self.weights[cut].sum())
        own: NDArray[np.bool_] = (cut != (self.weights > 0))[self.listed]
        if value > self.best_value:
            self.best_value, self.best = value, own
            write(self.answer, np.concatenate([[self.twice], own.astype(np.int64)]))
        return own

    def _is_least(self, join: NDArray[np.bool_]) -> bool:
        return 2 * int(self.costs[join].sum()) <= self.twice


def least_join(
    incidence: scipy.sparse.csc_matrix[np.uint8], costs: NDArray[np.float64], odd: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """The columns of a set of least cost that covers the odd rows, and no others, an odd number of times."""
    import pymatching

    # Of parallel edges a least T-join uses the cheaper; using both changes nothing but the cost.
    matching = pymatching.Matching.from_check_matrix(
        incidence, weights=costs, merge_strategy="smallest-weight"
    )
    decoded, weight = matching.decode(odd.astype(np.uint8), return_weight=True)
    chosen: NDArray[np.bool_] = decoded.astype(np.bool_)
    if weight != costs[chosen].sum() or ((incidence @ chosen.astype(np.int64)) % 2 != odd).any():
        raise RuntimeError(f"the matching of weight {weight} does not add up.")
    return chosen
