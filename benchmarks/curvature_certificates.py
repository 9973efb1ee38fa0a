"""What does a certified curvature bound cost on a sparse matrix with 10^6 rows, and on a network of 10^6 parameters?

Ours against scipy's ARPACK and LOBPCG, which estimate the same eigenvalue and certify nothing; every method is given
the same operator, and the number of columns it multiplies is counted. The network is tanh, 784 -> 1015 -> 203 -> 10,
mse on 256 Gaussian inputs, float64, all of theta: 1,003,835 parameters.

    python -m benchmarks.curvature_certificates
"""

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
import typer

from benchmarks import _machine
from benchmarks._records import RESULTS_FOLDER, Record, Results, markdown_table

QUESTION = "curvature_certificates"
KEY = ("problem", "method")
DELTA = 1e-2
CLAIM_SECONDS = 60.0  # of the sparse matrix


def sparse_matrix(n: int) -> scipy.sparse.csr_array:
    """Symmetric, about nine entries a row, normal."""
    rng = np.random.default_rng(0)
    rows, cols = rng.integers(0, n, (2, 4 * n))
    A = scipy.sparse.coo_array((rng.normal(size=4 * n), (rows, cols)), shape=(n, n)).tocsr()
    return scipy.sparse.csr_array(A + A.T + scipy.sparse.eye_array(n))


def network(hidden: int) -> tuple[Callable[[], torch.Tensor], list[torch.Tensor]]:
    """The loss, and its parameters."""
    generator = torch.Generator().manual_seed(0)
    widths = (784, hidden, hidden // 5, 10)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    layers = [(normal(b, a) / a**0.5).requires_grad_(True) for a, b in itertools.pairwise(widths)]
    x, y = normal(256, 784), normal(256, 10)

    def loss() -> torch.Tensor:
        h = x
        for k, layer in enumerate(layers):
            h = h @ layer.T
            h = torch.tanh(h) if k + 1 < len(layers) else h
        return ((h - y) ** 2).mean()

    return loss, layers


def record_of(
    problem: str, method: str, seconds: float, lower: float | None, upper: float, products: int
) -> Record:
    """One measurement."""
    return {
        "problem": problem, "method": method, "seconds": seconds, "lower": lower, "upper": upper, "products": products,
        "commit": _machine.commit(), "load_average": _machine.load_average(),
    }  # fmt: skip


def measure(problem: str, operator: Any, n: int, tolerance: float) -> list[Record]:
    """Ours, ARPACK and LOBPCG on one operator (a matrix, or a function of blocks)."""
    from sdp.optim.curvature import curvature_bounds
    from sdp.optim.operator import as_operator

    records = []
    op = as_operator(operator, n)
    curvature_bounds(torch.eye(4), dense_size=0)  # loads what is compiled at first use
    op(torch.ones((n, 4), dtype=torch.float64))
    op.products = 0
    start = time.perf_counter()
    found = curvature_bounds(op, delta=DELTA, columns=4, tolerance=tolerance)
    records.append(
        record_of(problem, "sdp", time.perf_counter() - start, found.lower, found.upper, found.products)
    )
    records[-1] |= {
        "kuczynski": found.kuczynski,
        "largest": found.largest,
        "steps": found.steps,
        "delta": DELTA,
    }

    def product(vectors: Any) -> Any:
        return (
            op(torch.from_numpy(np.ascontiguousarray(vectors.reshape(n, -1)))).numpy().reshape(vectors.shape)
        )

    peer = scipy.sparse.linalg.LinearOperator((n, n), matvec=product, matmat=product, dtype=np.float64)
    guess = np.random.default_rng(1).normal(size=(n, 4))
    op.products, start = 0, time.perf_counter()
    try:
        values = scipy.sparse.linalg.eigsh(
            peer, 1, which="SA", v0=guess[:, 0], tol=tolerance, maxiter=40, return_eigenvectors=False
        )
        lowest = float(values[0])
    except scipy.sparse.linalg.ArpackNoConvergence as stopped:
        lowest = float(stopped.eigenvalues[0]) if len(stopped.eigenvalues) else float("nan")
    records.append(record_of(problem, "ARPACK", time.perf_counter() - start, None, lowest, op.products))
    op.products, start = 0, time.perf_counter()
    lowest = float(scipy.sparse.linalg.lobpcg(peer, guess, largest=False, maxiter=40, tol=tolerance)[0].min())
    records.append(record_of(problem, "LOBPCG", time.perf_counter() - start, None, lowest, op.products))
    return records


def table(records: list[Record]) -> str:
    """All records as Markdown."""
    header = ["problem", "method", "seconds", "products", "lowest eigenvalue above", "and below"]
    rows = [
        [
            record["problem"],
            record["method"],
            f"{record['seconds']:.3g}",
            record["products"],
            None if record["lower"] is None else f"{record['lower']:.5g}",
            None if record["upper"] is None else f"{record['upper']:.5g}",
        ]
        for record in records
    ]
    return markdown_table(header, rows)


def run(
    rows: Annotated[int, typer.Option(help="Of the sparse matrix.")] = 1_000_000,
    hidden: Annotated[int, typer.Option(help="Units of the network's first layer.")] = 1015,
    tolerance: Annotated[
        float, typer.Option(help="Of the bound, as a share of the spectrum's width.")
    ] = 0.01,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS_FOLDER,
) -> None:
    """Measure both, then print the table and what does not hold."""
    from sdp.optim.operator import hessian_operator

    torch.set_num_threads(_machine.usable_cores())
    results = Results(QUESTION, KEY, out)
    made = measure(f"sparse, {rows:,} rows", sparse_matrix(rows), rows, tolerance)
    loss, layers = network(hidden)
    operator, _ = hessian_operator(loss(), layers)
    made += measure(f"network, {operator.n:,} parameters", operator, operator.n, tolerance)
    for record in made:
        results.add(record)
    typer.echo(table(results.records()))
    if rows == 1_000_000 and made[0]["seconds"] > CLAIM_SECONDS:
        typer.echo(
            f"DOES NOT HOLD: the sparse matrix took {made[0]['seconds']:.0f} s, not {CLAIM_SECONDS:g}."
        )
    for record in made:
        if record["method"] != "sdp" and record["lower"] is None:
            ours = next(r for r in made if r["problem"] == record["problem"] and r["method"] == "sdp")
            if ours["lower"] > record["upper"]:
                typer.echo(f"DOES NOT HOLD: {record['method']} finds {record['upper']}, below our bound.")


if __name__ == "__main__":
    typer.run(run)
