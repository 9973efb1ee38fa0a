"""How long should a whole MAXCUT solve take on a GPU? A model, not a measurement: no GPU was used.

Counts of real CPU runs of the same pipeline (sweeps, certificate steps, columns, rounds, replicas, colour classes)
times the predicted cost of each call on A100, H100, B200 and MI300X: the machine code of the kernel report against the
chips' limits, cache misses, gathers that wait for one another, and launches (`_gpu_costs`, `_gpu_timeline`).

    python -m benchmarks.maxcut_gpu_model --count --edges 1000000         # 60 s a solve; 10 minutes
    python -m benchmarks.maxcut_gpu_model --count --edges 10000000 --parts gap --families rmat-16,random-16
    python -m benchmarks.maxcut_gpu_model --host --edges 1000000          # the host's seconds again; 2 minutes
    python -m benchmarks.maxcut_gpu_model                                 # the tables, from the counts there are
    python -m benchmarks.maxcut_gpu_model --json

What stays on the host (exact reduction, colouring, ordering) is measured there, the least of five runs, and shown
apart; `--host` measures that alone again. Random starts are made on the device.
Larger graphs than were counted are taken to need the same sweeps and rounds, certificates a few steps more. `make gpu`
measures the kernels and a whole solve where a GPU exists.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from benchmarks import _gpu_costs, _machine, _published
from benchmarks._gpu_costs import ASSUMPTIONS, Kernels, Machine, machine_of
from benchmarks._gpu_operations import Graph
from benchmarks._gpu_timeline import DEVICE, HOST, Solve, Stage
from benchmarks._records import RESULTS_FOLDER, Record, Results, latest, load, markdown_table
from tools._report.chips import CHIPS

QUESTION = "maxcut_gpu_model"
KEY = ("part", "family", "edges", "target")
COUNTS = "maxcut_gpu_counts"
COUNTS_KEY = ("part", "family", "edges_asked", "threads", "time_limit")
SIZES = (1_000_000, 10_000_000, 100_000_000)
H100 = "sm_90"
GAP, SOLVE = "gap", "solve"
NEAR = 2.0  # vertices of a prediction over those of a published time that it may stand beside
MOST_SECONDS = {GAP: 0.3, SOLVE: 2.0}  # of a graph of a million edges on an H100
# Of every prediction: what it becomes where one assumption is off by a factor of two, or does not hold at all.
SENSITIVITY: dict[str, dict[str, float]] = {
    "L2 bandwidth / 2": {"cache_rate": 0.5},
    "L2 bandwidth x 2": {"cache_rate": 2.0},
    "launches / 2": {"node_seconds": 0.5, "eager_seconds": 0.5},
    "launches x 2": {"node_seconds": 2.0, "eager_seconds": 2.0},
    "latency of gathers x 2": {"hit_seconds": 2.0, "miss_seconds": 2.0},
    "memory x 1/2": {"memory_share": 0.5},
    "no gather hits the cache": {"cache_bytes": 0.0},
}


class Graphs(NamedTuple):
    """What a prediction is made for: the graph that is relaxed, and for a whole solve the one that is polished."""

    relaxed: Graph
    polished: Graph | None = None

    def stages(self, kernels: Kernels, machine: Machine, *, rounds_alike: bool = False) -> list[Stage]:
        """The stages on one machine; `rounds_alike` as in `polished_on_device`."""
        solve = Solve(self.relaxed, kernels, machine)
        if self.polished is None:
            return solve.to_gap()
        return solve.whole(self.polished, rounds_alike=rounds_alike)


def seconds(stages: Sequence[Stage], machine: Machine, *places: str, record: bool = True) -> float:
    """Total of the stages in some places, of all where none is named."""
    return sum(s.total(machine, record=record) for s in stages if not places or s.place in places)


def changed(target: str, factors: dict[str, float]) -> Machine:
    """The machine of a target with some of its numbers multiplied."""
    machine = machine_of(target)
    values = {
        name: factor * (machine.chip.cache_rate if name == "cache_rate" else getattr(machine, name))
        for name, factor in factors.items()
    }
    return machine_of(target, **values)


def modelled(family: str, edges: int, graphs: Graphs, kernels: Kernels) -> Record:
    """One prediction, ready for JSON.

    Raises:
        LookupError: the report lacks a kernel; the sentence says how to make it.
    """
    target = kernels.target
    machine = machine_of(target)
    stages = graphs.stages(kernels, machine)
    other = {}
    for name, factors in SENSITIVITY.items():
        there = changed(target, factors)
        other[name] = seconds(graphs.stages(kernels, there), there, DEVICE)
    other["nothing recorded"] = seconds(stages, machine, DEVICE, record=False)
    graph, polished = graphs
    alike = seconds(graphs.stages(kernels, machine, rounds_alike=True), machine, DEVICE)
    return {
        "part": GAP if polished is None else SOLVE,
        "family": family,
        "edges": edges,
        "target": target,
        "chip": CHIPS[target].name,
        "n_vertices": graph.rows,
        "n_edges": graph.entries / 2,
        "counted_edges": graph.counted["n_edges"],
        "counted_cut": polished and polished.counted["cut_value"],
        "stages": [
            {**stage._asdict(), "total": stage.total(machine), "bound": main_bound(stage, machine)}
            for stage in stages
        ],
        "device_seconds": seconds(stages, machine, DEVICE),
        "rounds_alike_device_seconds": alike if polished else None,
        "host_seconds": seconds(stages, machine, HOST),
        "total_seconds": seconds(stages, machine),
        "sensitivity": other,
        "commit": _machine.commit(),
    }


def main_bound(stage: Stage, machine: Machine) -> str:
    """What most of a stage's time goes to."""
    if stage.place != DEVICE:
        return stage.place
    waiting = stage.total(machine) - stage.seconds
    bounds = {**stage.by_bound, "launches": waiting}
    return max(bounds, key=lambda name: bounds[name])


