"""The gap benchmark: its clock, its ratios, and that rows in vertex order are certified as such."""

import time

import pytest
import torch

from benchmarks import _families, _ours
from benchmarks import maxcut_time_to_certified_gap as gaps
from benchmarks.baselines import torch_relaxation


def test_the_clock_stands_still_while_a_bound_is_made() -> None:
    def slow_bound(v: torch.Tensor, target_gap: float) -> float:
        time.sleep(0.2)
        return 10.0

    watch = gaps.GapWatch(slow_bound, scale=10.0, target_gap=0.1, time_limit=5.0, least_value=5.0)
    watch.start()
    values = iter([1.0, 6.0, 7.0, 9.5])
    v = torch.ones(1, 1)
    while not watch(v, next(values)):
        time.sleep(0.03)
    assert watch.certified == 3  # 1.0 cannot pass, so nothing was spent on it
    assert watch.passing_value == 9.5
    assert watch.seconds_to_gap is not None
    assert 0.09 <= watch.seconds_to_gap < 0.2
    assert watch.certificate_seconds >= 0.2


def test_a_run_out_of_time_reports_no_time() -> None:
    watch = gaps.GapWatch(lambda v, gap: 10.0, scale=1.0, target_gap=0.1, time_limit=0.0, least_value=5.0)
    watch.start()
    assert watch(torch.ones(1, 1), 1.0)
    assert watch.seconds_to_gap is None


def test_ratios_pair_repeats_and_take_the_best_rival() -> None:
    runs: gaps.Runs = {
        "ours": {0: {"seconds": 1.0}, 1: {"seconds": 2.0}},
        "slow": {0: {"seconds": 9.0, "certificate_seconds": 0.0}},
        "fast": {
            0: {"seconds": 3.0, "certificate_seconds": 1.0},
            1: {"seconds": 4.0, "certificate_seconds": 2.0},
        },
        "never": {0: {"seconds": None, "certificate_seconds": 0.0}},
    }
    rivals = ["slow", "fast", "never"]
    free = gaps.Ratio("", rivals, "ours", rivals_pay=False).of(runs)
    paid = gaps.Ratio("", rivals, "ours", rivals_pay=True).of(runs)
    assert free is not None
    assert paid is not None
    assert (free.low, free.high) == (2.0, 3.0)
    assert (paid.low, paid.high) == (3.0, 4.0)
    assert gaps.Ratio("", ["never"], "ours", rivals_pay=False).of(runs) is None


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("n_edges", [2_000, 6_000], ids=["dense certificate", "Chebyshev certificate"])
def test_a_baseline_and_ours_reach_the_same_certified_gap(n_edges: int) -> None:
    graph = _families.make("torus", n_edges, seed=1)
    ours = _ours.Relaxer(graph, 16, threads=1)
    whole = ours.to_certified_gap(1e-3, 30.0, seed=0)
    assert whole["seconds"] is not None
    least = whole["value"] - 1e-3 * graph.absolute_weight
    for method in (gaps.OURS_LIKE, "torch Jacobi with momentum, tuned"):
        bound = ours.bound_in_problem_order if method == gaps.OURS_LIKE else ours.bound
        watch = gaps.GapWatch(bound, graph.absolute_weight, 1e-3, 30.0, least)
        start = torch_relaxation.start(graph.n_vertices, 16, seed=0)
        watch.start()
        if method == gaps.OURS_LIKE:
            ours.watched(start, watch)
        else:
            relaxation = torch_relaxation.Relaxation.of(graph)
            torch_relaxation.METHODS[method](relaxation, start, watch)
        assert watch.seconds_to_gap is not None, method
        # Weights are integers, and so is a bound on cuts; the relaxation's optimum may lie above it by less than 1.
        assert watch.best_bound > whole["value"] - 1, method
