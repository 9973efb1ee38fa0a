"""An `Objective` as a torch function that can be differentiated twice, for `sdp.PGD` and `sdp.certify_function`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sdp.jl.objective import Objective


def value(objective: Objective, x: Tensor) -> Tensor:
    """The objective at x, a float64 tensor (dim,), as a scalar with a graph whose gradient has one too.

    >>> import numpy as np
    >>> from sdp.jl.objective import Moments
    >>> from sdp.jl.secants import AllPairs
    >>> f = Objective(AllPairs(np.eye(3)), Moments(2), 2, power=2.0, lam=1.0)
    >>> x = torch.linspace(-1, 1, 7, dtype=torch.float64, requires_grad=True)
    >>> torch.autograd.gradgradcheck(lambda point: value(f, point), [x])
    True
    """
    return _Value.apply(x, objective)  # type: ignore[no-any-return,no-untyped-call]


class _Value(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, objective: Objective) -> Tensor:
        found, gradient = objective.value_and_grad(x.detach().numpy())
        ctx.objective = objective
        ctx.save_for_backward(x, torch.from_numpy(gradient))
        return x.new_tensor(found)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        x, gradient = ctx.saved_tensors
        slope = _Gradient.apply(x, gradient, ctx.objective)  # type: ignore[no-untyped-call]
        return grad_outputs[0] * slope, None


class _Gradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gradient: Tensor, objective: Objective) -> Tensor:
        ctx.objective = objective
        ctx.hessian = None
        ctx.save_for_backward(x)
        return gradient.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        (x,) = ctx.saved_tensors
        if ctx.hessian is None:  # one point, many products
            ctx.hessian = ctx.objective.hessian_at(x.detach().numpy())
        return torch.from_numpy(ctx.hessian(grad_outputs[0].detach().numpy())), None, None
