"""How much do embeddings distort the distances of real data, mean and maximum, beside scikit-learn's?

For each map and k: relative error of the distance |A(x - y)| / |x - y| - 1, over the same random pairs of rows (those
at distance zero left out), mean and largest absolute value; median over seeds, with their range.

    python -m benchmarks.embedding_distortion --data FOLDER --seeds 25

FOLDER holds debian-tfidf.npz (a CSR matrix) and patches.npy (uint8); the small cuts under tests/data/embed are used
where it is not given.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import scipy.sparse
import typer
from numpy.typing import NDArray

from benchmarks import _machine
from benchmarks._records import RESULTS_FOLDER, Record, Results, markdown_table, spread

QUESTION = "embedding_distortion"
KEY = ("data", "k", "map")
SMALL = Path(__file__).resolve().parent.parent / "tests" / "data" / "embed"
FILES = {
    "TF-IDF": ("debian-tfidf.npz", "debian-tfidf-400.npz"),
    "patches": ("patches.npy", "patches-100.npy"),
}
COMPONENTS, N_ROWS, N_PAIRS = (1024, 256), 4000, 20_000
ALLOWED = 1.1  # times Gaussian's, for s >= 4 and the SRHT
BOUND = ("SparseJL s=8", "SparseJL s=4", "SRHT", "RademacherJL")


def maps(k: int) -> dict[str, Callable[[int], Any]]:
    """Estimators of a seed, by name."""
    from sklearn.random_projection import SparseRandomProjection

    from sdp import SRHT, GaussianJL, RademacherJL, SparseJL

    def sparse(s: int) -> Callable[[int], Any]:
        return lambda seed: SparseJL(k, n_nonzeros=s, random_state=seed)

    return {
        "GaussianJL": lambda seed: GaussianJL(k, random_state=seed),
        "RademacherJL": lambda seed: RademacherJL(k, random_state=seed),
        **{f"SparseJL s={s}": sparse(s) for s in (8, 4, 1)},
        "SRHT": lambda seed: SRHT(k, random_state=seed),
        "scikit-learn sparse auto": lambda seed: SparseRandomProjection(
            k, random_state=seed, dense_output=True
        ),
    }


def lengths(X: Any, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
    """Distances of pairs of rows, in float64, some thousand pairs at a time."""
    found = []
    for start in range(0, len(first), 5000):
        here = slice(start, start + 5000)
        difference = X[first[here]].astype(np.float64) - X[second[here]].astype(np.float64)
        squares = difference.power(2).sum(1) if scipy.sparse.issparse(X) else (difference**2).sum(1)
        found.append(np.sqrt(np.asarray(squares).ravel()))
    return np.concatenate(found)


def measure(name: str, X: Any, k: int, seeds: int) -> list[Record]:
    """Records of every map on one data set; a map is fitted on the rows that it embeds."""
    rng = np.random.default_rng(0)
    X = X[np.sort(rng.permutation(X.shape[0])[:N_ROWS])]
    first, second = rng.integers(X.shape[0], size=(2, N_PAIRS))
    before = lengths(X, first, second)
    apart = before > 1e-6 * before.max()
    records = []
    for label, make in maps(k).items():
        errors = []
        for seed in range(seeds):
            Y = make(seed).fit_transform(X)
            errors.append(np.abs(lengths(Y, first, second)[apart] / before[apart] - 1))
        key = {"data": name, "k": k, "map": label}
        values = {"mean": [float(e.mean()) for e in errors], "max": [float(e.max()) for e in errors]}
        sizes = {"rows": X.shape[0], "pairs": int(apart.sum()), "commit": _machine.commit()}
        records.append({**key, **values, **sizes})
    return records


def table(records: list[Record]) -> str:
    """Every map on every data set."""
    header = ["data", "k", "map", "mean", "largest"]
    return markdown_table(
        header,
        [
            [
                record["data"],
                record["k"],
                record["map"],
                spread(record["mean"]).text(2),
                spread(record["max"]).text(2),
            ]
            for record in records
        ],
    )


def broken_claims(records: list[Record]) -> list[str]:
    """Maps whose median over seeds is worse than the Gaussian map's by more than a tenth."""
    found = []
    for record in records:
        if record["map"] not in BOUND:
            continue
        (normal,) = (
            other
            for other in records
            if (other["data"], other["k"], other["map"]) == (record["data"], record["k"], "GaussianJL")
        )
        for quantity in ("mean", "max"):
            ours, bar = spread(record[quantity]).median, ALLOWED * spread(normal[quantity]).median
            if ours > bar:
                found.append(
                    f"{record['data']}, k = {record['k']}, {record['map']}: {quantity} {ours:.3g}, not {bar:.3g}."
                )
    return found


def run(
    data: Annotated[Path | None, typer.Option(help="Folder of the whole data sets.")] = None,
    seeds: Annotated[int, typer.Option(help="Maps of each kind.")] = 25,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS_FOLDER,
) -> None:
    """Measure both data sets, then print the table and what does not hold."""
    results = Results(QUESTION, KEY, out)
    for name, (whole, cut) in FILES.items():
        path = SMALL / cut if data is None else data / whole
        X: Any = (
            scipy.sparse.csr_array(scipy.sparse.load_npz(path)) if path.suffix == ".npz" else np.load(path)
        )
        for k in COMPONENTS:
            for record in measure(name, X, k, seeds):
                results.add(record)
            typer.echo(f"{name}, k = {k}", err=True)
    typer.echo(table(results.records()))
    for sentence in broken_claims(results.records()):
        typer.echo(f"DOES NOT HOLD: {sentence}")


if __name__ == "__main__":
    typer.run(run)
