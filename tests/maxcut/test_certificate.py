"""Certificates are accepted as they are written, rejected after any change, and never prove what is false."""

from __future__ import annotations

import ast
import base64
import copy
import functools
import gzip
import json
import math
import sys
import tempfile
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given, settings

import sdp
from sdp.maxcut import _certificate_file, certificate
from sdp.maxcut import solve as maxcut
from sdp.maxcut.bound import chebyshev_bound, dense_bound
from sdp.maxcut.branch import branch_and_cut
from sdp.maxcut.certificate import Claims, _Scribe, bound_of, spectral_proof, write
from sdp.maxcut.graph import Graph
from sdp.maxcut.problem import prepare
from sdp.maxcut.proof import Branch, CycleRows, PositiveWeights, Proof, Reduced, Table
from sdp.maxcut.reduce import reduce
from sdp.maxcut.verify import DELTA, Checker, Rejected, rounded_up
from tests.maxcut.certificate_cases import cases, changed, packed, parts, written
from tests.maxcut.random_graphs import SHAPES, WEIGHTS, graph_of, small_matrix
from tests.reference import certificates, cuts
from tools.make_graphs import preferential_attachment

CASES = list(cases())
MUTANTS = 40  # of each case
MOST_UNCHANGED = 20  # mutants that prove the same claim all the same

