"""Rows of files, in blocks: .npy and CSR .npz here, Arrow, HDF5, zarr and CSV in `sources_extra`, folders of any.

Every source knows its shape and dtype before a row is read, and gives blocks from any row on; how it is cut into
blocks means nothing. Files are read, never mapped: pages of a mapped file count as the process's own.
"""

from __future__ import annotations

import hashlib
import os
import tokenize
import warnings
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from sdp.jl.blocks import Block, SparseBlock, as_read

BLOCK_BYTES = 12 << 20  # a block as it is read; three are alive at a time, and one converted copy at most
# All that numpy and zipfile were seen to raise at damaged bytes, and their relatives.
DAMAGE = (
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,  # numpy, which reads headers of Python 2 again in another way
    RuntimeError,  # zipfile: a member that asks for a password
    zipfile.BadZipFile,
    zlib.error,
)


class BadFileError(ValueError):
    """A file that is damaged, or not what it says; the message names it."""


class Source(ABC):
    """Rows of one file or folder.

    Attributes:
        name: as the user named it.
        n_rows, n_features: its shape.
        dtype: of its numbers as stored.
        row_bytes: of a row as read, on average for sparse rows.
        files: paths it consists of, for the fingerprint.
        inside: name of the array within them, where they may hold several.
    """

    name: str
    n_rows: int
    n_features: int
    dtype: np.dtype[Any]
    row_bytes: float
    files: Sequence[Path]
    inside: str = ""

    @abstractmethod
    def blocks(self, start: int, rows: int) -> Iterator[Block]:
        """Blocks of at most `rows` rows each, from row `start` to the last."""

    def take(self, chosen: NDArray[np.int64]) -> NDArray[Any]:
        """These rows, dense, float64; `chosen` rises. By default in one pass."""
        found, position, row = np.empty((len(chosen), self.n_features)), 0, 0
        for block in self.blocks(0, self.rows_a_block()):
            while position < len(chosen) and chosen[position] < row + len(block):
                found[position] = _dense_row(block, int(chosen[position]) - row)
                position += 1
            row += len(block)
            if position == len(chosen):
                break
        return found

    def has(self, path: Path) -> bool:
        """Whether a file of this path is one of the source's, or would become one."""
        try:
            facts = path.stat()
        except FileNotFoundError:
            return False
        return any(os.path.samestat(facts, file.stat()) for file in self.files)

    def rows_a_block(self) -> int:
        """As many rows as `BLOCK_BYTES` hold, at least one."""
        return max(1, int(BLOCK_BYTES / max(self.row_bytes, 1.0)))

    def fingerprint(self) -> str:
        """Hash of the names, sizes and times of change of the files: another one means other rows.

        Rows changed in place within the clock tick of the file system, or with their time set back, are not noticed.
        """
        state = hashlib.sha256()
        for path in self.files:
            facts = path.stat()
            state.update(f"{self._name_of(path)}\0{facts.st_size}\0{facts.st_mtime_ns}\0".encode())
        state.update(f"{self.n_rows} {self.n_features} {self.dtype}\0{self.inside}".encode())
        return state.hexdigest()

    def _name_of(self, file: Path) -> str:
        return file.name


def _dense_row(block: Block, row: int) -> NDArray[np.float64]:
    if isinstance(block, SparseBlock):
        dense = np.zeros(block.n_features)
        part = slice(int(block.indptr[row]), int(block.indptr[row + 1]))
        np.add.at(dense, block.indices[part], block.values[part])
        return dense
    row_of_block: NDArray[np.float64] = block[row].astype(np.float64)
    return row_of_block


class NpySource(Source):
    """A two-dimensional .npy array in C order."""

    def __init__(self, path: Path) -> None:
        self.name, self.files = str(path), [path]
        with path.open("rb") as file:
            shape, is_fortran, self.dtype = read_npy_header(file, str(path))
            self._begin = file.tell()
        if len(shape) != 2:
            raise BadFileError(
                f"{path}: rows are asked for, a matrix (n, n_features); this array has shape {shape}."
            )
        self.n_rows, self.n_features = shape
        if is_fortran and min(shape) > 1:
            raise BadFileError(
                f"{path}: stored column by column; save it in C order (numpy.ascontiguousarray) first."
            )
        self._read_as = checked_dtype(self.dtype, str(path))
        self._stride = self.n_features * self.dtype.itemsize
        self.row_bytes = self.n_features * max(self.dtype.itemsize, self._read_as.itemsize)
        held = max(0, path.stat().st_size - self._begin)
        if held < self.n_rows * self._stride:
            whole = held // self._stride
            raise BadFileError(
                f"{path}: truncated; its header promises {self.n_rows} rows, it holds {whole} of them."
            )

    def blocks(self, start: int, rows: int) -> Iterator[Block]:
        """As `Source.blocks`."""
        with open(self.files[0], "rb", buffering=0) as file:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
            file.seek(self._begin + start * self._stride)
            for first in range(start, self.n_rows, rows):
                count = min(rows, self.n_rows - first)
                block = np.empty((count, self.n_features), self.dtype)
                fill(file, block, self.name)
                yield block.astype(self._read_as, copy=False)

    def take(self, chosen: NDArray[np.int64]) -> NDArray[Any]:
        """As `Source.take`, without reading what lies between."""
        found = np.empty((len(chosen), self.n_features), self.dtype)
        with open(self.files[0], "rb", buffering=0) as file:
            for row, position in zip(found, chosen, strict=True):
                file.seek(self._begin + int(position) * self._stride)
                fill(file, row, self.name)
        return found.astype(np.float64)


