"""The checker of certificates. It shares no code with the solver and believes no number that it can work out itself.

Weights are integers of one power of two and sums are exact: in int64 where they fit, else in Python's integers. Only
dual vectors need float64; what it rounds is added. PROOFS.md, beside this file, says what each part proves and why.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from sdp.maxcut._verify_dual import certified

_WIDEST = 24  # vertices that a table of the dynamic program may depend on
_HALVINGS = 40  # of the unit by reductions, before weights are rounded up
_TOLERANCE = 1e-11  # of the sum of |w|: what other machines' float64 may make of a dual vector's bound
_NO_EDGES = np.empty(0, np.int64)


class Rejected(Exception):  # noqa: N818 - it is an answer
    """The certificate does not prove what it claims; the sentence says which part fails."""


@dataclass(frozen=True, eq=False)
class Weights:
    """A graph of n vertices: edge e joins u[e] < v[e] and weighs w[e] unit; w is int64 or Python's integers."""

    n: int
    u: Any
    v: Any
    w: Any
    unit: Fraction

    @cached_property
    def lattice(self) -> Fraction:
        """Every cut is a multiple of this: cut(S) = sum_{v in S} degree(v) - 2 w(edges inside S)."""
        degrees = np.zeros(self.n, self.w.dtype)
        np.add.at(degrees, np.concatenate([self.u, self.v]), np.concatenate([self.w, self.w]))
        return int(np.gcd.reduce(np.concatenate([degrees, 2 * self.w]), initial=0)) * self.unit


def integers(x: Any) -> tuple[Any, Fraction]:
    """Finite floats as integers of the coarsest power of two: int64 if all sums of them fit."""
    mantissas, exponents = np.frexp(x[x != 0])
    whole = np.abs(np.ldexp(mantissas, 53)).astype(np.int64)
    low = int((exponents - 53 + np.log2(whole & -whole)).min()) if whole.size else 0
    if whole.size and int(exponents.max()) - low + math.log2(whole.size) >= 60:
        return np.array([int(Fraction(y) / Fraction(2) ** low) for y in x.tolist()], object), Fraction(
            2
        ) ** low
    return np.ldexp(x, -low).astype(np.int64), Fraction(2) ** low


def rounded_up(value: Fraction) -> float:
    """The least float64 that is not below."""
    return float(value) if Fraction(float(value)) >= value else math.nextafter(float(value), math.inf)


def fingerprint(n: int, u: Any, v: Any, w: Any) -> dict[str, Any]:
    """Of the graph of edges u[e] < v[e] (integers), sorted, and weights w[e] (float64)."""
    data = b"".join(np.asarray(x, kind).tobytes() for x, kind in ((u, "<i8"), (v, "<i8"), (w + 0.0, "<f8")))
    return {"vertices": n, "edges": len(u), "sha256": hashlib.sha256(data).hexdigest()}


def _arrays(part: dict[str, Any], **kinds: str) -> list[Any]:
    arrays = [
        np.frombuffer(base64.b64decode(part[name], validate=True), kind) for name, kind in kinds.items()
    ]
    return [array.astype(np.int64) if array.dtype.kind == "i" else array for array in arrays]


def _demand(condition: Any, sentence: str) -> None:
    if not condition:
        raise Rejected(sentence)


def silent(stage: str, done: int, total: int) -> None:
    """No progress shown."""


