"""The process that `sdp.maxcut.matching_dual` starts: a matching's dual by `fusion_blossom` (Wu and Zhong 2023).

Its answer is int64 (3, k): of each set of nested odd sets the parent or -1, the node of a set of one or -1, the dual.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdp.maxcut._process import end_with_the_parent, write


def main(problem: str, answer: str) -> None:
    """Solves the problem, each piece by itself."""
    end_with_the_parent(problem)
    with np.load(problem) as given:
        parts = dict(given)
    write(answer, of_pieces(parts["ends"], parts["lengths"], parts["odd"], parts["piece"]))


def of_pieces(
    ends: NDArray[np.int64], lengths: NDArray[np.int64], odd: NDArray[np.int64], piece: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The sets of every piece.

    Args:
        ends: int64 (m, 2), no pair twice; the first node is an inner one.
        lengths: int64 (m,), even, > 0.
        odd: int64, the inner nodes to be matched.
        piece: int64 (n,) from 0, of the inner nodes; nodes from n on are outer ones, with one edge each.
    """
    n, many = piece.size, int(piece.max()) + 1
    nodes = np.append(np.argsort(piece, kind="stable"), n)
    number = np.empty(n, np.int64)
    begin = np.searchsorted(piece[nodes[:-1]], np.arange(many + 1))
    number[nodes[:-1]] = np.arange(n) - begin[piece[nodes[:-1]]]
    by_edge = np.argsort(piece[ends[:, 0]], kind="stable")
    first_edge = np.searchsorted(piece[ends[by_edge, 0]], np.arange(many + 1))
    by_odd = odd[np.argsort(piece[odd], kind="stable")]
    first_odd = np.searchsorted(piece[by_odd], np.arange(many + 1))
    found, count = [], 0
    for p in range(many):
        here = by_edge[first_edge[p] : first_edge[p + 1]]
        pairs, inner = ends[here], int(begin[p + 1] - begin[p])
        outer = pairs[:, 1] >= n
        low, high = number[pairs[:, 0]], np.empty(len(pairs), np.int64)
        high[~outer] = number[pairs[~outer, 1]]
        high[outer] = inner + np.arange(int(outer.sum()))
        wanted = by_odd[first_odd[p] : first_odd[p + 1]]
        if wanted.size == 0:
            continue
        sets = nested_sets(np.stack([low, high], 1), lengths[here], number[wanted], inner)
        sets[0] = np.where(sets[0] < 0, -1, sets[0] + count)
        sets[1] = np.where(sets[1] < 0, -1, nodes[begin[p] + sets[1]])
        found.append(sets)
        count += sets.shape[1]
    return np.concatenate(found, 1)


def nested_sets(
    ends: NDArray[np.int64], lengths: NDArray[np.int64], odd: NDArray[np.int64], n_inner: int
) -> NDArray[np.int64]:
    """Dual of the least matching of some nodes with one another or with outer nodes.

    Args:
        ends: int64 (m, 2), no pair twice.
        lengths: int64 (m,), even, > 0.
        odd: int64, the inner nodes to be matched.
        n_inner: nodes from here on are outer ones, which may be matched any number of times.
    """
    import fusion_blossom

    outer = range(n_inner, int(ends.max(initial=0)) + 1)
    edges = list(zip(*ends.T.tolist(), lengths.tolist(), strict=True))
    solver = fusion_blossom.SolverSerial(
        fusion_blossom.SolverInitializer(max(n_inner, outer.stop), edges, list(outer))
    )
    solver.solve(fusion_blossom.SyndromePattern(odd.tolist()))
    nodes: list[dict[str, Any] | None] = solver.snapshot(True)["dual_nodes"]
    found = np.array([_row(node, "p", "s", "d") for node in nodes], np.int64).reshape(len(nodes), 3)
    # Sets that were taken apart again leave gaps.
    there = found[:, 2] >= 0
    number = np.append(np.cumsum(there) - 1, -1)
    return np.stack([number[found[there, 0]], found[there, 1], found[there, 2]])


def _row(node: dict[str, Any] | None, *names: str) -> list[int]:
    if node is None:
        return [-1] * len(names)
    return [-1 if node[name] is None else node[name] for name in names]
