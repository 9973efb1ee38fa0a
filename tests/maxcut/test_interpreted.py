"""Whole solves with the GPU's kernels, interpreted: the CPU engine's cuts, bounds that hold, and no reads in loops."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sdp
import sdp_kernels
from sdp.maxcut import _certificate_file, polish, relax
from sdp.maxcut.derandomize import derandomize
from sdp.maxcut.graph import Graph
from sdp.maxcut.io import write_graph
from sdp.maxcut.polish import Crowd, Polisher
from sdp.maxcut.problem import Problem, prepare
from sdp.maxcut.result import MaxCutResult
from sdp.maxcut.solve import maxcut
from sdp.maxcut.verify import Checker
from tests.maxcut.random_graphs import graph_of, small_matrix
from tests.maxcut.sound import assert_sound
from tools.make_graphs import random_sparse


def star(leaves: int) -> Graph:
    """A centre with many leaves, some of them joined in triangles with it; a row longer than any chunk."""
    ends = [(0, leaf) for leaf in range(1, leaves + 1)] + [(leaf, leaf + 1) for leaf in range(1, 40, 4)]
    u, v = np.array(ends).T
    return Graph.from_edges(u, v, np.where(np.arange(len(u)) % 3 == 0, -2.0, 1.0))


GRAPHS = {
    "signed": random_sparse(20, 3.0, "signs", 1),
    "components": graph_of(small_matrix(15, "components", "integers", 2)),
    "star": star(150),
}


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep takes a tenth of a second here: few of them, for both engines alike."""
    monkeypatch.setattr(polish, "FIRST_SWEEPS", (3, 3))
    monkeypatch.setattr(polish, "LENGTHS", {"small": (2, 2, 3)})
    monkeypatch.setattr(relax, "FIRST_ROUND", 4)
    monkeypatch.setattr(relax, "SHORTEST_ROUND", 3)
    monkeypatch.setattr(relax, "MOST_ROUNDS", 1)


Solve = Callable[..., MaxCutResult]


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[MaxCutResult, MaxCutResult]]:
    """The results of the interpreter and of the CPU engine; what the interpreter's certificate proves is checked."""

    def solve(graph: Graph, method: str) -> tuple[MaxCutResult, MaxCutResult]:
        results = []
        for engine in ("interpret", "cpu"):
            monkeypatch.setenv("SDP_ENGINE", engine)
            result = maxcut(
                graph,
                time_limit=math.inf,
                max_rounds=2,
                method=method,
                reduce=False,
                seed=3,
                certificate=tmp_path / f"{engine}.json.gz",
            )
            assert (result.device, result.engine) == ("cpu", engine)
            assert_sound(result, graph)
            results.append(result)
        found = results[0]
        document = _certificate_file.load(tmp_path / "interpret.json.gz")
        cut, bound = Checker().check(graph, document)
        assert found.cut_value == cut <= bound
        assert float(bound) <= found.upper_bound + 1e-3 * graph.absolute_weight
        return found, results[1]

    return solve


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS.keys())
def test_annealing_takes_the_same_decisions(graph: Graph, both: Any) -> None:
    found, expected = both(graph, "anneal")
    assert (found.partition == expected.partition).all()
    assert [row[1:] for row in found.history] == [row[1:] for row in expected.history]


@pytest.mark.parametrize("graph", [GRAPHS["components"], GRAPHS["star"]], ids=["components", "star"])
def test_relaxations_and_bounds_are_the_same_to_rounding(graph: Graph, both: Any) -> None:
    found, expected = both(graph, "hyperplanes")
    assert found.bound_kind == expected.bound_kind == "dense"
    assert found.cut_value == expected.cut_value
    assert found.relaxation_value == pytest.approx(expected.relaxation_value, rel=1e-4)
    assert abs(found.upper_bound - expected.upper_bound) <= 1  # rounded down to whole cuts


def test_the_chebyshev_certificate(both: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relax, "DENSE_VERTICES", 4)
    found, expected = both(GRAPHS["signed"], "hyperplanes")
    assert found.bound_kind == expected.bound_kind == "chebyshev"
    assert found.cut_value == expected.cut_value
    assert abs(found.upper_bound - expected.upper_bound) <= 1


def test_every_stage_together(both: Any) -> None:
    found, expected = both(GRAPHS["signed"], "auto")
    assert found.cut_value == expected.cut_value
    assert found.upper_bound == expected.upper_bound


