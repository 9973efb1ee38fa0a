"""Graph files: every format, every fault in one sentence, and files written all or nothing."""

from __future__ import annotations

import errno
import gzip
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdp.maxcut import io
from sdp.maxcut.graph import Graph
from sdp.maxcut.io import GraphFormatError, read_graph
from sdp.maxcut.sniff import bare_name
from tests.maxcut.graph_file_cases import BAD, GOOD, RUDY

DATA = Path(__file__).parents[1] / "data" / "graphs"


def as_dict(graph: Graph) -> dict[tuple[int, int], float]:
    u, v, w = graph.edges()
    return {(int(i), int(j)): float(x) for i, j, x in zip(u, v, w, strict=True)}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_formats(name: str, packed: bool, tmp_path: Path) -> None:
    text, format, n, edges, labels = GOOD[name]
    path = tmp_path / "graph"  # neither name nor ending tells the format or the packing
    data = text.encode()
    path.write_bytes(gzip.compress(data[:5]) + gzip.compress(data[5:]) if packed else data)
    for graph in (read_graph(path), read_graph(path, format)):
        assert graph.n_vertices == n
        assert as_dict(graph) == edges
        assert (None if graph.labels is None else graph.labels.tolist()) == labels
        assert graph.name == "graph"


@pytest.mark.parametrize("name", BAD)
def test_faults_are_one_sentence(name: str, tmp_path: Path) -> None:
    text, format, sentence = BAD[name]
    path = tmp_path / "bad"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(GraphFormatError) as caught:
        read_graph(path, format)
    assert str(caught.value) == f"{path}{sentence}"


