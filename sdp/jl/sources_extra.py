"""Rows of Parquet and Arrow files, HDF5, zarr and CSV, and `open_source`, which looks at a path and chooses.

pyarrow, h5py and zarr come with the extras `arrow`, `hdf5` and `zarr`; without one, its files get a sentence that
says so.
"""

from __future__ import annotations

import codecs
import importlib
import itertools
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdp.jl.blocks import Block
from sdp.jl.sources import (
    DAMAGE,
    BadFileError,
    CsrSource,
    NpySource,
    ShardSource,
    Source,
    checked_dtype,
    open_binary,
)

SHARDS = (".npy", ".npz", ".parquet", ".arrow", ".feather", ".h5", ".hdf5", ".csv")
CSV_WORD = 80  # bytes that a number takes while it is parsed, beside its text
LONGEST_LINE = 64 << 20  # bytes; a file without line ends is no CSV


def open_source(path: Path, dataset: str | None = None) -> Source:
    """The rows of a file or folder, by its ending; a folder is a zarr array or its files, in order.

    Args:
        path: what to read.
        dataset: name of the array inside an HDF5 file or zarr group; needed where there are several.

    Raises:
        BadFileError: it is damaged, has no rows, or is of no known kind.
        ModuleNotFoundError: its package is not installed; the message names the extra.
        OSError: it cannot be read.
    """
    if path.is_dir():
        if path.suffix == ".zarr" or any(
            (path / name).exists() for name in (".zarray", ".zgroup", "zarr.json")
        ):
            return ZarrSource(path, dataset)
        return _open_folder(path, dataset)
    suffix = path.suffix.lower()
    if not path.exists():
        raise FileNotFoundError(2, "No such file or directory", str(path))
    if suffix == ".npy":
        return NpySource(path)
    if suffix == ".npz":
        return CsrSource(path)
    if suffix in (".parquet", ".pq", ".arrow", ".feather"):
        return ArrowSource(path)
    if suffix in (".h5", ".hdf5"):
        return HdfSource(path, dataset)
    if suffix == ".csv":
        return CsvSource(path)
    raise BadFileError(
        f"{path}: the ending must be one of {', '.join(SHARDS)}, or .zarr of a folder; got {suffix!r}."
    )


