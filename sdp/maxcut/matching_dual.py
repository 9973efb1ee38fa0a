"""The matching bound with its proof: T-cuts whose multipliers add up to the weight of a least T-join.

A least T-join in the dual graph of a family of cycles (see `sdp.maxcut.matching`) weighs as much as the best fractional
packing of T-cuts (Edmonds and Johnson 1973). A T-cut parts the family's cycles in two; its edges are the symmetric
difference of the cycles on one side, an Eulerian set with an odd number of positive edges, so it is a row of
`proof.CycleRows` with F its positive edges. While no edge is used beyond |w_e|, the bound of the rows is

    sum_{w > 0} w - (sum of the multipliers),

which is the matching bound, checked by one pass over the rows.

The packing comes from the dual of a least matching of the frustrated cycles, a laminar family of odd sets found by
`fusion_blossom` (Wu and Zhong 2023) in a process of its own: another code than the one that finds the T-join, and
another route to the same number. Each set is then cut into moats.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
from numpy.typing import NDArray

from sdp.maxcut import _moats, _process
from sdp.maxcut._patches import patches
from sdp.maxcut.bound import Bound
from sdp.maxcut.cycles import CycleFamily
from sdp.maxcut.graph import Graph
from sdp.maxcut.matching import grid_of
from sdp.maxcut.proof import CycleRows
from sdp.maxcut.rows import bound_of

Int64 = NDArray[np.int64]

MOST_ODD = 30_000  # frustrated cycles of a closed surface whose dual is found at once; beyond, by patches
MOST_ODD_OPEN = (
    100_000  # the same where edges lie on one cycle only: searches that get there end (51,000 take 6 s)
)
PATCH = 2500  # cycles of a patch
PASSES = 6  # over other patches each: the last ones gain three parts in ten thousand each


@dataclass(frozen=True, eq=False)
class MatchingDual:
    """What proves the matching bound.

    Attributes:
        rows: T-cuts with multipliers; halves of integers where the weights are integers below 2^23 and there are no
            patches.
        least: sum of the multipliers, in units of the weights: the weight of a least T-join on the grid of weights, or
            less where the dual comes from patches.
        bound: of the rows, deterministic.
    """

    rows: CycleRows
    least: float
    bound: Bound


def matching_dual(
    graph: Graph,
    family: CycleFamily,
    *,
    seed: int = 0,
    should_stop: Callable[[], bool] = lambda: False,
) -> MatchingDual | None:
    """T-cuts and multipliers that prove the matching bound of a family of cycles.

    Weights are rounded down to the grid of `matching.match`, so that both find the same number.

    Args:
        graph: with weights of either sign.
        family: of that graph, no edge in more than two cycles.
        seed: of the patches.
        should_stop: asked every few milliseconds while the matching runs; True ends the search.

    Returns:
        The proof, or None if it was given up.

    Raises:
        RuntimeError, OSError: the process that matches could not be started or failed, or what it found is no packing
            of T-cuts.

    Where more than `MOST_ODD` cycles are frustrated, the dual comes from patches: T-cuts within discs of some 2,500
    cycles are packed anew, the others left alone, six times over with other patches. On a 300 x 300 toroidal grid of
    +-1 the multipliers then add up to 0.13% less than the least T-join weighs; the bound is 0.05% above the matching's.

    Complexity: that of the matching, which grows faster than the number of cycles, and O(members of the rows).
    """
    u, v, weights = graph.edges()
    faces, edges = dual_graph(family)
    grid = grid_of(weights[edges])
    costs = np.floor(np.abs(weights[edges]) / grid).astype(np.int64)
    odd = family.frustrated(weights)
    packing = _Packing(np.zeros(1, np.int64), np.empty(0, np.int64), np.empty(0, np.int64))
    passes = 0
    label = np.zeros(family.n_cycles, np.int64)
    vertices = np.stack([u, v], 1)[edges].astype(np.int64)
    closed = (faces < family.n_cycles).all()
    many = int(
        odd.sum() > (MOST_ODD if closed else MOST_ODD_OPEN)
    )  # and one halving more, that of edges of odd weight
    rng = np.random.Generator(np.random.Philox(key=seed))
    while passes < (PASSES if many else 1):
        if many:
            centres = rng.integers(0, family.n_cycles, family.n_cycles // PATCH + 1)
            label, _ = patches(faces, vertices, centres, family.n_cycles, graph.n_vertices)
        # Duals of matchings are halves, and so is what is left of an edge between patches: the unit is halved.
        found = _pass(faces, costs << (passes + many), odd, label, packing, should_stop)
        if found is None:
            break
        packing, passes = found, passes + 1
    if passes == 0:
        return None
    members, unit = edges[packing.cuts], grid / 2 ** (passes + many)
    multipliers = (packing.steps * unit).astype(np.float64)
    rows = CycleRows(packing.pointers, members, weights[members] > 0, multipliers)
    return MatchingDual(
        rows, float(packing.steps.sum()) * unit, Bound(bound_of(graph, rows), "matching", 0.0)
    )


@dataclass(frozen=True, eq=False)
class _Packing:
    """T-cuts: pointers int64 (r + 1,), places in the list of the family's edges, and multipliers int64 (r,)."""

    pointers: Int64
    cuts: Int64
    steps: Int64

    @property
    def row(self) -> Int64:
        return np.repeat(np.arange(self.steps.size), np.diff(self.pointers))

    def only(self, kept: NDArray[np.bool_]) -> _Packing:
        pointers = np.concatenate(([0], np.cumsum(np.diff(self.pointers)[kept]))).astype(np.int64)
        return _Packing(pointers, self.cuts[kept[self.row]], self.steps[kept])

    def and_also(self, other: _Packing) -> _Packing:
        pointers = np.concatenate((self.pointers, self.pointers[-1] + other.pointers[1:]))
        return _Packing(pointers, np.append(self.cuts, other.cuts), np.append(self.steps, other.steps))

    def use(self, n_edges: int) -> Int64:
        used = np.zeros(n_edges, np.int64)
        np.add.at(used, self.cuts, self.steps[self.row])
        return used


