"""Who finds the larger cut in the same time on the same number of threads?

Ours against the peers of ``baselines/``: dwave-samplers' simulated annealing and tabu search, MQLib's
BURER2002, simulated-bifurcation. Each run has a process of its own, so no run inherits another's heap or
threads, and with ``--workers 2`` two solvers run beside each other on the same graph, one a core, under the
same load. Ours is charged everything from the call to the answer, its bound included; a peer is charged its
search only: its set-up, calibration and copying are free (see ``baselines/dwave.py``).

    python -m benchmarks.maxcut_cut_at_equal_time --data DIR --time-limit 60 --threads 1 --workers 2

Cut values are recomputed from the partition in float64. A run that is in the results file already is not
run again unless ``--redo`` is given.
"""

import math
import time
import warnings
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import _machine
from benchmarks._graphs import BestKnown, best_known, find_graphs
from benchmarks._records import RESULTS_FOLDER, Record, Results, markdown_table, spread

QUESTION = "maxcut_cut_at_equal_time"
KEY = ("graph", "solver", "time_limit", "threads", "repeat")
OURS = "sdp"
JUDGE = "dwave SA"  # the strongest peer: the one to beat
SOLVERS = (OURS, JUDGE, "dwave tabu", "MQLib BURER2002", "simulated bifurcation")
WARM_UP_EDGES = 3000


@dataclass(frozen=True)
class Task:
    """One run to be made; the repeat is its seed."""

    graph: str
    path: Path
    solver: str
    repeat: int

    def key(self) -> Record:
        """The fields by which its record is found."""
        return {"graph": self.graph, "solver": self.solver, "repeat": self.repeat}


def solve(solver: str, path: str, time_limit: float, threads: int, seed: int) -> Record:
    """One run of one solver on one graph, in the process that calls it.

    Returns:
        The record, without the number of the repeat. Where the peer cannot run, its reason as `failure`.
    """
    import torch

    from sdp.maxcut.graph import Graph

    warnings.filterwarnings("ignore", message="Sparse", category=UserWarning)
    torch.set_num_threads(threads)
    graph = Graph.from_file(path)
    load_before = _machine.load_average()
    record: Record = {
        "solver": solver,
        "time_limit": time_limit,
        "threads": threads,
        "seed": seed,
        "n_vertices": graph.n_vertices,
        "n_edges": graph.n_edges,
        "absolute_weight": graph.absolute_weight,
        "commit": _machine.commit(),
    }
    try:
        found = (
            _run_ours(graph, time_limit, threads, seed)
            if solver == OURS
            else _run_peer(solver, graph, time_limit, threads, seed)
        )
    except (ImportError, ValueError, AttributeError) as failure:
        return record | {"failure": f"{type(failure).__name__}: {failure}"}
    record |= found | {"load_average": [load_before, _machine.load_average()]}
    return record | {"peak_memory_bytes": _machine.peak_memory_bytes()}


def _run_ours(graph: Any, time_limit: float, threads: int, seed: int) -> Record:
    import numpy as np

    import sdp

    # Load or compile the kernels before the clock starts, on a graph that takes the same path.
    rng = np.random.default_rng(0)
    ends = rng.integers(0, WARM_UP_EDGES, (2, WARM_UP_EDGES))
    sdp.maxcut(sdp.Graph.from_edges(*ends), time_limit=1.0, threads=threads, seed=0)
    began = time.perf_counter()
    result = sdp.maxcut(graph, time_limit=time_limit, threads=threads, seed=seed)
    seconds = time.perf_counter() - began
    return {
        "cut_value": graph.cut_value(result.partition),
        "seconds": seconds,
        "upper_bound": result.upper_bound,
        "bound_kind": result.bound_kind,
        "timings": result.timings,
        "history": result.history,
        "status": result.status,
    }


def _run_peer(solver: str, graph: Any, time_limit: float, threads: int, seed: int) -> Record:
    from benchmarks.baselines import bifurcation, dwave, mqlib

    if solver == "dwave SA":
        answer = dwave.simulated_annealing(graph, time_limit, seed)
    elif solver == "dwave tabu":
        answer = dwave.tabu(graph, time_limit, seed)
    elif solver == "MQLib BURER2002":
        answer = mqlib.burer2002(graph, time_limit, seed)
    elif solver == "simulated bifurcation":
        answer = bifurcation.discrete(graph, time_limit, seed, threads)
    else:
        raise ValueError(f'solver must be one of {", ".join(SOLVERS)}; got "{solver}".')
    return {
        "cut_value": graph.cut_value(answer.partition),
        "seconds": answer.seconds,
        "setup_seconds": answer.setup_seconds,
        "details": answer.details,
    }


def table(records: list[Record]) -> str:
    """The comparison as Markdown: medians over the repeats, one row a graph and pair of limits."""
    known = best_known()
    groups: dict[tuple[Any, ...], dict[str, list[Record]]] = {}
    for record in records:
        group = (record["graph"], record["n_edges"], record["time_limit"], record["threads"])
        groups.setdefault(group, {}).setdefault(record["solver"], []).append(record)
    present = [name for name in SOLVERS if any(_cuts(runs, name) for runs in groups.values())]
    header = ["graph", "edges", "time and threads", *present, f"ours - {JUDGE}", "best known", "proved bound"]
    rows = []
    for (graph, n_edges, time_limit, threads), runs in sorted(groups.items(), key=lambda item: item[0][1:]):
        cells = [_cut_text(runs, name) for name in present]
        limits = f"{time_limit:g} s, {threads}"
        rows.append(
            [graph, n_edges, limits, *cells, _difference(runs), _gap(runs, known.get(graph)), _bound(runs)]
        )
    return markdown_table(header, rows)


