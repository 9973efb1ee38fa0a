"""The Gaussian expectation of a head of any width and depth, streamed through torch on any device.

    phi = sum_p weight_p 1/2 [g(b + L xi_p) + g(b - L xi_p)]

Forward, backward and the forward-over-reverse Hessian-vector product are written out, so that

- a block of draws is drawn, used and forgotten: memory does not grow with their number;
- an antithetic pair shares the product L xi, its gradient the product (dz+ - dz-) xi^T;
- all directions share the primal pass, and each of their products is one GEMM: with N rows and m directions a layer
  costs 3 GEMMs for the gradient and 4 m more for the HVPs (autograd's double backward repeats the 3 for each of m).

Layout: rows of a block are ordered (batch, sign, draw); tangents are (row, direction, unit), so that products with
shared weights and products with the directions' own weights both are plain GEMMs over contiguous memory.

Reductions over rows are GEMMs inside a block and float64 sums of blocks in order; blocks are a pure function of
shapes. Sums by torch.sum are avoided: their order depends on the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from sdp_kernels import gaussian
from sdp_kernels.activations import derivatives

if TYPE_CHECKING:
    from sdp_kernels._expectation_problem import Draw, Network

MAX_BATCHES = 32
# Floats of one block's primal pass (2 MiB in float32: it stays in the outer cache, and larger blocks were slower) and
# of the tangents of one group of directions.
BLOCK_FLOATS, TANGENT_FLOATS = 1 << 19, 1 << 21
MIN_ROWS, MAX_ROWS = 64, 2048


class Block(NamedTuple):
    """Draws `start` to `start + n_batches * n_rows`: equal parts of `n_batches` consecutive batches."""

    batch: int
    n_batches: int
    start: int
    n_rows: int


class Head(NamedTuple):
    """Tensors of the head (or of m directions in it, with a leading m)."""

    weights: list[Tensor]
    biases: list[Tensor]
    a: Tensor
    c: Tensor


class Trace(NamedTuple):
    """What a forward pass leaves for the others: N rows, layer by layer."""

    h: list[Tensor]  # h_0 ... h_D
    first: list[Tensor]  # act' of layers 1 ... D
    second: list[Tensor]
    input_first: Tensor | None  # act' and act'' of z where the head activates its input
    input_second: Tensor | None
    loss: tuple[Tensor, ...]  # g and its derivatives in s, (N,)


class Adjoint(NamedTuple):
    """Derivatives of the weighted sum of g: dh_i and delta_i = dh_i * act'_i, layer by layer, and dz."""

    seed: Tensor  # (N,)
    dh: list[Tensor]
    delta: list[Tensor]
    dz: Tensor


