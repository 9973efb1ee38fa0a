"""The seeded families of ``tools/make_graphs.py``, asked for by their number of edges.

Degrees stay the same from size to size, so that what grows is the graph and not its kind: 16 ends a vertex
in all but the torus, which has 4.
"""

import math
from collections.abc import Callable

from sdp.maxcut.graph import Graph
from tools import make_graphs

EDGES_A_VERTEX = 8


def _rmat(n_edges: int, seed: int) -> Graph:
    scale = round(math.log2(n_edges / EDGES_A_VERTEX))
    return make_graphs.rmat(scale, n_edges / 2**scale, seed=seed)


def _preferential_attachment(n_edges: int, seed: int) -> Graph:
    return make_graphs.preferential_attachment(n_edges // EDGES_A_VERTEX, EDGES_A_VERTEX, seed=seed)


def _torus(n_edges: int, seed: int) -> Graph:
    side = round(math.sqrt(n_edges / 2))
    return make_graphs.torus(side, side, seed=seed)


def _random_sparse(n_edges: int, seed: int) -> Graph:
    return make_graphs.random_sparse(n_edges // EDGES_A_VERTEX, 2 * EDGES_A_VERTEX, seed=seed)


FAMILIES: dict[str, Callable[[int, int], Graph]] = {
    "rmat": _rmat,
    "preferential-attachment": _preferential_attachment,
    "torus": _torus,
    "random-sparse": _random_sparse,
}


def make(family: str, n_edges: int, seed: int) -> Graph:
    """A graph of the family with about this many edges (R-MAT loses some to repetition).

    Raises:
        ValueError: no such family.
    """
    if family not in FAMILIES:
        raise ValueError(f'family must be one of {", ".join(FAMILIES)}; got "{family}".')
    return FAMILIES[family](n_edges, seed)
