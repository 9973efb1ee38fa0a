"""Between a head and what the kernels see of it: the first layer folded, widths padded, one vector.

A head whose first layer reads z = b +- L xi needs z only through p = A_1 z + c_1, and that is Gaussian too:

    p = c' +- M xi,     M = A_1 L,     c' = A_1 b + c_1.

So the kernels differentiate in (M, c') and the chain rule is applied once, to sums, in float64:

    dA_1 = dM L^T + dc' b^T,   dL = A_1^T dM,   db = A_1^T dc',   dc_1 = dc',

and for a direction (dot) with its Hessian-vector product in (M, c'), written H:

    M. = A_1. L + A_1 L.,   c'. = A_1. b + A_1 b. + c_1.
    HA_1 = HM L^T + dM L.^T + Hc' b^T + dc' b.^T,   HL = A_1^T HM + A_1.^T dM,   Hb = A_1^T Hc' + A_1.^T dc'.

This saves the GEMMs of size k, forward and back, for every sample; k may be anything. A head without hidden layer
(s = a . z + c) is the case A_1 = a^T with the identity as activation; a head that activates its input has M = L.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Folded(NamedTuple):
    """A head, or B gradients or m directions in it (then with a leading B or m), float64.

    Attributes:
        first: M (w_1, q).
        biases: c' (w_1,), c_2, ..., c_D.
        layers: A_2 (w_2, w_1), ..., A_D.
        output: a (w_D,).
        offset: c ().
    """

    first: Tensor
    biases: list[Tensor]
    layers: list[Tensor]
    output: Tensor
    offset: Tensor


class Law:
    """A head's tensors in float64, and the way from and to what the kernels see.

    Args:
        L: (k, q).
        b: (k,).
        params: [A_1, c_1, ..., A_D, c_D, a, c].
        activate_input: whether the head activates z.
    """

    def __init__(self, L: Tensor, b: Tensor, params: Sequence[Tensor], activate_input: bool) -> None:
        self.L, self.b, self.params = L.double(), b.double(), [p.double() for p in params]
        self.has_no_layer = len(params) == 2 and not activate_input
        self.activate_input = activate_input
        self.shapes = [tensor.shape for tensor in (L, b, *params)]
        self.sizes = [tensor.numel() for tensor in (L, b, *params)]

    def _affine(self, params: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """First layer: (..., w_1, k) and (..., w_1)."""
        A, c = params[:2]
        return (A.unsqueeze(-2), c.unsqueeze(-1)) if self.has_no_layer else (A, c)

    def _rest(self, params: Sequence[Tensor]) -> Sequence[Tensor]:
        return params if self.activate_input else params[2:]

    def folded(self) -> Folded:
        """The head itself."""
        if self.activate_input:
            first, bias = self.L, self.b
        else:
            A, c = self._affine(self.params)
            first, bias = A @ self.L, A @ self.b + c
        if self.has_no_layer:
            return Folded(first, [bias], [], first.new_ones(1), first.new_zeros(()))
        rest = self._rest(self.params)
        return Folded(first, [bias, *rest[1:-2:2]], list(rest[:-2:2]), rest[-2], rest[-1])

    def split(self, directions: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Rows of P columns as tensors of float64 with a leading m."""
        parts = torch.split(directions.double(), self.sizes, dim=1)
        shaped = [p.reshape(len(directions), *shape) for p, shape in zip(parts, self.shapes, strict=True)]
        return shaped[0], shaped[1], shaped[2:]

    def push(self, directions: Tensor) -> Folded:
        """Directions (m, P) as the kernels see them."""
        L_dot, b_dot, dots = self.split(directions)
        m = len(directions)
        if self.activate_input:
            first, bias = L_dot, b_dot
        else:
            A, _ = self._affine(self.params)
            A_dot, c_dot = self._affine(dots)
            first = A_dot @ self.L + A @ L_dot
            bias = A_dot @ self.b + b_dot @ A.T + c_dot
        if self.has_no_layer:
            return Folded(first, [bias], [], first.new_zeros((m, 1)), first.new_zeros(m))
        rest = self._rest(dots)
        return Folded(first, [bias, *rest[1:-2:2]], list(rest[:-2:2]), rest[-2], rest[-1])

    def pull(self, d: Folded) -> Tensor:
        """Gradients (B, P) from those in what the kernels see."""
        dM, dc = d.first, d.biases[0]
        if self.activate_input:
            return self._join([dM, dc], d)
        A, _ = self._affine(self.params)
        dA = dM @ self.L.T + dc[..., None] * self.b
        return self._join([A.T @ dM, dc @ A, dA, dc], d)

    def pull_products(self, h: Folded, d: Folded, directions: Tensor) -> Tensor:
        """Hessian-vector products (B, m, P) from those in what the kernels see.

        Args:
            h: the products, with leading B and m.
            d: the gradients, with a leading B.
            directions: (m, P).
        """
        hM, hc = h.first, h.biases[0]
        if self.activate_input:
            return self._join([hM, hc], h)
        L_dot, b_dot, dots = self.split(directions)
        A, _ = self._affine(self.params)
        A_dot, _ = self._affine(dots)
        dM, dc = d.first.unsqueeze(1), d.biases[0].unsqueeze(1)
        hA = hM @ self.L.T + dM @ L_dot.mT + hc[..., None] * self.b + dc[..., None] * b_dot.unsqueeze(-2)
        hL = A.T @ hM + A_dot.mT @ dM
        hb = hc @ A + (dc.unsqueeze(-2) @ A_dot).squeeze(-2)
        return self._join([hL, hb, hA, hc], h)

    def _join(self, first: list[Tensor], d: Folded) -> Tensor:
        """Columns in the public order: (..., P)."""
        lead = d.first.shape[:-2]
        rest = [] if self.has_no_layer else [*_interleave(d.layers, d.biases[1:]), d.output, d.offset]
        return torch.cat(
            [
                tensor.flatten(len(lead)) if tensor.dim() > len(lead) else tensor[..., None]
                for tensor in (*first, *rest)
            ],
            dim=-1,
        )

    def shift_directions(self) -> Tensor:
        """Directions in c' that give the second derivative in b: the fewer of k and w_1, (m, w_1)."""
        if self.activate_input:
            return torch.eye(len(self.b), dtype=torch.float64, device=self.b.device)
        A, _ = self._affine(self.params)
        if A.shape[1] <= A.shape[0]:
            return A.T
        return torch.eye(len(A), dtype=torch.float64, device=A.device)

    def hessian_b(self, products: Tensor) -> Tensor:
        """(B, k, k) from the products (B, m, w_1) with `shift_directions`, symmetric."""
        if not self.activate_input:
            A, _ = self._affine(self.params)
            products = products @ A if A.shape[1] <= A.shape[0] else A.T @ products @ A
        return 0.5 * (products + products.mT)


