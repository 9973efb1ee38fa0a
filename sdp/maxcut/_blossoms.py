"""The process that `sdp.maxcut.matching_dual` starts: a matching's dual by `fusion_blossom` (Wu and Zhong 2023).

Its answer is int64 (3, k): of each set of nested odd sets the parent or -1, the node of a set of one or -1, the dual.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdp.maxcut._process import end_with_the_parent, write


def main(problem: str, answer: str) -> None:
    """Solves the problem."""
    end_with_the_parent(problem)
    with np.load(problem) as given:
        parts = dict(given)
    write(answer, nested_sets(parts["ends"], parts["lengths"], parts["odd"], int(parts["n_inner"])))


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
