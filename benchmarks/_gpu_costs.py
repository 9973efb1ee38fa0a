"""Time of a kernel of the committed report on a graph of any size: the roofline, cache misses, and waiting for gathers.

The report predicts one problem size whose gathers all hit the second-level cache. Here a launch has its own size, and

    misses   the share of the gathered table that does not fit the cache is read from memory, a sector an access
    waits    an item of a row plan gathers GROUP entries at a time: the passes of an item wait for one another, so
             a launch takes at least (rounds of items) * (passes of an item) * (latency of one pass)

are added to the report's pipes; the slowest of all bounds the launch. What a launch costs before it does anything is
counted apart, because recording the launches as a graph changes it.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import _machine
from sdp_kernels.triton.catalog import Work, entries
from tools._report.chips import CHIPS, Chip
from tools._report.roofline import predict

REPORT = _machine.REPOSITORY / "tools" / "report" / "kernel_report.json"


class Launch(NamedTuple):
    """One launch of a kernel over part of a graph.

    Attributes:
        units: of the kernel's catalogue entry.
        items: rows, or parts of heavy rows, that it works on.
        passes: of gathers over all items.
        longest: passes of the longest item.
    """

    units: float
    items: float = 0.0
    passes: float = 0.0
    longest: float = 0.0


@dataclass(frozen=True)
class Machine:
    """A chip and what the machine code does not tell about it.

    Attributes:
        chip: limits and rates.
        cache_bytes: of the cache that gathers may hit.
        link_rate: bytes/s between host and device, one way.
        eager_seconds: of the host for each launch of a Triton kernel, when launched one by one.
        node_seconds: between two dependent kernels of a recorded graph.
        hit_seconds: latency of a load that hits the cache.
        miss_seconds: latency of a load from memory.
        sector_bytes: least read from memory at an access.
        wait_seconds: of the host for an answer of the device.
        memory_share: of the published bandwidth that scattered and streamed reads reach.
    """

    chip: Chip
    cache_bytes: float
    link_rate: float
    eager_seconds: float
    node_seconds: float
    hit_seconds: float
    miss_seconds: float
    sector_bytes: float
    wait_seconds: float
    memory_share: float


class Kernel(NamedTuple):
    """A compiled configuration.

    Attributes:
        name: entry and variant.
        work: cost of a unit by formula.
        counted: its machine code.
        resident: programs that fit a multiprocessor.
        items: of a program; 0 where it has none.
    """

    name: str
    work: Work
    counted: Mapping[str, Any]
    resident: int
    items: int = 0


class Cost(NamedTuple):
    """Time of a sequence of launches.

    Attributes:
        seconds: on the device, without what launches cost.
        launches: how many.
        by_bound: seconds by what bounds the launches.
    """

    seconds: float
    launches: float
    by_bound: dict[str, float]

    def times(self, factor: float) -> "Cost":
        """The same sequence again and again."""
        bounds = {name: factor * seconds for name, seconds in self.by_bound.items()}
        return Cost(factor * self.seconds, factor * self.launches, bounds)


def total(costs: Iterable[Cost]) -> Cost:
    """One sequence after another.

    >>> total([Cost(1.0, 2.0, {"dram": 1.0}), Cost(2.0, 1.0, {"dram": 0.5, "issue": 1.5})])
    Cost(seconds=3.0, launches=3.0, by_bound={'dram': 1.5, 'issue': 1.5})
    """
    seconds, launches, bounds = 0.0, 0.0, dict[str, float]()
    for cost in costs:
        seconds, launches = seconds + cost.seconds, launches + cost.launches
        for name, part in cost.by_bound.items():
            bounds[name] = bounds.get(name, 0.0) + part
    return Cost(seconds, launches, bounds)


class Kernels:
    """The kernels of a report on one target.

    Args:
        report: the document of `tools.kernel_report`.
        target: such as "sm_90".
        works: the catalogue's costs, by (entry, variant); the installed catalogue's where left out.
    """

    def __init__(
        self,
        report: Mapping[str, Any],
        target: str,
        works: Mapping[tuple[str, str], Work] | None = None,
    ) -> None:
        self.target = target
        self._records = {
            (record["kernel"], record["variant"]): record
            for record in report["records"]
            if record["target"] == target
        }
        self._works = works_of(target) if works is None else works

    def find(self, name: str, variant: str) -> Kernel:
        """One configuration.

        Raises:
            LookupError: the report lacks it, or it did not compile; the sentence says how to make it.
        """
        record = self._records.get((name, variant))
        if record is None or record["error"] is not None or (name, variant) not in self._works:
            raise LookupError(
                f"the kernel report has no {name} {variant} for {self.target}; run make report, which compiles it."
            )
        if record["uncounted"] is not None:
            raise LookupError(f"{name} {variant} on {self.target} cannot be counted: {record['uncounted']}")
        work = self._works[name, variant]
        items = int(record["constants"].get("ITEMS", 0))
        return Kernel(
            f"{name} {variant}", work, record["counted"], max(1, record["resident_programs"]), items
        )


def works_of(target: str) -> dict[tuple[str, str], Work]:
    """The catalogue's costs of a unit on a target, by (entry, variant)."""
    return {
        (entry.name, variant.label): variant.work_on(target)
        for entry in entries()
        for variant in entry.variants
        if target in variant.launches
    }