class CsrSource(Source):
    """A CSR matrix as `scipy.sparse.save_npz` writes it; its row pointers are held, the rest is streamed."""

    def __init__(self, path: Path) -> None:
        self.name, self.files = str(path), [path]
        with self._archive() as archive:
            self._read_layout(archive)

    @contextmanager
    def _archive(self) -> Iterator[zipfile.ZipFile]:
        """The archive, open; what goes wrong inside it is the content's fault."""
        with open_binary(self.files[0]) as file:
            try:
                with zipfile.ZipFile(file) as archive:
                    yield archive
            except BadFileError:
                raise
            except (*DAMAGE, OSError) as error:  # OSError: a seek to where no file has a place
                raise BadFileError(
                    f"{self.name}: damaged, or no .npz file of scipy.sparse.save_npz."
                ) from error

    def _read_layout(self, archive: zipfile.ZipFile) -> None:
        name = self.name
        missing = {"format.npy", "shape.npy", "indptr.npy", "indices.npy", "data.npy"} - set(
            archive.namelist()
        )
        if missing:
            raise BadFileError(
                f"{name}: no CSR matrix of scipy.sparse.save_npz ({', '.join(sorted(missing))} is missing)."
            )
        stored = str(_small_member(archive, "format.npy", 64, name).astype("U16").item())
        if stored != "csr":
            raise BadFileError(
                f"{name}: rows are asked for; this is a {stored[:16]!r} matrix, save its `.tocsr()`."
            )
        shape = _small_member(archive, "shape.npy", 64, name)
        if shape.shape != (2,) or shape.dtype.kind not in "iu" or (shape < 0).any():
            raise BadFileError(f"{name}: the stored shape is no pair of sizes.")
        self.n_rows, self.n_features = (int(size) for size in shape)
        pointers = _small_member(archive, "indptr.npy", 16 * (self.n_rows + 64), name)
        if pointers.dtype.kind not in "iu" or pointers.shape != (self.n_rows + 1,):
            raise BadFileError(f"{name}: `indptr` must hold {self.n_rows + 1} integers.")
        self._indptr = pointers.astype(np.int64)
        if self._indptr[0] != 0 or (np.diff(self._indptr) < 0).any():
            raise BadFileError(f"{name}: `indptr` must rise from 0.")
        self._stored = int(self._indptr[-1])
        self._index_dtype = self._vector(archive, "indices.npy")
        self.dtype = self._vector(archive, "data.npy")
        if self._index_dtype not in (np.int32, np.int64):
            raise BadFileError(f"{name}: `indices` must be int32 or int64; got {self._index_dtype}.")
        self._read_as = np.dtype(np.float64 if checked_dtype(self.dtype, name) == np.float64 else np.float32)
        entry = self._index_dtype.itemsize + max(self.dtype.itemsize, self._read_as.itemsize)
        self.row_bytes = 8 + entry * self._stored / max(self.n_rows, 1)

    def _vector(self, archive: zipfile.ZipFile, member: str) -> np.dtype[Any]:
        with archive.open(member) as file:
            shape, _, dtype = read_npy_header(file, self.name)
        if shape != (self._stored,):
            raise BadFileError(
                f"{self.name}: `indptr` ends at {self._stored}, but {member[:-4]} has shape {shape}."
            )
        return dtype

    def blocks(self, start: int, rows: int) -> Iterator[Block]:
        """As `Source.blocks`; members are unpacked in order, so that a start far behind costs what lies before."""
        entry = self._index_dtype.itemsize + self._read_as.itemsize
        most = BLOCK_BYTES // entry  # entries of a block, where rows are uneven
        with (
            self._archive() as archive,
            archive.open("indices.npy") as indices,
            archive.open("data.npy") as values,
        ):
            for file, dtype in ((indices, self._index_dtype), (values, self.dtype)):
                read_npy_header(file, self.name)
                file.seek(file.tell() + int(self._indptr[start]) * dtype.itemsize)
            first = start
            while first < self.n_rows:
                limit = int(np.searchsorted(self._indptr, self._indptr[first] + most, "right")) - 1
                last = min(first + rows, max(limit, first + 1), self.n_rows)
                yield self._read(indices, values, first, last)
                first = last

    def _read(self, indices: Any, values: Any, first: int, last: int) -> SparseBlock:
        pointers = self._indptr[first : last + 1] - self._indptr[first]
        columns = np.empty(int(pointers[-1]), self._index_dtype)
        numbers = np.empty(int(pointers[-1]), self.dtype)
        fill(indices, columns, self.name)
        fill(values, numbers, self.name)
        outside = np.flatnonzero((columns < 0) | (columns >= self.n_features))
        if outside.size:
            row = first + int(np.searchsorted(pointers, outside[0], "right")) - 1
            raise BadFileError(
                f"{self.name}, row {row}: column {columns[outside[0]]} lies outside [0, {self.n_features})."
            )
        return SparseBlock(pointers, columns, numbers.astype(self._read_as, copy=False), self.n_features)


