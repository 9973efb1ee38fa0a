"""Control variates: subtract from batch means what a quadratic model of the head explains of their noise.

The model is g(b) + grad g(b) . L xi + 1/2 xi^T L^T hess g(b) L xi. Its linear part cancels in antithetic pairs; the
rest depends on the draws through their second moments alone, whose expectation is I. With batch means m_j and controls
c_j of expectation zero the estimate is the mean of m_j - beta_j c_j. Each beta_j is the regression over the *other*
batches: it is independent of c_j, so that the estimate is unbiased and the spread of its terms honest. (One beta for
all, with one degree of freedom less as of Lavenberg and Welch 1981, covered 90% instead of 95% with 32 batches of 16
pairs: beta fits itself to the batches whose noise it should measure.)

Where the model explains less than half of the variance it is left out, and the estimate's notes say so.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from sdp_kernels import gaussian
from sdp_kernels.expectation import Draw, batch_sizes

# Halving the variance pays for the draws' second moments; by chance alone, 32 batches reach it once in 100,000.
LEAST_SHARE = 0.5
MIN_BATCHES = 16
# What a quadratic leaves over is of fourth degree, and skew: its batch means must be long to be normal. Intervals of
# 95% covered 91.7, 93.4 and 93.9% with batches of 16, 128 and 256 pairs (probit head, 1500 to 3000 seeds).
MIN_DRAWS = 128
_ROWS = 8192


def second_moments(draw: Draw, q: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Mean of xi xi^T - I over each batch of a draw: float64 (B, q, q).

    They depend on seed and position only, not on W, b or theta, so the last few are kept.

    Complexity: O(n q^2), and the draws once more.
    """
    return _second_moments(draw.seed, draw.first, draw.n, q, dtype, device)


@functools.lru_cache(maxsize=32)
def _second_moments(
    seed: int, first: int, n: int, q: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    sizes = batch_sizes(n)
    moments = torch.zeros((len(sizes), q, q), dtype=torch.float64, device=device)
    start = 0
    for batch, size in enumerate(sizes):
        for offset in range(0, size, _ROWS):
            xi = gaussian.normal(
                (min(_ROWS, size - offset), q),
                seed=seed,
                purpose=gaussian.PURPOSE_SAMPLES,
                row_offset=first + start + offset,
                dtype=dtype,
                device=device,
            )
            moments[batch] += (xi.T @ xi).to(torch.float64)
        moments[batch] /= size
        start += size
    return moments - torch.eye(q, dtype=torch.float64, device=device)


def subtract_controls(
    batches: Tensor, sizes: Tensor, controls: list[tuple[slice, Tensor]]
) -> tuple[Tensor, list[float]]:
    """Batch means less their controls, where those help; callers see to MIN_BATCHES and MIN_DRAWS.

    Args:
        batches: (B, N) float64.
        sizes: (B,) float64.
        controls: (columns, (B, columns) float64 of expectation zero), each with one coefficient of its own.

    Returns:
        New batch means, and for each control the share of the variance that it explains, 0.0 where it was left out.
    """
    weights = sizes / sizes.sum()
    made, shares = batches.clone(), []
    for columns, control in controls:
        part = batches[:, columns]
        all_in = _regression(part, control, weights, torch.zeros_like(weights))
        share = float((all_in.shared**2 / (all_in.spread * all_in.noise))[0])  # 0 / 0 is no share
        if not share >= LEAST_SHARE:
            shares.append(0.0)
            continue
        others = _regression(part, control, weights, weights)
        made[:, columns] = part - (others.shared / others.spread)[:, None] * control
        shares.append(share)
    return made, shares


class _Regression(NamedTuple):
    """Weighted sums of squares about the mean, of the controls, of the batch means, and between them: (B,) or (1,)."""

    spread: Tensor
    noise: Tensor
    shared: Tensor


def _regression(x: Tensor, c: Tensor, weights: Tensor, left_out: Tensor) -> _Regression:
    """Sums over all batches but one, for each batch; `left_out` is its weight there (0 to leave none out)."""
    rest = weights.sum() - left_out

    def about_mean(u: Tensor, v: Tensor) -> Tensor:
        products = (u * v).sum(1)
        u_rest = (weights @ u)[None] - left_out[:, None] * u
        v_rest = (weights @ v)[None] - left_out[:, None] * v
        return weights @ products - left_out * products - (u_rest * v_rest).sum(1) / rest

    # About the common mean first: sums of squares less squares of sums would lose digits.
    x, c = x - weights @ x, c - weights @ c
    return _Regression(about_mean(c, c), about_mean(x, x), about_mean(x, c))