def load_report(path: Path = REPORT) -> dict[str, Any]:
    """The committed report."""
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def hit_share(machine: Machine, table_bytes: float) -> float:
    """Share of random reads of a table that find it in the cache, which holds nothing else.

    >>> from tools._report.chips import CHIPS
    >>> machine = Machine(CHIPS["sm_90"], 50e6, *[1.0] * 8)
    >>> hit_share(machine, 25e6), hit_share(machine, 200e6)
    (1.0, 0.25)
    """
    return min(1.0, machine.cache_bytes / table_bytes) if table_bytes else 1.0


def launch_cost(
    machine: Machine, kernel: Kernel, launches: Sequence[Launch], table_bytes: float, access_bytes: float
) -> Cost:
    """Time of a sequence of dependent launches of one kernel.

    Args:
        machine: where.
        kernel: what.
        launches: their sizes; empty ones are not launched.
        table_bytes: of the table that its cached bytes are gathered from.
        access_bytes: contiguous bytes of one gather; fewer than a sector cost a whole one where they miss.
    """
    hits = hit_share(machine, table_bytes)
    chip = machine.chip._replace(memory_rate=machine.memory_share * machine.chip.memory_rate)
    missed = (1 - hits) * kernel.work.cached_bytes * max(1.0, machine.sector_bytes / max(access_bytes, 1.0))
    # What comes from memory passes through the cache, too: its bytes stay as they are.
    work = kernel.work._replace(read_bytes=kernel.work.read_bytes + missed)
    pass_seconds = machine.hit_seconds + hits * machine.hit_seconds + (1 - hits) * machine.miss_seconds
    costs = []
    for launch in launches:
        if not launch.units:
            continue
        found = predict(chip, work._replace(problem=launch.units), kernel.counted, kernel.resident)
        bounds = dict(found.seconds_by_bound)
        once = bounds.pop("once")
        bounds.pop("launch")
        if launch.items and kernel.items:
            rounds = math.ceil(launch.items / (kernel.items * kernel.resident * chip.multiprocessors))
            bounds["gather latency"] = _waits(launch, rounds) * pass_seconds
        bound = max(bounds, key=lambda name: bounds[name])
        seconds = bounds[bound] + once
        costs.append(Cost(seconds, 1.0, {bound: seconds}))
    return total(costs)


def _waits(launch: Launch, rounds: int) -> float:
    """Passes of gathers that wait for one another: of average items round after round, or of the longest item."""
    return max(launch.longest, rounds * launch.passes / launch.items)


def streamed(machine: Machine, n_bytes: float, launches: float) -> Cost:
    """Time of simple passes over arrays that come from memory."""
    seconds = n_bytes / (machine.memory_share * machine.chip.memory_rate)
    return Cost(seconds, launches, {"dram": seconds})


def elapsed(machine: Machine, seconds: float, launches: float, *, recorded: bool) -> float:
    """Seconds from first to last of launches that take `seconds` on the device.

    Each waits for the one before; launched one by one they also wait for the host, which works ahead where it can.

    >>> machine = machine_of("sm_90", node_seconds=1e-6, eager_seconds=10e-6)
    >>> elapsed(machine, 1e-3, 50, recorded=True), elapsed(machine, 1e-3, 50, recorded=False)
    (0.00105, 0.00105)
    >>> elapsed(machine, 1e-3, 1000, recorded=True), elapsed(machine, 1e-3, 1000, recorded=False)
    (0.002, 0.01)
    """
    on_device = seconds + launches * machine.node_seconds
    return on_device if recorded else max(on_device, launches * machine.eager_seconds)


