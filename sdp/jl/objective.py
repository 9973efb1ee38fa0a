"""What a learned map minimises: costs of the stretches of random maps A ~ N(M, s^2/k), and their softmax.

For a unit secant u and q = |M u|^2 the stretch |A u|^2 has mean q + s^2 and variance 2 s^4/k + 4 s^2 q/k, and
k |A u|^2 / s^2 is a noncentral chi-square with k degrees of freedom and noncentrality k q / s^2. Two costs:

    Moments      psi(q, s2) = 1/2 log E[(|A u|^2 - 1)^2]       f = (1/T) log mean_u exp(T psi)    + lam s^2 / 2
    Violations   p(q, s2) = P(| |A u|^2 - 1 | > eps)           f = mean_u p(q_u, s2 + tau2)       + lam s^2 / 2

At T = 2 the first is the log of an expectation of one fixed function of A (`Squares` is that expectation), and the
second is one. For such expectations the heat equation

    df/ds2 = (1/2k) Laplacian_M f                     (1/2k)(4 q p_qq + 2 k p_q) = p_q + (2q/k) p_qq  for one secant

turns a second-order stationary point into a deterministic map: |df/ds| <= e_g and lambda_min(Hessian in M) >= -tau give

    s (lam - r tau) <= e_g,         r = dim(M) / k.

Violations alone become steps as s2 -> 0; tau2 is a noise floor that stays. The cost is then that of the same indicator
smoothed once and for all, so that the heat equation holds unchanged and the Hessian stays bounded at s = 0.

Source: Tsikouras, Caramanis and Tzamos, "Optimization Can Learn Johnson-Lindenstrauss Embeddings" (arXiv 2412.07242);
the derivative of the noncentral chi-square, d cdf_k / d nc = (cdf_{k+2} - cdf_k) / 2, is classic. The noise floor and
the bound on s are this project's.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from typing import NamedTuple, Protocol

import numpy as np
from scipy.interpolate import BPoly, CubicHermiteSpline
from scipy.special import chndtr

from sdp.jl.secants import Matrix, Secants

NODES_PER_STEP = 12  # of the table of violation probabilities, within one standard deviation of a stretch
FEWEST_NODES, MOST_NODES = 128, 4096


class Slopes(NamedTuple):
    """A cost and its derivatives at every secant; the second ones only where they were asked for."""

    value: Matrix
    q: Matrix
    s2: Matrix
    qq: Matrix | None = None
    q_s2: Matrix | None = None
    s2_s2: Matrix | None = None


class Cost(Protocol):
    """psi(q, s2) of secants, elementwise."""

    def slopes(self, q: Matrix, s2: float, *, second: bool) -> Slopes:
        """The cost with its first, and on demand its second derivatives; q >= 0, s2 >= 0."""


@dataclass(frozen=True)
class Moments:
    """psi = 1/2 log E[(|A u|^2 - 1)^2], the log of the root mean square distortion of one secant.

    Attributes:
        k: rows of the map.
        floor: added inside the log, since psi has no bound below where s2 = 0 and q = 1.
    """

    k: int
    floor: float = 1e-12

    def slopes(self, q: Matrix, s2: float, *, second: bool) -> Slopes:
        """As `Cost.slopes`."""
        k = self.k
        off = q - 1.0 + s2
        v = off**2 + 2.0 * s2**2 / k + 4.0 * s2 * q / k + self.floor
        v_q = 2.0 * off + 4.0 * s2 / k
        v_s = v_q + 4.0 * q / k
        value, by_q, by_s = 0.5 * np.log(v), 0.5 * v_q / v, 0.5 * v_s / v
        if not second:
            return Slopes(value, by_q, by_s)
        v_cross = 2.0 + 4.0 / k  # d2v/dq ds2 = d2v/ds2 ds2; d2v/dq2 = 2
        return Slopes(
            value,
            by_q,
            by_s,
            1.0 / v - 2.0 * by_q**2,
            0.5 * v_cross / v - 2.0 * by_q * by_s,
            0.5 * v_cross / v - 2.0 * by_s**2,
        )


@dataclass(frozen=True)
class Squares:
    """psi = E[(|A u|^2 - 1)^2] itself: the form of `Moments` at T = 2 whose scale is one at every stage.

    Attributes:
        k: rows of the map.
    """

    k: int

    def slopes(self, q: Matrix, s2: float, *, second: bool) -> Slopes:
        """As `Cost.slopes`."""
        k = self.k
        off = q - 1.0 + s2
        by_q = 2.0 * off + 4.0 * s2 / k
        value = off**2 + 2.0 * s2**2 / k + 4.0 * s2 * q / k
        if not second:
            return Slopes(value, by_q, by_q + 4.0 * q / k)
        cross = np.full_like(q, 2.0 + 4.0 / k)
        return Slopes(value, by_q, by_q + 4.0 * q / k, np.full_like(q, 2.0), cross, cross)


@dataclass(frozen=True)
class Deviation:
    """psi = |q - 1| of the map M itself: its softmax of power beta is the logsumexp form of the largest distortion."""

    def slopes(self, q: Matrix, s2: float, *, second: bool) -> Slopes:
        """As `Cost.slopes`."""
        if second:
            raise ValueError("|q - 1| has no second derivative at q = 1; ask for first derivatives.")
        return Slopes(np.abs(q - 1.0), np.sign(q - 1.0), np.zeros_like(q))


@dataclass(frozen=True)
class Violations:
    """psi = P(| |A u|^2 - 1 | > eps) with the noise floor tau2 added to s2.

    The probability depends on a secant through q alone: it is tabulated at nodes by the closed form and interpolated by
    quintics that take value, slope and curvature from it, so that value and gradient belong together exactly.

    Attributes:
        k: rows of the map.
        eps: distortion beyond which a secant is violated, in (0, 1).
        tau2: noise floor, > 0.
    """

    k: int
    eps: float
    tau2: float

    def slopes(self, q: Matrix, s2: float, *, second: bool) -> Slopes:
        """As `Cost.slopes`."""
        k, noise = self.k, s2 + self.tau2
        nodes = self._nodes(float(q.max(initial=1.0)), noise)
        p = self.derivatives(nodes, noise, 4 if second else 3)
        table = BPoly.from_derivatives(nodes, np.stack(p[:3], axis=1))
        slope = table.derivative()
        value, by_q = table(q), slope(q)
        by_s2 = CubicHermiteSpline(nodes, p[1] + 2 * nodes / k * p[2], _q_of_s2(nodes, p, k))
        if not second:
            return Slopes(value, by_q, by_s2(q))
        # d/ds2 of the heat equation's right side: (d/dq + (2q/k) d2/dq2) applied twice.
        q_s2 = _q_of_s2(nodes, p, k)
        qq_s2 = (1 + 4 / k) * p[3] + 2 * nodes / k * p[4]
        s2_s2 = q_s2 + 2 * nodes / k * qq_s2
        return Slopes(
            value,
            by_q,
            by_s2(q),
            slope.derivative()(q),
            by_s2.derivative()(q),
            np.interp(q, nodes, s2_s2),
        )

    def derivatives(self, q: Matrix, noise: float, order: int) -> list[Matrix]:
        """The probability and its derivatives in q up to `order`, (n,) each, from differences of cdfs."""
        k = self.k
        nc = k * q / noise
        scale = 0.5 * k / noise
        # cdf of each tail at k, k + 2, ...; the m-th derivative in nc is 2^-m times the m-th difference.
        low = [chndtr((1 - self.eps) * k / noise, k + 2 * j, nc) for j in range(order + 1)]
        high = [chndtr((1 + self.eps) * k / noise, k + 2 * j, nc) for j in range(order + 1)]
        found = [1.0 - high[0] + low[0]]
        for m in range(1, order + 1):
            signs = [(-1) ** (m - j) * comb(m, j) for j in range(m + 1)]
            difference = sum(sign * (low[j] - high[j]) for j, sign in enumerate(signs))
            found.append(scale**m * difference)
        return found

    def _nodes(self, highest: float, noise: float) -> Matrix:
        width = (2 * noise**2 / self.k + 4 * noise / self.k) ** 0.5  # of a stretch about q = 1
        count = int(np.clip(NODES_PER_STEP * highest / width, FEWEST_NODES, MOST_NODES))
        nodes: Matrix = np.linspace(0.0, highest, count)
        return nodes


def _q_of_s2(q: Matrix, p: list[Matrix], k: int) -> Matrix:
    """d/dq of p_q + (2q/k) p_qq."""
    slope: Matrix = (1 + 2 / k) * p[2] + 2 * q / k * p[3]
    return slope


class Objective:
    """f(M, s) over secants, as a function of one vector: the entries of M, row by row, and s behind them.

    Args:
        secants: pairs of points in R^r.
        cost: `Moments` or `Violations`.
        k: rows of M.
        power: T, for (1/T) log mean exp(T psi); None for the plain mean of psi.
        lam: weight of s^2 / 2.

    Complexity: a value and gradient or a Hessian-vector product costs O(n^2 k + n k r) for all pairs of n points.
    """

    def __init__(self, secants: Secants, cost: Cost, k: int, *, power: float | None, lam: float) -> None:
        self.secants, self.cost, self.k = secants, cost, k
        self.power, self.lam = power, lam
        self.dim = k * secants.coordinates.shape[1] + 1
        self._total = float(secants.weights.sum())

    def value_and_grad(self, x: Matrix) -> tuple[float, Matrix]:
        """Value and gradient (dim,) at x (dim,), float64."""
        Y, s = self._embed(x)
        slopes = self.cost.slopes(self.secants.stretch(Y), s * s, second=False)
        value, share = self._aggregate(slopes.value)
        gradient = np.empty(self.dim)
        gradient[:-1] = self._pull(share * slopes.q, Y)
        gradient[-1] = 2.0 * s * float((share * slopes.s2).sum()) + self.lam * s
        return value + 0.5 * self.lam * s * s, gradient

    def hvp(self, x: Matrix, directions: Matrix) -> Matrix:
        """Products of the Hessian at x with directions (dim,) or (m, dim)."""
        if directions.ndim == 2:
            product = self.hessian_at(x)
            return np.stack([product(direction) for direction in directions])
        return self.hessian_at(x)(directions)

    def hessian_at(self, x: Matrix) -> Hessian:
        """The Hessian at x, for many products."""
        return Hessian(self, x)

    def stretches(self, x: Matrix) -> Matrix:
        """The stretch q of every secant under M."""
        return self.secants.stretch(self._embed(x)[0])

    def _embed(self, x: Matrix) -> tuple[Matrix, float]:
        return self.secants.coordinates @ x[:-1].reshape(self.k, -1).T, float(x[-1])

    def _pull(self, slopes: Matrix, Y: Matrix) -> Matrix:
        gradient: Matrix = (self.secants.pull_back(slopes, Y).T @ self.secants.coordinates).ravel()
        return gradient

    def _aggregate(self, psi: Matrix) -> tuple[float, Matrix]:
        """The mean or softmax of psi, and every secant's share in its gradient."""
        weights = self.secants.weights
        if self.power is None:
            share = weights / self._total
            return float((share * psi).sum()), share
        top = float(psi.max(where=weights > 0, initial=-np.inf))
        share = weights * np.exp(self.power * (psi - top))
        mass = float(share.sum())
        return top + float(np.log(mass / self._total)) / self.power, share / mass


