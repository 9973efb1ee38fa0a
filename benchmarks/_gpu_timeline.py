"""A solve as a row of stages: counts of a CPU run times the cost of each call on a chip (`_gpu_operations`).

Everything the counts hold is measured (`_solve_counts`). A larger graph than the one counted has the same classes,
sweeps and rounds, with `factor` times the rows, and its certificates take the steps that the formula asks for.
"""

import math
from typing import NamedTuple

from benchmarks._gpu_costs import Cost, Kernels, Machine, elapsed, streamed, total
from benchmarks._gpu_operations import Graph, Operations
from benchmarks._records import Record
from sdp.maxcut.bound import COLUMNS, steps_for
from sdp.maxcut.placement import words
from sdp.maxcut.polish import DEVICE_SLICE
from sdp.maxcut.solve import PLANES

HOST, LINK, DEVICE = "host", "link", "device"
WORD = 32  # partitions
COMBINED_LOOKS = 8  # certificate steps between two looks at the clock (sdp/maxcut/bound.py)
TAU, UPPER, DELTA = 1e-3, 2.0, 1e-6  # of a certificate, for how its steps grow with the graph


class Stage(NamedTuple):
    """One stage of a solve.

    Attributes:
        name: of the stage.
        place: HOST, LINK or DEVICE.
        seconds: without what launches cost.
        launches: of kernels.
        recorded: whether they are replayed as a CUDA graph.
        by_bound: seconds by what bounds them.
    """

    name: str
    place: str
    seconds: float
    launches: float = 0.0
    recorded: bool = False
    by_bound: dict[str, float] = {}  # noqa: RUF012 - never changed

    def total(self, machine: Machine, *, record: bool = True) -> float:
        """Seconds with launches; `record` False launches one by one even what could be recorded."""
        return elapsed(machine, self.seconds, self.launches, recorded=self.recorded and record)


class Solve:
    """A solve, or its parts, on one machine.

    Args:
        relaxed: the graph whose relaxation was counted.
        kernels: of the report, on the machine's target.
        machine: where.
    """

    def __init__(self, relaxed: Graph, kernels: Kernels, machine: Machine) -> None:
        self.relaxed, self.kernels, self.machine = relaxed, kernels, machine
        self.calls = Operations(relaxed, kernels, machine)

    def to_gap(self) -> list[Stage]:
        """From the graph in memory to a relaxation with a certified gap, without exact reductions."""
        return [self.prepared(self.relaxed), *self.moved(self.relaxed), *self.relaxation()]

    def whole(self, polished: Graph, *, rounds_alike: bool = False) -> list[Stage]:
        """From the graph in memory to the partition: reductions, relaxation, hyperplanes, local search.

        Args:
            polished: the graph after exact reductions, whose solve was counted. Its own relaxation may have been cut
                short by the clock, so the one counted to the gap, of the graph as it was, stands in its place.
            rounds_alike: see `polished_on_device`.
        """
        counted = polished.counted
        host = sum(counted["seconds"].get(stage, 0.0) for stage in ("reduce", "cycles", "program"))
        return [
            Stage("exact reduction and cycles", HOST, polished.factor * host),
            self.prepared(polished),
            *self.moved(polished),
            *self.relaxation(),
            self.rounding(polished),
            *self.polishing(polished, rounds_alike),
            Stage("partition back", LINK, polished.rows / self.machine.link_rate),
        ]

    def prepared(self, graph: Graph) -> Stage:
        """Colouring, ordering, scaling."""
        return Stage("colouring and ordering", HOST, graph.factor * graph.counted["seconds"]["prepare"])

    def moved(self, graph: Graph) -> list[Stage]:
        """The rows over the link, and the row plans on the device."""
        n_bytes = 8 * (graph.rows + 1) + 8 * graph.entries + 8 * graph.rows
        # Sorts of n keys (radix, 8 passes over keys and places) and some twenty passes over arrays of rows, twice.
        plan = streamed(self.machine, 2 * graph.rows * (8 * 2 * 16 + 20 * 12), 2 * 40)
        waits = 2 * 8 * self.machine.wait_seconds
        return [
            Stage("graph to the device", LINK, n_bytes / self.machine.link_rate),
            _staged("row plans", plan, waits=waits),
        ]

    def relaxation(self) -> list[Stage]:
        """Starts, sweeps and certificates, as often as they were counted."""
        counted, graph, calls = self.relaxed.counted, self.relaxed, self.calls
        sweeps, fields, steps, recorded = [], [], 0.0, 0.0
        for record in counted["operations"]:
            if record["operation"] == "mixing_sweeps":
                sweeps.append(calls.sweep(record["columns"], record["bytes"]).times(record["sweeps"]))
            elif record["operation"] == "fields":
                fields.append(calls.fields(record["columns"], 4).times(record["calls"]))
                # Every round has a V of its own, and every V its own recording.
                recorded += record["calls"] * calls.sweep(record["columns"], 4).launches
            elif "chebyshev_step" in record["operation"]:  # of whatever precision the CPU reads
                steps += record.get("steps", record["calls"])
        is_recorded = any(record["operation"] == "chebyshev_steps" for record in counted["operations"])
        swept, steps = total([*sweeps, *fields]), steps * _more_steps(counted["n_vertices"], graph.factor)
        certified = total(
            [calls.chebyshev_step().times(steps), *calls.certificate_ends(counted["certificates"])]
        )
        waits = self.machine.wait_seconds * (steps / COMBINED_LOOKS + 20 * counted["certificates"])
        pairs = 2 * counted["certificates"] * calls.chebyshev_step().launches if is_recorded else 0.0
        return [
            _staged("random starts", self.starts()),
            _staged("mixing sweeps", swept, recorded=True, recording=self._by_hand(recorded)),
            _staged(
                "certificates", certified, recorded=is_recorded, recording=self._by_hand(pairs), waits=waits
            ),
        ]

    def starts(self) -> Cost:
        """Random rows by the kernel of `normal`; blocks of certificates, float64, by torch from words."""
        counted, factor = self.relaxed.counted, self.relaxed.factor
        blocks = counted["certificates"] * COLUMNS * counted["n_vertices"]
        drawn = self.calls.normals(factor * (counted["normals"] - blocks))
        return total([drawn, self.calls.wide_normals(factor * blocks, counted["certificates"])])

    def _by_hand(self, launches: float) -> float:
        """A sequence is launched by hand twice before it is replayed: once to compile, once to record."""
        return 2 * launches * self.machine.eager_seconds

    def rounding(self, graph: Graph) -> Stage:
        """A thousand hyperplanes and their cuts."""
        columns = max(
            record["columns"]
            for record in self.relaxed.counted["operations"]
            if record["operation"] == "fields"
        )
        made = Operations(graph, self.kernels, self.machine).hyperplanes(columns, PLANES)
        return _staged("hyperplanes", made)

    def polishing(self, graph: Graph, rounds_alike: bool) -> list[Stage]:
        """The counted local search, in rounds of as many words of WORD replicas as a device takes at once."""
        calls, n_words = Operations(graph, self.kernels, self.machine), words(round(graph.rows))
        replicas = n_words * WORD
        sweeps, rounds = polished_on_device(graph.counted, replicas, rounds_alike=rounds_alike)
        swept = calls.packed_sweep(n_words).times(sweeps)
        around = total([calls.into_words(n_words), calls.gains(replicas), calls.one_opt(replicas)])
        crossed = calls.crossover(replicas).times(rounds)
        slices = rounds * slices_of(graph.rows, replicas, sweeps / rounds if rounds else 0.0)
        recording = self._by_hand(slices * calls.packed_sweep(n_words).launches)
        return [
            _staged("annealing", swept, recorded=True, recording=recording),
            _staged("gains and finishing moves", around.times(rounds)),
            _staged("crossover", crossed),
        ]


