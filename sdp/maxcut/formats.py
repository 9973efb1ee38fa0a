"""Readers of graph files: rudy, Matrix Market, SNAP edge lists, METIS and CSV, from text to a `Listing`.

Each reader parses its header in Python and the rest in numba (`_parse`), and turns codes into sentences.
Every line of a file must have the same columns: a line that lost its weight is an error, not a weight of 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sdp.maxcut import _parse
from sdp.maxcut.listing import (
    ABSENT,
    MAX_EDGES,
    MAX_WEIGHT,
    AsymmetricError,
    Listing,
    TooLargeError,
    check_size,
)
from sdp.maxcut.sniff import first_content
from sdp.maxcut.textfile import BLANKS, GraphFormatError, TextFile, quoted, whole_number

_MAX_LABEL = 2**63 - 1  # labels are int64
_DENSE_IDS = 16  # ids up to so many times the edges are renumbered by a table, others by sorting
_FINITE = f"weights are finite and within +-{MAX_WEIGHT:g}"
_COMMENTS = (ord("#"), ord("%"))
_BANNER = "%%MatrixMarket matrix coordinate real|integer|pattern general|symmetric"
_NAMES_OF_WEIGHTS = {"weight", "w", "value", "cost", "capacity", "id"}
_NAMES_OF_VERTICES = {"source", "target", "from", "to", "src", "dst", "tail", "head", "u", "v"}


class _Columns(NamedTuple):
    """How the lines of edges look.

    Attributes:
        low: least vertex.
        high: greatest vertex.
        width: 2 or 3 columns, or 0 for what the first line has.
        delimiter: a byte, or `_parse.WHITESPACE`.
        comments: two bytes that open comments.
    """

    low: int
    high: int
    width: int = 0
    delimiter: int = _parse.WHITESPACE
    comments: tuple[int, int] = (_parse.NO_COMMENT, _parse.NO_COMMENT)

    def pattern(self, width: int) -> str:
        """What a line of 2 or 3 columns must be, or of either (0), such as: u v [weight]."""
        if self.delimiter in (_parse.WHITESPACE, ord("\t")):
            return {2: "u v", 3: "u v weight"}.get(width, "u v [weight]")
        joint = chr(self.delimiter)
        return {2: f"u{joint}v", 3: f"u{joint}v{joint}weight"}.get(width, f"u{joint}v[{joint}weight]")

    def vertices(self) -> str:
        """Which vertices there are, in words."""
        if self.high == _MAX_LABEL:
            return f"vertices are integers from {self.low} to 2^63 - 1"
        if self.high < self.low:
            return "the header says that there are no vertices"
        return f"vertices are integers from {self.low} to {self.high}"


class _Edges(NamedTuple):
    """Edges read from a text: u, v int64 (m,), w float64 (m,) or None; whether all edges fitted; columns."""

    u: NDArray[np.int64]
    v: NDArray[np.int64]
    w: NDArray[np.float64] | None
    surplus_line: int
    n_columns: int


class Parsed(NamedTuple):
    """A listing, and how to say where the file is to blame if the listing is not symmetric."""

    listing: Listing
    explain: Callable[[AsymmetricError], GraphFormatError] | None = None


def read_rudy(text: TextFile) -> Parsed:
    """rudy, the format of Gset: a line "n m", then m lines "u v [weight]", vertices from 1.

    Lines that start with # or % are comments, as in the edge lists.
    """
    start, line, _ = first_content(text)
    n, m = _header(text, start, line, "n m", 2)
    _check_header(text, line, n, m)
    edges = _read_edges(text, text.next_line(start), line, _Columns(1, n, comments=_COMMENTS), m)
    _check_count(text, edges, m, "edges")
    return Parsed(Listing(edges.u, edges.v, edges.w, n, "edges"))


def read_snap(text: TextFile) -> Parsed:
    """SNAP edge list: lines "u v [weight]", any integers from 0 as vertices, # and % lines are comments."""
    start, line, _ = first_content(text)
    columns = _Columns(0, _MAX_LABEL, comments=_COMMENTS)
    return _labelled(text, _read_edges(text, start, line - 1, columns))


