"""How long does the relaxation take to a certified relative gap, against torch on the same start?

The gap is (certified bound - value of V) / sum |w|. The torch methods of ``baselines/torch_relaxation.py``
run on the same graph, rank, start and threads; every V that may qualify is certified by our own certificate
*outside their clock*, so they pay nothing for their bounds. Ours is timed twice: to the same V with the bound
outside the clock, as theirs (`like for like`), and whole, its vertex order and its own certificates included.

    python -m benchmarks.maxcut_time_to_certified_gap --data DIR --repeats 5

A baseline's time is that of the first checkpoint that passes; checkpoints are `CHECKPOINT_RATIO` apart, and
none is certified while its value alone shows that it cannot pass. Repeats are interleaved in one process. A commit
has records of its own, and only those of the newest one are compared.
"""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks import _families, _machine, _ours
from benchmarks._graphs import find_graphs
from benchmarks._records import (
    RESULTS_FOLDER,
    Record,
    Results,
    Spread,
    markdown_table,
    of_newest_commit,
    spread,
)
from benchmarks.baselines import torch_relaxation
from sdp.maxcut.graph import Graph

QUESTION = "maxcut_time_to_certified_gap"
KEY = ("graph", "method", "target_gap", "rank", "threads", "repeat", "commit")
COMPARED = ("graph", "target_gap", "rank", "threads")
REFERENCE_SECONDS = 10.0  # at most, for the value below which nothing can pass
OURS_WHOLE = "sdp, own bound in its time"
OURS_LIKE = "sdp, bound outside its time"
PLAIN = [name for name in torch_relaxation.METHODS if not name.endswith("tuned")]
CLAIMED_GAP, CLAIMED_EDGES, CLAIMED_RATIO = 1e-3, 1_000_000, 15.0
CHECKPOINT_RATIO = 1.1
FIRST_CHECKPOINT = 0.01  # seconds

Bound = Callable[[torch.Tensor, float], float]  # of V and the gap at which it may stop


@dataclass(frozen=True)
class Limits:
    """What every method gets: the gap, the columns of V (0: our default), seconds and threads."""

    target_gap: float
    rank: int
    time_limit: float
    threads: int


@dataclass
class GapWatch:
    """Watches a method's V on a clock that stands still while bounds are certified.

    Attributes:
        bound: certifies an upper bound from V.
        scale: sum |w|, which gaps are relative to.
        target_gap: the gap that ends the run.
        time_limit: seconds of the method's own time.
        least_value: V cannot pass below this value, because the SDP optimum is at least that plus the gap.
    """

    bound: Bound
    scale: float
    target_gap: float
    time_limit: float
    least_value: float
    iterations: int = 0
    certified: int = 0
    certificate_seconds: float = 0.0
    best_bound: float = float("inf")
    seconds_to_gap: float | None = None
    curve: list[tuple[float, float, float | None]] = field(default_factory=list)
    passing_value: float | None = None
    _began: float = 0.0
    _stood_still: float = 0.0
    _next: float = FIRST_CHECKPOINT

    def start(self) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    def __call__(self, v: torch.Tensor, value: float) -> bool:
        """Look at V with its value; True when the gap is reached or the time is up."""
        arrived = time.perf_counter()
        elapsed = arrived - self._began - self._stood_still
        self.iterations += 1
        if elapsed >= self._next or elapsed > self.time_limit:
            self._next = elapsed * CHECKPOINT_RATIO
            gap = None
            if value >= self.least_value:
                self.certified += 1
                before = time.perf_counter()
                self.best_bound = min(self.best_bound, self.bound(v, self.target_gap))
                self.certificate_seconds = time.perf_counter() - before
                gap = (self.best_bound - value) / self.scale
            self.curve.append((elapsed, value, gap))
            if gap is not None and gap <= self.target_gap:
                self.seconds_to_gap = elapsed
                self.passing_value = value
        self._stood_still += time.perf_counter() - arrived
        return self.seconds_to_gap is not None or elapsed > self.time_limit