def graph_for(part: str, family: str, edges: int, counts: Sequence[Record]) -> Graph | None:
    """The largest counted graph of a family that is not larger than about `edges`, scaled to it."""
    found = [r for r in counts if r["part"] == part and r["family"] == family and r["edges_asked"] <= edges]
    if not found:
        return None
    best = max(found, key=lambda record: (record["edges_asked"], record["time_limit"]))
    return Graph(best, edges / best["edges_asked"])


def model(counts: Sequence[Record], sizes: Sequence[int], targets: Sequence[str]) -> list[Record]:
    """All predictions that the counts and the committed report allow.

    Raises:
        LookupError: the report lacks a kernel; the sentence says how to make it.
    """
    report = _gpu_costs.load_report()
    return [found for target in targets for found in model_on(counts, sizes, Kernels(report, target))]


def model_on(counts: Sequence[Record], sizes: Sequence[int], kernels: Kernels) -> list[Record]:
    """As `model`, on the target of these kernels."""
    found = []
    for family in dict.fromkeys(record["family"] for record in counts):
        for edges in sizes:
            relaxed, polished = (graph_for(part, family, edges, counts) for part in (GAP, SOLVE))
            if relaxed is not None:
                found.append(modelled(family, edges, Graphs(relaxed), kernels))
            if relaxed is not None and polished is not None:
                found.append(modelled(family, edges, Graphs(relaxed, polished), kernels))
    return found


def table(records: Sequence[Record]) -> str:
    """The predictions by family, size and chip; None of these numbers was measured on a GPU."""
    targets = list(dict.fromkeys(record["target"] for record in records))
    chips = [CHIPS[target].name for target in targets]
    lines = []
    for part, title in (
        (
            GAP,
            "To a relaxation with a certified gap of 1e-3: seconds on the device (with what the host does)",
        ),
        (
            SOLVE,
            "A whole solve with the sweeps x replicas of 60 s of the CPU engine: seconds on the device (all)",
        ),
    ):
        rows: dict[tuple[str, int], dict[str, Record]] = {}
        for record in records:
            if record["part"] == part:
                rows.setdefault((record["family"], record["edges"]), {})[record["target"]] = record
        if not rows:
            continue
        header = ["family and degree", "vertices", "edges", *chips, f"on {CHIPS[H100].name} mostly"]
        if part == SOLVE:
            header.append(f"{CHIPS[H100].name}, as many rounds of 256")
        cells = [
            [
                family,
                f"{some['n_vertices']:.3g}",
                f"{some['n_edges']:.3g}",
                *(_seconds(found.get(target)) for target in targets),
                _mostly(found.get(H100)),
                *([_alike(found.get(H100))] if part == SOLVE else []),
            ]
            for (family, _), found in rows.items()
            for some in [next(iter(found.values()))]
        ]
        lines += [f"{title}. A model, not a measurement.", "", markdown_table(header, cells), ""]
    lines += [_sensitivity(records), "", *broken_claims(records)]
    return "\n".join(lines).rstrip()