by_case = pytest.mark.parametrize(
    ("graph", "proof"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)


def checked(graph: Graph, document: dict[str, Any]) -> tuple[Fraction, Fraction]:
    return Checker().check(graph, document)


def rejection(graph: Graph, document: dict[str, Any]) -> str:
    """Why it is rejected; "" if it is accepted."""
    try:
        checked(graph, document)
    except Rejected as rejected:
        return str(rejected)
    return ""


def optimum(graph: Graph) -> float:
    return cuts.best_cut(graph.to_scipy().toarray())


@by_case
def test_what_is_written_is_accepted(graph: Graph, proof: Proof, tmp_path: Path) -> None:
    document = written(tmp_path / "c.json.gz", graph, proof)
    assert not _certificate_file.is_stale(document)
    cut, bound = checked(graph, document)
    sides = np.array([int(digit) for digit in document["partition"]])
    assert float(cut) == pytest.approx(graph.cut_value(sides), rel=1e-12)
    assert rounded_up(bound) == document["upper_bound"] == bound_of(graph, proof)
    assert bound >= certificates.optimum(graph.n_vertices, _edges(graph))


def test_tables_prove_the_optimum(tmp_path: Path) -> None:
    for name, graph, proof in CASES:
        if "table" in name:
            assert bound_of(graph, proof) == pytest.approx(optimum(graph), rel=1e-12)


def test_rows_prove_what_the_formula_says() -> None:
    seen = 0
    for case, (name, graph, _) in enumerate(CASES):
        if name.startswith(("positive", "packing", "triangles", "branch", "split")):
            proof = _document(case)["proof"]
            step = certificates.unit(_edges(graph))
            assert certificates.bound(_edges(graph), proof, step) == proof["value"] * step
            seen += 1
    assert seen == 13


def test_mutants_are_rejected(tmp_path: Path) -> None:
    """Each with a new digest, so that the mathematics has to notice. The few that still prove their claim must do so
    by another calculation than the checker's.
    """
    rng = np.random.default_rng(0)
    total, unchanged = Counter[str](), Counter[str]()
    for name, graph, proof in CASES:
        document = written(tmp_path / "c.json.gz", graph, proof)
        for _ in range(MUTANTS):
            what, mutant = changed(document, rng)
            total[what] += 1
            sentence = rejection(graph, mutant)
            if sentence:
                assert sentence.endswith(".")
                assert "\n" not in sentence
                continue
            assert _proves_the_same(graph, document, mutant), f"{name}: {what}"
            unchanged[what] += 1
    assert total.total() >= 500
    assert unchanged.total() <= MOST_UNCHANGED, unchanged
    for what in (
        "multipliers",
        "members",
        " F",
        " h",
        "added",
        "edges",
        "order",
        "tree",
        "into",
        "turned",
        "tau",
        "steps",
        "delta",
        "partition",
    ):
        assert any(kind.endswith(what) for kind in total), what


def _proves_the_same(graph: Graph, document: dict[str, Any], mutant: dict[str, Any]) -> bool:
    """Whether the claims of a mutant are those of the document and hold, by other calculations than the checker's."""
    if any(document[name] != mutant[name] for name in ("graph", "cut_value", "upper_bound", "delta")):
        return False
    if document["partition"] != mutant["partition"]:  # a vertex between equal weights changed its side
        side, claim = mutant["partition"], mutant["cut_value"]
        cut = sum(w for a, b, w in _edges(graph) if side[a] != side[b])
        return Fraction(claim) <= cut < Fraction(math.nextafter(claim, math.inf))
    return False


@pytest.mark.parametrize("weights", ["signs", "normal"])
@pytest.mark.parametrize("shape", ["random", "dense", "cycle"])
def test_the_solver_hands_over_what_it_reports(weights: str, shape: str, tmp_path: Path) -> None:
    path = tmp_path / "c.json.gz"
    graph = graph_of(small_matrix(40, shape, weights, 6))
    result = maxcut.maxcut(graph, time_limit=2.0, max_rounds=3, certificate=path)
    cut, bound = checked(graph, _certificate_file.load(path))
    assert float(cut) == pytest.approx(result.cut_value, rel=1e-12)
    # A dense dual vector's slack differs; what the checker proves beyond the solver's bound is the result's.
    assert float(bound) == pytest.approx(result.upper_bound, rel=1e-6)
    assert result.upper_bound <= float(bound) * (1 + 1e-15)
    assert bound >= cut


def test_a_proof_that_does_not_hold_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("the proof does not hold: row 3 has no such edges.")

    monkeypatch.setattr(certificate, "write", refuse)
    path = tmp_path / "c.json.gz"
    result = maxcut.maxcut(graph_of(small_matrix(40, "dense", "ones", 1)), max_rounds=1, certificate=path)
    assert result.notes[-1] == "no certificate was written: the proof does not hold: row 3 has no such edges."
    assert not path.exists()


def test_a_certificate_needs_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "c.json.gz"
    with pytest.raises(ValueError, match=r"^certificate must be a file in a folder that exists; got "):
        maxcut.maxcut(graph_of(small_matrix(5, "dense", "ones", 1)), certificate=path)


def test_the_callback_hears_of_the_certificate(tmp_path: Path) -> None:
    stages: set[str] = set()
    graph = preferential_attachment(20_000, 2, seed=1)
    maxcut.maxcut(
        graph,
        time_limit=0.5,
        certificate=tmp_path / "c.json.gz",
        callback=lambda progress: stages.add(progress.stage),
    )
    assert "certificate" in stages


def test_branch_and_cut_is_accepted() -> None:
    graph = graph_of(small_matrix(8, "dense", "ones", 8))  # complete: rows prove 18, and 16 is the maximum
    found = branch_and_cut(graph, seed=1)
    assert isinstance(found.proof, Branch)
    assert bound_of(graph, found.proof) == found.bound.value == optimum(graph)


def test_trees_may_be_deep(tmp_path: Path) -> None:
    """Depth-first search dives; nothing here recurses along a branch."""
    graph = graph_of(small_matrix(60, "dense", "ones", 0))
    tree: Proof = packed(graph)
    for edge in range(graph.n_edges):
        tree = Branch(edge, packed(graph) if edge < 3 else PositiveWeights(), tree)
    claims = write(tmp_path / "c.json.gz", graph, np.zeros(60), np.inf, tree)
    assert checked(graph, _certificate_file.load(tmp_path / "c.json.gz"))[1] == claims.upper_bound


def test_dual_vectors_are_certified_as_well_as_by_the_solver() -> None:
    graph = graph_of(small_matrix(60, "random", "normal", 2))
    problem = prepare(graph)
    h = problem.degrees * 0.9
    solver, _ = chebyshev_bound(problem, h, steps=60, delta=1e-6, seed=0)
    assert bound_of(graph, spectral_proof(problem, solver)) == pytest.approx(solver.value, rel=0.02)
    dense = dense_bound(problem, h)
    assert bound_of(graph, spectral_proof(problem, dense)) == pytest.approx(dense.value, rel=1e-6)


def test_a_stale_digest_is_noticed(tmp_path: Path) -> None:
    _, graph, proof = CASES[0]
    document = written(tmp_path / "c.json.gz", graph, proof)
    document["partition"] = document["partition"][::-1].translate({48: 49, 49: 48})
    assert _certificate_file.is_stale(document)


@by_case
def test_another_graph_is_refused(graph: Graph, proof: Proof, tmp_path: Path) -> None:
    document = written(tmp_path / "c.json.gz", graph, proof)
    u, v, w = graph.edges()
    heavier = w.copy()
    heavier[-1] += 1
    n = graph.n_vertices
    others = [Graph.from_edges(u, v, heavier, n_vertices=n), Graph.from_edges(u, v, w, n_vertices=n + 1)]
    others.append(Graph.from_edges(u[1:], v[1:], w[1:], n_vertices=n))
    for other in others:
        with pytest.raises(Rejected, match="another graph"):
            checked(other, document)


def test_the_same_certificate_has_the_same_bytes(tmp_path: Path) -> None:
    for name, graph, proof in CASES[:8]:
        one, two = tmp_path / "one.json.gz", tmp_path / "another name.json.gz"
        written(one, graph, proof)
        written(two, graph, proof)
        assert one.read_bytes() == two.read_bytes(), name


def test_a_bound_above_the_one_reported_is_told(tmp_path: Path) -> None:
    triangle = Graph.from_edges([0, 1, 2], [1, 2, 0])
    claims = write(tmp_path / "c.json.gz", triangle, [0, 1, 1], 2.0, PositiveWeights())
    assert claims == Claims(2.0, 2.0, 0.0)  # three edges, but all cuts are even
    path = Graph.from_edges([0, 1], [1, 2])
    claims = write(tmp_path / "c.json.gz", path, [0, 1, 1], 1.0, PositiveWeights())
    assert (claims.upper_bound, claims.note) == (2.0, "the certificate proves 2; the bound found was 1")


def test_a_proof_of_another_graph_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "c.json.gz"
    triangle = Graph.from_edges([0, 1, 2], [1, 2, 0])
    row = CycleRows(np.array([0, 2]), np.array([0, 1]), np.array([True, False]), np.ones(1))
    with pytest.raises(ValueError, match="a row is no cycle"):
        write(path, triangle, [0, 1, 1], 2.0, row)
    with pytest.raises(ValueError, match="not an order of all vertices"):
        write(path, triangle, [0, 1, 1], 2.0, Table(np.array([0, 1])))
    with pytest.raises(ValueError, match="partition must have shape"):
        write(path, triangle, [0, 1], 2.0, PositiveWeights())
    assert not path.exists()


def test_damaged_files_give_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "c.json.gz"
    _, graph, proof = CASES[0]
    written(path, graph, proof)
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    damaged = [whole[:length] for length in range(0, len(whole), 7)]
    for _ in range(100):
        bad = bytearray(whole)
        bad[rng.integers(10, len(whole))] ^= 1 << rng.integers(
            8
        )  # after gzip's header, which may say anything
        damaged.append(bytes(bad))
    texts = (
        b"",
        b"[]",
        b"{}",
        b"[" * 10000,
        b'{"format": 3}',
        b"\xff\xfe",
        b'{"format": "sdp certificate 1"}',
    )
    damaged += [gzip.compress(text) for text in texts]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"c\.json\.gz: no certificate") as caught:
            _certificate_file.load(path)
        assert str(caught.value).endswith(".")
        assert "\n" not in str(caught.value)


