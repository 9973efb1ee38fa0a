"""`sdp embed`: rows of any size from file to file, each embedded in fewer dimensions."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sdp.cli import _errors

if TYPE_CHECKING:
    from sdp.jl.maps import Map
    from sdp.jl.quality import Quality
    from sdp.jl.sources import Source
    from sdp.jl.stream import EmbedResult

CHECKED_BYTES = 64 << 20  # of rows that `--check` holds, float64
CHECKED_ROWS = 1000
MOST_CHECKED_BYTES = 1 << 30  # of the two rows that a check needs at least
LEARNED_BYTES = 1 << 30  # of rows, float64, that a map may be learned from


class Kind(str, Enum):
    """Kinds of maps, as the command line spells them; `sdp.jl.maps.KINDS` in the library."""

    sparse = "sparse"
    gaussian = "gaussian"
    rademacher = "rademacher"
    srht = "srht"
    learned = "learned"


def embed(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            help="Rows: .npy, CSR .npz, .parquet, .arrow, .h5, .zarr, .csv, or a folder of them.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Argument(metavar="OUT", help="A .npy, .parquet, .h5 or .zarr.", show_default=False)
    ],
    kind: Annotated[Kind | None, typer.Option(help="The map.", show_default="sparse")] = None,
    n_components: Annotated[
        int | None, typer.Option("--n-components", metavar="K", help="Columns of OUT.")
    ] = None,
    eps: Annotated[
        float | None,
        typer.Option(metavar="EPS", help="Or the distortion to keep all distances within, in (0, 1)."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="INTEGER", help="Same seed, same map.", show_default="0")
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(metavar="SIDECAR", help="Use the map of an earlier OUT.json instead."),
    ] = None,
    chunk_rows: Annotated[
        int | None, typer.Option("--chunk-rows", metavar="N", help="Rows a block; 12 MB if not given.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from what a stopped run left; the bytes are the same.")
    ] = False,
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which array of an HDF5 file or zarr group.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Then measure how well distances between sampled rows were kept.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw what `--check` measured.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON and nothing else.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress and no summary.")] = False,
) -> int:
    """Embed the rows of IN into OUT, and write beside it OUT.json, which names the map.

    IN may be larger than memory. A killed run loses little: the same command with `--resume` goes on.
    """
    # A time-out or a batch system sends SIGTERM; it means the same as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _check_options(like, kind, n_components, eps, seed, check, plot)
    seed = 0 if seed is None else seed
    try:
        with _errors.bad_input(), _progress(quiet=quiet) as progress:
            result, quality = _embed(
                source,
                output,
                choose=lambda rows: _map(rows, (kind or Kind.sparse).value, n_components, eps, seed, like),
                dataset=dataset,
                chunk_rows=chunk_rows,
                resume=resume,
                checked=seed if check else None,
                plot=plot,
                progress=progress,
            )
    except ModuleNotFoundError as error:
        raise _errors.CommandError(_errors.sentence_of(error)) from error
    except KeyboardInterrupt:
        raise _errors.CommandError(
            "interrupted; `--resume` goes on from the last rows recorded.", _errors.INTERRUPTED
        ) from None
    if as_json:
        print(json.dumps({**result.to_dict(), "quality": quality.to_dict() if quality else None}))
    elif not quiet:
        _summarise(result, quality, plot)
    return _errors.SOLVED


def _check_options(
    like: Path | None,
    kind: Kind | None,
    n_components: int | None,
    eps: float | None,
    seed: int | None,
    check: bool,
    plot: Path | None,
) -> None:
    if like is not None and any(given is not None for given in (kind, n_components, eps, seed)):
        raise _errors.CommandError(
            "`--like` names the map; leave out `--kind`, `--n-components`, `--eps` and `--seed`."
        )
    if n_components is not None and eps is not None:
        raise _errors.CommandError("give `--n-components` or `--eps`, not both.")
    if eps is not None and not 0.0 < eps < 1.0:
        raise _errors.CommandError(f"`--eps` must lie in (0, 1); got {eps}.")
    if plot is not None and not check:
        raise _errors.CommandError("`--plot` draws what `--check` measures; give both.")
    if plot is not None and (plot.suffix.lower() not in (".png", ".svg", ".pdf") or not plot.parent.is_dir()):
        raise _errors.CommandError(
            f"`--plot` must name a .png, .svg or .pdf in a folder that exists; got {plot}."
        )


def _embed(
    path: Path,
    output: Path,
    *,
    choose: Callable[[Source], Map],
    dataset: str | None,
    chunk_rows: int | None,
    resume: bool,
    checked: int | None,
    plot: Path | None,
    progress: Callable[[int, int], None] | None,
) -> tuple[EmbedResult, Quality | None]:
    """The stream itself, and what a sample of its rows says if `checked`, the sample's seed, is given."""
    from sdp.jl.sinks import check_output
    from sdp.jl.sources_extra import open_source

    check_output(output)
    rows = open_source(path, dataset)
    if checked is not None and 2 * 8 * rows.n_features > MOST_CHECKED_BYTES:
        raise ValueError(
            f"`--check` forms rows one number a column; {rows.n_features} columns are too many for it."
        )

    from sdp.jl.stream import Places  # brings numba, for which a bad file should not wait
    from sdp.jl.stream import embed as embed_stream

    Places(output).refuse_input(rows)  # before a map is learned in vain
    result = embed_stream(rows, output, choose(rows), chunk_rows=chunk_rows, resume=resume, progress=progress)
    if checked is None:
        return result, None

    from sdp.jl.quality import measure, plot_quality, sampled_rows
    from sdp.jl.sinks import read_rows

    most = max(2, min(CHECKED_ROWS, CHECKED_BYTES // (8 * rows.n_features)))
    chosen = sampled_rows(rows.n_rows, most, seed=checked)
    quality = measure(rows.take(chosen), read_rows(output, chosen), names=chosen)
    if plot is not None and quality.n_pairs:  # the rows are written: that nothing can be drawn is no failure
        plot_quality(quality, plot)
    return result, quality


def _map(
    rows: Source, kind: str, n_components: int | None, eps: float | None, seed: int, like: Path | None
) -> Map:
    from sdp.jl.maps import Map
    from sdp.jl.stream import load_map

    if like is not None:
        return load_map(like)
    if kind == "learned":
        return _learned_map(rows, n_components, eps, seed)
    if n_components is None:
        from sdp.jl.dimension import johnson_lindenstrauss_min_dim  # brings scipy's 18 MB

        n_components = johnson_lindenstrauss_min_dim(max(rows.n_rows, 1), eps=0.1 if eps is None else eps)
        if n_components >= rows.n_features:
            raise ValueError(
                f"{rows.n_rows} rows ask for {n_components} components to keep all distances, as many as the "
                f"{rows.n_features} columns there are or more; choose a larger `--eps`, or `--n-components`."
            )
    return Map(kind, rows.n_features, n_components, seed)


def _learned_map(rows: Source, n_components: int | None, eps: float | None, seed: int) -> Map:
    """A map learned from all rows, which have to fit in memory."""
    import numpy as np

    from sdp.jl.learned import LearnedJL
    from sdp.jl.maps import Map

    if rows.n_rows * rows.n_features * 8 > LEARNED_BYTES:
        raise ValueError(
            f"a map is learned from at most {LEARNED_BYTES >> 20} MB of rows; learn it from some, and embed all by "
            "`--like` with the sidecar of those."
        )
    if rows.n_rows < 2:
        raise ValueError(f"a map is learned from pairs of rows; {rows.name} has {rows.n_rows}.")
    points = rows.take(np.arange(rows.n_rows))
    if not np.isfinite(points).all():
        row, column = np.argwhere(~np.isfinite(points))[0]
        raise ValueError(f"{rows.name}, row {row}: column {column} is NaN or infinite.")
    fitted = LearnedJL(
        "auto" if n_components is None else n_components, eps=0.1 if eps is None else eps, random_state=seed
    ).fit(points)
    return Map("learned", rows.n_features, fitted.n_components_, matrix=fitted.components_)


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A callback that draws rows done, speed and time left; None when standard error is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("rows"), BarColumn(bar_width=20), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as display:
        task = display.add_task("rows", total=None)
        yield lambda done, total: display.update(task, completed=done, total=total)


def _summarise(result: EmbedResult, quality: Quality | None, plot: Path | None) -> None:
    resumed = f", {result.resumed_at:,} of them by an earlier run" if result.resumed_at else ""
    lines = [
        ("rows", f"{result.n_rows:,}{resumed}"),
        ("columns", f"{result.n_features:,} to {result.n_components:,}, {result.dtype}"),
        ("map", f"{result.kind}, seed {result.seed}"),
        ("seconds", f"{result.seconds:.1f}"),
        ("output", result.output),
        ("sidecar", result.sidecar),
        ("sha256", result.sha256),
    ]
    if quality is not None:
        lines += quality.in_words()
    if plot is not None:
        is_drawn = quality is not None and quality.n_pairs
        lines.append(("plot", str(plot) if is_drawn else "none: no pair of rows to draw"))
    for name, said in lines:
        print(f"{name:<12} {said}")
