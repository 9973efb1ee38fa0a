"""Has the CPU engine become slower than at an earlier commit? Both versions, in pairs, on the same graphs.

Each version runs in a process of its own, which stays: one works while the other waits, in turns, first the earlier and
then the later one and the other way round. Fixed work, of this checkout over the earlier one: a graph made ready,
20 sweeps of the relaxation and the fields after them (rank 32), 60 steps of a certificate, 20,000 hyperplanes and their
cuts, and a whole solve by annealing (reduction, preparation, four rounds). Nothing may take more than 1.03 times as
long.

    python -m benchmarks.maxcut_against_earlier_commit --before 26eccf9            # 10 minutes
    python -m benchmarks.maxcut_against_earlier_commit --before DIR --families random-16 --tasks certificate

`--before` is a revision of this repository, or a folder with a checkout of one. A ratio is the median over pairs, with
the lowest and the highest; noise of other work hits both sides of a pair alike, if at all.
"""

import contextlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks import _machine
from benchmarks._records import RESULTS_FOLDER, Record, Results, markdown_table, spread

QUESTION = "maxcut_against_earlier_commit"
KEY = ("before", "family", "edges_asked", "task", "threads")
MOST_RATIO = 1.03
FAMILIES = ("rmat-16", "random-16", "torus-4")
TASKS = ("preparation", "relaxation", "certificate", "hyperplanes", "whole solve")
EDGES = 300_000
WORKER = Path(__file__).resolve().parent / "_one_version.py"


class Version:
    """A process that times one checkout.

    Args:
        checkout: its folder.
        graphs: file of the graphs.
        threads: of numba and torch.
    """

    def __init__(self, checkout: Path, graphs: Path, threads: int) -> None:
        path = os.pathsep.join(map(str, (checkout, checkout / "kernels")))
        self._process = subprocess.Popen(
            [sys.executable, WORKER, graphs, str(threads), checkout],
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def time(self, family: str, task: str = "") -> Record:
        """Its "seconds" for a task, and what it "answer"ed.

        Raises:
            RuntimeError: the process has ended; what it had to say stands on standard error.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{family} {task}\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process ended with status {self._process.wait()} in {family} {task}.")
        answer: Record = json.loads(line)
        return answer

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@contextlib.contextmanager
def checkout_of(before: str) -> Iterator[tuple[Path, str]]:
    """A folder that holds the earlier version, and the version's name.

    Raises:
        ValueError: it is neither a folder with the package nor a revision.
    """
    folder = Path(before)
    if (folder / "sdp").is_dir():
        done = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=folder, capture_output=True, text=True, check=False
        )
        yield folder.resolve(), done.stdout.strip() or folder.name
        return
    done_archive = subprocess.run(
        ["git", "archive", "--format=tar", before],
        cwd=_machine.REPOSITORY,
        capture_output=True,
        check=False,
    )
    if done_archive.returncode:
        raise ValueError(
            f"`before` must be a folder with a checkout or a revision of this repository; got {before!r}."
        )
    with tempfile.TemporaryDirectory() as made:
        with tarfile.open(fileobj=BytesIO(done_archive.stdout)) as archive:
            archive.extractall(made, filter="data")
        yield Path(made).resolve(), before


def save_graphs(families: Sequence[str], edges: int, path: Path) -> None:
    """Writes the graphs that both versions read."""
    from benchmarks import _solve_counts

    arrays: dict[str, Any] = {}
    for family in families:
        graph = _solve_counts.FAMILIES[family](edges, 0)
        u, v, w = graph.edges()
        for name, value in (("u", u), ("v", v), ("w", w), ("n", np.array(graph.n_vertices))):
            arrays[f"{family} {name}"] = value
    np.savez(path, **arrays)


def compared(versions: tuple[Version, Version], family: str, task: str, repeats: int) -> Record:
    """Seconds of the earlier and of this version, and their ratios, pair by pair after one pair of warming up."""
    sides: tuple[list[Record], list[Record]] = ([], [])
    for repeat in range(repeats + 1):
        for side in (0, 1) if repeat % 2 else (1, 0):
            sides[side].append(versions[side].time(family, task))
    before, after = ([record["seconds"] for record in side[1:]] for side in sides)
    ratio = spread(late / early for early, late in zip(before, after, strict=True))
    return {
        "before_seconds": spread(before).median,
        "after_seconds": spread(after).median,
        "ratio": ratio.median,
        "ratio_range": [ratio.low, ratio.high],
        "ratio_of_minima": min(after) / min(before),
        "answers": [side[-1]["answer"] for side in sides],
        "repeats": repeats,
    }


def table(records: Sequence[Record]) -> str:
    """Ratios by graph and task."""
    header = ["graph", "task", "before, s", "now, s", "now / before", "of minima", "bar"]
    rows = [
        [
            f"{r['family']}, {r['n_edges']:,} edges, {r['threads']} threads",
            r["task"],
            f"{r['before_seconds']:.3g}",
            f"{r['after_seconds']:.3g}",
            f"{r['ratio']:.3f} ({r['ratio_range'][0]:.3f} to {r['ratio_range'][1]:.3f})",
            f"{r['ratio_of_minima']:.3f}",
            "holds" if r["ratio"] <= MOST_RATIO else "DOES NOT HOLD",
        ]
        for r in records
    ]
    return f"Bar: at most {MOST_RATIO:g}.\n\n{markdown_table(header, rows)}"


def run(
    before: Annotated[str, typer.Option(help="Folder of an earlier checkout, or a revision.")],
    families: Annotated[str, typer.Option(help="Graphs, separated by commas.")] = ",".join(FAMILIES),
    tasks: Annotated[str, typer.Option(help="Tasks, separated by commas.")] = ",".join(TASKS),
    edges: Annotated[int, typer.Option(help="Edges of a graph.")] = EDGES,
    repeats: Annotated[int, typer.Option(help="Pairs, after one that is not counted.")] = 7,
    threads: Annotated[int, typer.Option(help="Of numba and torch.")] = 2,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS_FOLDER,
) -> None:
    """Time both versions in pairs, write results/, and print the table."""
    results = Results(QUESTION, KEY, out)
    with checkout_of(before) as (folder, name), tempfile.TemporaryDirectory() as scratch:
        graphs = Path(scratch) / "graphs.npz"
        save_graphs(families.split(","), edges, graphs)
        versions = Version(folder, graphs, threads), Version(_machine.REPOSITORY, graphs, threads)
        for family in families.split(","):
            for version in versions:
                version.time(family)
            for task in tasks.split(","):
                record = {
                    "before": name,
                    "family": family,
                    "edges_asked": edges,
                    "n_edges": _edges_in(graphs, family),
                    "task": task,
                    "threads": threads,
                    "seed": 0,
                    "commit": _machine.commit(),
                    **compared(versions, family, task, repeats),
                    "load_average": _machine.load_average(),
                }
                results.add(record)
                typer.echo(f"{family}, {task}: {record['ratio']:.3f}", err=True)
        for version in versions:
            version.close()
    typer.echo(table(results.records()))


def _edges_in(graphs: Path, family: str) -> int:
    with np.load(graphs) as arrays:
        return int(arrays[f"{family} u"].size)


if __name__ == "__main__":
    typer.run(run)
