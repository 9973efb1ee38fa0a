"""Certificates: a partition, an upper bound and its proof in a file that `sdp verify` checks without the solver.

What a certificate claims is worked out by the checker itself when it is written: no certificate is written that it
would not accept. The format is described in PROOFS.md beside this file.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdp.maxcut import _certificate_file
from sdp.maxcut._parts import Edges, packed, piece, rows_part
from sdp.maxcut._replay import Replay
from sdp.maxcut.bound import Bound
from sdp.maxcut.graph import Graph
from sdp.maxcut.problem import Problem
from sdp.maxcut.proof import Branch, CycleRows, PositiveWeights, Proof, Reduced, Spectral, Split, Table
from sdp.maxcut.verify import DELTA, Checker, Rejected, rounded_up
from sdp.maxcut.words import bound_in_words
from sdp.optim.chebyshev import COLUMNS, quantile

MORE_STEPS = 1.1  # than the solver's certificate took: another start block may need a few more

__all__ = ["Claims", "bound_of", "spectral_proof", "write"]


@dataclass(frozen=True)
class Claims:
    """What a certificate claims.

    Attributes:
        cut_value: of its partition, in units of edge weight, rounded down where float64 cannot hold it.
        upper_bound: proved, in units of edge weight, rounded up where float64 cannot hold it.
        delta: probability that the bound is wrong, over the random numbers of its dual vectors; 0 if there are none.
        note: a sentence where the bound is above the one reported, else "".
    """

    cut_value: float
    upper_bound: float
    delta: float
    note: str = ""


def write(
    path: str | os.PathLike[str],
    graph: Graph,
    partition: ArrayLike,
    upper_bound: float,
    proof: Proof,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Claims:
    """Writes a certificate, all or nothing; the same arguments give the same bytes.

    Args:
        path: the file.
        graph: with weights of either sign.
        partition: (n,) of 0 and 1, of booleans, or of -1 and +1.
        upper_bound: that the solver reports.
        proof: of it.
        progress: called with a stage, steps done and steps.

    Returns:
        What is claimed. The bound is the one that the checker finds: `note` says where the solver's was lower, as
        it may be by the last digits, and for dual vectors by what other random numbers do.

    Raises:
        ValueError: the proof proves nothing about this graph, or the partition is none of its vertices.
        OSError: the file cannot be written.

    Complexity: as for the checker: about 1 microsecond an entry of a cycle, 10 a reduction, and a sparse product a step
    of a dual vector's certificate.
    """
    sides = np.asarray(partition) > 0
    if sides.shape != (graph.n_vertices,):
        raise ValueError(f"partition must have shape ({graph.n_vertices},); got {sides.shape}.")
    progress("writing", 0, 1)
    document = _document(graph, sides, proof)
    scribe = _Scribe()
    scribe.progress = progress
    try:
        scribe.check(graph, document)
    except Rejected as error:
        raise ValueError(f"the proof does not hold: {error}") from error
    _certificate_file.save(path, document)
    proved: float = document["upper_bound"]
    note = ""
    if proved > upper_bound:
        note = f"the certificate proves {bound_in_words(proved)}; the bound found was {bound_in_words(upper_bound)}"
    return Claims(document["cut_value"], proved, document["delta"], note)


def bound_of(graph: Graph, proof: Proof) -> float:
    """The upper bound that a proof proves, in units of edge weight, rounded up.

    Raises:
        ValueError: it proves nothing about this graph.
    """
    try:
        _, bound = _Scribe().check(graph, _document(graph, np.zeros(graph.n_vertices, np.bool_), proof))
    except Rejected as error:
        raise ValueError(f"the proof does not hold: {error}") from error
    return rounded_up(bound)


def spectral_proof(problem: Problem, bound: Bound) -> Spectral:
    """The dual vector behind a bound of kind "dense" or "chebyshev", by vertex of the problem's graph.

    Args:
        problem: that the bound speaks of.
        bound: its `h`, `steps` and `delta` are used.

    Raises:
        ValueError: the bound has no dual vector.
    """
    if bound.h is None:
        raise ValueError(f'a bound of kind "{bound.kind}" has no dual vector.')
    h = np.zeros(problem.graph.n_vertices)
    h[problem.order] = bound.h.cpu().numpy() / problem.scale
    if bound.steps == 0:
        return Spectral(h, steps=0)
    # So small a delta asks for a longer start of the recurrence; its rate stays.
    start, longer = (
        math.log(math.sqrt(h.size) / quantile(each, COLUMNS) + 2)
        for each in (bound.delta, min(bound.delta, DELTA))
    )
    return Spectral(h, math.ceil(MORE_STEPS * bound.steps * longer / start))


class _Scribe(Checker):
    """The checker, but what it would compare with a claim it writes down as the claim."""

    def agree(self, part: Any, name: str, value: Any, slack: float = 0.0) -> Any:
        part[name] = value + slack if slack else value
        return part[name]


def _document(graph: Graph, sides: NDArray[np.bool_], proof: Proof) -> dict[str, Any]:
    """A certificate without its claims."""
    u, v, _ = graph.edges()
    names = np.arange(graph.n_vertices)
    return {
        "format": _certificate_file.FORMAT,
        "graph": graph.fingerprint(),
        "partition": (sides + np.uint8(ord("0"))).tobytes().decode(),
        "proof": _part(_Place((u, v), names, names, 1.0, True), proof),
    }


@dataclass(frozen=True)
class _Place:
    """The graph that a proof speaks of, and what the checker calls its vertices.

    Attributes:
        edges: by the proof's vertices.
        labels: int64 (n,), of the proof's vertices; the checker numbers them as they rise.
        vertices: int64, labels of all vertices that the checker has, rising.
        unit: of weights and multipliers, a power of two.
        is_exact: whether the checker's weights are the proof's to the last bit.
    """

    edges: Edges
    labels: NDArray[np.int64]
    vertices: NDArray[np.int64]
    unit: float
    is_exact: bool

    def part(self, edges: Edges, vertices: NDArray[np.int64]) -> _Place:
        """Some of the edges, by their own numbers of these vertices."""
        labels = self.labels[vertices]
        return _Place(edges, labels, np.unique(labels[np.concatenate(edges)]), self.unit, self.is_exact)


def _part(place: _Place, proof: Proof) -> dict[str, Any]:
    """The JSON of a proof without its claims."""
    if isinstance(proof, PositiveWeights):
        return rows_part()
    if isinstance(proof, CycleRows):
        return _rows(place, proof)
    if isinstance(proof, Branch):
        return _tree(place, proof)
    if isinstance(proof, Spectral):
        h = proof.h[np.argsort(place.labels)] * place.unit
        return {"kind": "spectral", "h": packed(h, "<f8"), "steps": int(proof.steps)}
    if isinstance(proof, Table):
        rank = np.argsort(np.argsort(place.labels))
        return {"kind": "table", "order": packed(rank[proof.order], "<u4")}
    if isinstance(proof, Split):
        return rows_part(parts=_pieces(place, proof))
    return _reduced(place, proof)


def _rows(place: _Place, proof: CycleRows) -> dict[str, Any]:
    multipliers = proof.multipliers * place.unit
    return rows_part(np.diff(proof.pointers), proof.members, proof.in_F, multipliers)


def _tree(place: _Place, root: Branch) -> dict[str, Any]:
    """The edges of a tree in the order of a walk that takes the side of the cut edge first, and its leaves."""
    tree, leaves, waiting = [], [], [cast("Proof", root)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Branch):
            tree.append(node.edge)
            waiting += [node.uncut, node.cut]
        else:
            tree.append(-1)
            leaves.append(_part(place, node))
    return {"kind": "branch", "tree": packed(tree, "<i4"), "leaves": leaves}


def _pieces(place: _Place, split: Split) -> list[dict[str, Any]]:
    """The parts of a split by the numbers of their edges; parts without edges are left out."""
    u, v = place.edges
    owner = _owners(place.edges, split)
    order = np.argsort(owner, kind="stable")
    ends = np.searchsorted(owner[order], np.arange(len(split.parts) + 1))
    pieces = []
    for number, (vertices, proof) in enumerate(split.parts):
        own = order[ends[number] : ends[number + 1]]
        if not own.size:
            continue
        if not np.array_equal(np.unique(np.concatenate([u[own], v[own]])), vertices):
            raise ValueError("a part of a split has vertices without edges, or out of order.")
        local = (np.searchsorted(vertices, u[own]), np.searchsorted(vertices, v[own]))
        pieces.append(piece(own, _part(place.part(local, vertices), proof)))
    return pieces


def _owners(edges: Edges, split: Split) -> NDArray[np.int64]:
    """int64 (m,), the part that each edge lies in."""
    holders: dict[int, set[int]] = {}
    for number, (vertices, _) in enumerate(split.parts):
        for x in vertices.tolist():
            holders.setdefault(x, set()).add(number)
    nobody: set[int] = set()
    pairs = zip(edges[0].tolist(), edges[1].tolist(), strict=True)
    common = [holders.get(a, nobody) & holders.get(b, nobody) for a, b in pairs]
    if any(len(numbers) != 1 for numbers in common):
        raise ValueError("an edge is not in exactly one part of a split.")
    return np.array([number for (number,) in common], np.int64)


def _reduced(place: _Place, proof: Reduced) -> dict[str, Any]:
    """The log of a reduction as rows and twins, around the proof of what it leaves."""
    reduction, left = proof.reduction, proof.reduction.graph.edges()[:2]
    replay = Replay(place.edges, place.labels, place.vertices, reduction, place.unit, place.is_exact)
    inner = _Place(
        left,
        replay.labels,
        np.sort(replay.labels),
        place.unit * reduction.unit,
        place.is_exact and reduction.is_exact,
    )
    return replay.part(_part(inner, proof.proof))