def read_csv(text: TextFile) -> Parsed:
    """CSV of edges: an optional row of names, then "u,v[,weight]" split by comma, semicolon or tab."""
    start, line, _ = first_content(text)
    content = text.data[start : text.next_line(start)].strip(b" \r\n")
    delimiter = next((byte for byte in b";,\t" if byte in content), None)
    if delimiter is None:
        raise text.expected(
            line, "u,v[,weight]", text.quote(start), "columns are split by comma, semicolon or tab"
        )
    columns = _Columns(0, _MAX_LABEL, delimiter=delimiter, comments=_COMMENTS)
    if content[:1].isalpha() or content[:1] in b"\"'_":
        columns = columns._replace(width=_named_columns(text, start, line, delimiter))
        start, line = text.next_line(start), line + 1
    return _labelled(text, _read_edges(text, start, line - 1, columns))


def read_mtx(text: TextFile) -> Parsed:
    """Matrix Market: a square coordinate matrix; "general" must be symmetric or a triangle.

    In a symmetric file entry (i, j) also stands for (j, i); the entries of pattern files are 1.
    """
    start = text.begin
    line = 1
    while not text.data[start : text.next_line(start)].strip(BLANKS):
        start, line = text.next_line(start), line + 1
    banner = [token.decode("latin-1").lower() for token in text.tokens(start)]
    fields, symmetries = ("real", "integer", "pattern"), ("general", "symmetric")
    is_banner = banner[:3] == ["%%matrixmarket", "matrix", "coordinate"] and len(banner) == 5
    if not is_banner or banner[3] not in fields or banner[4] not in symmetries:
        raise text.expected(line, _BANNER, text.quote(start))
    field, symmetry = banner[3:]
    start, line = text.next_line(start), line + 1
    body = TextFile(text.name, text.data, start)
    start, extra, _ = first_content(body, b"%")
    line += extra - 1
    n, n_columns, nnz = _header(text, start, line, "rows columns entries", 3)
    if n != n_columns:
        raise text.error(line, f"the adjacency matrix of a graph is square; got {n} x {n_columns}.")
    _check_header(text, line, n, nnz)
    columns = _Columns(1, n, 2 if field == "pattern" else 3, comments=(ord("%"), _parse.NO_COMMENT))
    begin = text.next_line(start)
    edges = _read_edges(text, begin, line, columns, nnz)
    _check_count(text, edges, nnz, "entries")
    if field == "integer" and edges.w is not None:
        broken = np.flatnonzero(edges.w != np.rint(edges.w))
        if broken.size:
            at = _read_edges(text, begin, line, columns, int(broken[0])).surplus_line
            raise text.error(
                at, f"the entries of an integer matrix are integers; got {edges.w[broken[0]]:g}."
            )
    listing = Listing(edges.u, edges.v, edges.w, n, "matrix" if symmetry == "general" else "edges")

    def explain(error: AsymmetricError) -> GraphFormatError:
        i, j = error.row, error.col
        is_pair = ((edges.u == i) & (edges.v == j)) | ((edges.u == j) & (edges.v == i))
        at = _read_edges(text, begin, line, columns, int(np.argmax(is_pair))).surplus_line
        entries = f"entry ({i + 1}, {j + 1}) is {error.weight} but entry ({j + 1}, {i + 1}) is {error.mirror}"
        return text.error(at, f"the matrix must be symmetric or a triangle; {entries}.")

    return Parsed(listing, explain)


