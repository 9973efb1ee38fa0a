"""A graph file as text: its bytes, unpacked, and sentences about its lines."""

from __future__ import annotations

import gzip
import io
import os
import re
import zlib
from dataclasses import dataclass

GZIP_MAGIC = b"\x1f\x8b"
LONGEST_QUOTE = 48  # characters of an offending line that are shown
BLANKS = b" \t\r\n"  # what may stand around a line; vertical tabs and form feeds are no text
_UTF8_MARK = b"\xef\xbb\xbf"
_OTHER_FILES = {  # first bytes -> what they say
    b"BZh": "compressed with bzip2; only gzip is read",
    b"\xfd7zXZ\x00": "compressed with xz; only gzip is read",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; only gzip is read",
    b"PK\x03\x04": "a zip archive; only gzip is read",
    b"\xff\xfe": "UTF-16 text; save it as UTF-8 or ASCII",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8 or ASCII",
    b"\x93NUMPY": "a numpy array; load it and pass it to Graph.from_edges or Graph.from_scipy",
}
_BINARY_PROBE = 4096  # bytes searched for NUL, which no text holds
_LONGEST_NUMBER = 19  # digits
_CHUNK = 1 << 22
_BYTES_PER_BYTE = 4  # arrays made from a text take at most so much memory as its bytes, times this


class GraphFormatError(ValueError):
    """A file holds no graph; the message is one sentence with the name of the file and the line."""


@dataclass(frozen=True)
class TextFile:
    """The text of a file.

    Attributes:
        name: the path, as the user gave it, printable.
        data: the bytes, unpacked.
        begin: position of the first byte after a byte order mark.
    """

    name: str
    data: bytes
    begin: int

    def error(self, line: int, sentence: str) -> GraphFormatError:
        """An error about a line, counted from 1."""
        return GraphFormatError(f"{self.name}, line {line}: {sentence}")

    def expected(self, line: int, pattern: str, got: str, reason: str = "") -> GraphFormatError:
        """The error of a line that is not what it should be."""
        why = f"; {reason}" if reason else ""
        return self.error(line, f'expected "{pattern}", got "{got}"{why}.')

    def quote(self, start: int) -> str:
        """The line that begins at this position, printable and shortened."""
        end = self.data.find(b"\n", start)
        line = self.data[start : len(self.data) if end < 0 else end]
        return quoted(line[: 8 * LONGEST_QUOTE].decode("utf-8", "backslashreplace"))

    def next_line(self, start: int) -> int:
        """Position after the line that begins here."""
        end = self.data.find(b"\n", start)
        return len(self.data) if end < 0 else end + 1

    def tokens(self, start: int) -> list[bytes]:
        """What blanks split on the line that begins here."""
        return re.findall(rb"[^ \t\r\n]+", self.data[start : self.next_line(start)])

    def line_at(self, position: int) -> int:
        """Number of the line that holds this position, from 1."""
        return self.data.count(b"\n", 0, position) + 1

    @property
    def last_line(self) -> int:
        """Number of the last line."""
        return self.data.count(b"\n", 0, max(len(self.data) - 1, 0)) + 1


def read_text(path: str | os.PathLike[str], *, may_be_empty: bool = False) -> TextFile:
    """Reads a file, unpacking gzip by its first bytes, whatever its name.

    Args:
        path: the file.
        may_be_empty: whether a file of nothing but blanks is in order.

    Raises:
        GraphFormatError: it is empty, binary, too large for the memory, or its gzip data are damaged.
        OSError: of the natural kind, with one sentence, where the file cannot be read.
    """
    name = quoted(os.fsdecode(path), longest=None)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise type(error)(f"{name}: no such file.") from error
    except IsADirectoryError as error:
        raise IsADirectoryError(f"{name}: this is a folder; a graph is one file.") from error
    except OSError as error:
        raise type(error)(f"{name}: the file cannot be read ({error.strerror or error}).") from error
    except ValueError as error:  # a NUL in the path
        raise GraphFormatError(f"{name}: no file can have this name.") from error
    if data.startswith(GZIP_MAGIC):
        data = _unpack(name, data)
    for magic, what in _OTHER_FILES.items():
        if data.startswith(magic):
            raise GraphFormatError(f"{name}, line 1: the file is {what}.")
    nul = data.find(b"\0", 0, _BINARY_PROBE)
    text = TextFile(name, data, len(_UTF8_MARK) if data.startswith(_UTF8_MARK) else 0)
    if nul >= 0:
        raise text.error(text.line_at(nul), f"the file is binary, not text (byte {nul} is 0).")
    head = data[text.begin : text.begin + _BINARY_PROBE]
    if not may_be_empty and not head.strip(BLANKS) and not data[text.begin :].strip(BLANKS):
        raise text.error(1, "the file is empty.")
    return text


def quoted(text: str, longest: int | None = LONGEST_QUOTE) -> str:
    """Text on one line, blanks collapsed, anything not printable as an escape, shortened in the middle."""
    words = " ".join(text.split())
    line = "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in words
    )
    if longest is not None and len(line) > longest:
        half = (longest - 3) // 2
        return f"{line[:half]}...{line[-half:]}"
    return line


def whole_number(digits: bytes) -> int:
    """Value of a run of digits; 10^19 for all that are larger, which every limit here refuses.

    Python's `int` raises for more than 4300 digits.
    """
    significant = digits.lstrip(b"0")
    return int(significant or b"0") if len(significant) <= _LONGEST_NUMBER else 10**_LONGEST_NUMBER


def _unpack(name: str, data: bytes) -> bytes:
    """The text in gzip data, any number of members."""
    chunks: list[bytes] = []
    size = 0
    limit = _memory() // _BYTES_PER_BYTE
    problem = ""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            while chunk := file.read1(_CHUNK):  # keeps what comes before the damage
                chunks.append(chunk)
                size += len(chunk)
                if size > limit:
                    problem = f"the text in it passes {limit} bytes, which this machine cannot hold"
                    break
    except EOFError:
        problem = "the gzip data end early; the file is truncated"
    except (gzip.BadGzipFile, zlib.error):
        problem = "the gzip data are damaged"
    if problem:
        line = sum(chunk.count(b"\n") for chunk in chunks) + 1
        raise GraphFormatError(f"{name}, line {line}: {problem}.")
    return b"".join(chunks)


def _memory() -> int:
    """Bytes of memory of this machine, or a guess of 16 GiB where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 2**34
