"""The Chebyshev recurrence on the scaled matrix of a dual vector, in float64 or with a product that reads float32.

With M = Diag(h) + A, R = D^-1/2 and B = I - (2/up) R M R, each class makes T_k(B) X step by step, and knows how far
a step may be off. u = 2^-53, and N = max_i 2 |h_i| / (up d_i) + 2/up bounds the norm of (2/up) R |M| R, because R |A| R
is similar to D^-1 |A|, whose rows add up to less than 1.

`Doubled`: a step errs by at most e = u (deg + 12) (2 | |B| | + 1) max |Y| in norm, deg the largest number of entries in
a row; 12 pays for the rounding of B's own entries.

`Rounded`: the step is Y+ = 2 Y - Y- - (4/up) R M Z with Z = float32(R Y): half the bytes to gather, and nothing to
scale beforehand. Products of float32 numbers are exact in float64, and what is left errs by at most
u (deg + 14) (2 N + 3) max |Y|. What Z has lost, x = R^-1 Z - Y with |x_i| <= 2^-24 |Y_i|, comes in multiplied by
2 (B - I). Along the lowest eigenvector, whose eigenvalue of B is 1 + 2 t/up, that is (4 t/up) x: as small as the t that
is sought. So a step errs along it by at most `rounding` t max |Y| more, `rounding` = 4 2^-24 / up, and any t that is
known to be large enough may stand there, for a start the one of Gershgorin (`known`), later each one proved.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sdp.maxcut.placement import zeros
from sdp.maxcut.problem import Problem
from sdp.optim.chebyshev import UNIT_ROUNDOFF
from sdp_kernels.graph import (
    CSR,
    chebyshev_step,
    chebyshev_steps,
    offers_rounded_steps,
    rounded_chebyshev_step,
)

_ENTRY_ULPS = 12  # of an entry of B: two reciprocal roots, three products and the sum of a row's first terms
_MORE_ULPS = 14  # those, the entry of the diagonal, and the product with (4/up) R
_FLOAT_ROUNDOFF = 1.001 * 2.0**-24  # R Y is rounded to float64 before
_MOST_LACK = 2.0  # of `known`, for float32: h that no solver makes would lose more
_GERSHGORIN_SLACK = 1e-6  # of sums over at most 2^31 terms


@dataclass(frozen=True)
class Dual:
    """A dual vector with the scaling of its matrix.

    Attributes:
        h: float64 (n,).
        d: float64 (n,), positive, at least the weighted degree.
        upper: "up", no less than the largest eigenvalue.
    """

    h: Tensor
    d: Tensor
    upper: float

    @property
    def known(self) -> float:
        """No eigenvalue of R M R is below minus this (Gershgorin)."""
        return max(0.0, 1 + _GERSHGORIN_SLACK - float((self.h / self.d).min()))


def recurrence(problem: Problem, dual: Dual, start: Tensor) -> Rounded | Doubled:
    """T_1(B) X from a block X, float64 (n, c), which is overwritten later; the cheapest kind that these can have."""
    is_rounded = offers_rounded_steps(problem.csr) and dual.known <= _MOST_LACK
    return (Rounded if is_rounded else Doubled)(problem, dual, start)


class Doubled:
    """All in float64, on any engine.

    Attributes:
        block: float64 (n, c), the newest one.
        largest: length of the longest column of X and T_1(B) X.
        step_error, rounding, known: see the module; here nothing is rounded further.
    """

    rounding, known = 0.0, float("inf")

    def __init__(self, problem: Problem, dual: Dual, start: Tensor) -> None:
        csr, shrink = problem.csr, -2.0 / dual.upper
        self._rows = CSR(csr.indptr, csr.indices, scaled_weights(csr, dual.d.rsqrt()).mul_(shrink))
        self._diagonal = 1.0 + shrink * (dual.h / dual.d)
        self._previous, self.block = start, zeros(start.shape, torch.float64, start.device)
        squares = chebyshev_step(self._rows, self._diagonal, start, self.block) / 4
        self.block /= 2  # the step computes 2 B X
        self.largest = _longest(start, squares)
        norm_of_b = float(self._diagonal.abs().max()) + 2 / dual.upper
        degree = int(csr.indptr.diff().max())
        self.step_error = UNIT_ROUNDOFF * (degree + _ENTRY_ULPS) * (2 * norm_of_b + 1)

    def take(self, n_steps: int) -> list[float]:
        """Makes steps; the square of the longest column after each."""
        if n_steps == 1:  # on the CPU, where a table of squares would cost a tenth of a small graph's step
            made = [float(chebyshev_step(self._rows, self._diagonal, self.block, self._previous).max())]
        else:
            squares = chebyshev_steps(self._rows, self._diagonal, self.block, self._previous, n_steps)
            made = squares.amax(1).tolist()
        if n_steps % 2:
            self.block, self._previous = self._previous, self.block
        return made


class Rounded:
    """The product reads float32; attributes and methods as `Doubled`."""

    def __init__(self, problem: Problem, dual: Dual, start: Tensor) -> None:
        self._csr, self._h, self._root = problem.csr, dual.h, dual.d.rsqrt()
        self._factor = -4.0 / dual.upper
        rounded, other = (zeros(start.shape, torch.float32, start.device) for _ in range(2))
        torch.mul(self._root[:, None], start, out=rounded)
        self._newest = (zeros(start.shape, torch.float64, start.device), other)
        self._previous = (start, rounded)
        squares = self._step(self._previous, self._newest) / 4
        for block in self._newest:
            block /= 2  # exact, as in `Doubled`
        self.largest = _longest(start, squares)
        norm = 2 * float((dual.h / dual.d).abs().max()) / dual.upper + 2 / dual.upper
        degree = int(problem.csr.indptr.diff().max())
        self.step_error = UNIT_ROUNDOFF * (degree + _MORE_ULPS) * (2 * norm + 3)
        self.rounding = 4 * _FLOAT_ROUNDOFF / dual.upper
        self.known = dual.known

    @property
    def block(self) -> Tensor:
        """The newest block."""
        return self._newest[0]

    def take(self, n_steps: int) -> list[float]:
        """As `Doubled.take`."""
        made = []
        for _ in range(n_steps):
            made.append(float(self._step(self._newest, self._previous).max()))
            self._newest, self._previous = self._previous, self._newest
        return made

    def _step(self, X: tuple[Tensor, Tensor], previous: tuple[Tensor, Tensor]) -> Tensor:
        return rounded_chebyshev_step(self._csr, self._h, self._root, self._factor, X, previous)


def _longest(start: Tensor, squares: Tensor) -> float:
    return float(torch.maximum((start * start).sum(0).max(), squares.max()).sqrt())


def scaled_weights(csr: CSR, root: Tensor) -> Tensor:
    """w_ij root_i root_j of every entry, float64 (2m,)."""
    if root.device.type != "cpu":
        scaled = torch.repeat_interleave(root, csr.indptr.diff(), output_size=csr.indices.numel())
        return scaled.mul_(csr.weights).mul_(root[csr.indices])
    # In numpy, which asks for huge pages: so laid out, a Chebyshev step takes two thirds of the time. And it gathers
    # in half of torch's time.
    roots = root.numpy()
    array = csr.weights.double().numpy() * np.repeat(roots, csr.indptr.diff().numpy())
    array *= roots[csr.indices.numpy()]
    return torch.from_numpy(array)
