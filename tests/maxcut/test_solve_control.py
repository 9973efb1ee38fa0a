"""`maxcut` while it runs: callbacks, targets, clocks, signals and threads."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import pytest
import torch

from sdp.maxcut import solve as module
from sdp.maxcut.graph import Graph
from sdp.maxcut.result import MaxCutResult, Progress, relative_gap
from sdp.maxcut.solve import maxcut
from tests.maxcut.sound import LARGE, MIDDLE, assert_sound, quick
from tools.make_graphs import random_sparse


@pytest.fixture(autouse=True, scope="module")
def _loaded() -> None:
    """Loading the kernels belongs to no test's clock."""
    maxcut(random_sparse(30, 5.0, "signs", 0), time_limit=0.1)


@pytest.fixture(autouse=True)
def _settings_are_put_back() -> Iterator[None]:
    before = numba.get_num_threads(), torch.get_num_threads(), signal.getsignal(signal.SIGINT)
    yield
    assert (numba.get_num_threads(), torch.get_num_threads(), signal.getsignal(signal.SIGINT)) == before


class TestCallback:
    def test_hears_what_happens(self) -> None:
        seen: list[Progress] = []
        result = quick(LARGE, callback=seen.append)
        assert len(seen) >= 5
        assert {progress.stage for progress in seen} >= {"relax", "polish"}
        for earlier, later in itertools.pairwise(seen):
            assert earlier.elapsed <= later.elapsed
            assert earlier.cut_value <= later.cut_value
            assert earlier.upper_bound >= later.upper_bound
        assert seen[-1].cut_value <= result.cut_value
        assert seen[-1].gap == relative_gap(seen[-1].cut_value, seen[-1].upper_bound)

    @pytest.mark.parametrize("stage", ["prepare", "relax", "polish"])
    def test_true_stops(self, stage: str) -> None:
        result = maxcut(LARGE, time_limit=30, callback=lambda progress: progress.stage == stage)
        assert result.status == "interrupted"
        assert result.timings["total"] < 10
        assert_sound(result, LARGE)

    def test_false_and_none_do_not(self) -> None:
        for answer in (False, None, 0):
            assert quick(MIDDLE, callback=lambda _, answer=answer: answer).status == "rounds done"

    def test_its_errors_come_out(self) -> None:
        def fail(progress: Progress) -> bool:
            raise RuntimeError("mine")

        with pytest.raises(RuntimeError, match=r"^mine$"):
            maxcut(MIDDLE, callback=fail)


NEAR = 255.0  # the best cut known of MIDDLE is 265


class TestTargets:
    def test_gap(self) -> None:
        result = maxcut(MIDDLE, time_limit=60, target_gap=0.2)
        assert result.status == "target reached"
        assert 0 < result.gap <= 0.2
        assert_sound(result, MIDDLE)

    def test_cut(self) -> None:
        result = maxcut(MIDDLE, time_limit=60, target_cut=NEAR)
        assert result.status == "target reached"
        assert result.cut_value >= NEAR
        assert_sound(result, MIDDLE)

    def test_either_makes_an_infinite_time_limit_finite(self) -> None:
        assert maxcut(MIDDLE, time_limit=math.inf, target_cut=NEAR).status == "target reached"
        assert maxcut(MIDDLE, time_limit=math.inf, target_gap=0.2).status == "target reached"

    def test_a_target_out_of_reach(self) -> None:
        result = maxcut(MIDDLE, time_limit=0.5, target_gap=0.0, target_cut=1e9)
        assert result.status == "time limit"
        assert quick(MIDDLE, target_cut=1e9).status == "rounds done"

    def test_the_best_cut_is_better_than_a_target(self) -> None:
        assert maxcut(Graph.from_edges([0], [1]), target_cut=0.5).status == "optimal"


@pytest.mark.parametrize("limit", [1e-9, 0.05, 0.6])
@pytest.mark.parametrize("method", ["auto", "anneal", "sosp"])
def test_time_limits_are_kept(method: str, limit: float) -> None:
    graph = random_sparse(8000, 8.0, "signs", 1)
    begin = time.perf_counter()
    result = maxcut(graph, time_limit=limit, method=method)
    # Room for one sweep, one product or one slice, and for others on the machine.
    assert time.perf_counter() - begin < limit + 2.0
    assert result.status == "time limit"
    assert_sound(result, graph)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_gives_back_the_best_so_far(number: signal.Signals, tmp_path: Path) -> None:
    begun = threading.Event()

    def kill() -> None:
        begun.wait()
        os.kill(os.getpid(), number)

    killer = threading.Thread(target=kill)
    killer.start()
    result = maxcut(
        LARGE,
        time_limit=60,
        callback=lambda progress: begun.set() if progress.stage == "polish" else None,
        checkpoint=tmp_path / "state",
    )
    killer.join()
    assert result.status == "interrupted"
    assert result.timings["total"] < 30
    assert math.isfinite(result.upper_bound)
    assert_sound(result, LARGE)
    again = quick(LARGE, checkpoint=tmp_path / "state", max_rounds=0)
    assert again.cut_value == result.cut_value
    assert again.upper_bound == result.upper_bound


def test_a_second_signal_acts_as_always() -> None:
    def twice(progress: Progress) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    # A shell's background jobs are born deaf to SIGINT: what "always" means is set here.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGINT, before)
        stack.enter_context(pytest.raises(KeyboardInterrupt))
        maxcut(LARGE, time_limit=60, callback=twice)


def test_it_runs_in_a_thread() -> None:
    results: list[MaxCutResult] = []
    worker = threading.Thread(target=lambda: results.append(quick(MIDDLE)))
    worker.start()
    worker.join()
    assert (results[0].partition == quick(MIDDLE).partition).all()


@pytest.mark.parametrize(
    ("share", "method", "limit"),
    [
        (None, "auto", 10.0),
        (None, "sosp", 10.0),
        (0.9, "auto", 18.0),
        (0.9, "sosp", 18.0),
        (0.1, "auto", 2.0),
    ],
)
def test_the_relaxation_has_its_share(
    share: float | None, method: str, limit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []
    relax = module.relax

    def spy(*args: Any, **keywords: Any) -> Any:
        given.append(keywords["time_limit"])
        return relax(*args, **keywords)

    monkeypatch.setattr(module, "relax", spy)
    maxcut(LARGE, time_limit=20, bound_share=share, method=method, max_rounds=0)
    assert limit - 1.5 < given[0] <= limit  # the cycles' time is their own
