"""What cut does each derandomiser reach, against the mean and the best of 1000 hyperplanes, and what does it cost?

All round the same V, that of our relaxation at a certified gap, made before any clock starts. The mean is
compared with its exact value, sum of w arccos / pi, before anything is believed.

    python -m benchmarks.derandomizers_against_hyperplanes --data DIR

Each seed draws other planes and leaves the saddle another way; `conditional` uses no seed and runs once.
No peer ships a derandomised rounding; the hyperplanes, ours and bit-packed, are the baseline.
"""

import math
import time
from pathlib import Path
from typing import Annotated

import numba
import torch
import typer

from benchmarks import _families, _machine
from benchmarks._graphs import best_known, find_graphs
from benchmarks._records import RESULTS_FOLDER, Record, Results, markdown_table, spread
from sdp.maxcut import relax, rounding
from sdp.maxcut.graph import Graph
from sdp.maxcut.problem import Problem, prepare

QUESTION = "derandomizers_against_hyperplanes"
KEY = ("graph", "method", "seed", "threads")
PLANES = "hyperplanes"
METHODS = (PLANES, *rounding.METHODS)
RELAXATION_GAP, RELAXATION_SECONDS = 1e-3, 30.0
RARE = 1e-4  # of sum |w|; 2e-5 was seen on G48
Z = 4.5  # standard errors that a mean of planes may lie from its expectation: one in 150,000


def measure(name: str, graph: Graph, results: Results, n_planes: int, seeds: int, threads: int) -> None:
    """All missing methods and seeds on one graph; a graph without missing ones is not even relaxed."""
    tasks: list[Record] = [
        {"graph": name, "method": method, "seed": seed, "threads": threads}
        for seed in range(seeds)
        for method in METHODS
        if seed == 0 or method != "conditional"
    ]
    tasks = [task for task in tasks if not results.has(task)]
    if not tasks:
        return
    problem = prepare(graph)
    found = relax.relax(problem, target_gap=RELAXATION_GAP, time_limit=RELAXATION_SECONDS, seed=0)
    rank = found.V.shape[1]
    typer.echo(f"{name}: {graph.n_vertices} vertices, {graph.n_edges} edges, rank {rank}", err=True)
    known = best_known().get(name)
    about: Record = {
        "n_vertices": graph.n_vertices,
        "n_edges": graph.n_edges,
        "absolute_weight": graph.absolute_weight,
        "rank": rank,
        "relaxation_value": found.value,
        "relaxation_seconds": found.seconds,
        "relaxation_gap": found.relative_gap(problem),
        "best_known": known.value if known else None,
        "n_planes": n_planes,
    }
    for task in tasks:
        load_average = _machine.load_average()
        measured = _round(problem, found.V, task["method"], n_planes, task["seed"])
        results.add(
            task | about | measured | {"load_average": load_average, "commit": _machine.commit()},
        )
        typer.echo(
            f"  {task['method']}: {measured['cut_value']:.10g} in {measured['seconds']:.2f} s", err=True
        )


def _round(problem: Problem, V: torch.Tensor, method: str, n_planes: int, seed: int) -> Record:
    """One rounding: its cut recomputed in float64 from the graph, and its seconds."""
    began = time.perf_counter()
    if method == PLANES:
        signs, _, values = rounding.hyperplanes(problem.csr, V, n_planes, seed)
        seconds = time.perf_counter() - began
        mean, deviation = float(values.mean()), float(values.std())
        expected = rounding.expected_cut(problem.csr, V)
        # All but one plane in many thousands cut a bipartite graph whole, and that one loses many edges:
        # RARE allows for what none of these planes showed.
        allowed = Z * deviation / math.sqrt(n_planes) + RARE * problem.absolute_weight
        if abs(mean - expected) > allowed:
            raise ValueError(f"mean of {n_planes} planes {mean} against {expected}: beyond chance.")
        extra: Record = {"mean": mean / problem.scale, "deviation": deviation / problem.scale}
        extra["expected"] = expected / problem.scale
    else:
        found = rounding.derandomize(problem.csr, V, method, seed=seed)
        seconds = time.perf_counter() - began
        signs = found.signs
        extra = {
            "evaluations": found.evaluations,
            "smooth_start": found.smooth_values[0] / problem.scale,
            "smooth_end": found.smooth_values[-1] / problem.scale,
        }
    return {"cut_value": problem.cut_value(signs), "seconds": seconds} | extra


