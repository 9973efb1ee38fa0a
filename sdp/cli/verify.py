"""`sdp verify`: whether a certificate proves what it claims about a graph."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from sdp.cli import _errors
from sdp.maxcut.words import bound_in_words, cut_in_words, share_in_words


@dataclass(frozen=True)
class Answer:
    """What was found.

    Attributes:
        accepted: whether every claim follows from its parts.
        reason: which part fails, or None.
        cut_value: of the partition given, in units of edge weight; None unless accepted, like all that follow.
        upper_bound: no cut is worth more.
        gap: (upper_bound - cut_value) / |upper_bound|, 0 where both are equal; None where the bound is 0.
        delta: probability that the bound is wrong, over the random numbers of its dual vectors.
        optimal: whether no cut is worth more than the partition given.
        seconds: spent on checking.
    """

    accepted: bool
    reason: str | None = None
    cut_value: float | None = None
    upper_bound: float | None = None
    gap: float | None = None
    delta: float | None = None
    optimal: bool | None = None
    seconds: float = 0.0


def verify(
    graph: Annotated[
        Path,
        typer.Argument(
            metavar="GRAPH", help="File of the graph; `.gz` is unpacked on reading.", show_default=False
        ),
    ],
    certificate: Annotated[
        Path,
        typer.Argument(
            metavar="CERTIFICATE", help="File from `sdp maxcut --certificate`.", show_default=False
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
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the answer as JSON and nothing else.")
    ] = False,
) -> int:
    """Check that CERTIFICATE proves what it claims about GRAPH, without the solver.

    The exit code is 0 if it does, 1 if it does not, and 2 if a file cannot be read.
    """
    with _errors.bad_input(), _progress() as show:
        answer = _answer(graph, certificate, graph_format, show)
    if as_json:
        print(json.dumps(asdict(answer), allow_nan=False))
    else:
        print(_in_words(graph.name, answer))
    return _errors.SOLVED if answer.accepted else _errors.FAILED


def _answer(
    path: Path, certificate: Path, graph_format: str | None, show: Callable[[str, int, int], None]
) -> Answer:
    from sdp.maxcut import _certificate_file, io
    from sdp.maxcut.verify import Checker, Rejected, rounded_up

    document = _certificate_file.load(certificate)
    graph = io.read_graph(path, format=graph_format)
    begin = time.perf_counter()
    stale = (
        "it was changed after it was written: its digest is another. "
        if _certificate_file.is_stale(document)
        else ""
    )
    checker = Checker()
    checker.progress = show
    try:
        cut, bound = checker.check(graph, document)
    except Rejected as rejected:
        return Answer(False, f"{stale}{rejected}", seconds=time.perf_counter() - begin)
    if stale:
        return Answer(False, stale.strip(), seconds=time.perf_counter() - begin)
    return Answer(
        True,
        cut_value=-rounded_up(-cut) + 0.0,
        upper_bound=rounded_up(bound),
        gap=0.0 if cut == bound else float((bound - cut) / abs(bound)) if bound else None,
        delta=checker.delta,
        optimal=cut == bound,
        seconds=time.perf_counter() - begin,
    )


def _in_words(name: str, answer: Answer) -> str:
    """The answer as a person wants to read it."""
    if not answer.accepted:
        return f"Rejected: {answer.reason}"
    assert answer.cut_value is not None
    assert answer.upper_bound is not None
    cut = f"The partition given is worth {cut_in_words(answer.cut_value)}"
    if answer.optimal:
        cut += ", so it is a maximum cut."
    elif answer.gap is not None:
        cut += f", {share_in_words(answer.gap)} below."
    else:
        cut += "."
    odds = "Deterministic." if not answer.delta else f"Wrong with probability {answer.delta:.3g} at most."
    return f"Proved: no cut of {name} is worth more than {bound_in_words(answer.upper_bound)}. {cut} {odds}"


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Draws how far the checker is, on standard error if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda stage, done, total: None
        return

    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as display:
        task = display.add_task("reading", total=None)
        yield lambda stage, done, total: display.update(task, description=stage, completed=done, total=total)