def measure(
    name: str, graph: Graph, results: Results, limits: Limits, repeats: int, methods: list[str]
) -> None:
    """All missing repeats of all methods on one graph, interleaved; a method that fails once is left out."""
    ours = _ours.Relaxer(graph, limits.rank or None, limits.threads)
    setting: Record = {"target_gap": limits.target_gap, "rank": ours.rank, "threads": limits.threads}
    setting["commit"] = _machine.commit()
    tasks: list[Record] = [
        {"graph": name, "method": method, "repeat": repeat} | setting
        for repeat in range(repeats)
        for method in methods
    ]
    failed = {
        record["method"]
        for record in results.records()
        if record["seconds"] is None and record["graph"] == name and setting.items() <= record.items()
    }
    tasks = [task for task in tasks if not results.has(task) and task["method"] not in failed]
    if not tasks:
        return
    typer.echo(f"{name}: {graph.n_vertices} vertices, {graph.n_edges} edges, rank {ours.rank}", err=True)
    relaxation = torch_relaxation.Relaxation.of(graph)
    # A good value is a lower bound on the relaxation's optimum, hence on every certified bound.
    least_value = (
        ours.reference_value(min(limits.time_limit, REFERENCE_SECONDS))
        - limits.target_gap * graph.absolute_weight
    )
    # A bound that was rounded down to an integer may lie below the optimum, by less than 1.
    least_value -= float(graph.is_integer)
    passed_at: dict[str, float] = {}
    for task in tasks:
        method = task["method"]
        if method in failed:
            continue
        record = task | {
            "n_vertices": graph.n_vertices,
            "n_edges": graph.n_edges,
        }
        record |= {"load_average": _machine.load_average()}
        if method == OURS_WHOLE:
            record |= ours.to_certified_gap(limits.target_gap, limits.time_limit, seed=task["repeat"])
        else:
            bound = ours.bound_in_problem_order if method == OURS_LIKE else ours.bound
            least = passed_at.get(method, least_value)
            watch = GapWatch(bound, graph.absolute_weight, limits.target_gap, limits.time_limit, least)
            start = torch_relaxation.start(graph.n_vertices, ours.rank, seed=task["repeat"])
            watch.start()
            if method == OURS_LIKE:
                ours.watched(start, watch)
            else:
                torch_relaxation.METHODS[method](relaxation, start, watch)
            if watch.passing_value is not None:
                # Later repeats need not be certified long before the place where this one passed.
                passed_at[method] = watch.passing_value - 0.05 * limits.target_gap * graph.absolute_weight
            record |= {
                "seconds": watch.seconds_to_gap,
                "iterations": watch.iterations,
                "certified": watch.certified,
                "certificate_seconds": watch.certificate_seconds,
                "curve": watch.curve,
            }
        if record["seconds"] is None:
            failed.add(method)  # it would only fail again, slowly
        results.add(record)
        took = "not reached" if record["seconds"] is None else f"{record['seconds']:.3f} s"
        typer.echo(f"  {method}, repeat {task['repeat']}: {took}", err=True)


Runs = dict[str, dict[int, Record]]  # records by method and repeat


@dataclass(frozen=True)
class Ratio:
    """A way to compare: seconds of the best rival over seconds of ours."""

    label: str
    rivals: list[str]
    own: str
    rivals_pay: bool  # for the one certificate that passed, at our certificate's price

    def of(self, runs: Runs) -> Spread | None:
        """Of the rival with the best median, over paired repeats; None where either never got there."""
        totals = {name: self._seconds(runs.get(name, {})) for name in self.rivals}
        medians = {name: spread(found.values()).median for name, found in totals.items() if found}
        if not medians:
            return None
        best = totals[min(medians, key=lambda name: medians[name])]
        own = {repeat: run["seconds"] for repeat, run in runs.get(self.own, {}).items() if run["seconds"]}
        shared = [best[repeat] / own[repeat] for repeat in own if repeat in best]
        return spread(shared) if shared else None

    def _seconds(self, by_repeat: dict[int, Record]) -> dict[int, float]:
        return {
            repeat: run["seconds"] + (run["certificate_seconds"] if self.rivals_pay else 0.0)
            for repeat, run in by_repeat.items()
            if run["seconds"] is not None
        }


RATIOS = [
    Ratio(f"best {which} torch {how}", rivals, own, rivals_pay)
    for which, rivals in (("plain", PLAIN), ("plain or tuned", list(torch_relaxation.METHODS)))
    for how, own, rivals_pay in (
        ("/ ours, no bound in either time", OURS_LIKE, False),
        ("and one certificate / ours whole", OURS_WHOLE, True),
        ("without a bound / ours whole", OURS_WHOLE, False),
    )
]