def table(records: list[Record]) -> str:
    """A row a graph: mean and best of the planes, each method's median cut and seconds."""
    graphs: dict[str, dict[str, list[Record]]] = {}
    for record in sorted(records, key=lambda record: record["n_edges"]):
        graphs.setdefault(record["graph"], {}).setdefault(record["method"], []).append(record)
    rows: list[list[object]] = []
    for name, methods in graphs.items():
        some = next(iter(methods.values()))[0]
        planes = methods.get(PLANES, [])
        mean = f"{spread(r['mean'] for r in planes).median:.10g}" if planes else None
        cells = [_cell(methods.get(method, [])) for method in METHODS]
        known = some["best_known"] and f"{some['best_known']:.10g}"
        rows.append(
            [f"{name} ({some['n_edges']:,})", f"{some['relaxation_value']:.10g}", mean, *cells, known]
        )
    n_planes = records[0]["n_planes"] if records else 0
    header = ["graph (edges)", "relaxation", f"mean of {n_planes} planes", "best of them", *METHODS[1:]]
    return markdown_table([*header, "best known"], rows)


def _cell(records: list[Record]) -> str | None:
    if not records:
        return None
    cut = spread(record["cut_value"] for record in records).median
    seconds = spread(record["seconds"] for record in records).median
    return f"{cut:.10g} ({seconds:.2g} s)"


def order(records: list[Record]) -> str:
    """The methods by their mean place among the three, with the share of graphs where each is best."""
    graphs: dict[str, dict[str, float]] = {}
    seconds: dict[str, list[float]] = {}
    for record in records:
        if record["method"] != PLANES:
            cuts = graphs.setdefault(record["graph"], {})
            cuts[record["method"]] = max(cuts.get(record["method"], -math.inf), record["cut_value"])
            seconds.setdefault(record["method"], []).append(record["seconds"] / record["n_edges"] * 1e6)
    whole = [cuts for cuts in graphs.values() if len(cuts) == len(rounding.METHODS)]
    if not whole:
        return "No graph has all methods yet."
    places = {
        method: sum(sum(other > cuts[method] for other in cuts.values()) + 1 for cuts in whole) / len(whole)
        for method in rounding.METHODS
    }
    parts = [
        f"{method}: mean place {places[method]:.2f}, {spread(seconds[method]).text()} s a million edges"
        for method in sorted(places, key=lambda method: places[method])
    ]
    return "\n".join(f"- {part}" for part in parts)


def broken_claims(records: list[Record]) -> list[str]:
    """Sentences on each derandomised cut below the mean of the planes on its graph."""
    means: dict[str, list[float]] = {}
    for record in records:
        if record["method"] == PLANES:
            means.setdefault(record["graph"], []).append(record["mean"])
    return [
        f"{record['graph']}, {record['method']}, seed {record['seed']}: {record['cut_value']:.10g} is below the "
        f"mean hyperplane {max(means[record['graph']]):.10g}."
        for record in records
        if record["method"] != PLANES
        and record["graph"] in means
        and record["cut_value"] < max(means[record["graph"]]) - 1e-9 * record["absolute_weight"]
    ]


def run(
    data: Annotated[
        list[Path] | None, typer.Option(help="Folder of graph files; may be given often.")
    ] = None,
    graphs: Annotated[str, typer.Option(help="Only these files or families, separated by commas.")] = "",
    edges: Annotated[int, typer.Option(help="Edges of the seeded families.")] = 100_000,
    planes: Annotated[int, typer.Option(help="Hyperplanes a seed.")] = 1000,
    seeds: Annotated[int, typer.Option(help="Seeds, from 0.")] = 3,
    threads: Annotated[int, typer.Option(help="Threads of numba and torch.")] = 2,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS_FOLDER,
) -> None:
    """Measure what is missing, then print the table, the order and what does not hold."""
    numba.set_num_threads(threads)
    torch.set_num_threads(threads)
    results = Results(QUESTION, KEY, out)
    wanted = [name for name in graphs.split(",") if name]
    for method in METHODS:  # compile before any clock starts
        problem = prepare(_families.make("random-sparse", 100_000, seed=1))
        _round(problem, relax.random_rows(problem.n_vertices, 4, 0), method, planes, 0)
    for family in _families.FAMILIES:
        if not wanted or family in wanted:
            measure(family, _families.make(family, edges, seed=0), results, planes, seeds, threads)
    files = [name for name in wanted if name not in _families.FAMILIES]
    for name, path in find_graphs(data or [], files).items() if files or not wanted else ():
        measure(name, Graph.from_file(path), results, planes, seeds, threads)
    records = results.records()
    typer.echo(main_table(records))
    for sentence in broken_claims(records):
        typer.echo(f"DOES NOT HOLD: {sentence}")


def main_table(records: list[Record]) -> str:
    """The table, and the order of the three."""
    return f"{table(records)}\n\n{order(records)}"


if __name__ == "__main__":
    typer.run(run)
