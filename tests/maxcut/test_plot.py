"""Grids are recognised from their edges alone, and pictures are whole files."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import sdp
from sdp.maxcut.plot import grid_shape, plot_history

FOUR, EIGHT = ((0, 1), (1, 0)), ((0, 1), (1, 0), (1, 1), (1, -1))


def grid(rows: int, cols: int, steps: tuple[tuple[int, int], ...], *, wraps: bool) -> sdp.Graph:
    row, col = np.divmod(np.arange(rows * cols), cols)
    tails, heads = [], []
    for down, across in steps:
        r, c = row + down, col + across
        inside = np.full(r.shape, True) if wraps else (r < rows) & (c >= 0) & (c < cols)
        tails.append((row * cols + col)[inside])
        heads.append((r % rows * cols + c % cols)[inside])
    return sdp.Graph.from_edges(np.hstack(tails), np.hstack(heads), n_vertices=rows * cols)


@pytest.mark.parametrize("wraps", [False, True], ids=["plane", "torus"])
@pytest.mark.parametrize("steps", [FOUR, EIGHT], ids=["4 neighbours", "8 neighbours"])
@pytest.mark.parametrize("shape", [(4, 4), (5, 7), (8, 4), (4, 9), (30, 31), (31, 30)])
def test_grids(shape: tuple[int, int], steps: tuple[tuple[int, int], ...], wraps: bool) -> None:
    assert grid_shape(grid(*shape, steps, wraps=wraps)) == shape


def test_grid_with_holes() -> None:
    whole = grid(20, 30, FOUR, wraps=False).to_scipy().tocoo()
    kept = (whole.row < whole.col) & ((whole.row + whole.col) % 23 > 0)
    holed = sdp.Graph.from_edges(whole.row[kept], whole.col[kept], n_vertices=600)
    assert grid_shape(holed) == (20, 30)


@pytest.mark.parametrize(
    "graph",
    [
        pytest.param(sdp.Graph.from_edges([], [], n_vertices=0), id="empty"),
        pytest.param(sdp.Graph.from_edges([], [], n_vertices=100), id="no edges"),
        pytest.param(sdp.Graph.from_edges(np.arange(99), np.arange(1, 100)), id="path"),
        pytest.param(sdp.Graph.from_edges(np.arange(100), (np.arange(100) + 1) % 100), id="cycle"),
        pytest.param(sdp.Graph.from_edges(*np.triu_indices(20, k=1)), id="complete"),
        pytest.param(grid(3, 50, FOUR, wraps=False), id="band of three rows"),
    ],
)
def test_not_grids(graph: sdp.Graph) -> None:
    assert grid_shape(graph) is None


def test_pictures(tmp_path: Path) -> None:
    graph = grid(6, 7, FOUR, wraps=True)
    result = sdp.maxcut(graph, time_limit=2)
    for name, magic in (("a.png", b"\x89PNG"), ("b.pdf", b"%PDF"), ("c.svg", b"<?xml")):
        plot_history(result, tmp_path / name, graph=graph)
        assert (tmp_path / name).read_bytes().startswith(magic)
    bare = replace(result, history=(), upper_bound=math.inf, gap=math.inf, bound_kind="none")
    plot_history(bare, tmp_path / "d.png")
    empty = sdp.maxcut(sdp.Graph.from_edges([], [], n_vertices=0), time_limit=1)
    plot_history(empty, tmp_path / "e.png")
    assert len(list(tmp_path.iterdir())) == 5


def test_pictures_that_cannot_be_drawn(tmp_path: Path) -> None:
    result = sdp.maxcut(grid(4, 4, FOUR, wraps=False), time_limit=1)
    with pytest.raises(ValueError, match=r"must end in \.png"):
        plot_history(result, tmp_path / "history.gif")
    with pytest.raises(ValueError, match="25 vertices"):
        plot_history(result, tmp_path / "history.png", graph=grid(5, 5, FOUR, wraps=False))
    assert list(tmp_path.iterdir()) == []
