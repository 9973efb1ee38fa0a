"""A perceptron all of whose parameters lie in one vector, with its backward pass written out.

    h_1 = act(W x + b),   h_i = act(A_i h_{i-1} + c_i), i = 2..D,   s = a . h_D + c

    f = mean loss(s, y) + lam ||W||_F^2      so its gradient in W has 2 lam W beside the data's part

One vector of parameters and one of gradients make an optimiser a handful of passes whatever the depth. At width 64,
dimension 256 and 256 samples a step costs a third of what autograd and torch.optim take
(`benchmarks/structure_step.py`): most of theirs is the handling of forty small tensors.

Sums that decide bits are matrix products, whose order does not depend on torch's number of threads for these shapes; a
test compares one thread with two.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import softplus

from sdp.expectation.heads import MLP
from sdp.optim._teachers import PURPOSE_STUDENT
from sdp_kernels import activations, gaussian

LOSSES = ("mse", "logistic")
Forward = Callable[[Tensor, Tensor], None]  # (z, out): out becomes act(z)
Backward = Callable[
    [Tensor, Tensor, Tensor], None
]  # (delta, z, h): delta becomes delta * act'(z), where h = act(z)
_ROWS_APART = 1 << 32  # between the random rows of two layers


class Student:
    """Parameters, their gradient, and the two passes.

    Args:
        dim: d, entries of x.
        width: k, units of every hidden layer.
        depth: D, hidden layers; W is the first, so D >= 1.
        activation: a name of `sdp_kernels.activations.NAMES`.
        iota: sharpness of softplus.
        loss: "mse", (s - y)^2 / 2, or "logistic", log(1 + exp(-y s)).
        lam: weight decay of W alone.
        seed: of the initial parameters: entries N(0, 1 / fan-in), biases 0.

    Attributes:
        parameters: [W (k, d), b (k,), A_2 (k, k), c_2 (k,), ..., a (k,), c (1,)], views of `vector`.
        gradients: the same of `gradient`.
        vector: (n,) float32.
        gradient: (n,) float32, of the last call of `backward`.
    """

    def __init__(
        self,
        dim: int,
        width: int,
        depth: int,
        activation: str,
        iota: float,
        loss: str,
        lam: float,
        seed: int,
    ) -> None:
        self.dim, self.width, self.depth = dim, width, depth
        self.activation, self.iota, self.loss, self.lam = activation, iota, loss, lam
        deeper = [shape for _ in range(depth - 1) for shape in ((width, width), (width,))]
        self._shapes = [(width, dim), (width,), *deeper, (width,), (1,)]
        self.vector = torch.zeros(sum(map(math.prod, self._shapes)))
        self.gradient = torch.zeros_like(self.vector)
        self.parameters, self.gradients = self._views(self.vector), self._views(self.gradient)
        self._forward, self._backward = _passes(activation, iota)
        self._kept: dict[int, tuple[list[Tensor], list[Tensor], list[Tensor]]] = {}
        for layer, weights in enumerate(self.parameters[::2]):
            flat = weights if weights.ndim == 2 else weights[None]
            gaussian.normal(
                tuple(flat.shape),
                seed=seed,
                purpose=PURPOSE_STUDENT,
                row_offset=layer * _ROWS_APART,
                out=flat,
            )
            flat /= math.sqrt(flat.shape[1])

    @property
    def W(self) -> Tensor:  # noqa: N802  the formula's name
        """The first layer, (k, d)."""
        return self.parameters[0]

    def scores(self, x: Tensor) -> Tensor:
        """Outputs s at x (n, d): (n,), a new tensor."""
        h = x
        for A, c in zip(self.parameters[:-2:2], self.parameters[1:-2:2], strict=True):
            z = torch.addmm(c, h, A.T)
            h = torch.empty_like(z)
            self._forward(z, h)
        return torch.mv(h, self.parameters[-2]) + self.parameters[-1]

    def losses(self, scores: Tensor, y: Tensor) -> Tensor:
        """The loss of every sample, without the weight decay: (n,)."""
        return softplus(-y * scores) if self.loss == "logistic" else 0.5 * (scores - y) ** 2

    def backward(self, x: Tensor, y: Tensor) -> None:
        """Fills `gradient` with that of f over the batch x (n, d), y (n,).

        Complexity: 4 n (2 d k + 3 (D - 1) k^2) / 2 operations; nothing is allocated but a vector of n.
        """
        n, parameters, gradients = len(x), self.parameters, self.gradients
        zs, hs, deltas = self._buffers(n)
        h = x
        for layer in range(self.depth):
            torch.addmm(parameters[2 * layer + 1], h, parameters[2 * layer].T, out=zs[layer])
            self._forward(zs[layer], hs[layer])
            h = hs[layer]
        residual = torch.mv(h, parameters[-2]).add_(parameters[-1])  # s, then d loss / d s / n
        if self.loss == "logistic":
            residual.mul_(y).neg_().sigmoid_().mul_(y).mul_(-1.0 / n)
        else:
            residual.sub_(y).mul_(1.0 / n)
        torch.mv(h.T, residual, out=gradients[-2])
        torch.sum(residual, 0, keepdim=True, out=gradients[-1])
        torch.outer(residual, parameters[-2], out=deltas[-1])
        for layer in range(self.depth - 1, -1, -1):
            delta = deltas[layer]
            self._backward(delta, zs[layer], hs[layer])
            torch.sum(delta, 0, out=gradients[2 * layer + 1])
            if layer:
                torch.mm(delta.T, hs[layer - 1], out=gradients[2 * layer])
                torch.mm(delta, parameters[2 * layer], out=deltas[layer - 1])
            else:  # the weight decay rides on the product
                torch.addmm(self.W, delta.T, x, beta=2.0 * self.lam, out=gradients[0])

    def head(self) -> MLP:
        """What reads z = Wx + b, as a torch module with a copy of the parameters behind W and b."""
        widths = (self.width,) * self.depth
        head = MLP(widths, self.activation, activate_input=True, iota=self.iota)
        with torch.no_grad():
            for mine, theirs in zip(self.parameters[2:], head.theta, strict=True):
                theirs.copy_(mine.reshape(theirs.shape))
        return head

    def _views(self, vector: Tensor) -> list[Tensor]:
        parts = torch.split(vector, [math.prod(shape) for shape in self._shapes])
        return [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def _buffers(self, n: int) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Room for z, h and delta of every layer; z and h share theirs where the backward pass reads h alone."""
        if n not in self._kept:
            shape = (self.depth, n, self.width)
            zs, deltas = torch.zeros(shape), torch.zeros(shape)
            hs = zs if self.activation in _READS_H_ALONE else torch.zeros(shape)
            self._kept[n] = (list(zs), list(hs), list(deltas))
        return self._kept[n]


