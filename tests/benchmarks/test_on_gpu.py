"""`make gpu` where there is no GPU, and the arithmetic of its table; the timing itself needs a GPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import on_gpu

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so_and_fails(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.on_gpu", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        f"make gpu needs a GPU that torch can use; torch {torch.__version__} sees none on this machine.\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("capability", "target"), [((8, 6), "sm_80"), ((9, 0), "sm_90"), ((10, 3), "sm_100"), ((12, 0), "sm_100")]
)
def test_a_gpu_is_compared_with_the_nearest_chip(
    capability: tuple[int, int], target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert on_gpu.target_of_device() == target


def test_the_table_sets_measurement_against_prediction() -> None:
    record = {
        "operation": "gradient", "predicted_seconds": 1e-3, "kernel_seconds": 2.5e-3, "call_seconds": 3e-3,
        "measured_over_predicted": 2.5,
    }  # fmt: skip
    last = on_gpu.table([record], "NVIDIA H200", "sm_90").splitlines()[-1]
    assert last == "| gradient | 1000.0 us | 2500.0 us | 2.50 | 3000.0 us |"
