"""The seeded families: the same graph from the same seed, and the properties that name each family."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import networkx
import numpy as np
import pytest

from sdp.maxcut.graph import Graph
from sdp.maxcut.io import read_graph
from tools import make_graphs

ROOT = Path(make_graphs.__file__).parent.parent

FAMILIES: dict[str, Callable[[int], Graph]] = {
    "random": lambda seed: make_graphs.random_sparse(400, 6, "signs", seed),
    "random, dense": lambda seed: make_graphs.random_sparse(60, 50, "ones", seed),
    "torus": lambda seed: make_graphs.torus(9, 7, "signs", seed),
    "rmat": lambda seed: make_graphs.rmat(9, 8, "ones", seed),
    "attachment": lambda seed: make_graphs.preferential_attachment(500, 3, "signs", seed),
    "planted": lambda seed: make_graphs.planted_cut(400, 12, 0.9, seed),
    "triangulation": lambda seed: make_graphs.triangulation(300, "signs", seed),
}


def is_simple(graph: Graph) -> bool:
    return not graph.notes  # no loop dropped, nothing summed


@pytest.mark.parametrize("family", FAMILIES)
def test_a_seed_is_a_graph(family: str) -> None:
    make = FAMILIES[family]
    graph = make(5)
    assert make(5).fingerprint() == graph.fingerprint()
    assert make(6).fingerprint() != graph.fingerprint()
    assert graph.name.endswith("-seed5")
    assert is_simple(graph)
    assert set(np.abs(graph.weights).tolist()) == {1.0}


@pytest.mark.parametrize(("n", "degree"), [(1000, 5.0), (1000, 0), (2, 1), (10, 9), (101, 60), (1, 0)])
def test_random_graphs_have_the_edges_asked_for(n: int, degree: float) -> None:
    graph = make_graphs.random_sparse(n, degree, seed=1)
    assert (graph.n_vertices, graph.n_edges) == (n, round(n * degree / 2))
    assert is_simple(graph)


def test_every_pair_is_as_likely() -> None:
    counts = np.zeros((8, 8))
    for seed in range(2000):
        u, v, _ = make_graphs.random_sparse(8, 1.5, seed=seed).edges()
        counts[u, v] += 1
    # 6 of 28 pairs, 2000 times: mean 428.6, standard deviation 18.4; 28 pairs stay within 4.5 of them with
    # probability 1 - 2e-4. The seeds are fixed.
    drawn = counts[np.triu_indices(8, 1)]
    assert drawn.sum() == 6 * 2000
    assert np.abs(drawn - 6 * 2000 / 28).max() < 4.5 * 18.4


def test_pairs_are_numbered_without_gaps_up_to_the_largest_graphs() -> None:
    u, v = make_graphs._pair(np.arange(45))
    assert sorted(zip(u.tolist(), v.tolist(), strict=True)) == [
        (i, j) for i in range(10) for j in range(i + 1, 10)
    ]
    n = 2**31 - 1
    ends = np.array([n * (n - 1) // 2 - 1, (n - 1) * (n - 2) // 2, (n - 1) * (n - 2) // 2 - 1])
    u, v = make_graphs._pair(ends)
    assert list(zip(u.tolist(), v.tolist(), strict=True)) == [(n - 2, n - 1), (0, n - 1), (n - 3, n - 2)]


@pytest.mark.parametrize("weights", ["signs", "ones"])
def test_a_torus_is_a_torus(weights: make_graphs.Weights) -> None:
    graph = make_graphs.torus(5, 8, weights, seed=2)
    assert (graph.n_vertices, graph.n_edges) == (40, 80)
    assert np.diff(graph.indptr).tolist() == [4] * 40
    assert graph.indices[:4].tolist() == [1, 7, 8, 32]  # vertex (0, 0): right, left, lower, upper
    assert set(graph.weights.tolist()) == ({-1.0, 1.0} if weights == "signs" else {1.0})


def test_a_triangulation_is_planar() -> None:
    graph = make_graphs.triangulation(500, "normal", seed=4)
    u, v, w = graph.edges()
    planar, _ = networkx.check_planarity(networkx.Graph(zip(u.tolist(), v.tolist(), strict=True)))
    assert planar
    assert 2.9 * 500 < graph.n_edges < 3 * 500 - 3
    assert abs(w.mean()) < 0.1  # of 1,485 standard normal numbers
    assert 0.9 < w.std() < 1.1


def test_rmat_has_hubs() -> None:
    graph = make_graphs.rmat(12, 8, seed=3)
    degrees = np.diff(graph.indptr)
    assert graph.n_vertices == 4096
    assert 0.8 * 8 * 4096 < graph.n_edges <= 8 * 4096
    assert degrees.max() > 10 * degrees.mean()
    assert (degrees == 0).any()


def test_preferential_attachment_grows_hubs_on_every_vertex() -> None:
    graph = make_graphs.preferential_attachment(20_000, 4, seed=4)
    degrees = np.diff(graph.indptr)
    assert 0.98 * 80_000 < graph.n_edges <= 80_000
    assert degrees.max() > 40 * degrees.mean()
    assert np.median(degrees[:100]) > 5 * np.median(degrees[-10_000:])  # early vertices collect edges
    # The tail P(degree >= d) falls like d^-2: from 16 to 64 by 16, here within a factor of 2.
    assert 8 < (degrees >= 16).sum() / (degrees >= 64).sum() < 32


def test_the_planted_cut_is_there() -> None:
    graph = make_graphs.planted_cut(2000, 20, across=0.9, seed=5)
    sides = make_graphs.planted_sides(2000, seed=5)
    assert sides.sum() == 1000
    # 20,000 edges: standard deviation .0021 of the share across.
    assert abs(graph.cut_value(sides) / graph.n_edges - 0.9) < 4.5 * 0.0021
    assert make_graphs.planted_cut(100, 4, across=1, seed=0).cut_value(
        make_graphs.planted_sides(100, 0)
    ) == pytest.approx(make_graphs.planted_cut(100, 4, across=1, seed=0).n_edges, abs=0)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: make_graphs.random_sparse(5, 5),
            r"^average_degree must lie in \[0, n - 1\] = \[0, 4\]; got 5\.$",
        ),
        (lambda: make_graphs.torus(2, 9), r"^both sides of a torus must be at least 3; got 2 x 9\.$"),
        (
            lambda: make_graphs.torus(3, 3, "twos"),
            r"^weights must be \"ones\", \"signs\" or \"normal\"; got 'twos'\.$",
        ),
        (lambda: make_graphs.rmat(31, 1), r"^scale must lie in \[1, 30\]; got 31\.$"),
        (lambda: make_graphs.preferential_attachment(5, 0), r"degree at least 1; got 5 and 0\.$"),
        (lambda: make_graphs.triangulation(2), r"^n must be at least 3; got 2\.$"),
        (lambda: make_graphs.planted_cut(5, 2), r"^n must be even and at least 4; got 5\.$"),
        (lambda: make_graphs.planted_cut(6, 2, 1.5), r"^across must lie in \[0, 1\]; got 1\.5\.$"),
    ],
    ids=["degree", "side", "weights", "scale", "attachment", "points", "odd", "across"],
)
def test_bad_arguments_are_one_sentence(make: Callable[[], Graph], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()


def test_the_command_writes_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "torus.txt.gz"
    make_graphs.main(["torus", "--rows", "5", "--cols", "6", "--seed", "9", "--out", str(path)])
    assert read_graph(path).fingerprint() == make_graphs.torus(5, 6, seed=9).fingerprint()
    assert "30 vertices, 60 edges" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        make_graphs.main(["torus", "--rows", "1", "--cols", "6", "--out", str(path)])
    assert "both sides of a torus must be at least 3; got 1 x 6." in capsys.readouterr().err


def test_the_command_runs_from_the_shell(tmp_path: Path) -> None:
    path = tmp_path / "planted.txt"
    command = [
        sys.executable,
        "-m",
        "tools.make_graphs",
        "planted",
        "--n",
        "20",
        "--average-degree",
        "4",
        "--out",
        str(path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert read_graph(path).n_vertices == 20
