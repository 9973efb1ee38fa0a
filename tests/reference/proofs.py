"""What a tree of branches over cycle rows proves, in rational arithmetic, and whether its rows are rows at all."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from sdp.maxcut.graph import Graph
from sdp.maxcut.proof import Branch, CycleRows, Proof


def proved(graph: Graph, proof: Proof, fixed: dict[int, bool] | None = None) -> Fraction:
    """The bound of a tree, edge by edge, by the formula of `CycleRows`; fixed: edges that branches above decided."""
    fixed = fixed or {}
    if isinstance(proof, Branch):
        assert proof.edge not in fixed
        return max(
            proved(graph, proof.cut, {**fixed, proof.edge: True}),
            proved(graph, proof.uncut, {**fixed, proof.edge: False}),
        )
    assert isinstance(proof, CycleRows)
    left = [Fraction(w) for w in graph.edges()[2].tolist()]
    total = Fraction(0)
    for begin, end, number in zip(
        proof.pointers, proof.pointers[1:], proof.multipliers.tolist(), strict=False
    ):
        members, in_F = proof.members[begin:end].tolist(), proof.in_F[begin:end].tolist()
        check_row(graph, members, in_F)
        multiplier = Fraction(number)
        assert multiplier >= 0
        total += multiplier * (sum(in_F) - 1)
        for e, is_in in zip(members, in_F, strict=True):
            left[e] -= multiplier if is_in else -multiplier
    for e, weight in enumerate(left):
        if e not in fixed:
            total += max(weight, Fraction(0))
        elif fixed[e]:
            total += weight
    return total


def check_row(graph: Graph, members: list[int], in_F: list[bool]) -> None:
    """A row takes an even number of edges at every vertex, none twice, and an odd number of them belongs to F."""
    u, v, _ = graph.edges()
    assert len(set(members)) == len(members)
    assert sum(in_F) % 2 == 1
    ends = np.concatenate((u[members], v[members]))
    assert (np.bincount(ends) % 2 == 0).all()


def has_chord(graph: Graph, members: NDArray[np.int32]) -> bool:
    """Whether an edge that is not a member joins two vertices of a cycle."""
    u, v, _ = graph.edges()
    on = np.zeros(graph.n_vertices, np.bool_)
    on[u[members]] = on[v[members]] = True
    return int((on[u] & on[v]).sum()) > len(members)
