"""What `maxcut` checks before it starts: one sentence for each argument that is out of range."""

from __future__ import annotations

import math
from numbers import Integral, Real

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdp.maxcut.derandomize import METHODS as DERANDOMIZERS
from sdp.maxcut.graph import Graph

METHODS = ("auto", "hyperplanes", *DERANDOMIZERS, "anneal")


def check_types(
    time_limit: object,
    target_gap: object,
    target_cut: object,
    seed: object,
    delta: object,
    bound_share: object,
    max_rounds: object,
    threads: object,
    callback: object,
) -> None:
    """Refuses arguments of another type."""
    given: list[tuple[str, object, type, str]] = [
        ("time_limit", time_limit, Real, "a number"),
        ("seed", seed, Integral, "an integer"),
        ("delta", delta, Real, "a number"),
    ]
    optional: list[tuple[str, object, type, str]] = [
        ("target_gap", target_gap, Real, "a number"),
        ("target_cut", target_cut, Real, "a number"),
        ("bound_share", bound_share, Real, "a number"),
        ("max_rounds", max_rounds, Integral, "an integer"),
        ("threads", threads, Integral, "an integer"),
    ]
    given += [entry for entry in optional if entry[1] is not None]
    for name, value, kind, words in given:
        if not isinstance(value, kind) or isinstance(value, bool):
            raise TypeError(f"`{name}` must be {words}; got {type(value).__name__}.")
    if callback is not None and not callable(callback):
        raise TypeError(f"`callback` must be callable; got {type(callback).__name__}.")


def check_arguments(
    time_limit: float,
    target_gap: float | None,
    target_cut: float | None,
    seed: int,
    method: str,
    delta: float,
    bound_share: float | None,
    max_rounds: int | None,
) -> None:
    """Refuses numbers and names out of range."""
    if not time_limit > 0:
        raise ValueError(f"`time_limit` must be a positive number of seconds; got {time_limit}.")
    if math.isinf(time_limit) and max_rounds is None and target_gap is None and target_cut is None:
        raise ValueError("`time_limit` may be infinite only with `max_rounds`, `target_gap` or `target_cut`.")
    if target_gap is not None and not 0 <= target_gap < math.inf:
        raise ValueError(f"`target_gap` must be finite and at least 0; got {target_gap}.")
    if target_cut is not None and not math.isfinite(target_cut):
        raise ValueError(f"`target_cut` must be finite; got {target_cut}.")
    if not 0 <= seed < 2**31:
        raise ValueError(f"`seed` must lie in [0, 2^31); got {seed}.")
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(METHODS)}; got {method!r}.")
    if not 0 < delta < 1:
        raise ValueError(f"`delta` must lie in (0, 1); got {delta}.")
    if bound_share is not None and not 0 < bound_share < 1:
        raise ValueError(f"`bound_share` must lie in (0, 1); got {bound_share}.")
    if max_rounds is not None and max_rounds < 0:
        raise ValueError(f"`max_rounds` must be at least 0; got {max_rounds}.")


def check_threads(threads: int | None) -> int:
    """The number of threads to use; all that numba has when None."""
    most = int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    if threads is None:
        return int(numba.get_num_threads())
    if not 1 <= threads <= most:
        raise ValueError(f"`threads` must lie in 1 to {most}, the threads of this machine; got {threads}.")
    return int(threads)


def check_warm_start(graph: Graph, partition: ArrayLike) -> NDArray[np.uint8]:
    """The partition to start from, uint8 (n,) of 0 and 1."""
    sides = np.asarray(partition)
    if sides.dtype.kind not in "biuf":
        raise TypeError(f"`warm_start` must hold 0 and 1, -1 and +1 or booleans; got {sides.dtype}.")
    try:
        graph.cut_value(sides)
    except ValueError as error:
        raise ValueError(f"`warm_start`: {error}") from error
    return (sides > 0).astype(np.uint8)
