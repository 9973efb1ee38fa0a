"""Heads: the MLP is the formula, others fit the same door, and what does not fit is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sdp.expectation.expectation import Expectation
from sdp.expectation.heads import MLP, CallableHead, TeacherStudent
from sdp_kernels import activations
from tests.reference import expectation as oracle
from tests.reference.gaussian_law import random_point


@pytest.mark.parametrize("activate_input", [False, True])
@pytest.mark.parametrize(("loss", "target"), [(None, 0.0), ("mse", 0.7), ("logistic", -1.0)])
@pytest.mark.parametrize("widths", [(3,), (3, 5), (3, 5, 4, 2)], ids=str)
def test_mlp_is_the_oracle(
    widths: tuple[int, ...], loss: str | None, target: float, activate_input: bool
) -> None:
    for activation in activations.NAMES:
        head = MLP(
            widths,
            activation,
            loss,
            target=target,
            activate_input=activate_input,
            iota=2.0,
            seed=1,
            dtype=torch.float64,
        )
        assert len(head.theta) == 2 * (len(widths) - 1) + 2
        z = torch.linspace(-2, 2, 21, dtype=torch.float64).view(7, 3)
        parameters = [part.detach() for part in head.theta]
        torch.testing.assert_close(head(z).detach(), oracle.head(z, parameters, head.network))


def test_mlp_parameters_follow_the_seed() -> None:
    one, again, other = MLP((8, 4), seed=1), MLP((8, 4), seed=1), MLP((8, 4), seed=2)
    assert torch.equal(one.theta[0], again.theta[0])
    assert not torch.equal(one.theta[0], other.theta[0])
    assert float(MLP((400, 300)).theta[0].detach().std()) == pytest.approx(400**-0.5, rel=0.02)
    assert [tuple(part.shape) for part in one.theta] == [(4, 8), (4,), (4,), ()]


def test_any_leading_shape() -> None:
    head = MLP((3, 4))
    assert head(torch.zeros(2, 5, 3)).shape == (2, 5)
    assert head(torch.zeros(3)).shape == ()


def test_frozen_parameters_are_no_part_of_theta() -> None:
    head = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1), nn.Flatten(-2))
    head[0].requires_grad_(False)
    W, b = (part.float() for part in random_point(3, 5, 2, seed=0))
    gradient = Expectation(head, W, b).grad().value
    assert [tuple(part.shape) for part in gradient.theta] == [(1, 4), (1,)]


def test_the_teacher_is_no_part_of_theta() -> None:
    teacher = MLP((2, 3))
    head = TeacherStudent(MLP((4, 3)), teacher, torch.eye(2, 6), loss="logistic")
    W, b = (part.float() for part in random_point(4, 6, 4, seed=0))
    F = Expectation(head, W, b, 2**10)
    assert len(F.theta) == 4
    assert all(part.requires_grad for part in teacher.parameters())
    exact = Expectation(head, W, b, 2**10, precision="exact").value()
    assert float(exact) == pytest.approx(float(F.value()), abs=1e-5)
    assert F.law.rank == 6
    assert F.hessian_z().value.shape == (4, 4)
    assert F.to_scipy().shape == (4 * 6 + 4 + 19, 4 * 6 + 4 + 19)


def test_a_loss_of_ones_own() -> None:
    head = TeacherStudent(
        lambda z: z.sum(-1), lambda u: u.sum(-1), torch.eye(1, 6), loss=lambda s, y: torch.cosh(s - y)
    )
    z = torch.tensor([[0.5, 0.25, 1.0]])
    assert float(head(z)) == pytest.approx(float(torch.cosh(torch.tensor(-0.25))))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        pytest.param(lambda: MLP((3, 0)), "`widths` must be integers of at least 1", id="width 0"),
        pytest.param(lambda: MLP(()), "`widths` must be integers of at least 1", id="no widths"),
        pytest.param(
            lambda: MLP((3,), "relu"), "`activation` must be one of identity, tanh, sigmoid", id="relu"
        ),
        pytest.param(
            lambda: MLP((3,), loss="hinge"), "`loss` must be None or one of mse, logistic", id="loss"
        ),
        pytest.param(lambda: MLP((3,), loss="logistic"), r"`target` must be \+1 or -1", id="target 0"),
        pytest.param(lambda: MLP((3,), target=float("nan")), "`target` must be finite", id="target NaN"),
        pytest.param(lambda: MLP((3,), iota=0.0), "`iota` must be finite and above 0", id="iota"),
        pytest.param(
            lambda: TeacherStudent(len, len, torch.zeros(3)),
            r"`U` must be a matrix \(r, d\)",
            id="U a vector",
        ),
        pytest.param(
            lambda: TeacherStudent(len, len, torch.zeros(1, 3), "hinge"),
            "`loss` must be one of mse, logistic or a function",
            id="teacher's loss",
        ),
    ],
)
def test_bad_heads(make: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        make()
    assert str(caught.value).count("\n") == 0


def expectation_of(head: Any) -> Expectation:
    W, b = random_point(4, 6, 4, seed=0)
    return Expectation(head, W, b, 2**10)


class Slope(torch.autograd.Function):
    """3 z^2, without a derivative."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        return 3 * z**2


