"""The Gaussian expectation as torch users write it: Monte Carlo in R^d with autograd, and Hessian-vector products."""

import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Problem(NamedTuple):
    """E g(W x + b) of the head a . tanh(A z + c) + c0."""

    W: Tensor  # (k, d)
    b: Tensor
    params: list[Tensor]  # [A, c, a, c0]


def head(z: Tensor, params: list[Tensor]) -> Tensor:
    """G of every row of z (n, k)."""
    A, c, a, c0 = params
    return torch.tanh(torch.nn.functional.linear(z, A, c)) @ a + c0


def plain_gradient(problem: Problem, n_samples: int, *, is_compiled: bool = False) -> Callable[[int], Tensor]:
    """A function of the seed: the gradient in W (k, d) by autograd from samples in R^d; all gradients are computed."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in (problem.W, problem.b, *problem.params)]

    def value(x: Tensor) -> Tensor:
        W, b, *params = leaves
        return head(torch.nn.functional.linear(x, W, b), params).mean()

    run = torch.compile(value) if is_compiled else value

    def gradient(seed: int) -> Tensor:
        torch.manual_seed(seed)
        draws = torch.randn(n_samples, problem.W.shape[1], device=problem.W.device)
        return torch.autograd.grad(run(draws), leaves)[0]

    return gradient


def pair_mean(L: Tensor, b: Tensor, params: list[Tensor], xi: Tensor) -> Tensor:
    """Mean of g over the pairs b +- L xi."""
    u = xi @ L.T
    return 0.5 * (head(b + u, params).mean() + head(b - u, params).mean())


def hvp_methods(
    L: Tensor, b: Tensor, params: list[Tensor], xi: Tensor, directions: Tensor
) -> dict[str, Callable[[], Tensor]]:
    """Peers by name, each giving H directions^T as (m, P) in the order L, b, A, c, a, c0 from the same pairs."""
    tensors = [L, b, *params]
    sizes = [tensor.numel() for tensor in tensors]
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])

    def split(columns: Tensor) -> list[Tensor]:
        parts = torch.split(columns, sizes)
        return [part.reshape(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]

    def of_columns(columns: Tensor) -> Tensor:
        L_, b_, *rest = split(columns)
        return pair_mean(L_, b_, rest, xi)

    gradient = torch.func.grad(of_columns)

    def forward_over_reverse(direction: Tensor) -> Tensor:
        found: Tensor = torch.func.jvp(gradient, (flat,), (direction,))[1]
        return found

    def double_backward() -> Tensor:
        columns = flat.clone().requires_grad_()
        (grad,) = torch.autograd.grad(of_columns(columns), columns, create_graph=True)
        return torch.stack([torch.autograd.grad(grad, columns, v, retain_graph=True)[0] for v in directions])

    methods: dict[str, Callable[[], Tensor]] = {
        "torch.func vmap of jvp(grad)": lambda: torch.func.vmap(forward_over_reverse)(directions),
        "torch.func loop of jvp(grad)": lambda: torch.stack([forward_over_reverse(v) for v in directions]),
        "torch double backward": double_backward,
    }
    # A peer that is not installed is not compared with: its row is missing.
    if importlib.util.find_spec("curvlinops"):
        methods["curvlinops"] = _curvlinops(tensors, xi, directions)
    if importlib.util.find_spec("pyhessian"):
        methods["PyHessian"] = _pyhessian(tensors, xi, directions, split)
    return methods


class _Model(torch.nn.Module):
    """g at both signs of every row of xi: (n, 2)."""

    def __init__(self, tensors: list[Tensor]) -> None:
        super().__init__()
        self.tensors = torch.nn.ParameterList([tensor.detach().clone() for tensor in tensors])

    def forward(self, xi: Tensor) -> Tensor:
        """The mean of `pair_mean` is the mean over both columns."""
        L, b, *params = self.tensors
        u = xi @ L.T
        return torch.stack([head(b + u, params), head(b - u, params)], dim=1)


class _Mean(torch.nn.Module):
    """The mean of the model's outputs, as the loss that a peer asks for."""

    reduction = "mean"

    def forward(self, outputs: Tensor, _: Tensor) -> Tensor:
        """The mean; there are no labels."""
        return outputs.mean()


def _curvlinops(tensors: list[Tensor], xi: Tensor, directions: Tensor) -> Callable[[], Tensor]:
    import curvlinops  # type: ignore[import-untyped,import-not-found,unused-ignore]

    model = _Model(tensors)
    operator: Any = curvlinops.HessianLinearOperator(
        model,
        _Mean(),
        list(model.parameters()),
        [(xi, torch.zeros(len(xi), device=xi.device))],
        check_deterministic=False,
    )
    columns = directions.T.contiguous()
    return lambda: (operator @ columns).T


def _pyhessian(
    tensors: list[Tensor], xi: Tensor, directions: Tensor, split: Callable[[Tensor], list[Tensor]]
) -> Callable[[], Tensor]:
    from pyhessian.utils import hessian_vector_product  # type: ignore[import-untyped,import-not-found,unused-ignore]

    model = _Model(tensors)
    # It cannot differentiate a gradient that is constant, as c0's is here: its row of zeros is added.
    parameters = list(model.parameters())[:-1]

    def products() -> Tensor:
        grads = torch.autograd.grad(model(xi).mean(), parameters, create_graph=True)

        def product(v: Tensor) -> list[Tensor]:
            found: list[Tensor] = hessian_vector_product(grads, parameters, split(v)[:-1])
            return found

        return torch.stack(
            [
                torch.cat([*(part.reshape(-1) for part in product(v)), directions.new_zeros(1)])
                for v in directions
            ]
        )

    return products