@settings(max_examples=200)
@given(data=st.data())
def test_malformed_documents_are_rejected(data: st.DataObject) -> None:
    """Any field may hold anything: the checker says no, and raises nothing else."""
    case = data.draw(st.integers(0, len(CASES) - 1))
    graph, document = CASES[case][1], copy.deepcopy(_document(case))
    places = [document, *parts(document["proof"])]
    place = data.draw(st.sampled_from(places))
    name = data.draw(st.sampled_from(sorted(set(place) - {"sha256", "format"})))
    anything = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3),
    )
    if data.draw(st.booleans()):
        del place[name]
    else:
        value = data.draw(anything)
        assume(place[name] != value or type(place[name]) is not type(value))
        place[name] = value
    with pytest.raises(Rejected):
        checked(graph, document)


small = {
    "n": st.integers(2, 12),
    "shape": st.sampled_from(SHAPES),
    "weights": st.sampled_from(WEIGHTS),
    "seed": st.integers(0, 2**31 - 1),
}


def never_below(graph: Graph, document: dict[str, Any]) -> bool:
    """Lets a forger claim what his parts give; whether that was accepted, and then it is no less than the optimum."""
    try:
        _Scribe().check(graph, document)
    except Rejected:
        return False
    _, bound = checked(graph, json.loads(json.dumps(document)))
    assert bound >= certificates.optimum(graph.n_vertices, _edges(graph))
    return True


