"""What the benchmark of derandomisers says about its records, and one small run of it."""

from __future__ import annotations

from pathlib import Path

from benchmarks import derandomizers_against_hyperplanes as benchmark
from benchmarks._records import Record, Results
from tools import make_graphs


def record(method: str, cut: float, seed: int = 0) -> Record:
    about = {"graph": "A", "n_edges": 10, "absolute_weight": 10.0, "relaxation_value": 9.0, "best_known": 8.0}
    planes = {"mean": 6.5} if method == benchmark.PLANES else {}
    return (
        about | {"method": method, "seed": seed, "cut_value": cut, "seconds": 0.5, "n_planes": 100} | planes
    )


RECORDS = [
    record(benchmark.PLANES, 7.0),
    record("sosp", 8.0),
    record("sosp", 7.0, seed=1),
    record("homotopy", 7.5),
    record("conditional", 6.0),
]


def test_table_order_and_claims() -> None:
    row = benchmark.table(RECORDS).splitlines()[-1]
    assert row == "| A (10) | 9 | 6.5 | 7 (0.5 s) | 7.5 (0.5 s) | 7.5 (0.5 s) | 6 (0.5 s) | 8 |"
    names = [line.split(":")[0] for line in benchmark.order(RECORDS).splitlines()]
    assert names == ["- sosp", "- homotopy", "- conditional"]
    (sentence,) = benchmark.broken_claims(RECORDS)
    assert sentence == "A, conditional, seed 0: 6 is below the mean hyperplane 6.5."
    assert benchmark.order([]) == "No graph has all methods yet."


def test_small_run(tmp_path: Path) -> None:
    graph = make_graphs.random_sparse(200, 6.0, seed=0)
    results = Results(benchmark.QUESTION, benchmark.KEY, tmp_path, "here")
    benchmark.measure("small", graph, results, n_planes=100, seeds=2, threads=2)
    found = results.records()
    assert [(r["method"], r["seed"]) for r in found] == [
        *((method, 0) for method in benchmark.METHODS),
        *((method, 1) for method in benchmark.METHODS if method != "conditional"),
    ]
    assert benchmark.broken_claims(found) == []
    assert all(r["cut_value"] <= r["relaxation_value"] * 1.01 for r in found)
    benchmark.measure("small", graph, results, n_planes=100, seeds=2, threads=2)
    assert results.records() == found  # nothing is measured again