class Packing(NamedTuple):
    """Where the tensors of a folded head lie in its vector.

    Attributes:
        q: columns of M.
        qp: the same, padded.
        width: H, to which all widths are padded.
        widths: w_1, ..., w_D.
    """

    q: int
    qp: int
    width: int
    widths: list[int]

    @property
    def depth(self) -> int:
        """Layers, D."""
        return len(self.widths)

    @property
    def size(self) -> int:
        """Numbers of a gradient."""
        return self.width * (self.qp + self.depth + 2 + (self.depth - 1) * self.width)

    def pack(self, head: Folded) -> Tensor:
        """Vector of float32 (..., size + those of the transposes), padded with zeros."""
        lead, H = head.first.shape[:-2], self.width
        new = head.first.new_zeros
        first = new((*lead, H, self.qp))
        first[..., : self.widths[0], : self.q] = head.first
        vectors = new((*lead, self.depth + 2, H))
        for i, vector in enumerate([*head.biases, head.output, head.offset[..., None]]):
            vectors[..., i, : vector.shape[-1]] = vector
        layers = new((*lead, self.depth - 1, H, H))
        for i, layer in enumerate(head.layers):
            layers[..., i, : layer.shape[-2], : layer.shape[-1]] = layer
        parts = [part.flatten(len(lead)) for part in (first, vectors, layers, layers.mT)]
        return torch.cat(parts, dim=-1).float()

    def unpack(self, vector: Tensor) -> Folded:
        """The tensors of a gradient's vector (..., size)."""
        lead, H, D = vector.shape[:-1], self.width, self.depth
        sizes = [H * self.qp, (D + 2) * H, (D - 1) * H * H]
        first, vectors, layers = torch.split(vector, sizes, dim=-1)
        vectors = vectors.reshape(*lead, D + 2, H)
        layers = layers.reshape(*lead, D - 1, H, H)
        return Folded(
            first.reshape(*lead, H, self.qp)[..., : self.widths[0], : self.q],
            [vectors[..., i, :width] for i, width in enumerate(self.widths)],
            [layers[..., i, : self.widths[i + 1], : self.widths[i]] for i in range(D - 1)],
            vectors[..., D, : self.widths[-1]],
            vectors[..., D + 1, 0],
        )


def _interleave(left: Sequence[Tensor], right: Sequence[Tensor]) -> list[Tensor]:
    return [tensor for pair in zip(left, right, strict=True) for tensor in pair]
