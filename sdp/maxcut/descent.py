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

import torch
from torch import Tensor

MEMORY = 4
ARMIJO = 1e-4
HALVINGS = 30  # a step shorter than 1e-9 of the quasi-Newton step changes nothing worth having
CURVATURE = 1e-10  # least cosine between a step and its change of gradient for the pair to be used
WINDOW = 5  # steps that the tolerance looks back over
SUM_BLOCK = 4096


class Objective(Protocol):
    """What descent needs of a function of one matrix (n, c)."""

    @property
    def metric(self) -> Tensor:
        """(n, 1) positive, roughly the inverse of the curvature in each row."""

    def value(self, point: Tensor) -> float:
        """The function at a point."""

    def gradient(self, point: Tensor) -> Tensor:
        """Its gradient at the point whose value was asked last, in the shape and dtype of the point."""


@dataclass(frozen=True)
class Descent:
    """Where a descent ended.

    Attributes:
        point: (n, c).
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
        start: (n, c), left as it is.
        max_steps: most accepted steps.
        tolerance: stop when WINDOW steps together lowered the value by less than this, in its units.
        longest_move: no entry of the point moves further than this in a step. Without it a step out of a
            saddle, where curvature is negative, may pass every minimum and stop where all is flat.
        stop: called with the point and its value after each step; true ends the descent.

    Returns:
        The last point. Same bits whatever the number of threads.

    Complexity: one or two values and one gradient a step, and 8 MEMORY passes over the point.
    """
    point, value = start, objective.value(start)
    gradient = objective.gradient(point)
    history = _Pairs(objective.metric)
    values = [value]
    for step in range(max_steps):
        direction = history.direction(gradient).clamp_(-longest_move, longest_move)
        slope = inner(gradient, direction)
        if not slope < 0.0:
            # Clipped or not, the negative gradient in a diagonal metric goes down, unless it is zero.
            history = _Pairs(objective.metric)
            direction = history.direction(gradient).clamp_(-longest_move, longest_move)
            slope = inner(gradient, direction)
            if not slope < 0.0:
                return Descent(point, value, step, stalled=True)
        length = 1.0
        for _ in range(HALVINGS):
            trial = torch.add(point, direction, alpha=length)
            trial_value = objective.value(trial)
            if trial_value <= value + ARMIJO * length * slope:
                break
            length *= 0.5
        else:
            return Descent(point, value, step, stalled=True)
        trial_gradient = objective.gradient(trial)
        history.add(direction.mul_(length), trial_gradient - gradient)
        point, value, gradient = trial, trial_value, trial_gradient
        values.append(value)
        if stop is not None and stop(point, value):
            return Descent(point, value, step + 1, stalled=False)
        if len(values) > WINDOW and values[-1 - WINDOW] - value < tolerance:
            break
    return Descent(point, value, len(values) - 1, stalled=False)


def inner(x: Tensor, y: Tensor) -> float:
    """Sum of x * y over blocks of SUM_BLOCK, added in float64.

    The blocks are fixed because torch's own sum over everything depends on the number of threads. Within
    one the dtype of x is kept: converting float32 first took four times as long.
    """
    product = (x * y).flatten()
    whole = product.numel() // SUM_BLOCK * SUM_BLOCK
    blocks = product[:whole].view(-1, SUM_BLOCK).sum(dim=1)
    return math.fsum(blocks.tolist()) + math.fsum(product[whole:].tolist())


class _Pairs:
    """The last few steps s and changes of gradient y, and the product with the matrix they define."""

    def __init__(self, metric: Tensor) -> None:
        self.metric = metric
        self.pairs: list[tuple[Tensor, Tensor, float]] = []
        self.scale = 1.0

    def add(self, s: Tensor, y: Tensor) -> None:
        curvature = inner(s, y)
        if curvature <= CURVATURE * math.sqrt(inner(s, s) * inner(y, y)):
            return
        self.pairs = [*self.pairs[1 - MEMORY :], (s, y, 1.0 / curvature)]
        self.scale = curvature / inner(y, y * self.metric)

    def direction(self, gradient: Tensor) -> Tensor:
        """-H @ gradient by the two-loop recursion; a fresh tensor."""
        q = gradient.clone()
        alphas = []
        for s, y, rho in reversed(self.pairs):
            alpha = rho * inner(s, q)
            alphas.append(alpha)
            q.add_(y, alpha=-alpha)
        q.mul_(self.metric * -self.scale)
        for (s, y, rho), alpha in zip(self.pairs, reversed(alphas), strict=True):
            q.add_(s, alpha=-alpha - rho * inner(y, q))
        return q
