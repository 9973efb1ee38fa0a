"""The process that `sdp.maxcut.matching` starts: `main` reads a problem and writes an answer.

The answer appears when the first least T-join is found and is replaced by each whose cut is better. The process ends
when its standard input closes, that is, when whoever started it is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from sdp.maxcut._cycle_family import agreeing_sides, wanted
from sdp.maxcut._process import end_with_the_parent, write

LARGEST_COST = 2**23  # pymatching computes with integers below 2^24


def main(problem: str, answer: str) -> None:
    """Tries least T-joins until one is a cut, or as many as the problem asks for."""
    end_with_the_parent(problem)
    with np.load(problem) as given:
        parts = dict(given)
    costs, odd = parts["costs"], parts["odd"]
    ones = np.ones(parts["indices"].size, np.uint8)
    incidence = scipy.sparse.csc_matrix(
        (ones, parts["indices"], parts["indptr"]), shape=(odd.size, costs.size)
    )
    join = least_join(incidence, costs, odd)
    cost, least = costs[join].sum(), disagreement(parts, join)
    write(answer, join)
    factor = LARGEST_COST // int(costs.max())
    # However the spread falls, the edges of a least join add up to less than one unit of cost.
    spread = factor // (int(join.sum()) + 1)
    rng = np.random.Generator(np.random.Philox(key=int(parts["seed"])))
    for _ in range(int(parts["count"]) - 1 if spread > 1 else 0):
        if least == 0.0:
            break
        join = least_join(incidence, costs * (factor - 1) + rng.integers(0, spread, costs.size), odd)
        if costs[join].sum() != cost:
            raise RuntimeError(f"a least T-join of cost {costs[join].sum()} beside one of {cost}.")
        found = disagreement(parts, join)
        if found < least:
            least = found
            write(answer, join)


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


def disagreement(parts: Mapping[str, Any], join: NDArray[np.bool_]) -> float:
    """Weight of the edges on which the cut read off a T-join does not do what the T-join asks."""
    crosses = wanted(parts["weights"], parts["listed"], join)
    u, v = parts["u"], parts["v"]
    sides = agreeing_sides(u, v, parts["order"], crosses, int(parts["n_vertices"]))
    return float(np.abs(parts["weights"])[(sides[u] != sides[v]) != crosses].sum())
