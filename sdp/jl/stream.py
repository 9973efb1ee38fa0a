"""Embedding rows that do not fit in memory: read ahead, apply the map, append, and lose nothing when killed.

A thread reads blocks ahead of the one that is being embedded; images are appended to a spool beside the output
(`OUT.partial`), and every few seconds, once they are on the disk, a progress file (`OUT.progress`) is replaced that
says how many rows count. A row's image depends on that row and the map alone, so that a run which was killed and went
on, even with other blocks, writes the bytes of one that was not. At the end the output appears by renaming, and then a
sidecar (`OUT.json`) that names the map: kind, seed, shapes, checksum, versions. A sidecar never stands beside rows of
another map: that of an older output is removed just before the renaming. A lock (`OUT.lock`) keeps two runs apart.
"""

from __future__ import annotations

import json
import os
import platform
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdp.jl.blocks import Block, SparseBlock
from sdp.jl.lock import only_run
from sdp.jl.maps import Map
from sdp.jl.sinks import Spool, check_output, finish, remove
from sdp.jl.sources import BadFileError, Source, read_npy_header

FORMAT = 1
SYNC_SECONDS = 5.0  # between records of progress; so much work is done again after a kill
STOPPED_SECONDS = 0.1  # until the reader notices that nobody wants its block
AHEAD = 1  # blocks read and waiting, beside the one being read and the one being embedded
MOST_COMPONENTS_BYTES = 1 << 31  # of a learned map's matrix

Progress = Callable[[int, int], None]  # rows done, rows in all


@dataclass(frozen=True)
class EmbedResult:
    """What was embedded.

    Attributes:
        output: path of the rows.
        sidecar: path of the JSON file that names the map.
        kind: of the map.
        seed: of the map.
        n_rows, n_features, n_components: shapes.
        dtype: of the output.
        sha256: of the output's rows as little-endian bytes, row by row, without any header.
        seconds: this run took.
        resumed_at: rows that an earlier run had done.
    """

    output: str
    sidecar: str
    kind: str
    seed: int
    n_rows: int
    n_features: int
    n_components: int
    dtype: str
    sha256: str
    seconds: float
    resumed_at: int

    def to_dict(self) -> dict[str, Any]:
        """All fields, JSON-ready."""
        return asdict(self)


@dataclass(frozen=True)
class Places:
    """The files that belong to an output.

    Attributes:
        output: path of the rows.
    """

    output: Path
    sidecar: Path = field(init=False)
    matrix: Path = field(init=False)
    spool: Path = field(init=False)
    progress: Path = field(init=False)
    lock: Path = field(init=False)

    def __post_init__(self) -> None:
        for name, ending in (
            ("sidecar", ".json"),
            ("matrix", ".map.npy"),
            ("spool", ".partial"),
            ("progress", ".progress"),
            ("lock", ".lock"),
        ):
            object.__setattr__(self, name, self.output.with_name(self.output.name + ending))

    def refuse_input(self, source: Source) -> None:
        """Stops before rows that are read would be written over, or would have the output among them.

        Raises:
            ValueError: a file of the output is one of the source's, or lies among them, or holds them.
        """
        for path in (self.output, self.sidecar, self.matrix, self.spool, self.progress, self.lock):
            if source.has(path):
                same = f"OUT, or {path.name} beside it," if path != self.output else "OUT"
                raise ValueError(f"{self.output}: {same} would be written over IN or into its folder.")
        output = self.output.resolve()
        if any(output in file.resolve().parents for file in source.files):
            raise ValueError(f"{self.output}: IN lies inside of OUT.")


