"""Draw the pictures of the results that were measured last: ``results/*.png``.

python -m benchmarks.plots
"""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import maxcut_cut_at_equal_time as cuts
from benchmarks import maxcut_gpu_model as gpu_model
from benchmarks import maxcut_scaling as scaling
from benchmarks import maxcut_time_to_certified_gap as gaps
from benchmarks import structure_sample_complexity as complexity
from benchmarks._graphs import best_known
from benchmarks._records import RESULTS_FOLDER, Record, latest, load, spread
from benchmarks.baselines.torch_relaxation import METHODS

# Okabe and Ito's colours, told apart by the colour-blind; ours is always the first.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MARKERS = "osD^v<>P"
SMALLEST_DEFICIT = 1e-5  # relative; below it the axis is linear, so that a deficit of 0 has a place
DOTS_PER_INCH = 130
LINEAR = ("microseconds an edge", "million spin updates a second")  # near constant: from 0, not logarithmic


def draw_cuts(records: list[Record]) -> Figure:
    """How far each solver's cut is from the best cut known or found, one row a graph."""
    known = best_known()
    longest = max((record["time_limit"], record["threads"]) for record in records)
    groups: dict[str, dict[str, list[float]]] = {}
    sizes: dict[str, int] = {}
    for record in records:
        if (record["time_limit"], record["threads"]) == longest and record.get("cut_value") is not None:
            groups.setdefault(record["graph"], {}).setdefault(record["solver"], []).append(
                record["cut_value"]
            )
            sizes[record["graph"]] = record["n_edges"]
    names = sorted(groups, key=lambda name: -sizes[name])
    figure, axes = plt.subplots(figsize=(7.5, 1.4 + 0.3 * len(names)), layout="constrained")
    for number, solver in enumerate(cuts.SOLVERS):
        deficits, rows = [], []
        for row, name in enumerate(names):
            if solver in groups[name]:
                best = max(max(found) for found in groups[name].values())
                best = max(best, known[name].value) if name in known else best
                deficits.append((best - spread(groups[name][solver]).median) / abs(best))
                rows.append(row + 0.12 * (number - 2))
        if rows:
            label = "ours" if solver == cuts.OURS else solver
            axes.plot(deficits, rows, MARKERS[number], color=COLOURS[number], label=label, markersize=6)
    axes.set_yticks(range(len(names)), [f"{name} ({sizes[name]:,} edges)" for name in names])
    axes.set_xscale("symlog", linthresh=SMALLEST_DEFICIT)
    axes.set_xlim(left=-SMALLEST_DEFICIT / 3)
    axes.set_xlabel("relative distance below the best cut known or found")
    axes.set_title(f"Cuts after {longest[0]:g} s on {longest[1]} thread(s)")
    axes.grid(axis="both", alpha=0.25)
    axes.legend(loc="best", fontsize=8)
    return figure


def draw_gaps(records: list[Record]) -> Figure:
    """Seconds to the certified gap, one row a graph: medians, with a bar over the range."""
    target = max(record["target_gap"] for record in records)
    groups: dict[str, dict[str, list[float | None]]] = {}
    for record in records:
        if record["target_gap"] == target:
            groups.setdefault(record["graph"], {}).setdefault(record["method"], []).append(record["seconds"])
    names = list(groups)
    methods = [gaps.OURS_WHOLE, gaps.OURS_LIKE, *METHODS]
    figure, axes = plt.subplots(figsize=(8, 1.8 + 0.55 * len(names)), layout="constrained")
    for number, method in enumerate(methods):
        points = [
            (row + 0.09 * (number - 3.5), spread(seconds))
            for row, name in enumerate(names)
            if (seconds := [taken for taken in groups[name].get(method, []) if taken is not None])
        ]
        if points:
            medians = [found.median for _, found in points]
            reach = [
                [found.median - found.low for _, found in points],
                [found.high - found.median for _, found in points],
            ]
            axes.errorbar(
                medians,
                [row for row, _ in points],
                xerr=reach,
                fmt=MARKERS[number],
                color=COLOURS[number],
                label=method,
                markersize=5,
                capsize=2,
                linewidth=1,
            )
    axes.set_yticks(range(len(names)), names)
    axes.set_xscale("log")
    axes.set_xlabel(f"seconds to a certified relative gap of {target:g} (not reached: no mark)")
    axes.grid(alpha=0.25)
    axes.legend(
        fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.35 if len(names) < 5 else -0.16), ncols=2
    )
    return figure