class Cube(torch.autograd.Function):
    """z^3, differentiable once."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return z**3

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Any:
        return cotangent * Slope.apply(*ctx.saved_tensors)


class CubeOnce(Cube):
    """As torch marks such functions; it then takes the gradient for a constant, and says nothing."""

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> Any:
        return cotangent * 3 * ctx.saved_tensors[0] ** 2


@pytest.mark.parametrize(
    ("head", "sentence"),
    [
        pytest.param(lambda z: z, r"z \(3, 4\) it gave \(3, 4\)", id="a vector per sample"),
        pytest.param(lambda z: z.sum(), r"it gave \(\)", id="one number for all"),
        pytest.param(lambda z: z.sum(-1, keepdim=True), r"it gave \(3, 1\)", id="a dimension kept"),
        pytest.param(lambda z: 1.0, "it gave float", id="no tensor"),
        pytest.param(lambda z: z.sum(-1) - z.mean(), "must treat each sample by itself", id="samples mixed"),
        pytest.param(lambda z: (z > 0).sum(-1), "must give real numbers", id="integers"),
        pytest.param(lambda z: z.detach().sum(-1), "carries no gradient to z", id="detached"),
        pytest.param(lambda z: torch.ones(len(z), dtype=z.dtype), "carries no gradient to z", id="constant"),
    ],
)
def test_heads_that_are_no_function_of_each_sample(head: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        expectation_of(head)


def test_a_head_that_is_no_function() -> None:
    with pytest.raises(TypeError, match="`head` must be callable"):
        expectation_of(3.0)


KINKED = {
    "relu": lambda z: torch.relu(z).sum(-1),
    "abs": lambda z: z.abs().sum(-1),
    "max": lambda z: z.max(-1).values,
    "relu network": lambda z: torch.relu(torch.relu(z) - 0.3 * torch.relu(z.flip(-1))).sum(-1),
}


@pytest.mark.parametrize("name", KINKED)
def test_kinks_are_refused_where_second_derivatives_are_asked(name: str) -> None:
    F = expectation_of(KINKED[name])
    F.value()
    F.grad()
    for ask in (F.hessian_z, F.to_scipy, lambda: F.hvp({"b": torch.ones(4, dtype=torch.float64)})):
        with pytest.raises(ValueError, match="`head` is not twice differentiable"):
            ask()


def test_kinks_are_refused_in_a_double_backward() -> None:
    W, b = random_point(4, 6, 4, seed=0)
    b.requires_grad_(True)
    (gradient,) = torch.autograd.grad(Expectation(KINKED["relu"], W, b)(), b, create_graph=True)
    with pytest.raises(ValueError, match="`head` is not twice differentiable"):
        torch.autograd.grad(gradient.sum(), b)


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(lambda z: (torch.relu(z) ** 3).sum(-1), id="relu cubed"),
        pytest.param(lambda z: z.clamp(-50, 50).cos().sum(-1), id="a clamp out of reach"),
        pytest.param(lambda z: z.sum(-1), id="linear"),
        pytest.param(lambda z: torch.logsumexp(5 * z, -1), id="logsumexp"),
        pytest.param(lambda z: torch.exp(3 * z).sum(-1), id="heavy tail"),
    ],
)
def test_smooth_heads_are_not_refused(head: Any) -> None:
    for seed in range(5):
        W, b = random_point(4, 6, 4, seed=seed)
        Expectation(head, W, b, 64, seed).hessian_z()


@pytest.mark.parametrize(
    ("cube", "sentence"),
    [
        pytest.param(Cube, "cannot be differentiated twice by autograd", id="torch raises"),
        pytest.param(CubeOnce, "autograd does not see its second derivative", id="torch is silent"),
    ],
)
def test_a_head_that_is_differentiable_once(cube: Any, sentence: str) -> None:
    F = expectation_of(lambda z: cube.apply(z).sum(-1))
    (note,) = F.grad().notes
    assert note.startswith("control variate left out")
    with pytest.raises(ValueError, match=sentence) as caught:
        F.hessian_z()
    assert "\n" not in str(caught.value)


def test_callable_head_keeps_rows() -> None:
    head = CallableHead(lambda z: z.sum(-1), rows=torch.ones(1, 6, dtype=torch.float64))
    assert expectation_of(head).law.L.shape[0] == 5
