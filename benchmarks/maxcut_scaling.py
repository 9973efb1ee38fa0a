"""How do time and memory grow from ten thousand to ten million edges?

On seeded families of graphs: seconds from a graph in memory to a relaxation whose gap is certified, seconds
an edge (which should grow by less than 2 a decade), spin updates a second of the annealer, and the largest
memory of the process, with what the graph itself and the imports had taken before.

    python -m benchmarks.maxcut_scaling --largest 10000000 --repeats 3

Each measurement has a process of its own, so that the peak of one does not hide the peak of another. Sizes beyond
REPEATED edges are measured once. A commit has records of its own, and only those of the newest one are compared.
"""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import _families, _machine
from benchmarks._records import RESULTS_FOLDER, Record, Results, markdown_table, of_newest_commit, spread

QUESTION = "maxcut_scaling"
KEY = ("family", "edges_asked", "target_gap", "threads", "repeat", "commit")
REPEATED = 1_000_000  # edges up to which a size is repeated
SMALLEST = 10_000
ALLOWED_GROWTH = 2.0  # of the seconds an edge, from one decade to the next


def measure(
    family: str, n_edges: int, target_gap: float, threads: int, time_limit: float, seed: int
) -> Record:
    """One measurement, in the process that calls it.

    Returns:
        The record: sizes, seconds to the gap (None when it was not reached), annealing rate, memory.
    """
    from benchmarks import _ours

    _ours.warm_up(threads)
    graph = _families.make(family, n_edges, seed)
    before = _machine.peak_memory_bytes()
    relaxer = _ours.Relaxer(graph, None, threads)
    relaxed = relaxer.to_certified_gap(target_gap, time_limit, seed)
    after_relaxation = _machine.peak_memory_bytes()
    return {
        "n_vertices": graph.n_vertices,
        "n_edges": graph.n_edges,
        **relaxed,
        "spin_updates_per_second": _ours.annealing_rate(graph, threads, seed),
        "memory_before_bytes": before,
        "memory_relaxation_bytes": after_relaxation,
        "memory_peak_bytes": _machine.peak_memory_bytes(),
        "load_average": _machine.load_average(),
    }


def table(records: list[Record]) -> str:
    """Medians by family and size, as Markdown, with the growth of the seconds an edge a decade."""
    header = ["family", "vertices", "edges", "seconds to gap", "ns an edge", "growth a decade"]
    header += ["million spin updates a second", "peak memory, MiB", "of it before solving"]
    rows: list[list[object]] = []
    for family, sizes in _by_family(records).items():
        growths = dict(growth_per_decade(sizes))
        for edges_asked, runs in sizes.items():
            seconds = [run["seconds"] for run in runs if run["seconds"] is not None]
            time_text = spread(seconds).text() if seconds else "not reached"
            an_edge = f"{spread(seconds).median / runs[0]['n_edges'] * 1e9:.0f}" if seconds else None
            growth = growths.get(edges_asked)
            rate = spread(run["spin_updates_per_second"] for run in runs).median / 1e6
            peak = spread(run["memory_peak_bytes"] for run in runs).median / 2**20
            before = spread(run["memory_before_bytes"] for run in runs).median / 2**20
            row = [family, runs[0]["n_vertices"], runs[0]["n_edges"], time_text, an_edge]
            rows.append(
                [
                    *row,
                    None if growth is None else f"{growth:.2f}",
                    f"{rate:.1f}",
                    f"{peak:.0f}",
                    f"{before:.0f}",
                ]
            )
    return markdown_table(header, rows)


def growth_per_decade(sizes: dict[int, list[Record]]) -> list[tuple[int, float]]:
    """For each size that has one a tenth of it: the factor by which the median seconds an edge grew.

    >>> a_tenth, whole = [{"seconds": 1.0, "n_edges": 10}], [{"seconds": 20.0, "n_edges": 100}]
    >>> growth_per_decade({10: a_tenth, 100: whole})
    [(100, 2.0)]
    """
    an_edge: dict[int, float] = {}
    for edges_asked, runs in sizes.items():
        seconds = [run["seconds"] / run["n_edges"] for run in runs if run["seconds"] is not None]
        if seconds:
            an_edge[edges_asked] = spread(seconds).median
    growths = []
    for edges_asked, dearer in an_edge.items():
        cheaper = an_edge.get(edges_asked // 10)
        if cheaper:
            growths.append((edges_asked, dearer / cheaper))
    return growths


def broken_claims(records: list[Record]) -> list[str]:
    """Sentences on each decade in which a family's seconds an edge grow too fast."""
    return [
        f"{family}: up to {edges_asked} edges the time an edge grows {growth:.2f} times in a decade."
        for family, sizes in _by_family(records).items()
        for edges_asked, growth in growth_per_decade(sizes)
        if growth >= ALLOWED_GROWTH
    ]


def _by_family(records: list[Record]) -> dict[str, dict[int, list[Record]]]:
    """Records by family and size, sizes rising; of each family those of its newest commit."""
    families: dict[str, dict[int, list[Record]]] = {}
    newest = of_newest_commit(records, ["family"])
    for record in sorted(newest, key=lambda record: (record["family"], record["edges_asked"])):
        families.setdefault(record["family"], {}).setdefault(record["edges_asked"], []).append(record)
    return families


def sizes_up_to(largest: int) -> list[int]:
    """Sizes from `SMALLEST` on, two a decade.

    >>> sizes_up_to(100_000)
    [10000, 30000, 100000]
    """
    sizes = [SMALLEST * 10**decade * factor for decade in range(9) for factor in (1, 3)]
    return [size for size in sizes if size <= largest]


def run(
    families: Annotated[str, typer.Option(help="Separated by commas.")] = ",".join(_families.FAMILIES),
    largest: Annotated[int, typer.Option(help="Edges of the largest graph, at least 10000.")] = 10_000_000,
    target_gap: Annotated[float, typer.Option(help="Certified relative gap to reach.")] = 1e-3,
    time_limit: Annotated[float, typer.Option(help="Seconds one relaxation may take.")] = 300.0,
    threads: Annotated[int, typer.Option(help="Threads.")] = 2,
    repeats: Annotated[
        int, typer.Option(help="Graphs of each size up to 10^6 edges, with seeds 0, 1, ...")
    ] = 3,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS_FOLDER,
) -> None:
    """Measure what is missing, smallest first, then print the table and what does not hold."""
    results = Results(QUESTION, KEY, out)
    commit = _machine.commit()
    for edges_asked in sizes_up_to(largest):
        for family in families.split(","):
            for repeat in range(repeats if edges_asked <= REPEATED else 1):
                key = {"family": family, "edges_asked": edges_asked, "repeat": repeat}
                key |= {"target_gap": target_gap, "threads": threads, "commit": commit}
                if results.has(key):
                    continue
                with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                    job = pool.submit(measure, family, edges_asked, target_gap, threads, time_limit, repeat)
                    record = key | job.result()
                results.add(record)
                took = "not reached" if record["seconds"] is None else f"{record['seconds']:.3f} s"
                typer.echo(f"{family}, {record['n_edges']} edges, repeat {repeat}: {took}", err=True)
    typer.echo(table(results.records()))
    for sentence in broken_claims(results.records()):
        typer.echo(f"DOES NOT HOLD: {sentence}")


if __name__ == "__main__":
    typer.run(run)
