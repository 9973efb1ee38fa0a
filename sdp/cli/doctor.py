"""`sdp doctor`: what is installed, which engine runs where, and whether tiny solves come out right.

The first solve compiles the CPU kernels; numba keeps the machine code on disk, so later runs start at once.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Annotated, Any

import typer

import sdp
from sdp.cli import _errors
from sdp.maxcut.words import bound_in_words, cut_in_words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sdp.maxcut.graph import Graph
    from sdp.maxcut.solve import MaxCutResult

REQUIRED = ("numpy", "scipy", "numba", "torch", "matplotlib", "rich", "typer")
OPTIONAL = {  # package -> what is not to be had without it, and how to get it
    "networkx": ("no graphs from networkx", "pip install 'sdp-kernels[graphs]'"),
    "igraph": ("no graphs from igraph", "pip install 'sdp-kernels[graphs]'"),
    "pyarrow": ("no Parquet nor Arrow files to embed", "pip install 'sdp-kernels[arrow]'"),
    "h5py": ("no HDF5 files to embed", "pip install 'sdp-kernels[hdf5]'"),
    "zarr": ("no zarr arrays to embed", "pip install 'sdp-kernels[zarr]'"),
}
DEVICES = ("cpu", "cuda")

SOLVE_SECONDS = 30.0  # each takes about one; so much, that a slow machine is not called a wrong one
MAX_ROUNDS = 100
_FEATURES, _COMPONENTS = 100, 64
_NORMS_OFF = 0.1  # 5 standard deviations of the mean of 100 squared lengths, each over 64 Gaussian components
DERANDOMISERS = ("sosp", "homotopy", "conditional")  # their kernels, too, are compiled here


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: what was looked at.
        found: what was seen, in words.
        state: "right", "missing" (something optional, or a device that is not there) or "wrong".
        advice: what to do about it; empty when nothing need be done.
    """

    name: str
    found: str
    state: str = "right"
    advice: str = ""


def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the findings as JSON and nothing else.")
    ] = False,
) -> int:
    """Say what is installed, which engine runs where, and whether tiny solves are right.

    The first run also compiles the CPU kernels, and later runs find them on disk.
    """
    findings = []
    for finding in _examine():
        findings.append(finding)
        if not as_json:
            _print(finding)
    is_right = all(finding.state != "wrong" for finding in findings)
    if as_json:
        print(json.dumps({"ok": is_right, "findings": [asdict(finding) for finding in findings]}))
    else:
        print("all is well." if is_right else "something is wrong: see the lines that begin with x.")
    return _errors.SOLVED if is_right else _errors.FAILED


def _print(finding: Finding) -> None:
    mark = {"right": " ", "missing": "-", "wrong": "x"}[finding.state]
    print(f"{mark} {finding.name:<18} {finding.found}", flush=True)
    if finding.advice:
        print(f"{'':<20} -> {finding.advice}", flush=True)