class ShardSource(Source):
    """Files of equally long rows, one behind the other, in the order of their names (2 before 10)."""

    def __init__(self, path: Path, shards: Sequence[Source]) -> None:
        self.name, self._folder, self._shards = str(path), path, shards
        self.n_features = shards[0].n_features
        self.n_rows = sum(shard.n_rows for shard in shards)
        self.files = [file for shard in shards for file in shard.files]
        self.inside = "\0".join(shard.inside for shard in shards)
        for shard in shards:
            if shard.n_features != self.n_features:
                raise BadFileError(
                    f"{shard.name}: {shard.n_features} columns, where {shards[0].name} has {self.n_features}."
                )
            if as_read(shard.dtype) != as_read(shards[0].dtype):
                raise BadFileError(
                    f"{shard.name}: {shard.dtype}, where {shards[0].name} is {shards[0].dtype}."
                )
        self.dtype = shards[0].dtype
        self.row_bytes = max(shard.row_bytes for shard in shards)

    def has(self, path: Path) -> bool:
        """As `Source.has`; what lies in the folder is read the next time, whatever it is today."""
        return path.resolve().parent == self._folder.resolve() or super().has(path)

    def blocks(self, start: int, rows: int) -> Iterator[Block]:
        """As `Source.blocks`."""
        for shard in self._shards:
            if start < shard.n_rows:
                yield from shard.blocks(start, rows)
            start = max(0, start - shard.n_rows)

    def take(self, chosen: NDArray[np.int64]) -> NDArray[Any]:
        """As `Source.take`, shard by shard."""
        found, first = [np.empty((0, self.n_features))], 0
        for shard in self._shards:
            mine = chosen[(chosen >= first) & (chosen < first + shard.n_rows)] - first
            if mine.size:
                found.append(shard.take(mine))
            first += shard.n_rows
        return np.concatenate(found)


def checked_dtype(dtype: np.dtype[Any], name: str) -> np.dtype[Any]:
    """`as_read`, with the file's name in what it says.

    Raises:
        BadFileError: the numbers are of no kind that is read.
    """
    try:
        return as_read(dtype)
    except TypeError as error:
        raise BadFileError(f"{name}: {error}") from error


def fill(file: Any, array: NDArray[Any], name: str) -> None:
    """Reads an array's bytes.

    Raises:
        BadFileError: the file ends before.
    """
    view = array.reshape(-1).view(np.uint8).data
    while len(view):
        count = file.readinto(view)
        if not count:
            raise BadFileError(f"{name}: truncated; it ended while it was read.")
        view = view[count:]


def read_npy_header(file: Any, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran order, and dtype; the file stands at the data afterwards.

    Raises:
        BadFileError: that is no .npy header.
    """
    try:
        version = npy.read_magic(file)
        reader = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # that reading headers of Python 2 takes a moment longer
            shape, is_fortran, dtype = reader(file)
    except DAMAGE as error:
        raise BadFileError(f"{name}: damaged, or no .npy file.") from error
    if any(size < 0 for size in shape) or dtype.hasobject:
        raise BadFileError(f"{name}: damaged, or Python objects instead of numbers.")
    return shape, is_fortran, dtype


def _small_member(archive: zipfile.ZipFile, member: str, most: int, name: str) -> NDArray[Any]:
    """A member as an array, unless it is larger than its place in the format allows."""
    if archive.getinfo(member).file_size > most + 4096:
        raise BadFileError(f"{name}: {member[:-4]} is too long for the stored shape.")
    with archive.open(member) as file:
        shape, _, dtype = read_npy_header(file, name)
        array = np.empty(shape, dtype)
        fill(file, array, name)
    return array


def open_binary(path: Path) -> BinaryIO:
    """The file, for reading once from front to back."""
    return path.open("rb", buffering=1 << 20)
