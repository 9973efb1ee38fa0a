"""Certificates: a partition, an upper bound and its proof in a file that `sdp verify` checks without the solver.

What a certificate claims is worked out by the checker itself when it is written: no certificate is written that it
would not accept. The format is described in PROOFS.md beside this file.
"""

from __future__ import annotations

import base64
import math
import os
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdp.maxcut import _certificate_file
from sdp.maxcut._elimination import DOMINATING
from sdp.maxcut._verify_numbers import Progress, Rejected, Weights, fingerprint, integers, rounded_up, silent
from sdp.maxcut.bound import Bound
from sdp.maxcut.graph import Graph
from sdp.maxcut.problem import Problem
from sdp.maxcut.proof import Branch, CycleRows, PositiveWeights, Proof, Reduced, Spectral, Split, Table
from sdp.maxcut.verify import Checker
from sdp.maxcut.words import bound_in_words
from sdp.optim.chebyshev import COLUMNS, quantile

DELTA = 2.0**-60  # of a dual vector's certificate: nobody tries so many until one is wrong
MORE_STEPS = 1.1  # than the solver's certificate took: another start block may need a few more

__all__ = ["Claims", "bound_of", "spectral_proof", "write"]

_Edges = tuple[NDArray[np.signedinteger], NDArray[np.signedinteger]]


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
    progress: Progress = silent,
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
    u, v, w = graph.edges()
    document: dict[str, Any] = {
        "format": _certificate_file.FORMAT,
        "graph": fingerprint(graph.n_vertices, u, v, w),
        "partition": (sides + np.uint8(ord("0"))).tobytes().decode(),
        "proof": _part((u, v), proof, 1.0),
    }
    try:
        _Scribe(progress).check(graph.n_vertices, u, v, w, document)
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
    u, v, w = graph.edges()
    try:
        numbers = Weights(graph.n_vertices, u.astype(np.int64), v.astype(np.int64), *integers(w))
        return rounded_up(_Scribe().prove(numbers, _part((u, v), proof, 1.0)))
    except Rejected as error:
        raise ValueError(f"the proof does not hold: {error}") from error


def spectral_proof(problem: Problem, bound: Bound, seed: int = 0) -> Spectral:
    """The dual vector behind a bound of kind "dense" or "chebyshev", by vertex of the problem's graph.

    Args:
        problem: that the bound speaks of.
        bound: its `h`, `steps` and `delta` are used.
        seed: at least 0, of the certificate's own start block, which depends on h as well.

    Raises:
        ValueError: the bound has no dual vector.
    """
    if bound.h is None:
        raise ValueError(f'a bound of kind "{bound.kind}" has no dual vector.')
    h = np.zeros(problem.graph.n_vertices)
    h[problem.order] = bound.h.cpu().numpy() / problem.scale
    if bound.steps == 0:
        return Spectral(h, steps=0, seed=0, columns=0, delta=0.0)
    delta = min(bound.delta, DELTA)
    # So small a delta asks for a longer start of the recurrence; its rate stays.
    start, longer = (
        math.log(math.sqrt(h.size) / quantile(each, COLUMNS) + 2) for each in (bound.delta, delta)
    )
    return Spectral(h, math.ceil(MORE_STEPS * bound.steps * longer / start), seed, COLUMNS, delta)


class _Scribe(Checker):
    """The checker, but what it would compare with a claim it writes down as the claim."""

    def agree(self, part: dict[str, Any], name: str, value: Any, slack: Fraction | None = None) -> Any:
        part[name] = value if slack is None else rounded_up(value + slack)
        return part[name]


def _part(edges: _Edges, proof: Proof, unit: float) -> dict[str, Any]:
    """The JSON of a proof without its claims; numbers in the proof are in `unit`, a power of two."""
    if isinstance(proof, PositiveWeights):
        return _rows(np.empty(0), np.empty(0), np.empty(0), np.empty(0))
    if isinstance(proof, CycleRows):
        return _rows(np.diff(proof.pointers), proof.members, proof.in_F, proof.multipliers * unit)
    if isinstance(proof, Branch):
        return _tree(edges, proof, unit)
    if isinstance(proof, Spectral):
        numbers = {"steps": int(proof.steps), "seed": int(proof.seed), "columns": int(proof.columns)}
        h = _packed(proof.h * unit, "<f8")
        return {"kind": "spectral", "h": h, **numbers, "delta": float(proof.delta)}
    if isinstance(proof, Table):
        return {"kind": "table", "order": _packed(proof.order, "<i4")}
    if isinstance(proof, Split):
        return {"kind": "split", "parts": _pieces(edges, proof, unit)}
    return _reduced(proof, unit)


def _rows(lengths: Any, members: Any, in_f: Any, multipliers: Any) -> dict[str, Any]:
    return {
        "kind": "cycles",
        "lengths": _packed(lengths, "<i4"),
        "members": _packed(members, "<i4"),
        "F": _packed(in_f, "|b1"),
        "multipliers": _packed(multipliers, "<f8"),
    }


def _tree(edges: _Edges, root: Branch, unit: float) -> dict[str, Any]:
    """The edges of a tree in the order of a walk that takes the side of the cut edge first, and its leaves."""
    tree, leaves, waiting = [], [], [cast("Proof", root)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Branch):
            tree.append(node.edge)
            waiting += [node.uncut, node.cut]
        else:
            tree.append(-1)
            leaves.append(_part(edges, node, unit))
    return {"kind": "branch", "tree": _packed(tree, "<i4"), "leaves": leaves}


def _pieces(edges: _Edges, split: Split, unit: float) -> list[dict[str, Any]]:
    """The parts of a split by the numbers of their edges; parts without edges are left out."""
    u, v = edges
    owner = _owners(edges, split)
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
        pieces.append({"edges": _packed(own, "<i4"), "proof": _part(local, proof, unit)})
    return pieces


def _owners(edges: _Edges, split: Split) -> NDArray[np.int64]:
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


def _reduced(proof: Reduced, unit: float) -> dict[str, Any]:
    """The log of a reduction and the proof of what it leaves."""
    reduction = proof.reduction
    log, left = reduction.log, reduction.graph.edges()[:2]
    rules = log.rule + 1  # 1 to 5; mergers of opposite sides are negative
    rules[(log.rule >= DOMINATING) & (log.weights[:, 0] < 0)] *= -1
    return {
        "kind": "reduced",
        "removed": _packed(log.vertex, "<i4"),
        "rules": _packed(rules, "|i1"),
        "ends": _packed(log.ends, "<i4"),
        "pairs": _packed(np.stack([reduction.kept[side] for side in left], axis=1), "<i4"),
        "proof": _part(left, proof.proof, unit * reduction.unit),
    }


def _packed(array: Any, kind: str) -> str:
    """Base64 of the entries, little-endian."""
    return base64.b64encode(np.ascontiguousarray(array).astype(kind).tobytes()).decode()