def _seconds(record: Record | None) -> str | None:
    if record is None:
        return None
    return f"{record['device_seconds']:.3g} ({record['total_seconds']:.3g})"


def _alike(record: Record | None) -> str | None:
    return None if record is None else f"{record['rounds_alike_device_seconds']:.3g}"


def _mostly(record: Record | None) -> str | None:
    """The longest stage on the device and what bounds it."""
    if record is None:
        return None
    stages = [stage for stage in record["stages"] if stage["place"] == DEVICE]
    longest = max(stages, key=lambda stage: stage["total"])
    return f"{longest['name']} {longest['total']:.2g} s, {longest['bound']}"


def _sensitivity(records: Sequence[Record]) -> str:
    """Device seconds on an H100 at the smallest size, as they are and with one assumption changed."""
    found = [r for r in records if r["target"] == H100 and r["edges"] == min(SIZES)]
    if not found:
        return ""
    names = list(found[0]["sensitivity"])
    rows = [
        [r["part"], r["family"], f"{r['device_seconds']:.3g}", *(f"{r['sensitivity'][n]:.3g}" for n in names)]
        for r in found
    ]
    title = f"Device seconds on an {CHIPS[H100].name}, {min(SIZES):,} edges, and with one assumption changed:"
    return f"{title}\n\n{markdown_table(['part', 'family', 'as assumed', *names], rows)}"


def broken_claims(records: Sequence[Record]) -> list[str]:
    """What the bars of a graph of a million edges on an H100 say, a sentence a prediction that misses one."""
    found = []
    for record in records:
        if record["target"] != H100 or record["edges"] != min(SIZES):
            continue
        most = MOST_SECONDS[record["part"]]
        for what, value in (("on the device", "device_seconds"), ("with the host's part", "total_seconds")):
            if record[value] > most:
                found.append(
                    f"DOES NOT HOLD: {record['part']} of {record['family']}, {what}: {record[value]:.3g} s "
                    f"predicted; the bar is {most:g} s."
                )
    return found


def assumptions() -> str:
    """Every number that neither the machine code nor a count gives."""
    rows = [[entry.name, *(entry.on(target) for target in CHIPS), entry.source] for entry in ASSUMPTIONS]
    return markdown_table(["assumption", *(chip.name for chip in CHIPS.values()), "source"], rows)


def published(records: Sequence[Record]) -> str:
    """What other solvers' papers say, and the predictions that come nearest in size."""
    lines = [markdown_table(_published.HEADER, _published.rows()), ""]
    for entry in _published.PUBLISHED:
        if entry.seconds is None or entry.vertices is None:
            continue
        near = [
            record
            for record in records
            if (record["part"], record["target"]) == (GAP, H100)
            and 1 / NEAR <= record["n_vertices"] / entry.vertices <= NEAR
        ]
        ours = "; ".join(
            f"{r['family']} with {r['n_vertices']:.2g} vertices and {r['n_edges']:.2g} edges "
            f"{r['device_seconds']:.2g} s on the device ({r['total_seconds']:.2g} s with the host's part)"
            for r in near
        )
        if ours:
            lines.append(
                f"- {entry.solver}, {entry.vertices:.2g} vertices, {entry.hardware}: {entry.seconds[0]:g} to "
                f"{entry.seconds[1]:g} s measured by its authors. This model, of other graphs, to a certified gap "
                f"of 1e-3: {ours}."
            )
    return "\n".join(lines).rstrip()


def main_table(records: Sequence[Record]) -> str:
    """What the README shows."""
    return "\n\n".join([table(records), assumptions(), published(records)])