def forged(graph: Graph, proof: dict[str, Any]) -> dict[str, Any]:
    return {"graph": graph.fingerprint(), "partition": "0" * graph.n_vertices, "proof": proof}


def text(numbers: Any, kind: str) -> str:
    return base64.b64encode(np.asarray(numbers).astype(kind).tobytes()).decode()


def random_rows(graph: Graph, rng: np.random.Generator) -> dict[str, Any]:
    """Sums of triangles and of anything else, with any F and any multipliers."""
    u, v, w = graph.edges()
    rows, marks = [], []
    for _ in range(rng.integers(0, 6)):
        side = rng.integers(0, 2, graph.n_vertices)
        chosen = np.flatnonzero((rng.random(u.size) < 0.5) | (side[u] != side[v]))
        for _ in range(2 * u.size):  # drop edges until every vertex has an even number
            odd = np.flatnonzero(
                np.bincount(np.concatenate([u[chosen], v[chosen]]), minlength=graph.n_vertices) % 2
            )
            if not odd.size or rng.random() < 0.005:
                break
            at = np.flatnonzero((u[chosen] == odd[0]) | (v[chosen] == odd[0]))
            chosen = np.delete(chosen, rng.choice(at))
        if chosen.size:
            rows.append(chosen)
            marks.append(rng.random(chosen.size) < rng.random())
            if marks[-1].sum() % 2 == 0 and rng.random() < 0.95:
                marks[-1][rng.integers(chosen.size)] ^= True
    scale = np.abs(w).max(initial=1e-3)
    return {
        "kind": "rows",
        "added": "",
        "parts": [],
        "lengths": text([row.size for row in rows], "<i4"),
        "members": text(np.concatenate([*rows, []]), "<i4"),
        "F": text(np.concatenate([*marks, []]), "|b1"),
        "multipliers": text(rng.exponential(size=len(rows)) * scale * 10.0 ** rng.integers(-3, 2), "<f8"),
    }


def random_tree(graph: Graph, rng: np.random.Generator) -> dict[str, Any]:
    """A tree of up to four levels, now and then one that does not end well."""
    tree: list[int] = []
    waiting = [0]
    while waiting and len(tree) < 40:
        depth = waiting.pop()
        is_leaf = depth == 4 or not graph.n_edges or rng.random() < 0.3
        tree.append(-1 if is_leaf else int(rng.integers(graph.n_edges)))
        waiting += [] if is_leaf else [depth + 1] * 2
    leaves = [random_rows(graph, rng) for _ in range(tree.count(-1) + (rng.random() < 0.05))]
    return {"kind": "branch", "tree": text(tree, "<i4"), "leaves": leaves} if len(tree) > 1 else leaves[0]


@settings(max_examples=400)
@given(**small)
def test_no_forged_rows_prove_less_than_the_optimum(n: int, shape: str, weights: str, seed: int) -> None:
    graph, rng = graph_of(small_matrix(n, shape, weights, seed)), np.random.default_rng(seed)
    document = forged(graph, random_tree(graph, rng))
    if never_below(graph, document):
        edges = _edges(graph)
        step = certificates.unit(edges)
        assert certificates.bound(edges, document["proof"], step) == document["proof"]["value"] * step