class Assumption(NamedTuple):
    """One number that neither the machine code nor a count gives.

    Attributes:
        field: of `Machine`, or "cache_rate" or "memory_rate" of its chip.
        name: in words, with its unit.
        unit: what the number is divided by to be shown.
        values: by target, in SI units; one for all where the key is "".
        source: where it is from.
    """

    field: str
    name: str
    unit: float
    values: Mapping[str, float]
    source: str

    def value(self, target: str) -> float:
        """The number for a target."""
        chip = CHIPS[target]
        if self.field in ("cache_rate", "memory_rate"):
            return float(getattr(chip, self.field))
        scale = 1 / chip.clock_hz if self.field in ("hit_seconds", "miss_seconds") else 1.0
        return scale * self.values.get(target, self.values.get("", 0.0))

    def on(self, target: str) -> str:
        """The number as the table shows it."""
        return f"{self.value(target) / self.unit:.3g}"


ASSUMPTIONS = (
    Assumption("memory_rate", "memory bandwidth, TB/s", 1e12, {}, "data sheets: tools/_report/chips.py"),
    Assumption(
        "memory_share",
        "share of it that kernels reach",
        1.0,
        {"": 0.85},
        "an assumption; streaming copies are commonly measured at 80 to 93%",
    ),
    Assumption(
        "cache_rate",
        "second-level bandwidth, TB/s",
        1e12,
        {},
        "not published by NVIDIA: tools/_report/chips.py",
    ),
    Assumption(
        "cache_bytes",
        "cache that gathers may hit, MB; a random read hits with chance min(1, cache / table)",
        1e6,
        {"sm_80": 40e6, "sm_90": 50e6, "sm_100": 126.5e6, "gfx942": 256e6},
        "white papers of A100, H100 and CDNA 3 (Infinity Cache); a B200's device query in pytorch/ao pull 4002",
    ),
    Assumption(
        "hit_seconds",
        "latency of a load that hits, ns",
        1e-9,
        {"": 270, "gfx942": 500},
        "an assumption of 270 cycles (500 on CDNA 3), the order of public microbenchmarks",
    ),
    Assumption(
        "miss_seconds",
        "latency of a load from memory, ns",
        1e-9,
        {"": 600, "gfx942": 800},
        "likewise, 600 cycles (800 on CDNA 3)",
    ),
    Assumption(
        "sector_bytes",
        "least read at an access, bytes",
        1.0,
        {"": 32, "gfx942": 64},
        "32-byte sectors (CUDA C++ Best Practices Guide); half a line of 128 bytes on CDNA 3, an assumption",
    ),
    Assumption(
        "node_seconds",
        "between dependent kernels, us; a node of a recorded graph",
        1e-6,
        {"": 0.875e-6},
        "CUDA.jl's manual, page Graphs: 80 small kernels take 70 us recorded (260 us launched one by one)",
    ),
    Assumption(
        "eager_seconds",
        "launch of a Triton kernel from Python, us",
        1e-6,
        {"": 13.2e-6},
        "meta-pytorch/tritonbench pull 669: 13.2 us with 19 arguments (triton 3.5); vllm pull 34838: 8.7 us",
    ),
    Assumption(
        "wait_seconds",
        "a wait of the host for the device, us",
        1e-6,
        {"": 20e-6},
        "an assumption",
    ),
    Assumption(
        "link_rate",
        "host to device, GB/s",
        1e9,
        {"sm_80": 25e9, "": 50e9},
        "an assumption: about 80% of PCIe 4 x16 (A100) and PCIe 5 x16, from page-locked memory",
    ),
)


def machine_of(target: str, **changes: float) -> Machine:
    """A chip with the numbers of `ASSUMPTIONS`, some of them changed.

    >>> machine_of("sm_90").chip.name, machine_of("sm_90", node_seconds=2e-6).node_seconds
    ('H100', 2e-06)
    """
    values = {entry.field: entry.value(target) for entry in ASSUMPTIONS} | changes
    cache_rate, memory_rate = values.pop("cache_rate"), values.pop("memory_rate")
    return Machine(CHIPS[target]._replace(cache_rate=cache_rate, memory_rate=memory_rate), **values)