def count(
    families: Sequence[str],
    edges: Sequence[int],
    parts: Sequence[str],
    threads: int,
    time_limit: float,
    out: Path,
    redo: bool,
) -> None:
    """Counts what is missing, or with `redo` everything, smallest graphs first.

    Relaxations have no time limit, so that their counts do not vary; solves make what the machine can in theirs.
    """
    from benchmarks import _ours, _solve_counts

    results, is_warm = Results(COUNTS, COUNTS_KEY, out), False
    for n_edges in sorted(edges):
        for family in families or _solve_counts.FAMILIES:
            for part in parts:
                limit = time_limit if part == SOLVE else None
                key = {"part": part, "family": family, "edges_asked": n_edges, "threads": threads}
                key["time_limit"] = limit
                if results.has(key) and not redo:
                    continue
                if not is_warm:
                    _ours.warm_up(threads)
                    is_warm = True
                graph = _solve_counts.FAMILIES[family](n_edges, 0)
                if limit is None:
                    record = _solve_counts.count_relaxation(graph, threads)
                else:
                    record = _solve_counts.count_solve(graph, threads, limit)
                results.add(key | record)
                typer.echo(f"counted: {part} of {family}, {graph.n_edges} edges", err=True)


def measure_host(families: Sequence[str], edges: Sequence[int], out: Path) -> None:
    """Measures again what the host does in the counts that there are; everything else in them stays."""
    from benchmarks import _ours, _solve_counts

    path = latest(COUNTS, out)
    results, warm = Results(COUNTS, COUNTS_KEY, out), set[int]()
    for record in load(path) if path else []:
        asked, family = record["edges_asked"], record["family"]
        if asked not in edges or (families and family not in families):
            continue
        if record["threads"] not in warm:
            _ours.warm_up(record["threads"])
            warm.add(record["threads"])
        graph = _solve_counts.FAMILIES[family](asked, 0)
        measured = _solve_counts.host_seconds(graph, reduced=record["part"] == SOLVE)
        host = {"host_commit": _machine.commit(), "host_load_average": _machine.load_average()}
        results.add({**record, "seconds": {**record["seconds"], **measured}, **host})
        shown = ", ".join(f"{name} {value:.3f} s" for name, value in measured.items())
        typer.echo(f"{record['part']} of {family}, {graph.n_edges} edges: {shown}", err=True)


def run(
    families: Annotated[
        str, typer.Option(help="Graphs to count, separated by commas; all where empty.")
    ] = "",
    edges: Annotated[
        str, typer.Option(help="Edges of the graphs to count, separated by commas.")
    ] = "1000000",
    parts: Annotated[str, typer.Option(help="Of: gap (the relaxation alone), solve.")] = f"{GAP},{SOLVE}",
    threads: Annotated[int, typer.Option(help="Threads of the CPU runs.")] = 2,
    time_limit: Annotated[float, typer.Option(help="Seconds of a counted solve.")] = 60.0,
    do_count: Annotated[
        bool, typer.Option("--count", help="First count what is missing, on the CPU.")
    ] = False,
    redo: Annotated[bool, typer.Option("--redo", help="Count again what was counted before.")] = False,
    host: Annotated[
        bool, typer.Option("--host", help="First measure again what the host does in what was counted.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the predictions as JSON.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS_FOLDER,
) -> None:
    """Count if asked to, predict, write results/, and print the tables."""
    chosen = [name for name in families.split(",") if name]
    sizes = [round(float(size)) for size in edges.split(",")]
    if do_count:
        count(chosen, sizes, parts.split(","), threads, time_limit, out, redo)
    if host:
        measure_host(chosen, sizes, out)
    path = latest(COUNTS, out)
    if path is None:
        raise typer.BadParameter(f"{out} holds no {COUNTS}-*.json; run with --count first.")
    counts = load(path)
    try:
        records = model(counts, SIZES, list(CHIPS))
    except LookupError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    results = Results(QUESTION, KEY, out, measured=False)
    for record in records:
        results.add(record)
    if as_json:
        typer.echo(json.dumps({"question": QUESTION, "measured": False, "records": records}))
    else:
        typer.echo(main_table(records))


if __name__ == "__main__":
    typer.run(run)
