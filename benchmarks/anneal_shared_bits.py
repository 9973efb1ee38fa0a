"""What does it cost a cut that the 32 replicas of a word share their random numbers?

Packed annealing (`sdp_kernels.anneal.anneal_packed`) from the same random partitions, over the same falling
temperatures and as many sweeps, with independent and with shared random numbers, on the seeded families whose weights
have one magnitude. Of each: best and mean cut of all replicas, their spread, and the spread inside words as a share of
it, which shared numbers would lower if replicas of a word followed one another. Seconds are told beside; the GPU's
share is in the kernel report ("anneal_packed", 8 and 8-shared).

    python -m benchmarks.anneal_shared_bits
    python -m benchmarks.anneal_shared_bits --edges 1000000 --sweeps 1000 --seeds 5

Seeds are paired: the starts of a seed are the same for both.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import numba
import numpy as np
import torch
import typer

from benchmarks import _families, _machine
from benchmarks._records import RESULTS_FOLDER, Record, Results, markdown_table, spread
from sdp.maxcut.problem import Problem, prepare
from sdp_kernels.anneal import RANDOM, anneal_packed
from sdp_kernels.replicas import REPLICAS_PER_WORD, cut_values

QUESTION = "anneal_shared_bits"
KEY = ("family", "edges", "words", "sweeps", "seed", "random", "threads")
HOT, COLD = 3.0, 0.2  # temperatures of the first and the last sweep, in units of the weight


def measure(problem: Problem, words: int, sweeps: int, seed: int, random: str) -> Record:
    """Cut values of all replicas after one annealing, in units of edge weight."""
    generator = np.random.Generator(np.random.Philox(key=[seed, 0]))
    starts = generator.integers(-(2**31), 2**31, (problem.n_vertices, words)).astype(np.int32)
    packed = torch.from_numpy(starts)
    unit = problem.unit
    cooling = (unit * HOT * (COLD / HOT) ** np.linspace(0, 1, sweeps)).astype(np.float32)
    temperatures = torch.from_numpy(np.tile(cooling, (words, 1)))
    began = time.perf_counter()
    anneal_packed(problem.csr, problem.class_ptr, packed, temperatures, seed=seed, random=random)
    seconds = time.perf_counter() - began
    values = (cut_values(problem.csr, packed) / problem.scale).numpy().reshape(words, REPLICAS_PER_WORD)
    total = float(values.var())
    return {
        "best": float(values.max()),
        "mean": float(values.mean()),
        "deviation": total**0.5,
        "within_words": float(values.var(axis=1).mean()) / total if total else None,
        "seconds": seconds,
    }


def table(records: list[Record]) -> str:
    """A line a family and size: shared less independent, seed by seed, relative to the mean cut."""
    rows = []
    groups = dict.fromkeys((r["family"], r["edges"], r["words"], r["sweeps"]) for r in records)
    for group in groups:
        pairs = [
            tuple(_find(records, (*group, seed, random)) for random in RANDOM)
            for seed in sorted({r["seed"] for r in records})
        ]
        whole = [(one, other) for one, other in pairs if one and other]
        if not whole:
            continue
        best, mean = (
            spread(1e6 * (shared[key] - own[key]) / own["mean"] for own, shared in whole)
            for key in ("best", "mean")
        )
        deviation = spread(shared["deviation"] / own["deviation"] for own, shared in whole)
        within = [spread(pair[k]["within_words"] for pair in whole) for k in (0, 1)]
        family, edges, words, sweeps = group
        rows.append(
            [family, f"{edges:,}", f"{REPLICAS_PER_WORD * words}", str(sweeps), str(len(whole)), best.text(),
             mean.text(), deviation.text(), within[0].text(), within[1].text()]
        )  # fmt: skip
    header = ["family", "edges", "replicas", "sweeps", "seeds", "best, ppm", "mean, ppm", "deviation, ratio"]
    return markdown_table([*header, "within words", "within words, shared"], rows)


def _find(records: list[Record], wanted: tuple[object, ...]) -> Record | None:
    return next((r for r in records if tuple(r[name] for name in KEY[:-1]) == wanted), None)


def run(
    edges: Annotated[int, typer.Option(help="Edges of each graph.")] = 100_000,
    words: Annotated[int, typer.Option(help="Words of 32 replicas.")] = 8,
    sweeps: Annotated[int, typer.Option(help="Sweeps of an annealing.")] = 200,
    seeds: Annotated[int, typer.Option(help="Seeds, from 0.")] = 3,
    threads: Annotated[int, typer.Option(help="Threads of numba and torch.")] = 2,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS_FOLDER,
) -> None:
    """Measure what is missing, then print the table."""
    numba.set_num_threads(threads)
    torch.set_num_threads(threads)
    results = Results(QUESTION, KEY, out)
    for family in _families.FAMILIES:
        problem = prepare(_families.make(family, edges, seed=0))
        for seed in range(seeds):
            for random in RANDOM:
                key = dict(zip(KEY, (family, edges, words, sweeps, seed, random, threads), strict=True))
                if not results.has(key):
                    found = measure(problem, words, sweeps, seed, random)
                    results.add(
                        {**key, **found, "commit": _machine.commit(), "load": _machine.load_average()}
                    )
    typer.echo(table(results.records()))


if __name__ == "__main__":
    typer.run(run)
