"""What proves an upper bound: trees of parts that add up, every one of which can be checked without the solver.

A proof speaks of one graph, with n vertices and the edges of `Graph.edges` (numbered in that order). Its kinds are

- `PositiveWeights`: the sum of the positive weights;
- `CycleRows`: rows of cycles and their multipliers (linear programs, packings and the duals of matchings);
- `Branch`: one edge cut or not, each with a proof of its own: the larger bound counts;
- `Spectral`: a dual vector of the semidefinite relaxation;
- `Table`: an exact dynamic program along an order of elimination;
- `Split`: parts that share no edge: their bounds add up;
- `Reduced`: exact reductions, then a proof of what is left.

`sdp.maxcut.certificate` writes one down and `sdp.maxcut.verify` checks it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdp.maxcut.reduce import Reduction


@dataclass(frozen=True)
class PositiveWeights:
    """maxcut <= sum_{w > 0} w; equality on bipartite graphs."""


@dataclass(frozen=True, eq=False)
class CycleRows:
    """Rows over the edges with multipliers lambda >= 0 (Barahona and Mahjoub 1986).

    A row is a set C of edges, an even number of them at every vertex, and an odd subset F: every cut x has
    sum_F x - sum_{C - F} x <= |F| - 1. With a_re = +1 in F, -1 in C - F, and edges that branches above have fixed,

        maxcut <= sum_r lambda_r (|F_r| - 1) + sum_{e free} max(0, w_e - (A^T lambda)_e)
                  + sum_{e fixed to cut} (w_e - (A^T lambda)_e).

    Attributes:
        pointers: int64 (r + 1,), row i is members[pointers[i]] to members[pointers[i + 1] - 1].
        members: int64 (k,), numbers of edges, in the order of `Graph.edges`; none twice in a row.
        in_F: bool (k,), whether a member belongs to F.
        multipliers: float64 (r,), finite, >= 0, in units of the graph's weights.
    """

    pointers: NDArray[np.int64]
    members: NDArray[np.int64]
    in_F: NDArray[np.bool_]  # noqa: N815 - F is the letter of the inequality
    multipliers: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Branch:
    """An edge is cut or it is not: maxcut <= max(bound of `cut`, bound of `uncut`).

    Each side is a proof of the same graph with that edge fixed. Fixings add up down the tree, whose leaves are
    `CycleRows`; a side that no cut satisfies has a row which fixed edges alone violate, with a large multiplier.

    Attributes:
        edge: its number, in the order of `Graph.edges`.
        cut: where the edge is cut.
        uncut: where it is not.
    """

    edge: int
    cut: Proof
    uncut: Proof


@dataclass(frozen=True, eq=False)
class Spectral:
    """A dual vector h of the semidefinite relaxation; see `sdp.maxcut.bound`.

        maxcut <= W/2 + (sum_i h_i + tau sum_i d_i) / 4      where      Diag(h + tau d) + A >= 0

    for any d > 0. tau comes from all eigenvalues (steps = 0) or from the block Chebyshev certificate, whose random
    block the checker draws from h.

    Attributes:
        h: float64 (n,), by vertex of the graph, in units of its weights.
        steps: of the recurrence, or 0 for all eigenvalues.
    """

    h: NDArray[np.float64]
    steps: int


@dataclass(frozen=True, eq=False)
class Table:
    """The maximum itself, by dynamic programming along an order of elimination.

    Attributes:
        order: int64 (n,), the vertices in the order in which they are summed out.
    """

    order: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Split:
    """Parts whose induced subgraphs share no edge and hold all of them: maxcut <= the sum of their bounds.

    Biconnected components are such parts, and equality holds for them.

    Attributes:
        parts: (vertices int64 (k,) rising, proof of the subgraph that they induce, numbered 0 to k - 1 in this order).
    """

    parts: tuple[tuple[NDArray[np.int64], Proof], ...]


@dataclass(frozen=True, eq=False)
class Reduced:
    """maxcut = constant + unit x maxcut of what is left.

    Attributes:
        reduction: of the graph; its log is what is checked.
        proof: of `reduction.graph`.
    """

    reduction: Reduction
    proof: Proof


Proof = PositiveWeights | CycleRows | Branch | Spectral | Table | Split | Reduced
