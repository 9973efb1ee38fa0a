"""Where the integrand is evaluated: nodes of Gauss-Hermite quadrature, pseudo-random pairs, scrambled Sobol points.

An expectation over xi ~ N(0, I_q) is a weighted mean over points of R^q:

- q = 0: one point, exact.
- q <= 4: tensor Gauss-Hermite nodes, of two orders, whose difference estimates the error. A smooth head wants some
  2,000 nodes at q = 3 for 1e-5, where random samples would have to be 10^9.
- any q: antithetic pairs +-xi, Philox normals numbered by (seed, row): unbiased, with confidence intervals.
- any q: scrambled Sobol points, in independent scrambles: unbiased, better than random at q of some tens.

Sources: Golub and Welsch (1969) for the quadrature; Owen (1995) for scrambling.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.special import roots_hermitenorm
from torch import Tensor

from sdp_kernels import gaussian
from sdp_kernels.expectation import Draw

METHODS = ("auto", "quadrature", "sampling", "sobol")
MAX_QUADRATURE_RANK = 4


class Rung(NamedTuple):
    """One quadrature of the ladder: nodes an axis, and the weight below which a node is dropped."""

    order: int
    lightest: float


# Neighbours are far enough apart for their difference to be the lower one's error, with odd and even orders mixed so
# that a symmetry cannot make both wrong by the same amount. Whole rules are exact for polynomials ...
WHOLE = tuple(Rung(order, 1e-14) for order in (4, 6, 9, 13, 19, 28, 42, 63, 95))
# ... but where order 13 does not suffice, a high order without its light nodes is the better bargain, unless the head
# grows so fast that light nodes matter. Errors of a two-layer tanh head, k = h = 64, largest of 8 at q = 3: order 13
# whole, 1,929 nodes, 4.8e-4; order 24 above 5e-8, 1,888 nodes, 1.8e-5; order 19 whole, 3,947 nodes, 3.5e-5; order 32
# above 1e-10, 5,184 nodes, 5.8e-6.
LEAN = (Rung(24, 5e-8), Rung(32, 1e-10), Rung(42, 1e-12), Rung(60, 1e-14), Rung(95, 1e-14))
LEAN_AFTER = 13
# By itself the toolkit does not trust orders below this: 4 and 6 nodes an axis can agree on missing a narrow feature.
FIRST_ORDER = 9
SCRAMBLES = 16
# Streams of a seed beside `gaussian.PURPOSE_SAMPLES`; those of the kernels lie below 100.
PURPOSE_SCRAMBLES, PURPOSE_PARAMETERS, PURPOSE_CHECKS = 101, 102, 103
SOBOL_BITS = 30  # of torch's SobolEngine
_WORD = 1 << 32


def exact_draw(W: Tensor) -> Draw:
    """The single point of R^0, in the dtype and on the device of W."""
    return Draw(n=1, seed=0, antithetic=False, points=W.new_zeros((1, 0)), weights=W.new_ones(1))


@functools.lru_cache(maxsize=32)
def quadrature_nodes(rank: int, rung: Rung) -> tuple[Tensor, Tensor]:
    """Tensor Gauss-Hermite nodes for N(0, I_rank), less the light ones.

    All order^rank of them are exact for polynomials of degree 2 order - 1 in each variable. Weights are divided by
    their sum after dropping.

    Args:
        rank: q, 1 to 4.
        rung: order, and the lightest node that stays.

    Returns:
        Points (n, q) and weights (n,), float64, of sum 1; kept for the next call, so not to be changed.

    Complexity: O(n q). Source: Golub and Welsch (1969), through scipy.special.roots_hermitenorm; Jaeckel, A note on
    multivariate Gauss-Hermite quadrature (2005), for dropping.

    >>> points, weights = quadrature_nodes(2, Rung(6, 1e-14))
    >>> round(float(weights @ points[:, 0] ** 4), 12)  # the fourth moment of a standard normal
    3.0
    """
    axis, weight = roots_hermitenorm(rung.order)
    weight = weight / math.sqrt(2.0 * math.pi)
    grid, product = axis[:, None], weight
    for _ in range(rank - 1):  # drop as we go: a product is no heavier than its factors
        product = np.multiply.outer(product, weight)
        left, right = np.nonzero(product >= rung.lightest)
        grid = np.concatenate([grid[left], axis[right, None]], axis=1)
        product = product[left, right]
    keep = product >= rung.lightest
    return torch.from_numpy(grid[keep]), torch.from_numpy(product[keep] / product[keep].sum())


def rungs(rank: int, budget: int, *, forced: bool) -> tuple[list[Rung], list[Rung]]:
    """The ladder of quadratures whose nodes are no more than `budget`, coarse to fine, and the lean ones.

    Args:
        rank: q, 1 to 4.
        budget: the most nodes that one quadrature may have.
        forced: the caller insists on quadrature: coarse orders will do if the budget allows no others, and the two
            coarsest are given in any case, since one alone has no error estimate.

    Returns:
        Whole rules (none, or two at least), and lean ones that may be climbed instead after order 13.
    """
    whole, lean = (
        [rung for rung in ladder if len(quadrature_nodes(rank, rung)[1]) <= budget]
        for ladder in (WHOLE, LEAN)
    )
    trusted = [rung for rung in whole if rung.order >= FIRST_ORDER]
    if len(trusted) >= 2:
        return trusted, lean
    if not forced:
        return [], []
    return (whole[-2:] if len(whole) >= 2 else list(WHOLE[:2])), []


def quadrature_draw(rank: int, rung: Rung, like: Tensor) -> Draw:
    """The nodes of a rung in the dtype and on the device of a tensor."""
    points, weights = quadrature_nodes(rank, rung)
    return Draw(n=len(weights), seed=0, antithetic=False, points=points.to(like), weights=weights.to(like))


def sobol_size(n_samples: int) -> int:
    """Points of each scramble for `n_samples` in all: a power of two, where the sequence is balanced.

    >>> sobol_size(1000), SCRAMBLES
    (64, 16)
    """
    return 1 << max(0, math.ceil(math.log2(n_samples / SCRAMBLES)))


def sobol_draws(rank: int, n: int, seed: int, *, first: int = 0, like: Tensor) -> Iterator[Draw]:
    """Independent scrambles of the Sobol sequence, as normals; each is one batch, and each mean is unbiased.

    The spread of 16 scrambles is the stated error. It is rough where the head grows fast: there the outermost point of
    a scramble makes most of the error, and its law is skew.

    Args:
        rank: q, at least 1.
        n: points of each scramble.
        seed: scramble j is seeded by the j-th Philox word of this seed, since torch's generator reads 32 bits only.
        first: points of each scramble to leave out, being used already.
        like: dtype and device of the points.

    Source: Owen (1995); torch.quasirandom.SobolEngine.
    """
    words = gaussian.uniform_bits((SCRAMBLES,), seed=seed, purpose=PURPOSE_SCRAMBLES)
    for word in words.flatten().tolist():
        # torch's classes are not typed.
        engine: Any = torch.quasirandom.SobolEngine(rank, scramble=True, seed=word % _WORD)  # type: ignore[no-untyped-call]
        engine.fast_forward(first)
        cells = torch.floor(engine.draw(n, dtype=torch.float64) * 2.0**SOBOL_BITS)
        # The middle of the cell: a coordinate of 0 would be a normal of minus infinity.
        points = torch.special.ndtri((cells + 0.5) * 2.0**-SOBOL_BITS)
        weights = torch.full((n,), 1.0 / n, dtype=like.dtype, device=like.device)
        yield Draw(n=n, seed=seed, antithetic=False, points=points.to(like), weights=weights)
