"""Cost of one call of each graph operation on a device: which kernels it launches, and over how much of a graph.

This follows the Triton twins: a launch a colour class, further ones where rows are heavy, the row plan's items, the
tables that are gathered from. A twin that launches otherwise must be changed here too; `make gpu` shows it.
"""

from typing import NamedTuple

from benchmarks._gpu_costs import Cost, Kernels, Launch, Machine, launch_cost, streamed, total
from benchmarks._records import Record
from sdp.maxcut.bound import COLUMNS
from sdp_kernels.triton.graph import SQUARES_ITEMS
from sdp_kernels.triton.graph_catalog import CACHE_BYTES, DEGREES, ENTRIES, label

STORAGE = {2: "fp16", 4: "fp32"}
WORD = 32  # replicas
HEAVY_LEVELS = 5  # passes over a heavy row's levels of acceptance, four at a time
GROUP = 4  # entries a pass of gathers (triton/_rows.py)
REPLICAS_A_PASS = 64  # of `gains` (triton/graph.py)
MOVES = 16  # passes of `one_opt`, looked at every 8 (triton/anneal.py); an anneal leaves work for about ten
PACKED_WORDS = 32  # of a program of the report's packed annealing; fewer leave room for more items


class Graph(NamedTuple):
    """Sizes of the graph that is solved, and of the one that was counted.

    Attributes:
        counted: record of `_solve_counts`.
        factor: rows of this graph over those of the counted one.
    """

    counted: Record
    factor: float = 1.0

    @property
    def rows(self) -> float:
        """Vertices."""
        return float(self.factor * self.counted["n_vertices"])

    @property
    def entries(self) -> float:
        """Stored entries: two an edge."""
        return float(2 * self.factor * self.counted["n_edges"])

    def launches(self, *, by_class: bool) -> list[Launch]:
        """What one pass over all entries launches: one launch a class where classes wait for one another, else one."""
        classes, scale = self.counted["classes"], self.factor
        columns = (classes[name] for name in ("entries", "items", "passes", "longest"))
        found = [
            Launch(scale * e, scale * i, scale * p, longest)
            for e, i, p, longest in zip(*columns, strict=True)
        ]
        if by_class:
            return found
        entries, items, passes = (sum(launch[k] for launch in found) for k in range(3))
        return [Launch(entries, items, passes, max((launch.longest for launch in found), default=0.0))]

    def heavy_waits(self, *, by_class: bool) -> list[float]:
        """Dependent passes of each launch that adds up the parts of heavy rows; heavy rows are as long at any size."""
        longest = [passes for passes in self.counted["classes"]["longest_heavy"] if passes]
        return longest if by_class else longest and [max(longest)]


