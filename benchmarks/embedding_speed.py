"""How many nanoseconds does a Johnson-Lindenstrauss embedding take an element, against scikit-learn, BLAS, faiss, fht?

Dense float32 rows of D = 10,000 and the sparse TF-IDF rows of `--data`, to k = 1024 and 256 components. Peers:
scikit-learn's Gaussian (stored matrix, OpenBLAS) and Sparse "auto" (whole array, and the best of three chunkings, both
dense out); the bare product with a stored matrix by OpenBLAS and by torch; scipy's clarkson_woodruff_transform; faiss's
HadamardRotation and RandomRotationMatrix; fht-cpu's bare transform. Fitting comes before the clock everywhere, except
on the lines "fit and transform"; ours makes its map inside the clock each time.

    python -m benchmarks.embedding_speed --data FOLDER --repeats 7

FOLDER holds debian-tfidf.npz, a CSR matrix of scipy. Methods of one group run one after the other in every repeat; a
ratio is the median over repeats of peer / ours. Units: ns per element of dense X, per stored entry of sparse X.
"""

import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import scipy.linalg
import scipy.sparse
import torch
import typer
from numpy.typing import NDArray

from benchmarks import _machine
from benchmarks._records import RESULTS_FOLDER, Record, Results, markdown_table, spread

QUESTION = "embedding_speed"
KEY = ("rows", "k", "method")
D, COMPONENTS = 10_000, (1024, 256)
CHUNKS = (100, 300, 1000)  # rows, of which the best counts
Method = Callable[[], object]
# (rows, k, peer, ours): peer / ours at least this.
CLAIMS = (
    ("dense", 1024, "scikit-learn sparse auto, whole array", "SparseJL s=8", 12.0),
    ("dense", 1024, "scikit-learn sparse auto, best chunks", "SparseJL s=8", 7.0),
    ("dense", 1024, "SparseJL s=8", "SparseJL s=4", 1.0),
    ("dense", 1024, "scikit-learn Gaussian", "SRHT", 10.0),
    ("dense", 1024, "OpenBLAS, stored matrix", "GaussianJL", 0.95),
    ("dense", 1024, "OpenBLAS, stored matrix", "RademacherJL", 0.95),
    ("sparse", 1024, "scikit-learn sparse, 8 a column", "SparseJL s=8", 4.0),
    ("sparse", 256, "scikit-learn sparse, 8 a column", "SparseJL s=8", 4.0),
    ("sparse", 1024, "scikit-learn Gaussian, fit and transform", "GaussianJL, fit and transform", 3.0),
    ("sparse", 256, "scikit-learn Gaussian, fit and transform", "GaussianJL, fit and transform", 3.0),
)


def dense_methods(X: NDArray[np.float32], k: int) -> dict[str, Method]:
    """Ours and the peers on dense rows, by name."""
    import faiss
    import fht_cpu
    from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection

    from sdp import SRHT, GaussianJL, RademacherJL, SparseJL

    out = np.empty((len(X), k), np.float32)
    stored = np.random.default_rng(0).standard_normal((X.shape[1], k)).astype(np.float32)
    tensors = torch.from_numpy(X), torch.from_numpy(stored), torch.from_numpy(out)
    ours: dict[str, Any] = {
        "GaussianJL": GaussianJL(k),
        "RademacherJL": RademacherJL(k),
        "SRHT": SRHT(k),
        **{f"SparseJL s={s}": SparseJL(k, n_nonzeros=s) for s in (8, 4, 1)},
    }
    gaussian = GaussianRandomProjection(k, random_state=0).fit(X)
    gaussian.components_ = gaussian.components_.astype(np.float32)
    auto = SparseRandomProjection(k, random_state=0, dense_output=True).fit(X)
    auto.components_ = auto.components_.astype(np.float32)

    def embed(estimator: Any) -> Method:
        estimator.fit(X.shape)
        return lambda: estimator.transform(X, out=out)

    def in_chunks(size: int) -> Method:
        def run() -> None:
            for start in range(0, len(X), size):
                out[start : start + size] = auto.transform(X[start : start + size])

        return run

    zeros = np.zeros(
        (len(X), 16384), np.float32
    )  # it works in place, and anything else would grow without end
    rotation = faiss.RandomRotationMatrix(X.shape[1], k)
    rotation.init(0)
    hadamard = faiss.HadamardRotation(X.shape[1], 0)
    return {
        **{name: embed(estimator) for name, estimator in ours.items()},
        "OpenBLAS, stored matrix": lambda: np.matmul(X, stored, out=out),
        "torch, stored matrix": lambda: torch.matmul(tensors[0], tensors[1], out=tensors[2]),
        "scikit-learn Gaussian": lambda: gaussian.transform(X),
        "scikit-learn sparse auto, whole array": lambda: auto.transform(X),
        **{f"scikit-learn sparse auto, chunks of {size}": in_chunks(size) for size in CHUNKS},
        "scipy clarkson_woodruff_transform": lambda: scipy.linalg.clarkson_woodruff_transform(X.T, k, 0),
        "faiss RandomRotationMatrix": lambda: rotation.apply_py(X),
        "faiss HadamardRotation": lambda: hadamard.apply_py(X),
        "fht-cpu, bare transform of 16384": lambda: fht_cpu.fht_2d_f32_rows(zeros, torch.get_num_threads()),
    }


