"""Gradients, Hessian-vector products and the Hessian operator against autograd over all of R^d."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import eigsh
from torch import Tensor, nn

from sdp.expectation.estimate import Blocks
from sdp.expectation.expectation import Expectation
from sdp.expectation.heads import MLP, TeacherStudent
from tests.reference.gaussian_law import full_space_value, random_point

ORDER = 40  # of the rule over R^3
TOLERANCE = (
    2e-7  # what this rule and the toolkit's leave of these heads at rank 3; at ranks 0 to 2 it is 1e-9
)

K, D = 4, 3


class Smooth(nn.Module):
    """A head with parameters that is no MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([0.5, -0.4, 0.3, 0.7], dtype=torch.float64))
        self.shift = nn.Parameter(torch.tensor(0.2, dtype=torch.float64))

    def forward(self, z: Tensor) -> Tensor:
        return torch.exp(-0.5 * ((z * self.scale).sum(-1) + self.shift) ** 2) + torch.sin(z).mean(-1)


HEADS: dict[str, Any] = {
    "mlp": lambda: MLP((K, 5, 3), "tanh", seed=3, dtype=torch.float64),
    "mlp with loss": lambda: MLP((K, 5), "softplus", "logistic", target=-1.0, seed=4, dtype=torch.float64),
    "mlp of depth 0": lambda: MLP(
        (K,), "sigmoid", "mse", target=0.4, activate_input=True, dtype=torch.float64
    ),
    "module": Smooth,
    "function": lambda: lambda z: torch.cos(z).prod(-1),
}


def parameters(head: Any) -> list[Tensor]:
    return list(head.parameters()) if isinstance(head, nn.Module) else []