def random_layer(
    n: int, edges: list[tuple[int, int]], rng: np.random.Generator, depth: int
) -> dict[str, Any]:
    """A part of any kind for a graph of these edges: triangles over edges some of which are added, twins, and tables.

    Now and then it is wrong.
    """
    if depth == 3 or not edges or n < 2:
        return {"kind": "table", "order": text(rng.permutation(n), "<i4")}
    if rng.random() < 0.4:
        near: list[set[int]] = [set() for _ in range(n)]
        for a, b in edges:
            near[a].add(b)
            near[b].add(a)
        into, turned = np.arange(n), rng.random(n) < rng.random() / 2
        for x in rng.permutation(n).tolist():
            others = [
                y for y in range(n) if into[y] == y != x and (near[x] == near[y] or rng.random() < 0.01)
            ]
            if others and into[x] == x and (into == x).sum() == 1:
                into[x] = rng.choice(others)
        inner = random_layer(n, [(int(into[a]), int(into[b])) for a, b in edges], rng, depth + 1)
        return {"kind": "twins", "into": text(into, "<i4"), "turned": text(turned, "|b1"), "proof": inner}
    added = [sorted(rng.choice(n, 2, replace=False).tolist()) for _ in range(rng.integers(0, 4))]
    ends = edges + [(a, b) for a, b in added]
    number = {frozenset(pair): e for e, pair in enumerate(ends)}
    rows = []
    for _ in range(40):
        corners = rng.choice(n, min(n, 3), replace=False).tolist()
        sides = [
            number.get(frozenset(pair), -1) for pair in zip(corners, corners[1:] + corners[:1], strict=True)
        ]
        if len(set(sides)) == 3 and min(sides) >= 0:
            rows.append(sides)
    marks = [[(True, True, True), (True, False, False)][rng.integers(2)] for _ in rows]
    owner = rng.integers(0, rng.integers(1, 4), len(ends))
    parts = []
    for own in (np.flatnonzero(owner == k).tolist() for k in range(2)):
        names = sorted({x for e in own for x in ends[e]})
        inside = [(names.index(ends[e][0]), names.index(ends[e][1])) for e in own]
        if rng.random() < 0.05 and own:
            own = [*own, own[0]]
        parts.append({"edges": text(own, "<i4"), "proof": random_layer(len(names), inside, rng, depth + 1)})
    return {
        "kind": "rows",
        "added": text(added, "<i4"),
        "lengths": text([3] * len(rows), "<i4"),
        "members": text(rows, "<i4"),
        "F": text(marks, "|b1"),
        "multipliers": text(rng.exponential(size=len(rows)) * 10.0 ** rng.integers(-3, 2), "<f8"),
        "parts": parts,
    }


@settings(max_examples=600)
@given(**small, like=st.booleans())
def test_no_forged_layers_prove_less_than_the_optimum(
    n: int, shape: str, weights: str, seed: int, like: bool
) -> None:
    """Rows, twins and parts at random; half of the graphs have twins, the others hardly any."""
    W, rng = small_matrix(n, shape, weights, seed), np.random.default_rng(seed)
    if like:
        x = int(rng.integers(n))
        W = W[np.ix_([*range(n), x, x], [*range(n), x, x])]  # no edge between the three: W[x, x] is 0
    graph = graph_of(W)
    edges = list(zip(*(side.tolist() for side in graph.edges()[:2]), strict=True))
    never_below(graph, forged(graph, random_layer(graph.n_vertices, edges, rng, 0)))


def test_forged_layers_are_accepted_now_and_then() -> None:
    """Or the test before this one would say nothing."""
    rng, accepted = np.random.default_rng(0), Counter[str]()
    for seed in range(300):
        W = small_matrix(6, "random", "ones", seed)
        W = W[np.ix_([*range(6), 0, 1], [*range(6), 0, 1])]
        graph = graph_of(W)
        edges = list(zip(*(side.tolist() for side in graph.edges()[:2]), strict=True))
        proof = random_layer(8, edges, rng, 0)
        if never_below(graph, forged(graph, proof)):
            accepted.update({part["kind"] for part in parts(proof)})
    assert min(accepted[kind] for kind in ("rows", "twins", "table")) >= 30