def read_metis(text: TextFile) -> Parsed:
    """METIS: "n m [fmt [ncon]]", then a line a vertex with its neighbours (from 1) and their weights.

    fmt is up to three digits: vertex sizes, vertex weights, edge weights. The first two are left out.
    """
    start, line, _ = first_content(text, b"%")
    tokens = text.tokens(start)
    code = tokens[2] if len(tokens) > 2 else b"0"
    is_code = len(code) <= 3 and not code.strip(b"01")
    if not 2 <= len(tokens) <= 4 or not is_code or not all(token.isdigit() for token in tokens):
        reason = "fmt is three digits, each 0 or 1"
        raise text.expected(line, "n m [fmt [ncon]]", text.quote(start), reason)
    n, m = (whole_number(token) for token in tokens[:2])
    has_size, has_weight, is_weighted = (digit == ord("1") for digit in code.rjust(3, b"0"))
    n_weights = whole_number(tokens[3]) if len(tokens) == 4 else int(has_weight)
    if len(tokens) == 4 and has_weight != (n_weights > 0):
        raise text.error(line, f"fmt {code.decode()} does not go with {n_weights} weights a vertex.")
    _check_header(text, line, n, m)
    n_leading = has_size + n_weights
    begin = text.next_line(start)
    buffer = np.frombuffer(text.data, np.uint8)
    n_tokens = _parse.survey(buffer, begin)[3]
    u, v, w, is_slow = arrays = _parse.empty_arrays(n_tokens)
    limits = (n, min(n_leading, n_tokens + 1), is_weighted, MAX_WEIGHT)
    code_, at, where, k, rows = _parse.parse_adjacency(buffer, begin, line, n, *limits, *arrays)
    if code_ != _parse.OK:
        raise _metis_error(text, code_, at, where, n, n_leading, is_weighted)
    # After a last newline an empty line may be meant.
    if rows < n - text.data.endswith(b"\n"):
        raise text.error(
            text.last_line, f"the header promises {n} vertices, one a line; the file has {rows}."
        )
    if is_weighted:
        _read_slow(text, _parse.WHITESPACE, w[:k], is_slow[:k])
    u, v = u[:k], v[:k]
    n_loops = int(np.count_nonzero(u == v))
    if 2 * m != k - n_loops and 2 * m != k + n_loops:  # a loop stands once in its row; files count it or not
        promise = f"the header promises {m} edges, each in the lines of both its ends"
        raise text.error(line, f"{promise}; the file lists {k} neighbours, not {2 * m}.")
    notes = ("vertex weights and sizes left out",) if n_leading else ()
    listing = Listing(u, v, w[:k] if is_weighted else None, n, "both directions", notes=notes)

    def explain(error: AsymmetricError) -> GraphFormatError:
        here, there = error.row, error.col
        weight, mirror = error.weight, error.mirror
        if weight == ABSENT:
            here, there, weight, mirror = there, here, mirror, weight
        arrays = _parse.empty_arrays(n_tokens)
        at = _parse.parse_adjacency(buffer, begin, line, here, *limits, *arrays)[1]
        says = f"vertex {here + 1} lists {there + 1} with weight {weight}"
        answer = "does not list it" if mirror == ABSENT else f"lists it with weight {mirror}"
        return text.error(at, f"{says} but vertex {there + 1} {answer}.")

    return Parsed(listing, explain)


READERS: dict[str, Callable[[TextFile], Parsed]] = {
    "rudy": read_rudy,
    "mtx": read_mtx,
    "snap": read_snap,
    "metis": read_metis,
    "csv": read_csv,
}


def _header(text: TextFile, start: int, line: int, pattern: str, count: int) -> list[int]:
    """The numbers of a header line."""
    tokens = text.tokens(start)
    if len(tokens) != count or not all(token.isdigit() for token in tokens):
        raise text.expected(line, pattern, text.quote(start), "these are integers from 0")
    return [whole_number(token) for token in tokens]


def _check_header(text: TextFile, line: int, n_vertices: int, n_entries: int) -> None:
    """Refuses a header that promises too much, before anything is allocated."""
    try:
        check_size(n_vertices, n_entries)
    except TooLargeError as error:
        raise text.error(line, str(error)) from None


def _check_count(text: TextFile, edges: _Edges, promised: int, things: str) -> None:
    """Refuses a file with more or fewer lines than its header says."""
    says = f"the number of {things} in the header is {promised}"
    if edges.surplus_line:
        raise text.error(edges.surplus_line, f"{says}; this line is one more.")
    if edges.u.size < promised:
        raise text.error(text.last_line, f"{says}; the file ends after {edges.u.size}.")


def _read_edges(text: TextFile, begin: int, line: int, columns: _Columns, limit: int = MAX_EDGES) -> _Edges:
    """Reads lines of edges from a position on; `line` is the number of the line before it.

    Raises:
        GraphFormatError: a line is not an edge, or there are more than `MAX_EDGES`.
    """
    capacity = min(limit, text.data.count(b"\n", begin) + 1)
    u, v, w, is_slow = arrays = _parse.empty_arrays(capacity)
    layout = (columns.delimiter, columns.comments, columns.low, columns.high, columns.width, MAX_WEIGHT)
    buffer = np.frombuffer(text.data, np.uint8)
    code, at, start, k, n_columns = _parse.parse_edges(buffer, begin, line, *layout, *arrays)
    if code not in (_parse.OK, _parse.SURPLUS):
        raise _line_error(text, code, at, start, columns, n_columns)
    if code == _parse.SURPLUS and k == MAX_EDGES:
        raise text.error(at, f"a graph has at most {MAX_EDGES} edges.")
    has_weights = n_columns == 3
    if has_weights:
        _read_slow(text, columns.delimiter, w[:k], is_slow[:k])
    surplus_line = at if code == _parse.SURPLUS else 0
    return _Edges(u[:k], v[:k], w[:k] if has_weights else None, surplus_line, n_columns)


