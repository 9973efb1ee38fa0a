"""Small graphs with a proof of every kind, and ways to change a certificate."""

from __future__ import annotations

import base64
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sdp.maxcut import _certificate_file
from sdp.maxcut.blocks import blocks
from sdp.maxcut.bound import chebyshev_bound, dense_bound
from sdp.maxcut.certificate import spectral_proof, write
from sdp.maxcut.cycles import find_cycles
from sdp.maxcut.graph import Graph
from sdp.maxcut.problem import prepare
from sdp.maxcut.proof import Branch, CycleRows, PositiveWeights, Proof, Reduced, Spectral, Split, Table
from sdp.maxcut.reduce import reduce
from sdp.maxcut.relax import relax
from sdp.maxcut.rows import packing_rows
from tests.maxcut.random_graphs import graph_of, small_matrix

DELTA = 1e-6
FIELDS = {
    "added": "<i4",
    "lengths": "<i4",
    "members": "<i4",
    "F": "|b1",
    "multipliers": "<f8",
    "h": "<f8",
    "order": "<i4",
    "into": "<i4",
    "turned": "|b1",
    "edges": "<i4",
    "tree": "<i4",
}
CLAIMS = ("value", "used", "tau", "steps")  # numbers of a part


def packed(graph: Graph) -> CycleRows:
    return packing_rows(graph, find_cycles(graph))


def dual(graph: Graph, *, steps: int) -> Spectral:
    """A dual vector by all eigenvalues (steps = 0) or by the Chebyshev certificate."""
    problem = prepare(graph)
    relaxed = relax(problem, target_gap=1e-3, seed=1)
    assert relaxed.bound is not None
    assert relaxed.bound.h is not None
    if steps == 0:
        return spectral_proof(problem, dense_bound(problem, relaxed.bound.h))
    bound, _ = chebyshev_bound(problem, relaxed.bound.h, steps=steps, delta=DELTA, seed=3)
    return spectral_proof(problem, bound)


def triangles(graph: Graph, multiplier: float) -> CycleRows:
    """All triangles, F = all edges or one, with multipliers that differ."""
    u, v, _ = graph.edges()
    number = {pair: e for e, pair in enumerate(zip(u.tolist(), v.tolist(), strict=True))}
    rows, marks = [], []
    for a, b in number:
        for c in range(b + 1, graph.n_vertices):
            if (a, c) in number and (b, c) in number:
                rows += [number[a, b], number[b, c], number[a, c]]
                marks += [True, True, True] if (a + b + c) % 2 else [False, True, False]
    count = len(rows) // 3
    pointers = np.arange(count + 1) * 3
    return CycleRows(
        pointers, np.array(rows), np.array(marks, np.bool_), multiplier * (1 + np.arange(count) / 7)
    )


def branched(graph: Graph) -> Branch:
    leaf = triangles(graph, 0.1)
    return Branch(0, Branch(3, leaf, packed(graph)), triangles(graph, 0.05))


def split(graph: Graph) -> Split:
    return Split(tuple((block.vertices, triangles(block.graph, 0.1)) for block in blocks(graph)))


def chained(n: int, seed: int) -> Graph:
    """Two dense graphs that share one vertex, with a tail."""
    one, two = (small_matrix(n, "dense", "integers", seed + k) for k in (0, 1))
    W = np.zeros((2 * n + 1, 2 * n + 1))
    W[:n, :n], W[n - 1 : 2 * n - 1, n - 1 : 2 * n - 1] = one, W[n - 1 : 2 * n - 1, n - 1 : 2 * n - 1] + two
    W[0, 2 * n - 1] = W[2 * n - 1, 0] = 3
    W[2 * n - 1, 2 * n] = W[2 * n, 2 * n - 1] = -2
    return graph_of(W)


def twins(weights: str) -> Graph:
    """Twins, two of them across from those whom they equal, and a third of one kind."""
    W = small_matrix(6, "dense", weights, 7)
    W[:2, :2] = 0
    ratio = np.array([[1, -2, 0.5]]).T
    like = ratio * W[[0, 1, 1]]
    return graph_of(np.block([[W, like.T], [like, np.zeros((3, 3))]]))


