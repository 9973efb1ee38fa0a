"""What `sdp maxcut` prints and writes when all goes well."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import sdp

Run = Callable[..., subprocess.CompletedProcess[str]]


def sides_in(path: Path) -> list[int]:
    lines = path.read_text().splitlines()
    assert set(lines) <= {"0", "1"}
    return [int(line) for line in lines]


def test_json_is_the_result_and_nothing_else(run_sdp: Run, triangle: Path) -> None:
    done = run_sdp("maxcut", triangle, "--json", "--time-limit", "5")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    result = json.loads(done.stdout)
    here = sdp.maxcut(sdp.Graph.from_file(triangle), time_limit=5)
    assert list(result) == list(here.to_dict())
    assert result["cut_value"] == 2
    assert result["upper_bound"] >= 2
    assert result["n_vertices"] == 3


def test_partition_file_has_the_cut(run_sdp: Run, busy_graph: Path, tmp_path: Path) -> None:
    out = tmp_path / "partition.txt"
    done = run_sdp("maxcut", busy_graph, "--json", "--time-limit", "2", "--out", out)
    assert done.returncode == 0, done.stderr
    graph = sdp.Graph.from_file(busy_graph)
    sides = sides_in(out)
    assert len(sides) == graph.n_vertices
    result = json.loads(done.stdout)
    assert graph.cut_value(sides) == result["cut_value"]
    assert result["cut_value"] <= result["upper_bound"]


def test_warm_start_is_not_lost(run_sdp: Run, busy_graph: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.txt", tmp_path / "second.txt"
    one = json.loads(run_sdp("maxcut", busy_graph, "--json", "--time-limit", "2", "--out", first).stdout)
    two = json.loads(
        run_sdp(
            *("maxcut", busy_graph, "--json", "--time-limit", "0.5", "--method", "hyperplanes"),
            *("--warm-start", first, "--out", second),
        ).stdout
    )
    assert two["cut_value"] >= one["cut_value"]


def test_summary_for_a_person(run_sdp: Run, triangle: Path, tmp_path: Path) -> None:
    out = tmp_path / "partition.txt"
    done = run_sdp("maxcut", triangle, "--time-limit", "5", "--out", out)
    assert done.returncode == 0
    assert done.stderr == ""
    rows = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert rows["cut"].strip() == "2"
    assert "3 vertices, 3 edges" in rows["graph"]
    assert rows["partition"].strip() == str(out)


def test_quiet_prints_nothing(run_sdp: Run, triangle: Path, tmp_path: Path) -> None:
    out = tmp_path / "partition.txt"
    done = run_sdp("maxcut", triangle, "--time-limit", "5", "--quiet", "--out", out)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(sides_in(out)) == 3


def test_plot_is_a_picture(run_sdp: Run, triangle: Path, tmp_path: Path) -> None:
    plot = tmp_path / "history.png"
    done = run_sdp("maxcut", triangle, "--time-limit", "5", "--plot", plot)
    assert done.returncode == 0, done.stderr
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.png", "triangle.txt"]


def test_reader_that_goes_away(sdp_command: list[str], triangle: Path) -> None:
    """`sdp maxcut ... | head -0` ends without a traceback."""
    words = " ".join(f"'{word}'" for word in [*sdp_command, "maxcut", str(triangle), "--time-limit", "5"])
    done = subprocess.run(["bash", "-c", f"{words} | true"], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
