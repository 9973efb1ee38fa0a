"""The checker of certificates. It shares no code with the solver and believes no number that it can work out itself.

Weights are integers of one power of two and sums are exact: in int64 where they fit, else in Python's integers. Only
dual vectors need float64; what it rounds is added. PROOFS.md, beside this file, says what each part proves and why.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from sdp.maxcut._verify_dual import dual_bound
from sdp.maxcut._verify_numbers import (
    Progress,
    Rejected,
    Weights,
    arrays,
    demand,
    fingerprint,
    integers,
    rounded_up,
    silent,
)
from sdp.maxcut._verify_reductions import reduced

_WIDEST = 24  # vertices that a table of the dynamic program may depend on
_NO_EDGES = np.empty(0, np.int64)
_MALFORMED = (
    LookupError,
    TypeError,
    ValueError,
    ArithmeticError,
    AttributeError,
    RecursionError,
    StopIteration,
)


@dataclass
class Checker:
    """Works out what a certificate proves, and compares it with every claim in it.

    `progress` is called with a stage, steps done and steps; `delta`, after `check`, is the chance of a wrong bound.
    """

    progress: Progress = silent
    delta: float = 0.0

    def agree(self, part: dict[str, Any], name: str, value: Any, slack: Fraction | None = None) -> Any:
        """The claim of this name, which must equal `value`, or lie above it by 2 slack at most."""
        claim = part[name]
        near = slack is not None and value <= claim <= value + 2 * slack
        well = near or (claim == value and type(claim) is type(value))
        demand(well, f"{part.get('kind', 'the whole')}: {name} {claim!r:.70} does not follow from its parts.")
        return claim

    def check(self, n: int, u: Any, v: Any, w: Any, document: dict[str, Any]) -> tuple[Fraction, Fraction]:
        """The exact value of the partition and of the bound. Raises Rejected, and nothing else for any document."""
        try:
            demand(document["graph"] == fingerprint(n, u, v, w), "the certificate speaks of another graph.")
            graph = Weights(n, u.astype(np.int64), v.astype(np.int64), *integers(w))
            side = np.frombuffer(document["partition"].encode(), np.uint8)
            demand(
                side.size == n and np.isin(side, (48, 49)).all(), "partition: not one 0 or 1 for each vertex."
            )
            cut = int(graph.w[side[graph.u] != side[graph.v]].sum()) * graph.unit
            self.agree(document, "cut_value", 0.0 - rounded_up(-cut))
            bound = self.prove(graph, document["proof"])
            self.agree(document, "upper_bound", rounded_up(bound))
            self.agree(document, "delta", self.delta)
        except _MALFORMED as error:
            raise Rejected(f"malformed ({type(error).__name__}: {error}).") from error
        return cut, bound

    def prove(self, graph: Weights, part: dict[str, Any], fixed: dict[int, bool] | None = None) -> Fraction:
        """The bound of one part, on those cuts of its graph that cut the fixed edges, or do not, as it says."""
        kinds: dict[str, Any] = {"branch": self._branch, "table": self._table, "split": self._split}
        kinds |= {"cycles": self._cycles, "reduced": self._reduced, "spectral": self._spectral}
        demand(not fixed or part["kind"] == "cycles", "branch: only cycles can be its leaves.")
        bound: Fraction = kinds[part["kind"]](graph, part, *([fixed] if fixed else []))
        self.agree(part, "value", str(bound))
        return bound - bound % graph.lattice if graph.lattice else Fraction(0)

    def _branch(self, graph: Weights, part: dict[str, Any]) -> Fraction:
        """The tree from its root, the side where an edge is cut before the other; -1 for a leaf."""
        waiting: list[dict[int, bool]] = [{}]
        bounds, leaves = [], iter(part["leaves"])
        for edge in arrays(part, tree="<i4")[0].tolist():
            fixed = waiting.pop()
            if edge == -1:
                bounds.append(self.prove(graph, next(leaves), fixed))
            else:
                demand(0 <= edge < graph.u.size and edge not in fixed, "branch: an edge is not free.")
                waiting += [{**fixed, edge: False}, {**fixed, edge: True}]
        demand(
            not waiting and len(bounds) == len(part["leaves"]), "branch: the tree and its leaves do not fit."
        )
        return max(bounds)

    def _cycles(self, graph: Weights, part: dict[str, Any], fixed: dict[int, bool] | None = None) -> Fraction:
        """sum_r lambda_r (|F_r| - 1) + sum_e max(0, w_e - (A^T lambda)_e), where e is not fixed."""
        lengths, members, marks, factors = arrays(
            part, lengths="<i4", members="<i4", F="|u1", multipliers="<f8"
        )
        fits = lengths.size == factors.size and lengths.sum() == members.size == marks.size
        sizes = (lengths > 0).all() and (members >= 0).all() and (marks <= 1).all()
        demand(fits and sizes, "cycles: the arrays do not fit together.")
        demand(
            (np.isfinite(factors) & (factors >= 0)).all(), "cycles: a multiplier is negative or not finite."
        )
        in_f = marks == 1
        row = np.repeat(np.arange(lengths.size), lengths)
        demand(np.unique(row * graph.u.size + members).size == row.size, "cycles: a row has an edge twice.")
        visited = np.concatenate([row * graph.n + ends[members] for ends in (graph.u, graph.v)])
        demand((np.unique(visited, return_counts=True)[1] % 2 == 0).all(), "cycles: a row is no cycle.")
        marked = np.bincount(row[in_f], minlength=lengths.size)
        demand((marked % 2 == 1).all(), "cycles: a row has an even number of edges in F.")
        factors, finest = integers(factors)
        unit = min(finest, graph.unit)
        by, row_by = int(graph.unit / unit), int(finest / unit)
        used = row_by * int((factors.astype(object) * lengths).sum())
        self.agree(part, "used", str(used * unit))  # the value alone may not change with a multiplier
        most = by * int(np.abs(graph.w).sum()) + 2 * used
        kind = np.int64 if max(most, by, row_by) < 2**62 else object
        left, factors = graph.w.astype(kind) * by, factors.astype(kind) * row_by
        np.subtract.at(left, members, np.where(in_f, factors[row], -factors[row]))
        counted = np.maximum(left, 0)
        for edge, is_cut in (fixed or {}).items():
            counted[edge] = left[edge] if is_cut else 0
        return (int(counted.sum()) + int((factors * (marked - 1)).sum())) * unit

    def _table(self, graph: Weights, part: dict[str, Any]) -> Fraction:
        """The maximum itself: one vertex after another is maximised out of a sum of tables."""
        (order,) = arrays(part, order="<i4")
        demand(np.array_equal(np.sort(order), np.arange(graph.n)), "table: not an order of all vertices.")
        place, total = np.argsort(order), 0
        near: list[dict[int, Any]] = [{} for _ in order]
        tables: list[list[Any]] = [[] for _ in order]
        for *ends, w in zip(place[graph.u].tolist(), place[graph.v].tolist(), graph.w, strict=True):
            near[min(ends)][max(ends)] = w + near[min(ends)].get(max(ends), 0)
        for here in range(graph.n):
            scope = sorted(set(near[here]).union(*(names[1:] for names, _ in tables[here])))
            demand(len(scope) <= _WIDEST, f"table: more than {_WIDEST} vertices at once.")
            cut = np.zeros(1, graph.w.dtype)  # at this vertex on side 0, by the sides of those in scope
            for x in reversed(scope):
                cut = np.add.outer(np.array([0, near[here].get(x, 0)], graph.w.dtype), cut).ravel()
            joint = np.stack([cut, cut[::-1]]).reshape([2] * (len(scope) + 1))
            for names, table in tables[here]:
                joint += table.reshape([2 if x in names else 1 for x in (here, *scope)])
            if scope:
                tables[scope[0]].append((scope, joint.max(axis=0)))
            else:
                total += int(joint.max())
            tables[here] = []
        return total * graph.unit

    def _split(self, graph: Weights, part: dict[str, Any]) -> Fraction:
        """Parts that share no edge and leave none out: their bounds add up."""
        own = [arrays(piece, edges="<i4")[0] for piece in part["parts"]]
        whole = np.array_equal(np.sort(np.concatenate([*own, _NO_EDGES])), np.arange(graph.u.size))
        demand(whole, "split: an edge is not in exactly one part.")
        total = Fraction(0)
        for edges, piece in zip(own, part["parts"], strict=True):
            names, ends = np.unique(np.concatenate([graph.u[edges], graph.v[edges]]), return_inverse=True)
            u, v = ends.reshape(2, -1)
            total += self.prove(Weights(names.size, u, v, graph.w[edges], graph.unit), piece["proof"])
        return total

    def _reduced(self, graph: Weights, part: dict[str, Any]) -> Fraction:
        """What the steps add to every cut, and the bound of what they leave."""
        constant, left = reduced(graph, part, self.progress)
        return constant + self.prove(left, part["proof"])

    def _spectral(self, graph: Weights, part: dict[str, Any]) -> Fraction:
        """The bound of a dual vector, for which float64 on other machines is allowed for."""
        bound, slack = dual_bound(graph, part, self.progress)
        self.delta += part["delta"]
        return Fraction(self.agree(part, "proved", bound, slack))