def cases() -> Iterator[tuple[str, Graph, Proof]]:
    """Name, graph of at most 12 vertices, and proof."""
    for weights in ("integers", "normal", "decades"):
        graph = graph_of(small_matrix(9, "dense", weights, 11))
        sparse = graph_of(small_matrix(12, "random", weights, 4))
        yield f"positive, {weights}", graph, PositiveWeights()
        yield f"packing, {weights}", sparse, packed(sparse)
        yield f"triangles, {weights}", graph, triangles(graph, 0.1)
        yield f"branch, {weights}", graph, branched(graph)
        yield f"all eigenvalues, {weights}", graph, dual(graph, steps=0)
        yield f"chebyshev, {weights}", graph, dual(graph, steps=40)
        yield f"table, {weights}", sparse, Table(np.arange(sparse.n_vertices)[::-1])
        reduction = reduce(sparse)
        left = reduction.graph
        yield f"reduced table, {weights}", sparse, Reduced(reduction, Table(np.arange(left.n_vertices)))
        some = reduce(
            sparse, ["degree 1", "degree 2", "degree 3"] if weights == "normal" else ["dominating edge"]
        )
        yield f"reduced triangles, {weights}", sparse, Reduced(some, triangles(some.graph, 0.1))
        doubled = twins(weights)
        once = reduce(doubled, ["twins"])
        assert once.removed["twins"] >= 2
        yield f"twins, {weights}", doubled, Reduced(once, triangles(once.graph, 0.1))
    two = chained(5, 3)
    yield "split", two, split(two)
    tail = reduce(two, ["degree 1", "degree 2"])
    yield "reduced split", two, Reduced(tail, split(tail.graph))


def written(path: Path, graph: Graph, proof: Proof) -> dict[str, Any]:
    """The certificate of a proof and of a random partition, as it is read back."""
    sides = np.random.default_rng(graph.n_edges).integers(0, 2, graph.n_vertices)
    write(path, graph, sides, np.inf, proof)
    return _certificate_file.load(path)


def parts(part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A part of a proof and all below it."""
    yield part
    below = [part["proof"]] if "proof" in part else []
    for inner in [*below, *part.get("leaves", []), *(piece["proof"] for piece in part.get("parts", []))]:
        yield from parts(inner)


def changed(document: dict[str, Any], rng: np.random.Generator) -> tuple[str, dict[str, Any]]:
    """A copy with one thing changed, and what that was."""
    mutant = copy.deepcopy(document)
    places: list[tuple[str, dict[str, Any], str]] = [
        ("claim", mutant, "cut_value"),
        ("claim", mutant, "upper_bound"),
        ("claim", mutant, "delta"),
        ("partition", mutant, "partition"),
    ]
    for part in parts(mutant["proof"]):
        places += [("array", part, name) for name in FIELDS if part.get(name)]
        places += [("array", piece, "edges") for piece in part.get("parts", [])]
        places += [("number", part, name) for name in CLAIMS if name in part]
    what, place, name = places[rng.integers(len(places))]
    if what == "claim":
        step = (
            rng.choice([-1.0, 1.0]) * max(abs(place[name]), 1.0) * (2.0**-50 if rng.random() < 0.5 else 0.1)
        )
        place[name] = float(place[name] + step)
    elif what == "partition":
        x = rng.integers(len(place[name]))
        place[name] = place[name][:x] + "10"[int(place[name][x])] + place[name][x + 1 :]
    elif what == "number":
        size = abs(place[name]) * rng.choice([1e-9, 0.1]) if name == "tau" else int(rng.integers(1, 9))
        place[name] += size * int(rng.choice([-1, 1]))
    else:
        array = np.frombuffer(base64.b64decode(place[name]), FIELDS[name]).copy()
        x = rng.integers(array.size)
        if array.dtype == np.bool_:
            array[x] ^= True
        elif array.dtype.kind == "i":
            others = [y for y in (*np.unique(array).tolist(), -1, 1, 2, 3, 4) if y != array[x]]
            array[x] = others[rng.integers(len(others))]
        else:
            size = float(np.abs(array).max()) or 1.0
            array[x] += size * rng.choice([-2.0, -0.01, 1e-6, 0.01, 1.0])
        place[name] = base64.b64encode(array.tobytes()).decode()
    mutant["sha256"] = _certificate_file.digest(mutant)
    return f"{what} {place.get('kind', '')} {name}", mutant
