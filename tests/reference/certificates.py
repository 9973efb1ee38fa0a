"""What rows of cycles prove, by the formula and in Python's fractions: slow, short, and not the checker's code."""

from __future__ import annotations

import base64
import math
from fractions import Fraction
from typing import Any

import numpy as np

Edge = tuple[int, int, Fraction]


def decoded(part: dict[str, Any], name: str, kind: str) -> list[Any]:
    """A field of a certificate as a list of Python's numbers."""
    return list(np.frombuffer(base64.b64decode(part[name]), kind).tolist())


def optimum(n: int, edges: list[Edge]) -> Fraction:
    """The maximum cut, by trying all partitions."""
    sides = np.arange(2 ** max(n - 1, 0))[:, None] >> np.arange(n) & 1
    scale = math.lcm(*(w.denominator for _, _, w in edges))
    total = np.zeros(len(sides), object)
    for a, b, w in edges:
        total[sides[:, a] != sides[:, b]] += int(w * scale)
    return Fraction(max(total.tolist()), scale)


def grid(edges: list[Edge]) -> Fraction:
    """All cuts are multiples of this: the greatest common divisor of weighted degrees and twice the weights."""
    degree: dict[int, Fraction] = {}
    for a, b, w in edges:
        degree[a], degree[b] = degree.get(a, Fraction(0)) + w, degree.get(b, Fraction(0)) + w
    numbers = [*degree.values(), *(2 * w for _, _, w in edges)]
    scale = math.lcm(*(number.denominator for number in numbers))
    return Fraction(math.gcd(*(int(number * scale) for number in numbers)), scale)


def rounded(edges: list[Edge], value: Fraction) -> Fraction:
    """The largest multiple of the grid that is at most this."""
    step = grid(edges)
    return value // step * step if step else Fraction(0)


def unit(edges: list[Edge]) -> Fraction:
    """What multipliers are rounded down to multiples of: a binary fraction of the weights' own grid."""
    return Fraction(1, max([1, *(w.denominator for _, _, w in edges)]) << 40)


def bound(
    edges: list[Edge], part: dict[str, Any], step: Fraction, fixed: dict[int, bool] | None = None
) -> Fraction | None:
    """The bound of "rows" or "branch", itself not yet rounded to the grid of cuts; None if a row is none.

    Multipliers count as multiples of `step`.
    """
    fixed = fixed or {}
    if part["kind"] == "branch":
        tree, leaves = decoded(part, "tree", "<i4"), list(part["leaves"])

        def below(fixed: dict[int, bool]) -> Fraction | None:
            edge = tree.pop(0)
            if edge < 0:
                leaf = bound(edges, leaves.pop(0), step, fixed)
                return None if leaf is None else rounded(edges, leaf)
            cut, uncut = below({**fixed, edge: True}), below({**fixed, edge: False})
            return None if cut is None or uncut is None else max(cut, uncut)

        return below({})
    assert part["kind"] == "rows"
    added = decoded(part, "added", "<i4")
    ends = [(a, b) for a, b, _ in edges] + list(zip(added[::2], added[1::2], strict=True))
    left = [w for _, _, w in edges] + [Fraction(0)] * (len(added) // 2)
    total, begin = Fraction(0), 0
    members, marks = decoded(part, "members", "<i4"), decoded(part, "F", "|b1")
    for length, number in zip(
        decoded(part, "lengths", "<i4"), decoded(part, "multipliers", "<f8"), strict=True
    ):
        multiplier = Fraction(number) // step * step
        row = list(zip(members[begin : begin + length], marks[begin : begin + length], strict=True))
        begin += length
        degree: dict[int, int] = {}
        for e, _ in row:
            for x in ends[e]:
                degree[x] = degree.get(x, 0) + 1
        size = sum(mark for _, mark in row)
        if multiplier < 0 or size % 2 == 0 or any(d % 2 for d in degree.values()):
            return None
        total += multiplier * (size - 1)
        for e, mark in row:
            left[e] -= multiplier * (1 if mark else -1)
    for inner in part["parts"]:
        own = decoded(inner, "edges", "<i4")
        names = {x: k for k, x in enumerate(sorted({x for e in own for x in ends[e]}))}
        inside = [(names[ends[e][0]], names[ends[e][1]], left[e]) for e in own]
        value = bound(inside, inner["proof"], step)
        if value is None or len(set(own)) < len(own):
            return None
        total += rounded(inside, value)
        for e in own:
            left[e] = Fraction(0)
    for e, w in enumerate(left):
        total += max(w, Fraction(0)) if e not in fixed else (w if fixed[e] else 0)
    return total