def batch_sizes(n: int) -> list[int]:
    """As the public `batch_sizes`."""
    size = -(-n // MAX_BATCHES)
    return [min(size, n - start) for start in range(0, n, size)]


def draw_batches(draw: Draw) -> list[int]:
    """Sizes of the batches of a draw: weighted points are one."""
    return [draw.n] if draw.weights is not None else batch_sizes(draw.n)


def blocks(sizes: Sequence[int], rows: int) -> Iterator[Block]:
    """Blocks of at most `rows` draws, in order; several batches share one where they are small."""
    size, start, batch = sizes[0], 0, 0
    while batch < len(sizes):
        if sizes[batch] == size and size <= rows:
            full = len(sizes) - (sizes[-1] != size)
            n_batches = min(max(1, rows // size), full - batch)
            yield Block(batch, n_batches, start, size)
            start += n_batches * size
            batch += n_batches
            continue
        for offset in range(0, sizes[batch], rows):
            yield Block(batch, 1, start + offset, min(rows, sizes[batch] - offset))
        start += sizes[batch]
        batch += 1


def draws(block: Block, q: int, draw: Draw, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The block's rows of xi: (n_batches * n_rows, q)."""
    count = block.n_batches * block.n_rows
    if draw.points is not None:
        return draw.points[block.start : block.start + count].to(dtype)
    return gaussian.normal(
        (count, q),
        seed=draw.seed,
        purpose=gaussian.PURPOSE_SAMPLES,
        row_offset=draw.first + block.start,
        dtype=dtype,
        device=device,
    )


def value_batches(
    L: Tensor, b: Tensor, params: Sequence[Tensor], network: Network, draw: Draw, precision: str
) -> Tensor:
    """As the public `value_batches`."""
    return _Stream(L, b, params, network, draw, precision).run(order=0)[0]


def grad_batches(
    L: Tensor, b: Tensor, params: Sequence[Tensor], network: Network, draw: Draw, precision: str
) -> tuple[Tensor, Tensor]:
    """As the public `grad_batches`."""
    return _Stream(L, b, params, network, draw, precision).run(order=1)[:2]


def hvp_batches(
    L: Tensor,
    b: Tensor,
    params: Sequence[Tensor],
    network: Network,
    draw: Draw,
    directions: Tensor,
    precision: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """As the public `hvp_batches`."""
    return _Stream(L, b, params, network, draw, precision).run(order=2, directions=directions)


def hessian_b_batches(
    L: Tensor, b: Tensor, params: Sequence[Tensor], network: Network, draw: Draw, precision: str
) -> Tensor:
    """As the public `hessian_b_batches`."""
    return _Stream(L, b, params, network, draw, precision).run(order=2, only_b=True)[2]


class _Stream:
    """One call: tensors in the working dtype, and the accumulators of its batches."""

    def __init__(
        self,
        L: Tensor,
        b: Tensor,
        params: Sequence[Tensor],
        network: Network,
        draw: Draw,
        precision: str,
    ) -> None:
        k, q = L.shape
        # q = 0 is one exact evaluation, which float64 costs nothing.
        self.dtype = torch.float64 if precision == "exact" or q == 0 else torch.float32
        self.L, self.b, *tensors = (tensor.detach().to(self.dtype) for tensor in (L, b, *params))
        self.head = Head(tensors[:-2:2], tensors[1:-2:2], tensors[-2], tensors[-1].reshape(()))
        self.network, self.draw = network, draw
        self.k, self.q = k, q
        self.sizes = [tensor.numel() for tensor in (L, b, *params)]
        self.n_columns = sum(self.sizes)
        self.widths = [k, *(len(c) for c in self.head.biases)]
        self.signs = 2 if draw.antithetic and q else 1

    def run(
        self, order: int, directions: Tensor | None = None, only_b: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Values (B,), gradients (B, P) and HVPs (B, m, P or k); what `order` does not ask for is empty."""
        sizes = draw_batches(self.draw)
        m = self.k if only_b else len(directions) if directions is not None else 0
        columns = (self.k if only_b else self.n_columns) if order == 2 else 0
        zeros: dict[str, Any] = {"dtype": torch.float64, "device": self.L.device}
        values = torch.zeros(len(sizes), **zeros)
        grads = torch.zeros(len(sizes), self.n_columns if order else 0, **zeros)
        hvps = torch.zeros(len(sizes), m, columns, **zeros)
        # Rows depend on shapes alone, not on what is asked: values are the same bits with and without gradients.
        rows = BLOCK_FLOATS // (self.q + 6 * self.signs * sum(self.widths))
        rows = max(MIN_ROWS, min(MAX_ROWS, rows))
        group = max(1, TANGENT_FLOATS // (5 * rows * self.signs * sum(self.widths)))
        if only_b:
            groups = [self._unit_tangent(rows_of_eye) for rows_of_eye in _groups(torch.arange(m), group)]
        else:
            parts = _groups(directions, group) if directions is not None and m else []
            groups = [self._tangent(part) for part in parts]

        # Without a row space there is nothing to draw: one row stands for all draws of its batch.
        exact = self.q == 0
        for block in [Block(0, 1, 0, 1)] if exact else blocks(sizes, rows):
            self._block(block, order, groups, only_b, values, grads, hvps)
        if self.draw.weights is not None:
            scale = torch.full((1,), float(self.draw.weights.double().sum()) if exact else 1.0, **zeros)
        elif exact:
            scale = torch.ones(len(sizes), **zeros)
        else:
            scale = torch.tensor(sizes, **zeros).reciprocal()
        scale = scale / self.signs
        if exact:
            values, grads, hvps = (out[:1].expand(out.shape) for out in (values, grads, hvps))
        return values * scale, grads * scale[:, None], hvps * scale[:, None, None]

    def _block(
        self,
        block: Block,
        order: int,
        groups: list[tuple[Tensor | None, Tensor, Head]],
        only_b: bool,
        values: Tensor,
        grads: Tensor,
        hvps: Tensor,
    ) -> None:
        batches = slice(block.batch, block.batch + block.n_batches)
        shape = (block.n_batches, self.signs, block.n_rows)
        if self.q:
            xi = draws(block, self.q, self.draw, self.dtype, self.L.device)
            z = self._both_signs(xi @ self.L.T, shape) + self.b
        else:
            xi, z = self.b.new_empty((1, 0)), self.b[None]
        trace = self._forward(z, order)
        weight = self._weights(block) if self.q else None
        loss = trace.loss if weight is None else tuple(weight * part for part in trace.loss)
        values[batches] += _row_sums(loss[0][:, None].double(), block.n_batches)[:, 0]
        if order == 0:
            return
        adjoint = self._backward(trace, loss[1])
        self._add_gradient(grads[batches], trace, adjoint, xi, shape)
        first = 0
        for tangent in groups:
            last = first + len(tangent[1])
            self._add_hvps(hvps[batches, first:last], trace, adjoint, loss[2], tangent, xi, shape, only_b)
            first = last

    def _weights(self, block: Block) -> Tensor | None:
        if self.draw.weights is None:
            return None
        weights = self.draw.weights[block.start : block.start + block.n_rows].to(self.dtype)
        return weights.repeat(self.signs)

    def _both_signs(self, u: Tensor, shape: tuple[int, int, int]) -> Tensor:
        """Rows (batch, draw) to rows (batch, sign, draw)."""
        if self.signs == 1:
            return u
        u = u.reshape(shape[0], shape[2], -1)
        return torch.stack([u, -u], dim=1).reshape(2 * shape[0] * shape[2], -1)

    def _odd_part(self, dz: Tensor, shape: tuple[int, int, int]) -> Tensor:
        """Rows (batch, sign, draw) to (batch, draw, unit): what meets xi."""
        dz = dz.reshape(*shape, -1)
        return dz[:, 0] - dz[:, 1] if self.signs == 2 else dz[:, 0]

    def _activate(self, x: Tensor, order: int) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = derivatives(self.network.activation, x, order, self.network.iota)
        return found

    def _forward(self, z: Tensor, order: int) -> Trace:
        h, first, second = [z], list[Tensor](), list[Tensor]()
        input_first = input_second = None
        if self.network.activate_input:
            found = self._activate(z, order)
            h = [found[0]]
            input_first = found[1] if order > 0 else None
            input_second = found[2] if order > 1 else None
        for A, c in zip(self.head.weights, self.head.biases, strict=True):
            found = self._activate(torch.addmm(c, h[-1], A.T), order)
            h.append(found[0])
            first += found[1:2]
            second += found[2:3]
        s = h[-1] @ self.head.a + self.head.c
        return Trace(h, first, second, input_first, input_second, loss_derivatives(self.network, s, order))

    def _backward(self, trace: Trace, seed: Tensor) -> Adjoint:
        dh = [seed[:, None] * self.head.a]
        delta: list[Tensor] = []
        for A, first in zip(reversed(self.head.weights), reversed(trace.first), strict=True):
            delta.append(dh[-1] * first)
            dh.append(delta[-1] @ A)
        dz = dh[-1] if trace.input_first is None else dh[-1] * trace.input_first
        return Adjoint(seed, dh[::-1], delta[::-1], dz)

    def _add_gradient(
        self, out: Tensor, trace: Trace, adjoint: Adjoint, xi: Tensor, shape: tuple[int, int, int]
    ) -> None:
        """Add the block's gradient to out (n_batches, P)."""
        n = shape[0]
        parts = [
            _outer(self._odd_part(adjoint.dz, shape).flatten(0, 1), xi, n).flatten(1),
            _row_sums(adjoint.dz, n),
        ]
        for h, delta in zip(trace.h, adjoint.delta, strict=False):
            parts += [_outer(delta, h, n).flatten(1), _row_sums(delta, n)]
        seed = adjoint.seed[:, None]
        parts += [_outer(seed, trace.h[-1], n).flatten(1), _row_sums(seed, n)]
        for column, part in zip(split_columns(out, self.sizes), parts, strict=True):
            column += part

    def _tangent(self, directions: Tensor) -> tuple[Tensor | None, Tensor, Head]:
        """Directions (m, P) as V_L (m k, q) or None where it is 0, V_b (m, k) and the head's tensors.

        Blocks that are 0 in every direction are empty tensors, and their products are left out.
        """
        m = len(directions)
        shapes = [(self.k, self.q), (self.k,)]
        for A, c in zip(self.head.weights, self.head.biases, strict=True):
            shapes += [tuple(A.shape), tuple(c.shape)]
        shapes += [tuple(self.head.a.shape), ()]
        columns = split_columns(directions.detach().to(self.dtype), self.sizes)
        V_L, V_b, *rest = (
            part.reshape(m, *shape) if bool(part.any()) else part.new_empty((0, *shape))
            for part, shape in zip(columns, shapes, strict=True)
        )
        if not len(V_b):
            V_b = V_b.new_zeros((m, self.k))
        head = Head(rest[:-2:2], rest[1:-2:2], rest[-2], rest[-1])
        return V_L.flatten(0, 1) if len(V_L) else None, V_b, head

    def _unit_tangent(self, which: Tensor) -> tuple[Tensor | None, Tensor, Head]:
        """Directions along some entries of b."""
        eye = torch.eye(self.k, dtype=self.dtype, device=self.L.device)
        none = [eye.new_empty(0) for _ in self.head.weights]
        return None, eye[which.to(eye.device)], Head(none, none, eye.new_empty(0), eye.new_empty(0))

    def _add_hvps(
        self,
        out: Tensor,
        trace: Trace,
        adjoint: Adjoint,
        curvature: Tensor,
        tangent: tuple[Tensor | None, Tensor, Head],
        xi: Tensor,
        shape: tuple[int, int, int],
        only_b: bool,
    ) -> None:
        """Add the block's HVPs to out (n_batches, m, P), or their b columns to out (n_batches, m, k)."""
        V_L, V_b, v = tangent
        m, n_rows = len(V_b), len(trace.h[0])
        # Forward: tangents of h_i and of the pre-activations.
        zt = V_b.expand(n_rows, m, self.k)
        if V_L is not None:
            zt = self._both_signs(xi @ V_L.T, shape).view(n_rows, m, self.k) + V_b
        ht = [zt if trace.input_first is None else trace.input_first[:, None] * zt]
        pre = []
        for i, A in enumerate(self.head.weights):
            x = ht[-1] @ A.T
            if len(v.weights[i]):
                x += (trace.h[i] @ v.weights[i].flatten(0, 1).T).view(n_rows, m, -1)
            if len(v.biases[i]):
                x += v.biases[i]
            pre.append(x)
            ht.append(trace.first[i][:, None] * x)
        st = ht[-1] @ self.head.a
        if len(v.a):
            st += trace.h[-1] @ v.a.T
        if len(v.c):
            st += v.c
        # Backward: tangents of the adjoints.
        seed_t = curvature[:, None] * st
        dht = seed_t[:, :, None] * self.head.a
        if len(v.a):
            dht += adjoint.seed[:, None, None] * v.a
        delta_t: list[Tensor] = []
        for i in reversed(range(len(pre))):
            dt = dht * trace.first[i][:, None]
            dt += (adjoint.dh[i + 1] * trace.second[i])[:, None] * pre[i]
            delta_t.append(dt)
            dht = dt @ self.head.weights[i]
            if len(v.weights[i]):
                dht += (adjoint.delta[i] @ v.weights[i].transpose(0, 1).flatten(1)).view(n_rows, m, -1)
        delta_t.reverse()
        if trace.input_first is not None and trace.input_second is not None:
            dht = dht * trace.input_first[:, None] + (adjoint.dh[0] * trace.input_second)[:, None] * zt
        n = shape[0]
        if only_b:
            out += _row_sums(dht, n)
            return
        # Products: d(delta h^T) = delta_t h^T + delta h_t^T.
        odd = self._odd_part(dht.flatten(1), shape).flatten(0, 1)
        parts = [_outer(odd, xi, n).reshape(n, m, -1), _row_sums(dht, n)]
        for i, dt in enumerate(delta_t):
            product = _outer(dt.flatten(1), trace.h[i], n).view(n, m, *self.head.weights[i].shape)
            product += (
                _outer(adjoint.delta[i], ht[i].flatten(1), n)
                .view(n, len(self.head.biases[i]), m, -1)
                .transpose(1, 2)
            )
            parts += [product.flatten(2), _row_sums(dt, n)]
        product = _outer(seed_t, trace.h[-1], n)
        product += _outer(adjoint.seed[:, None], ht[-1].flatten(1), n).view(n, m, -1)
        parts += [product, _row_sums(seed_t[:, :, None], n)]
        for column, part in zip(split_columns(out, self.sizes), parts, strict=True):
            column += part


def loss_derivatives(network: Network, s: Tensor, order: int) -> tuple[Tensor, ...]:
    """g(s) and its first `order` derivatives, each of the shape of s."""
    if network.loss == "none":
        return (s, torch.ones_like(s), torch.zeros_like(s))[: order + 1]
    if network.loss == "mse":
        residual = s - network.target
        return (0.5 * residual**2, residual, torch.ones_like(s))[: order + 1]
    margin = network.target * s
    wrong = torch.sigmoid(-margin)
    value = torch.logaddexp(-margin, torch.zeros_like(s))
    second = network.target**2 * wrong * torch.sigmoid(margin)
    return (value, -network.target * wrong, second)[: order + 1]


def split_columns(x: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Views of the last dimension's consecutive parts of these sizes."""
    return [x[..., end - size : end] for size, end in zip(sizes, accumulate(sizes), strict=True)]


def _groups(x: Tensor, size: int) -> list[Tensor]:
    return [x[start : start + size] for start in range(0, len(x), size)]


def _outer(x: Tensor, y: Tensor, n_batches: int) -> Tensor:
    """Sum over the rows of each batch of x y^T: x (N, i), y (N, j) -> (n_batches, i, j)."""
    rows = len(x) // n_batches
    return torch.bmm(x.reshape(n_batches, rows, x.shape[1]).mT, y.reshape(n_batches, rows, y.shape[1]))


def _row_sums(x: Tensor, n_batches: int) -> Tensor:
    """Sum over the rows of each batch: x (N, ...) -> (n_batches, ...)."""
    rows = x.reshape(n_batches, len(x) // n_batches, -1)
    ones = rows.new_ones((1, 1, rows.shape[1])).expand(n_batches, -1, -1)
    return torch.bmm(ones, rows).reshape(n_batches, *x.shape[1:])
