"""What a solve returns, and what it tells while it runs."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdp.maxcut.words import bound_in_words, cut_in_words, share_in_words


@dataclass(frozen=True)
class Progress:
    """State of a running solve.

    Attributes:
        elapsed: seconds since the start.
        stage: "reduce", "prepare", "cycles", "program", "relax", "round",
            "polish" or "certificate".
        cut_value: best cut so far, in units of edge weight.
        upper_bound: best certified bound so far, infinite before the first.
        gap: as `MaxCutResult.gap`.
    """

    elapsed: float
    stage: str
    cut_value: float
    upper_bound: float
    gap: float


@dataclass(frozen=True, repr=False, eq=False)
class MaxCutResult:
    """A cut and its certified upper bound.

    Attributes:
        cut_value: sum of w over the edges cut, in units of edge weight.
        partition: uint8 (n,) of 0 and 1, in vertex order.
        upper_bound: no cut is worth more; infinite when nothing was certified.
        gap: (upper_bound - cut_value) / |upper_bound|, 0 where both are equal, infinite without a bound.
        bound_kind: "chebyshev" or "dense" (the relaxation's dual, certified by the block Chebyshev method or by all
            eigenvalues), "matching", "cycle packing", "cycle LP" or "branch and cut" (frustrated cycles; joined by
            " + " where blocks differ), "exact reduction" (nothing was left to bound), "sum of positive weights", or
            "none".
        delta: probability that the bound is wrong, over the solver's own random numbers; 0 if it is deterministic.
        relaxation_value: of the low-rank relaxation's V, in units of edge weight; NaN if there was none.
        status: "optimal" (the cut meets the bound), "target reached", "time limit", "rounds done" or "interrupted".
        history: (seconds, cut_value, upper_bound) at every improvement of either.
        timings: seconds by stage; "compile" is spent before the clock starts.
        seed: of all random numbers.
        method: as asked for.
        threads: used.
        device: where relaxation, bound and local search were computed: "cpu" or "cuda".
        engine: that computed them: "cpu", "triton", or "interpret", as `SDP_ENGINE` may ask.
        graph_name: of the graph, "" if it has none.
        n_vertices: of the graph.
        n_edges: of the graph.
        notes: what was dropped, summed, rounded or carried over, in words.
    """

    cut_value: float
    partition: NDArray[np.uint8]
    upper_bound: float
    gap: float
    bound_kind: str
    delta: float
    relaxation_value: float
    status: str
    history: tuple[tuple[float, float, float], ...]
    timings: dict[str, float]
    seed: int
    method: str
    threads: int
    device: str
    engine: str
    graph_name: str
    n_vertices: int
    n_edges: int
    notes: tuple[str, ...]

    @property
    def bound_is_deterministic(self) -> bool:
        """Whether the bound holds whatever the solver's random numbers: `delta` is 0."""
        return self.delta == 0.0

    def to_dict(self, partition: bool = False) -> dict[str, Any]:
        """All fields and `bound_is_deterministic`, ready for JSON: infinite and NaN become None.

        Args:
            partition: whether it is among them, as 0 and 1.
        """
        record: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "partition":
                if partition:
                    record["partition"] = value.tolist()
            elif field.name == "history":
                record["history"] = [[_json_number(number) for number in row] for row in value]
            elif field.name == "notes":
                record["notes"] = list(value)
            else:
                record[field.name] = _json_number(value) if isinstance(value, float) else value
        record["bound_is_deterministic"] = self.bound_is_deterministic
        return record

    def __repr__(self) -> str:
        named = f" of {self.graph_name}" if self.graph_name else ""
        bound = "no certified bound"
        if math.isfinite(self.upper_bound):
            bound = f"at most {bound_in_words(self.upper_bound)}, gap {share_in_words(self.gap)}"
        return f"<MaxCutResult{named}: cut {cut_in_words(self.cut_value)}, {bound}; {self.status}>"


def relative_gap(cut_value: float, upper_bound: float) -> float:
    """(upper_bound - cut_value) / |upper_bound|; 0 where both are equal, infinite without a bound."""
    if upper_bound == cut_value:
        return 0.0
    if not math.isfinite(upper_bound) or upper_bound == 0:
        return math.inf
    return (upper_bound - cut_value) / abs(upper_bound)


def _json_number(value: float) -> float | None:
    return value if math.isfinite(value) else None