def test_a_derandomisation(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = prepare(GRAPHS["signed"])
    V = relax.relax(problem, seed=1).V
    expected = derandomize(problem.csr, V, "conditional", seed=1)
    monkeypatch.setenv("SDP_ENGINE", "interpret")
    found = derandomize(problem.csr, V, "conditional", seed=1)
    assert found.cut_value == expected.cut_value
    assert found.expected_value_before == pytest.approx(expected.expected_value_before, rel=1e-5)
    assert found.smooth_values == pytest.approx(expected.smooth_values, rel=1e-3)


def interpreted(sdp_command: list[str], graph: Graph, folder: Path, *options: str) -> dict[str, Any]:
    """What `sdp maxcut --json` says in a process of its own whose kernels are interpreted."""
    write_graph(graph, folder / "graph.txt")
    done = subprocess.run(
        [*sdp_command, "maxcut", folder / "graph.txt", "--json", *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "SDP_ENGINE": "interpret"},
    )
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def test_the_command(tmp_path: Path, sdp_command: list[str]) -> None:
    graph = random_sparse(30, 4.0, "normal", 5)
    options = ("--no-reduce", "--time-limit", "3", "--method", "anneal")
    record = interpreted(sdp_command, graph, tmp_path, *options)
    assert (record["device"], record["engine"]) == ("cpu", "interpret")
    assert record["status"] == "time limit"
    assert record["cut_value"] > 0


def test_a_whole_solve_of_200_vertices_ends_within_two_minutes(
    tmp_path: Path, sdp_command: list[str]
) -> None:
    """Every stage by the command as users have it, relaxation, bound, hyperplanes and polish."""
    graph = random_sparse(200, 8.0, "ones", 1)
    options = (
        "--time-limit",
        "12",
        "--bound-share",
        "0.2",
    )  # time left for the polish on a busy machine, too
    record = interpreted(sdp_command, graph, tmp_path, *options)
    assert record["engine"] == "interpret"
    assert {"relax", "round", "polish"} <= record["timings"].keys()
    assert record["bound_kind"] not in ("sum of positive weights", "none")
    # A random cut has half of the edges, and the relaxation's bound is within a tenth of the best.
    assert record["cut_value"] > 0.6 * graph.n_edges
    assert record["cut_value"] <= record["upper_bound"] < 1.15 * record["cut_value"]


READS = ("item", "cpu", "numpy", "tolist", "__float__", "__int__", "__bool__")
OURS = tuple(str(Path(str(package.__file__)).parent) for package in (sdp, sdp_kernels))


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """What this project's own code reads of tensors from the host, by file and method."""
    reads: Counter[str] = Counter()

    def spy(name: str) -> Callable[..., Any]:
        original = getattr(torch.Tensor, name)

        def read(tensor: torch.Tensor, *args: Any, **keywords: Any) -> Any:
            caller = sys._getframe(1).f_code.co_filename
            if caller.startswith(OURS):
                reads[f"{Path(caller).name} {name}"] += 1
            return original(tensor, *args, **keywords)

        return read

    with pytest.MonkeyPatch.context() as patch:
        for name in READS:
            patch.setattr(torch.Tensor, name, spy(name))
        yield reads


class TestReadsFromTheHost:
    """As many in a long loop as in a short one with as many looks at the clock."""

    PROBLEM = prepare(GRAPHS["signed"])

    @pytest.fixture(autouse=True)
    def _interpret(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SDP_ENGINE", "interpret")

    def sweeps(self, count: int, batch: int, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
        monkeypatch.setattr(relax, "between_looks", lambda device, entries, most: batch)
        V = relax.random_rows(self.PROBLEM.n_vertices, 4, 1)
        run = relax._Run(self.PROBLEM, math.inf, 0, 0.5, None, lambda: False)
        run.sweep(V, 1)  # plans and whatever else is made once
        with counted() as reads:
            run.sweep(V, count)
        return reads

    def test_in_sweeps(self, monkeypatch: pytest.MonkeyPatch) -> None:
        short, long = (self.sweeps(2 * batch, batch, monkeypatch) for batch in (1, 3))
        assert short == long
        assert sum(short.values()) < 20

    @pytest.mark.parametrize("packed", [False, True])
    def test_in_anneals(self, packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        problem, found = self.PROBLEM, []
        for a_slice in (1, 3):
            polisher = Polisher(
                problem, seed=1, should_stop=lambda: False, improved=lambda signs: None, crowd=Crowd(1, 32)
            )
            polisher._is_packed = packed
            polisher._slice = a_slice * problem.n_vertices * 32
            signs = polisher._random_signs()
            temperatures = torch.linspace(2.0, 0.2, 2 * a_slice)[None]
            work = self.work(polisher, problem, signs, packed)
            work(temperatures[:, :1])
            with counted() as reads:
                work(temperatures)
            found.append(reads)
        assert found[0] == found[1]

    def work(
        self, polisher: Polisher, problem: Problem, signs: torch.Tensor, packed: bool
    ) -> Callable[[torch.Tensor], object]:
        if packed:
            return lambda temperatures: polisher._anneal_words(signs, temperatures)
        gained = polish.gains(problem.csr, signs)
        return lambda temperatures: polisher._anneal_signs(
            signs, gained, temperatures.repeat_interleave(len(signs), 0)
        )
