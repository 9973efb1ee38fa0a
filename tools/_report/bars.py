"""Judge one compiled configuration by the catalogue's bars, each broken one in a sentence."""

from collections.abc import Mapping, Sequence
from typing import Any

from sdp_kernels.triton.catalog import TARGETS, Bars, Operation


def broken_bars(bars: Bars, record: Mapping[str, Any]) -> list[str]:
    """What the record of one configuration breaks; empty if all holds.

    Args:
        bars: the bars of the configuration on this target; None in a field asks nothing.
        record: a record as `kernel_report.judge` makes it.
    """
    if record["error"] is not None:
        return [f"does not compile: {record['error']}"]
    broken = []

    def at_most(words: str, value: float | None, limit: float | None, unit: str) -> None:
        if limit is not None and value is not None and value > limit:
            broken.append(f"{words} {value:.4g} {unit}; the bar is at most {limit:.4g}.")

    at_most("spills", record["spilled_bytes"], bars.spilled_bytes, "bytes a thread")
    at_most("takes", record["registers"], bars.registers, "registers a thread")
    at_most("takes", record["shared_bytes"], bars.shared_bytes, "bytes of shared memory")
    at_most(
        "takes",
        record["shared_bytes"],
        record["shared_limit"],
        "bytes of shared memory, more than the chip has",
    )
    at_most("takes", record["instructions_per_unit"], bars.instructions, f"instructions per {record['unit']}")
    asks_for_counts = bars.instructions is not None or bars.over_bytes is not None
    if asks_for_counts and record["uncounted"] is not None:
        broken.append(f"cannot be counted: {record['uncounted']}")
    at_most("has", record["fp64"], bars.fp64, "double-precision instructions")
    at_most("has", record["slow_paths"], bars.slow_paths, "slow paths")
    at_most("has", record["local"], bars.local, "accesses to local memory")
    at_most("has", record["looped_local"], bars.looped_local, "accesses to local memory in its main loop")
    at_most("is predicted to take", record["over_bytes"], bars.over_bytes, "times as long as its bytes alone")
    if bars.resident_programs is not None and record["resident_programs"] < bars.resident_programs:
        fit = f"{record['resident_programs']} programs fit a multiprocessor"
        broken.append(f"{fit}; the bar is at least {bars.resident_programs}.")
    if bars.tensor and not record["tensor"]:
        broken.append("has no tensor-core instruction; the bar asks for them.")
    if bars.wide_loads and not any(int(bits) >= 128 for bits in record["loads"]):
        broken.append("has no 16-byte load; the bar asks for them.")
    return broken


def judge_operations(
    operations: Sequence[Operation], records: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Predicted time of every operation on every target that has all its steps, and the ratio bars it breaks.

    Args:
        operations: from the catalogue; `against` names one of them.
        records: records of the kernels; an operation with a step that is missing, did not compile or could not
            be counted has no time on that target (the kernel's own record says why), which breaks its bar if the
            cause is the counting.
    """
    known = {
        (record["kernel"], record["variant"], record["target"]): record["predicted_seconds"]
        for record in records
        if record["error"] is None and record["predicted_seconds"] is not None
    }
    steps: dict[tuple[str, str], dict[str, float]] = {}
    totals: dict[tuple[str, str], float] = {}
    for operation in operations:
        for target in TARGETS:
            times = [known.get((kernel, variant, target)) for kernel, variant in operation.steps]
            found = [time for time in times if time is not None]
            if len(found) == len(times):
                names = (f"{kernel} {variant}" for kernel, variant in operation.steps)
                steps[operation.name, target] = dict(zip(names, found, strict=True))
                totals[operation.name, target] = sum(found)
    uncounted = {(r["kernel"], r["variant"], r["target"]) for r in records if r.get("uncounted")}
    judged = []
    for operation in operations:
        for target in TARGETS:
            total = totals.get((operation.name, target))
            unknown = [f"{k} {v}" for k, v in operation.steps if (k, v, target) in uncounted]
            if total is None and not unknown:
                continue
            yardstick = totals.get((operation.against, target))
            ratio = total / yardstick if total is not None and yardstick else None
            broken = []
            at_most = operation.at_most if target in operation.judged_on else None
            if unknown and at_most is not None:
                broken.append(
                    f"cannot be predicted: the loops of {', '.join(unknown)} do not fit its inner_trips."
                )
            if ratio is not None and at_most is not None and ratio > at_most:
                words = f"predicted to take {ratio:.3g} times as long as {operation.against}"
                broken.append(f"{words}; the bar is at most {at_most:g}.")
            judged.append(
                {
                    "operation": operation.name,
                    "target": target,
                    "call": operation.call,
                    "shape": dict(operation.shape),
                    "predicted_seconds": total,
                    "steps": steps.get((operation.name, target)),
                    "against": operation.against or None,
                    "ratio": ratio,
                    "at_most": at_most,
                    "broken": broken,
                }
            )
    return judged
