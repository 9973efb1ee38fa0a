"""`sdp discover`: the first layer of a network becomes low-rank while all of it is trained."""

from __future__ import annotations

import json
import math
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdp.cli import _errors, _outputs

if TYPE_CHECKING:
    from sdp.optim.certificate import Certificate
    from sdp.optim.structure import StructureRecord, StructureResult

UNFOLDED = 10_000  # characters a line
BAR = 40  # characters of the longest singular value's bar
SHOWN_BEYOND = 5  # singular values shown after the teacher's rank
EVENTS = 8  # lines of history in the summary
DIVERGED = _errors.FAILED
CERTIFICATE_SAMPLES, CERTIFICATE_DELTA = 1 << 13, 0.01


def discover(
    dim: Annotated[int, typer.Option(metavar="D", help="Entries of the input x.")] = 1024,
    rank: Annotated[int, typer.Option(metavar="R", help="Directions the labels depend on.")] = 3,
    width: Annotated[int, typer.Option(metavar="K", help="Units of each hidden layer of the student.")] = 256,
    depth: Annotated[int, typer.Option(metavar="LAYERS", help="Hidden layers of the student.")] = 3,
    teacher: Annotated[
        str,
        typer.Option(metavar="NAME", help="network, sine, polynomial, product or none (labels are noise)."),
    ] = "network",
    task: Annotated[str, typer.Option(metavar="NAME", help="regression or classification.")] = "regression",
    activation: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="tanh, softplus, gelu, sigmoid, relu3, erf, phi_cdf, phi or identity; all are smooth.",
        ),
    ] = "tanh",
    iota: Annotated[float, typer.Option(metavar="IOTA", help="Sharpness of softplus.")] = 4.0,
    loss: Annotated[
        str | None, typer.Option(metavar="NAME", help="mse or logistic; by the task if not given.")
    ] = None,
    optimizer: Annotated[str, typer.Option(metavar="NAME", help="momentum, sgd, adam or pgd.")] = "momentum",
    lr: Annotated[
        float | None, typer.Option(metavar="RATE", help="Learning rate; the optimizer's own if not given.")
    ] = None,
    lam: Annotated[
        float, typer.Option(metavar="LAM", help="Weight decay of the first layer alone; 0 is the control.")
    ] = 1e-3,
    steps: Annotated[int, typer.Option(metavar="COUNT", help="Steps of the optimizer.")] = 6000,
    batch: Annotated[int, typer.Option(metavar="COUNT", help="Samples a step.")] = 256,
    n_train: Annotated[
        int | None,
        typer.Option(metavar="COUNT", help="Size of a fixed training set; fresh samples if not given."),
    ] = None,
    noise: Annotated[
        float | None, typer.Option(metavar="SIGMA", help="Standard deviation of the labels' noise.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="INTEGER", help="Same seed, same run.")] = 0,
    certify: Annotated[
        bool,
        typer.Option(
            "--certify",
            help="Also bound the loss's curvature and W's part outside U by fresh samples; takes as long again.",
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Write all records, W and U as JSON.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw the spectrum over time, the alignment, and W."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON and nothing else.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress and no summary.")] = False,
) -> int:
    """Train a network on labels h(Ux) that depend on few directions, and watch its first layer find them.

    Every parameter is trained; weight decay acts on the first layer alone. Ctrl-C ends the run early and keeps it;
    while the certificate is computed, it ends that and keeps the run.
    """
    _outputs.check({"out": out, "plot": plot}, _check_plot)
    if certify and (lam <= 0 or noise or teacher == "none"):
        raise _errors.CommandError("`--certify` wants --lam above 0 and labels without noise.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _errors.bad_input():
        from sdp.optim import structure

        with _progress(steps, rank, quiet=quiet) as callback:
            result = structure.discover_structure(
                dim=dim, rank=rank, width=width, depth=depth, teacher=teacher, task=task, activation=activation,
                iota=iota, loss=loss, optimizer=optimizer, lr=lr, lam=lam, steps=steps, batch=batch,
                n_train=n_train, noise=noise, seed=seed, callback=callback,
            )  # fmt: skip
        bound, is_cut_short = None, result.status == "interrupted"
        if certify and result.status == "steps done":
            try:
                bound = _certificate(result)
            except KeyboardInterrupt:  # the run is done and worth as much without
                is_cut_short = True
                result = replace(result, notes=(*result.notes, "the certificate was interrupted"))

    _outputs.keep_signals_away()
    with _errors.bad_input():
        _write(result, bound, out=out, plot=plot)
    if as_json:
        print(json.dumps(_record(result, bound), allow_nan=False))
    elif not quiet:
        _summarise(result, bound, {"weights": out, "plot": plot})
    if result.status == "diverged":
        _errors.say(f"{result.notes[-1]}.")
        return DIVERGED
    return _errors.INTERRUPTED if is_cut_short else _errors.SOLVED


def _check_plot(path: Path) -> None:
    from sdp.optim.structure_plot import check_suffix

    check_suffix(path)


@contextmanager
def _progress(
    steps: int, rank: int, *, quiet: bool
) -> Iterator[Callable[[StructureRecord], bool | None] | None]:
    """A callback that draws the state of the run; None when standard error is no terminal or `quiet` is set."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("step {task.completed:,}"),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[state]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as display:
        task = display.add_task("", total=steps, state="")

        def show(record: StructureRecord) -> bool:
            share = record.spectrum.perp_share
            outside = "" if share is None else f"outside {share:.3f}  "
            values = " ".join(f"{value:.2g}" for value in record.spectrum.singular_values[: rank + 1])
            state = f"{outside}error {record.held_out_error:.2g}  values {values}"
            display.update(task, completed=record.step, state=state)
            return False

        yield show


def _certificate(result: StructureResult) -> Certificate:
    """Gradient and curvature over all x, not over the samples trained on."""
    from sdp.optim.sosp import certify

    return certify(result.expectation(CERTIFICATE_SAMPLES), result.options.lam, CERTIFICATE_DELTA)


def _record(result: StructureResult, bound: Certificate | None, *, weights: bool = False) -> dict[str, Any]:
    """What `--json` prints; the certificate where one was asked for."""
    record = result.to_dict(weights=weights)
    return record if bound is None else {**record, "certificate": bound.to_dict()}


def _write(
    result: StructureResult, bound: Certificate | None, *, out: Path | None, plot: Path | None
) -> None:
    if out is not None:
        from sdp.maxcut.io import atomic_write

        with atomic_write(out, "w") as file:
            json.dump(_record(result, bound, weights=True), file, allow_nan=False)
            file.write("\n")
    if plot is not None:
        from sdp.optim.structure_plot import plot_structure

        plot_structure(result, plot)


def _summarise(result: StructureResult, bound: Certificate | None, files: dict[str, Path | None]) -> None:
    """Prints the run as a person wants to read it."""
    from rich.console import Console
    from rich.table import Table

    # In a file or a pipe nothing is folded: whoever reads it wants a path on one line.
    console = Console(width=None if sys.stdout.isatty() else UNFOLDED, highlight=False, markup=False)
    console.print(_history(result))
    console.print()
    console.print(_values(result))
    console.print()
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    options = result.options
    table.add_row("visible rank", _rank_in_words(result))
    if result.perp_share is not None:
        table.add_row("outside U", f"{result.perp_share:.4g} of ||W|| = {result.spectrum.norm:.4g}")
    tail = result.spectrum.tail(options.rank)
    table.add_row("seen without U", f"at least {tail:.4g} lies outside any {options.rank} directions")
    error = f"{result.held_out_error:.3g}"
    kind = "wrong signs" if options.task == "classification" else "of the labels' variance"
    table.add_row("held-out error", f"{error} ({kind})")
    if bound is not None:
        table.add_row("certificate", _bound_in_words(result, bound))
    table.add_row("status", f"{result.status}, {result.steps:,} steps in {result.seconds:.1f} s")
    for note in result.notes:
        table.add_row("note", note)
    for kind, path in files.items():
        if path is not None:
            table.add_row(kind, str(path))
    console.print(table)


def _history(result: StructureResult) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("step", "||W_perp||/||W||", "largest angle", "stable rank", "held-out error"):
        table.add_column(name, justify="right", no_wrap=True)
    last = len(result.records) - 1
    chosen = sorted({round(place * last / (EVENTS - 1)) for place in range(EVENTS)})
    for record in (result.records[place] for place in chosen):
        found = record.spectrum
        angle = "-" if not found.angles else f"{math.degrees(found.angles[-1]):.2f}°"
        share = "-" if found.perp_share is None else f"{found.perp_share:.4f}"
        table.add_row(
            f"{record.step:,}", share, angle, f"{found.stable_rank:.2f}", f"{record.held_out_error:.2e}"
        )
    return table


def _values(result: StructureResult) -> Any:
    """The leading singular values with bars, those before the gap marked."""
    from rich.table import Table

    values = result.spectrum.singular_values
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    for place, value in enumerate(values[: result.options.rank + SHOWN_BEYOND], start=1):
        length = round(BAR * value / values[0]) if values[0] else 0
        mark = "█" if place <= result.visible_rank else "▒"
        table.add_row(f"s_{place}", f"{value:.4f}", mark * max(1, length))
    return table


def _rank_in_words(result: StructureResult) -> str:
    rank = result.visible_rank
    if not rank:
        return "none: no singular value is ten times the next"
    return f"{rank} (singular value {rank} is {result.spectrum.gap(rank):.3g} times the next)"


def _bound_in_words(result: StructureResult, bound: Certificate) -> str:
    """The lemma with its numbers: what is certified, what follows, and what was measured."""
    lemma = bound.lemma
    assert lemma is not None  # an expectation over Gaussian x always has one
    given = (
        f"gradient at most {bound.gradient.upper:.2g}, curvature in Wx + b at least {bound.curvature.lower:.2g}"
        f" (wrong with probability at most {bound.delta:g}): "
    )
    if not math.isfinite(lemma.w_bound):
        return f"{given}too little for the lemma to bound the part outside U"
    return f"{given}||W_perp|| is at most {lemma.w_bound:.3g}; measured {lemma.w_norm:.3g}"
