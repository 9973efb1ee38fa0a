"""Slow readers of graph files in plain Python: the oracle of the numba tokenizer, and independent of it.

`read(data, format)` gives (n, {(i, j): weight} with i < j, labels or None), or raises `RefusedError`. One
regular expression a token, one dictionary a graph, no shared code with sdp.maxcut.
"""

from __future__ import annotations

import gzip
import re
import zlib

VERTEX = re.compile(rb"[0-9]+")
REAL = re.compile(rb"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
MAX_WEIGHT = 1e37
MAX_COUNT = 2**31 - 1
MAX_ISOLATED = 2**24
MAX_LABEL = 2**63 - 1

Entries = list[tuple[int, int, float]]
Plain = tuple[int, dict[tuple[int, int], float], list[int] | None]


class RefusedError(Exception):
    """The data hold no graph."""


def read(data: bytes, format: str) -> Plain:
    if data.startswith(b"\x1f\x8b"):
        try:
            data = gzip.decompress(data)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise RefusedError("gzip") from error
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data.strip(b" \t\r\n") or b"\0" in data[:4096]:
        raise RefusedError("empty or binary")
    lines = data.split(b"\n")
    return {"rudy": _rudy, "mtx": _mtx, "snap": _snap, "metis": _metis, "csv": _csv}[format](lines)


def _rudy(lines: list[bytes]) -> Plain:
    full = _content(lines, b"#%")
    n, m = _header(full, 2)
    entries = [_edge(_tokens(line), 1, n) for line in full[1:]]
    _same_width(full[1:])
    if len(entries) != m:
        raise RefusedError("count")
    return _finish(n, _sum(entries), None)


def _mtx(lines: list[bytes]) -> Plain:
    full = _content(lines, b"")
    banner = _tokens(full[0].lower())
    if banner[:3] != [b"%%matrixmarket", b"matrix", b"coordinate"] or len(banner) != 5:
        raise RefusedError("banner")
    field, symmetry = banner[3:]
    if field not in (b"real", b"integer", b"pattern") or symmetry not in (b"general", b"symmetric"):
        raise RefusedError("banner")
    full = _content(full[1:], b"%")
    n, n_columns, nnz = _header(full, 3)
    entries = [_edge(_tokens(line), 1, n) for line in full[1:]]
    width = 2 if field == b"pattern" else 3
    if n != n_columns or len(entries) != nnz or any(len(_tokens(line)) != width for line in full[1:]):
        raise RefusedError("count")
    if field == b"integer" and any(w != round(w) for _, _, w in entries):
        raise RefusedError("not an integer")
    if symmetry == b"symmetric":
        return _finish(n, _sum(entries), None)
    there, back = _directed(entries)
    if there and back:
        for pair in there.keys() | back.keys():
            if there.get(pair, 0.0) != back.get(pair, 0.0):
                raise RefusedError("asymmetric")
        return _finish(n, {pair: there.get(pair, 0.0) for pair in there.keys() | back.keys()}, None)
    return _finish(n, there or back, None)


def _snap(lines: list[bytes]) -> Plain:
    full = _content(lines, b"#%")
    _same_width(full)
    return _edge_list([_edge(_tokens(line), 0, MAX_LABEL) for line in full])


def _csv(lines: list[bytes]) -> Plain:
    full = [line.strip(b" \r") for line in lines]
    full = [line for line in full if line and not line.startswith((b"#", b"%"))]
    if not full:
        raise RefusedError("no edge")
    delimiter = next((byte for byte in (b";", b",", b"\t") if byte in full[0]), None)
    if delimiter is None:
        raise RefusedError("delimiter")
    rows = [
        [field.strip(b" \t\r" if delimiter != b"\t" else b" \r") for field in line.split(delimiter)]
        for line in full
        if line.strip(b" \r\t") or delimiter == b"\t"
    ]
    if re.match(rb"[A-Za-z\"'_]", full[0]):
        names = [name.strip(b" \r\"'").lower() for name in rows[0]]
        weights = {b"weight", b"w", b"value", b"cost", b"capacity", b"id"}
        ends = {b"source", b"target", b"from", b"to", b"src", b"dst", b"tail", b"head", b"u", b"v"}
        if weights & set(names[:2]) or ends & set(names[2:]) or any(name[:1].isdigit() for name in names):
            raise RefusedError("names")
        if not rows[1:]:
            raise RefusedError("no edge")
    else:
        names = rows[0]
    if len(names) not in (2, 3) or any(len(row) != len(names) for row in rows):
        raise RefusedError("columns")
    return _edge_list([_edge(row, 0, MAX_LABEL) for row in (rows if names is rows[0] else rows[1:])])


def _metis(lines: list[bytes]) -> Plain:
    rows = [line.strip(b" \t\r") for line in lines]
    rows = [row for row in rows if not row.startswith(b"%")]
    while rows and not rows[0]:
        rows.pop(0)
    if not rows or rows[0].startswith(b"#"):
        raise RefusedError("header")
    header = _tokens(rows.pop(0))
    if not 2 <= len(header) <= 4 or not all(VERTEX.fullmatch(token) for token in header):
        raise RefusedError("header")
    n, m = int(header[0]), int(header[1])
    _check(n, m)
    code = (header[2] if len(header) > 2 else b"0").rjust(3, b"0")
    if len(code) > 3 or code.strip(b"01"):
        raise RefusedError("fmt")
    n_weights = int(header[3]) if len(header) == 4 else int(code[1:2])
    if len(header) == 4 and (code[1:2] == b"1") != (n_weights > 0):
        raise RefusedError("ncon")
    n_leading, step = int(code[0:1]) + n_weights, 2 if code[2:] == b"1" else 1
    if len(rows) < n or any(rows[n:]):  # the piece after the last newline may be the last row
        raise RefusedError("rows")
    entries: Entries = []
    for i, row in enumerate(rows[:n]):
        tokens = _tokens(row)
        if len(tokens) < n_leading or not all(REAL.fullmatch(token) for token in tokens[:n_leading]):
            raise RefusedError("leading")
        tokens = tokens[n_leading:]
        if len(tokens) % step:
            raise RefusedError("columns")
        for k in range(0, len(tokens), step):
            _, j, w = _edge([b"0", *tokens[k : k + step]], 0, n)
            if j == 0:
                raise RefusedError("range")
            entries.append((i, j - 1, w))
    n_loops = sum(i == j for i, j, _ in entries)
    if 2 * m not in (len(entries) - n_loops, len(entries) + n_loops):
        raise RefusedError("count")
    there, back = _directed(entries)
    if there != back:
        raise RefusedError("asymmetric")
    return _finish(n, there, None)


def _tokens(line: bytes) -> list[bytes]:
    return [token for token in re.split(rb"[ \t\r]+", line) if token]


def _content(lines: list[bytes], comments: bytes) -> list[bytes]:
    full = [line.strip(b" \t\r") for line in lines]
    full = [line for line in full if line and line[0] not in comments]
    if not full:
        raise RefusedError("no content")
    return full


def _header(full: list[bytes], width: int) -> list[int]:
    tokens = _tokens(full[0])
    if len(tokens) != width or not all(VERTEX.fullmatch(token) for token in tokens):
        raise RefusedError("header")
    numbers = [int(token) for token in tokens]
    _check(numbers[0], numbers[-1])
    return numbers


def _check(n: int, m: int) -> None:
    if n > MAX_COUNT or m > MAX_COUNT or n - 2 * m > MAX_ISOLATED:
        raise RefusedError("too large")


def _edge(tokens: list[bytes], low: int, high: int) -> tuple[int, int, float]:
    if len(tokens) not in (2, 3) or not all(VERTEX.fullmatch(token) for token in tokens[:2]):
        raise RefusedError("edge")
    u, v = int(tokens[0]), int(tokens[1])
    if not (low <= u <= high and low <= v <= high):
        raise RefusedError("range")
    if len(tokens) == 3 and not REAL.fullmatch(tokens[2]):
        raise RefusedError("weight")
    w = float(tokens[2]) if len(tokens) == 3 else 1.0
    if not abs(w) <= MAX_WEIGHT:
        raise RefusedError("weight")
    return u - low, v - low, w


def _same_width(full: list[bytes]) -> None:
    if len({len(_tokens(line)) for line in full}) > 1:
        raise RefusedError("columns")


def _sum(entries: Entries) -> dict[tuple[int, int], float]:
    weights: dict[tuple[int, int], float] = {}
    for u, v, w in entries:
        if u != v:
            pair = (min(u, v), max(u, v))
            weights[pair] = weights[pair] + w if pair in weights else w
    return weights


def _directed(entries: Entries) -> tuple[dict[tuple[int, int], float], dict[tuple[int, int], float]]:
    return _sum([e for e in entries if e[0] < e[1]]), _sum([e for e in entries if e[0] > e[1]])


def _edge_list(entries: Entries) -> Plain:
    ids = sorted({vertex for u, v, _ in entries for vertex in (u, v)})
    number = {name: i for i, name in enumerate(ids)}
    entries = [(number[u], number[v], w) for u, v, w in entries]
    there, back = _directed(entries)
    edges = there if there and there == back else _sum(entries)
    return _finish(len(ids), edges, None if ids == list(range(len(ids))) else ids)


def _finish(n: int, edges: dict[tuple[int, int], float], labels: list[int] | None) -> Plain:
    if any(abs(w) > MAX_WEIGHT for w in edges.values()):
        raise RefusedError("weight")
    return n, edges, labels
