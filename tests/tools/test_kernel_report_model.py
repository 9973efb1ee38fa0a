"""Occupancy, the roofline and the judgement of bars, against numbers worked out by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sdp_kernels.triton.catalog import TARGETS, Bars, Operation, Work, entries
from tools._report.bars import broken_bars, judge_operations
from tools._report.chips import CHIPS, Footprint, resident_programs
from tools._report.roofline import over_bytes, predict, tensor_flops
from tools.kernel_report import REPORT

H100, B200, MI300X = CHIPS["sm_90"], CHIPS["sm_100"], CHIPS["gfx942"]


@pytest.mark.parametrize(
    ("target", "footprint", "expected"),
    [
        pytest.param("sm_90", Footprint(4, 32, 0), 16, id="64 warps"),
        pytest.param("sm_90", Footprint(4, 128, 0), 4, id="registers"),
        pytest.param("sm_90", Footprint(4, 129, 0), 3, id="registers in steps of 8"),
        pytest.param("sm_90", Footprint(8, 255, 0), 1, id="all registers"),
        pytest.param("sm_90", Footprint(4, 32, 64 * 1024), 3, id="shared, with the reserved kilobyte"),
        pytest.param("sm_90", Footprint(4, 32, 56 * 1024), 4, id="shared, exactly"),
        pytest.param("sm_90", Footprint(4, 32, 228 * 1024), 0, id="more shared than a program may have"),
        pytest.param("sm_90", Footprint(1, 16, 0), 32, id="32 programs"),
        pytest.param("sm_100", Footprint(4, 64, 0, 256), 2, id="tensor memory"),
        pytest.param("gfx942", Footprint(4, 128, 0), 4, id="four waves a SIMD"),
        pytest.param("gfx942", Footprint(4, 356, 0), 1, id="KERNELS' 64-wide head"),
        pytest.param("gfx942", Footprint(8, 356, 0), 0, id="eight waves of it do not fit"),
        pytest.param("gfx942", Footprint(4, 16, 40 * 1024), 1, id="local data share"),
    ],
)
def test_resident_programs(target: str, footprint: Footprint, expected: int) -> None:
    assert resident_programs(CHIPS[target], footprint) == expected


def counted(warps: int = 4, cycles: float = 0.0, **each: float) -> dict[str, Any]:
    return {"warps": warps, "each": each, "once": {}, "cycles_each": cycles, "cycles_once": 0.0}


def test_bound_by_issue() -> None:
    # 132 SMs x 2 programs, ten passes each: 2 x 128 threads x 1000 instructions at 128 a cycle.
    work = Work("sample", units_per_pass=64, problem=64 * 132 * 2 * 10)
    found = predict(H100, work, counted(issue=1000.0, alu=400.0), resident=2)
    assert found.bound == "issue"
    assert found.rounds == 10
    assert found.seconds == pytest.approx(20000 / H100.clock_hz + H100.launch_seconds)
    assert found.seconds_by_bound["alu"] == pytest.approx(16000 / H100.clock_hz)


def test_rounds_are_whole() -> None:
    work = Work("sample", units_per_pass=64, problem=64 * (132 * 2 + 1))
    assert predict(H100, work, counted(issue=1000.0), resident=2).rounds == 2


def test_a_small_problem_is_bound_by_its_launch() -> None:
    assert (
        predict(H100, Work("sample", units_per_pass=64, problem=64), counted(issue=1000.0), 1).bound
        == "launch"
    )


def test_one_warp_alone_is_bound_by_its_latency() -> None:
    work = Work("sample", units_per_pass=64, problem=64 * 132 * 10)
    found = predict(H100, work, counted(issue=1000.0, cycles=4000.0), resident=1)
    assert found.bound == "latency"
    assert found.seconds == pytest.approx(40000 / H100.clock_hz + H100.launch_seconds)


def test_bound_by_memory() -> None:
    work = Work("element", units_per_pass=1024, read_bytes=8, written_bytes=4, problem=2.0**30)
    found = predict(H100, work, counted(issue=10.0), resident=8)
    assert found.bound == "dram"
    assert found.seconds_by_bound["dram"] == pytest.approx(12 * 2**30 / 3.35e12)


def test_tensor_time_from_the_shapes_in_the_machine_code() -> None:
    # One HGMMA 64x64x8 (65536 flops) a program: by 494.7e12 / 132 / 1.83e9 = 2048 flops a cycle, 32 cycles.
    work = Work("sample", units_per_pass=64, tensor_flops=1024, problem=64 * 132)
    once = counted(cycles=100.0, tensor=1.0, tensor_flops=512.0)
    assert tensor_flops(H100, work, once) == (65536, 0)
    found = predict(H100, work, once, 1).seconds_by_bound
    assert found["tensor"] * H100.clock_hz == pytest.approx(32, rel=1e-3)
    assert found["latency"] * H100.clock_hz == pytest.approx(132, rel=1e-3)
    # The older HMMA is slower there, and its time is in the schedule of the warp.
    old = counted(cycles=100.0, tensor=1.0, tensor_sync=1.0, tensor_flops=512.0, tensor_sync_flops=512.0)
    found = predict(H100, work, old, 1).seconds_by_bound
    assert found["tensor"] * H100.clock_hz == pytest.approx(32 / 0.62, rel=1e-3)
    assert found["latency"] * H100.clock_hz == pytest.approx(100)


def test_tensor_time_from_the_formula_where_the_machine_code_hides_the_shape() -> None:
    work = Work("sample", units_per_pass=64, tensor_flops=1024, tensor_passes=3)
    assert tensor_flops(B200, work, counted(tensor=3.0)) == (64 * 1024 * 3, 0)
    mixed = counted(tensor=3.0, tensor_sync=1.0, tensor_flops=512.0, tensor_sync_flops=512.0)
    assert tensor_flops(B200, work, mixed) == (64 * 1024 * 3 - 65536, 65536)
    only_old = counted(tensor=1.0, tensor_sync=1.0, tensor_flops=512.0, tensor_sync_flops=512.0)
    assert tensor_flops(B200, work, only_old) == (0, 65536)


def test_no_tensor_instruction_takes_no_tensor_time() -> None:
    work = Work("sample", units_per_pass=64, tensor_flops=1024)
    assert "tensor" not in predict(H100, work, counted(issue=1.0), 1).seconds_by_bound


RECORD: dict[str, Any] = {
    "error": None, "spilled_bytes": 0, "registers": 100, "shared_bytes": 1000, "shared_limit": 2000, "unit": "sample",
    "instructions_per_unit": 48.0, "fp64": 0.0, "slow_paths": 0.0, "local": 0.0, "looped_local": 0.0,
    "uncounted": None, "resident_programs": 2, "tensor": 8.0, "loads": {"128": 4.0}, "over_bytes": 1.5,
}  # fmt: skip
BARS = Bars(
    registers=100,
    shared_bytes=1000,
    resident_programs=2,
    instructions=48,
    tensor=True,
    wide_loads=True,
    over_bytes=1.5,
)


def test_bars_hold_at_the_bar() -> None:
    assert broken_bars(BARS, RECORD) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"error": "RuntimeError: no"}, "does not compile: RuntimeError: no"),
        ({"spilled_bytes": 8}, "spills 8 bytes a thread; the bar is at most 0."),
        ({"registers": 101}, "takes 101 registers a thread; the bar is at most 100."),
        ({"shared_bytes": 1001}, "takes 1001 bytes of shared memory; the bar is at most 1000."),
        (
            {"shared_limit": 999},
            "takes 1000 bytes of shared memory, more than the chip has; the bar is at most 999.",
        ),
        ({"instructions_per_unit": 48.1}, "takes 48.1 instructions per sample; the bar is at most 48."),
        ({"instructions_per_unit": None, "uncounted": "2 loops."}, "cannot be counted: 2 loops."),
        ({"fp64": 1}, "has 1 double-precision instructions; the bar is at most 0."),
        ({"slow_paths": 2}, "has 2 slow paths; the bar is at most 0."),
        ({"local": 2}, "has 2 accesses to local memory; the bar is at most 0."),
        ({"looped_local": 2}, "has 2 accesses to local memory in its main loop; the bar is at most 0."),
        (
            {"over_bytes": 1.51},
            "is predicted to take 1.51 times as long as its bytes alone; the bar is at most 1.5.",
        ),
        ({"resident_programs": 1}, "1 programs fit a multiprocessor; the bar is at least 2."),
        ({"tensor": 0.0}, "has no tensor-core instruction; the bar asks for them."),
        ({"loads": {"64": 4.0}}, "has no 16-byte load; the bar asks for them."),
    ],
)
def test_every_bar_can_break(change: dict[str, Any], sentence: str) -> None:
    assert broken_bars(BARS, {**RECORD, **change}) == [sentence]


@pytest.mark.parametrize("target", TARGETS)
def test_mixing_keeps_near_the_time_of_its_bytes(target: str) -> None:
    """From the machine code in the committed report: rows of whole 16 bytes, the launch left out."""
    chip, found = CHIPS[target], {}
    document = json.loads((REPORT / "kernel_report.json").read_text())
    (mixing,) = (entry for entry in entries() if entry.name == "graph_mixing")
    records = {
        r["variant"]: r for r in document["records"] if (r["kernel"], r["target"]) == (mixing.name, target)
    }
    for variant in mixing.variants:
        bars = variant.bars_on(target)
        if variant.candidate or bars.over_bytes is None:
            continue
        record, work = records[variant.label], variant.work_on(target)
        counts = record["counted"]
        found[variant.label] = over_bytes(predict(chip, work, counts, record["resident_programs"]))
        assert broken_bars(bars, {**record, "over_bytes": found[variant.label]}) == []
        # A hundred times the instructions would be too many for the bytes.
        slow = {**counts, "each": {pipe: 100 * count for pipe, count in counts["each"].items()}}
        ratio = over_bytes(predict(chip, work, slow, record["resident_programs"]))
        assert "its bytes alone" in broken_bars(bars, {**record, "over_bytes": ratio})[0]
    assert len(found) == 10


def test_bars_of_none_ask_nothing() -> None:
    nothing = Bars(*[None] * 7, None, None, False, False)  # type: ignore[arg-type]
    worst = {
        **RECORD,
        "spilled_bytes": 9,
        "fp64": 9.0,
        "local": 9.0,
        "tensor": 0.0,
        "loads": {},
        "resident_programs": 0,
    }
    assert broken_bars(nothing, worst) == []


def timed(kernel: str, target: str, seconds: float) -> dict[str, Any]:
    record = {"kernel": kernel, "variant": "v", "target": target, "error": None, "uncounted": None}
    return {**record, "predicted_seconds": seconds}


def test_operations_add_their_steps_and_compare() -> None:
    operations = (
        Operation(
            "grad", (("pass", "v"), ("reduce", "v"), ("reduce", "v")), "grad", {}, against="value", at_most=4
        ),
        Operation("value", (("forward", "v"),), "value", {}),
    )
    records = [
        *(timed("pass", target, 3.0) for target in ("sm_80", "sm_90", "gfx942")),
        *(timed("reduce", target, 0.5) for target in ("sm_80", "sm_90", "gfx942")),
        timed("forward", "sm_80", 1.0),
        timed("forward", "sm_90", 0.8),
    ]
    judged = {(entry["operation"], entry["target"]): entry for entry in judge_operations(operations, records)}
    assert judged["grad", "sm_80"]["predicted_seconds"] == 4.0
    assert judged["grad", "sm_80"]["broken"] == []
    assert judged["grad", "sm_90"]["broken"] == [
        "predicted to take 5 times as long as value; the bar is at most 4."
    ]
    assert judged["grad", "gfx942"]["ratio"] is None  # no yardstick there
    assert ("value", "gfx942") not in judged
    elsewhere = [operations[0]._replace(judged_on=("sm_80",)), operations[1]]
    told = {e["target"]: e for e in judge_operations(elsewhere, records) if e["operation"] == "grad"}
    assert told["sm_90"]["ratio"] == pytest.approx(5)
    assert told["sm_90"]["broken"] == []
    lost = [
        {**r, "predicted_seconds": None, "uncounted": "3 loops."} if r["kernel"] == "pass" else r
        for r in records
    ]
    (grad, *_) = judge_operations(operations, lost)
    assert grad["predicted_seconds"] is None
    assert grad["broken"] == ["cannot be predicted: the loops of pass v do not fit its inner_trips."]
