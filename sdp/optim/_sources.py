"""Where gradients and Hessians of an expectation come from: exactly, by quadrature, in independent batches, at given
points.

All in float64, whatever the point's dtype: what a certificate says should not hang on float32's last digits. A
quadrature is believed only where a small sample does not contradict it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sdp.expectation.estimate import Blocks, Estimate, flatten_blocks
from sdp.expectation.expectation import Expectation
from sdp.optim.crosscheck import contradicts, in_double
from sdp_kernels import gaussian

PURPOSE_FRESH = 107  # seeds of fresh draws, beside the streams in `lanczos.py`
_CHECK = 1 << 21  # position of the seed that quadratures are checked with, beyond those of batches
LEAST_EVALUATIONS = 64  # of a batch: fewer, and its mean may be far from normal


@dataclass(frozen=True, eq=False)
class Batch:
    """One estimate of everything, float64.

    Attributes:
        W: (k, d) gradient of F.
        b: (k,).
        theta: of all parameters of the head, flattened.
        H: (k, k), E[hess g]; None where the head has none.
    """

    W: Tensor
    b: Tensor
    theta: Tensor
    H: Tensor | None


@dataclass(frozen=True, eq=False)
class Source:
    """Independent batches, or one that is known up to an error.

    Attributes:
        batches: at least one.
        method: "exact", "quadrature", "sampling", "sobol" or "given points".
        n_samples: evaluations of the head behind them.
        gradient_error: bound on the norm of the single batch's error; 0 where there are several.
        hessian_error: the same of H, in Frobenius norm.
        enough: whether batches are large enough to be trusted.
        is_gaussian: whether x is Gaussian by construction.
        expectations: what the batches were computed from, for products with the whole Hessian; empty for given
            points.
        objection: why a quadrature was not believed, so that `batches` are sampled; empty otherwise.
    """

    batches: list[Batch]
    method: str
    n_samples: int
    gradient_error: float
    hessian_error: float
    enough: bool
    is_gaussian: bool
    expectations: list[Expectation]
    objection: str = ""

    @property
    def is_sampled(self) -> bool:
        """Whether intervals over batches are needed."""
        return self.method in ("sampling", "sobol", "given points")


def fresh_seed(seed: int, position: int) -> int:
    """A seed that nobody counting up from 0 will use; a function of both."""
    words = gaussian.uniform_bits((1, 2), seed=seed, purpose=PURPOSE_FRESH, row_offset=position)[0]
    return ((int(words[1]) % 2**30) << 32) | (int(words[0]) % 2**32)


def of_expectation(F: Expectation, n_batches: int, seed: int, *, smooth: bool) -> Source:
    """The expectation's own law: one batch where it is exact or a quadrature, independent batches where not."""
    whole = F.redrawn(seed=fresh_seed(seed, 0), precision="exact")
    gradient = whole.grad()
    hessian = whole.hessian_z() if smooth else None
    deterministic, objection = ("exact", "quadrature"), ""
    if gradient.method in deterministic and (hessian is None or hessian.method in deterministic):
        gradient_error = float(torch.linalg.vector_norm(flatten_blocks(gradient.half_width())))
        hessian_error = 0.0 if hessian is None else float(torch.linalg.matrix_norm(hessian.half_width()))
        n = gradient.n_samples + (0 if hessian is None else hessian.n_samples)
        made = _batch(gradient, hessian)
        if "quadrature" in (gradient.method, "exact" if hessian is None else hessian.method):
            error = (gradient_error, hessian_error)
            objection = contradicts(whole, made.W, made.b, made.H, error, fresh_seed(seed, _CHECK)) or ""
        if not objection:
            return Source([made], gradient.method, n, gradient_error, hessian_error, True, True, [whole])
    each = max(2, F.n_samples // n_batches // 2 * 2)
    method = "sobol" if gradient.method == "sobol" else "sampling"
    drawn = [
        F.redrawn(seed=fresh_seed(seed, 1 + j), n_samples=each, method=method, precision="exact")
        for j in range(n_batches)
    ]
    batches = [_batch(one.grad(), one.hessian_z() if smooth else None) for one in drawn]
    enough = each >= LEAST_EVALUATIONS and n_batches >= 8
    return Source(batches, method, each * n_batches, 0.0, 0.0, enough, True, drawn, objection)


def of_points(F: Expectation, points: Tensor, n_batches: int, *, smooth: bool) -> Source:
    """Averages over given x (n, d), in consecutive batches, taken as independent samples of x's law, whatever that
    is.

    Raises:
        TypeError, ValueError: not a matrix of d columns, or not finite.
    """
    d = F.W.shape[1]
    if not isinstance(points, Tensor):
        raise TypeError(f"`points` must be a torch tensor (n, d); got {type(points).__name__}.")
    if points.ndim != 2 or points.shape[1] != d:
        raise ValueError(f"`points` must be (n, {d}), one x a row; got shape {tuple(points.shape)}.")
    if len(points) < 2 * n_batches:
        n_batches = max(1, len(points) // 2)
    if len(points) < 1 or not bool(torch.isfinite(points).all()):
        raise ValueError("`points` must hold at least one x, all of them finite.")
    batches = [_at_points(F, part.to(F.W.device), smooth=smooth) for part in points.tensor_split(n_batches)]
    enough = len(points) // n_batches >= LEAST_EVALUATIONS and n_batches >= 8
    return Source(batches, "given points", len(points), 0.0, 0.0, enough, False, [])


def _batch(gradient: Estimate[Blocks], hessian: Estimate[Tensor] | None) -> Batch:
    value = gradient.value
    theta = torch.cat([part.flatten() for part in value.theta]) if value.theta else value.b.new_zeros(0)
    return Batch(value.W, value.b, theta, None if hessian is None else hessian.value)


def _at_points(F: Expectation, x: Tensor, *, smooth: bool) -> Batch:
    W, b, k = F.W.detach().double(), F.b.detach().double(), len(F.b)
    rows = getattr(F.head, "rows", None)
    x = x.double()
    z = (x @ W.T + b).requires_grad_(True)
    u = [x @ rows.detach().double().T] if isinstance(rows, Tensor) else []
    function, theta = in_double(F)
    with torch.enable_grad():
        gz, *gtheta = torch.autograd.grad(
            function(torch.cat([z, *u], 1)).mean(), [z, *theta], create_graph=True, allow_unused=True,
            materialize_grads=True,
        )  # fmt: skip
        H = torch.zeros((k, k), dtype=torch.float64, device=x.device)
        for row in range(k if smooth and gz.requires_grad else 0):
            H[row] = torch.autograd.grad(gz[:, row].sum(), z, retain_graph=True)[0].sum(0)
    slope = gz.detach()
    flat = torch.cat([part.detach().flatten() for part in gtheta]) if theta else slope.new_zeros(0)
    return Batch(slope.T @ x, slope.sum(0), flat, 0.5 * (H + H.T) if smooth else None)