def embed(
    source: Source,
    output: str | os.PathLike[str],
    embedding: Map,
    *,
    chunk_rows: int | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> EmbedResult:
    """Embeds every row of a source into a file.

    Args:
        source: from `sdp.jl.sources_extra.open_source`.
        output: .npy, .parquet, .h5, .hdf5 or .zarr.
        embedding: the map.
        chunk_rows: rows a block; by default 12 MB of them. The result does not depend on it.
        resume: go on from what a killed run of the same work left; without it, or if there is nothing, begin anew.
        progress: called after every block.

    Returns:
        What was done.

    Raises:
        ValueError: the source is damaged, has NaN or infinity (with the row), fits neither the map nor what `resume`
            found, or would be written over; or another run is writing the same output.
        OSError: a file cannot be read or written.

    Memory: about 50 MB of blocks as they are read, one block's image, and what the map's operation needs; 219 MB of a
    process that reads float32 .npy rows and had nothing to compile.
    """
    if source.n_features != embedding.n_features:
        raise ValueError(
            f"{source.name} has {source.n_features} columns, but the map takes {embedding.n_features}."
        )
    if chunk_rows is not None and chunk_rows < 1:
        raise ValueError(f"`chunk_rows` must be a positive integer; got {chunk_rows}.")
    begin = time.perf_counter()
    places = Places(Path(output))
    check_output(places.output)
    places.refuse_input(source)
    with only_run(places.lock, places.output):
        return _embed(source, places, embedding, begin, chunk_rows or source.rows_a_block(), resume, progress)


def _embed(
    source: Source,
    places: Places,
    embedding: Map,
    begin: float,
    chunk_rows: int,
    resume: bool,
    progress: Progress | None,
) -> EmbedResult:
    shape = (source.n_rows, embedding.n_components)
    dtype = embedding.output_dtype(source.dtype)
    job = {"source": source.fingerprint(), "map": _description(embedding), "dtype": dtype.str}
    done = _rows_done(places, job) if resume else 0
    spool = Spool(places.spool, shape, dtype, done)
    try:
        if not done:
            remove(places.progress)
        _run(source, embedding, spool, places, job, done, chunk_rows, progress)
        spool.sync()
    finally:
        spool.close()
    sha256 = spool.checksum()
    result = EmbedResult(
        str(places.output),
        str(places.sidecar),
        embedding.kind,
        embedding.seed,
        *(source.n_rows, source.n_features, embedding.n_components),
        dtype.name,
        sha256,
        time.perf_counter() - begin,
        done,
    )
    finish(spool, places.output, stale=(places.sidecar, places.matrix))
    _save_sidecar(places, embedding, result)
    remove(places.progress)
    return result


def _run(
    source: Source,
    embedding: Map,
    spool: Spool,
    places: Places,
    job: dict[str, Any],
    done: int,
    rows: int,
    progress: Progress | None,
) -> None:
    recorded = time.monotonic()
    with _read_ahead(source, done, rows) as blocks:
        for block in blocks:
            image = embedding.apply(block)
            _refuse_non_finite(image, block, done, source.name)
            spool.write(image)
            done += len(block)
            if time.monotonic() - recorded > SYNC_SECONDS:
                spool.sync()
                _replace(places.progress, {"format": FORMAT, "rows": done, **job})
                recorded = time.monotonic()
            if progress is not None:
                progress(done, source.n_rows)
    if done != source.n_rows:
        raise BadFileError(f"{source.name}: {source.n_rows} rows were promised, {done} came.")


@contextmanager
def _read_ahead(source: Source, start: int, rows: int) -> Iterator[Iterator[Block]]:
    """The source's blocks, read by a thread of their own, which ends with the `with`."""
    waiting: queue.Queue[Block | BaseException | None] = queue.Queue(AHEAD)
    stop = threading.Event()

    def put(item: Block | BaseException | None) -> None:
        while not stop.is_set():
            with suppress(queue.Full):
                return waiting.put(item, timeout=STOPPED_SECONDS)

    def read() -> None:
        try:
            for block in source.blocks(start, rows):
                put(block)
                if stop.is_set():
                    return
            put(None)
        except BaseException as error:  # handed to the thread that waits, and raised there
            put(error)

    def blocks() -> Iterator[Block]:
        while (item := waiting.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    reader = threading.Thread(target=read, name="read-ahead", daemon=True)
    reader.start()
    try:
        yield blocks()
    finally:
        stop.set()
        reader.join()


def _refuse_non_finite(image: NDArray[Any], block: Block, first: int, name: str) -> None:
    """NaN and infinity pass into the image of their row, which is smaller to look at than the row."""
    bad = np.flatnonzero(~np.isfinite(image).all(axis=1))
    if not bad.size:
        return
    row = int(bad[0])
    if isinstance(block, SparseBlock):
        part = slice(int(block.indptr[row]), int(block.indptr[row + 1]))
        numbers, columns = block.values[part], block.indices[part]
    else:
        numbers, columns = block[row], np.arange(block.shape[1])
    wrong = np.flatnonzero(~np.isfinite(numbers))
    if wrong.size:
        found = "NaN" if np.isnan(numbers[wrong[0]]) else "infinite"
        raise BadFileError(f"{name}, row {first + row}: column {int(columns[wrong[0]])} is {found}.")
    raise BadFileError(f"{name}, row {first + row}: its image overflows {image.dtype}.")


def _description(embedding: Map) -> dict[str, Any]:
    """What tells one map from another, JSON-ready."""
    import hashlib

    described: dict[str, Any] = {
        "kind": embedding.kind,
        "seed": embedding.seed,
        "n_features": embedding.n_features,
        "n_components": embedding.n_components,
        "n_nonzeros": embedding.n_nonzeros,
    }
    if embedding.matrix is not None:
        described["matrix_dtype"] = embedding.matrix.dtype.str
        described["matrix_sha256"] = hashlib.sha256(embedding.matrix.tobytes()).hexdigest()
    return described


def _rows_done(places: Places, job: dict[str, Any]) -> int:
    """Rows that an earlier run of this work has left on the disk.

    Raises:
        ValueError: what is there belongs to other work, or is damaged.
    """
    try:
        stored = json.loads(places.progress.read_text("utf-8"))
    except FileNotFoundError:
        return 0
    except ValueError as error:
        raise ValueError(f"{places.progress}: damaged; leave out `--resume` to begin anew.") from error
    if (
        not isinstance(stored, dict)
        or stored.get("format") != FORMAT
        or not isinstance(stored.get("rows"), int)
    ):
        raise ValueError(f"{places.progress}: damaged; leave out `--resume` to begin anew.")
    for name, meant in job.items():
        if stored.get(name) != meant:
            other = {"source": "another source", "map": "another map", "dtype": "another dtype"}[name]
            raise ValueError(f"{places.progress} belongs to {other}; leave out `--resume` to begin anew.")
    rows: int = stored["rows"]
    return rows if places.spool.exists() else 0  # killed between the last renaming and the end: once more


def load_map(sidecar: str | os.PathLike[str]) -> Map:
    """The map that a sidecar names, for embedding new rows as the old ones were.

    Raises:
        ValueError: it is damaged, of another format, or its learned matrix is not the one it was written with.
        OSError: it, or its matrix, cannot be read.
    """
    path = Path(sidecar)
    try:
        stored = json.loads(path.read_text("utf-8"))
        described = dict(stored["map"])
        kind, seed = str(described["kind"]), int(described["seed"])
        shape = int(described["n_features"]), int(described["n_components"])
        is_known = stored["format"] == FORMAT
    except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"{path}: damaged, or no sidecar of sdp embed.") from error
    if not is_known:
        raise ValueError(f"{path}: a sidecar of format {stored['format']}; this version reads {FORMAT}.")
    matrix = _load_matrix(path.with_name(str(stored.get("matrix", "")))) if kind == "learned" else None
    found = Map(kind, *shape, seed=seed, matrix=matrix)
    if _description(found) != described:
        raise ValueError(f"{path}: names a map that this version does not make, or whose matrix was changed.")
    return found


def _load_matrix(path: Path) -> NDArray[Any]:
    with path.open("rb") as file:
        shape, is_fortran, dtype = read_npy_header(file, str(path))
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if dtype.name not in ("float32", "float64") or is_fortran or size > MOST_COMPONENTS_BYTES:
            raise BadFileError(f"{path}: no matrix of a learned map.")
        content = file.read(size)
    if len(content) < size:
        raise BadFileError(f"{path}: truncated.")
    return np.frombuffer(content, dtype).reshape(shape)


def _save_sidecar(places: Places, embedding: Map, result: EmbedResult) -> None:
    if embedding.matrix is not None:
        hidden = places.matrix.with_name(f".{places.matrix.name}.tmp")
        with hidden.open("wb") as file:
            np.save(file, np.ascontiguousarray(embedding.matrix))
        os.replace(hidden, places.matrix)
    content = {
        "format": FORMAT,
        "map": _description(embedding),
        "matrix": places.matrix.name if embedding.matrix is not None else None,
        "output": places.output.name,
        "n_rows": result.n_rows,
        "dtype": result.dtype,
        "sha256": result.sha256,
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("sdp-kernels", "numpy", "numba", "torch")},
        },
    }
    _replace(places.sidecar, content)


def _replace(path: Path, content: dict[str, Any]) -> None:
    """Writes JSON that is there as a whole or not at all."""
    hidden = path.with_name(f".{path.name}.tmp")
    with hidden.open("w", encoding="utf-8", newline="\n") as file:
        json.dump(content, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(hidden, path)
