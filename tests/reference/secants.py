"""Stretches, violation probabilities and moments of pairwise secants, float64, one secant and one formula at a time."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ncx2

Matrix = NDArray[np.float64]


def stretches(points: Matrix, A: Matrix) -> Matrix:
    """|A u|^2 of the unit secant u of every pair of distinct points, in the order of `combinations`."""
    found = []
    for i, j in combinations(range(len(points)), 2):
        difference = points[i] - points[j]
        if np.any(difference != 0):
            found.append(float(np.sum((A @ difference) ** 2) / np.sum(difference**2)))
    return np.array(found)


def violation_probability(q: float, s2: float, k: int, eps: float) -> float:
    """P(| |A u|^2 - 1 | > eps) for entries of A ~ N(M, s2/k) and |M u|^2 = q."""
    nc = k * q / s2
    return float(ncx2.cdf((1 - eps) * k / s2, k, nc) + ncx2.sf((1 + eps) * k / s2, k, nc))


def second_moment(q: float, s2: float, k: int) -> float:
    """E[(|A u|^2 - 1)^2] by mean and variance of |A u|^2."""
    return (q + s2 - 1) ** 2 + 2 * s2**2 / k + 4 * s2 * q / k
