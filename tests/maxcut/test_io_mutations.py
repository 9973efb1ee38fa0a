"""A thousand damaged files: each is refused with one sentence, or read as the slow reference reads it."""

from __future__ import annotations

import gzip
import random
import re
import time
from pathlib import Path

import numpy as np
import pytest

from sdp.maxcut.graph import Graph
from sdp.maxcut.io import GraphFormatError, read_graph
from sdp.maxcut.sniff import choose_format
from sdp.maxcut.textfile import read_text
from tests.reference import graph_files

SECONDS_A_FILE = 2.0
N_MUTATIONS = 1000
INTERESTING = b"0123456789 \t\r\n,;.-+eE%#naif\x00\xff"

FILES = {
    "rudy": b"6 7\n1 2 1\n1 3 -1\n2 3 2.5\n3 4 1\n4 5 1e2\n5 6 .125\n1 6 3\n",
    "rudy-unweighted": b"5 6\n1 2\n1 3\n2 3\n3 4\n4 5\n1 5\n",
    "mtx-symmetric": b"%%MatrixMarket matrix coordinate real symmetric\n% a comment\n4 4 5\n"
    b"2 1 1.5\n3 1 -2\n3 2 0.1\n4 3 1e-3\n4 4 7\n",
    "mtx-general": b"%%MatrixMarket matrix coordinate integer general\n3 3 6\n"
    b"1 2 5\n2 1 5\n1 3 -1\n3 1 -1\n2 3 2\n3 2 2\n",
    "mtx-pattern": b"%%MatrixMarket matrix coordinate pattern symmetric\n4 4 4\n2 1\n3 1\n4 2\n4 3\n",
    "snap": b"# Directed graph\n# FromNodeId\tToNodeId\n10\t20\n20\t30\n30\t10\n40\t10\n",
    "snap-both": b"0 1\n1 0\n1 2\n2 1\n0 2\n2 0\n",
    "snap-weighted": b"# u v w\n7 8 0.5\n8 9 0.30000000000000004\n7 9 12345678901234567890\n",
    "metis": b"% five vertices\n5 5\n2 3\n1 3\n1 2 4\n3 5\n4\n",
    "metis-weighted": b"4 4 11\n1 2 5 3 6\n1 1 5 3 7\n2 1 6 2 7 4 8\n3 3 8\n",
    "csv": b"source,target,weight\n0,1,1.5\n1,2,-2\n0,2,1e3\n2,3,4\n",
    "csv-semicolon": b"1;2\n2;3\n3;4\n1;4\n",
}
GZIPPED = ("rudy", "snap", "csv")


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One to three changes of the kinds that happen to files."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if not data:
            return data
        at = rng.randrange(len(data))
        kind = rng.randrange(9)
        if kind == 0:  # a flipped bit
            data = data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
        elif kind == 1:  # another character
            data = data[:at] + bytes([rng.choice(INTERESTING)]) + data[at + 1 :]
        elif kind == 2:
            data = data[:at] + data[at + rng.randrange(1, 4) :]
        elif kind == 3:
            data = data[:at] + bytes([rng.choice(INTERESTING)]) + data[at:]
        elif kind == 4:
            data = data[:at]
        elif kind == 5:  # two neighbours swapped
            data = data[:at] + data[at : at + 2][::-1] + data[at + 2 :]
        elif kind == 6:  # a number grows
            data = (
                data[:at]
                + bytes(rng.choice(b"0123456789") for _ in range(rng.choice((1, 9, 19))))
                + data[at:]
            )
        else:
            lines = data.split(b"\n")
            k = rng.randrange(len(lines))
            if kind == 7:
                lines.insert(k, lines[rng.randrange(len(lines))])
            else:
                lines.pop(k)
            data = b"\n".join(lines)
    return data


def as_plain(graph: Graph) -> graph_files.Plain:
    u, v, w = graph.edges()
    edges = {(int(i), int(j)): float(x) for i, j, x in zip(u, v, w, strict=True)}
    return graph.n_vertices, edges, None if graph.labels is None else graph.labels.tolist()


def outcome(path: Path, format: str | None) -> graph_files.Plain | None:
    """The graph as a dictionary, or None for a refusal, which must be one sentence in time."""
    start = time.perf_counter()
    try:
        plain = as_plain(read_graph(path, format))
    except GraphFormatError as error:
        sentence = str(error)
        assert re.fullmatch(re.escape(f"{path}") + r"(, line \d+)?: .{5,300}\.", sentence), sentence
        assert sentence.isprintable()
        plain = None
    assert time.perf_counter() - start < SECONDS_A_FILE
    return plain


def reference(data: bytes, format: str) -> graph_files.Plain | None:
    try:
        return graph_files.read(data, format)
    except graph_files.RefusedError:
        return None


def mutated_files() -> list[tuple[str, bytes]]:
    rng = random.Random(20061)
    sources = [(name, data, False) for name, data in FILES.items()]
    sources += [(name, gzip.compress(FILES[name], mtime=0), True) for name in GZIPPED]
    files = []
    while len(files) < N_MUTATIONS:
        name, data, is_packed = sources[len(files) % len(sources)]
        packed_again = is_packed and rng.random() < 0.5
        mutated = gzip.compress(mutate(FILES[name], rng), mtime=0) if packed_again else mutate(data, rng)
        files.append((name, mutated))
    return files


def test_reference_reads_the_files_that_are_not_damaged() -> None:
    for name, data in FILES.items():
        assert reference(data, name.partition("-")[0]) is not None, name


def test_damaged_files_are_refused_or_read_as_the_reference_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "damaged"
    n_read = n_refused = n_sniffed = 0
    for number, (name, data) in enumerate(mutated_files()):
        path.write_bytes(data)
        format = name.partition("-")[0]
        got, want = outcome(path, format), reference(data, format)
        assert got == want, (number, name, data)
        n_read += got is not None
        n_refused += got is None
        sniffed = outcome(path, None)
        if sniffed is not None and sniffed != want:
            # Damage can make one format another: a rudy file that lost its header is an edge list.
            other = choose_format(read_text(path)).format
            assert other != format, (number, name, data)
            assert sniffed == reference(data, other), (number, name, data)
            n_sniffed += 1
    # The mutations are neither all harmless nor all fatal, and hardly any changes the format.
    assert n_read > N_MUTATIONS // 10
    assert n_refused > N_MUTATIONS // 2
    assert n_sniffed <= N_MUTATIONS // 50


@pytest.fixture(scope="module", autouse=True)
def _compiled(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compiles the tokenizers before any clock starts."""
    path = tmp_path_factory.mktemp("warm") / "file"
    for name, data in FILES.items():
        path.write_bytes(data)
        read_graph(path, name.partition("-")[0])


@pytest.mark.parametrize("name", FILES)
def test_undamaged_files_are_sniffed(name: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(FILES[name])
    assert choose_format(read_text(path)) == (name.partition("-")[0], True)
    assert as_plain(read_graph(path)) == reference(FILES[name], name.partition("-")[0])


def test_random_bytes_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    path = tmp_path / "noise"
    for size in (1, 2, 10, 1000, 100_000):
        path.write_bytes(rng.bytes(size))
        assert outcome(path, None) is None
