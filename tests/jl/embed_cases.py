"""The same rows in every format that is read, and how files are damaged."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from sdp.jl.maps import Map
from sdp.jl.sources_extra import open_source

Rows = NDArray[np.float32]
Writer = Callable[[Path, Rows], Path]
SEED = 11
K = 8


def rows_of(n: int = 60, n_features: int = 40) -> Rows:
    return np.random.default_rng(SEED).standard_normal((n, n_features)).astype(np.float32)


def npy(folder: Path, X: Rows) -> Path:
    np.save(folder / "x.npy", X)
    return folder / "x.npy"


def shards(folder: Path, X: Rows) -> Path:
    """Twelve files, one of them empty, whose names sort otherwise as text than as numbers."""
    inside = folder / "shards"
    inside.mkdir()
    for i, part in enumerate(np.array_split(X, 11)):
        np.save(inside / f"part-{i}.npy", part)
    np.save(inside / "part-11.npy", X[:0])
    return inside


def csr(folder: Path, X: Rows) -> Path:
    scipy.sparse.save_npz(folder / "x.npz", scipy.sparse.csr_array(X))
    return folder / "x.npz"


def parquet(folder: Path, X: Rows) -> Path:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({f"c{i}": column for i, column in enumerate(X.T)})
    pyarrow.parquet.write_table(table, folder / "x.parquet", row_group_size=17)
    return folder / "x.parquet"


def parquet_lists(folder: Path, X: Rows) -> Path:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"vector": pyarrow.array(list(X), pyarrow.list_(pyarrow.float32()))})
    pyarrow.parquet.write_table(table, folder / "lists.parquet", row_group_size=17)
    return folder / "lists.parquet"


def arrow(folder: Path, X: Rows) -> Path:
    import pyarrow
    import pyarrow.ipc

    flat = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(X.ravel()), X.shape[1])
    table = pyarrow.table({"vector": flat})
    with pyarrow.ipc.new_file(folder / "x.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=13)
    return folder / "x.arrow"


def hdf5(folder: Path, X: Rows) -> Path:
    import h5py

    with h5py.File(folder / "x.h5", "w") as file:
        file["group/rows"] = X
        file["labels"] = np.arange(len(X))
    return folder / "x.h5"


def zarr(folder: Path, X: Rows) -> Path:
    import zarr as package

    package.save(str(folder / "x.zarr"), X)
    return folder / "x.zarr"


def csv(folder: Path, X: Rows) -> Path:
    path = folder / "x.csv"
    np.savetxt(
        path, X.astype(np.float64), delimiter=",", fmt="%.17g", header=",".join("abcd" * 10), comments=""
    )
    return path


WRITERS: dict[str, Writer] = {
    writer.__name__: writer for writer in (npy, shards, csr, parquet, parquet_lists, arrow, hdf5, zarr, csv)
}


def mutations(content: bytes, count: int, seed: int) -> Iterator[bytes]:
    """The same damage for the same seed: cut, bytes changed, a stretch removed, doubled or zeroed, text put in."""
    rng = np.random.default_rng([SEED, seed])
    for _ in range(count):
        changed = bytearray(content)
        # Half of all damage hits the first 200 bytes, where headers are.
        reach = len(content) if rng.random() < 0.5 else min(len(content), 200)
        place, length = int(rng.integers(reach)), int(rng.integers(1, 40))
        kind = int(rng.integers(6))
        if kind == 0:
            del changed[place:]
        elif kind == 1:
            for position in rng.integers(0, reach, 4):
                changed[position] = int(rng.integers(256))
        elif kind == 2:
            del changed[place : place + length]
        elif kind == 3:
            changed[place:place] = changed[place : place + length]
        elif kind == 4:
            changed[place : place + length] = bytes(length)
        else:
            changed[place:place] = [b"nan", b"-1", b",,", b"1e999", b"\n", b"\xff\xfe", b"x"][
                int(rng.integers(7))
            ]
        yield bytes(changed)


def repacked(path: Path, **members: NDArray[np.generic]) -> None:
    """Replaces members of an .npz, without the checks that scipy makes when it writes."""
    with np.load(path) as stored:
        content = {**stored, **members}
    np.savez(path, **content)
    assert zipfile.is_zipfile(path)


def sparse_map(n_features: int = 40, seed: int = 3) -> Map:
    return Map("sparse", n_features, K, seed)


def read(path: Path) -> np.ndarray[Any, Any]:
    source = open_source(path)
    return source.take(np.arange(source.n_rows)).astype(np.float32)


def all_bytes(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {str(file.relative_to(path.parent)): file.read_bytes() for file in files}


class StoppedError(Exception):
    """Stands for a kill."""