class Hessian:
    """The Hessian of an `Objective` at one point; calling it with a direction (dim,) gives their product."""

    def __init__(self, objective: Objective, x: Matrix) -> None:
        self._f = objective
        self._Y, self._s = objective._embed(x)
        self._slopes = objective.cost.slopes(
            objective.secants.stretch(self._Y), self._s * self._s, second=True
        )
        self._share = objective._aggregate(self._slopes.value)[1]

    def __call__(self, direction: Matrix) -> Matrix:
        """Product with a direction (dim,)."""
        f, Y, s, d, share = self._f, self._Y, self._s, self._slopes, self._share
        assert d.qq is not None
        assert d.q_s2 is not None
        assert d.s2_s2 is not None
        dY, ds = f._embed(direction)
        ds2 = 2.0 * s * ds
        dq = f.secants.stretch_change(Y, dY)
        by_q = share * (d.qq * dq + d.q_s2 * ds2)
        by_s2 = share * (d.q_s2 * dq + d.s2_s2 * ds2)
        if f.power is not None:
            rise = d.q * dq + d.s2 * ds2
            moved = f.power * share * (rise - float((share * rise).sum()))
            by_q += moved * d.q
            by_s2 += moved * d.s2
        product = np.empty(f.dim)
        product[:-1] = f._pull(share * d.q, dY) + f._pull(by_q, Y)
        product[-1] = 2.0 * s * float(by_s2.sum()) + ds * (2.0 * float((share * d.s2).sum()) + f.lam)
        return product
