"""Ctrl-C, SIGTERM and kill -9 of a real process."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sdp
from sdp.maxcut import checkpoint as checkpoints

Start = Callable[..., Any]
FIRST_CUT = rb"cut [\d,]+"
STARTING = 150.0  # seconds for imports and for kernels that may have to be compiled
ENDING = 10.0  # seconds from the signal to the end, result written; about one where nothing else runs


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_signal_keeps_the_best_cut(
    start_sdp: Start, busy_graph: Path, tmp_path: Path, kind: signal.Signals
) -> None:
    out = tmp_path / "partition.txt"
    session = start_sdp("maxcut", busy_graph, "--time-limit", "120", "--json", "--out", out)
    session.wait_for(FIRST_CUT, STARTING)
    time.sleep(0.5)
    sent = time.monotonic()
    session.process.send_signal(kind)
    code, output = session.end(timeout=60)
    assert time.monotonic() - sent < ENDING
    assert code == 130
    assert b"Traceback" not in session.screen
    result = json.loads(output)
    assert result["status"] == "interrupted"
    sides = [int(line) for line in out.read_text().splitlines()]
    graph = sdp.Graph.from_file(busy_graph)
    assert graph.cut_value(sides) == result["cut_value"]
    assert result["cut_value"] > graph.total_weight / 2


def test_two_signals_do_not_tear_the_result(start_sdp: Start, busy_graph: Path, tmp_path: Path) -> None:
    out, plot = tmp_path / "partition.txt", tmp_path / "history.png"
    session = start_sdp("maxcut", busy_graph, "--time-limit", "120", "--json", "--out", out, "--plot", plot)
    session.wait_for(FIRST_CUT, STARTING)
    session.process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + ENDING
    while not out.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    session.process.send_signal(signal.SIGINT)  # the plot is being drawn
    code, output = session.end(timeout=60)
    assert code == 130
    assert json.loads(output)["status"] == "interrupted"
    assert plot.exists()
    assert len(out.read_text().splitlines()) == sdp.Graph.from_file(busy_graph).n_vertices


def test_killed_run_resumes(start_sdp: Start, run_sdp: Start, busy_graph: Path, tmp_path: Path) -> None:
    """kill -9 loses at most what came after the last checkpoint."""
    checkpoint, out = tmp_path / "state", tmp_path / "partition.txt"
    session = start_sdp("maxcut", busy_graph, "--time-limit", "120", "--checkpoint", checkpoint)
    session.wait_for(FIRST_CUT, STARTING)
    graph = sdp.Graph.from_file(busy_graph)
    best, deadline = 0.0, time.monotonic() + 60
    while best <= graph.total_weight / 2 and time.monotonic() < deadline:
        time.sleep(0.1)
        if checkpoint.exists():
            best = graph.cut_value(checkpoints.load(checkpoint, graph).partition)
    session.process.kill()
    session.process.wait()
    best = graph.cut_value(checkpoints.load(checkpoint, graph).partition)
    again = run_sdp(
        *("maxcut", busy_graph, "--time-limit", "0.01", "--seed", "5", "--checkpoint", checkpoint),
        *("--json", "--out", out),
    )
    result = json.loads(again.stdout)
    assert result["cut_value"] >= best > graph.total_weight / 2
    assert graph.cut_value([int(line) for line in out.read_text().splitlines()]) == result["cut_value"]