def sparse_methods(X: Any, k: int) -> dict[str, Method]:
    """Ours and scikit-learn on sparse rows; 8 non-zeros a column means density 8 / k."""
    from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection

    from sdp import SRHT, GaussianJL, RademacherJL, SparseJL

    out = np.empty((X.shape[0], k), np.float32)
    peers: dict[str, Any] = {}
    for name, density, is_dense in (
        ("scikit-learn sparse auto, sparse out", "auto", False),
        ("scikit-learn sparse auto, dense out", "auto", True),
        ("scikit-learn sparse, 8 a column", 8 / k, False),
        ("scikit-learn sparse, 8 a column, dense out", 8 / k, True),
    ):
        peer = SparseRandomProjection(k, density=density, random_state=0, dense_output=is_dense).fit(X)
        peer.components_ = peer.components_.astype(np.float32)
        peers[name] = peer

    def embed(estimator: Any) -> Method:
        estimator.fit(X.shape)
        return lambda: estimator.transform(X, out=out)

    def transform(estimator: Any) -> Method:
        return lambda: estimator.transform(X)

    return {
        **{f"SparseJL s={s}": embed(SparseJL(k, n_nonzeros=s)) for s in (8, 4, 1)},
        "SparseJL s=8, new output": transform(SparseJL(k).fit(X.shape)),
        "SRHT": embed(SRHT(k)),
        "RademacherJL": embed(RademacherJL(k)),
        "GaussianJL, fit and transform": lambda: GaussianJL(k).fit(X.shape).transform(X),
        **{name: transform(peer) for name, peer in peers.items()},
        "scikit-learn Gaussian, fit and transform": lambda: GaussianRandomProjection(
            k, random_state=0
        ).fit_transform(X),
    }


def measure(rows: str, k: int, methods: dict[str, Method], unit: int, repeats: int) -> list[Record]:
    """Records of one group, interleaved; one call of each comes before the clock."""
    taken: dict[str, list[float]] = {name: [] for name in methods}
    for method in methods.values():
        method()
    for _ in range(repeats):
        for name, method in methods.items():
            gc.collect()
            start = time.perf_counter()
            method()
            taken[name].append(1e9 * (time.perf_counter() - start) / unit)
    chunked = [name for name in taken if "chunks of" in name]
    if chunked:
        best = min(chunked, key=lambda name: spread(taken[name]).median)
        taken["scikit-learn sparse auto, best chunks"] = taken[best]
    key = {"rows": rows, "k": k}
    shared = {
        "threads": torch.get_num_threads(),
        "commit": _machine.commit(),
        "load_average": _machine.load_average(),
    }
    return [{**key, "method": name, "ns": times, **shared} for name, times in taken.items()]


def ratio(records: list[Record], rows: str, k: int, peer: str, ours: str) -> list[float]:
    """Peer / ours of every repeat; empty where one was not measured."""
    found = {
        record["method"]: record["ns"] for record in records if record["rows"] == rows and record["k"] == k
    }
    if peer not in found or ours not in found:
        return []
    return [theirs / mine for theirs, mine in zip(found[peer], found[ours], strict=True)]


def table(records: list[Record]) -> str:
    """All groups as Markdown, then the claims."""
    lines = [
        [record["rows"], record["k"], record["method"], spread(record["ns"]).text()]
        for record in sorted(records, key=lambda record: (record["rows"], -record["k"]))
    ]
    claims = []
    for rows, k, peer, ours, bar in CLAIMS:
        ratios = ratio(records, rows, k, peer, ours)
        if ratios:
            claims.append([rows, k, f"{peer} / {ours}", spread(ratios).text(), f"{bar:g}"])
    first = markdown_table(["rows", "k", "method", "ns an element"], lines)
    return first + "\n\n" + markdown_table(["rows", "k", "ratio", "measured", "bar"], claims)


def run(
    data: Annotated[
        Path | None, typer.Option(help="Folder with debian-tfidf.npz; dense rows only without.")
    ] = None,
    repeats: Annotated[int, typer.Option(help="Repeats of every timing.")] = 7,
    n_rows: Annotated[int, typer.Option(help="Dense rows.")] = 2000,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS_FOLDER,
) -> None:
    """Measure every group, then print the table and what does not hold."""
    results = Results(QUESTION, KEY, out)
    dense = np.random.default_rng(0).standard_normal((n_rows, D), dtype=np.float32)
    sparse: Any = None
    if data is not None:
        sparse = scipy.sparse.csr_array(scipy.sparse.load_npz(data / "debian-tfidf.npz"))
    for k in COMPONENTS:
        groups = [("dense", dense_methods(dense, k), dense.size)]
        if sparse is not None:
            groups.append(("sparse", sparse_methods(sparse, k), sparse.nnz))
        for rows, methods, unit in groups:
            for record in measure(rows, k, methods, unit, repeats):
                results.add(record)
            typer.echo(f"{rows}, k = {k}", err=True)
    records = results.records()
    typer.echo(table(records))
    for rows, k, peer, ours, bar in CLAIMS:
        ratios = ratio(records, rows, k, peer, ours)
        if ratios and spread(ratios).median < bar:
            typer.echo(
                f"DOES NOT HOLD: {rows}, k = {k}: {peer} / {ours} is {spread(ratios).text()}, not {bar:g}."
            )


if __name__ == "__main__":
    typer.run(run)
