"""Predicted time of a compiled kernel: the slowest pipe, or the latency of one warp.

A multiprocessor holds R programs of w warps at once, and a round is one pass of the main loop by all of them. Its
cycles are the largest of

    pipe:     R w lanes count_pipe / rate_pipe       (issue, fma, imad, alu, special, memory, fp64)
    shared:   R w lanes bytes / shared_rate
    tensor:   R (tensor flops of a pass) / (peak flops a cycle and multiprocessor)
    latency:  cycles of one warp alone, as the machine code schedules it, plus the tensor work that it waits for,

and the time is launch + what a program does once + rounds * cycles / clock, or the time of its bytes through memory
or the second-level cache where that is longer. Both sides of branches count, caches never miss more than the
catalogue says, clocks do not throttle: a bound that a measurement may approach, not a promise (`make gpu` compares).
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from sdp_kernels.triton.catalog import Work
from tools._report.chips import Chip


class Prediction(NamedTuple):
    """Predicted time.

    Attributes:
        seconds: for the whole problem.
        bound: what it is bound by.
        seconds_by_bound: time of each pipe alone, for all rounds; and "once", "launch", "dram", "cache".
        rounds: passes that each program makes, or waves of programs.
    """

    seconds: float
    bound: str
    seconds_by_bound: dict[str, float]
    rounds: int


def predict(chip: Chip, work: Work, counted: Mapping[str, Any], resident: int) -> Prediction:
    """Time of `work.problem` units on a chip.

    Args:
        chip: the chip.
        work: the catalogue's costs of a unit.
        counted: an answer of `aot.answer` without error.
        resident: programs that a multiprocessor holds at once, at least 1.
    """
    threads = counted["warps"] * chip.lanes
    each, once = counted["each"], counted["once"]
    passes = math.ceil(work.problem / work.units_per_pass)
    rounds = math.ceil(passes / (resident * chip.multiprocessors))
    # A small problem leaves some multiprocessors with fewer programs than they could hold.
    resident = min(resident, math.ceil(passes / chip.multiprocessors))
    per_round = {
        pipe: resident * threads * each.get(pipe, 0.0) / rate
        for pipe, rate in chip.rates.items()
        if each.get(pipe, 0.0)
    }
    if each.get("shared_bytes", 0.0):
        per_round["shared"] = resident * threads * each["shared_bytes"] / chip.shared_rate
    waited, by_warps = tensor_cycles(chip, work, counted)
    if waited + by_warps:
        per_round["tensor"] = resident * (waited + by_warps)
    per_round["latency"] = counted["cycles_each"] + waited
    seconds = {pipe: rounds * cycles / chip.clock_hz for pipe, cycles in per_round.items()}
    start = max(counted["cycles_once"], resident * threads * once.get("issue", 0.0) / chip.rates["issue"])
    seconds["dram"] = work.problem * (work.read_bytes + work.written_bytes) / chip.memory_rate
    seconds["cache"] = work.problem * work.cached_bytes / chip.cache_rate
    bound = max(seconds, key=lambda name: seconds[name])
    overhead = {"once": start / chip.clock_hz, "launch": chip.launch_seconds}
    total = seconds[bound] + sum(overhead.values())
    if max(overhead.values()) > seconds[bound]:
        bound = max(overhead, key=lambda name: overhead[name])
    return Prediction(total, bound, {**seconds, **overhead}, rounds)


def over_bytes(prediction: Prediction) -> float | None:
    """Time without the launch over that of the bytes alone, the slower of their two ways; None where none move.

    >>> times = {"issue": 3e-6, "dram": 1e-6, "cache": 2e-6, "once": 1e-6, "launch": 4e-6}
    >>> over_bytes(Prediction(8e-6, "issue", times, 1))
    2.0
    """
    parts = prediction.seconds_by_bound
    slower = max(parts["dram"], parts["cache"])
    return (prediction.seconds - parts["launch"]) / slower if slower else None


def tensor_flops(chip: Chip, work: Work, counted: Mapping[str, Any]) -> tuple[float, float]:
    """Tensor flops of one program's pass: by instructions that a program waits for, and by warps (HMMA).

    From the shapes in the machine code; where they are not told (UTC*MMA), by the catalogue's formula less HMMA.
    """
    each, threads = counted["each"], counted["warps"] * chip.lanes
    shown, by_warps = (each.get(kind, 0.0) * threads for kind in ("tensor_flops", "tensor_sync_flops"))
    if shown == by_warps and each.get("tensor", 0.0) > each.get("tensor_sync", 0.0):
        shown = max(shown, work.tensor_flops * work.tensor_passes * work.units_per_pass)
    return shown - by_warps, by_warps


def tensor_cycles(chip: Chip, work: Work, counted: Mapping[str, Any]) -> tuple[float, float]:
    """Cycles of the tensor cores for one program's pass on one multiprocessor, split as in `tensor_flops`.

    HMMA's cycles are also in the schedule of the warps that issue it; the others' are not.

    Raises:
        KeyError: the chip has no rate for the number format that the catalogue names.
    """
    waited, by_warps = tensor_flops(chip, work, counted)
    if not waited + by_warps:
        return 0.0, 0.0
    rate = chip.tensor_flops[work.tensor_type] / chip.multiprocessors / chip.clock_hz
    return waited / rate, by_warps / (rate * chip.sync_fraction)
