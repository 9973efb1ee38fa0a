"""Counting the operations of a solve: every call once, with its shape, and nothing left changed."""

from __future__ import annotations

import pytest
import torch

from benchmarks import _solve_counts
from sdp.maxcut.problem import prepare
from sdp_kernels import graph as operations
from sdp_kernels.anneal import anneal
from sdp_kernels.graph import chebyshev_step, gains, mixing_sweeps
from tools import make_graphs

EDGES = 12_000


@pytest.fixture(scope="module")
def record() -> _solve_counts.Record:
    return _solve_counts.count_relaxation(_solve_counts.FAMILIES["rmat-8"](EDGES, 0), threads=2)


def test_calls_are_counted_with_their_shapes() -> None:
    problem = prepare(make_graphs.random_sparse(2000, 6.0, seed=1))
    n, csr = problem.n_vertices, problem.csr
    before = operations.twin
    with _solve_counts.counting() as counts:
        V = torch.nn.functional.normalize(torch.randn(n, 8))
        mixing_sweeps(csr, problem.class_ptr, V, 0.9, 3)
        mixing_sweeps(csr, problem.class_ptr, V.half(), 0.9, 2)
        signs = torch.ones((4, n), dtype=torch.int8)
        temperatures = torch.full((4, 5), 0.5)
        changes = anneal(csr, problem.class_ptr, signs, gains(csr, signs), temperatures, seed=0)
        block = torch.randn(n, 6, dtype=torch.float64)
        rows = csr._replace(weights=csr.weights.double())
        for _ in range(2):
            chebyshev_step(rows, torch.zeros(n, dtype=torch.float64), block, block.clone())
        small = prepare(make_graphs.random_sparse(100, 6.0, seed=1)).csr
        gains(small, torch.ones((4, 100), dtype=torch.int8)[:, : small.n_vertices].contiguous())
    assert operations.twin is before
    found = [{name: v for name, v in r.items() if name != "seconds"} for r in counts.records()]
    about = {"vertices": n, "calls": 1}
    assert found == [
        {"operation": "mixing_sweeps", **about, "bytes": 4, "columns": 8, "sweeps": 3},
        {"operation": "mixing_sweeps", **about, "bytes": 2, "columns": 8, "sweeps": 2},
        {"operation": "gains", **about, "replicas": 4},
        {"operation": "anneal", **about, "replicas": 4, "sweeps": 5, "changes": int(changes.sum())},
        {"operation": "chebyshev_step", **about, "calls": 2, "columns": 6},
    ]
    assert all(r["seconds"] > 0 for r in counts.records())


def test_a_relaxation_is_counted_whole(record: _solve_counts.Record) -> None:
    assert record["reached"]
    swept = [r for r in record["operations"] if r["operation"] == "mixing_sweeps"]
    assert sum(r["sweeps"] for r in swept) == record["sweeps"]
    assert swept[-1]["columns"] == record["rank"]
    assert {r["vertices"] for r in record["operations"]} == {record["n_vertices"]}
    drawn = record["n_vertices"] * (swept[0]["columns"] + _solve_counts.COLUMNS * record["certificates"])
    assert record["normals"] >= drawn
    assert record["seconds"]["relax"] >= sum(r["seconds"] for r in record["operations"])


def test_classes_are_what_the_row_plan_makes_of_them(record: _solve_counts.Record) -> None:
    classes = record["classes"]
    assert len({len(values) for values in classes.values()}) == 1
    assert sum(classes["rows"]) == record["n_vertices"]
    assert sum(classes["entries"]) == 2 * record["n_edges"]
    assert sum(classes["items"]) == record["n_vertices"] + sum(classes["slots"]) - sum(classes["heavy"])
    assert sum(classes["heavy"]) > 0  # hubs of more than 128 edges
    kinds = ("4", "8", "16", "many")
    for c, items in enumerate(classes["items"]):
        assert sum(classes[f"items_{kind}"][c] for kind in kinds) == items
        assert sum(classes[f"entries_{kind}"][c] for kind in kinds) == classes["entries"][c]
        assert classes["entries_4"][c] <= 4 * classes["items_4"][c]
        assert 4 * classes["items_8"][c] < classes["entries_8"][c] + (classes["items_8"][c] == 0)
    assert all(4 * p >= e for p, e in zip(classes["passes"], classes["entries"], strict=True))


def test_a_solve_is_counted_after_its_exact_reduction() -> None:
    graph = make_graphs.random_sparse(3000, 5.0, seed=2)
    found = _solve_counts.count_solve(graph, threads=2, time_limit=4.0)
    assert found["n_vertices"] < found["whole_vertices"] == graph.n_vertices
    assert {"reduce", "prepare", "relax", "round", "polish"} <= found["seconds"].keys()
    assert {"mixing_sweeps", "project_signs", "cut_values", "anneal", "one_opt", "partition_crossover"} <= {
        r["operation"] for r in found["operations"]
    }
