"""The row plan: every entry in one item, tiles of like degree, classes apart; and the recorder of launches."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sdp_kernels.triton import _capture
from sdp_kernels.triton._capture import Captured
from sdp_kernels.triton._rows import CHUNK, GROUP, RowPlan, row_plan

DEGREES = {
    "no rows": [],
    "no entries": [0, 0, 0],
    "at the chunk": [CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1, 0, 1],
    "mixed": np.random.default_rng(0).geometric(0.05, 500).tolist(),
    "a star": [10_000, *[1] * 1000],
}
CASES = pytest.mark.parametrize("degrees", DEGREES.values(), ids=DEGREES.keys())


def indptr_of(degrees: list[int]) -> torch.Tensor:
    return torch.tensor([0, *np.cumsum(degrees).tolist()], dtype=torch.int64)


def classes_of(n: int) -> torch.Tensor:
    """Three classes, the second empty."""
    return torch.tensor([0, n // 3, n // 3, n])


def rows_of_items(plan: RowPlan) -> torch.Tensor:
    """Row of each item, parts by their slots."""
    of_slot = torch.repeat_interleave(plan.heavy_rows.long(), plan.heavy_slots.diff())
    return torch.tensor([t if t >= 0 else int(of_slot[-1 - t]) for t in plan.targets.tolist()]).long()


@CASES
def test_every_entry_stands_in_one_item_of_its_row(degrees: list[int]) -> None:
    indptr = indptr_of(degrees)
    plan = row_plan(indptr, classes_of(len(degrees)))
    rows = rows_of_items(plan)
    entries = torch.cat([torch.empty(0).long(), *map(torch.arange, plan.starts, plan.starts + plan.counts)])
    assert torch.equal(entries.sort().values, torch.arange(int(indptr[-1])))
    of_entry = torch.repeat_interleave(rows, plan.counts.long())
    assert (indptr[of_entry] <= entries).all()
    assert (entries < indptr[of_entry + 1]).all()
    # Each light row once, each slot once, and slots in the order of the entries.
    light = plan.targets[plan.targets >= 0]
    assert sorted(light.tolist()) == [row for row, degree in enumerate(degrees) if degree <= CHUNK]
    slots = (-1 - plan.targets[plan.targets < 0]).long()
    assert torch.equal(slots.sort().values, torch.arange(plan.n_slots))
    starts = plan.starts[plan.targets < 0][slots.argsort()]
    assert (starts.diff() > 0).all()
    assert plan.heavy_rows.tolist() == [row for row, degree in enumerate(degrees) if degree > CHUNK]


@CASES
def test_passes_fall_within_a_class(degrees: list[int]) -> None:
    n = len(degrees)
    class_ptr = classes_of(n)
    plan = row_plan(indptr_of(degrees), class_ptr)
    rows = rows_of_items(plan)
    assert plan.n_classes == 3
    for colour in range(3):
        first, last = plan.class_items[colour : colour + 2]
        passes = (plan.counts[first:last] + GROUP - 1) // GROUP
        assert (passes.diff() <= 0).all()
        inside = rows[first:last]
        assert ((class_ptr[colour] <= inside) & (inside < class_ptr[colour + 1])).all()
        first, last = plan.class_heavy[colour : colour + 2]
        heavy = plan.heavy_rows[first:last]
        assert ((class_ptr[colour] <= heavy) & (heavy < class_ptr[colour + 1])).all()
    assert plan.class_items[-1] == plan.starts.numel()
    assert plan.class_heavy[-1] == plan.heavy_rows.numel()


def test_plans_are_kept_for_the_very_tensors_and_held_weakly() -> None:
    indptr, class_ptr = indptr_of([3, 1, 2]), torch.tensor([0, 1, 3])
    plan = row_plan(indptr, class_ptr)
    assert row_plan(indptr, class_ptr) is plan
    assert row_plan(indptr) is row_plan(indptr) is not plan
    assert row_plan(indptr, class_ptr.clone()) is not plan
    class_ptr[1] = 2
    assert row_plan(indptr, class_ptr).class_items == (0, 2, 3)
    indptr[1] = 2
    assert row_plan(indptr, class_ptr).counts.tolist() == [2, 2, 2]
    kept = weakref.ref(row_plan(indptr))
    del indptr
    gc.collect()
    assert kept() is None


def test_launches_are_run_recorded_and_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for CUDA: what is recorded does nothing by itself and is replayed at once."""
    log: list[str] = []

    class Recorder:
        def __enter__(self) -> None:
            log.append("begin")

        def __exit__(self, *_: object) -> None:
            log.append("end")

    graph = SimpleNamespace(replay=lambda: log.append("replay"))
    stand_in = SimpleNamespace(
        CUDAGraph=lambda: graph, graph=lambda _, **__: Recorder(), Stream=lambda _: None
    )
    monkeypatch.setattr(_capture.torch, "cuda", stand_in)
    monkeypatch.setattr(_capture.triton.knobs.runtime, "interpret", False)
    captured = Captured(torch.device("cuda"))
    launch: Callable[[], None] = lambda: log.append("launch")  # noqa: E731
    for _ in range(4):
        captured.run(launch)
    assert log == ["launch", "begin", "launch", "end", "replay", "replay", "replay"]
    log.clear()
    brief = Captured(torch.device("cuda"), runs=_capture.FEWEST_RUNS - 1)
    for _ in range(3):
        brief.run(launch)
    assert log == ["launch"] * 3
    log.clear()
    monkeypatch.setattr(_capture.triton.knobs.runtime, "interpret", True)
    interpreted = Captured(torch.device("cuda"))
    for _ in range(3):
        interpreted.run(launch)
    assert log == ["launch"] * 3
