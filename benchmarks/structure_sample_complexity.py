"""How many samples does a student need, and how many fewer once it sees only the subspace that was discovered?

A fixed training set of n samples, n = 200 to 20,000, d = 256, r = 3. Five students a set, same samples, same steps:

    whole          all of x, with decay of the first layer
    no decay       all of x, lam = 0
    projected      the first of these, W replaced by its best approximation of rank r: no training, no U
    retrained      a new student that sees V x, V the r leading right singular vectors of the first one's W
    told           a new student that sees U x: what one could have at best

    python -m benchmarks.structure_sample_complexity      # about ten minutes on a quiet core

The error is the held-out mean squared error over the labels' variance; 1 is what a constant has. The picture is drawn
by `benchmarks.plots`.
"""

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks import _machine
from benchmarks._records import RESULTS_FOLDER, Record, Results, markdown_table, spread

QUESTION = "structure_sample_complexity"
KEY = ("n", "seed")
SIZES = (200, 500, 1000, 2000, 5000, 10_000, 20_000)
STUDENTS = ("whole", "no decay", "projected", "retrained", "told")
PROBLEM: dict[str, Any] = {
    "dim": 256,
    "rank": 3,
    "width": 64,
    "depth": 3,
    "lam": 1e-2,
    "steps": 3000,
    "noise": 0.1,
}
COLOURS = ("#D55E00", "#999999", "#E69F00", "#0072B2", "#009E73")
MARKERS = "osDv^"


def measure(n: int, seed: int) -> Record:
    """All five students on one training set."""
    from sdp.optim.spectrum import leading_directions
    from sdp.optim.structure import discover_structure

    def train(**changes: Any) -> Any:
        return discover_structure(**{**PROBLEM, "n_train": n, "seed": seed, "record_every": 500, **changes})

    whole, plain = train(), train(lam=0.0)
    V = leading_directions(whole.W, PROBLEM["rank"])
    errors = {
        "whole": whole.held_out_error,
        "no decay": plain.held_out_error,
        "projected": projected_error(whole, V),
        "retrained": train(subspace=V).held_out_error,
        "told": train(subspace=whole.U).held_out_error,
    }
    return {
        **{f"error {name}": error for name, error in errors.items()},
        "perp_share": whole.perp_share,
        "visible_rank": whole.visible_rank,
        "largest_angle": whole.spectrum.angles[-1],
        "seconds": whole.seconds,
        "commit": _machine.commit(),
        "load_average": _machine.load_average(),
    }


def projected_error(result: Any, V: Tensor) -> float:
    """Held-out error of a trained student whose W is replaced by W V^T V, on samples of its own."""
    from sdp_kernels import gaussian

    options = result.options
    x = gaussian.normal((1 << 14, options.dim), seed=options.seed, purpose=gaussian.PURPOSE_PLAIN)
    noise = gaussian.normal((1 << 14,), seed=options.seed + 1, purpose=gaussian.PURPOSE_PLAIN)
    y = result.teacher.labels(x, noise)
    model = result.model()
    with torch.no_grad():
        model[0].weight.copy_(result.W @ V.T @ V)
        return float((model(x) - y).double().square().mean() / y.double().var())


def table(records: list[Record]) -> str:
    """Errors by n, medians over seeds with their range."""
    header = ["n", "seeds", *(f"error {name}" for name in STUDENTS), "W_perp / W", "largest angle, degrees"]
    rows: list[list[object]] = []
    for n in sorted({record["n"] for record in records}):
        own = [record for record in records if record["n"] == n]
        errors = [spread(record[f"error {name}"] for record in own).text(2) for name in STUDENTS]
        share = spread(record["perp_share"] for record in own).text(2)
        angle = spread(record["largest_angle"] * 180 / torch.pi for record in own).text(2)
        rows.append([f"{n:,}", len(own), *errors, share, angle])
    return markdown_table(header, rows)


def draw(records: list[Record]) -> Figure:
    """Held-out error over n, a curve for each student."""
    figure = Figure(figsize=(6.5, 4.5), layout="constrained")
    axes = figure.subplots()
    sizes = sorted({record["n"] for record in records})
    for name, colour, marker in zip(STUDENTS, COLOURS, MARKERS, strict=True):
        found = [spread(r[f"error {name}"] for r in records if r["n"] == n) for n in sizes]
        axes.plot(sizes, [one.median for one in found], marker + "-", color=colour, label=name, markersize=5)
        axes.fill_between(
            sizes, [one.low for one in found], [one.high for one in found], color=colour, alpha=0.15
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("training samples n")
    axes.set_ylabel("held-out error, 1 for a constant")
    axes.grid(alpha=0.25, which="both")
    axes.legend(fontsize=8)
    return figure


def run(
    seeds: Annotated[int, typer.Option(help="Training sets of each size.")] = 3,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS_FOLDER,
) -> None:
    """Train what was not trained before, and print the table."""
    results = Results(QUESTION, KEY, out)
    for seed in range(seeds):
        for n in SIZES:
            key = {"n": n, "seed": seed}
            if not results.has(key):
                record = {**key, **measure(n, seed)}
                results.add(record)
                typer.echo(record, err=True)
    typer.echo(table(results.records()))


if __name__ == "__main__":
    typer.run(run)