_READS_H_ALONE = ("tanh", "sigmoid")  # their derivative is a function of the value


def _passes(activation: str, iota: float) -> tuple[Forward, Backward]:
    """An activation and its chain rule in place: torch's fused operations where there are any."""
    aten = torch.ops.aten
    if activation == "tanh":
        return (
            lambda z, out: torch.tanh(z, out=out),  # type: ignore[return-value]
            lambda delta, z, h: aten.tanh_backward.grad_input(delta, h, grad_input=delta),
        )
    if activation == "sigmoid":
        return (
            lambda z, out: torch.sigmoid(z, out=out),  # type: ignore[return-value]
            lambda delta, z, h: aten.sigmoid_backward.grad_input(delta, h, grad_input=delta),
        )
    if activation == "softplus":
        linear_from = 20.0  # torch's own threshold: beyond it log(1 + exp(y)) is y in float32
        return (
            lambda z, out: aten.softplus.out(z, iota, linear_from, out=out),
            lambda delta, z, h: aten.softplus_backward.grad_input(
                delta, z, iota, linear_from, grad_input=delta
            ),
        )
    if activation == "gelu":
        return (
            lambda z, out: aten.gelu.out(z, out=out),
            lambda delta, z, h: aten.gelu_backward.grad_input(delta, z, grad_input=delta),
        )

    def forward(z: Tensor, out: Tensor) -> None:
        out.copy_(activations.evaluate(activation, z, 0, iota)[0])

    def backward(delta: Tensor, z: Tensor, h: Tensor) -> None:
        delta.mul_(activations.evaluate(activation, z, 1, iota)[1])

    return forward, backward
