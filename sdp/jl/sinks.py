"""Where embedded rows go: a spool beside the output while it grows, the finished file under its name at the end.

The spool is a plain .npy file that only ever grows at its end, so that a killed run loses nothing that was recorded. A
.npy output is the spool renamed; Parquet, HDF5 and zarr are written from it in one go, in pieces of fixed size, so that
the same rows give the same bytes however often the run was stopped.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from sdp.jl.sources import fill
from sdp.jl.sources_extra import extra

ENDINGS = (".npy", ".parquet", ".h5", ".hdf5", ".zarr")
DATASET = "embedding"  # name of the array in HDF5 files
PIECE_BYTES = 8 << 20  # of the spool, copied at a time; a row group or chunk of the result


class Spool:
    """A growing .npy file of rows.

    Args:
        path: the file.
        shape: of the whole.
        dtype: of the rows.
        done: rows it holds already, of an earlier run; what lies behind them is cut off.

    Raises:
        ValueError: it should hold `done` rows and does not.
    """

    def __init__(self, path: Path, shape: tuple[int, int], dtype: np.dtype[Any], done: int) -> None:
        self.path, self.shape, self.dtype = path, shape, dtype
        self._state = hashlib.sha256()
        self._row_bytes = shape[1] * dtype.itemsize
        self._file = path.open("r+b" if done else "wb", buffering=0)
        try:
            if done:
                self._go_on(done)
            else:
                header = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
                npy.write_array_header_1_0(self._file, header)
        except BaseException:
            self._file.close()
            raise
        self._begin = self._file.tell() - done * self._row_bytes

    def _go_on(self, done: int) -> None:
        """Finds the end of the rows that count, and the state of their checksum."""
        npy.read_magic(self._file)
        shape, _, dtype = npy.read_array_header_1_0(self._file)
        end = self._file.tell() + done * self._row_bytes
        if shape != self.shape or dtype != self.dtype or os.fstat(self._file.fileno()).st_size < end:
            raise ValueError(f"{self.path}: not the rows that its progress file speaks of.")
        left = done * self._row_bytes
        while left:
            piece = self._file.read(min(left, PIECE_BYTES))
            self._state.update(piece)
            left -= len(piece)
        self._file.truncate(end)

    def write(self, rows: NDArray[Any]) -> None:
        """Adds rows at the end."""
        view = np.ascontiguousarray(rows, self.dtype).reshape(-1).view(np.uint8).data
        self._state.update(view)
        while len(view):
            view = view[self._file.write(view) :]

    def sync(self) -> None:
        """Makes sure that what was written is on the disk."""
        os.fsync(self._file.fileno())

    def checksum(self) -> str:
        """SHA-256 of the rows' bytes, without the header."""
        return self._state.hexdigest()

    def close(self) -> None:
        """Closes the file, which stays."""
        self._file.close()

    def pieces(self) -> Iterator[NDArray[Any]]:
        """The rows, read back in pieces whose size depends on their shape alone."""
        rows = piece_rows(self.shape[1], self.dtype)
        with self.path.open("rb") as file:
            file.seek(self._begin)
            for first in range(0, self.shape[0], rows):
                piece = np.empty((min(rows, self.shape[0] - first), self.shape[1]), self.dtype)
                fill(file, piece, str(self.path))
                yield piece


def piece_rows(n_components: int, dtype: np.dtype[Any]) -> int:
    """Rows of a piece of about `PIECE_BYTES`."""
    return max(1, PIECE_BYTES // (n_components * dtype.itemsize))


def check_output(path: Path) -> None:
    """Stops before the work when its result could not be written after it.

    Raises:
        ValueError: no known ending, a folder that does not exist, or a folder where a file should be.
        ModuleNotFoundError: the ending's package is not installed; the message names the extra.
    """
    suffix = path.suffix.lower()
    if suffix not in ENDINGS:
        raise ValueError(f"{path}: the output's ending must be one of {', '.join(ENDINGS)}; got {suffix!r}.")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: {path.parent} is no folder.")
    if path.is_dir() and not (suffix == ".zarr" and _is_zarr(path)):
        raise ValueError(f"{path}: this is a folder; name a file.")
    if suffix == ".parquet":
        extra("pyarrow.parquet", "arrow", path)
    elif suffix in (".h5", ".hdf5"):
        extra("h5py", "hdf5", path)
    elif suffix == ".zarr":
        extra("zarr", "zarr", path)


def finish(spool: Spool, path: Path, stale: Sequence[Path] = ()) -> None:
    """Puts the rows of a closed spool under the output's name, in the format of its ending, in one step.

    But for a zarr array over an older one, two renamings: a folder cannot be renamed over. A kill between them leaves
    the older one as `OUT.partial.old`.

    Args:
        spool: the rows.
        path: of the output.
        stale: files that speak of an older output, removed when all is ready and that output is about to go.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy":
        for old in stale:
            remove(old)
        os.replace(spool.path, path)
        return
    made = spool.path.with_name(f"{spool.path.name}{suffix}")
    remove(made)
    if suffix == ".parquet":
        _write_parquet(spool, made)
    elif suffix == ".zarr":
        _write_zarr(spool, made)
    else:
        _write_hdf5(spool, made)
    for old in stale:
        remove(old)
    if suffix == ".zarr" and path.exists():  # `check_output` saw that it is a zarr array
        _exchange(made, path, spool.path.with_name(f"{spool.path.name}.old"))
    else:
        os.replace(made, path)
    spool.path.unlink()


def _exchange(made: Path, path: Path, aside: Path) -> None:
    """Puts one folder in the place of another, which goes last."""
    remove(aside)
    os.replace(path, aside)
    try:
        os.replace(made, path)
    except BaseException:
        os.replace(aside, path)
        raise
    remove(aside)


def remove(path: Path) -> None:
    """Removes a file or folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def read_rows(path: Path, chosen: NDArray[np.int64]) -> NDArray[Any]:
    """Rows of a finished output, float64."""
    from sdp.jl.sources_extra import open_source

    return open_source(path).take(chosen)


def _is_zarr(path: Path) -> bool:
    return any((path / name).exists() for name in (".zarray", "zarr.json")) or not any(path.iterdir())


def _write_parquet(spool: Spool, path: Path) -> None:
    """One column of lists of fixed length; a row group a piece."""
    arrow = extra("pyarrow", "arrow", path)
    parquet = extra("pyarrow.parquet", "arrow", path)
    kind = arrow.list_(arrow.from_numpy_dtype(spool.dtype), spool.shape[1])
    schema = arrow.schema([arrow.field(DATASET, kind, nullable=False)])
    with parquet.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for piece in spool.pieces():
            numbers = arrow.array(piece.reshape(-1))
            lists = arrow.FixedSizeListArray.from_arrays(numbers, type=kind)
            writer.write_batch(arrow.record_batch([lists], schema=schema))


def _write_hdf5(spool: Spool, path: Path) -> None:
    h5py = extra("h5py", "hdf5", path)
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(DATASET, spool.shape, spool.dtype, track_times=False)
        first = 0
        for piece in spool.pieces():
            dataset[first : first + len(piece)] = piece
            first += len(piece)


def _write_zarr(spool: Spool, path: Path) -> None:
    zarr = extra("zarr", "zarr", path)
    n, k = spool.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = zarr.create(
            store=str(path),
            shape=spool.shape,
            chunks=(max(1, min(n, piece_rows(k, spool.dtype))), k),
            dtype=spool.dtype,
            overwrite=True,
        )
    first = 0
    for piece in spool.pieces():
        array[first : first + len(piece)] = piece
        first += len(piece)
