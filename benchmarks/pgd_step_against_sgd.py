"""Does a step of sdp.PGD cost more than one of torch.optim.SGD, where nothing is perturbed?

A model of 10 million parameters in ten square layers, gradients in place, no closure: what is timed is
`optimizer.step()` alone. Both take turns in one process; a block of 100 steps is timed, so that PGD's look at the
gradient, every 100 steps, is in each.

    python -m benchmarks.pgd_step_against_sgd --repeats 50      # under a minute on two quiet cores
"""

import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks import _machine
from benchmarks._records import RESULTS_FOLDER, Record, Results, markdown_table, spread

QUESTION = "pgd_step_against_sgd"
KEY = ("momentum", "threads")
LAYERS, WIDTH, BLOCK = 10, 1000, 100
CLAIM = 1.10  # PGD's time over SGD's


def model() -> list[torch.Tensor]:
    """Parameters with gradients."""
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(WIDTH, WIDTH, generator=generator).requires_grad_(True) for _ in range(LAYERS)]
    for part in made:
        part.grad = torch.randn(part.shape, generator=generator)
    return made


def measure(momentum: float, threads: int, repeats: int) -> Record:
    """The record of one momentum: seconds a step of both, and the ratio."""
    from sdp.optim.pgd import PGD

    torch.set_num_threads(threads)
    ours, theirs = model(), model()
    pgd = PGD(ours, lr=1e-6, momentum=momentum)
    sgd = torch.optim.SGD(theirs, lr=1e-6, momentum=momentum)
    for _ in range(BLOCK):
        pgd.step()
        sgd.step()
    if not all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True)):
        raise RuntimeError("PGD and SGD took different steps.")
    taken: dict[str, list[float]] = {"pgd": [], "sgd": []}
    for repeat in range(repeats):
        turns = (("pgd", pgd.step), ("sgd", sgd.step))
        for name, step in turns if repeat % 2 else turns[::-1]:
            start = time.perf_counter()
            for _ in range(BLOCK):
                step()
            taken[name].append((time.perf_counter() - start) / BLOCK)
    ratios = spread(a / b for a, b in zip(taken["pgd"], taken["sgd"], strict=True))
    return {
        "momentum": momentum,
        "threads": threads,
        "parameters": LAYERS * WIDTH**2,
        "seconds": spread(taken["pgd"]).median,
        "seconds_sgd": spread(taken["sgd"]).median,
        "ratio": ratios.median,
        "ratio_low": ratios.low,
        "ratio_high": ratios.high,
        "ratio_of_lowest": min(taken["pgd"]) / min(taken["sgd"]),
        "commit": _machine.commit(),
        "load_average": _machine.load_average(),
    }


def table(records: list[Record]) -> str:
    """All records as Markdown."""
    rows = [
        [
            record["momentum"],
            record["threads"],
            f"{1e3 * record['seconds']:.3g}",
            f"{1e3 * record['seconds_sgd']:.3g}",
            f"{record['ratio']:.3g} ({record['ratio_low']:.3g} to {record['ratio_high']:.3g})",
            f"{record['ratio_of_lowest']:.3g}",
        ]
        for record in records
    ]
    return markdown_table(["momentum", "threads", "PGD, ms", "SGD, ms", "PGD / SGD", "of the lowest"], rows)


def run(
    repeats: Annotated[int, typer.Option(help="Blocks of 100 steps of each.")] = 50,
    threads: Annotated[int, typer.Option(help="Threads of torch.")] = 2,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS_FOLDER,
) -> None:
    """Measure with and without momentum, then print the table and what does not hold."""
    results = Results(QUESTION, KEY, out)
    for momentum in (0.0, 0.9):
        results.add(measure(momentum, threads, repeats))
    typer.echo(table(results.records()))
    for record in results.records():
        if record["ratio"] > CLAIM:
            typer.echo(
                f"DOES NOT HOLD: with momentum {record['momentum']}, {record['ratio']:.3g} times SGD's time."
            )


if __name__ == "__main__":
    typer.run(run)