def _examine() -> Iterator[Finding]:
    yield Finding("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield Finding("sdp-kernels", sdp.__version__)
    complete = True
    for name in REQUIRED:
        finding = _required(name)
        complete = complete and finding.state == "right"
        yield finding
    if not complete:
        return  # nothing below can be loaded
    yield Finding("processors", f"{_n_processors()} for this process, {os.cpu_count()} in the machine")
    for device in DEVICES:
        yield _engine(device)
    yield _graphs()
    yield _triton()
    for name in OPTIONAL:
        yield _optional(name)
    yield from _solves()
    yield _embeddings()
    yield _threading_layer()


def _required(name: str) -> Finding:
    advice = f"pip install {name}"
    try:
        importlib.import_module(name)
        return Finding(name, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding(name, "of unknown version")
    except ImportError as error:
        return Finding(name, f"cannot be loaded: {error}", "wrong", advice)


def _optional(name: str) -> Finding:
    try:
        return Finding(name, metadata.version(name))
    except metadata.PackageNotFoundError:
        lost, advice = OPTIONAL[name]
        return Finding(name, f"not installed: {lost}", "missing", advice)


def _triton() -> Finding:
    """What the GPU engine is made with; its packages exist for Linux alone."""
    try:
        version = metadata.version("triton")
    except metadata.PackageNotFoundError:
        if platform.system() != "Linux":
            return Finding("triton", f"not made for {platform.system()}: the CPU engine does everything")
        lost = "not installed: no GPU engine, nor its interpreter"
        return Finding("triton", lost, "missing", "pip install triton; without a GPU, nothing to do")
    interprets = os.environ.get("TRITON_INTERPRET") == "1" or os.environ.get("SDP_ENGINE") == "interpret"
    return Finding("triton", f"{version}, {'interprets' if interprets else 'compiles'} kernels")


def _engine(device: str) -> Finding:
    from sdp_kernels.engines import engine_for

    try:
        return Finding(f"device {device}", f"the {engine_for(device)} engine")
    except ValueError as error:
        state = "wrong" if device == "cpu" else "missing"
        advice = "unset SDP_ENGINE" if "SDP_ENGINE" in os.environ else "use --device cpu, or leave it at auto"
        return Finding(f"device {device}", str(error), state, advice)


def _graphs() -> Finding:
    """Which engine solves graphs on which device, and which device they are solved on by default."""
    from sdp.maxcut.placement import choose, engine_on

    def place(device: str) -> str:
        try:
            return f"on {device} by the {engine_on(device)} engine"
        except ValueError:
            return f"not on {device}"

    try:
        default = choose("auto", "auto")
    except ValueError as error:
        return Finding("graphs", f"cannot be solved: {error}", "wrong", "unset SDP_ENGINE")
    places = ", ".join(place(device) for device in DEVICES)
    return Finding("graphs", f"solved {places}; --device auto takes {default.device.type}")


def _n_processors() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _threading_layer() -> Finding:
    """Which of its thread pools numba took; it only knows once a parallel kernel has run."""
    numba: Any = importlib.import_module("numba")
    try:
        return Finding("numba threads", f"{numba.get_num_threads()}, layer {numba.threading_layer()}")
    except ValueError:
        return Finding("numba threads", f"{numba.get_num_threads()}, no parallel kernel has run")


def _solves() -> Iterator[Finding]:
    """Graphs whose largest cut is known; the first solve of a process compiles or loads the kernels."""
    from sdp.maxcut import solve  # loading torch and the modules is not solving

    begin, compiling = time.perf_counter(), 0.0
    for known in _known_graphs():
        finding, seconds = _solve(known, solve.maxcut)
        compiling += seconds
        yield finding
    solving = time.perf_counter() - begin - compiling
    found = (
        f"{compiling:.1f} s to compile or load, {solving:.1f} s for these solves and what else they compiled"
    )
    yield Finding("kernels", found)


def _solve(known: _Known, maxcut: Callable[..., MaxCutResult]) -> tuple[Finding, float]:
    """What came of a solve, and the seconds that its kernels took to compile or load."""
    graph, largest = known.graph, known.largest_cut
    try:
        result = maxcut(graph, method=known.method, time_limit=SOLVE_SECONDS, seed=0, max_rounds=MAX_ROUNDS)
    except Exception as error:  # whatever it is, the doctor reports it and goes on
        found = f"failed: {type(error).__name__}: {error}"
        return Finding(known.name, found, "wrong", "please report this"), 0.0
    is_right = (
        result.cut_value == graph.cut_value(result.partition) == largest
        and largest <= result.upper_bound <= known.highest_bound
    )
    found = (
        f"cut {cut_in_words(result.cut_value)} of {cut_in_words(largest)}, "
        f"bound {bound_in_words(result.upper_bound)} ({result.bound_kind})"
    )
    state, advice = ("right", "") if is_right else ("wrong", "please report this")
    return Finding(known.name, found, state, advice), result.timings["compile"]


def _embeddings() -> Finding:
    """Unit vectors by each kind of map; what is compiled here takes no memory of the first `sdp embed`."""
    import numpy as np

    from sdp.jl.maps import KINDS, Map

    vectors = np.eye(_FEATURES, dtype=np.float32)
    wrong = []
    for kind in KINDS:
        if kind == "learned":
            continue
        try:
            project = Map(kind, _FEATURES, _COMPONENTS, seed=0)
            images = project.apply(vectors)
            keeps_norms = abs(float(np.square(images).sum(axis=1).mean()) - 1) < _NORMS_OFF
            if not keeps_norms or not np.array_equal(images[7:], project.apply(vectors[7:])):
                wrong.append(kind)
        except Exception as error:  # whatever it is, the doctor reports it and goes on
            wrong.append(f"{kind} ({type(error).__name__}: {error})")
    if wrong:
        return Finding("embeddings", f"wrong: {', '.join(wrong)}", "wrong", "please report this")
    return Finding("embeddings", f"unit vectors keep their length, by {len(KINDS) - 1} kinds of map")


@dataclass(frozen=True)
class _Known:
    """A graph, its largest cut, and what a bound from the relaxation may at most be."""

    name: str
    graph: Graph
    largest_cut: float
    highest_bound: float
    method: str = "auto"


def _known_graphs() -> Iterator[_Known]:
    """Two from the books, one signed and found by trying all cuts, triangles, too many for the dense bound.

    The relaxation's values are 4.52, 12.5, 28.66 and 2.25 a triangle; bounds are rounded down.
    """
    import numpy as np

    from sdp.maxcut.graph import Graph

    ring = np.arange(5)
    after = (ring + 1) % 5
    yield _Known("5-cycle", Graph.from_edges(ring, after), 4.0, 4.0)
    outer, spokes, star = (ring, after), (ring, ring + 5), (ring + 5, (ring + 2) % 5 + 5)
    tails, heads = np.hstack([outer, spokes, star])
    yield _Known("Petersen graph", Graph.from_edges(tails, heads), 12.0, 12.0)
    tails, heads = np.triu_indices(12, k=1)
    weights = np.random.default_rng(0).integers(-3, 4, tails.size).astype(np.float64)
    largest = _largest_cut(tails, heads, weights, 12)
    yield _Known("signed K12", Graph.from_edges(tails, heads, weights), largest, 28.0)
    # The relaxation does not close a triangle's gap, so that rounding has something to do.
    for method in DERANDOMISERS:
        yield _Known(f"by {method}", _triangles(20), 40.0, 45.0, method)
    yield _Known("700 triangles", _triangles(700), 1400.0, 1577.0, "hyperplanes")


def _triangles(count: int) -> Graph:
    import numpy as np

    from sdp.maxcut.graph import Graph

    first = 3 * np.arange(count)
    return Graph.from_edges(*np.hstack([(first, first + 1), (first + 1, first + 2), (first + 2, first)]))


def _largest_cut(
    tails: NDArray[np.int64], heads: NDArray[np.int64], weights: NDArray[np.float64], n: int
) -> float:
    """The largest cut by trying all 2^(n - 1) partitions, in the edge list's own terms."""
    import numpy as np

    sides = np.arange(2 ** (n - 1))[:, None] >> np.arange(n) & 1
    return float(((sides[:, tails] != sides[:, heads]) @ weights).max())
