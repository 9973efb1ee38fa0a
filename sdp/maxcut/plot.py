"""Pictures of a result: cut and bound against time, and the partition of a graph that is a grid.

Drawn on matplotlib's Figure objects without pyplot, so no window opens and no global state changes.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sdp.maxcut.io import atomic_write
from sdp.maxcut.words import bound_in_words, cut_in_words, share_in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sdp.maxcut.graph import Graph
    from sdp.maxcut.solve import MaxCutResult

SUFFIXES = (".png", ".pdf", ".svg")

# Blue, vermilion and yellow of Okabe and Ito's palette, told apart by the colour-blind and in grey.
CUT_COLOUR = "#0072B2"
BOUND_COLOUR = "#D55E00"
SIDE_COLOURS = (CUT_COLOUR, "#F0E442")

MIN_GRID_SIDE = 4  # below that a grid is a band, and a picture of it shows nothing
MAX_GRID_DEGREE = 8
MAX_GRID_DIFFERENCES = 12  # a wrapped 8-neighbour grid has at most 10 distinct differences
MIN_GRID_SHARE = 0.9  # edges of a grid that must be there: those of weight zero may have been dropped
LOG_TIME_FROM = 20.0  # last over first time from which a linear axis would squeeze the early steps
VIEW_BELOW, VIEW_ABOVE = 1.5, 0.5  # final gaps shown; far off starting values would flatten the rest
DPI = 150


def check_suffix(path: str | os.PathLike[str]) -> None:
    """Raises ValueError unless `path` ends like a kind of picture that can be drawn."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise ValueError(f"a plot's file name must end in {', '.join(SUFFIXES)}; got {os.fspath(path)!r}.")


def plot_history(result: MaxCutResult, path: str | os.PathLike[str], graph: Graph | None = None) -> None:
    """Draws cut and certified bound against time into a file, by atomic rename.

    Args:
        result: what `sdp.maxcut` returned.
        path: file to write, ending in one of `SUFFIXES`.
        graph: the graph of the result. If it is a row-major grid its partition is drawn beside the curves.

    Raises:
        ValueError: the suffix is unknown, or the graph has not as many vertices as the result.
        OSError: the file cannot be written.
    """
    check_suffix(path)
    if graph is not None and graph.n_vertices != result.n_vertices:
        raise ValueError(
            f"`graph` has {graph.n_vertices} vertices but the result is of {result.n_vertices} vertices."
        )
    from matplotlib.figure import Figure

    shape = None if graph is None else grid_shape(graph)
    figure = Figure(figsize=(7.5, 4.5) if shape is None else (12.0, 4.8), layout="constrained")
    if shape is None:
        _draw_history(figure.subplots(), result)
    else:
        left, right = figure.subplots(1, 2, width_ratios=(1.35, 1.0))
        _draw_history(left, result)
        _draw_partition(right, result.partition.reshape(shape))
    figure.suptitle(_title(result), fontsize=11)
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format=Path(path).suffix[1:].lower(), dpi=DPI)