@settings(max_examples=200)
@given(**small, steps=st.sampled_from([0, 2, 5, 30, 200]), size=st.sampled_from([-1.0, 0.1, 1.0, 10.0]))
def test_no_forged_dual_vector_proves_less_than_the_optimum(
    n: int, shape: str, weights: str, seed: int, steps: int, size: float
) -> None:
    graph, rng = graph_of(small_matrix(n, shape, weights, seed)), np.random.default_rng(seed)
    W = np.abs(graph.to_scipy().toarray())
    h = size * W.sum(axis=1) * rng.random(n)
    accepted = never_below(graph, forged(graph, {"kind": "spectral", "h": text(h, "<f8"), "steps": steps}))
    # So few steps prove nothing at so small a delta; where all weights are 0, there is nothing to divide by.
    assert accepted or 0 < steps < 30 or not W.any()


def test_delta_is_the_checkers() -> None:
    """Of a million vectors for a bound that is false one would pass at 1e-6: no file can ask for that."""
    graph = graph_of(small_matrix(12, "dense", "ones", 0))
    proof = {"kind": "spectral", "h": text(np.full(12, 20.0), "<f8"), "steps": 50}
    document = forged(graph, proof)
    assert never_below(graph, document)
    assert document["delta"] == DELTA <= 2.0**-60
    assert "does not follow" in rejection(graph, {**document, "delta": 1e-6})


def test_another_dual_vector_gets_another_block() -> None:
    """Its random numbers follow from h and the steps, so that neither can be chosen for them."""
    graph = graph_of(small_matrix(12, "dense", "ones", 0))
    tau = []
    for h, steps in ((20.0, 50), (20.0 + 2.0**-30, 50), (20.0, 51)):
        proof: dict[str, Any] = {"kind": "spectral", "h": text(np.full(12, h), "<f8"), "steps": steps}
        assert never_below(graph, forged(graph, proof))
        tau.append(proof["tau"])
    assert min(abs(tau[0] - other) for other in tau[1:]) > 1e-6 * tau[0]


def test_another_matrix_gets_another_block() -> None:
    """Vertices turned over leave the spectrum as it is; could they be chosen for a block, its bound could be false."""
    graph, seeds, taus = graph_of(small_matrix(12, "dense", "ones", 0)), set[bytes](), set[float]()

    class Spy(_Scribe):
        def below(self, matrix: Any, steps: int, whole: bytes) -> Any:
            seeds.add(whole)
            return super().below(matrix, steps, whole)

    for turned in (0, 1, 2):
        inner: dict[str, Any] = {"kind": "spectral", "h": text(np.full(12, 20.0), "<f8"), "steps": 50}
        sides = (np.arange(12) < turned).astype(np.uint8)
        layer = {"kind": "twins", "into": text(np.arange(12), "<u4"), "turned": text(sides, "|u1")}
        document = forged(graph, {**layer, "proof": inner})
        Spy().check(graph, document)
        assert never_below(graph, document)
        taus.add(round(inner["tau"], 8))
    assert len(seeds) == len(taus) == 3


@pytest.mark.parametrize("steps", [0, 40])
def test_parallel_edges_add_up_exactly(steps: int) -> None:
    """Weight moved to and fro in pieces that float64 would lose beside a large one: one edge of weight 1 is cut."""
    graph, pieces, large = Graph.from_edges([0], [1], [1.0]), 2**15, 2.0**40
    first = [[1, 5]] + [
        [0, edge] for edge in range(2, pieces + 3) if edge != 5
    ]  # F is the first of each pair
    proof = {
        "kind": "rows",
        "added": text(np.tile([0, 1], pieces + 2), "<u4"),
        "lengths": text(np.full(len(first), 2), "<u4"),
        "members": text(np.array(first).ravel(), "<u4"),
        "F": text(np.tile([1, 0], len(first)), "|u1"),
        "multipliers": text(np.array([large] + [1 / pieces] * (len(first) - 1)), "<f8"),
        "parts": [
            {
                "edges": text(np.arange(pieces + 3), "<u4"),
                "proof": {"kind": "spectral", "h": text(np.zeros(2), "<f8"), "steps": steps},
            }
        ],
    }
    accepted = never_below(graph, forged(graph, proof))
    assert accepted or steps


