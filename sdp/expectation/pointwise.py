"""Value, gradient and Hessian-vector products of any torch head, block of draws by block of draws, by autograd.

    phi(L, b, theta) = mean_p 1/2 [g(b + L xi_p) + g(b - L xi_p)]   (antithetic),   mean_p g(b + L xi_p),
    or sum_p weight_p g(b + L xi_p) over given points

The same draws, batches and columns as `sdp_kernels.expectation` has for an MLP: columns are L row by row, b, and every
tensor of theta row by row. Memory does not grow with the number of draws. Reductions over draws are float64 sums of
fixed blocks in order. One seed gives the same bits at one number of threads; at another, torch's matrix products (here
and in the head) may differ in their last bit: MKL's float32 ones did for 46 of 250 random shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sdp.expectation.estimate import pieces
from sdp.expectation.sampling import PURPOSE_CHECKS
from sdp_kernels import gaussian
from sdp_kernels.expectation import Draw, batch_sizes

Function = Callable[[Sequence[Tensor], Tensor], Tensor]  # theta, z (n, k) -> (n,)

# Draws of a block: a pure function of the shape, since it sets the order of sums. The head's own memory is unknown;
# this many rows of a few hundred units are some megabytes.
BLOCK_FLOATS = 1 << 19
MIN_ROWS, MAX_ROWS = 64, 4096


class _Block(NamedTuple):
    """Rows of `n_batches` batches of equal size, batch after batch; or a part of one batch."""

    first: int
    n_batches: int
    xi: Tensor  # (n_batches * n, q)
    weights: Tensor  # (n_batches * n,) float64; they sum to 1 over a batch

    @property
    def batches(self) -> slice:
        return slice(self.first, self.first + self.n_batches)


def rows_of_block(k: int, q: int) -> int:
    """Draws of a block, if it is a part of a batch; the most of them, if it holds several batches."""
    return max(MIN_ROWS, min(MAX_ROWS, BLOCK_FLOATS // (k + q + 1)))


def value_batches(function: Function, L: Tensor, b: Tensor, theta: Sequence[Tensor], draw: Draw) -> Tensor:
    """Mean of g over every batch of draws: float64 (B,).

    Args:
        function: (theta, z) -> one number per row of z.
        L: (k, q) float32 or float64, the dtype of all arithmetic but the sums.
        b: (k,).
        theta: tensors of the head.
        draw: the draws.
    """
    out = torch.zeros(_n_batches(draw), dtype=torch.float64, device=L.device)
    with torch.no_grad():
        for block in _blocks(L, draw):
            out[block.batches] += _values(function(theta, _points(L, b, draw, block)), draw, block)
    return out


def grad_batches(
    function: Function, L: Tensor, b: Tensor, theta: Sequence[Tensor], draw: Draw
) -> tuple[Tensor, Tensor]:
    """Values (B,) and gradients (B, P) of every batch, float64. Arguments as `value_batches`."""
    values = torch.zeros(_n_batches(draw), dtype=torch.float64, device=L.device)
    grads = values.new_zeros((len(values), _n_columns(L, b, theta)))
    for block in _blocks(L, draw, several=not theta):
        g, _, gradient = _first_order(function, L, b, theta, draw, block)
        values[block.batches] += _values(g, draw, block)
        grads[block.batches] += _columns(gradient, draw, block)
    return values, grads


def hvp_batches(
    function: Function, L: Tensor, b: Tensor, theta: Sequence[Tensor], draw: Draw, directions: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Values (B,), gradients (B, P) and Hessian-vector products (B, m, P) of every batch, float64.

    The gradient's graph is built once a block and shared by all directions: each costs one backward pass through it.

    Args:
        function: as `value_batches`, and so the arguments not named here.
        L: factor of the law.
        b: shift.
        theta: tensors of the head.
        draw: the draws.
        directions: (m, P), in the columns' order.
    """
    values = torch.zeros(_n_batches(draw), dtype=torch.float64, device=L.device)
    grads = values.new_zeros((len(values), _n_columns(L, b, theta)))
    hvps = values.new_zeros((len(values), len(directions), grads.shape[1]))
    tensors = (L, b, *theta)
    sizes = [tensor.numel() for tensor in tensors]
    parts = [
        [part.view_as(tensor) for part, tensor in zip(pieces(row, sizes), tensors, strict=True)]
        for row in directions
    ]
    for block in _blocks(L, draw, several=not theta):
        g, inputs, gradient = _first_order(function, L, b, theta, draw, block, create_graph=True)
        values[block.batches] += _values(g.detach(), draw, block)
        grads[block.batches] += _columns([part.detach() for part in gradient], draw, block)
        for m, (V_L, V_b, *V_theta) in enumerate(parts):
            moved = _points(V_L, V_b, draw, block)
            products = _second_order(gradient, inputs, [moved, *V_theta])
            hvps[block.batches, m] += _columns(products, draw, block)
    return values, grads, hvps


