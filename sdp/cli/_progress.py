"""The line that `sdp maxcut` keeps up to date while it works."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sdp.maxcut.words import UNKNOWN, bound_in_words, cut_in_words, share_in_words

if TYPE_CHECKING:
    from collections.abc import Callable

    from sdp.maxcut.solve import Progress


@contextmanager
def progress_line(time_limit: float, *, quiet: bool) -> Iterator[Callable[[Progress], bool] | None]:
    """A callback for `sdp.maxcut` that draws cut, bound, gap, stage and elapsed time.

    Yields:
        The callback, or None when standard error is no terminal or `quiet` is set: then nothing is drawn.
    """
    if quiet or not sys.stderr.isatty():
        yield None
        return

    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Display

    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("cut {task.fields[cut]}  bound {task.fields[bound]}  gap {task.fields[gap]}"),
    )
    with Display(*columns, console=Console(stderr=True), transient=True) as display:
        task = display.add_task("loading", total=time_limit, cut=UNKNOWN, bound=UNKNOWN, gap=UNKNOWN)

        def show(progress: Progress) -> bool:
            display.update(
                task,
                description=progress.stage,
                completed=min(progress.elapsed, time_limit),
                cut=cut_in_words(progress.cut_value),
                bound=bound_in_words(progress.upper_bound),
                gap=share_in_words(progress.gap),
            )
            return False

        yield show
