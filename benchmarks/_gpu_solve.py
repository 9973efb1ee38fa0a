"""A whole solve on this GPU against the model of one (`maxcut_gpu_model`), on the graphs that were counted."""

import time
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks import _solve_counts, maxcut_gpu_model
from benchmarks._gpu_costs import Kernels, load_report
from benchmarks._records import Record, latest, load, spread
from sdp.maxcut import relax
from sdp.maxcut.problem import prepare
from sdp.maxcut.solve import maxcut

EDGES = 1_000_000
FAMILIES = ("rmat-16", "random-16", "random-8")
REPEATS = 3
TIME_LIMIT = 60.0


def predictions(target: str, families: tuple[str, ...] = FAMILIES) -> list[Record]:
    """What the model says of these graphs on this target, from the counts of `maxcut_gpu_model --count`."""
    path = latest(maxcut_gpu_model.COUNTS)
    counts = [record for record in load(path) if record["family"] in families] if path else []
    kernels = Kernels(load_report(), target)
    return maxcut_gpu_model.model_on(counts, (EDGES,), kernels)


def measure(target: str, device: torch.device) -> Iterator[Record]:
    """Times of relaxations to the certified gap, and of solves until they cut what the CPU engine did in its time."""
    for predicted in predictions(target):
        graph = _solve_counts.FAMILIES[predicted["family"]](EDGES, 0)
        if predicted["part"] == maxcut_gpu_model.GAP:
            problem = prepare(graph).to(device)
            seconds = [
                _timed(lambda p=problem: relax.relax(p, target_gap=_solve_counts.TARGET_GAP), device)
                for _ in range(1 + REPEATS)
            ][1:]  # the first compiles
            yield _record(predicted, "device_seconds", seconds)
        else:
            cut = predicted["counted_cut"]

            def solve(graph: Any = graph, cut: float = cut) -> object:
                return maxcut(graph, device=str(device), target_cut=cut, time_limit=TIME_LIMIT)

            seconds = [_timed(solve, device) for _ in range(1 + REPEATS)][1:]
            yield _record(predicted, "total_seconds", seconds)


def _timed(work: Any, device: torch.device) -> float:
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def _record(predicted: Record, total: str, seconds: list[float]) -> Record:
    """One line of `on_gpu`'s table: here the call is all there is, from the graph in memory to the answer."""
    what = {
        maxcut_gpu_model.GAP: "relaxation to a certified gap of 1e-3",
        maxcut_gpu_model.SOLVE: f"solve until the CPU engine's cut of {TIME_LIMIT:g} s",
    }[predicted["part"]]
    waited = spread(seconds)
    return {
        "operation": f"{what}, {predicted['family']}, {predicted['n_edges']:.3g} edges",
        "shape": {"family": predicted["family"], "edges": EDGES},
        "predicted_seconds": predicted[total],
        "kernel_seconds": waited.median,
        "kernel_seconds_range": [waited.low, waited.high],
        "call_seconds": waited.median,
        "call_seconds_range": [waited.low, waited.high],
        "measured_over_predicted": waited.median / predicted[total],
        "repeats": waited.count,
        "seed": 0,
    }
