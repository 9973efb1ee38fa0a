"""How close do the cut and its proved bound come, and does the checker agree?

Ours alone: no peer gives a bound. Every graph is solved with a certificate, which `sdp verify` then checks in a
process of its own. Besides graph files, seeded toroidal grids and planar triangulations take part, where cycles
should prove what the relaxation cannot.

    python -m benchmarks.maxcut_proved_gap --data DIR --time-limit 60 --threads 2

A run that is in the results file already is not run again unless ``--redo`` is given.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import _machine
from benchmarks._graphs import find_graphs
from benchmarks._records import RESULTS_FOLDER, Record, Results, markdown_table
from sdp.maxcut.graph import Graph
from tools.make_graphs import torus, triangulation

QUESTION = "maxcut_proved_gap"
KEY = ("graph", "time_limit", "threads")
_PROGRAM = "from sdp.cli.main import run; run()"
STAGES = ("reduce", "prepare", "cycles", "program", "relax", "round", "polish")
FAMILIES: dict[str, Callable[[], Graph]] = {
    "torus 50 x 50, signs": lambda: torus(50, 50, "signs", 1),
    "torus 50 x 50, normal": lambda: torus(50, 50, "normal", 1),
    "torus 100 x 100, signs": lambda: torus(100, 100, "signs", 1),
    "torus 100 x 100, normal": lambda: torus(100, 100, "normal", 1),
    "torus 300 x 300, signs": lambda: torus(300, 300, "signs", 1),
    "torus 300 x 300, normal": lambda: torus(300, 300, "normal", 1),
    "torus 1000 x 1000, signs": lambda: torus(1000, 1000, "signs", 1),
    "triangulation 10,000, signs": lambda: triangulation(10_000, "signs", 1),
    "triangulation 10,000, normal": lambda: triangulation(10_000, "normal", 1),
    "triangulation 100,000, signs": lambda: triangulation(100_000, "signs", 1),
}


def measure(name: str, path: str, time_limit: float, threads: int) -> Record:
    """Solves one graph and checks its certificate, in the process that calls it.

    Args:
        name: of the graph, or of a family.
        path: of its file, "" for a family.
        time_limit: seconds of the solve; certificate and check come after it.
        threads: of the solve.
    """
    import sdp

    graph = Graph.from_file(path) if path else FAMILIES[name]()
    sdp.maxcut(torus(9, 9), time_limit=1.0, threads=threads)  # loads the compiled loops
    load_before = _machine.load_average()
    with tempfile.TemporaryDirectory(prefix="sdp-proved-") as folder:
        proof = Path(folder, "certificate.json.gz")
        result = sdp.maxcut(graph, time_limit=time_limit, threads=threads, seed=0, certificate=proof)
        size = proof.stat().st_size
        checked = _check(graph, path, proof, Path(folder))
    reduced = [note for note in result.notes if note.startswith("reduced exactly to ")]
    return {
        "graph": name,
        "time_limit": time_limit,
        "threads": threads,
        "n_vertices": graph.n_vertices,
        "n_edges": graph.n_edges,
        "absolute_weight": graph.absolute_weight,
        "reduced_to": int(reduced[0].split()[3].replace(",", "")) if reduced else graph.n_vertices,
        "cut_value": result.cut_value,
        "upper_bound": result.upper_bound,
        "bound_kind": result.bound_kind,
        "delta": result.delta,
        "gap": result.gap,
        "status": result.status,
        "seconds": sum(seconds for stage, seconds in result.timings.items() if stage in STAGES),
        "timings": result.timings,
        "history": result.history,
        "notes": list(result.notes),
        "certificate_bytes": size,
        "check": checked,
        "commit": _machine.commit(),
        "load_average": [load_before, _machine.load_average()],
        "peak_memory_bytes": _machine.peak_memory_bytes(),
    }


def _check(graph: Graph, path: str, proof: Path, folder: Path) -> Record:
    """What `sdp verify --json` says, and the seconds of its whole process."""
    from sdp.maxcut.io import write_graph

    if not path:
        path = str(folder / "graph.txt")
        write_graph(graph, path)
    began = time.perf_counter()
    command = [sys.executable, "-c", _PROGRAM, "verify", path, str(proof), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    answer: Record = json.loads(done.stdout) if done.stdout.strip() else {"accepted": False}
    return answer | {"whole_seconds": seconds, "exit": done.returncode, "said": done.stderr.strip()[-300:]}


def table(records: list[Record]) -> str:
    """One row a graph."""
    header = ["graph", "vertices", "reduced to", "cut", "proved bound", "gap", "by", "status", "s", "checked"]
    rows = []
    for record in sorted(records, key=lambda record: (record["graph"].startswith("t"), record["n_edges"])):
        check = record["check"]
        # The certificate may claim a little more than was reported; what the checker proved is what stands here.
        bound = check.get("upper_bound") if check["accepted"] else None
        said = f"{check['whole_seconds']:.3g} s" if check["accepted"] else "NOT ACCEPTED"
        rows.append(
            [
                record["graph"],
                f"{record['n_vertices']:,}",
                f"{record['reduced_to']:,}",
                f"{record['cut_value']:.12g}",
                None if bound is None else f"{bound:.12g}",
                None if bound is None else _gap_text(record["cut_value"], bound),
                record["bound_kind"],
                record["status"],
                f"{record['seconds']:.3g}",
                said,
            ]
        )
    return markdown_table(header, rows)


def _gap_text(cut_value: float, bound: float) -> str:
    gap = (bound - cut_value) / abs(bound) if bound else 0.0
    return "0" if gap == 0 else f"{gap:.2g}" if gap < 1e-6 else f"{gap:.3%}"


def run(
    data: Annotated[
        list[Path] | None, typer.Option(help="Folder of graph files; may be given often.")
    ] = None,
    graphs: Annotated[str, typer.Option(help="Only these, separated by semicolons.")] = "",
    time_limit: Annotated[float, typer.Option(help="Seconds a run.")] = 60.0,
    threads: Annotated[int, typer.Option(help="Threads a run.")] = 2,
    redo: Annotated[bool, typer.Option(help="Run again what the results hold already.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS_FOLDER,
) -> None:
    """Run what is missing, then print the table."""
    results = Results(QUESTION, KEY, out)
    wanted = [name.strip() for name in graphs.split(";") if name.strip()]
    tasks = {name: str(path) for name, path in find_graphs(data or []).items()} | dict.fromkeys(FAMILIES, "")
    unknown = sorted(set(wanted) - set(tasks))
    if unknown:
        raise typer.BadParameter(f"{unknown[0]}: no such graph; there are {'; '.join(tasks)}.")
    for name, path in tasks.items():
        key = {"graph": name, "time_limit": time_limit, "threads": threads}
        if (wanted and name not in wanted) or (results.has(key) and not redo):
            continue
        # A process each: the next graph's peak memory is its own.
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            record = pool.submit(measure, name, path, time_limit, threads).result()
        results.add(record)
        typer.echo(f"{name}: {record['cut_value']:.12g} <= {record['upper_bound']:.12g}", err=True)
    typer.echo(table(results.records()))


if __name__ == "__main__":
    typer.run(run)