def _cuts(runs: dict[str, list[Record]], solver: str) -> list[float]:
    return [record["cut_value"] for record in runs.get(solver, []) if record.get("cut_value") is not None]


def _cut_text(runs: dict[str, list[Record]], solver: str) -> str | None:
    cuts = _cuts(runs, solver)
    if not cuts:
        return None
    found = spread(cuts)
    text = f"{found.median:.12g}"
    return text if found.low == found.high else f"{text} ({found.low:.12g} to {found.high:.12g})"


def _difference(runs: dict[str, list[Record]]) -> str | None:
    ours, peer = _cuts(runs, OURS), _cuts(runs, JUDGE)
    if not ours or not peer:
        return None
    difference = spread(ours).median - spread(peer).median
    relative = difference / abs(spread(peer).median) if spread(peer).median else 0.0
    return f"{difference:+.12g} ({relative:+.3%})"


def _gap(runs: dict[str, list[Record]], known: BestKnown | None) -> str | None:
    ours = _cuts(runs, OURS)
    if known is None:
        return None
    if not ours:
        return f"{known.value:.12g}"
    gap = (known.value - spread(ours).median) / known.value
    return f"{known.value:.12g} ({gap:.3%} above ours)" if gap > 0 else f"{known.value:.12g} (reached)"


def _bound(runs: dict[str, list[Record]]) -> str | None:
    bounds = [record["upper_bound"] for record in runs.get(OURS, []) if record.get("upper_bound") is not None]
    return f"{min(bounds):.12g}" if bounds else None


def broken_claims(records: list[Record]) -> list[str]:
    """Sentences on what must hold and does not: at least the judge's cut, and no bound below any cut."""
    known = best_known()
    sentences = []
    groups: dict[tuple[Any, ...], dict[str, list[Record]]] = {}
    for record in records:
        group = (record["graph"], record["time_limit"], record["threads"])
        groups.setdefault(group, {}).setdefault(record["solver"], []).append(record)
    for (graph, time_limit, threads), runs in groups.items():
        ours, peer = _cuts(runs, OURS), _cuts(runs, JUDGE)
        where = f"{graph}, {time_limit:g} s, {threads} thread(s)"
        if ours and peer and spread(ours).median < spread(peer).median:
            sentences.append(
                f"{where}: ours {spread(ours).median:.12g} < {JUDGE} {spread(peer).median:.12g}."
            )
        cuts = [cut for name in SOLVERS for cut in _cuts(runs, name)]
        cuts += [known[graph].value] if graph in known else []
        for record in runs.get(OURS, []):
            bound = record.get("upper_bound")
            if bound is not None and cuts and bound < max(cuts) - 1e-9 * abs(max(cuts)):
                sentences.append(f"{where}: the bound {bound:.12g} is below a cut of {max(cuts):.12g}.")
    return sentences


def run(
    data: Annotated[
        list[Path] | None, typer.Option(help="Folder of graph files; may be given often.")
    ] = None,
    graphs: Annotated[str, typer.Option(help="Only these, separated by commas.")] = "",
    solvers: Annotated[str, typer.Option(help="Only these, separated by commas.")] = f"{OURS},{JUDGE}",
    time_limit: Annotated[float, typer.Option(help="Seconds a run.")] = 60.0,
    threads: Annotated[int, typer.Option(help="Threads a run; only ours uses more than one.")] = 1,
    repeats: Annotated[int, typer.Option(help="Runs of each, with seeds 0, 1, ...")] = 1,
    workers: Annotated[int, typer.Option(help="Runs beside each other.")] = 1,
    redo: Annotated[bool, typer.Option(help="Run again what the results hold already.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS_FOLDER,
) -> None:
    """Run what is missing, then print the table and what does not hold."""
    results = Results(QUESTION, KEY, out)
    chosen = [name.strip() for name in solvers.split(",")] if solvers != "all" else list(SOLVERS)
    for name in chosen:
        if name not in SOLVERS:
            raise typer.BadParameter(f'solvers must be among {", ".join(SOLVERS)}, or "all"; got "{name}".')
    tasks = [
        Task(name, path, solver, repeat)
        for name, path in find_graphs(data or [], [name for name in graphs.split(",") if name]).items()
        for repeat in range(repeats)
        for solver in chosen
    ]
    limits = {"time_limit": time_limit, "threads": threads}
    if not redo:
        tasks = [task for task in tasks if not results.has(task.key() | limits)]
    typer.echo(f"{len(tasks)} runs of {time_limit:g} s, {workers} beside each other.", err=True)
    with ProcessPoolExecutor(workers, get_context("spawn"), max_tasks_per_child=1) as pool:
        running: dict[Future[Record], Task] = {}
        for task in tasks:
            if len(running) == workers:
                _collect(running, results)
            # Submitted one by one, so that the order of the tasks is the order of the runs.
            future = pool.submit(solve, task.solver, str(task.path), time_limit, threads, task.repeat)
            running[future] = task
        while running:
            _collect(running, results)
    typer.echo(table(results.records()))
    for sentence in broken_claims(results.records()):
        typer.echo(f"DOES NOT HOLD: {sentence}")


def _collect(running: "dict[Future[Record], Task]", results: Results) -> None:
    """Wait for one run or more to end, and keep their records."""
    finished, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in finished:
        task = running.pop(future)
        record = task.key() | future.result()
        results.add(record)
        cut = record.get("cut_value", math.nan)
        said = record.get("failure") or f"cut {cut:.12g} in {record['seconds']:.1f} s"
        typer.echo(f"{task.graph} {task.solver}: {said}", err=True)


if __name__ == "__main__":
    typer.run(run)