def extra(module: str, name: str, path: Path) -> Any:
    """A module of an extra.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.split(".")[0]
        raise ModuleNotFoundError(
            f"{path}: needs {package}, which is not installed; pip install 'sdp-kernels[{name}]'."
        ) from error


def _open_folder(path: Path, dataset: str | None) -> Source:
    def in_numbers(found: Path) -> list[Any]:  # part-2 before part-10
        return [int(word) if word.isdigit() else word for word in re.split(r"(\d+)", found.name)]

    shards = sorted(
        (p for p in path.iterdir() if p.suffix.lower() in SHARDS and not p.name.startswith(".")),
        key=in_numbers,
    )
    if not shards:
        raise BadFileError(f"{path}: a folder without a file that ends in {', '.join(SHARDS)}.")
    return ShardSource(path, [open_source(shard, dataset) for shard in shards])


@contextmanager
def _damaged(path: Path, what: str) -> Iterator[None]:
    """Turns whatever a reader raises at damaged bytes into `BadFileError`."""
    try:
        yield
    except BadFileError:
        raise
    except (*DAMAGE, OSError) as error:
        raise BadFileError(f"{path}: damaged, or no {what} file.") from error


class ArrowSource(Source):
    """A Parquet or Arrow file: its columns are the features, or its only column holds lists of equal length."""

    def __init__(self, path: Path) -> None:
        self.name, self.files = str(path), [path]
        self._is_parquet = path.suffix.lower() in (".parquet", ".pq")
        module = "pyarrow.parquet" if self._is_parquet else "pyarrow.ipc"
        self._reader, self._arrow = extra(module, "arrow", path), extra("pyarrow", "arrow", path)
        with _damaged(path, "Parquet" if self._is_parquet else "Arrow"):
            if self._is_parquet:
                with self._reader.ParquetFile(path) as file:
                    schema, self.n_rows = file.schema_arrow, file.metadata.num_rows
            else:
                with self._reader.open_file(path) as file:
                    schema = file.schema
                    self._starts = [0, *itertools.accumulate(
                        file.get_batch(i).num_rows for i in range(file.num_record_batches)
                    )]  # fmt: skip
                    self.n_rows = self._starts[-1]
            self._read_schema(schema)
        self._read_as = checked_dtype(self.dtype, self.name)
        self.row_bytes = self.n_features * self._read_as.itemsize

    def _read_schema(self, schema: Any) -> None:
        types = self._arrow.types
        if not len(schema):
            raise BadFileError(f"{self.name}: the table has no columns.")
        kind = schema.field(0).type
        self._is_list = len(schema) == 1 and (
            types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
        )
        if self._is_list:
            self.n_features = kind.list_size if types.is_fixed_size_list(kind) else self._first_length()
            self.dtype = self._number(kind.value_type, schema.field(0).name)
            return
        self.n_features = len(schema)
        self.dtype = np.result_type(*(self._number(field.type, field.name) for field in schema))

    def _number(self, kind: Any, column: str) -> np.dtype[Any]:
        types = self._arrow.types
        if not (types.is_floating(kind) or types.is_integer(kind) or types.is_boolean(kind)):
            raise BadFileError(f"{self.name}: column {column[:40]!r} holds {str(kind)[:40]}, not numbers.")
        dtype: np.dtype[Any] = np.dtype(kind.to_pandas_dtype())
        return dtype

    def _first_length(self) -> int:
        for batch in self._batches(0):
            if batch.num_rows:
                first = batch.column(0)[0]
                return len(first) if first.is_valid else 0
        return 0

    def _batches(self, start: int) -> Iterator[Any]:
        """Record batches, the first of them beginning at row `start`."""
        if not self._is_parquet:
            with self._reader.open_file(self.files[0]) as file:
                for i, first in enumerate(self._starts[:-1]):
                    if self._starts[i + 1] > start:
                        yield file.get_batch(i).slice(max(0, start - first))
            return
        with self._reader.ParquetFile(self.files[0]) as file:
            groups, first = [], 0
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                if first + count > start:
                    groups.append(group)
                else:
                    first += count
            skip = start - first
            for batch in file.iter_batches(batch_size=self._batch_rows(), row_groups=groups):
                if skip < batch.num_rows:
                    yield batch.slice(skip)
                skip = max(0, skip - batch.num_rows)

    def _batch_rows(self) -> int:
        return self.rows_a_block() if hasattr(self, "row_bytes") else 1

    def blocks(self, start: int, rows: int) -> Iterator[Block]:
        """As `Source.blocks`."""
        with _damaged(self.files[0], "Parquet" if self._is_parquet else "Arrow"):
            row = start
            for batch in self._batches(start):
                for first in range(0, batch.num_rows, rows):
                    part = batch.slice(first, rows)
                    yield self._to_numpy(part, row)
                    row += part.num_rows

    def _to_numpy(self, batch: Any, row: int) -> NDArray[Any]:
        n = batch.num_rows
        for column, field in zip(batch.columns, batch.schema, strict=True):
            if column.null_count:
                where = row + int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
                raise BadFileError(f"{self.name}, row {where}: column {field.name[:40]!r} is null.")
        block = np.empty((n, self.n_features), self._read_as)
        if not self._is_list:
            for position, column in enumerate(batch.columns):
                block[:, position] = column.to_numpy(zero_copy_only=False)
            return block
        lists = batch.column(0)
        if not self._arrow.types.is_fixed_size_list(lists.type):
            ends = lists.offsets.to_numpy()
            wrong = np.flatnonzero(np.diff(ends) != self.n_features)
            if wrong.size:
                length = int(np.diff(ends)[wrong[0]])
                raise BadFileError(
                    f"{self.name}, row {row + int(wrong[0])}: {length} numbers, expected {self.n_features}."
                )
        numbers = lists.flatten()
        if numbers.null_count:
            where = (
                row
                + int(np.flatnonzero(numbers.is_null().to_numpy(zero_copy_only=False))[0]) // self.n_features
            )
            raise BadFileError(f"{self.name}, row {where}: a number is null.")
        block[:] = numbers.to_numpy(zero_copy_only=False).reshape(n, self.n_features)
        return block


class _ArraySource(Source):
    """An array that is read by slices of rows: HDF5 and zarr."""

    what: str

    def _look(self, array: Any) -> None:
        if len(array.shape) != 2:
            raise BadFileError(
                f"{self.name}: rows are asked for, a matrix (n, n_features); got shape {array.shape}."
            )
        self.n_rows, self.n_features = (int(size) for size in array.shape)
        self.dtype = np.dtype(array.dtype)
        self._read_as = checked_dtype(self.dtype, self.name)
        self.row_bytes = self.n_features * max(self.dtype.itemsize, self._read_as.itemsize)

    @contextmanager
    def _array(self) -> Iterator[Any]:
        """The array, open."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it is opened.")

    def blocks(self, start: int, rows: int) -> Iterator[Block]:
        """As `Source.blocks`."""
        with _damaged(Path(self.name), self.what), self._array() as array:
            for first in range(start, self.n_rows, rows):
                yield np.ascontiguousarray(array[first : min(first + rows, self.n_rows)], self._read_as)

    def take(self, chosen: NDArray[np.int64]) -> NDArray[Any]:
        """As `Source.take`, without reading what lies between."""
        found = np.empty((len(chosen), self.n_features))
        with _damaged(Path(self.name), self.what), self._array() as array:
            for row, position in zip(found, chosen, strict=True):
                row[:] = array[int(position)]
        return found


class HdfSource(_ArraySource):
    """A two-dimensional dataset of an HDF5 file."""

    what = "HDF5"

    def __init__(self, path: Path, dataset: str | None) -> None:
        self.name, self.files = str(path), [path]
        self._h5py = extra("h5py", "hdf5", path)
        with _damaged(path, self.what), self._h5py.File(path, "r") as file:
            names: list[str] = []
            file.visititems(
                lambda name, item: (
                    names.append(name) if isinstance(item, self._h5py.Dataset) and item.ndim == 2 else None
                )
            )
            self.inside = _chosen(dataset, sorted(names), self.name)
            self._look(file[self.inside])

    @contextmanager
    def _array(self) -> Iterator[Any]:
        with self._h5py.File(self.files[0], "r") as file:
            yield file[self.inside]


