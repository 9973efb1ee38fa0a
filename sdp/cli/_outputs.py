"""Files that a command writes at its end: looked at before the work, and not torn by a signal."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from sdp.cli import _errors


def check(outputs: Mapping[str, Path | None], check_plot: Callable[[Path], None], **inputs: Path) -> None:
    """Stops before the work when its result could not be written after it.

    Args:
        outputs: by the name of their option; "plot" is the picture.
        check_plot: raises ValueError where a picture cannot have this ending; called only if there is one.
        inputs: by the name of their argument; no output may be one of them.
    """
    taken = {path.resolve(): name for name, path in inputs.items()}
    for option, path in outputs.items():
        if path is None:
            continue
        if not path.parent.is_dir():
            raise _errors.CommandError(f"`--{option}` names a file in {path.parent}, which is no folder.")
        if path.is_dir():
            raise _errors.CommandError(f"`--{option}` must name a file; {path} is a folder.")
        if path.resolve() in taken:
            raise _errors.CommandError(
                f"`--{option}` and {taken[path.resolve()]} name the same file, {path}."
            )
        taken[path.resolve()] = f"`--{option}`"
    plot = outputs.get("plot")
    if plot is not None:
        with _errors.bad_input():
            check_plot(plot)


def keep_signals_away() -> None:
    """The user who stopped the work wants its result: a second Ctrl-C must not tear the files."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
