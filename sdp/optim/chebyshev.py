"""The mathematics of the block Chebyshev certificate: how far an eigenvalue can lie below a believed spectrum.

M is symmetric, its spectrum is believed to lie in [low, low + width], B = I - 2 (M - low I) / width, and Y = T_k(B) X
for a Gaussian X of c columns. An eigenvalue low - t of M is one of 1 + 2 t / width of B. With
q = sqrt2 erfinv(delta^(1/c)),

    P(every column's component along the lowest eigenvector is below q) = delta,

so with probability 1 - delta  max_j |Y_j| >= q T_k(1 + 2 t / width), that is

    t <= (width / 2) (cosh(acosh(max_j |Y_j| / q) / k) - 1).

The event depends on X and M alone: it holds for every k, low and width of one X at once, however they were chosen. An
eigenvalue above low + width only makes Y larger, and the bound weaker. Whatever computes Y uses these few functions:
`bound.py` of the maximum cut with its fused product, `curvature.py` with any operator.

Source: derived for this project. Compare Kuczynski and Wozniakowski (1992), whose Lanczos bound needs full
reorthogonalisation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from scipy.special import erfinv

COLUMNS = 8  # one 64-byte cache line of float64 a row; 4 columns need 20% more steps at the same delta
UNIT_ROUNDOFF = 2.0**-53
TOO_LARGE = 1e30  # a block this long has proved all it can, and float32 would overflow
SPAN = 8  # the last eighth of the steps tells how fast columns grow
_MOSTLY = 0.95  # of q: a loss of the rest costs less than the sum that would find a smaller one
_LONGEST_COLUMN = 3.0  # over sqrt n: P(|x| > sqrt n + t) <= exp(-t^2/2) for a normal x in R^n
_LEAST_TAU = 1e-14  # of the spectrum's width: about what float64 can certify


def quantile(delta: float, columns: int) -> float:
    """The q such that a column of `columns` standard normal numbers all lie within (-q, q) with probability delta."""
    return math.sqrt(2.0) * float(erfinv(delta ** (1.0 / columns)))


def steps_for(tau: float, n: int, upper: float, delta: float, columns: int = COLUMNS) -> int:
    """Chebyshev steps after which a matrix without an eigenvalue below 0 is certified to -tau.

    Args:
        tau: wanted precision, in units of M; what float64 cannot reach is asked for as what it can.
        n: size of the matrix.
        upper: width of the spectrum, same units.
        delta: probability that the certificate is wrong.
        columns: of the block.
    """
    start = math.acosh(max(2.0, (math.sqrt(n) + _LONGEST_COLUMN) / quantile(delta, columns)))
    # acosh(1 + 2x) = 2 asinh(sqrt x), which does not round to 0 for small x.
    rate = 2 * math.asinh(math.sqrt(max(tau / upper, _LEAST_TAU)))
    return max(2, math.ceil(start / rate))


@dataclass
class Growth:
    """The certified tau of one run, step by step.

    Rounding. Let the step from Y_j to Y_{j+1} err by at most e_j = `step_error` times the longest column of Y_j and
    Y_{j-1}. Of the component along the lowest eigenvector, with x = 1 + 2 t/width, that loses at most
    U_{k-1-j}(x) e_j <= (k - j) T_{k-1-j}(x) e_j of T_k(x) q, which is T_k(x) (k - j) e_j / T_{j+1}(x) at most. All of
    it is less than T_k(x) k (k + 1)/2 max e; where that is much, the sum is taken at an s: if t >= s, then
    max |Y_k| >= T_k(1 + 2 s/width) (q - sum_j (k - j) e_j / T_{j+1}(1 + 2 s/width)), for both factors grow with t.

    Where the eigenvalue lies t below the believed spectrum, a step may err by `rounding` t max |Y| more along it:
    whatever bounds t bounds that, `known` or what was proved before, since all of it is one event.

    Attributes:
        upper: width of the believed spectrum.
        q: `quantile`.
        step_error: error of one step, relative to the longest column so far.
        largest: length of the longest column so far.
        rounding: what a step errs more, relative to that and to t.
        known: a bound on t from elsewhere.
        tau: no eigenvalue lies further below the believed spectrum than this; infinite before anything is proved.
    """

    upper: float
    q: float
    step_error: float
    largest: float
    rounding: float = 0.0
    known: float = math.inf
    tau: float = field(default=math.inf)
    _lengths: list[float] = field(default_factory=list, repr=False)

    def after(self, k: int, norm: float) -> float:
        """`tau` after step k, whose longest column has this norm; a later step never makes it worse.

        A norm that is infinite or NaN, as of a block that overflowed, proves nothing, and nothing is proved after it.
        """
        self._lengths.extend([self.largest] * (k - len(self._lengths)))  # of Y_0 to Y_{k-1}
        self._lengths.append(norm if math.isfinite(norm) else math.inf)
        self.largest = max(self.largest, self._lengths[-1])
        error = self.step_error
        if self.rounding:  # else `known` may be infinite
            error += self.rounding * min(self.tau, self.known)
        sure = self.q - 0.5 * k * (k + 1) * error * self.largest
        if sure < _MOSTLY * self.q and math.isfinite(self.largest):
            at = self._angle(k, norm, self.q)
            steps = np.arange(1.0, k + 1)
            lengths = np.array(self._lengths[:k])
            lengths[1:] = np.maximum(lengths[1:], lengths[:-1])
            sure = max(sure, self.q - error * float((steps[::-1] * lengths / np.cosh(at * steps)).sum()))
        if sure > 0:
            # cosh x - 1 = 2 sinh^2(x/2), without the cancellation.
            self.tau = min(self.tau, self.upper * math.sinh(self._angle(k, norm, sure) / 2) ** 2)
        return self.tau

    def foreseen(self, tau: float) -> float:
        """Steps after which `tau` will be certified if columns go on growing as they do now; infinite if never.

        An estimate, which proves nothing: an eigenvalue that has not come up yet makes columns grow faster later.
        """
        k = len(self._lengths) - 1
        span = max(1, k // SPAN)
        if k <= span or not 0 < self._lengths[k - span] <= self._lengths[k] < math.inf:
            rate = 0.0
        else:
            rate = math.log(self._lengths[k] / self._lengths[k - span]) / span
        wanted = 2 * math.asinh(math.sqrt(max(tau, 0.0) / self.upper))
        if rate >= wanted:
            return math.inf
        angle = self._angle(k, self._lengths[k], self.q) if k > 0 else 0.0
        return k + max(0.0, k * (angle - wanted) / (wanted - rate))

    @staticmethod
    def _angle(k: int, norm: float, component: float) -> float:
        """The a such that a component grows to the norm: component cosh(k a) = norm; 0 where it is longer."""
        return math.acosh(max(1.0, norm / component)) / k