def hessian_b_batches(
    function: Function, L: Tensor, b: Tensor, theta: Sequence[Tensor], draw: Draw
) -> Tensor:
    """Hessian in b of every batch, E[hess g(z)]: float64 (B, k, k). Arguments as `value_batches`."""
    hessians = torch.zeros((_n_batches(draw), len(b), len(b)), dtype=torch.float64, device=L.device)
    for block in _blocks(L, draw):
        _, inputs, gradient = _first_order(function, L, b, theta, draw, block, create_graph=True)
        for row in range(len(b)):
            unit = torch.zeros_like(inputs[0])
            unit[:, row] = 1.0
            line = _second_order(gradient[:1], inputs[:1], [unit])[0]
            hessians[block.batches, row] += _per_batch(line, block).sum(1)
    return hessians


def stein_mismatch(function: Function, L: Tensor, b: Tensor, theta: Sequence[Tensor], seed: int) -> float:
    """By how many standard errors Stein's identity fails at N(b, L L^T + s^2 I): large where g has kinks.

        E[d_i g(z) eta_i] = s E[d_ii g(z)],   z = b + L xi + s eta,   s = 1/4,   i = 1 ... k

    holds where grad g is absolutely continuous. Autograd's Hessian misses what a kink puts on the right (that of relu
    is zero everywhere it looks), so the difference of the two sides, averaged over samples, tells. The diagonal is
    estimated by a random sign vector a sample (Bekas, Kokiopoulou and Saad 2007).

    Returns:
        The largest of the k ratios.
    """
    n, k, q, step = 4096, *L.shape, 0.25
    made = gaussian.normal((n, q + k), seed=seed, purpose=PURPOSE_CHECKS, dtype=L.dtype, device=L.device)
    xi, eta = made[:, :q], made[:, q:]
    signs = gaussian.rademacher((n, k), seed=seed, purpose=PURPOSE_CHECKS, device=L.device).to(L.dtype)
    z = (b + xi @ L.T + step * eta).detach().requires_grad_(True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(function(theta, z).sum(), [z], create_graph=True)
        first = gradient.detach() * eta
        product = torch.zeros_like(z)
        if gradient.requires_grad:
            (product,) = torch.autograd.grad(gradient, [z], signs, allow_unused=True, materialize_grads=True)
    difference = (first - step * product * signs).to(torch.float64)
    error = difference.std(0) / n**0.5
    return float(torch.where(error > 0.0, difference.mean(0).abs() / error, 0.0).max())


def _blocks(L: Tensor, draw: Draw, *, several: bool = True) -> Iterator[_Block]:
    """The draws in order; `several` small batches share a block where their sums can be told apart afterwards."""
    rows = rows_of_block(*L.shape)
    if draw.weights is not None:
        for offset in range(0, draw.n, rows):
            count = min(rows, draw.n - offset)
            weights = draw.weights[offset : offset + count].to(torch.float64)
            yield _Block(0, 1, _draws(L, draw, offset, count), weights)
        return
    sizes = batch_sizes(draw.n)
    first = start = 0
    while first < len(sizes):
        size = sizes[first]
        equal = len(sizes) - first - (sizes[-1] != size)
        together = max(1, min(equal, rows // size)) if several else 1
        total = together * size
        for offset in range(0, total, rows):
            count = min(rows, total - offset)
            weights = torch.full((count,), 1.0 / size, dtype=torch.float64, device=L.device)
            yield _Block(first, together, _draws(L, draw, start + offset, count), weights)
        first += together
        start += together * size


def _draws(L: Tensor, draw: Draw, offset: int, count: int) -> Tensor:
    """Rows `offset` to `offset + count` of xi: (count, q)."""
    if draw.points is not None:
        return draw.points[offset : offset + count].to(L.dtype)
    return gaussian.normal(
        (count, L.shape[1]),
        seed=draw.seed,
        purpose=gaussian.PURPOSE_SAMPLES,
        row_offset=draw.first + offset,
        dtype=L.dtype,
        device=L.device,
    )


def _points(L: Tensor, b: Tensor, draw: Draw, block: _Block) -> Tensor:
    """Z of a block: b + L xi, and then b - L xi if antithetic."""
    step = block.xi @ L.T
    return torch.cat([b + step, b - step]) if draw.antithetic else b + step


def _per_batch(rows: Tensor, block: _Block) -> Tensor:
    """(signs * n_batches * n, ...) -> float64 (n_batches, signs * n, ...)."""
    signs = len(rows) // len(block.xi)
    n = len(block.xi) // block.n_batches
    apart = rows.to(torch.float64).reshape(signs, block.n_batches, n, *rows.shape[1:])
    return apart.transpose(0, 1).flatten(1, 2)


def _row_weights(draw: Draw, block: _Block) -> Tensor:
    """Weight of every row of z, float64."""
    return 0.5 * torch.cat([block.weights, block.weights]) if draw.antithetic else block.weights


def _values(g: Tensor, draw: Draw, block: _Block) -> Tensor:
    """Weighted sums over each batch: (n_batches,)."""
    return _per_batch(g.to(torch.float64) * _row_weights(draw, block), block).sum(1)


def _first_order(
    function: Function,
    L: Tensor,
    b: Tensor,
    theta: Sequence[Tensor],
    draw: Draw,
    block: _Block,
    create_graph: bool = False,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """G of every row, the leaves (z, theta), and the gradient in them of the weighted sum of g."""
    inputs = [part.detach().requires_grad_(True) for part in (_points(L, b, draw, block), *theta)]
    with torch.enable_grad():
        g = function(inputs[1:], inputs[0])
        total = _row_weights(draw, block) @ g.to(torch.float64)
        gradient = torch.autograd.grad(
            total, inputs, create_graph=create_graph, allow_unused=True, materialize_grads=True
        )
    return g.detach(), inputs, list(gradient)


def _second_order(
    gradient: Sequence[Tensor], inputs: Sequence[Tensor], moved: Sequence[Tensor]
) -> list[Tensor]:
    """Derivative of the gradient where the inputs move: by the Hessian's symmetry, a backward pass."""
    live = [i for i, part in enumerate(gradient) if part.requires_grad]
    if not live:  # linear in everything
        return [torch.zeros_like(part) for part in inputs]
    found = torch.autograd.grad(
        [gradient[i] for i in live],
        inputs,
        [moved[i] for i in live],
        retain_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )
    return list(found)


def _columns(parts: Sequence[Tensor], draw: Draw, block: _Block) -> Tensor:
    """Derivatives in (z, theta) as columns in (L, b, theta): float64 (n_batches, P)."""
    dz, *dtheta = parts
    if draw.antithetic:
        plus, minus = dz.chunk(2)
        odd = plus - minus
    else:
        odd = dz
    n, (_, q) = len(block.xi) // block.n_batches, block.xi.shape
    xi = block.xi.reshape(block.n_batches, n, q)
    dL = odd.reshape(block.n_batches, n, odd.shape[1]).transpose(1, 2) @ xi
    made = [dL.flatten(1).to(torch.float64), _per_batch(dz, block).sum(1)]
    made += [part.to(torch.float64).view(1, -1) for part in dtheta]  # one batch, where theta is not empty
    return torch.cat(made, 1)


def _n_batches(draw: Draw) -> int:
    return 1 if draw.weights is not None else len(batch_sizes(draw.n))


def _n_columns(L: Tensor, b: Tensor, theta: Sequence[Tensor]) -> int:
    return sum(tensor.numel() for tensor in (L, b, *theta))
