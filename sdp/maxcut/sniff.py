"""Which format a graph file is in, told from its text, with the ending of its name as a hint.

The rules, in order; "numbers" are unsigned integers, and lines that are blank or start with # or % are
passed over when lines and tokens are counted.

1. %%Matrix near the beginning, or a first line, a comment, that speaks of a coordinate matrix: Matrix Market
   ("mtx").
2. An ending (before .gz): .mtx, .mm, .rud, .rudy, .mc, .graph, .metis, .snap, .el, .edges or .edgelist
   names the format.
3. A first line with a comma or a semicolon, or one that starts with a letter or a quote and has a tab, or
   an ending .csv or .tsv and a tab: "csv".
4. A line that starts with # before the first edge: "snap", unless rule 5 also finds rudy: then refused.
5. A first line of two numbers a, b. It may be the n m of rudy or METIS, or an edge.
   rudy: b lines follow, all of two, or all of three columns. METIS: a lines follow (blank ones count), with
   2b tokens. Both hold, or rudy after a comment: refused, name the format.
   One holds: that one.
   Neither, and no line follows: rudy. Neither, and all lines have two columns: an edge list if some vertex
   is not from 1 to a. Else the file is read as rudy (METIS if a % line came first), whose reader says what is
   wrong: a rudy file that lost a line must not pass for an edge list of the same numbers.
   Neither, with three columns: rudy. With uneven columns: rudy (two and three columns) or METIS.
6. A first line of three or four tokens. METIS: numbers n m fmt [ncon], with n lines and as many tokens as
   they promise. If not, and the line is "n n m" before lines of two or three columns with vertices from 1 to
   n: Matrix Market without its first line, an error. Else "snap" when all lines have three columns and, where
   the third token can be a fmt, some vertex is not from 1 to n; else METIS.

Where nothing fitted (the ends of rules 5 and 6), the sentence of the reader also says what format it took.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sdp.maxcut import _parse
from sdp.maxcut.textfile import BLANKS, GraphFormatError, TextFile, whole_number

_FORMAT_OF_ENDING = {
    ".mtx": "mtx",
    ".mm": "mtx",
    ".rud": "rudy",
    ".rudy": "rudy",
    ".mc": "rudy",
    ".graph": "metis",
    ".metis": "metis",
    ".snap": "snap",
    ".el": "snap",
    ".edges": "snap",
    ".edgelist": "snap",
    ".csv": "csv",
    ".tsv": "csv",
}
_LONGEST_OPENING = 4096  # bytes that are searched for a banner
_FIRST_LINE = "n m, u v, u v weight, or a CSV header"


def bare_name(name: str) -> tuple[str, str]:
    """Name of a graph and the ending that hints at its format, from the path of its file.

    >>> bare_name("data/roads.txt.gz")
    ('roads', '.txt')
    """
    stem = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    if stem.lower().endswith(".gz"):
        stem = stem[: -len(".gz")]
    root, dot, ending = stem.rpartition(".")
    ending = (dot + ending).lower()
    known = ending in _FORMAT_OF_ENDING or ending in (".txt", ".dat", ".tab")
    return (root, ending) if root and known else (stem, "")


def first_content(text: TextFile, comments: bytes = b"#%") -> tuple[int, int, frozenset[int]]:
    """The first line that is neither blank nor a comment: where it begins, its number, comment bytes seen."""
    start, line = text.begin, 1
    marks: set[int] = set()
    while start < len(text.data):
        end = text.next_line(start)
        content = text.data[start:end].strip(BLANKS)
        if content and content[0] not in comments:
            return start, line, frozenset(marks)
        marks.update(content[:1])
        start, line = end, line + 1
    raise text.error(text.last_line, "the file ends before its first edge.")


class Choice(NamedTuple):
    """A format: "rudy", "mtx", "snap", "metis" or "csv"; whether the text fits it, or it is only likely."""

    format: str
    is_sure: bool = True


def choose_format(text: TextFile) -> Choice:
    """The format of a file.

    Raises:
        GraphFormatError: its first line opens no format, or two formats explain it.

    Complexity: one pass over the text where the first line does not settle it.
    """
    opening = text.data[text.begin : text.begin + _LONGEST_OPENING].strip(BLANKS).lower()
    first_line = opening.partition(b"\n")[0]
    if b"%%matrix" in opening or (first_line.startswith(b"%") and b"matrix coordinate" in first_line):
        return Choice("mtx")
    start, line, marks = first_content(text)
    end = text.next_line(start)
    content = text.data[start:end].strip(BLANKS)
    hint = _FORMAT_OF_ENDING.get(bare_name(text.name)[1])
    if hint is not None and hint != "csv":
        return Choice(hint)
    has_letter = content[:1].isalpha() or content[:1] in b"\"'_"
    if b"," in content or b";" in content or (b"\t" in content and (has_letter or hint == "csv")):
        return Choice("csv")
    tokens = text.tokens(start)
    are_numbers = [token.isdigit() for token in tokens]
    if not 2 <= len(tokens) <= 4 or not all(are_numbers[:2]):
        raise text.expected(line, _FIRST_LINE, text.quote(start), "no format opens with this line")
    counts = _parse.survey(np.frombuffer(text.data, np.uint8), end)
    if ord("#") in marks and len(tokens) > 2:
        return Choice("snap")
    if len(tokens) == 2:
        return _after_two_numbers(text, line, [whole_number(token) for token in tokens], counts, marks)
    return _after_more_tokens(text, line, tokens, counts)


def _after_two_numbers(
    text: TextFile, line: int, numbers: list[int], counts: tuple[int, ...], marks: frozenset[int]
) -> Choice:
    """Rule 5."""
    a, b = numbers
    _, n_full, _, n_tokens, fewest, most, least, greatest = counts
    is_even = n_full == 0 or (fewest == most and most in (2, 3))
    has_rows = _has_rows(text, a, counts)
    are_vertices = least >= 1 and greatest <= a
    fits_metis = has_rows and n_tokens == 2 * b and ord("#") not in marks
    fits_rudy = n_full == b and is_even and (are_vertices or not marks)
    fits_metis &= not (fits_rudy and a > counts[0])  # a tree in rudy, not METIS with an unwritten last row
    if fits_rudy and n_full and (fits_metis or marks):
        raise _ambiguous(text, line, "rudy", "metis" if fits_metis else "snap")
    if ord("#") in marks:
        return Choice("snap")
    if fits_rudy or fits_metis:
        return Choice("rudy" if fits_rudy else "metis")
    if is_even and most == 2 and not are_vertices:
        if has_rows:
            raise _ambiguous(text, line, "snap", "metis")
        return Choice("snap")
    may_be_rudy = n_full == 0 or (fewest >= 2 and most <= 3)
    return Choice("rudy" if may_be_rudy and not marks else "metis", is_sure=False)


def _after_more_tokens(text: TextFile, line: int, tokens: list[bytes], counts: tuple[int, ...]) -> Choice:
    """Rule 6."""
    _, n_full, _, n_tokens, fewest, most, least, greatest = counts
    is_list = len(tokens) == 3 and (n_full == 0 or fewest == most == 3)
    code = tokens[2]
    fits_metis = may_be_metis = False
    if len(code) <= 3 and not code.strip(b"01") and all(token.isdigit() for token in tokens):
        n, m = whole_number(tokens[0]), whole_number(tokens[1])
        has_size, has_weight, has_edge_weight = (digit == ord("1") for digit in code.rjust(3, b"0"))
        n_vertex_weights = whole_number(tokens[3]) if len(tokens) == 4 else int(has_weight)
        promised = n * (has_size + n_vertex_weights) + 2 * m * (1 + has_edge_weight)
        fits_metis = _has_rows(text, n, counts) and n_tokens == promised
        may_be_metis = least >= 1 and greatest <= n
    if fits_metis and is_list and n_full:
        raise _ambiguous(text, line, "snap", "metis")
    is_size = len(tokens) == 3 and tokens[0] == tokens[1] and code.isdigit() and not fits_metis
    if is_size and 2 <= fewest == most <= 3 and least >= 1 and greatest <= whole_number(tokens[0]):
        return Choice("mtx", is_sure=False)
    if is_list and not may_be_metis:
        return Choice("snap")
    return Choice("metis", is_sure=fits_metis)


def _has_rows(text: TextFile, n: int, counts: tuple[int, ...]) -> bool:
    """Whether n lines follow, those that are blank included, and any more are blank.

    After a last newline an empty line may be meant: the row of a vertex without neighbours.
    """
    n_lines, _, last_full = counts[:3]
    return last_full <= n <= n_lines + text.data.endswith(b"\n")


def _ambiguous(text: TextFile, line: int, *formats: str) -> GraphFormatError:
    """The error of a file that two formats explain."""
    either = " or ".join(formats)
    return text.error(line, f"the file can be read as {either}; name one of them as its format.")
