"""How small can the largest distortion over all pairs of given points be made, and what of other points?

Learned maps (`sdp.LearnedJL`, by moments or violations of random maps) beside the same descent on the matrix itself
("direct"), principal components (in their best scale) and the best of `GAUSSIANS`
Gaussian maps. Two data sets: image patches (the first 200 rows of `patches.npy`) and the paper's experiment,
100 Gaussian points of R^500. Held-out points are the next rows; their distortion is over their own pairs.

    python -m benchmarks.learned_map_distortion --patches DIR/patches.npy
"""

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks import _machine
from benchmarks._records import RESULTS_FOLDER, Record, Results, markdown_table
from sdp.jl.learned import LearnedJL
from sdp.jl.quality import measure
from sdp.jl.secants import balanced_scale, exact_distortion, span
from sdp.jl.transforms import GaussianJL

QUESTION = "learned_map_distortion"
KEY = ("points", "k", "method")
GAUSSIANS = 50
HELD_OUT = 200
OBJECTIVES = ("moments", "direct", "violations")
CLAIMS = {("patches", 20): 0.12, ("patches", 30): 0.06, ("gaussian", 30): 0.165}
SECONDS = 60.0

Matrix = NDArray[np.float64]


def problems(patches: Path | None) -> list[tuple[str, int, Matrix, Matrix]]:
    """Name, k, points and held-out points."""
    drawn = np.random.default_rng(0).standard_normal((100 + HELD_OUT, 500))
    found = [("gaussian", 30, drawn[:100], drawn[100:])]
    if patches is not None:
        X = np.load(patches)[: 200 + HELD_OUT].astype(np.float64)
        found += [("patches", k, X[:200], X[200:]) for k in (20, 30)]
    return found


def record_of(points: Matrix, held_out: Matrix, A: Matrix) -> Record:
    """Distortions of a map (k, D) on both."""
    own, other = exact_distortion(points, points @ A.T), measure(held_out, held_out @ A.T)
    return {
        "largest": own.largest, "mean": own.mean, "held_out_largest": other.largest, "held_out_mean": other.mean,
    }  # fmt: skip


def measure_all(name: str, k: int, points: Matrix, held_out: Matrix) -> list[Record]:
    """A record for every method."""
    records = []
    for objective in OBJECTIVES:
        start = time.perf_counter()
        fitted = LearnedJL(k, objective=objective, random_state=0).fit(points)
        seconds = time.perf_counter() - start
        certificate = fitted.certificate_
        record = record_of(points, held_out, fitted.components_.astype(np.float64))
        record |= {"method": objective, "seconds": seconds, "variance": fitted.variance_}
        records.append({**record, "is_sosp": None if certificate is None else str(certificate.is_sosp)})
    _, basis = span(points)
    q = exact_distortion(points, points @ basis[:k].T)
    A = basis[:k] * balanced_scale(q.lowest, q.highest)
    records.append({"method": "principal components", **record_of(points, held_out, A)})
    eye = np.eye(points.shape[1])
    maps = [GaussianJL(k, random_state=seed).fit(points).transform(eye).T for seed in range(GAUSSIANS)]
    best = min(maps, key=lambda A: exact_distortion(points, points @ A.T).largest)
    records.append({"method": f"best of {GAUSSIANS} Gaussian", **record_of(points, held_out, best)})
    common = {"points": name, "k": k, "commit": _machine.commit(), "load_average": _machine.load_average()}
    return [{**common, **record} for record in records]


def table(records: list[Record]) -> str:
    """All records as Markdown."""
    rows = [
        [
            record["points"],
            record["k"],
            record["method"],
            f"{record['largest']:.4f}",
            f"{record['mean']:.4f}",
            f"{record['held_out_largest']:.2f}",
            f"{record['held_out_mean']:.3f}",
            f"{record['seconds']:.0f}" if record.get("seconds") else None,
            record.get("is_sosp"),
        ]
        for record in records
    ]
    header = [
        "points",
        "k",
        "map",
        "largest",
        "mean",
        "held out, largest",
        "held out, mean",
        "s",
        "certified",
    ]
    return markdown_table(header, rows)


def broken_claims(records: list[Record]) -> list[str]:
    """Sentences on each claim that a measurement contradicts."""
    found = []
    for record in records:
        claim = CLAIMS.get((record["points"], record["k"]))
        if record["method"] != "moments" or claim is None:
            continue
        name = f"{record['points']}, k = {record['k']}"
        if record["largest"] > claim:
            found.append(f"{name}: largest distortion {record['largest']:.4f}, not {claim}.")
        if record["seconds"] > SECONDS:
            found.append(f"{name}: {record['seconds']:.0f} s, not {SECONDS:.0f}.")
        if record["is_sosp"] != "True":
            found.append(f"{name}: the certificate says {record['is_sosp']}.")
    return found


def run(
    patches: Annotated[Path | None, typer.Option(help="patches.npy; left out without it.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS_FOLDER,
) -> None:
    """Measure every method on every set of points, then print the table and what does not hold."""
    results = Results(QUESTION, KEY, out)
    for problem in problems(patches):
        for record in measure_all(*problem):
            results.add(record)
        typer.echo(f"{problem[0]}, k = {problem[1]}", err=True)
    typer.echo(table(results.records()))
    for sentence in broken_claims(results.records()):
        typer.echo(f"DOES NOT HOLD: {sentence}")


if __name__ == "__main__":
    typer.run(run)
