"""Judge one compiled configuration by the catalogue's bars, each broken one in a sentence."""

from collections.abc import Mapping
from typing import Any

from sdp_kernels.triton.catalog import Bars


def broken_bars(bars: Bars, record: Mapping[str, Any]) -> list[str]:
    """What the record of one configuration breaks; empty if all holds.

    Args:
        bars: the bars of the configuration on this target; None in a field asks nothing.
        record: a record as `kernel_report.judge` makes it.
    """
    if record["error"] is not None:
        return [f"does not compile: {record['error']}"]
    broken = []

    def at_most(words: str, value: float, limit: float | None, unit: str) -> None:
        if limit is not None and value > limit:
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
    at_most("takes", record["instructions_per_unit"], bars.instructions, f"instructions a {record['unit']}")
    at_most("has", record["fp64"], bars.fp64, "double-precision instructions")
    at_most("has", record["slow_paths"], bars.slow_paths, "slow paths")
    at_most("has", record["local"], bars.local, "accesses to local memory")
    if bars.resident_programs is not None and record["resident_programs"] < bars.resident_programs:
        fit = f"{record['resident_programs']} programs fit a multiprocessor"
        broken.append(f"{fit}; the bar is at least {bars.resident_programs}.")
    if bars.tensor and not record["tensor"]:
        broken.append("has no tensor-core instruction; the bar asks for them.")
    if bars.wide_loads and not record["loads"].get("128"):
        broken.append("has no 16-byte load; the bar asks for them.")
    return broken
