"""Optimisers over one vector of parameters: each step is a few passes in place.

The rules are torch.optim's, with the weight decay already in the gradient; a test compares them step by step.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from sdp.optim._student import Student

OPTIMIZERS = ("momentum", "sgd", "adam", "pgd")
# At widths up to `WIDE`; beyond, the largest curvature grows with the width and the rate falls with it: at width 1024
# momentum diverges at 0.1 and not at 0.03.
DEFAULT_LR = {"momentum": 0.1, "sgd": 0.5, "adam": 3e-3, "pgd": 0.1}
WIDE = 256
MOMENTUM = 0.9
BETAS, ADAM_EPS = (0.9, 0.999), 1e-8
Step = Callable[[float], None]  # one step at this learning rate, down the student's present gradient


def default_lr(name: str, width: int) -> float:
    """The plateau of an optimiser's learning rate for a student of this width.

    >>> default_lr("momentum", 64), default_lr("momentum", 1024)
    (0.1, 0.025)
    """
    return DEFAULT_LR[name] * min(1.0, WIDE / width)


def make_step(name: str, student: Student, seed: int) -> Step:
    """The step of an optimiser of `OPTIMIZERS`."""
    if name == "sgd":
        return lambda lr: student.vector.add_(student.gradient, alpha=-lr)  # type: ignore[return-value]
    if name == "momentum":
        return _momentum(student)
    if name == "adam":
        return _adam(student)
    return _pgd(student, seed)


def schedule(step: int, steps: int, warm_up: float, decay: float) -> float:
    """Share of the learning rate at a step: a linear rise, a plateau, and a linear fall towards 0.

    The fall lets the floor go that the noise of the samples holds the spectrum up to: it is proportional to the rate.

    >>> [schedule(step, 10, 0.2, 0.5) for step in (0, 1, 4, 5, 9)]
    [0.5, 1.0, 1.0, 1.0, 0.2]
    """
    rise = (step + 1) / (warm_up * steps) if warm_up else 1.0
    fall = (steps - step) / (decay * steps) if decay else 1.0
    return min(1.0, rise, fall)


def _momentum(student: Student) -> Step:
    velocity = torch.zeros_like(student.vector)

    def step(lr: float) -> None:
        velocity.mul_(MOMENTUM).add_(student.gradient)
        student.vector.add_(velocity, alpha=-lr)

    return step


def _adam(student: Student) -> Step:
    first, second = torch.zeros_like(student.vector), torch.zeros_like(student.vector)
    scratch = torch.zeros_like(student.vector)
    taken = 0

    def step(lr: float) -> None:
        nonlocal taken
        taken += 1
        gradient = student.gradient
        first.lerp_(gradient, 1.0 - BETAS[0])
        second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1.0 - BETAS[1])
        torch.sqrt(second, out=scratch).div_((1.0 - BETAS[1] ** taken) ** 0.5).add_(ADAM_EPS)
        student.vector.addcdiv_(first, scratch, value=-lr / (1.0 - BETAS[0] ** taken))

    return step


def _pgd(student: Student, seed: int) -> Step:
    from sdp.optim.pgd import PGD

    parameter = torch.nn.Parameter(student.vector)  # shares the student's memory
    parameter.grad = student.gradient
    optimizer = PGD([parameter], lr=DEFAULT_LR["pgd"], momentum=MOMENTUM, stochastic=True, seed=seed)

    def step(lr: float) -> None:
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()

    return step