class Operations:
    """Cost of one call of each operation on a graph.

    Args:
        graph: whose sizes count.
        kernels: of the report, on the machine's target.
        machine: where.
    """

    def __init__(self, graph: Graph, kernels: Kernels, machine: Machine) -> None:
        self.graph, self.kernels, self.machine = graph, kernels, machine

    def _rows_pass(self, entry: str, variant: str, *, by_class: bool, row_bytes: float) -> Cost:
        """A kernel, its unit an entry, over the items of the row plan, and over heavy rows where there are any."""
        kernel, graph = self.kernels.find(entry, variant), self.graph
        launches = graph.launches(by_class=by_class)
        if row_bytes * ENTRIES / DEGREES[0] > CACHE_BYTES:
            # The catalogue counts what does not fit a cache as read; here `launch_cost` decides what does.
            work = kernel.work._replace(read_bytes=kernel.work.read_bytes - kernel.work.cached_bytes)
            kernel = kernel._replace(work=work)
        cost = launch_cost(self.machine, kernel, launches, graph.rows * row_bytes, row_bytes)
        # The parts of a heavy row are contiguous, and their loads do not wait for an index.
        waits = graph.heavy_waits(by_class=by_class)
        seconds = (sum(waits) + 2 * len(waits)) * self.machine.hit_seconds
        return total([cost, Cost(seconds, len(waits), {"gather latency": seconds})])

    def _over(
        self, entry: str, variant: str, units: float, table_bytes: float = 0.0, access: float = 4.0
    ) -> Cost:
        """One launch over so many units."""
        kernel = self.kernels.find(entry, variant)
        return launch_cost(self.machine, kernel, [Launch(units)], table_bytes, access)

    def normals(self, numbers: float) -> Cost:
        """So many float32 normals in rows that a program's tile holds whole, and their scaling to unit rows."""
        return total([self._over("normal", "32-bit", numbers), streamed(self.machine, 3 * 4 * numbers, 3)])

    def wide_normals(self, numbers: float, calls: float) -> Cost:
        """So many float64 normals: words by a kernel, then torch's formula, some thirty passes over two arrays."""
        words = self._over("uniform_bits", "whole", numbers)
        return total([words, streamed(self.machine, 30 * 2 * 8 * numbers, 30 * calls)])

    def sweep(self, columns: int, size: int) -> Cost:
        """One sweep of the mixing method over rows of `columns` numbers of `size` bytes."""
        variant = label(columns, STORAGE[size])
        return self._rows_pass("graph_mixing", variant, by_class=True, row_bytes=columns * size)

    def fields(self, columns: int, size: int) -> Cost:
        """Lengths of all fields, widened."""
        variant = label(columns, STORAGE[size])
        made = self._rows_pass("graph_fields", variant, by_class=False, row_bytes=columns * size)
        return total([made, streamed(self.machine, 24 * self.graph.rows, 2)])

    def chebyshev_step(self) -> Cost:
        """One step of the certificate on COLUMNS columns in float64, and the sums of its squares."""
        made = self._rows_pass(
            "graph_chebyshev", label(COLUMNS, "fp64"), by_class=False, row_bytes=8 * COLUMNS
        )
        squares = self.graph.rows / SQUARES_ITEMS * COLUMNS / 4
        folds = [
            self._over("graph_fold", label(4, "fp64"), max(1.0, rows)) for rows in (squares, squares / 1024)
        ]
        # And torch's: room for the squares, their largest.
        return total([made, *folds, streamed(self.machine, 0.0, 2)])

    def certificate_ends(self, certificates: float) -> list[Cost]:
        """What certificates do besides their steps: scaled weights, sums of h and d, Ritz vectors, repaired h."""
        scaled = streamed(self.machine, certificates * 72 * self.graph.entries, 12 * certificates)
        ritz = streamed(self.machine, certificates * 30 * 8 * COLUMNS * self.graph.rows, 60 * certificates)
        return [scaled, ritz]

    def hyperplanes(self, columns: int, planes: int) -> Cost:
        """Packed signs of V times normals, and the cuts of all of them."""
        graph = self.graph
        # The report has the kernel for 32 terms; its loop over terms goes round as often as there are 32.
        signs = self._over("project_signs", "rank 32", graph.rows * planes).times(max(1.0, columns / 32))
        words = -(-planes // 32)
        return total([signs, self.cut_values(words)])

    def cut_values(self, words: int) -> Cost:
        """Cuts of packed replicas with few different weights."""
        kernel, row_bytes = "32 words" if words > 1 else "1 word", 4.0 * words
        units = self.graph.entries / 2 * words
        counted = self._over("cut_count", kernel, units, self.graph.rows * row_bytes, row_bytes)
        return total([counted, self._over("cut_total", "counted", 512 * 32 * words)])

    def into_words(self, words: int) -> Cost:
        """Copies of the elite, packed, and back into rows of signs for what comes after the anneal."""
        signs = 32 * words * self.graph.rows
        moved = streamed(self.machine, 2 * signs + 2 * 2 * signs, 4)
        packed = [self._over(f"{verb}_signs", "rows", signs) for verb in ("pack", "unpack")]
        return total([moved, *packed])

    def packed_sweep(self, words: int) -> Cost:
        """One sweep of packed annealing: of each class one launch for every kind of rows that it has.

        The report has rows of 8 entries, and of 64 for those above 16: a row of another length counts as so many of
        them as its entries are, and as one at least.
        """
        table = self._over("anneal_packed_table", "independent", words)
        number = Cost(0.0, 1.0, {})  # of the sweep, raised by torch
        few = [self._packed("anneal_packed", "8", kind, words, degree=8) for kind in ("_4", "_8", "_16")]
        many = self._packed("anneal_packed_many", "64", "_many", words, degree=64)
        # A heavy row's counters one after another, then its levels.
        waits = self.graph.heavy_waits(by_class=True)
        seconds = (GROUP * sum(waits) + HEAVY_LEVELS * len(waits)) * self.machine.hit_seconds
        return total([table, number, *few, many, Cost(seconds, len(waits), {"gather latency": seconds})])

    def _packed(
        self, entry: str, variant: str, kind: str, words: int, *, degree: int, items_of_words: bool = False
    ) -> Cost:
        """The launches over the rows of one kind, class by class.

        Args:
            entry: of the catalogue, its unit a spin update.
            variant: of the entry, for rows of `degree` entries.
            kind: of rows: "_4", "_8", "_16" or "_many" (of more than 16 entries), or "" for all.
            words: of 32 replicas.
            degree: see `variant`.
            items_of_words: whether a program has one word of its items, not up to PACKED_WORDS.
        """
        classes, scale = self.graph.counted["classes"], self.graph.factor
        kernel = self.kernels.find(entry, variant)
        repeats = words if items_of_words else 1
        if not items_of_words:
            kernel = kernel._replace(items=kernel.items * PACKED_WORDS // min(words, PACKED_WORDS))
        launches = []
        for items, entries, longest in zip(
            classes[f"items{kind}"], classes[f"entries{kind}"], classes["longest"], strict=True
        ):
            updates = WORD * words * max(items, entries / degree)
            # Up to 16 entries are unrolled: all gathers of a row are in flight together.
            unrolled = kind in ("_4", "_8", "_16")
            passes, waits = (items, 1) if unrolled else (entries / GROUP, longest)
            launches.append(Launch(scale * updates, scale * repeats * items, scale * repeats * passes, waits))
        return launch_cost(self.machine, kernel, launches, self.graph.rows * 4.0 * words, 4.0 * words)

    def gains(self, replicas: int) -> Cost:
        """Gains of int8 signs (replicas, n), by passes of REPLICAS_A_PASS of them, with copies into and out of rows."""
        passes = -(-replicas // REPLICAS_A_PASS)
        made = self._rows_pass(
            "graph_product", label(REPLICAS_A_PASS, "i8"), by_class=False, row_bytes=REPLICAS_A_PASS
        ).times(passes)
        return total([made, streamed(self.machine, 10 * replicas * self.graph.rows, 3 * passes)])

    def one_opt(self, replicas: int) -> Cost:
        """Finishing moves of all replicas, packed: MOVES passes over the rows, class by class, and the gains after."""
        words = -(-replicas // WORD)
        visit = self._packed("anneal", "one_opt", "", words, degree=8, items_of_words=True)
        waits = self.graph.heavy_waits(by_class=True)
        seconds = (sum(waits) + 2 * len(waits)) * self.machine.hit_seconds
        heavy = Cost(seconds, len(waits), {"gather latency": seconds})
        return total([total([visit, heavy]).times(MOVES), self.gains(replicas), self.into_words(words)])

    def crossover(self, others: int) -> Cost:
        """One partition takes what is better from each of the others, one after another."""
        rows, edges, roots = self.graph.rows, self.graph.entries / 2, 4 * self.graph.rows
        step = total(
            [
                self._over("crossover_mark", "mark", rows),
                self._over("crossover_link", "link", edges, roots),
                self._over("crossover_flatten", "flatten", rows, roots),
                self._over("crossover_gain", "gain", edges, roots),
                self._over("crossover_take", "take", rows, 12 * self.graph.rows),
            ]
        )
        return total([self._over("crossover_compare", "compare", rows), step.times(others)])