def _pass(
    faces: Int64,
    costs: Int64,
    odd: NDArray[np.bool_],
    label: Int64,
    before: _Packing,
    should_stop: Callable[[], bool],
) -> _Packing | None:
    """The best packing of T-cuts within patches that leaves alone those of `before` that lie in no patch; or None.

    Of an edge between patches each may use what its T-cuts in `before` did and half of the rest, so that the sum of the
    multipliers does not fall. `costs` are in the unit of `before`; the answer's unit is half of that.
    """
    labels = np.append(label, -1)[faces]
    home = _home(labels, before)
    kept = before.only(home < 0)
    own = np.zeros((len(faces), 2), np.int64)
    place, each = before.cuts, before.steps[before.row]
    for side in (0, 1):
        mine = (home[before.row] >= 0) & (labels[place, side] == home[before.row])
        np.add.at(own[:, side], place[mine], each[mine])
    rest = costs - kept.use(len(faces))
    between = (labels[:, 0] != labels[:, 1]) & (labels[:, 1] >= 0)
    spare = rest - own.sum(1)
    halves = np.stack([own[:, 0] + (spare + 1) // 2, own[:, 1] + spare // 2], 1)[between]
    outside = odd.size
    crossing = faces[between]
    ends = np.concatenate(
        [
            faces[~between],
            *(np.stack([crossing[:, side], np.full(len(crossing), outside)], 1) for side in (0, 1)),
        ]
    )
    lengths = 2 * np.concatenate([rest[~between], halves[:, 0], halves[:, 1]])
    whose = np.concatenate([np.flatnonzero(~between), np.flatnonzero(between), np.flatnonzero(between)])
    found = _least_dual(ends, lengths, odd, label, should_stop)
    if found is None:
        return None
    new = _Packing(found.pointers, whose[found.cuts], found.steps)
    whole = _Packing(kept.pointers, kept.cuts, 2 * kept.steps).and_also(new)
    if (whole.use(len(faces)) > 2 * costs).any():
        raise RuntimeError("the matching's dual uses an edge beyond its weight.")
    return whole


def _home(labels: Int64, packing: _Packing) -> Int64:
    """The patch that each T-cut lies in, with no edge that does not touch it, int64 (r,); -1 for none."""
    home = np.full(packing.steps.size, -1, np.int64)
    if home.size:
        first = labels[packing.cuts[packing.pointers[:-1]]]
        for side in (0, 1):
            here = first[:, side]
            touches = (labels[packing.cuts] == here[packing.row][:, None]).any(1)
            inside = np.logical_and.reduceat(touches, packing.pointers[:-1]) & (here >= 0)
            home = np.where((home < 0) & inside, here, home)
    return home


def _least_dual(
    ends: Int64, lengths: Int64, odd: NDArray[np.bool_], label: Int64, should_stop: Callable[[], bool]
) -> _Packing | None:
    """The best packing of T-cuts for even lengths, int64 (k,); its cuts are places in `ends`, int64 (k, 2)."""
    node, n = _contraction(ends, odd.size + 1, lengths == 0)
    parity = np.zeros(n, np.int64)
    np.add.at(parity, node[:-1], odd)
    parity[node[-1]] = 0  # the outside is never odd
    frustrated = np.flatnonzero(parity % 2)
    ends = node[ends]
    apart = np.flatnonzero(ends[:, 0] != ends[:, 1])
    ends, lengths = ends[apart], lengths[apart]
    sets = np.empty((3, 0), np.int64)
    if frustrated.size:
        piece = np.zeros(n, np.int64)
        piece[node[:-1]] = label
        found = _process.run(
            "sdp.maxcut._blossoms",
            {**_problem(ends, lengths, n, int(node[-1])), "odd": frustrated, "piece": piece},
            should_stop,
        )
        if found is None:
            return None
        sets = found
    pointers, cuts, steps = _moats.t_cuts(ends, lengths, n, *sets)
    _check(lengths, pointers, cuts, steps, int(sets[2].sum()))
    return _Packing(pointers, apart[cuts], steps)


def dual_graph(family: CycleFamily) -> tuple[Int64, Int64]:
    """Cycles int64 (k, 2) of the family's edges, in the order of their numbers, int64 (k,).

    The second cycle of an edge that lies on one only is `family.n_cycles`, the outside.
    """
    order = np.argsort(family.members, kind="stable")
    edges, first, count = np.unique(family.members[order], return_index=True, return_counts=True)
    cycle = np.append(family.cycle_of[order], family.n_cycles)
    second = np.where(count > 1, first + 1, cycle.size - 1)
    return np.stack([cycle[first], cycle[second]], 1), edges.astype(np.int64)


def _contraction(ends: Int64, n: int, free: NDArray[np.bool_]) -> tuple[Int64, int]:
    """Nodes joined by edges that cost nothing become one: new numbers, int64 (n,), and how many there are."""
    joined = scipy.sparse.coo_matrix((np.ones(int(free.sum()), np.int8), tuple(ends[free].T)), shape=(n, n))
    count, node = scipy.sparse.csgraph.connected_components(joined, directed=False)
    return node.astype(np.int64), int(count)


def _problem(ends: Int64, lengths: Int64, n: int, outside: int) -> dict[str, NDArray[np.int64]]:
    """The matching's graph: of parallel edges the shortest, and an outer node for each node next to the outside."""
    low, high = ends.min(1), ends.max(1)
    order = np.lexsort((lengths, high, low))
    low, high, lengths = low[order], high[order], lengths[order]
    shortest = np.ones(low.size, np.bool_)
    shortest[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    pairs, lengths = np.stack([low, high], 1)[shortest], lengths[shortest]
    # Blossoms that reach the same outer node would be in each other's way.
    outward = np.flatnonzero((pairs == outside).any(1))
    pairs[outward, 0] = pairs[outward].sum(1) - outside
    pairs[outward, 1] = n + np.arange(outward.size)
    return {"ends": pairs, "lengths": lengths}


def _check(lengths: Int64, pointers: Int64, cuts: Int64, steps: Int64, total: int) -> None:
    """Refuses what is no packing: the sets came from another program."""
    used = np.zeros(lengths.size, np.int64)
    np.add.at(used, cuts, np.repeat(steps, np.diff(pointers)))
    if (steps < 0).any() or int(steps.sum()) != total or (used > lengths).any():
        raise RuntimeError("the matching's dual does not add up to a packing of T-cuts.")
