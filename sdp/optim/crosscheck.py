"""Whether a small sample contradicts a quadrature: the order of nodes cannot tell what lies between all of them.

Two orders agree on missing a feature that is narrower than the gaps between their nodes. Draws fall anywhere: 4,096 of
them see, but for a chance of 1 in 60, what happens with a probability of 1e-3, and nearly never what is much rarer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sdp.expectation.expectation import Expectation
from sdp.expectation.sampling import Rung, quadrature_nodes
from sdp_kernels import gaussian

N_DRAWS = 4096
PURPOSE_DRAWS, PURPOSE_PROBES = 118, 119  # beside the streams in `_teachers.py`
MOST_PROBES = 8  # directions in which curvature is looked at, where k is larger
MOST_ERRORS = 6.0  # standard errors apart that decide
ROUNDING = 1e-9  # of the root mean square
# Two orders for second moments, by rank: some thousands of nodes at most.
ORDERS = {1: (42, 63), 2: (28, 42), 3: (13, 19), 4: (6, 9)}


class _Moments(NamedTuple):
    """Weighted means over points: of the gradient, of it times xi, of Hessian times probes, of all their squares."""

    mean: Tensor  # (M,)
    square: Tensor  # (M,) means of squares
    size: float  # mean of |gradient|^2 + |Hessian probes|^2 ...
    size_square: float  # ... and of its square


def in_double(F: Expectation) -> tuple[Callable[[Tensor], Tensor], list[Tensor]]:
    """The head in float64 as a function of z (n, k or k + r) -> (n,), and its theta, which require gradients."""
    named = dict(F.head.named_parameters())
    made = {
        name: part.detach().double().requires_grad_(part.requires_grad and part.is_floating_point())
        for name, part in named.items()
    }
    fixed = {
        name: part.double() if part.is_floating_point() else part for name, part in F.head.named_buffers()
    }
    theta = [made[name] for name, part in named.items() if part.requires_grad]

    def function(z: Tensor) -> Tensor:
        result: Tensor = torch.func.functional_call(F.head, {**fixed, **made}, (z,))
        return result

    return function, theta


def contradicts(
    F: Expectation, W: Tensor, b: Tensor, H: Tensor | None, error: tuple[float, float], seed: int
) -> str | None:
    """What a sample says against the quadrature's gradient in W (k, d) and b (k,), and H (k, k); None if nothing.

    Means must agree to within six standard errors. So must the mean square of gradient and curvature, whose
    quadrature misses what the sample's own error would hide: a narrow feature makes means noisy before it moves them.

    Args:
        F: the expectation, of rank 1 to 4.
        W: E[grad g x^T].
        b: E[grad g].
        H: E[hess g]; None where the head has none.
        error: bounds of the quadrature's error in the norm of (W, b), and of H.
        seed: of the draws.

    Complexity: 4,096 evaluations of the head, and of its Hessian times at most 8 vectors; as many at nodes.
    """
    law, k = F.law, len(b)
    q = law.rank
    L = law.L.double()
    shift = torch.cat([F.b.detach().double(), L.new_zeros(len(L) - k)])
    n_probes = 0 if H is None else min(k, MOST_PROBES)
    if n_probes == k:
        probes = torch.eye(k, dtype=torch.float64, device=L.device)
    else:
        made = gaussian.normal((n_probes, k), seed=seed, purpose=PURPOSE_PROBES, dtype=torch.float64)
        probes = (made / torch.linalg.vector_norm(made, dim=1, keepdim=True)).to(L.device)
    function, _ = in_double(F)

    def moments(xi: Tensor, weights: Tensor) -> _Moments:
        return _moments(function, shift + xi @ L.T, xi, weights, probes, k)

    xi = gaussian.normal((N_DRAWS, q), seed=seed, purpose=PURPOSE_DRAWS, dtype=torch.float64).to(L.device)
    drawn = moments(xi, xi.new_full((N_DRAWS,), 1.0 / N_DRAWS))
    known = torch.cat([b, (W @ law.Q.double()).flatten(), *([] if H is None else [(probes @ H).flatten()])])
    slack = torch.full_like(known, error[0])
    slack[k + k * q :] = error[1]
    slack += ROUNDING * drawn.size**0.5
    low, high = (
        moments(*(part.to(L.device) for part in quadrature_nodes(q, Rung(order, 1e-14))))
        for order in ORDERS[q]
    )
    # Of heavy tails the nodes know more than the draws, of narrow features less: whichever says more noise.
    variance = torch.maximum(drawn.square - drawn.mean**2, high.square - high.mean**2).clamp_min(0.0)
    if bool(((drawn.mean - known).abs() > MOST_ERRORS * (variance / N_DRAWS).sqrt() + slack).any()):
        return "a sample contradicts the quadrature's means"
    between = 3.0 * abs(high.size - low.size) + ROUNDING * drawn.size
    noise = MOST_ERRORS * (max(0.0, drawn.size_square - drawn.size**2) / N_DRAWS) ** 0.5
    if drawn.size - noise > high.size + between:
        return "a sample finds gradients or curvature that lie between the quadrature's nodes"
    return None


def _moments(
    function: Callable[[Tensor], Tensor], z: Tensor, xi: Tensor, weights: Tensor, probes: Tensor, k: int
) -> _Moments:
    z = z.detach().requires_grad_(True)
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(function(z).sum(), z, create_graph=len(probes) > 0)
        rows = []
        for probe in probes:
            row = torch.zeros_like(z)
            if slope.requires_grad:
                (row,) = torch.autograd.grad(
                    slope[:, :k] @ probe, z, torch.ones_like(z[:, 0]), retain_graph=True,
                    allow_unused=True, materialize_grads=True,
                )  # fmt: skip
            rows.append(row[:, :k])
    slope = slope.detach()[:, :k]
    parts = [slope, *rows]
    size = torch.stack([(part**2).sum(1) for part in parts]).sum(0)
    mean = [weights @ slope, ((weights[:, None] * slope).T @ xi).flatten(), *(weights @ row for row in rows)]
    square = [
        weights @ slope**2, ((weights[:, None] * slope**2).T @ xi**2).flatten(), *(weights @ row**2 for row in rows),
    ]  # fmt: skip
    return _Moments(torch.cat(mean), torch.cat(square), float(weights @ size), float(weights @ size**2))
