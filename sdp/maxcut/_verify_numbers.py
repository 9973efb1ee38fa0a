"""What all parts of the checker need: a graph in integers, claims in base64, and a way to say no."""

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

Progress = Callable[[str, int, int], None]  # told a stage, steps done and steps


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


def arrays(part: dict[str, Any], **kinds: str) -> list[Any]:
    """Fields of a part from base64, little-endian, each of its numpy kind; integers become int64."""
    arrays = [
        np.frombuffer(base64.b64decode(part[name], validate=True), kind) for name, kind in kinds.items()
    ]
    return [array.astype(np.int64) if array.dtype.kind == "i" else array for array in arrays]


def demand(condition: Any, sentence: str) -> None:
    """Raises `Rejected` with this sentence where the condition fails."""
    if not condition:
        raise Rejected(sentence)


def silent(stage: str, done: int, total: int) -> None:
    """No progress shown."""