def draw_scaling(records: list[Record]) -> Figure:
    """Four panels over the number of edges: seconds, seconds an edge, annealing rate, memory."""
    figure, panels = plt.subplots(2, 2, figsize=(9, 6.5), layout="constrained")
    quantities: list[tuple[Axes, str, Callable[[Record], Any]]] = [
        (panels[0, 0], "seconds to the certified gap", lambda run: run["seconds"]),
        (
            panels[0, 1],
            "microseconds an edge",
            lambda run: run["seconds"] and 1e6 * run["seconds"] / run["n_edges"],
        ),
        (panels[1, 0], "million spin updates a second", lambda run: run["spin_updates_per_second"] / 1e6),
        (panels[1, 1], "peak memory, MiB", lambda run: run["memory_peak_bytes"] / 2**20),
    ]
    families = list(dict.fromkeys(record["family"] for record in records))
    for axes, label, quantity in quantities:
        for number, family in enumerate(families):
            sizes: dict[int, list[float]] = {}
            for run in records:
                if run["family"] == family and quantity(run) is not None:
                    sizes.setdefault(run["edges_asked"], []).append(quantity(run))
            edges = sorted(sizes)
            found = [spread(sizes[size]) for size in edges]
            axes.plot(
                edges,
                [point.median for point in found],
                MARKERS[number] + "-",
                color=COLOURS[number],
                label=family,
                markersize=4,
            )
            axes.fill_between(
                edges,
                [point.low for point in found],
                [point.high for point in found],
                color=COLOURS[number],
                alpha=0.15,
            )
        axes.set_xscale("log")
        if label in LINEAR:
            axes.set_ylim(bottom=0)
        else:
            axes.set_yscale("log")
        axes.set_xlabel("edges")
        axes.set_ylabel(label)
        axes.grid(alpha=0.25)
    panels[0, 0].legend(fontsize=8)
    return figure


def draw_timeline(records: list[Record]) -> Figure:
    """Predicted stages of a solve of the smallest graphs on every chip: where the time goes, and the device's part."""
    smallest = min(record["edges"] for record in records)
    whole = [r for r in records if r["part"] == gpu_model.SOLVE and r["edges"] == smallest]
    chosen = sorted(whole or [r for r in records if r["edges"] == smallest], key=lambda r: r["family"])
    figure, panels = plt.subplots(
        1, 2, figsize=(11, 2.6 + 0.24 * len(chosen)), sharey=True, layout="constrained"
    )
    by_place = [
        [{"name": place, "total": _total(r, place)} for place in ("host", "link", "device")] for r in chosen
    ]
    on_device = [[stage for stage in r["stages"] if stage["place"] == "device"] for r in chosen]
    for axes, bars, title in zip(panels, (by_place, on_device), ("all of it", "on the device"), strict=True):
        _draw_stages(axes, bars)
        axes.set_title(title)
        axes.set_xlabel("seconds")
        axes.grid(axis="x", alpha=0.25)
        axes.legend(
            fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.8 / (1.4 + 0.24 * len(chosen))), ncols=3
        )
    panels[0].set_yticks(range(len(chosen)), [f"{r['family']}, {r['chip']}" for r in chosen])
    panels[0].invert_yaxis()
    figure.suptitle(f"A solve of {smallest:,} edges: a model, not a measurement")
    return figure


def _draw_stages(axes: Axes, bars: list[list[Record]]) -> None:
    """One row of stages after one another for each bar; a colour a stage."""
    for number, name in enumerate(dict.fromkeys(stage["name"] for bar in bars for stage in bar)):
        spans = [
            (row, start, stage["total"])
            for row, bar in enumerate(bars)
            for stage, start in _starts(bar)
            if stage["name"] == name
        ]
        axes.barh(
            [row for row, _, _ in spans],
            [length for _, _, length in spans],
            left=[start for _, start, _ in spans],
            color=COLOURS[number % len(COLOURS)],
            label=name,
            height=0.7,
        )


def _total(record: Record, place: str) -> float:
    return float(sum(stage["total"] for stage in record["stages"] if stage["place"] == place))


def _starts(stages: list[Record]) -> list[tuple[Record, float]]:
    """Each stage with the second at which it begins."""
    ends = list(itertools.accumulate(stage["total"] for stage in stages))
    return list(zip(stages, [0.0, *ends[:-1]], strict=True))


DRAWINGS = {
    complexity.QUESTION: complexity.draw,
    cuts.QUESTION: draw_cuts,
    gaps.QUESTION: draw_gaps,
    gpu_model.QUESTION: draw_timeline,
    scaling.QUESTION: draw_scaling,
}


def draw_all(folder: Path = RESULTS_FOLDER) -> list[Path]:
    """Draw every question that has results; the files that were written."""
    written = []
    for question, draw in DRAWINGS.items():
        path = latest(question, folder)
        if path is not None and load(path):
            figure = draw(load(path))
            figure.savefig(path.with_suffix(".png"), dpi=DOTS_PER_INCH)
            plt.close(figure)
            written.append(path.with_suffix(".png"))
    return written


if __name__ == "__main__":
    for written_file in draw_all():
        print(written_file)