def truth(head: Any, W: Tensor, b: Tensor, directions: Blocks) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Value, gradient and one Hessian-vector product in (W, b, theta), by autograd over R^d."""
    points = [W.clone().requires_grad_(True), b.clone().requires_grad_(True), *parameters(head)]
    value = full_space_value(head, points[0], points[1], ORDER)
    grads = torch.autograd.grad(value, points, create_graph=True)
    vectors = [directions.W, directions.b, *directions.theta]
    # Contracted first: the gradient in c is constant without a loss, and has no graph.
    slope = sum((grad * vector).sum() for grad, vector in zip(grads, vectors, strict=True))
    hvps = torch.autograd.grad(slope, points, materialize_grads=True)
    return value.detach(), [grad.detach() for grad in grads], list(hvps)


def random_directions(head: Any, m: int | None, seed: int = 0) -> Blocks:
    generator = torch.Generator().manual_seed(seed)
    leading = () if m is None else (m,)

    def made(shape: Any) -> Tensor:
        return torch.randn((*leading, *shape), generator=generator, dtype=torch.float64)

    return Blocks(made((K, D)), made((K,)), tuple(made(part.shape) for part in parameters(head)))


def assert_blocks(found: Blocks, expected: list[Tensor], tolerance: float = TOLERANCE) -> None:
    for part, right in zip([found.W, found.b, *found.theta], expected, strict=True):
        torch.testing.assert_close(part, right, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
@pytest.mark.parametrize("name", HEADS)
def test_value_gradient_and_hvp(name: str, rank: int) -> None:
    """Directions leave the row space of W whenever its rank is below 3; at rank 0 all of this is exact."""
    head = HEADS[name]()
    W, b = random_point(K, D, rank, seed=5, scale=0.4)
    F = Expectation(head, W, b, method="quadrature")
    direction = random_directions(head, None)
    value, grads, hvps = truth(head, W, b, direction)
    estimate, gradient = F.value_and_grad()
    assert float(estimate) == pytest.approx(float(value), abs=TOLERANCE)
    assert_blocks(gradient.value, grads)
    found = F.hvp(direction)
    assert found.method == ("exact" if rank == 0 else "quadrature")
    assert_blocks(found.value, hvps)
    assert found.value.W.shape == (K, D)


@pytest.mark.parametrize("name", ["mlp", "module"])
def test_a_batch_of_hvps_is_its_single_ones(name: str) -> None:
    head = HEADS[name]()
    W, b = random_point(K, D, 2, seed=6)
    F = Expectation(head, W, b, 2**10, method="sampling")
    directions = random_directions(head, 3)
    together = F.hvp(directions)
    for j in range(3):
        one = Blocks(directions.W[j], directions.b[j], tuple(part[j] for part in directions.theta))
        alone = F.hvp(one)
        for block in ("W", "b"):
            torch.testing.assert_close(getattr(together.value, block)[j], getattr(alone.value, block))
            torch.testing.assert_close(
                getattr(together.standard_error, block)[j], getattr(alone.standard_error, block)
            )


def test_directions_may_be_any_of_the_blocks() -> None:
    head = HEADS["mlp"]()
    W, b = random_point(K, D, 2, seed=7)
    F = Expectation(head, W, b)
    direction = random_directions(head, None)
    parts = [
        F.hvp({"W": direction.W}),
        F.hvp({"b": direction.b}),
        F.hvp({"theta": direction.theta}),
    ]
    whole = F.hvp(direction)
    torch.testing.assert_close(sum(part.value.W for part in parts), whole.value.W)
    torch.testing.assert_close(sum(part.value.b for part in parts), whole.value.b)
    first = F.hvp({"theta": [direction.theta[0], *[None] * (len(direction.theta) - 1)]})
    assert first.value.theta[0].shape == direction.theta[0].shape


def test_directions_outside_the_row_space_add_no_noise() -> None:
    """Sampled HVPs at small W: what leaves the row space is H V to the noise of H, not of x x^T."""
    W, b = random_point(6, 40, 6, seed=8, scale=1e-3)
    F = Expectation(lambda z: torch.cosh(z).sum(-1), W, b, 2**10, method="sampling")
    V = random_point(6, 40, 6, seed=9)[0]
    V = V - V @ F.law.Q @ F.law.Q.T
    estimate = F.hvp({"W": V})
    expected = torch.diag(torch.cosh(b)) @ V
    torch.testing.assert_close(estimate.value.W, expected, rtol=0.0, atol=1e-5)
    assert float(estimate.standard_error.W.norm()) < 1e-5 * float(expected.norm())


def test_a_control_variate_helps_directions_inside_the_row_space() -> None:
    W, b = random_point(6, 40, 6, seed=8, scale=0.1)
    plain, helped = (
        Expectation(
            lambda z: torch.cosh(z).sum(-1), W, b, 2**13, method="sampling", control_variate=wanted
        ).hvp({"W": W})
        for wanted in (False, True)
    )
    assert "took" in helped.notes[0]
    ratio = float(helped.standard_error.W.norm() / plain.standard_error.W.norm())
    assert ratio < 0.1
    # F = sum_i cosh(b_i) exp(|w_i|^2 / 2), w_i the rows of W.
    squares = (W**2).sum(1)
    expected = torch.diag(torch.cosh(b) * torch.exp(0.5 * squares) * (1.0 + squares)) @ W
    low, high = helped.interval(1.0 - 1e-6)
    assert bool(((expected >= low.W) & (expected <= high.W)).all())


def test_hessian_in_z_is_the_hessian_in_b() -> None:
    head = HEADS["mlp"]()
    W, b = random_point(K, D, 3, seed=10)
    found = Expectation(head, W, b).hessian_z()
    expected = torch.autograd.functional.hessian(lambda b: full_space_value(head, W, b, ORDER), b)
    torch.testing.assert_close(found.value, expected, rtol=TOLERANCE, atol=TOLERANCE)
    assert torch.equal(found.value, found.value.T)


@pytest.mark.parametrize("method", ["quadrature", "sampling", "sobol"])
def test_the_operator_is_linear_symmetric_and_the_hvp(method: str) -> None:
    head = HEADS["module"]()
    W, b = random_point(K, D, 2, seed=11)
    F = Expectation(head, W, b, 2**9, method=method)
    operator = F.to_scipy()
    n = K * D + K + 5
    assert operator.shape == (n, n)
    assert operator.dtype == np.float64
    dense = operator @ np.eye(n)
    np.testing.assert_allclose(dense, dense.T, rtol=0.0, atol=1e-12)
    np.testing.assert_array_equal(operator.T @ np.eye(n), dense)
    x = np.linspace(-1.0, 1.0, n)
    np.testing.assert_allclose(operator @ x, dense @ x, rtol=0.0, atol=1e-12)
    vector = torch.from_numpy(x)
    direction = Blocks(
        vector[: K * D].view(K, D), vector[K * D : K * D + K], (vector[-5:-1], vector[-1].reshape(()))
    )
    found = F.hvp(direction).value
    flat = torch.cat([found.W.flatten(), found.b, *(part.flatten() for part in found.theta)])
    # The order of a quadrature may differ between H and a product; draws do not.
    np.testing.assert_allclose(
        operator @ x, flat.numpy(), rtol=0.0, atol=1e-7 if method == "quadrature" else 1e-12
    )


def test_the_operator_serves_eigsh_and_keeps_its_point() -> None:
    head = HEADS["mlp"]()
    W, b = random_point(K, D, 2, seed=12)
    F = Expectation(head, W, b)
    operator = F.to_scipy()
    dense = operator @ np.eye(operator.shape[0])
    lowest = eigsh(operator, k=1, which="SA", return_eigenvectors=False, v0=np.ones(operator.shape[0]))
    assert lowest[0] == pytest.approx(np.linalg.eigvalsh(dense)[0], abs=1e-9)
    b += 1.0
    with torch.no_grad():
        head.theta[0].zero_()
    np.testing.assert_array_equal(operator @ np.eye(operator.shape[0]), dense)


@pytest.mark.parametrize("name", ["mlp", "module"])
def test_gradcheck_and_gradgradcheck_under_quadrature(name: str) -> None:
    """W has full rank here: autograd's finite differences would leave a lower rank's manifold."""
    head = HEADS[name]()
    W, b = random_point(K, 2, 2, seed=13, scale=0.5)
    F = Expectation(head, W, b, 2000, method="quadrature")
    points = [W.clone().requires_grad_(True), b.clone().requires_grad_(True)]

    def value(W: Tensor, b: Tensor) -> Tensor:
        return F.at(W, b)()

    assert torch.autograd.gradcheck(value, points)
    assert torch.autograd.gradgradcheck(value, points)


@pytest.mark.parametrize("name", ["mlp", "module"])
def test_double_backward_reaches_theta(name: str) -> None:
    head = HEADS[name]()
    W, b = random_point(K, D, 2, seed=14, scale=0.6)
    direction = random_directions(head, None, seed=1)
    expected_value, grads, hvps = truth(head, W, b, direction)
    W, b = W.requires_grad_(True), b.requires_grad_(True)
    points = [W, b, *head.parameters()]
    value = Expectation(head, W, b)()
    torch.testing.assert_close(value.detach(), expected_value, rtol=TOLERANCE, atol=TOLERANCE)
    found = torch.autograd.grad(value, points, create_graph=True)
    assert_blocks(Blocks(found[0], found[1], tuple(found[2:])), grads)
    products = torch.autograd.grad(found, points, [direction.W, direction.b, *direction.theta])
    assert_blocks(Blocks(products[0], products[1], tuple(products[2:])), hvps)


def test_backward_fills_grads_and_scales() -> None:
    head = HEADS["mlp"]()
    W, b = random_point(K, D, 2, seed=15)
    W.requires_grad_(True)
    (3.0 * Expectation(head, W, b)()).backward()
    expected = Expectation(head, W, b).grad().value
    assert W.grad is not None
    torch.testing.assert_close(W.grad, 3.0 * expected.W)
    assert b.grad is None
    torch.testing.assert_close(head.theta[0].grad, 3.0 * expected.theta[0])


def test_the_sampled_gradient_is_the_derivative_of_the_sampled_value() -> None:
    """Same draws, Q held: a finite difference along any direction inside the row space agrees to 1e-8."""
    head = HEADS["module"]()
    W, b = random_point(K, 7, K, seed=16)
    # Along W itself the factor's Q stays as it is, and L scales.
    step = 1e-5
    up, down = (
        float(Expectation(head, (1 + s) * W, b, 512, method="sampling")().detach()) for s in (step, -step)
    )
    W = W.clone().requires_grad_(True)
    Expectation(head, W, b, 512, method="sampling")().backward()
    assert W.grad is not None
    assert (up - down) / (2 * step) == pytest.approx(float((W.grad * W.detach()).sum()), rel=1e-8)


@pytest.mark.parametrize("rank", [1, 3])
def test_teacher_and_student_share_x(rank: int) -> None:
    """g depends on Wx + b and Ux jointly; the oracle integrates over all of R^3."""
    U = torch.linalg.qr(
        torch.randn(D, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ).Q.T
    student = MLP((K, 4), "tanh", seed=5, dtype=torch.float64)
    head = TeacherStudent(student, lambda u: torch.tanh(2.0 * u[..., 0]), U)
    W, b = random_point(K, D, rank, seed=17, scale=0.6)

    def loss(stacked: Tensor) -> Tensor:
        return 0.5 * (student(stacked[..., :K]) - torch.tanh(2.0 * stacked[..., K])) ** 2

    points = [W.clone().requires_grad_(True), b.clone().requires_grad_(True), *student.parameters()]
    stacked_b = torch.cat([points[1], torch.zeros(1, dtype=torch.float64)])
    value = full_space_value(loss, torch.cat([points[0], U]), stacked_b, 40)
    grads = torch.autograd.grad(value, points, create_graph=True)
    direction = random_directions(student, None)
    hvps = torch.autograd.grad(grads, points, [direction.W, direction.b, *direction.theta])
    F = Expectation(head, W, b, 2**17)
    found_value, found_grad = F.value_and_grad()
    assert found_value.method == "quadrature"
    assert F.law.rank == min(D, rank + 1)
    tolerance = 2e-6  # tanh(2 u) has poles near the real axis
    assert float(found_value) == pytest.approx(float(value.detach()), abs=tolerance)
    assert_blocks(found_grad.value, [grad.detach() for grad in grads], tolerance)
    assert_blocks(F.hvp(direction).value, list(hvps), tolerance)