class ZarrSource(_ArraySource):
    """A two-dimensional zarr array in a folder."""

    what = "zarr"

    def __init__(self, path: Path, dataset: str | None) -> None:
        self.name, self._path = str(path), path
        self._zarr = extra("zarr", "zarr", path)
        with _damaged(path, self.what):
            opened = self._open()
            if hasattr(opened, "array_keys"):
                names = sorted(name for name in opened.array_keys() if len(opened[name].shape) == 2)
                self.inside = _chosen(dataset, names, self.name)
            self._look(opened[self.inside] if self.inside else opened)
        # Every chunk is a file, and the metadata's is left alone when rows change: all of them date the array.
        self.files = sorted(p for p in (path / self.inside).rglob("*") if p.is_file()) or [path]

    def has(self, path: Path) -> bool:
        """As `Source.has`; the array's folder is its own."""
        mine, place = self._path.resolve(), path.resolve()
        return place == mine or mine in place.parents

    def _name_of(self, file: Path) -> str:
        return str(file.relative_to(self._path))

    def _open(self) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zarr warns of formats that it reads all the same
            return self._zarr.open(str(self._path), mode="r")

    @contextmanager
    def _array(self) -> Iterator[Any]:
        opened = self._open()
        yield opened[self.inside] if self.inside else opened


def _chosen(dataset: str | None, names: list[str], file: str) -> str:
    if dataset is not None:
        if dataset.strip("/") not in names:
            raise BadFileError(f"{file}: no matrix {dataset!r}; it holds {', '.join(names[:8]) or 'none'}.")
        return dataset.strip("/")
    if len(names) != 1:
        held = (
            f"{len(names)} matrices ({', '.join(names[:8])}); choose one by `--dataset`"
            if names
            else "no matrix"
        )
        raise BadFileError(f"{file}: holds {held}.")
    return names[0]


class CsvSource(Source):
    """Numbers separated by commas, a row a line, float64.

    The first line is one of column names, and no row, when none of its cells is a number; a byte order mark is skipped.
    """

    def __init__(self, path: Path) -> None:
        self.name, self.files = str(path), [path]
        self.dtype = np.dtype(np.float64)
        with open_binary(path) as file:
            mark = len(codecs.BOM_UTF8) if file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8 else 0
            file.seek(mark)
            first = _line(file, self.name)
            # A single number makes it a row: one that was spoilt is named then, and not lost as a line of names.
            self._has_header = bool(first.strip()) and not any(map(_is_number, first.strip().split(b",")))
            model = _line(file, self.name) if self._has_header else first
        self.n_features = (model if model.strip() else first).count(b",") + 1
        self._begin = mark + len(first) * self._has_header
        self.n_rows = self._count()
        self.row_bytes = self.n_features * CSV_WORD + len(model)

    def _count(self) -> int:
        count, last = 0, b"\n"
        with open_binary(self.files[0]) as file:
            file.seek(self._begin)
            while piece := file.read(1 << 20):
                count += piece.count(b"\n")
                last = piece[-1:]
        return count + (last != b"\n")

    def blocks(self, start: int, rows: int) -> Iterator[Block]:
        """As `Source.blocks`; what lies before `start` is read past."""
        with open_binary(self.files[0]) as file:
            file.seek(self._begin)
            for _ in range(start):
                _line(file, self.name)
            for first in range(start, self.n_rows, rows):
                lines = [_line(file, self.name) for _ in range(min(rows, self.n_rows - first))]
                yield self._parse(lines, first)

    def _parse(self, lines: list[bytes], first: int) -> NDArray[Any]:
        for position, line in enumerate(lines):
            if line.count(b",") + 1 != self.n_features or not line.strip():
                found = line.count(b",") + 1 if line.strip() else 0
                raise BadFileError(
                    f"{self._place(first + position)}: {found} numbers, expected {self.n_features}."
                )
        try:
            words = itertools.chain.from_iterable(line.split(b",") for line in lines)
            numbers = np.fromiter(map(float, words), np.float64, len(lines) * self.n_features)
        except ValueError:
            position, word = next(
                (i, word)
                for i, line in enumerate(lines)
                for word in line.strip().split(b",")
                if not _is_number(word)
            )
            raise BadFileError(
                f"{self._place(first + position)}: expected a number, got {word.decode('utf-8', 'replace')[:40]!r}."
            ) from None
        return numbers.reshape(len(lines), self.n_features)

    def _place(self, row: int) -> str:
        return f"{self.name}, line {row + 1 + self._has_header}"


def _line(file: Any, name: str) -> bytes:
    line: bytes = file.readline(LONGEST_LINE)
    if len(line) == LONGEST_LINE:
        raise BadFileError(f"{name}: a line of more than {LONGEST_LINE >> 20} MB; is this a CSV file?")
    return line


def _is_number(word: bytes) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