def table(records: list[Record]) -> str:
    """Median seconds to the gap with their range, and how many times faster ours is: one table a setting."""
    settings: dict[tuple[Any, ...], dict[str, Runs]] = {}
    for record in of_newest_commit(records, COMPARED):
        setting = (record["target_gap"], record["threads"])
        graph = f"{record['graph']} ({record['n_edges']:,} edges, rank {record['rank']})"
        runs = settings.setdefault(setting, {}).setdefault(graph, {})
        runs.setdefault(record["method"], {})[record["repeat"]] = record
    parts = []
    for (target_gap, threads), graphs in settings.items():
        names = [OURS_WHOLE, OURS_LIKE, *torch_relaxation.METHODS]
        rows: list[list[object]] = [
            [name, *(_seconds_text(runs.get(name)) for runs in graphs.values())]
            for name in names
            if any(name in runs for runs in graphs.values())
        ]
        for ratio in RATIOS:
            found = [ratio.of(runs) for runs in graphs.values()]
            rows.append([f"**{ratio.label}**", *(cell and cell.text() for cell in found)])
        heading = f"Gap {target_gap:g}, {threads} threads:"
        parts.append(f"{heading}\n\n{markdown_table(['seconds', *graphs], rows)}")
    return "\n\n".join(parts)


def broken_claims(records: list[Record]) -> list[str]:
    """Sentences on each graph of about `CLAIMED_EDGES` edges where ours is not as much faster as claimed."""
    graphs: dict[str, Runs] = {}
    for record in of_newest_commit(records, COMPARED):
        if record["target_gap"] == CLAIMED_GAP and record["n_edges"] >= CLAIMED_EDGES / 2:
            runs = graphs.setdefault(f"{record['graph']}, rank {record['rank']}", {})
            runs.setdefault(record["method"], {})[record["repeat"]] = record
    found = [(graph, ratio.label, ratio.of(runs)) for graph, runs in graphs.items() for ratio in RATIOS]
    return [
        f"{graph}: {label}: {ratio.text()}."
        for graph, label, ratio in found
        if ratio is not None and ratio.median < CLAIMED_RATIO
    ]


def _seconds_text(by_repeat: dict[int, Record] | None) -> str | None:
    if by_repeat is None:
        return None
    seconds = [run["seconds"] for run in by_repeat.values() if run["seconds"] is not None]
    return spread(seconds).text() if seconds else "not reached"


def run(
    data: Annotated[
        list[Path] | None, typer.Option(help="Folder of graph files; may be given often.")
    ] = None,
    graphs: Annotated[str, typer.Option(help="Only these files or families, separated by commas.")] = "",
    edges: Annotated[int, typer.Option(help="Edges of the seeded families.")] = 1_000_000,
    smallest: Annotated[int, typer.Option(help="Leave out files with fewer edges.")] = 300_000,
    methods: Annotated[
        str, typer.Option(help="Only these, separated by semicolons; or plain, or all.")
    ] = "all",
    target_gap: Annotated[float, typer.Option(help="Certified relative gap to reach.")] = 1e-3,
    rank: Annotated[int, typer.Option(help="Columns of V; 0: as ours would choose.")] = 0,
    time_limit: Annotated[float, typer.Option(help="Seconds a run may take.")] = 60.0,
    threads: Annotated[int, typer.Option(help="Threads of every method.")] = 2,
    repeats: Annotated[int, typer.Option(help="Interleaved repeats.")] = 5,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS_FOLDER,
) -> None:
    """Measure what is missing, then print the table."""
    warnings.filterwarnings("ignore", message="Sparse", category=UserWarning)
    results = Results(QUESTION, KEY, out)
    wanted = [name for name in graphs.split(",") if name]
    chosen = [OURS_WHOLE, OURS_LIKE, *torch_relaxation.METHODS]
    if methods == "plain":
        chosen = [OURS_WHOLE, OURS_LIKE, *PLAIN]
    elif methods != "all":
        chosen = [name.strip() for name in methods.split(";")]
    limits = Limits(target_gap, rank, time_limit, threads)
    _ours.warm_up(threads)
    for family in _families.FAMILIES:
        if not wanted or family in wanted:
            graph = _families.make(family, edges, seed=0)
            measure(family, graph, results, limits, repeats, chosen)
    files = [name for name in wanted if name not in _families.FAMILIES]
    for name, path in find_graphs(data or [], files).items() if files or not wanted else ():
        graph = Graph.from_file(path)
        if graph.n_edges >= smallest or name in wanted:
            measure(name, graph, results, limits, repeats, chosen)
    typer.echo(table(results.records()))
    for sentence in broken_claims(results.records()):
        typer.echo(f"DOES NOT HOLD ({CLAIMED_RATIO:g} times faster): {sentence}")


if __name__ == "__main__":
    typer.run(run)
