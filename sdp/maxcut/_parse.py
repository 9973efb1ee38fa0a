"""The numba tokenizers under the graph file readers: bytes in, arrays of vertices and weights out.

Numbers are read exactly. A decimal of at most 2^53 without its point and an exponent within +-22 is one
correctly rounded product or quotient of two exact doubles (Clinger, PLDI 1990); any other is marked, with
its place, for Python's `float`. Nothing is raised here: a problem comes back as a code with its line.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

OK, BAD_VERTEX, OUT_OF_RANGE, BAD_WEIGHT, NOT_FINITE, FEW_COLUMNS, MANY_COLUMNS, SURPLUS = range(8)
WHITESPACE = 256  # as a delimiter, no byte: any run of blanks separates
NO_COMMENT = 256

_REAL, _SLOW, _NOT_A_NUMBER, _INFINITE = range(4)
_TEN_TO = np.array([float(f"1e{k}") for k in range(23)])  # the powers of ten that are exact doubles
_EXACT_MANTISSA = 2**53
_MAX_MANTISSA = 10**17  # two digits more still fit 64 bits
_MAX_EXPONENT = 10**6  # past every double, far from overflow
_MAX_ID = 2**63 - 1
_INFINITY = np.frombuffer(b"infinity", np.uint8).copy()
_NAN = np.frombuffer(b"nan", np.uint8).copy()
_TAB, _NEWLINE, _RETURN, _SPACE, _PLUS, _MINUS, _POINT, _ZERO, _NINE, _E = b"\t\n\r +-.09e"
_LOWER = 32  # the bit that makes a letter lower case


@numba.njit(cache=True, nogil=True)
def _is_blank(byte: int, delimiter: int) -> bool:
    """Whether this byte separates nothing: a space, a return, or a tab that is not the delimiter."""
    if byte == _TAB:
        return delimiter != _TAB
    if byte == _RETURN:
        return True
    return byte == _SPACE


@numba.njit(cache=True, nogil=True)
def _ends_token(buffer: Bytes, p: int, delimiter: int) -> bool:
    """Whether a token ends before position p."""
    if p >= buffer.size:
        return True
    byte = buffer[p]
    if byte == _NEWLINE:
        return True
    return byte == delimiter or _is_blank(byte, delimiter)


@numba.njit(cache=True, nogil=True)
def _read_vertex(buffer: Bytes, p: int, delimiter: int) -> tuple[Any, int]:
    """A run of digits: its value and the position after it; -1 for no integer, -2 for one over 63 bits."""
    value: Any = 0  # int64 in numba
    begin = p
    while p < buffer.size and _ZERO <= buffer[p] <= _NINE:
        digit = np.int64(buffer[p]) - _ZERO
        if value > (_MAX_ID - digit) // 10:
            return -2, p
        value = 10 * value + digit
        p += 1
    if p == begin or not _ends_token(buffer, p, delimiter):
        return -1, p
    return value, p


@numba.njit(cache=True, nogil=True)
def _matches(buffer: Bytes, p: int, word: Bytes, length: int) -> bool:
    """Whether the first letters of a word, in either case, stand at position p."""
    if p + length > buffer.size:
        return False
    for k in range(length):  # noqa: SIM110 (numba has no all() over a generator)
        if (buffer[p + k] | _LOWER) != word[k]:
            return False
    return True


@numba.njit(cache=True, nogil=True)
def _read_real(buffer: Bytes, p: int, delimiter: int) -> tuple[float, int, int]:
    """A decimal number: its value, the position after it, and `_REAL`, or one of the other kinds.

    `_SLOW` numbers are well formed, but their value is left to Python.
    """
    size = buffer.size
    negative = False
    if p < size and (buffer[p] == _PLUS or buffer[p] == _MINUS):
        negative = buffer[p] == _MINUS
        p += 1
    mantissa: Any = 0  # int64 in numba
    exponent = 0
    n_digits = 0
    dropped = False
    after_point = False
    while p < size:
        byte = buffer[p]
        if _ZERO <= byte <= _NINE:
            n_digits += 1
            if mantissa < _MAX_MANTISSA:
                mantissa = 10 * mantissa + (np.int64(byte) - _ZERO)
                exponent -= after_point
            else:
                dropped = True
        elif byte == _POINT and not after_point:
            after_point = True
        else:
            break
        p += 1
    if n_digits == 0:
        length = 3
        if _matches(buffer, p, _INFINITY, 8):
            length = 8
        elif not _matches(buffer, p, _INFINITY, 3) and not _matches(buffer, p, _NAN, 3):
            return 0.0, p, _NOT_A_NUMBER
        is_word = not after_point and _ends_token(buffer, p + length, delimiter)
        return 0.0, p, _INFINITE if is_word else _NOT_A_NUMBER
    if p < size and (buffer[p] | _LOWER) == _E:
        p += 1
        sign = 1
        if p < size and (buffer[p] == _PLUS or buffer[p] == _MINUS):
            sign = -1 if buffer[p] == _MINUS else 1
            p += 1
        begin = p
        power: Any = 0
        while p < size and _ZERO <= buffer[p] <= _NINE:
            power = min(10 * power + (np.int64(buffer[p]) - _ZERO), _MAX_EXPONENT)
            p += 1
        if p == begin:
            return 0.0, p, _NOT_A_NUMBER
        exponent += sign * power
    if not _ends_token(buffer, p, delimiter):
        return 0.0, p, _NOT_A_NUMBER
    if mantissa == 0 and not dropped:
        return 0.0, p, _REAL
    if dropped or mantissa > _EXACT_MANTISSA or abs(exponent) >= _TEN_TO.size:
        return 0.0, p, _SLOW
    value = np.float64(mantissa)
    value = value * _TEN_TO[exponent] if exponent >= 0 else value / _TEN_TO[-exponent]
    return -value if negative else value, p, _REAL


@numba.njit(cache=True, nogil=True)
def _skip_blanks(buffer: Bytes, p: int, delimiter: int) -> int:
    """Position of the next byte that is not blank."""
    while p < buffer.size and _is_blank(buffer[p], delimiter):
        p += 1
    return p


@numba.njit(cache=True, nogil=True)
def _next_line(buffer: Bytes, p: int) -> int:
    """Position after the next newline."""
    while p < buffer.size and buffer[p] != _NEWLINE:
        p += 1
    return p + 1


@numba.njit(cache=True, nogil=True)
def parse_edges(
    buffer: Bytes,
    begin: int,
    line: int,
    delimiter: int,
    comments: tuple[int, int],
    low: int,
    high: int,
    n_columns: int,
    max_weight: float,
    u: NDArray[np.int64],
    v: NDArray[np.int64],
    w: NDArray[np.float64],
    is_slow: NDArray[np.bool_],
) -> tuple[int, int, int, int, int]:
    """Reads lines "u v" or "u v weight", all with the same number of columns.

    Args:
        buffer: uint8, the whole text.
        begin: position of the first byte of the first line to read.
        line: number of the line before it.
        delimiter: a byte, or `WHITESPACE`.
        comments: bytes that make the line that starts with one a comment; `NO_COMMENT` for none.
        low: least vertex; it is stored as 0.
        high: greatest vertex.
        n_columns: 2 or 3; 0 to take the number of the first line.
        max_weight: greatest |weight|.
        u: int64 (capacity,), filled with first vertices.
        v: int64 (capacity,), filled with second vertices.
        w: float64 (capacity,), filled with weights when there are 3 columns; where `is_slow`, with the
            position of the weight.
        is_slow: bool (capacity,), all False on entry; True where Python must read the weight.

    Returns:
        code (`OK`, or what is wrong), its line, the position where that line begins, the number of edges
        read, the number of columns. `SURPLUS`: there are more edges than fit the arrays.
    """
    size = buffer.size
    p = begin
    k = 0
    while p < size:
        line += 1
        start = p
        p = _skip_blanks(buffer, p, delimiter)
        if p >= size or buffer[p] == _NEWLINE:
            p += 1
            continue
        if buffer[p] == comments[0] or buffer[p] == comments[1]:
            p = _next_line(buffer, p)
            continue
        if k == u.size:
            return SURPLUS, line, start, k, n_columns
        column = 0
        while True:
            if column == 3 or (column == n_columns and n_columns > 0):
                return MANY_COLUMNS, line, start, k, n_columns
            if column < 2:
                vertex, p = _read_vertex(buffer, p, delimiter)
                if vertex == -1:
                    return BAD_VERTEX, line, start, k, n_columns
                if vertex < low or vertex > high:
                    return OUT_OF_RANGE, line, start, k, n_columns
                if column == 0:
                    u[k] = vertex - low
                else:
                    v[k] = vertex - low
            else:
                at = p
                weight, p, kind = _read_real(buffer, p, delimiter)
                if kind == _NOT_A_NUMBER:
                    return BAD_WEIGHT, line, start, k, n_columns
                if kind == _INFINITE or abs(weight) > max_weight:
                    return NOT_FINITE, line, start, k, n_columns
                w[k] = at if kind == _SLOW else weight
                is_slow[k] = kind == _SLOW
            column += 1
            p = _skip_blanks(buffer, p, delimiter)
            if p >= size or buffer[p] == _NEWLINE:
                break
            if delimiter != WHITESPACE:  # the token ended, so this is the delimiter
                if buffer[p] != delimiter:
                    return MANY_COLUMNS, line, start, k, n_columns
                p = _skip_blanks(buffer, p + 1, delimiter)
        if column < 2 or column < n_columns:
            return FEW_COLUMNS, line, start, k, n_columns
        n_columns = column
        k += 1
        p += 1
    return OK, line, size, k, n_columns


@numba.njit(cache=True, nogil=True)
def parse_adjacency(
    buffer: Bytes,
    begin: int,
    line: int,
    n_rows: int,
    high: int,
    n_leading: int,
    is_weighted: bool,
    max_weight: float,
    u: NDArray[np.int64],
    v: NDArray[np.int64],
    w: NDArray[np.float64],
    is_slow: NDArray[np.bool_],
) -> tuple[int, int, int, int, int]:
    """Reads METIS lines, one a vertex: leading numbers, then neighbours, each with its weight if weighted.

    Args:
        buffer: uint8, the whole text.
        begin: position of the first byte of the first line to read.
        line: number of the line before it.
        n_rows: number of vertex lines; a blank line is one of them, a line that starts with % is not.
        high: greatest neighbour; the least is 1 and is stored as 0.
        n_leading: columns before the neighbours, which must be numbers and are left out.
        is_weighted: whether each neighbour is followed by a weight.
        max_weight: greatest |weight|.
        u: int64 (capacity,), filled with the rows, from 0. Capacity: at least the number of tokens.
        v: int64 (capacity,), filled with neighbours.
        w: float64 (capacity,), as in `parse_edges`.
        is_slow: bool (capacity,), as in `parse_edges`.

    Returns:
        code, line, position of the line, number of entries, number of rows. `SURPLUS`: more rows with
        something on them than `n_rows`.
    """
    size = buffer.size
    p = begin
    k = 0
    row = 0
    while p < size:
        line += 1
        start = p
        p = _skip_blanks(buffer, p, WHITESPACE)
        if p < size and buffer[p] == ord("%"):
            p = _next_line(buffer, p)
            continue
        if row == n_rows:
            if p < size and buffer[p] != _NEWLINE:
                return SURPLUS, line, start, k, row
            p += 1
            continue
        column = 0
        while p < size and buffer[p] != _NEWLINE:
            if column < n_leading:
                _, p, kind = _read_real(buffer, p, WHITESPACE)
                if kind != _REAL and kind != _SLOW:
                    return BAD_WEIGHT, line, start, k, row
                column += 1
                p = _skip_blanks(buffer, p, WHITESPACE)
                continue
            vertex, p = _read_vertex(buffer, p, WHITESPACE)
            if vertex == -1:
                return BAD_VERTEX, line, start, k, row
            if vertex < 1 or vertex > high:
                return OUT_OF_RANGE, line, start, k, row
            u[k] = row
            v[k] = vertex - 1
            p = _skip_blanks(buffer, p, WHITESPACE)
            if is_weighted:
                if p >= size or buffer[p] == _NEWLINE:
                    return FEW_COLUMNS, line, start, k, row
                at = p
                weight, p, kind = _read_real(buffer, p, WHITESPACE)
                if kind == _NOT_A_NUMBER:
                    return BAD_WEIGHT, line, start, k, row
                if kind == _INFINITE or abs(weight) > max_weight:
                    return NOT_FINITE, line, start, k, row
                w[k] = at if kind == _SLOW else weight
                is_slow[k] = kind == _SLOW
                p = _skip_blanks(buffer, p, WHITESPACE)
            k += 1
        if column < n_leading:
            return FEW_COLUMNS, line, start, k, row
        row += 1
        p += 1
    return OK, line, size, k, row


@numba.njit(cache=True, nogil=True)
def survey(buffer: Bytes, begin: int) -> tuple[int, int, int, int, int, int, int, int]:
    """Counts what is needed to tell one format from another, over all lines from a position on.

    Lines that start with # or % are passed over.

    Returns:
        number of lines; of lines that are not blank; the last line that is not blank, counted from 1; number
        of tokens; the fewest and most tokens on a line that is not blank (0 without one); the least and
        greatest integer among the first two tokens of each line (0 and -1 without one).
    """
    size = buffer.size
    p = begin
    n_lines, n_full, last_full, n_tokens, fewest, most = 0, 0, 0, 0, 0, 0
    least, greatest = 0, -1
    while p < size:
        p = _skip_blanks(buffer, p, WHITESPACE)
        if p < size and (buffer[p] == ord("#") or buffer[p] == ord("%")):
            p = _next_line(buffer, p)
            continue
        n_lines += 1
        columns = 0
        while p < size and buffer[p] != _NEWLINE:
            if columns < 2:
                vertex, _ = _read_vertex(buffer, p, WHITESPACE)
                if vertex >= 0:
                    least = vertex if greatest < 0 else min(least, vertex)
                    greatest = max(greatest, vertex)
            while not _ends_token(buffer, p, WHITESPACE):
                p += 1
            columns += 1
            p = _skip_blanks(buffer, p, WHITESPACE)
        if columns:
            n_full += 1
            last_full = n_lines
            n_tokens += columns
            fewest = columns if n_full == 1 else min(fewest, columns)
            most = max(most, columns)
        p += 1
    return n_lines, n_full, last_full, n_tokens, fewest, most, least, greatest


def read_slowly(
    data: bytes, positions: NDArray[np.int64], delimiter: int = WHITESPACE
) -> NDArray[np.float64]:
    """Correctly rounded values of the numbers at these positions, which the tokenizer found well formed.

    Complexity: a Python `float` each, .3 microseconds.
    """
    return np.array([float(data[begin : token_end(data, begin, delimiter)]) for begin in positions.tolist()])


def token_end(data: bytes, begin: int, delimiter: int) -> int:
    """Position after the token that starts here."""
    stops = b"\n \t\r" if delimiter == WHITESPACE else b"\n \t\r" + bytes([delimiter])
    end = begin
    while end < len(data) and data[end] not in stops:
        end += 1
    return end


def empty_arrays(capacity: int) -> tuple[Any, Any, Any, Any]:
    """Arrays u, v, w and is_slow for `parse_edges`; pages never written are never paid for."""
    return (
        np.empty(capacity, np.int64),
        np.empty(capacity, np.int64),
        np.empty(capacity, np.float64),
        np.zeros(capacity, np.bool_),
    )