def _read_slow(text: TextFile, delimiter: int, w: NDArray[np.float64], is_slow: NDArray[np.bool_]) -> None:
    """Replaces the positions that the tokenizer left in `w` by the numbers that stand there."""
    if not is_slow.any():
        return
    positions = w[is_slow].astype(np.int64)
    values = _parse.read_slowly(text.data, positions, delimiter)
    too_large = np.flatnonzero(~(np.abs(values) <= MAX_WEIGHT))
    if too_large.size:
        at = int(positions[too_large[0]])
        got = quoted(text.data[at : _parse.token_end(text.data, at, delimiter)].decode())
        raise text.error(text.line_at(at), f'{_FINITE}; got "{got}".')
    w[is_slow] = values


def _labelled(text: TextFile, edges: _Edges) -> Parsed:
    """A listing whose vertices are the distinct ids of an edge list, in rising order."""
    if not edges.u.size:
        raise text.error(text.last_line, "the file holds no edge.")
    u, v, m = edges.u, edges.v, edges.u.size
    largest = int(max(u.max(), v.max()))
    if largest <= _DENSE_IDS * m:
        is_used = np.zeros(largest + 1, np.bool_)
        is_used[u] = True
        is_used[v] = True
        labels = np.flatnonzero(is_used)
        number = np.cumsum(is_used) - 1
        u, v = number[u], number[v]
    else:
        labels, number = np.unique(np.concatenate((u, v)), return_inverse=True)
        u, v = number[:m], number[m:]
    is_plain = labels[-1] == labels.size - 1
    return Parsed(
        Listing(u, v, edges.w, labels.size, "edges or both directions", None if is_plain else labels)
    )


def _named_columns(text: TextFile, start: int, line: int, delimiter: int) -> int:
    """Number of columns of a CSV with a row of names, which must be two vertices, then perhaps a weight."""
    row = text.data[start : text.next_line(start)].decode("utf-8", "replace")
    names = [name.strip(" \r\n\"'").lower() for name in row.split(chr(delimiter))]
    is_ordered = not _NAMES_OF_WEIGHTS.intersection(names[:2]) and not _NAMES_OF_VERTICES.intersection(
        names[2:]
    )
    if len(names) not in (2, 3) or not is_ordered or any(name[:1].isdigit() for name in names):
        reason = "columns are the two vertices, then perhaps the weight"
        raise text.expected(line, "u,v[,weight]", text.quote(start), reason)
    return len(names)


def _line_error(
    text: TextFile, code: int, line: int, start: int, columns: _Columns, n_columns: int
) -> GraphFormatError:
    """The sentence for a code of `parse_edges`."""
    reason = {
        _parse.BAD_VERTEX: columns.vertices(),
        _parse.OUT_OF_RANGE: columns.vertices(),
        _parse.BAD_WEIGHT: "weights are decimal numbers",
        _parse.NOT_FINITE: _FINITE,
    }.get(code, f"every line has {n_columns} columns" if n_columns else "a line has two or three columns")
    return text.expected(line, columns.pattern(n_columns), text.quote(start), reason)


def _metis_error(
    text: TextFile, code: int, line: int, start: int, n: int, n_leading: int, is_weighted: bool
) -> GraphFormatError:
    """The sentence for a code of `parse_adjacency`."""
    if code == _parse.SURPLUS:
        return text.error(
            line, f"the number of vertices in the header is {n}, one a line; this line is one more."
        )
    leading = f"{n_leading} vertex numbers, then " if n_leading else ""
    reason = {
        _parse.BAD_WEIGHT: "weights are decimal numbers",
        _parse.NOT_FINITE: _FINITE,
        _parse.FEW_COLUMNS: "the line ends too early",
    }.get(code, _Columns(1, n).vertices())
    pattern = leading + ("neighbour weight ..." if is_weighted else "neighbour ...")
    return text.expected(line, pattern, text.quote(start), reason)
