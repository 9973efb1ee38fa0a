"""Monotone descent: limited-memory quasi-Newton steps that never raise the objective.

    minimise f(x),  x_{k+1} = x_k - t H_k grad f(x_k),  f(x_{k+1}) <= f(x_k) - ARMIJO t grad^T H_k grad

H_k is the L-BFGS matrix of the last few steps over a diagonal metric that the objective supplies. A value
costs the objective as much as a gradient, and the first trial step is nearly always taken, so there
is no curvature condition: a pair whose curvature is not positive is left out instead. Monotone by
design: derandomising is worth nothing if a step may lose what the sampler had (MATH.md 1).

Source: Nocedal and Wright, Numerical Optimization (2006), algorithms 3.1 and 7.4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

MEMORY = 4  # pairs; not tuned: each more holds two more copies of the point
ARMIJO = 1e-4
HALVINGS = 30  # a step shorter than 1e-9 of the quasi-Newton step changes nothing worth having
CURVATURE = 1e-6  # least cosine between a step and its change of gradient: float32 tells no less from 0
WINDOW = 5  # steps that the tolerance looks back over
SUM_BLOCK = 4096
SUM_CHUNK = (
    256 * SUM_BLOCK
)  # the product of a chunk stays in the cache; of 10^7 entries it cost 8 times the sum


class Objective(Protocol):
    """What descent needs of a function of one tensor."""

    def value(self, point: Tensor) -> float:
        """The function at a point."""

    def gradient(self, point: Tensor, out: Tensor) -> None:
        """Writes to `out` the gradient at the point whose value was asked last."""

    def precondition(self, vector: Tensor) -> None:
        """Multiplies a gradient, in place, by a positive diagonal that is roughly the inverse curvature."""


@dataclass(frozen=True)
class Descent:
    """Where a descent ended.

    Attributes:
        point: in the shape of the start.
        value: the objective there; never above its value at the start.
        steps: accepted steps.
        stalled: no step along the last direction lowered the value; the point is stationary to rounding.
    """

    point: Tensor
    value: float
    steps: int
    stalled: bool


def descend(
    objective: Objective,
    start: Tensor,
    *,
    max_steps: int,
    tolerance: float = 0.0,
    longest_move: float = math.inf,
    stop: Callable[[Tensor, float], bool] | None = None,
) -> Descent:
    """Lower the objective from `start`, monotonically.

    Args:
        objective: the function, its gradient and its metric.
        start: of any shape, contiguous; left as it is.
        max_steps: most accepted steps.
        tolerance: stop when WINDOW steps together lowered the value by less than this, in its units.
        longest_move: no entry of the point moves further than this in a step. Without it a step out of a
            saddle, where curvature is negative, may pass every minimum and stop where all is flat.
        stop: called with the point, which the next steps overwrite, and its value after each step; true
            ends the descent.

    Returns:
        The last point. Same bits whatever the number of threads.

    Raises:
        ValueError: the objective is not finite at the start. Where it is not at a trial, the step is shortened.

    Complexity: one or two values and one gradient a step, and 8 MEMORY passes over the point; memory for
        5 + 2 MEMORY copies of it, taken once: fresh pages for every result cost more than the arithmetic.
    """
    point, value = start.clone(), objective.value(start)
    if not math.isfinite(value):
        raise ValueError(f"the objective must be finite at the start of a descent; got {value}.")
    trial, gradient, trial_gradient = (torch.empty_like(point) for _ in range(3))
    objective.gradient(point, gradient)
    pairs = _Pairs(objective, point)
    values = [value]
    while len(values) <= max_steps:
        direction, slope = pairs.direction(gradient, longest_move)
        length = 1.0
        for _ in range(HALVINGS if slope < 0.0 else 0):
            torch.add(point, direction, alpha=length, out=trial)
            trial_value = objective.value(trial)
            if trial_value <= value + ARMIJO * length * slope:
                break
            length *= 0.5
        else:
            return Descent(point, value, len(values) - 1, stalled=True)
        objective.gradient(trial, trial_gradient)
        pairs.add(direction.mul_(length), gradient, trial_gradient)
        point, trial, value = trial, point, trial_value
        gradient, trial_gradient = trial_gradient, gradient
        values.append(value)
        if stop is not None and stop(point, value):
            break
        if len(values) > WINDOW and values[-1 - WINDOW] - value < tolerance:
            break
    return Descent(point, value, len(values) - 1, stalled=False)


def inner(x: Tensor, y: Tensor) -> float:
    """Sum of x * y over blocks of SUM_BLOCK, added in float64.

    One thread, no product kept: 10^7 float32 entries took 3 to 8 ms where torch's product and sum took 94 ms,
    both beside other work. torch's own full sum also depends on the number of threads. On other devices, and of
    dtypes that numpy lacks, the whole sum is torch's, in float64.
    """
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
        return float(x.double().flatten() @ y.double().flatten())
    a, b = x.detach().flatten().numpy(), y.detach().flatten().numpy()
    whole = len(a) // SUM_BLOCK * SUM_BLOCK
    blocks = np.einsum("bk,bk->b", a[:whole].reshape(-1, SUM_BLOCK), b[:whole].reshape(-1, SUM_BLOCK))
    return math.fsum(blocks) + float(np.einsum("k,k->", a[whole:], b[whole:]))


class _Pairs:
    """The last few steps s and changes of gradient y, and the product with the matrix they define."""

    def __init__(self, objective: Objective, like: Tensor) -> None:
        self.objective = objective
        self.pairs: list[tuple[Tensor, Tensor, float]] = []
        self.spare = [(torch.empty_like(like), torch.empty_like(like)) for _ in range(MEMORY)]
        self.work = torch.empty_like(like)
        self.scale = 1.0

    def add(self, step: Tensor, gradient: Tensor, next_gradient: Tensor) -> None:
        """Note a step and the gradients before and after it; `step` is overwritten."""
        if not self.spare:
            self.spare.append(self.pairs.pop(0)[:2])
        s, y = self.spare[-1]
        s.copy_(step)
        torch.sub(next_gradient, gradient, out=y)
        curvature = inner(s, y)
        if curvature <= CURVATURE * math.sqrt(inner(s, s) * inner(y, y)):
            return
        self.pairs.append((*self.spare.pop(), 1.0 / curvature))
        self.objective.precondition(step.copy_(y))
        self.scale = curvature / inner(y, step)

    def direction(self, gradient: Tensor, longest_move: float) -> tuple[Tensor, float]:
        """-H @ gradient, clipped, in a tensor that the next call overwrites, and its slope.

        Where clipping or rounding turned it uphill, all pairs are forgotten: the negative gradient in a
        diagonal metric goes down, clipped or not, unless it is zero.
        """
        q = self._product(gradient).clamp_(-longest_move, longest_move)
        slope = inner(gradient, q)
        if not slope < 0.0 and self.pairs:
            self.spare += [pair[:2] for pair in self.pairs]
            self.pairs, self.scale = [], 1.0
            return self.direction(gradient, longest_move)
        return q, slope

    def _product(self, gradient: Tensor) -> Tensor:
        """-H @ gradient by the two-loop recursion."""
        q = self.work.copy_(gradient)
        alphas = []
        for s, y, rho in reversed(self.pairs):
            alphas.append(rho * inner(s, q))
            q.add_(y, alpha=-alphas[-1])
        self.objective.precondition(q)
        q.mul_(-self.scale)
        for (s, y, rho), alpha in zip(self.pairs, reversed(alphas), strict=True):
            q.add_(s, alpha=-alpha - rho * inner(y, q))
        return q
