"""The descent loop on functions whose minima are known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from sdp.optim.descent import descend, inner


class Quadratic:
    """1/2 tr(X^T A X), A positive definite with condition 100; counts what it is asked."""

    def __init__(self, n: int) -> None:
        Q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(n, n)))
        self.A = torch.from_numpy(Q * np.geomspace(0.1, 10.0, n) @ Q.T)
        self.metric = torch.full((n, 1), 0.1, dtype=torch.float64)
        self.values: list[float] = []

    def value(self, point: Tensor) -> float:
        self.values.append(0.5 * float((point * (self.A @ point)).sum()))
        return self.values[-1]

    def gradient(self, point: Tensor, out: Tensor) -> None:
        torch.matmul(self.A, point, out=out)

    def precondition(self, vector: Tensor) -> None:
        vector.mul_(self.metric)


class Wells(Quadratic):
    """sum (x^2 - 1)^2: a saddle at 0, minima at +-1, flat nowhere, steep far out."""

    def __init__(self, n: int) -> None:
        self.metric = torch.ones(n, 1, dtype=torch.float64)
        self.values = []

    def value(self, point: Tensor) -> float:
        self.values.append(float(((point**2 - 1.0) ** 2).sum()))
        return self.values[-1]

    def gradient(self, point: Tensor, out: Tensor) -> None:
        torch.mul(4.0 * point, point**2 - 1.0, out=out)


def test_reaches_the_minimum_of_a_quadratic() -> None:
    start = torch.from_numpy(np.random.default_rng(1).normal(size=(30, 3)))
    kept = start.clone()
    descent = descend(Quadratic(30), start, max_steps=150)
    assert descent.value < 1e-12
    assert torch.equal(start, kept)


@pytest.mark.parametrize("objective", [Quadratic(20), Wells(20)], ids=["quadratic", "wells"])
def test_never_rises(objective: Quadratic) -> None:
    start = torch.from_numpy(np.random.default_rng(2).normal(size=(20, 2)))
    accepted = [objective.value(start)]

    def note(point: Tensor, value: float) -> bool:
        accepted.append(value)
        return False

    descend(objective, start, max_steps=60, stop=note)
    assert len(accepted) > 10
    assert (np.diff(accepted) <= 0.0).all()


def test_moves_are_bounded_and_steps_counted() -> None:
    start = torch.full((5, 1), 0.01, dtype=torch.float64)
    points = [start]

    def note(point: Tensor, value: float) -> bool:
        points.append(point.clone())
        return False

    descent = descend(Wells(5), start, max_steps=8, longest_move=0.2, stop=note)
    assert descent.steps == len(points) - 1 == 8
    assert max(float((b - a).abs().max()) for a, b in itertools.pairwise(points)) <= 0.2 + 1e-12
    assert descend(Wells(5), start, max_steps=100, longest_move=0.2).value < 1e-12


def test_stationary_start_stalls_and_stop_stops() -> None:
    still = descend(Wells(3), torch.zeros(3, 1, dtype=torch.float64), max_steps=10)
    assert still.stalled
    assert still.steps == 0
    start = torch.full((3, 1), 0.5, dtype=torch.float64)
    assert descend(Wells(3), start, max_steps=10, stop=lambda point, value: True).steps == 1
    assert descend(Quadratic(3), start, max_steps=1000, tolerance=1e-3).steps < 100


def test_a_start_without_a_value_is_refused() -> None:
    with pytest.raises(ValueError, match="must be finite at the start of a descent; got inf"):
        descend(Wells(3), torch.full((3, 1), 1e200, dtype=torch.float64), max_steps=10)


# Below, at and above a block of the sum.
@pytest.mark.parametrize("n", [0, 1, 4095, 4096, 10001])
def test_inner(n: int) -> None:
    x, y = np.random.default_rng(n).normal(size=(2, n, 1))
    assert inner(torch.from_numpy(x), torch.from_numpy(y)) == pytest.approx(float((x * y).sum()), abs=1e-9)
