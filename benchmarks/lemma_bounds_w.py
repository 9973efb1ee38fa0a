"""Does descent end where the lemma says, with W gone and nothing lost, whatever the dimension d?

From a random sampler z = Wx + b, PGD on F(W, b) + lam ||W||^2 for three heads and d = 32 to 4,096. Shown are ||W||_F
before and after, the bound on it that the certificate proves, and g(b) at the end beside the interval (99%) of
E g(Wx + b) at the start, from 2^16 fresh samples. Values are to be small.

    python -m benchmarks.lemma_bounds_w      # a minute on two quiet cores

The bar: a certified second-order stationary point, ||W||_F within its bound, g(b) below the interval, in every case.
"""

import math
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from benchmarks import _machine
from benchmarks._records import RESULTS_FOLDER, Record, Results, markdown_table
from tests.reference.lemma_heads import K, lemma_heads

QUESTION = "lemma_bounds_w"
KEY = ("head", "d")
SIZES = (32, 128, 512, 2048, 4096)
LAM, EPS = 0.05, 2e-3
MOST_STEPS, FRESH = 2000, 1 << 16
# On 1,024 draws the wells have minima with W of their own, which the certificate refuses: quadrature there.
SAMPLING = {"double wells": (4096, "auto")}


def measure(head: str, d: int) -> Record:
    """One descent, and what is certified at its end."""
    import sdp

    rng = np.random.default_rng(0)
    W = torch.from_numpy(0.5 * rng.normal(size=(K, d)) / math.sqrt(d))
    b = torch.from_numpy(0.3 * rng.normal(size=K))
    n_samples, method = SAMPLING.get(head, (1024, "sampling"))
    F = sdp.Expectation(lemma_heads()[head], W, b, n_samples=n_samples, method=method)
    low, high = F.redrawn(seed=99, n_samples=FRESH).value().interval(0.99)
    w_norm_before = float(torch.linalg.matrix_norm(W))
    optimizer = sdp.PGD([F.W.requires_grad_(True), F.b.requires_grad_(True)], eps=EPS, momentum=0.8)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss: torch.Tensor = F() + LAM * F.W.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    while not optimizer.is_done and optimizer.n_steps < MOST_STEPS:
        optimizer.step(closure)
    found = sdp.certify(F, LAM)
    with torch.no_grad():
        value = float(F.head(F.b))
    return {
        "head": head,
        "d": d,
        "lam": LAM,
        "w_norm_before": w_norm_before,
        "w_norm": found.w_norm,
        "w_bound": found.w_bound,
        "expected_low": float(low),
        "expected_high": float(high),
        "value": value,
        "is_sosp": found.is_sosp,
        "method": found.method,
        "delta": found.delta,
        "evaluations": optimizer.n_evaluations,
        "commit": _machine.commit(),
        "load_average": _machine.load_average(),
    }


def holds(record: Record) -> bool:
    """Whether everything of the bar does."""
    return (
        record["is_sosp"] is True
        and record["w_norm"] <= record["w_bound"]
        and record["value"] <= record["expected_low"]
    )


def table(records: list[Record]) -> str:
    """One row a head and dimension."""
    header = [
        "head",
        "d",
        "W before",
        "W after",
        "bound on W",
        "E g before, 99%",
        "g(b) after",
        "certified",
        "by",
    ]
    rows = [
        [
            record["head"],
            f"{record['d']:,}",
            f"{record['w_norm_before']:.3g}",
            f"{record['w_norm']:.2g}",
            f"{record['w_bound']:.2g}",
            f"{record['expected_low']:.4g} to {record['expected_high']:.4g}",
            f"{record['value']:.3g}",
            "yes" if record["is_sosp"] is True else record["is_sosp"],
            record["method"],
        ]
        for record in records
    ]
    return markdown_table(header, rows)


def run(out: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS_FOLDER) -> None:
    """Run every case, print the table and what does not hold."""
    torch.set_num_threads(1)
    results = Results(QUESTION, KEY, out)
    for head in lemma_heads():
        for d in SIZES:
            results.add(measure(head, d))
    typer.echo(table(results.records()))
    for record in results.records():
        if not holds(record):
            typer.echo(f"DOES NOT HOLD: {record['head']}, d {record['d']}.")


if __name__ == "__main__":
    typer.run(run)
