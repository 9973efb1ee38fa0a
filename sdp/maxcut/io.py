"""Files of graphs and partitions, read with one sentence for every fault and written all or nothing."""

from __future__ import annotations

import contextlib
import gzip
import os
import secrets
from collections.abc import Iterator
from typing import IO, BinaryIO, Literal, TextIO, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdp.maxcut import _format
from sdp.maxcut.formats import READERS, Parsed
from sdp.maxcut.graph import Graph
from sdp.maxcut.listing import AsymmetricError, TooLargeError
from sdp.maxcut.sniff import bare_name, choose_format
from sdp.maxcut.textfile import GraphFormatError, TextFile, quoted, read_text

__all__ = [
    "GraphFormatError",
    "atomic_write",
    "load_partition",
    "read_graph",
    "save_partition",
    "write_graph",
]

_WRITTEN_AT_ONCE = 1 << 20  # edges
_GZIP_LEVEL = 6


def read_graph(path: str | os.PathLike[str], format: str | None = None) -> Graph:
    """Reads a graph from a file.

    Args:
        path: the file; gzip is recognised by its first bytes. The graph is named after it.
        format: "rudy" (also Gset), "mtx" (Matrix Market), "snap" (edge list), "metis" or "csv"; None to tell
            it from the text, by the rules of `sdp.maxcut.sniff`, with the ending of the name as a hint.

    Returns:
        The graph. Vertices of rudy, Matrix Market and METIS files are numbered from 0 here; those of edge
        lists and CSV are the distinct ids in rising order, kept in `labels` where they are not 0 to n - 1.

    Raises:
        GraphFormatError: the file holds no graph; one sentence with the name of the file and the line.
        ValueError: no format has this name.
        OSError: the file cannot be read; of the natural kind, with one sentence.

    Complexity: O(bytes + n); about .25 s for a million edges on one thread, most of it gunzip and sorting.
    """
    if format is not None and format not in READERS:
        raise ValueError(f"format must be one of {', '.join(READERS)}; got {format!r}.")
    text = read_text(path)
    name = bare_name(text.name)[0]
    try:
        parsed = _parse(text, format)
        try:
            return Graph._from_listing(parsed.listing, name)
        except AsymmetricError as error:
            raise (parsed.explain(error) if parsed.explain else error) from None
        except TooLargeError as error:
            raise GraphFormatError(f"{text.name}: {error}") from None
    except MemoryError:
        raise GraphFormatError(f"{text.name}: the graph needs more memory than there is.") from None


def _parse(text: TextFile, format: str | None) -> Parsed:
    """The listing in a text; where its format was only likely, an error says which was taken."""
    if format is not None:
        return READERS[format](text)
    choice = choose_format(text)
    try:
        return READERS[choice.format](text)
    except GraphFormatError as error:
        if choice.is_sure:
            raise
        taken = f" (read as {choice.format}; if it is not, name its format)."
        raise GraphFormatError(str(error).removesuffix(".") + taken) from None


