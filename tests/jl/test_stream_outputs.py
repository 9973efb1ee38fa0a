"""What a stream does to files: inputs stay, two runs keep apart, and a sidecar, a resumed run and an output fit."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from sdp.jl import stream
from sdp.jl.sources import Source
from sdp.jl.sources_extra import open_source
from sdp.jl.stream import embed, load_map
from tests.jl import embed_cases as cases
from tests.jl.embed_cases import StoppedError, all_bytes, read, sparse_map


def test_rows_that_are_read_are_not_written_over(tmp_path: Path) -> None:
    folder = cases.shards(tmp_path, cases.rows_of())
    array = cases.zarr(tmp_path, cases.rows_of())
    single = cases.npy(tmp_path, cases.rows_of())
    before = all_bytes(tmp_path)
    for path, output in (
        (folder, folder / "part-0.npy"),  # a shard
        (folder, folder / "new.npy"),  # would be a shard the next time
        (folder, tmp_path / "shards" / ".." / "shards" / "new.parquet"),
        (array, array / "new.npy"),
        (array, array),
        (single, single),
    ):
        with pytest.raises(ValueError, match="would be written over IN or into its folder"):
            embed(open_source(path), output, sparse_map())
    os.link(single, tmp_path / "z.npy.partial")  # the spool's place
    with pytest.raises(ValueError, match=r"z\.npy\.partial beside it, would be written over"):
        embed(open_source(single), tmp_path / "z.npy", sparse_map())
    (tmp_path / "z.npy.partial").unlink()
    assert all_bytes(tmp_path) == before


def test_an_output_that_holds_the_input_is_refused(tmp_path: Path) -> None:
    array = cases.zarr(tmp_path, cases.rows_of())
    np.save(array / "x.npy", cases.rows_of())
    with pytest.raises(ValueError, match=r"IN lies inside of OUT\.$"):
        embed(open_source(array / "x.npy"), array, sparse_map())
    assert (array / "x.npy").exists()


def test_one_run_at_a_time(tmp_path: Path) -> None:
    source, other = (open_source(cases.npy(tmp_path, cases.rows_of())) for _ in range(2))
    refused = []

    def meanwhile(done: int, total: int) -> None:
        with pytest.raises(ValueError, match=r"out\.npy: another run is writing it"):
            embed(other, tmp_path / "out.npy", sparse_map(seed=4), chunk_rows=7)
        refused.append(done)

    result = embed(source, tmp_path / "out.npy", sparse_map(), chunk_rows=20, progress=meanwhile)
    assert refused == [20, 40, 60]
    assert hashlib.sha256(np.load(tmp_path / "out.npy").tobytes()).hexdigest() == result.sha256
    embed(other, tmp_path / "out.npy", sparse_map(seed=4))  # the lock went with the run
    assert {path.name for path in tmp_path.iterdir()} == {"x.npy", "out.npy", "out.npy.json"}


@pytest.mark.parametrize("output", ["out.npy", "out.parquet"])
def test_a_sidecar_never_names_another_map_than_its_rows(
    tmp_path: Path, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped at each step of the end of a run over an older output."""
    source = open_source(cases.npy(tmp_path, cases.rows_of()))
    path, sidecar = tmp_path / output, tmp_path / f"{output}.json"

    def stopped(*arguments: object, **named: object) -> None:
        raise StoppedError

    for place, name in ((stream, "finish"), (os, "replace"), (stream, "_save_sidecar")):
        embed(source, path, sparse_map(seed=1))
        old = read(path)
        with monkeypatch.context() as patched:
            patched.setattr(place, name, stopped)
            with pytest.raises(StoppedError):
                embed(source, path, sparse_map(seed=2))
        assert not sidecar.exists() or (read(path).tobytes() == old.tobytes() and name == "finish")
    assert embed(source, path, sparse_map(seed=2), resume=True).n_rows == 60
    assert load_map(sidecar).seed == 2


@pytest.mark.parametrize("kind", ["hdf5", "zarr", "folder of hdf5"])
def test_another_dataset_of_the_same_file_is_not_resumed(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import h5py
    import zarr

    path = tmp_path / {"hdf5": "x.h5", "zarr": "x.zarr", "folder of hdf5": "folder"}[kind]
    if kind == "zarr":
        group = zarr.open_group(str(path), mode="w")
        for name in "ab":
            group.create_array(name, data=cases.rows_of())
    else:
        inner = path if kind == "hdf5" else path / "x.h5"
        inner.parent.mkdir(exist_ok=True)
        with h5py.File(inner, "w") as file:
            file["a"], file["b"] = cases.rows_of(), -cases.rows_of()
    stop_at(20, open_source(path, "a"), tmp_path / "out.npy", monkeypatch)
    with pytest.raises(ValueError, match="belongs to another source"):
        embed(open_source(path, "b"), tmp_path / "out.npy", sparse_map(), resume=True)
    assert embed(open_source(path, "/a"), tmp_path / "out.npy", sparse_map(), resume=True).resumed_at == 20


def test_zarr_rows_that_were_changed_are_not_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import zarr

    path = cases.zarr(tmp_path, cases.rows_of())
    stop_at(20, open_source(path), tmp_path / "out.npy", monkeypatch)
    chunks = [p for p in path.rglob("*") if p.is_file() and p.name not in ("zarr.json", ".zarray", ".zattrs")]
    for chunk in chunks:
        os.utime(chunk, (0, 0))  # so that a coarse clock cannot hide the change
    stop_at(20, open_source(path), tmp_path / "out.npy", monkeypatch)
    zarr.open(str(path), mode="r+")[:] = -cases.rows_of()
    with pytest.raises(ValueError, match="belongs to another source"):
        embed(open_source(path), tmp_path / "out.npy", sparse_map(), resume=True)


def stop_at(row: int, source: Source, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that begins anew, records every block, and stops at this row."""

    def stop(done: int, total: int) -> None:
        if done == row:
            raise StoppedError

    monkeypatch.setattr(stream, "SYNC_SECONDS", -1.0)
    with pytest.raises(StoppedError):
        embed(source, output, sparse_map(), chunk_rows=5, progress=stop)


def test_an_older_zarr_stays_until_the_new_one_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = open_source(cases.npy(tmp_path, cases.rows_of())), tmp_path / "out.zarr"
    embed(source, output, sparse_map(seed=1))
    old, replace = all_bytes(output), os.replace

    def failing(made: Path, path: Path) -> None:
        if made.name == "out.zarr.partial.zarr":
            raise OSError("disk full")
        replace(made, path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", failing)
        with pytest.raises(OSError, match="disk full"):
            embed(source, output, sparse_map(seed=2))
    assert all_bytes(output) == old
    embed(source, output, sparse_map(seed=2))
    assert all_bytes(output) != old
    assert {path.name for path in tmp_path.iterdir()} == {"x.npy", "out.zarr", "out.zarr.json"}
