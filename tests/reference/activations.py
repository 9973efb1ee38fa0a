"""Activations and their derivatives to 40 digits, from the formulas of calculus books, rounded once to float64."""

from __future__ import annotations

from collections.abc import Callable

import mpmath
import numpy as np
from mpmath import mp, mpf
from numpy.typing import NDArray

Number = mpmath.mpf
Triple = tuple[Number, Number, Number]

DIGITS = 40
SMALLEST = 2.0**-120  # below, a float32 number or a factor of it is subnormal, and 0 will do


def _phi(x: Number) -> Number:
    return mpmath.exp(-x * x / 2) / mpmath.sqrt(2 * mp.pi)


def _cdf(x: Number) -> Number:
    return mpmath.erfc(-x / mpmath.sqrt(2)) / 2


def _logistic(x: Number) -> Triple:
    s, r = 1 / (1 + mpmath.exp(-x)), 1 / (1 + mpmath.exp(x))
    return s, s * r, s * r * -mpmath.tanh(x / 2)


def _tanh(x: Number, iota: Number) -> Triple:
    d = mpmath.sech(x) ** 2
    return mpmath.tanh(x), d, -2 * mpmath.tanh(x) * d


def _softplus(x: Number, iota: Number) -> Triple:
    s, d, _ = _logistic(iota * x)
    return mpmath.log1p(mpmath.exp(iota * x)) / iota, s, iota * d


def _relu3(x: Number, iota: Number) -> Triple:
    p = max(x, mpf(0))
    return p**3, 3 * p**2, 6 * p


def _erf(x: Number, iota: Number) -> Triple:
    d = 2 * mpmath.exp(-x * x) / mpmath.sqrt(mp.pi)
    return mpmath.erf(x), d, -2 * x * d


_EXACT: dict[str, Callable[[Number, Number], Triple]] = {
    "identity": lambda x, iota: (x, mpf(1), mpf(0)),
    "tanh": _tanh,
    "sigmoid": lambda x, iota: _logistic(x),
    "softplus": _softplus,
    "gelu": lambda x, iota: (x * _cdf(x), _cdf(x) + x * _phi(x), (2 - x * x) * _phi(x)),
    "relu3": _relu3,
    "erf": _erf,
    "phi_cdf": lambda x, iota: (_cdf(x), _phi(x), -x * _phi(x)),
    "phi": lambda x, iota: (_phi(x), -x * _phi(x), (x * x - 1) * _phi(x)),
}


def exact(name: str, x: NDArray[np.float32], iota: float) -> NDArray[np.float64]:
    """f, f', f'' of every x: float64 (3, n)."""
    with mp.workdps(DIGITS):
        triples = [_EXACT[name](mpf(float(value)), mpf(iota)) for value in x]
    return np.array([[float(entry) for entry in triple] for triple in triples]).T


def scale(name: str, x: NDArray[np.float32], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """What an error is relative to: the value, and the sum of its terms' sizes where terms cancel at a root.

    Only gelu' = Phi + x phi crosses zero where its terms do not.
    """
    size = np.abs(values)
    if name == "gelu":
        wide = x.astype(np.float64)
        root = (wide > -1.5) & (wide < -0.25)
        density = np.exp(-0.5 * wide * wide) / np.sqrt(2 * np.pi)
        size[1] = np.where(root, np.abs(values[1] - wide * density) + np.abs(wide * density), size[1])
    return size


def worst_error(
    name: str, iota: float, x: NDArray[np.float32], found: NDArray[np.float64]
) -> tuple[float, str]:
    """Largest relative error of f and its derivatives, found (order + 1, n), and where it is."""
    values = exact(name, x, iota)
    size = scale(name, x, values)[: len(found)]
    error = np.abs(found - values[: len(found)])
    relative = np.where(
        size >= SMALLEST, error / np.maximum(size, SMALLEST), np.where(error <= SMALLEST, 0.0, np.inf)
    )
    order, at = np.unravel_index(relative.argmax(), relative.shape)
    return float(relative.max()), f"derivative {order} of {name} at {x[at]}"


def points() -> NDArray[np.float32]:
    """Where digits are lost: near 0, around the seams of the formulas, in both tails and far beyond them."""
    rng = np.random.default_rng(0)
    sizes = np.concatenate(
        [
            np.exp(rng.uniform(np.log(1e-30), 0.0, 150)),
            rng.uniform(0.0, 2.0, 250),
            rng.uniform(2.0, 15.0, 200),
            rng.uniform(15.0, 100.0, 100),
            [0.0, 0.7, 0.8, 1.0, 2.0**0.5, 0.7517916, 15.0, 103.0, 110.0, 1e3, 1e6, 1e12],
        ]
    )
    return np.concatenate([sizes, -sizes]).astype(np.float32)
