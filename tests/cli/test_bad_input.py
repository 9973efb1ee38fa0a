"""Bad input ends in exit code 2 and one sentence; nothing on standard output, no traceback."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


def assert_one_sentence(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("sdp: ")
    assert line.endswith(".")
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        pytest.param(["--time-limit", "-1"], "time_limit", id="negative time"),
        pytest.param(["--time-limit", "nan"], "time_limit", id="NaN time"),
        pytest.param(["--time-limit", "soon"], "--time-limit", id="time that is no number"),
        pytest.param(["--method", "magic"], "magic", id="unknown method"),
        pytest.param(["--format", "jpeg"], "jpeg", id="unknown format"),
        pytest.param(["--threads", "0"], "threads", id="no threads"),
        pytest.param(["--target-gap", "nan"], "target_gap", id="NaN gap"),
        pytest.param(["--device", "tpu"], "tpu", id="unknown device"),
        pytest.param(["--plot", "curve.txt"], ".png", id="no picture"),
        pytest.param(["--colour", "red"], "--colour", id="unknown option"),
        pytest.param(["--warm-start", "missing.txt"], "missing.txt", id="missing warm start"),
        pytest.param(["--out", "same.txt", "--checkpoint", "same.txt"], "same file", id="one file for two"),
    ],
)
def test_options(run_sdp: Run, triangle: Path, arguments: list[str], word: str) -> None:
    assert_one_sentence(run_sdp("maxcut", triangle, *arguments), word)


@pytest.mark.parametrize("option", ["--out", "--plot", "--checkpoint"])
def test_output_folder_is_missing(run_sdp: Run, triangle: Path, tmp_path: Path, option: str) -> None:
    """Told before the solving, not after it."""
    done = run_sdp("maxcut", triangle, option, tmp_path / "nowhere" / "file.png")
    assert_one_sentence(done, option, "nowhere")


def test_output_is_a_folder(run_sdp: Run, triangle: Path, tmp_path: Path) -> None:
    assert_one_sentence(run_sdp("maxcut", triangle, "--out", tmp_path), "--out", "folder")


def test_output_is_the_graph(run_sdp: Run, triangle: Path) -> None:
    before = triangle.read_bytes()
    assert_one_sentence(run_sdp("maxcut", triangle, "--out", triangle), "GRAPH", "--out")
    assert triangle.read_bytes() == before


def test_device_without_a_gpu_engine(run_sdp: Run, triangle: Path) -> None:
    from sdp_kernels.engines import engine_for

    try:
        engine_for("cuda")
    except ValueError:
        assert_one_sentence(run_sdp("maxcut", triangle, "--device", "cuda"), "--device cuda")
    else:
        pytest.skip("this machine has a GPU and this version an engine for it")


def test_missing_file(run_sdp: Run, tmp_path: Path) -> None:
    assert_one_sentence(run_sdp("maxcut", tmp_path / "roads.txt"), "roads.txt")


def test_graph_is_a_folder(run_sdp: Run, tmp_path: Path) -> None:
    assert_one_sentence(run_sdp("maxcut", tmp_path), str(tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("3 1\n1 a 1\n", id="not a number"),
        pytest.param("3 1\n1 4 1\n", id="vertex out of range"),
        pytest.param("3 2\n1 2 1\n", id="wrong count"),
        pytest.param("3 1\n1 2 nan\n", id="NaN weight"),
    ],
)
def test_bad_graph(run_sdp: Run, tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.txt"
    path.write_text(text)
    assert_one_sentence(run_sdp("maxcut", path, "--format", "rudy", "--json"), "bad.txt")


def test_warm_start_of_another_length(run_sdp: Run, triangle: Path, tmp_path: Path) -> None:
    start = tmp_path / "start.txt"
    start.write_text("0\n1\n")
    assert_one_sentence(run_sdp("maxcut", triangle, "--warm-start", start))


def test_no_graph(run_sdp: Run) -> None:
    assert_one_sentence(run_sdp("maxcut"), "GRAPH")


def test_unknown_command(run_sdp: Run) -> None:
    assert_one_sentence(run_sdp("mincut"), "mincut")