def test_truncated_and_damaged_gzip_name_the_line(tmp_path: Path) -> None:
    edges = "".join(f"{i} {i + 1} {i % 7}\n" for i in range(1, 200_000))
    packed = gzip.compress(f"200000 199999\n{edges}".encode(), mtime=0)
    path = tmp_path / "roads.txt.gz"
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(
        GraphFormatError, match=r"roads\.txt\.gz, line \d{5,6}: the gzip data end early; .*\.$"
    ):
        read_graph(path)
    for damage in (slice(20, 24), slice(-6, -4), slice(len(packed) // 2, len(packed) // 2 + 4)):
        broken = bytearray(packed)
        broken[damage] = bytes(b ^ 0x5A for b in broken[damage])
        path.write_bytes(broken)
        with pytest.raises(GraphFormatError, match=r"roads\.txt\.gz, line \d+: the gzip data are damaged\.$"):
            read_graph(path)
    path.write_bytes(packed + b"more")
    with pytest.raises(GraphFormatError, match="the gzip data are damaged"):
        read_graph(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^no-such\.txt: no such file\.$"):
        read_graph("no-such.txt")
    with pytest.raises(IsADirectoryError, match=r": this is a folder; a graph is one file\.$"):
        read_graph(tmp_path)
    with pytest.raises(GraphFormatError, match=r"^a\\x00b: no file can have this name\.$"):
        read_graph("a\0b")
    with pytest.raises(
        ValueError, match=r"^format must be one of rudy, mtx, snap, metis, csv; got 'gexf'\.$"
    ):
        read_graph(tmp_path / "g", "gexf")


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "secret")  # root can open every file

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(PermissionError, match=r"secret: the file cannot be read \(Permission denied\)\.$"):
        read_graph(tmp_path / "secret")


@pytest.mark.parametrize(
    ("text", "format", "notes"),
    [
        ("3 2\n1 1 5\n1 2 1\n", "rudy", ("1 self-loop dropped",)),
        (
            "3 4\n1 2 1\n2 1 1\n1 2 1\n3 3 1\n",
            "rudy",
            ("1 self-loop dropped", "2 repeated listings of edges summed"),
        ),
        ("# \n0 1\n1 0\n", "snap", ("every edge is listed in both directions and counts once",)),
        ("# \n0 1 2\n1 0 3\n", "snap", ("1 repeated listing of edges summed",)),
        ("2 1 10\n7 2\n7 1\n", "metis", ("vertex weights and sizes left out",)),
        (RUDY, "rudy", ()),
    ],
    ids=["loop", "repeated", "both directions", "unequal directions", "vertex weights", "nothing"],
)
def test_notes(text: str, format: str, notes: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "graph"
    path.write_text(text)
    assert read_graph(path, format).notes == notes


def test_ending_hints_where_the_text_leaves_a_choice(tmp_path: Path) -> None:
    cycle = "3 3\n2 3\n1 3\n1 2\n"
    for ending, weight in ((".graph", 1.0), (".rud", 1.0), (".edges", 2.0)):
        path = tmp_path / f"cycle{ending}"
        path.write_text(cycle)
        graph = read_graph(path)
        assert graph.name == "cycle"
        assert graph.n_edges == 3
        assert as_dict(graph)[(1, 2)] == (weight if ending != ".edges" else 1.0)
    assert as_dict(read_graph(tmp_path / "cycle.edges")) == {(0, 1): 1.0, (0, 2): 1.0, (1, 2): 1.0}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/b/G22", "G22"),
        ("roads.txt.gz", "roads"),
        ("roads.mtx", "roads"),
        ("v1.5", "v1.5"),
        (".gz", ".gz"),
        ("x.GZ", "x"),
        ("data.v2.csv", "data.v2"),
    ],
)
def test_names(path: str, name: str) -> None:
    assert bare_name(path)[0] == (name if path != ".gz" else "")


@given(st.floats(-1e37, 1e37), st.sampled_from(["{!r}", "{:.20e}", "{:.3f}", "{:+.17g}", "{:E}"]))
def test_weights_are_read_as_python_reads_them(
    tmp_path_factory: pytest.TempPathFactory, w: float, form: str
) -> None:
    written = form.format(w)
    if abs(float(written)) > 1e37:
        return
    path = tmp_path_factory.getbasetemp() / "weight.rud"
    path.write_text(f"2 1\n1 2 {written}\n")
    assert read_graph(path).weights64[0] == float(written)


@pytest.mark.parametrize(
    "written",
    [
        "9007199254740993",
        "9007199254740992",
        "0.1",
        "1e22",
        "1e23",
        "123456789012345678901234567890",
        "1e-400",
        "4.9e-324",
        "2.2250738585072011e-308",
        "0.000000000000000000000000000000000001",
        "-0",
        "00012",
        "1" + "0" * 36,
        "1e-99999999999999999999",
        "8.5e-7",
        "179769313486231570000",
    ],
)
def test_hard_numbers(written: str, tmp_path: Path) -> None:
    path = tmp_path / "weight.rud"
    path.write_text(f"2 1\n1 2 {written}\n")
    assert read_graph(path).weights64[0] == float(written)


@pytest.mark.parametrize("ending", ["txt", "txt.gz"])
@pytest.mark.parametrize("weights", ["integers", "reals", "mixed scales", "none"])
def test_written_graphs_are_read_back(ending: str, weights: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    m = 0 if weights == "none" else 500
    u, v = rng.integers(0, 90, (2, m))
    w = {
        "integers": rng.integers(-(2**52), 2**52, m),
        "reals": rng.standard_normal(m),
        "mixed scales": 10.0 ** rng.integers(-40, 36, m),
        "none": np.zeros(0),
    }[weights]
    graph = Graph.from_edges(u, v, w, n_vertices=100)
    path = tmp_path / f"graph.{ending}"
    io.write_graph(graph, path)
    again = read_graph(path)
    assert again.fingerprint() == graph.fingerprint()
    before = path.read_bytes()
    assert before.startswith(b"\x1f\x8b") == ending.endswith("gz")
    io.write_graph(again, path)
    assert path.read_bytes() == before


def test_partitions_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "partition.txt"
    sides = np.array([0, 1, 1, 0, 1], np.uint8)
    for given_as in (
        sides,
        sides.astype(bool),
        2 * sides.astype(np.int8) - 1,
        sides.tolist(),
        sides.astype(float),
    ):
        io.save_partition(path, given_as)
        assert path.read_bytes() == b"0\n1\n1\n0\n1\n"
        loaded = io.load_partition(path, 5)
        assert loaded.dtype == np.uint8
        np.testing.assert_array_equal(loaded, sides)
    io.save_partition(path, [])
    assert io.load_partition(path, 0).size == 0
    path.write_bytes(b"\xef\xbb\xbf0\r\n 1\r\n\r\n1")
    np.testing.assert_array_equal(io.load_partition(path, 3), [0, 1, 1])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("0\n2\n1\n", ', line 2: expected "0" or "1", got "2".'),
        ("0\n1 1\n", ', line 2: expected "0" or "1", got "1 1".'),
        ("0\n1\n", ", line 2: the graph has 3 vertices; the file ends after 2."),
        ("0\n1\n0\n1\n1\n", ", line 4: the graph has 3 vertices; the file has 5 lines."),
        ("", ", line 1: the file is empty."),
    ],
    ids=["two", "two on a line", "short", "long", "empty"],
)
def test_bad_partitions(text: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "partition.txt"
    path.write_text(text)
    with pytest.raises(GraphFormatError) as caught:
        io.load_partition(path, 3)
    assert str(caught.value) == f"{path}{sentence}"


@pytest.mark.parametrize("partition", [[0, 1, 2], [-1, 0, 1], [0.5, 1], [np.nan, 1], [[0, 1]]])
def test_partitions_that_are_none_are_not_saved(partition: list[object], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^partition must "):
        io.save_partition(tmp_path / "partition.txt", partition)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "best.txt"
    path.write_text("old")
    path.chmod(0o640)

    def write(error: type[BaseException] | None) -> None:
        with io.atomic_write(path, "w") as file:
            file.write("new")
            assert path.read_text() == "old"
            if error:
                raise error

    for error in (KeyboardInterrupt, ValueError):
        with pytest.raises(error):
            write(error)
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]
    write(None)
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_writes_follow_links_and_spare_devices(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    with io.atomic_write(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    with io.atomic_write(os.devnull) as file:
        file.write(b"gone")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    with (
        pytest.raises(FileNotFoundError, match=r"out\.txt: the file cannot be written \(no such folder\)\.$"),
        io.atomic_write(tmp_path / "missing" / "out.txt"),
    ):
        pass
    with (
        pytest.raises(IsADirectoryError, match=r": this is a folder; name a file\.$"),
        io.atomic_write(tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "n", "m", "total"),
    [
        ("wordnet-cooc", 157_884, 2_408_847, 2_408_847),
        ("world_highways", 560_282, 822_234, 822_234),
        ("astronaut-grid8", 262_144, 1_045_506, 17_956),
        ("debian12-deps", 107_092, 387_254, 387_254),
    ],
)
def test_bundled_graphs(name: str, n: int, m: int, total: int) -> None:
    graph = read_graph(DATA / f"{name}.txt.gz")
    assert (graph.name, graph.n_vertices, graph.n_edges, graph.total_weight) == (name, n, m, total)
    assert graph.notes == ()
    assert graph.is_integer
    if name == "astronaut-grid8":
        assert graph.absolute_weight == 884_113_984
        assert np.count_nonzero(graph.weights == 0) == 2 * 54