def grid_shape(graph: Graph) -> tuple[int, int] | None:
    """Rows and columns of a grid whose vertices are numbered row by row; None if the graph is no such grid.

    Neighbours are the 4 or 8 nearest, with or without wrap-around in either direction. A tenth of the edges
    to the right and below may be missing.

    Args:
        graph: any graph.

    Returns:
        `(rows, cols)` with rows * cols vertices and at least `MIN_GRID_SIDE` of each, or None.

    Complexity: O(m) for each of at most `MAX_GRID_DIFFERENCES` candidates for the number of columns.
    """
    n = graph.n_vertices
    if n < MIN_GRID_SIDE**2 or graph.n_edges < n or np.diff(graph.indptr).max() > MAX_GRID_DEGREE:
        return None
    tails = np.repeat(np.arange(n, dtype=np.int64), np.diff(graph.indptr))
    upper = graph.indices > tails
    tails, heads = tails[upper], graph.indices[upper].astype(np.int64)
    differences = np.unique(heads - tails)
    if differences.size > MAX_GRID_DIFFERENCES:
        return None
    for cols in differences.tolist():
        if (
            n % cols == 0
            and min(cols, n // cols) >= MIN_GRID_SIDE
            and _is_grid(tails, heads, n // cols, cols)
        ):
            return n // cols, cols
    return None


def _is_grid(tails: NDArray[np.int64], heads: NDArray[np.int64], rows: int, cols: int) -> bool:
    """Whether every edge joins neighbours of this grid, and nearly all the neighbours are joined."""
    down = heads // cols - tails // cols
    across = np.abs(heads % cols - tails % cols)
    near_down = (down <= 1) | (down == rows - 1)
    near_across = (across <= 1) | (across == cols - 1)
    if not bool(np.all(near_down & near_across)):
        return False
    horizontal = np.count_nonzero((down == 0) & (across == 1))
    vertical = np.count_nonzero((down == 1) & (across == 0))
    return bool(
        horizontal >= MIN_GRID_SHARE * rows * (cols - 1) and vertical >= MIN_GRID_SHARE * (rows - 1) * cols
    )


def _title(result: MaxCutResult) -> str:
    name = result.graph_name or "graph"
    return f"{name}: {result.n_vertices:,} vertices, {result.n_edges:,} edges"


def _draw_history(axes: Axes, result: MaxCutResult) -> None:
    """Both curves as steps, for each value holds until the next is found, and the gap between them."""
    from matplotlib.ticker import LogLocator, NullFormatter

    history = np.asarray(result.history, dtype=np.float64).reshape(-1, 3)
    end = max([float(history[-1, 0]) if len(history) else 0.0, *_total_seconds(result)])
    now = np.array([[end, result.cut_value, result.upper_bound]])
    times, cuts, bounds = np.vstack([history, now]).T
    cuts = np.where(np.isfinite(cuts), cuts, np.nan)
    bounds = np.where(np.isfinite(bounds), bounds, np.nan)

    if np.isfinite(bounds).any():  # the wider line, so that it shows where the cut has reached it
        axes.plot(times, bounds, color=BOUND_COLOUR, lw=3.0, drawstyle="steps-post", label="upper bound")
    axes.plot(times, cuts, color=CUT_COLOUR, lw=1.6, drawstyle="steps-post", label="cut")
    axes.fill_between(times, cuts, bounds, step="post", color="0.5", alpha=0.12, lw=0)
    positive = times[times > 0]
    if positive.size > 1 and positive[-1] >= LOG_TIME_FROM * positive[0]:
        axes.set_xscale("log")
        axes.set_xlim(positive[0], positive[-1] * 1.5)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    elif end > 0:
        axes.set_xlim(0, end * 1.15)
    _set_view(axes, result, np.concatenate([cuts, bounds]))
    _annotate_gap(axes, result, end)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.12g}")
    axes.set_xlabel("seconds")
    axes.set_ylabel("sum of the weights of cut edges")
    axes.grid(color="0.9", lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)


def _total_seconds(result: MaxCutResult) -> list[float]:
    total = result.timings.get("total")
    return [] if total is None else [total]


def _set_view(axes: Axes, result: MaxCutResult, values: NDArray[np.float64]) -> None:
    """Limits that keep the final gap readable: the worst starting values may lie outside."""
    known = values[np.isfinite(values)]
    low, high = float(known.min()), float(known.max())
    gap = result.upper_bound - result.cut_value
    if math.isfinite(gap) and gap > 0:
        low = max(low, result.cut_value - VIEW_BELOW * gap)
        high = min(high, result.upper_bound + VIEW_ABOVE * gap)
    margin = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    axes.set_ylim(low - margin, high + margin)


def _annotate_gap(axes: Axes, result: MaxCutResult, end: float) -> None:
    cut, bound = result.cut_value, result.upper_bound
    if not math.isfinite(bound):
        axes.set_title("no bound was certified", fontsize=9, color="0.35")
        return
    axes.set_title(
        f"cut {cut_in_words(cut)}, bound {bound_in_words(bound)} ({result.bound_kind}): "
        f"gap {share_in_words(result.gap)}",
        fontsize=9,
        color="0.35",
    )
    if bound > cut:
        arrow = {"arrowstyle": "<->", "color": "0.3", "lw": 1.0}
        axes.annotate("", (end, cut), (end, bound), arrowprops=arrow)
        axes.text(
            end, (cut + bound) / 2, f" {share_in_words(result.gap)}", va="center", fontsize=9, color="0.2"
        )
        axes.annotate(
            f" {share_in_words(result.gap)}",
            (end, (cut + bound) / 2),
            ha="left",
            va="center",
            fontsize=9,
            color="0.2",
        )


def _draw_partition(axes: Axes, sides: NDArray[np.uint8]) -> None:
    """One pixel a vertex, its colour the side it is on."""
    from matplotlib.colors import ListedColormap

    axes.imshow(sides, cmap=ListedColormap(SIDE_COLOURS), vmin=0, vmax=1, interpolation="nearest")
    rows, cols = sides.shape
    axes.set_title(f"partition of the {rows} x {cols} grid", fontsize=9, color="0.35")
    axes.set_xticks([])
    axes.set_yticks([])