def test_a_bound_below_the_partition_is_no_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = Graph.from_edges([0], [1])
    monkeypatch.setattr(Checker, "prove", lambda *_: 0)
    document = {"graph": graph.fingerprint(), "partition": "01", "proof": {}}
    document |= {"cut_value": 1.0, "upper_bound": 0.0, "delta": 0.0}
    assert rejection(graph, document) == "the bound is below the cut of the partition itself."


def test_what_would_fill_the_memory_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = graph_of(small_matrix(70, "dense", "ones", 0))
    tree = {"kind": "branch", "tree": text(np.arange(2100), "<i4"), "leaves": []}
    assert rejection(graph, {**forged(graph, tree), "cut_value": 0.0}) == "branch: not free."
    small = graph_of(small_matrix(4, "dense", "ones", 0))
    table = forged(small, {"kind": "table", "order": text(np.arange(4), "<u4")})
    monkeypatch.setattr(sys.modules["sdp.maxcut.verify"], "_ENTRIES", 16 + 8 + 4 + 2)
    assert never_below(small, table)
    monkeypatch.setattr(sys.modules["sdp.maxcut.verify"], "_ENTRIES", 16 + 8 + 4 + 1)
    assert rejection(small, table) == "table: of too many vertices."


def test_a_small_file_cannot_unpack_to_a_large_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.json.gz"
    path.write_bytes(gzip.compress(b" " * 2000))
    monkeypatch.setattr(_certificate_file, "_MOST_BYTES", 1000)
    with pytest.raises(ValueError, match=r"it unpacks to more than 1,000 bytes"):
        _certificate_file.load(path)


@settings(max_examples=150)
@given(**small)
def test_reductions_lose_nothing(n: int, shape: str, weights: str, seed: int) -> None:
    """The checker's constant and kernel have the optimum that brute force finds, exactly where the solver is exact."""
    graph = graph_of(small_matrix(n, shape, weights, seed))
    reduction = reduce(graph)
    proof = Reduced(reduction, Table(np.arange(reduction.graph.n_vertices)))
    best = optimum(graph)
    slack = 0.0 if graph.is_integer else 1e-14 * graph.absolute_weight + reduction.lost_weight
    assert best - slack <= bound_of(graph, proof) <= best + slack


@settings(max_examples=200)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=8))
def test_integers_are_exact(numbers: list[float]) -> None:
    checker = Checker()
    checker.unit = max([1, *(number.as_integer_ratio()[1] for number in numbers)])
    whole = [Fraction(x, checker.unit) for x in checker.whole(np.array(numbers, np.float64))]
    assert whole == [Fraction(x) for x in numbers]
    assert all(Fraction(rounded_up(x)) >= x for x in whole)


@settings(max_examples=200)
@given(st.fractions(max_denominator=10**30))
def test_bounds_are_rounded_up_to_the_next_number(value: Fraction) -> None:
    rounded = rounded_up(value)
    assert Fraction(math.nextafter(rounded, -math.inf)) < value <= Fraction(rounded)


def test_the_checker_is_short_and_imports_nothing_of_the_solver() -> None:
    text = Path(sdp.__path__[0], "maxcut", "verify.py").read_text()
    assert len(text.splitlines()) < 200
    assert max(map(len, text.splitlines())) <= 120
    seen = 0
    for node in ast.walk(ast.parse(text)):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not (isinstance(node, ast.ImportFrom) and node.level)
        for module in modules:
            seen += 1
            assert module.split(".")[0] in sys.stdlib_module_names | {"numpy", "scipy"}, f"imports {module}"
        called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
        assert called not in ("__import__", "eval", "exec")
    assert seen >= 5


def _edges(graph: Graph) -> list[certificates.Edge]:
    u, v, w = (array.tolist() for array in graph.edges())
    return [(a, b, Fraction(c)) for a, b, c in zip(u, v, w, strict=True)]


@functools.cache
def _document(case: int) -> dict[str, Any]:
    """The certificate of one of the cases; not to be changed."""
    with tempfile.TemporaryDirectory() as folder:
        return written(Path(folder, "c.json.gz"), *CASES[case][1:])