@dataclass
class Checker:
    """Works out what a certificate proves, and compares it with every claim in it.

    `progress` is called with a stage, steps done and steps; `delta`, after `check`, is the chance of a wrong bound.
    """

    progress: Callable[[str, int, int], None] = silent
    delta: float = 0.0

    def agree(self, part: dict[str, Any], name: str, value: Any, slack: Any = 0) -> Any:
        """The claim of this name, which must equal `value`, or lie above it by 2 slack at most."""
        claim = part[name]
        well = value <= claim <= value + 2 * slack if slack else claim == value and type(claim) is type(value)
        _demand(
            well, f"{part.get('kind', 'the whole')}: {name} {claim!r:.70} does not follow from its parts."
        )
        return claim

    def check(self, n: int, u: Any, v: Any, w: Any, document: dict[str, Any]) -> tuple[Fraction, Fraction]:
        """The exact value of the partition and of the bound. Raises Rejected, and nothing else for any document."""
        try:
            _demand(document["graph"] == fingerprint(n, u, v, w), "the certificate speaks of another graph.")
            graph = Weights(n, u.astype(np.int64), v.astype(np.int64), *integers(w))
            side = np.frombuffer(document["partition"].encode(), np.uint8)
            _demand(
                side.size == n and np.isin(side, (48, 49)).all(), "partition: not one 0 or 1 for each vertex."
            )
            cut = int(graph.w[side[graph.u] != side[graph.v]].sum()) * graph.unit
            self.agree(document, "cut_value", 0.0 - rounded_up(-cut))
            bound = self.prove(graph, document["proof"], {})
            self.agree(document, "upper_bound", rounded_up(bound))
            self.agree(document, "delta", self.delta)
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError) as error:
            raise Rejected(f"malformed ({type(error).__name__}: {error}).") from error
        return cut, bound

    def prove(self, graph: Weights, part: dict[str, Any], fixed: dict[int, bool]) -> Fraction:
        """The bound of one part on those cuts of its graph that cut the fixed edges, or do not, as it says."""
        kinds: dict[str, Any] = {"cycles": self._cycles, "branch": self._branch}
        if not fixed:
            kinds |= {
                "table": self._table,
                "split": self._split,
                "reduced": self._reduced,
                "spectral": self._spectral,
            }
        bound: Fraction = kinds[part["kind"]](graph, part, fixed)
        self.agree(part, "value", str(bound))
        return bound - bound % graph.lattice if graph.lattice else Fraction(0)

    def _branch(self, graph: Weights, part: dict[str, Any], fixed: dict[int, bool]) -> Fraction:
        edge = part["edge"]
        _demand(
            type(edge) is int and 0 <= edge < graph.u.size and edge not in fixed,
            "branch: its edge is not free.",
        )
        cut, uncut = ({**fixed, edge: is_cut} for is_cut in (True, False))
        return max(self.prove(graph, part["cut"], cut), self.prove(graph, part["uncut"], uncut))

    def _cycles(self, graph: Weights, part: dict[str, Any], fixed: dict[int, bool]) -> Fraction:
        """sum_r lambda_r (|F_r| - 1) + sum_e max(0, w_e - (A^T lambda)_e), where e is not fixed."""
        lengths, members, in_f, factors = _arrays(
            part, lengths="<i4", members="<i4", F="|b1", multipliers="<f8"
        )
        fits = (
            lengths.size == factors.size
            and lengths.sum() == members.size == in_f.size
            and (lengths > 0).all()
        )
        _demand(fits and (members >= 0).all(), "cycles: the arrays do not fit together.")
        _demand(
            (np.isfinite(factors) & (factors >= 0)).all(), "cycles: a multiplier is negative or not finite."
        )
        row = np.repeat(np.arange(lengths.size), lengths)
        _demand(np.unique(row * graph.u.size + members).size == row.size, "cycles: a row has an edge twice.")
        visited = np.concatenate([row * graph.n + ends[members] for ends in (graph.u, graph.v)])
        _demand((np.unique(visited, return_counts=True)[1] % 2 == 0).all(), "cycles: a row is no cycle.")
        marked = np.bincount(row[in_f], minlength=lengths.size)
        _demand((marked % 2 == 1).all(), "cycles: a row has an even number of edges in F.")
        factors, finest = integers(factors)
        unit = min(finest, graph.unit)
        by, row_by = int(graph.unit / unit), int(finest / unit)
        most = by * int(np.abs(graph.w).sum()) + 2 * row_by * int((factors.astype(object) * lengths).sum())
        kind = np.int64 if max(most, by, row_by) < 2**62 else object
        left, factors = graph.w.astype(kind) * by, factors.astype(kind) * row_by
        np.subtract.at(left, members, np.where(in_f, factors[row], -factors[row]))
        counted = np.maximum(left, 0)
        for edge, is_cut in fixed.items():
            counted[edge] = left[edge] if is_cut else 0
        return (int(counted.sum()) + int((factors * (marked - 1)).sum())) * unit

    def _table(self, graph: Weights, part: dict[str, Any], fixed: dict[int, bool]) -> Fraction:
        """The maximum itself: one vertex after another is maximised out of a sum of tables."""
        (order,) = _arrays(part, order="<i4")
        _demand(np.array_equal(np.sort(order), np.arange(graph.n)), "table: not an order of all vertices.")
        place, total = np.argsort(order), 0
        tables: list[list[Any]] = [[] for _ in range(graph.n)]
        for *ends, w in zip(place[graph.u].tolist(), place[graph.v].tolist(), graph.w, strict=True):
            tables[min(ends)].append((sorted(ends), np.array([[w - w, w], [w, w - w]])))
        for here in range(graph.n):
            scope = sorted({here}.union(*(names for names, _ in tables[here])))
            _demand(len(scope) <= _WIDEST + 1, f"table: more than {_WIDEST} vertices at once.")
            joint = np.zeros([2] * len(scope), graph.w.dtype)
            for names, table in tables[here]:
                joint += table.reshape([2 if x in names else 1 for x in scope])
            tables[here] = []
            if len(scope) > 1:
                tables[scope[1]].append((scope[1:], joint.max(axis=0)))
            else:
                total += int(joint.max())
        return total * graph.unit

    def _split(self, graph: Weights, part: dict[str, Any], fixed: dict[int, bool]) -> Fraction:
        """Parts that share no edge and leave none out: their bounds add up."""
        own = [_arrays(piece, edges="<i4")[0] for piece in part["parts"]]
        whole = np.array_equal(np.sort(np.concatenate([*own, _NO_EDGES])), np.arange(graph.u.size))
        _demand(whole, "split: an edge is not in exactly one part.")
        total = Fraction(0)
        for edges, piece in zip(own, part["parts"], strict=True):
            names, ends = np.unique(np.concatenate([graph.u[edges], graph.v[edges]]), return_inverse=True)
            u, v = ends.reshape(2, -1)
            total += self.prove(Weights(names.size, u, v, graph.w[edges], graph.unit), piece["proof"], {})
        return total

    def _reduced(self, graph: Weights, part: dict[str, Any], fixed: dict[int, bool]) -> Fraction:
        """The steps done again, in units of 2^-40 unit, and the bound of the edges that they leave."""
        near: list[Any] = [{} for _ in range(graph.n)]
        constant = 0

        def add(a: int, b: int, w: int) -> None:
            w += near[a].pop(b, 0)
            near[b].pop(a, 0)
            if w:
                near[a][b] = near[b][a] = w

        for a, b, w in zip(graph.u.tolist(), graph.v.tolist(), graph.w.tolist(), strict=True):
            add(a, b, w << _HALVINGS)
        removed, rules, ends = _arrays(part, removed="<i4", rules="|i1", ends="<i4")
        steps = zip(removed.tolist(), rules.tolist(), ends.reshape(-1, 3).tolist(), strict=True)
        for step, (x, rule, (a, b, c)) in enumerate(steps):
            if step % 10000 == 0:
                self.progress("reductions", step, removed.size)
            _demand(rule in (1, 2, 3, 4, -4, 5, -5), f"reductions: step {step:,} has no such rule.")
            far = (a, b, c)[: rule if 0 < rule < 4 else 1]
            sound = min(x, *far) >= 0 and (a, b, c)[len(far) :] == (-1, -1)[: 3 - len(far)]
            sound = sound and len({x, *far}) == 1 + len(far) and all(near[y] is not None for y in (x, *far))
            _demand(sound, f"reductions: step {step:,} has no such vertices.")
            edges, near[x] = near[x], None
            for y in edges:
                del near[y][x]
            size = sum(map(abs, edges.values()))
            if 0 < rule < 4:
                w1, w2, w3 = [edges.pop(y, 0) for y in far] + [0] * (3 - rule)
                lost = sum(max(w, 0) for w in edges.values())
                same = max(0, w1 + w2 + w3)
                d1, d2, d3 = max(w1, w2 + w3) - same, max(w2, w1 + w3) - same, max(w3, w1 + w2) - same
                constant += same
                gains = ((a, b, d1 + d2 - d3), (a, c, d1 + d3 - d2), (b, c, d2 + d3 - d1))
                for y, z, twice in gains[: (0, 0, 1, 3)[rule]]:
                    add(y, z, -(-twice // 2))  # up, where 2^-40 unit will not do
            else:
                there, w, sign = near[a], edges.get(a, 0), 1 if rule > 0 else -1
                if abs(rule) == 4:
                    lost = size - abs(w) + sign * w
                    lost = max(0, min(lost, sum(map(abs, there.values())) + sign * w) if lost > 0 else 0)
                else:
                    p, q = next((edges[y], there[y]) for y in edges if y in there)
                    _demand(w == 0 and p * q * sign > 0, f"reductions: step {step:,} merges no twins.")
                    differences = (edges.get(y, 0) * q - p * there.get(y, 0) for y in {*edges, *there})
                    lost = -(-sum(map(abs, differences)) // abs(q))
                for y, w in edges.items():
                    constant += w if sign < 0 else 0
                    if y != a:
                        add(a, y, sign * w)
            _demand(lost << 30 <= size, f"reductions: step {step:,} is not allowed by its rule.")
            constant += lost
        pairs = _arrays(part, pairs="<i4")[0].reshape(-1, 2)
        kept, ends = np.unique(pairs, return_inverse=True)
        u, v = ends.reshape(-1, 2).T
        _demand((u < v).all() and kept.min(initial=0) >= 0, "reductions: what is left has no such edges.")
        weights = [(near[a] or {}).pop(b, 0) for a, b in pairs.tolist()]
        for x, y in pairs.tolist():
            (near[y] or {}).pop(x, None)
        rest = sum(max(w, 0) for edges in near if edges for w in edges.values()) // 2
        _demand(rest << 30 <= int(np.abs(graph.w).sum()) << _HALVINGS, "reductions: more edges are left.")
        fine = math.gcd(*weights) or 1
        fine &= -fine
        kind = np.int64 if sum(map(abs, weights)) // fine < 2**60 else object
        unit = graph.unit / (1 << _HALVINGS)
        left = Weights(kept.size, u, v, np.array([w // fine for w in weights], kind), fine * unit)
        whole: Fraction = (constant + rest) * unit + self.prove(left, part["proof"], {})
        return whole

    def _spectral(self, graph: Weights, part: dict[str, Any], fixed: dict[int, bool]) -> Fraction:
        """W/2 + (sum h + tau sum d) / 4; the float64 behind tau is in `_verify_dual`."""
        (h,) = _arrays(part, h="<f8")
        _demand(h.size == graph.n and np.isfinite(h).all(), "spectral: h is not one number for each vertex.")
        exponent = graph.unit.numerator.bit_length() - graph.unit.denominator.bit_length()
        w = np.array([math.ldexp(x, exponent) for x in graph.w.tolist()])
        tau, d = certified(graph.n, graph.u, graph.v, w, h, part, self.progress)
        _demand(math.isfinite(tau), "spectral: nothing is proved about the eigenvalues.")
        self.delta += part["delta"]
        (h, fine), (d, finest) = integers(h), integers(d)
        dual = int(h.sum()) * fine + Fraction(tau) * int(d.sum()) * finest
        bound = int(graph.w.sum()) * graph.unit / 2 + dual / 4
        slack = Fraction(_TOLERANCE) * (int(np.abs(graph.w).sum()) * graph.unit + abs(dual))
        claim: float = self.agree(part, "proved", bound, slack)
        return Fraction(claim)
