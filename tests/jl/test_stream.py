"""Streams of rows: every format gives the same bytes, so does every cutting and every interruption; damage is named."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch
from threadpoolctl import threadpool_limits

from sdp.jl import stream
from sdp.jl.blocks import Block, as_read
from sdp.jl.maps import KINDS, Map
from sdp.jl.sinks import check_output
from sdp.jl.sources import BadFileError, NpySource
from sdp.jl.sources_extra import open_source
from sdp.jl.stream import embed, load_map
from sdp_kernels import projection
from tests.jl import embed_cases as cases
from tests.jl.embed_cases import K, StoppedError, all_bytes, read, sparse_map

OUTPUTS = ["out.npy", "out.parquet", "out.h5", "out.zarr"]


@pytest.mark.parametrize("name", [name for name in cases.WRITERS if name != "csv"])
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    X = cases.rows_of()
    expected = projection.blocked(torch.from_numpy(X), K, K, seed=3).numpy()
    source = open_source(cases.WRITERS[name](tmp_path, X))
    assert (source.n_rows, source.n_features) == X.shape
    embed(source, tmp_path / "out.npy", sparse_map(), chunk_rows=7)
    found = np.load(tmp_path / "out.npy")
    assert found.dtype == np.float32
    if name == "csr":  # the operation on sparse rows sums in another order
        np.testing.assert_allclose(found, expected, atol=1e-5)
    else:
        assert found.tobytes() == expected.tobytes()


def test_csv_is_float64(tmp_path: Path) -> None:
    X = cases.rows_of()
    source = open_source(cases.csv(tmp_path, X))
    assert (source.n_rows, source.n_features) == X.shape
    embed(source, tmp_path / "out.npy", sparse_map())
    expected = projection.blocked(torch.from_numpy(X.astype(np.float64)), K, K, seed=3).numpy()
    assert np.load(tmp_path / "out.npy").tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", list(cases.WRITERS))
@pytest.mark.parametrize("start", [0, 1, 16, 17, 59])
def test_sources_begin_anywhere(tmp_path: Path, name: str, start: int) -> None:
    X = cases.rows_of()
    source = open_source(cases.WRITERS[name](tmp_path, X))
    rest = list(source.blocks(start, 5))
    assert sum(len(block) for block in rest) == len(X) - start
    chosen = np.array([0, 3, start, 59][:: 1 if start > 3 else 3])
    np.testing.assert_array_equal(source.take(chosen), X[chosen])


@pytest.mark.parametrize("output", OUTPUTS)
def test_every_sink_holds_the_same_rows_and_the_same_bytes_twice(tmp_path: Path, output: str) -> None:
    X = cases.rows_of()
    source = open_source(cases.npy(tmp_path, X))
    first = embed(source, tmp_path / output, sparse_map(), chunk_rows=11)
    content = all_bytes(tmp_path / output)
    expected = projection.blocked(torch.from_numpy(X), K, K, seed=3).numpy()
    assert read(tmp_path / output).tobytes() == expected.tobytes()
    assert first.sha256 == hashlib.sha256(expected.tobytes()).hexdigest()
    embed(source, tmp_path / output, sparse_map(), chunk_rows=60)  # over the first, in one piece
    assert all_bytes(tmp_path / output) == content
    assert {path.name for path in tmp_path.iterdir()} == {"x.npy", output, f"{output}.json"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int16", ">f4"])
def test_cutting_into_blocks_means_nothing(tmp_path: Path, kind: str, dtype: str) -> None:
    X = (10 * cases.rows_of()).astype(dtype)
    np.save(tmp_path / "x.npy", X)
    matrix = np.random.default_rng(0).standard_normal((K, 40)) if kind == "learned" else None
    embedding = Map(kind, 40, K, 0 if kind == "learned" else 1, matrix)
    for chunk_rows in (1, 13, 60):
        embed(
            open_source(tmp_path / "x.npy"), tmp_path / f"{chunk_rows}.npy", embedding, chunk_rows=chunk_rows
        )
    one, some, whole = (np.load(tmp_path / f"{chunk_rows}.npy") for chunk_rows in (1, 13, 60))
    assert one.tobytes() == some.tobytes() == whole.tobytes()
    assert whole.dtype == (np.float64 if dtype == "float64" else np.float32)
    assert np.abs(whole).max() > 0


def test_threads_mean_nothing_to_a_learned_map() -> None:
    """In a shape for which OpenBLAS splits its sums by threads; smaller ones pass either way."""
    k, n_features = 20, 300_000
    rng = np.random.default_rng(0)
    learned = Map("learned", n_features, k, matrix=rng.standard_normal((k, n_features), np.float32))
    X = rng.standard_normal((2, n_features), np.float32)
    images = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            images.append(learned.apply(X).tobytes())
    assert images[0] == images[1]


# An empty column of lists does not say how long its lists would be; an empty shard is among the shards of every test.
@pytest.mark.parametrize("name", [name for name in cases.WRITERS if name not in ("parquet_lists", "shards")])
def test_no_rows_are_fine(tmp_path: Path, name: str) -> None:
    X = cases.rows_of(0)
    path = cases.WRITERS[name](tmp_path, X)
    source = open_source(path)
    result = embed(source, tmp_path / "out.npy", Map("sparse", source.n_features, K))
    assert result.n_rows == 0
    assert np.load(tmp_path / "out.npy").shape == (0, K)


class Stopping(NpySource):
    """Gives up when it has given so many rows."""

    after = 0

    def blocks(self, start: int, rows: int) -> Iterator[Block]:
        given = start
        for block in super().blocks(start, rows):
            if given >= self.after:
                raise StoppedError
            given += len(block)
            yield block


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_stopped_run_goes_on_to_the_same_bytes(
    tmp_path: Path, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SYNC_SECONDS", 0.0)  # record after every block
    path = cases.npy(tmp_path, cases.rows_of())
    whole = embed(open_source(path), tmp_path / output, sparse_map())
    expected = all_bytes(tmp_path / output)
    (tmp_path / "again").mkdir()
    again = tmp_path / "again" / output
    source = Stopping(path)
    for after in (10, 30, 50):
        source.after = after
        with pytest.raises(StoppedError):
            embed(source, again, sparse_map(), chunk_rows=5, resume=True)
        assert not again.exists()
        # What a kill leaves behind the rows that were recorded: half a row.
        with open(f"{again}.partial", "ab") as file:
            file.write(b"torn")
    result = embed(open_source(path), again, sparse_map(), chunk_rows=9, resume=True)
    assert result.resumed_at == 50
    assert result.sha256 == whole.sha256
    assert all_bytes(again) == expected
    assert not Path(f"{again}.progress").exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("seed", "belongs to another map"),
        ("rows", "belongs to another source"),
        ("progress", "damaged"),
        ("spool", "not the rows that its progress file speaks of"),
    ],
)
def test_other_work_is_not_resumed(
    tmp_path: Path, change: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SYNC_SECONDS", 0.0)
    source = Stopping(cases.npy(tmp_path, cases.rows_of()))
    source.after = 20
    output = tmp_path / "out.npy"
    with pytest.raises(StoppedError):
        embed(source, output, sparse_map(), chunk_rows=5)
    if change == "rows":
        cases.npy(tmp_path, cases.rows_of(61))
    elif change == "progress":
        Path(f"{output}.progress").write_text("{")
    elif change == "spool":
        Path(f"{output}.partial").write_bytes(Path(f"{output}.partial").read_bytes()[:200])
    seed = 4 if change == "seed" else 3
    with pytest.raises(ValueError, match=sentence):
        embed(open_source(tmp_path / "x.npy"), output, sparse_map(seed=seed), resume=True)
    embed(open_source(tmp_path / "x.npy"), output, sparse_map(seed=seed))  # anew, without `resume`
    assert len(np.load(output)) in (60, 61)


@pytest.mark.parametrize("kind", KINDS)
def test_the_sidecar_is_the_map(tmp_path: Path, kind: str) -> None:
    X = cases.rows_of()
    matrix = (
        np.random.default_rng(0).standard_normal((K, 40)).astype(np.float32) if kind == "learned" else None
    )
    path = cases.npy(tmp_path, X)
    result = embed(
        open_source(path), tmp_path / "out.npy", Map(kind, 40, K, 0 if matrix is not None else 9, matrix)
    )
    again = embed(open_source(path), tmp_path / "again.npy", load_map(result.sidecar))
    assert again.sha256 == result.sha256
    stored = json.loads(Path(result.sidecar).read_text())
    assert stored["sha256"] == result.sha256
    assert stored["map"]["kind"] == kind
    assert {"python", "numpy", "sdp-kernels"} <= set(stored["versions"])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": 1}',
        '{"format": 2, "map": {}}',
        "\x00",
        '{"format": 1, "map": {"kind": "sparse"}}',
    ],
)
def test_a_damaged_sidecar_gets_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=r"x\.json: "):
        load_map(tmp_path / "x.json")


def test_a_changed_matrix_is_noticed(tmp_path: Path) -> None:
    matrix = np.ones((K, 40), np.float32)
    source = open_source(cases.npy(tmp_path, cases.rows_of()))
    result = embed(source, tmp_path / "out.npy", Map("learned", 40, K, 0, matrix))
    matrix[2, 3] = 0.5
    np.save(tmp_path / "out.npy.map.npy", matrix)
    with pytest.raises(ValueError, match="matrix was changed"):
        load_map(result.sidecar)


@pytest.mark.parametrize("name", list(cases.WRITERS))
@pytest.mark.parametrize("value", [np.nan, np.inf], ids=["NaN", "infinite"])
def test_what_is_not_finite_is_refused_with_its_row(tmp_path: Path, name: str, value: float) -> None:
    X = cases.rows_of()
    X[37, 21] = value
    path = cases.WRITERS[name](tmp_path, X)
    word = "NaN" if np.isnan(value) else "infinite"
    with pytest.raises(ValueError, match=f"row 37: column 21 is {word}"):
        embed(open_source(path), tmp_path / "out.npy", sparse_map(), chunk_rows=10)
    assert not (tmp_path / "out.npy").exists()


def test_overflow_is_refused_with_its_row(tmp_path: Path) -> None:
    X = cases.rows_of()
    X[12] = 3e38
    path = cases.npy(tmp_path, X)
    with pytest.raises(ValueError, match="row 12: its image overflows float32"):
        embed(open_source(path), tmp_path / "out.npy", Map("gaussian", 40, K))


BAD_CSR = {
    "index": ({"indices": np.full(2400, 40, np.int32)}, "row 0: column 40 lies outside"),
    "negative index": ({"indices": np.full(2400, -1, np.int32)}, "row 0: column -1 lies outside"),
    "falling pointers": ({"indptr": np.arange(61)[::-1].copy()}, "must rise from 0"),
    "short data": ({"data": np.ones(7, np.float32)}, "`indptr` ends at 2400, but data has shape"),
    "float indices": ({"indices": np.ones(2400, np.float32)}, "must be int32 or int64"),
    "another format": ({"format": np.array(b"csc")}, "rows are asked for"),
    "a huge shape": ({"shape": np.array([2**62, 40])}, "`indptr` must hold"),
    "complex data": ({"data": np.ones(2400, np.complex64)}, "numbers must be floating point"),
}


@pytest.mark.parametrize("case", list(BAD_CSR))
def test_bad_csr_gets_a_sentence(tmp_path: Path, case: str) -> None:
    path = cases.csr(tmp_path, cases.rows_of())
    members, sentence = BAD_CSR[case]
    cases.repacked(path, **members)
    with pytest.raises(BadFileError, match=sentence):
        embed(open_source(path), tmp_path / "out.npy", sparse_map())


def test_bad_arrays_get_a_sentence(tmp_path: Path) -> None:
    for array, sentence in (
        (np.zeros(5), "shape (5,)"),
        (np.zeros((4, 3), order="F"), "stored column by column"),
        (np.zeros((4, 3), complex), "numbers must be floating point"),
        (np.array([["a", "b"]]), "numbers must be floating point"),
        (np.array([[None]]), "Python objects"),
    ):
        np.save(tmp_path / "x.npy", array)
        with pytest.raises(BadFileError, match=re.escape(sentence)):
            open_source(tmp_path / "x.npy")
    path = cases.npy(tmp_path, cases.rows_of())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadFileError, match="promises 60 rows, it holds 59"):
        open_source(path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("1,2\n3\n", "line 2: 1 numbers, expected 2."),
        ("1,2\n3,4,5\n", "line 2: 3 numbers, expected 2."),
        ("a,b\n1,2\n3,x\n", "line 3: expected a number, got 'x'."),
        ("1,2\n\n3,4\n", "line 2: 0 numbers, expected 2."),
        ("1,2\n3,\n", "line 2: expected a number, got ''."),
        ("1,N/A\n3,4\n", "line 1: expected a number, got 'N/A'."),
        ("\ufeff1,x\n3,4\n", "line 1: expected a number, got 'x'."),
    ],
)
def test_bad_csv_is_named_by_line(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "x.csv").write_text(text, "utf-8")
    source = open_source(tmp_path / "x.csv")
    with pytest.raises(BadFileError, match=re.escape(sentence)):
        embed(source, tmp_path / "out.npy", Map("sparse", 2, 2))


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte order mark"])
@pytest.mark.parametrize("names", ["", "a,b\n", ",b\n"])
def test_the_first_row_of_csv_is_kept(tmp_path: Path, mark: str, names: str) -> None:
    (tmp_path / "x.csv").write_text(f"{mark}{names}1,2\n3,4\n", "utf-8")
    assert read(tmp_path / "x.csv").tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_shards_must_fit_each_other(tmp_path: Path) -> None:
    folder = cases.shards(tmp_path, cases.rows_of())
    np.save(folder / "part-3.npy", np.zeros((2, 39), np.float32))
    with pytest.raises(BadFileError, match=r"part-3\.npy: 39 columns, where .*part-0\.npy has 40"):
        open_source(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadFileError, match="a folder without a file"):
        open_source(tmp_path / "empty")


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [("parquet", "pyarrow", "arrow"), ("hdf5", "h5py", "hdf5"), ("zarr", "zarr", "zarr")],
)
def test_a_missing_package_is_named_with_its_extra(
    tmp_path: Path, name: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cases.WRITERS[name](tmp_path, cases.rows_of())
    for loaded in [loaded for loaded in sys.modules if loaded == module or loaded.startswith(f"{module}.")]:
        monkeypatch.setitem(sys.modules, loaded, None)
    monkeypatch.setitem(sys.modules, module, None)
    sentence = re.escape(f"needs {module}, which is not installed; pip install 'sdp-kernels[{extra}]'.")
    with pytest.raises(ModuleNotFoundError, match=sentence):
        open_source(path)
    with pytest.raises(ModuleNotFoundError, match=sentence):
        check_output(tmp_path / {"parquet": "o.parquet", "hdf5": "o.h5", "zarr": "o.zarr"}[name])


def test_which_array_of_many(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a"], file["b"] = np.zeros((2, 3)), np.ones((4, 3))
    assert open_source(tmp_path / "x.h5", "b").n_rows == 4
    with pytest.raises(BadFileError, match=r"holds 2 matrices \(a, b\)"):
        open_source(tmp_path / "x.h5")
    with pytest.raises(BadFileError, match="no matrix 'c'; it holds a, b"):
        open_source(tmp_path / "x.h5", "c")


MUTATED = {"npy": 130, "csr": 110, "csv": 100, "parquet": 60, "arrow": 50, "hdf5": 50}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of numbers that the damage made huge
@pytest.mark.parametrize("name", list(MUTATED))
def test_damage_gets_a_sentence_or_an_embedding(tmp_path: Path, name: str) -> None:
    """500 damaged files in all: each is embedded (the damage hit a number) or refused by name, and nothing else."""
    path = cases.WRITERS[name](tmp_path, cases.rows_of(12, 6))
    content = path.read_bytes()
    sentences = []
    for changed in cases.mutations(content, MUTATED[name], seed=len(name)):
        path.write_bytes(changed)
        try:
            source = open_source(path)
            if source.n_features > 1000:
                raise BadFileError(f"{path}: not tried; the damage made rows of {source.n_features} columns.")
            result = embed(source, tmp_path / "out.npy", Map("sparse", source.n_features, 4))
        except ValueError as error:
            sentences.append(str(error))
        else:
            assert result.n_rows == source.n_rows
    for sentence in sentences:
        assert str(path) in sentence or "no columns" in sentence
        assert "\n" not in sentence
    assert len(sentences) > MUTATED[name] / 4


def test_as_read_refuses_what_is_no_number() -> None:
    with pytest.raises(TypeError, match="numbers must be"):
        as_read(np.dtype("datetime64[s]"))


def test_csr_rows_of_very_uneven_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block holds a bounded number of entries, and at least a row."""
    from sdp.jl import sources

    monkeypatch.setattr(sources, "BLOCK_BYTES", 64)
    dense = np.zeros((9, 50), np.float32)
    dense[4] = 1.0
    dense[:, 7] = 2.0
    scipy.sparse.save_npz(tmp_path / "x.npz", scipy.sparse.csr_array(dense))
    source = open_source(tmp_path / "x.npz")
    blocks = list(source.blocks(0, 100))
    assert len(blocks) > 1
    assert sum(len(block) for block in blocks) == 9
    np.testing.assert_array_equal(source.take(np.arange(9)), dense)


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_large_integers_are_rounded_to_float64(dtype: str) -> None:
    assert as_read(np.dtype(dtype)) == np.float64
    assert np.array([2**53 + 1], dtype).astype(as_read(np.dtype(dtype)))[0] == 2**53