def _staged(name: str, cost: Cost, *, recorded: bool = False, **host: float) -> Stage:
    """A stage on the device, with seconds in which it waits for the host, by why."""
    bounds = {**cost.by_bound, **host}
    return Stage(name, DEVICE, cost.seconds + sum(host.values()), cost.launches, recorded, bounds)


def slices_of(rows: float, replicas: int, sweeps: float) -> int:
    """Parts of an anneal between two looks at the clock (`Polisher._slices`), each a call that records a sweep anew.

    >>> slices_of(125_000, 256, 100), slices_of(1e8, 32, 3)
    (2, 3)
    """
    return math.ceil(sweeps / max(1, int(DEVICE_SLICE / (rows * replicas))))


def polished_on_device(counted: Record, replicas: int, *, rounds_alike: bool) -> tuple[float, float]:
    """Sweeps of all words at once, and rounds, in place of the counted ones.

    Args:
        counted: a record of `_solve_counts`.
        replicas: that a device polishes at once.
        rounds_alike: as many rounds of as many sweeps, though each has more replicas; else as many sweeps x replicas,
            in one round at least.

    >>> anneal = {"operation": "anneal", "replicas": 8, "sweeps": 3200}
    >>> finish = {"operation": "one_opt", "replicas": 8, "calls": 64}
    >>> polished_on_device({"operations": [anneal, finish]}, 256, rounds_alike=False)
    (100.0, 2.0)
    >>> polished_on_device({"operations": [anneal, finish]}, 256, rounds_alike=True)
    (3200.0, 64.0)
    """
    sums = {"anneal": 0.0, "one_opt": 0.0}
    for record in counted["operations"]:
        name = record["operation"]
        if name in sums:
            share = 1.0 if rounds_alike else record["replicas"] / replicas
            sums[name] += share * record["sweeps" if name == "anneal" else "calls"]
    return sums["anneal"], max(1.0, sums["one_opt"]) if sums["one_opt"] else 0.0


def _more_steps(vertices: float, factor: float) -> float:
    """Certificate steps of a graph that is so many times larger, over those of the counted one."""
    at = [steps_for(TAU, round(n), UPPER, DELTA) for n in (vertices, factor * vertices)]
    return at[1] / at[0]
