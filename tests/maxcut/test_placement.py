"""Where a solve computes: what is asked for, what there is room for, and what a device does otherwise than the CPU."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from sdp.maxcut import bound as bounds
from sdp.maxcut import placement, rehearse, relax, solve
from sdp.maxcut.bound import chebyshev_bound
from sdp.maxcut.placement import Place, bytes_needed, choose, engine_on, no_room
from sdp.maxcut.polish import Crowd, Polisher, default_crowd
from sdp.maxcut.problem import Problem, prepare
from sdp.maxcut.solve import maxcut
from sdp.optim.chebyshev import Growth
from sdp_kernels.graph import fields
from tests.maxcut.random_graphs import SHAPES, graph_of, small_matrix
from tests.maxcut.sound import LARGE, MIDDLE, assert_sound, quick
from tests.reference import graph as oracle

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
NO_GPU = "no CUDA device: torch finds none on this machine."


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that can be seen, and whose memory can be asked for, but on which nothing can be computed."""
    monkeypatch.delenv("SDP_ENGINE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        placement, "engine_for", lambda device, family=None: {"cpu": "cpu", "cuda": "triton"}[device]
    )
    monkeypatch.setattr(placement, "free_bytes", lambda device: 10**9)


class TestChoice:
    @pytest.mark.usefixtures("no_gpu")
    @pytest.mark.parametrize("device", ["auto", "cpu"])
    def test_without_a_gpu(self, device: str) -> None:
        result = quick(MIDDLE, device=device, method="anneal")
        assert (result.device, result.engine) == ("cpu", "cpu")
        assert not any(note.startswith("solved on") for note in result.notes)
        record = result.to_dict()
        assert (record["device"], record["engine"]) == ("cpu", "cpu")

    @pytest.mark.usefixtures("no_gpu")
    def test_cuda_without_a_gpu(self) -> None:
        with pytest.raises(ValueError, match="cuda") as caught:
            maxcut(MIDDLE, device="cuda")
        assert str(caught.value) == f"`device` cuda cannot be used: {NO_GPU}"

    @pytest.mark.usefixtures("gpu")
    def test_with_a_gpu(self) -> None:
        assert choose("auto", "auto") == Place(CUDA, "triton")
        assert choose("cuda", "sosp") == Place(CUDA, "triton", is_choice=True)
        assert choose("cpu", "auto") == Place(CPU, "cpu", is_choice=True)

    @pytest.mark.usefixtures("gpu")
    def test_an_engine_without_an_operation(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def engine_for(device: str, family: str | None = None) -> str:
            if device == "cuda" and family == "probit_cut":
                raise ValueError("the triton engine has no `probit_cut` yet; move the tensors to the CPU.")
            return {"cpu": "cpu", "cuda": "triton"}[device]

        monkeypatch.setattr(placement, "engine_for", engine_for)
        assert choose("auto", "auto").engine == "triton"
        place = choose("auto", "sosp")
        assert (place.device, place.engine) == (CPU, "cpu")
        assert place.notes == (
            "solved on the CPU: the triton engine has no `probit_cut` yet; move the tensors to the CPU.",
        )
        with pytest.raises(ValueError, match="has no `probit_cut` yet"):
            choose("cuda", "sosp")
        assert place.notes[0] in quick(MIDDLE, method="sosp").notes

    @pytest.mark.usefixtures("gpu")
    def test_a_gpu_that_runs_no_kernel(self, monkeypatch: pytest.MonkeyPatch) -> None:
        original = rehearse.rehearse

        def fails_on_a_gpu(method: str, device: torch.device, *more: Any) -> float:
            if device.type == "cuda":
                raise RuntimeError("no kernel image for this device\nsecond line")
            return original(method, device, *more)

        monkeypatch.setattr(solve, "rehearse", fails_on_a_gpu)
        result = quick(MIDDLE, device="auto", method="anneal")
        assert result.device == "cpu"
        note = "solved on the CPU: kernels do not run on the GPU (no kernel image for this device)"
        assert note in result.notes
        with pytest.raises(RuntimeError, match="no kernel image"):
            quick(MIDDLE, device="cuda", method="anneal")

    @pytest.mark.usefixtures("gpu")
    def test_an_environment_that_asks_for_the_cpu_engine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(placement, "engine_for", lambda device, family=None: "cpu")
        with pytest.raises(ValueError, match="SDP_ENGINE asks for the cpu engine"):
            engine_on("cuda")
        assert choose("auto", "auto").device == CPU


class TestRoom:
    def test_more_of_anything_needs_more(self) -> None:
        base = bytes_needed(10**6, 10**7, 16, "auto")
        assert base < bytes_needed(2 * 10**6, 10**7, 16, "auto")
        assert base < bytes_needed(10**6, 2 * 10**7, 16, "auto")
        assert bytes_needed(10**6, 10**7, 64, "auto") < bytes_needed(10**6, 10**7, 64, "sosp")
        assert bytes_needed(10**6, 10**9, 16, "anneal") < bytes_needed(10**6, 10**9, 16, "auto")

    def test_annealing_alone_lists_the_edges(self) -> None:
        more = bytes_needed(10**6, 10**9, 16, "anneal") - bytes_needed(10**6, 10**8, 16, "anneal")
        assert more >= 9 * 10**8 * (8 + 15)

    def test_a_thousand_million_entries_fit_on_80_gb(self) -> None:
        assert bytes_needed(2 * 10**7, 10**9, 16, "auto") < 0.9 * 80e9

    @pytest.mark.usefixtures("gpu")
    def test_sentences(self) -> None:
        assert no_room(10**9, 2**40, 64, "auto", CPU) is None
        assert no_room(10**5, 10**6, 16, "auto", CUDA) is None
        reason = no_room(10**7, 10**8, 16, "auto", CUDA)
        needed = bytes_needed(10**7, 10**8, 16, "auto") / 1e9
        assert reason == f"the graph needs about {needed:.1f} GB of its memory, of which 0.9 GB are free."
        assert no_room(10, 2**31, 4, "auto", CUDA) == (
            "the graph has 2,147,483,648 edge entries (two an edge), a device takes 2,147,483,647 at most."
        )

    @pytest.mark.usefixtures("gpu")
    def test_a_graph_too_big(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(placement, "free_bytes", lambda device: 1000)
        monkeypatch.setattr(solve, "rehearse", lambda *arguments: 0.0)
        with pytest.raises(ValueError, match="cannot be used") as caught:
            maxcut(MIDDLE, device="cuda", method="anneal", time_limit=30)
        reason = str(caught.value).removeprefix("`device` cuda cannot be used: ")
        assert reason.startswith("the graph needs about 0.0 GB")
        result = quick(MIDDLE, method="anneal")
        assert (result.device, result.engine) == ("cpu", "cpu")
        assert f"solved on the CPU: {reason}" in result.notes
        assert_sound(result, MIDDLE)


def test_kernels_are_rehearsed_with_long_seeds_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device compiles them once for numbers of 32 bits and once for longer ones, which come up in a solve."""
    assert rehearse.seeds(CPU) == (0,)
    wanted = rehearse.seeds(CUDA)
    assert min(wanted) < 2**31 < max(wanted)
    used: dict[str, list[int]] = {}

    def spy(name: str, seed_of: Callable[..., int]) -> None:
        original = getattr(rehearse, name)

        def noted(*args: Any, **named: Any) -> Any:
            used.setdefault(name, []).append(seed_of(*args, **named))
            return original(*args, **named)

        monkeypatch.setattr(rehearse, name, noted)

    spy("chebyshev_bound", lambda *args, seed, **named: seed)
    spy("random_rows", lambda n, rank, seed, device: seed)
    spy("Polisher", lambda *args, seed, **named: seed)
    monkeypatch.setattr(rehearse, "seeds", lambda device: wanted)
    rehearse._stages.__wrapped__(CPU)
    assert used == {name: list(wanted) for name in ("random_rows", "chebyshev_bound", "Polisher")}


def test_a_problem_moves_what_is_computed_with() -> None:
    problem = prepare(MIDDLE)
    assert problem.to(CPU) is problem
    moved = problem.to(torch.device("meta"))  # torch's device without memory
    assert {tensor.device.type for tensor in (*moved.csr, moved.degrees)} == {"meta"}
    assert moved.device.type == "meta"
    assert moved.class_ptr is problem.class_ptr
    assert moved.graph is problem.graph


@pytest.fixture
def several_steps_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is looked at as on a device."""
    for module in (bounds, relax):
        monkeypatch.setattr(module, "between_looks", lambda device, entries, most: most)


@pytest.mark.usefixtures("several_steps_a_look")
def test_sweeps_between_looks_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = prepare(LARGE)
    late = relax.relax(problem, seed=3)
    monkeypatch.undo()
    early = relax.relax(problem, seed=3)
    assert torch.equal(late.V, early.V)
    assert (late.value, late.sweeps) == (early.value, early.sweeps)
    assert late.bound is not None
    assert early.bound is not None
    # Its last steps are made before it is seen that they were not needed; they can only lower it.
    assert early.bound.steps <= late.bound.steps < early.bound.steps + bounds.STEPS_A_LOOK
    assert early.bound.value - 5 < late.bound.value <= early.bound.value


class TestCertificateBetweenLooks:
    """The Chebyshev steps whose norms are read a few at a time."""

    PROBLEM = prepare(LARGE)
    H = fields(PROBLEM.csr, relax.relax(PROBLEM, seed=1, target_gap=1e-2).V)[0]

    def proved(self, h: torch.Tensor, **keywords: Any) -> tuple[bounds.Bound, torch.Tensor]:
        return chebyshev_bound(self.PROBLEM, h, **{"steps": 60, "delta": 1e-6, "seed": 9, **keywords})

    @pytest.mark.parametrize("steps", [1, 2, 3, 9, 10, 60])
    def test_the_same_steps_prove_the_same(self, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
        bound, block = self.proved(self.H, steps=steps)
        monkeypatch.setattr(bounds, "between_looks", lambda device, entries, most: most)
        late, late_block = self.proved(self.H, steps=steps)
        assert (late.value, late.steps) == (bound.value, bound.steps)
        assert torch.equal(late_block, block)

    @pytest.mark.usefixtures("several_steps_a_look")
    def test_it_stops_at_a_look(self) -> None:
        seen: list[float] = []

        def stop(value: float) -> bool:
            seen.append(value)
            return len(seen) == 2

        bound, _ = self.proved(self.H, should_stop=stop)
        assert bound.steps == 1 + 2 * bounds.STEPS_A_LOOK
        assert bound.value == seen[-1] <= seen[0]

    @pytest.mark.usefixtures("several_steps_a_look")
    def test_an_overflow_between_looks_proves_nothing(self) -> None:
        # Eigenvalues of -1e40 multiply a block by 1e40 a step; after eight, 1e320 is infinite and then NaN.
        bound, block = self.proved(self.H - 1e40, steps=20)
        assert not torch.isfinite(block).all()
        assert bound.value > LARGE.total_weight

    def test_norms_that_are_no_numbers(self) -> None:
        for norm in (math.inf, math.nan):
            growth = Growth(2.0, 0.5, 1e-16, 1.0)
            before = growth.after(10, 50.0)
            assert growth.after(11, norm) == before
            assert growth.after(12, 0.6) == before


class TestCrowds:
    """Many partitions that share temperatures in groups, as on a device."""

    def polished(self, problem: Problem, crowd: Crowd, rounds: int = 4, **keywords: Any) -> Polisher:
        polisher = Polisher(
            problem,
            crowd=crowd,
            **{
                "seed": 1,
                "should_stop": lambda: False,
                "improved": lambda signs: None,
                "time_limit": 1e-3,
                **keywords,
            },
        )
        polisher.run((), rounds)
        return polisher

    @pytest.mark.parametrize("weights", ["ones", "signs", "integers", "normal"])
    @pytest.mark.parametrize("shape", SHAPES)
    def test_small_graphs_reach_their_best_cut(self, shape: str, weights: str) -> None:
        W = small_matrix(13, shape, weights, 4)
        problem = prepare(graph_of(W))
        polisher = self.polished(problem, Crowd(2, 32))
        assert polisher.best is not None
        slack = 0.0 if problem.is_exact else 1e-4 * np.abs(W).max()
        assert oracle.best_cut(W) - slack <= problem.cut_value(polisher.best)

    @pytest.mark.parametrize(
        "crowd", [Crowd(8, 1), Crowd(1, 32), Crowd(3, 32), Crowd(2, 64), Crowd(3, 5)], ids=str
    )
    @pytest.mark.parametrize("weights", ["ones", "integers"])
    def test_any_crowd_finds_good_cuts(self, crowd: Crowd, weights: str) -> None:
        W = small_matrix(60, "random", weights, 3)
        problem = prepare(graph_of(W))
        best = self.polished(problem, Crowd(8, 1), rounds=40).best
        polisher = self.polished(problem, crowd, rounds=6)
        assert best is not None
        assert polisher.best is not None
        assert problem.cut_value(polisher.best) >= 0.98 * problem.cut_value(best)
        again = self.polished(problem, crowd, rounds=6)
        assert again.best is not None
        assert torch.equal(again.best, polisher.best)

    def test_the_value_is_that_of_the_partition(self) -> None:
        problem = prepare(MIDDLE)
        values: list[float] = []
        polisher = self.polished(
            problem, Crowd(2, 32), improved=lambda signs: values.append(problem.cut_value(signs)), rounds=10
        )
        assert polisher._best_value / problem.scale == values[-1]
        assert (np.diff(values) > 0).all()

    def test_the_cpu_keeps_its_eight(self) -> None:
        assert default_crowd(prepare(MIDDLE)) == Crowd(8, 1)

    def test_a_device_has_as_many_as_its_memory_holds(self) -> None:
        moved = prepare(MIDDLE).to(torch.device("meta"))
        assert default_crowd(moved) == Crowd(placement.WORDS, 32)
        sizes = [placement.words(n) for n in (1, 10**6, 10**7, 10**9)]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[-1] == 1