def write_graph(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Writes a graph in rudy format, all or nothing; gzip when the name ends in .gz.

    Weights are written so that reading gives the same float64; vertices are numbered from 1 and `labels`,
    which the format cannot hold, are left out. The same graph gives the same bytes.

    Raises:
        OSError: the file cannot be written.
    """
    u, v, w = graph.edges()
    is_gzip = os.fsdecode(path).lower().endswith(".gz")
    with atomic_write(path) as file, contextlib.ExitStack() as stack:
        sink: BinaryIO | gzip.GzipFile = file
        if is_gzip:
            sink = stack.enter_context(gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0))
        sink.write(f"{graph.n_vertices} {graph.n_edges}\n".encode())
        for begin in range(0, u.size, _WRITTEN_AT_ONCE):
            part = slice(begin, begin + _WRITTEN_AT_ONCE)
            sink.write(_format.lines_of_edges(u[part], v[part], w[part]))


def save_partition(path: str | os.PathLike[str], partition: ArrayLike) -> None:
    """Writes a partition, one 0 or 1 a line in the order of the vertices, all or nothing.

    Args:
        path: the file.
        partition: (n,) of 0 and 1, of booleans, or of -1 (written as 0) and +1.

    Raises:
        ValueError: the partition has other entries, or not one dimension.
        OSError: the file cannot be written.
    """
    sides = np.asarray(partition)
    if sides.ndim != 1:
        raise ValueError(f"partition must have one dimension; got shape {sides.shape}.")
    is_set = sides > 0
    if sides.dtype != np.bool_ and not (np.isin(sides, (0, 1)).all() or np.isin(sides, (-1, 1)).all()):
        raise ValueError(f"partition must hold 0 and 1, or -1 and +1; got {np.unique(sides)[:5].tolist()}.")
    lines = np.full((sides.size, 2), ord("\n"), np.uint8)
    lines[:, 0] = ord("0") + is_set
    with atomic_write(path) as file:
        file.write(lines.tobytes())


def load_partition(path: str | os.PathLike[str], n_vertices: int) -> NDArray[np.uint8]:
    """Reads a partition: one 0 or 1 a line in the order of the vertices; blank lines do not count.

    Args:
        path: the file; gzip is recognised.
        n_vertices: how many lines there must be.

    Returns:
        uint8 (n_vertices,) of 0 and 1.

    Raises:
        GraphFormatError: a line is neither 0 nor 1, or their number is wrong.
        OSError: the file cannot be read.

    Complexity: O(n) in Python, .1 microseconds a line.
    """
    text = read_text(path, may_be_empty=n_vertices == 0)
    sides = bytearray()
    line_of_surplus = 0
    for line, content in enumerate(text.data[text.begin :].split(b"\n"), start=1):
        digit = content.strip()
        if digit == b"0" or digit == b"1":
            sides.append(digit[0] - ord("0"))
            if len(sides) == n_vertices + 1:
                line_of_surplus = line
        elif digit:
            got = quoted(digit.decode("utf-8", "backslashreplace"))
            raise text.error(line, f'expected "0" or "1", got "{got}".')
    if line_of_surplus:
        raise text.error(
            line_of_surplus, f"the graph has {n_vertices} vertices; the file has {len(sides)} lines."
        )
    if len(sides) < n_vertices:
        raise text.error(
            text.last_line, f"the graph has {n_vertices} vertices; the file ends after {len(sides)}."
        )
    return np.frombuffer(bytes(sides), np.uint8).copy()


@overload
def atomic_write(
    path: str | os.PathLike[str], mode: Literal["wb"] = "wb"
) -> contextlib.AbstractContextManager[BinaryIO]: ...
@overload
def atomic_write(
    path: str | os.PathLike[str], mode: Literal["w"]
) -> contextlib.AbstractContextManager[TextIO]: ...


@contextlib.contextmanager  # type: ignore[misc]
def atomic_write(
    path: str | os.PathLike[str], mode: Literal["wb", "w"] = "wb"
) -> Iterator[IO[bytes] | IO[str]]:
    """Opens a file that appears under its name only when it is whole.

    The text goes to a hidden file in the same folder, which is flushed to the disk and then renamed; if the
    block raises, the hidden file is removed and a file that was there stays as it was. Links are followed.
    What is not an ordinary file (/dev/stdout, a pipe) cannot be renamed over, and is written directly.

    Args:
        path: the file.
        mode: "wb" for bytes, "w" for UTF-8 text with newlines at line ends.

    Raises:
        OSError: of the natural kind, with one sentence, where the folder is missing or not writable.
    """
    encoding = {"encoding": "utf-8", "newline": "\n"} if mode == "w" else {}
    target = os.path.realpath(path)
    name = quoted(os.fsdecode(path), longest=None)
    if os.path.isdir(target):
        raise IsADirectoryError(f"{name}: this is a folder; name a file.")
    if os.path.exists(target) and not os.path.isfile(target):
        with open(path, mode, **encoding) as file:  # type: ignore[call-overload]
            yield file
        return
    folder, base = os.path.split(target)
    hidden = os.path.join(folder, f".{base[:100]}.{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    except OSError as error:
        reason = "no such folder" if isinstance(error, FileNotFoundError) else (error.strerror or str(error))
        raise type(error)(f"{name}: the file cannot be written ({reason}).") from error
    try:
        with open(descriptor, mode, **encoding) as file:  # type: ignore[call-overload]
            yield file
            file.flush()
            os.fsync(file.fileno())
        if os.path.exists(target):
            os.chmod(hidden, os.stat(target).st_mode & 0o7777)
        os.replace(hidden, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(hidden)
        raise
    _sync_folder(folder)


def _sync_folder(folder: str) -> None:
    """Flushes a rename to the disk, where the system can: Windows cannot open a folder."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
