"""The line that `sdp maxcut` keeps up to date while it works."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

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
        task = display.add_task("reading", total=time_limit, cut="-", bound="-", gap="-")

        def show(progress: Progress) -> bool:
            display.update(
                task,
                description=progress.stage,
                completed=min(progress.elapsed, time_limit),
                cut=number(progress.cut_value),
                bound=number(progress.upper_bound),
                gap=percent(progress.gap),
            )
            return False

        yield show


def number(value: float) -> str:
    """A value with as many digits as it needs; "-" for what is not known yet.

    >>> number(1449544.0), number(0.123456789), number(math.inf)
    ('1,449,544', '0.123457', '-')
    """
    if not math.isfinite(value):
        return "-"
    return f"{value:,.0f}" if value == round(value) and abs(value) < 1e15 else f"{value:,.6g}"


def percent(share: float) -> str:
    """A share in percent with three significant digits.

    >>> percent(0.0345678), percent(0.0), percent(math.inf)
    ('3.46%', '0%', '-')
    """
    return f"{100 * share:.3g}%" if math.isfinite(share) else "-"
