"""`sdp maxcut`: a large cut of a graph in a file, with a certified upper bound."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sdp.cli import _errors, _outputs
from sdp.cli._device import Device, check_device
from sdp.cli._progress import progress_line
from sdp.maxcut.words import bound_in_words, cut_in_words, share_in_words

if TYPE_CHECKING:
    from sdp.maxcut.graph import Graph
    from sdp.maxcut.solve import MaxCutResult

UNFOLDED = 10_000  # characters a line


def maxcut(
    graph: Annotated[
        Path,
        typer.Argument(
            metavar="GRAPH", help="File of the graph; `.gz` is unpacked on reading.", show_default=False
        ),
    ],
    graph_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="rudy, mtx, snap, metis or csv; read off the file itself if not given.",
        ),
    ] = None,
    time_limit: Annotated[float, typer.Option(metavar="SECONDS", help="Seconds of solving.")] = 60.0,
    target_gap: Annotated[
        float | None,
        typer.Option(metavar="GAP", help="Stop when (bound - cut) / |bound| is at most this."),
    ] = None,
    target_cut: Annotated[
        float | None, typer.Option(metavar="VALUE", help="Stop when the cut is at least this.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="INTEGER", help="Same seed, same stream of choices.")] = 0,
    threads: Annotated[
        int | None, typer.Option(metavar="COUNT", help="Threads; all of the machine's if not given.")
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="auto, hyperplanes, sosp, homotopy, conditional or anneal (bounds by exact rules only).",
        ),
    ] = "auto",
    bound_share: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Share of the time for the bound, in (0, 1); a quarter or 10 s if not given.",
        ),
    ] = None,
    reduce: Annotated[
        bool, typer.Option("--reduce/--no-reduce", help="Shrink the graph by exact rules first.")
    ] = True,
    device: Annotated[
        Device, typer.Option(help="Where to compute; auto takes a GPU that has room for the graph.")
    ] = Device.auto,
    warm_start: Annotated[
        Path | None, typer.Option(metavar="PARTITION", help="Start from this file of one 0 or 1 a line.")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep the state in this file; go on from it if it exists."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the partition, one 0 or 1 a line.")
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the partition, the bound and its proof, for `sdp verify`; gzipped JSON.",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw cut and bound against time, and a grid's partition."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON and nothing else.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress and no summary.")] = False,
) -> int:
    """Find a large cut of GRAPH, and prove how far from the largest it can be.

    Ctrl-C stops early and keeps the best cut found so far: the files are still written.
    """
    outputs = {"out": out, "plot": plot, "checkpoint": checkpoint, "certificate": certificate}
    _outputs.check(outputs, _check_plot, GRAPH=graph)
    check_device(device)
    # A time-out or a batch system sends SIGTERM; it means the same as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    with _errors.bad_input(), progress_line(time_limit, quiet=quiet) as callback:
        from sdp.maxcut import io

        problem = io.read_graph(graph, format=graph_format)
        start = None if warm_start is None else io.load_partition(warm_start, problem.n_vertices)

        from sdp.maxcut import solve  # brings torch, for which a bad file should not wait

        result = solve.maxcut(
            problem,
            time_limit=time_limit,
            target_gap=target_gap,
            target_cut=target_cut,
            seed=seed,
            threads=threads,
            method=method,
            warm_start=start,
            callback=callback,
            checkpoint=checkpoint,
            bound_share=bound_share,
            reduce=reduce,
            certificate=certificate,
            device=device.value,
        )

    _outputs.keep_signals_away()
    with _errors.bad_input():
        _write(result, problem, out=out, plot=plot)
    if as_json:
        print(json.dumps(result.to_dict(), allow_nan=False))
    elif not quiet:
        _summarise(
            result, {"partition": out, "plot": plot, "checkpoint": checkpoint, "certificate": certificate}
        )
    return _errors.INTERRUPTED if result.status == "interrupted" else _errors.SOLVED


def _check_plot(path: Path) -> None:
    from sdp.maxcut.plot import check_suffix

    check_suffix(path)


def _write(result: MaxCutResult, graph: Graph, *, out: Path | None, plot: Path | None) -> None:
    if out is not None:
        from sdp.maxcut.io import save_partition

        save_partition(out, result.partition)
    if plot is not None:
        from sdp.maxcut.plot import plot_history

        plot_history(result, plot, graph=graph)


def _summarise(result: MaxCutResult, files: dict[str, Path | None]) -> None:
    """Prints the result as a person wants to read it."""
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    name = f"{result.graph_name}, " if result.graph_name else ""
    table.add_row("graph", f"{name}{result.n_vertices:,} vertices, {result.n_edges:,} edges")
    table.add_row("cut", cut_in_words(result.cut_value))
    table.add_row("upper bound", _bound_in_words(result))
    table.add_row("gap", share_in_words(result.gap))
    table.add_row("status", result.status)
    table.add_row("device", f"{result.device} ({result.engine} engine)")
    table.add_row("seconds", ", ".join(f"{stage} {spent:.1f}" for stage, spent in result.timings.items()))
    for note in result.notes:
        table.add_row("note", note)
    for kind, path in files.items():
        if path is not None:
            table.add_row(kind, str(path))
    # In a file or a pipe nothing is folded: whoever reads it wants a path on one line.
    width = None if sys.stdout.isatty() else UNFOLDED
    Console(width=width, highlight=False, markup=False).print(table)


def _bound_in_words(result: MaxCutResult) -> str:
    if result.bound_kind == "none":
        return "none was certified"
    odds = "certain" if result.delta == 0 else f"wrong with probability at most {result.delta:g}"
    return f"{bound_in_words(result.upper_bound)} ({result.bound_kind}; {odds})"
