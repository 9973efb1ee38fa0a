"""The expectation's operators under autograd, torch.library, torch.compile and torch.func; bad input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sdp_kernels import expectation
from sdp_kernels.expectation import Draw, Network

NETWORK = Network("tanh", "mse", 0.3)
DRAW = Draw(40, 1)


def problem() -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    k, q, h = 3, 2, 4
    shapes: list[tuple[int, ...]] = [(k, q), (k,), (h, k), (h,), (h,), ()]
    return tuple(
        torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_() for shape in shapes
    )


def mean(L: Tensor, b: Tensor, *params: Tensor) -> Tensor:
    return expectation.expectation(L, b, params, NETWORK, DRAW, "exact")


SHAPED = [tensor.detach() for tensor in problem()]


def of_columns(columns: Tensor) -> Tensor:
    L, b, params = expectation.unflatten(columns, SHAPED[0], SHAPED[1], SHAPED[2:])
    return mean(L, b, *params)


def test_gradcheck() -> None:
    assert torch.autograd.gradcheck(mean, problem())
    assert torch.autograd.gradgradcheck(mean, problem())


# opcheck itself reads .grad of what it has computed.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("name", ["_expectation", "_expectation_grad", "_expectation_hvp"])
def test_opcheck(name: str) -> None:
    L, b, *params = problem()
    flat = expectation.flatten(L, b, params).detach()
    others = expectation._scalars(L, params, NETWORK, DRAW, "exact")
    arguments: tuple[Any, ...] = (flat.requires_grad_(), *others)
    if name == "_expectation_hvp":  # third derivatives are refused
        arguments = (flat.detach(), torch.ones(2, len(flat), dtype=flat.dtype).requires_grad_(), *others)
    found = torch.library.opcheck(getattr(expectation, name), arguments)
    assert set(found.values()) == {"SUCCESS"}


def test_third_derivatives_are_refused() -> None:
    columns = expectation.flatten(*problem()[:2], problem()[2:]).detach().requires_grad_()
    (first,) = torch.autograd.grad(of_columns(columns), columns, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), columns, create_graph=True)
    with pytest.raises(NotImplementedError, match=r"^third derivatives of the expectation are not provided"):
        second.sum().backward()


def test_torch_func() -> None:
    tensors = problem()
    wanted = torch.autograd.grad(mean(*tensors), tensors)
    detached = [tensor.detach() for tensor in tensors]
    found = torch.func.grad(mean, argnums=tuple(range(len(tensors))))(*detached)
    assert all(torch.equal(x, y) for x, y in zip(found, wanted, strict=True))
    columns = expectation.flatten(detached[0], detached[1], detached[2:])
    hessian = torch.func.jacrev(torch.func.grad(of_columns))(columns)
    looped = torch.autograd.functional.hessian(of_columns, columns)
    assert (hessian - looped).abs().max() < 1e-14


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_torch_compile(backend: str) -> None:
    torch._dynamo.reset()
    tensors = problem()
    wanted = torch.autograd.grad(2.0 * mean(*tensors), tensors)
    compiled = torch.compile(lambda *given: 2.0 * mean(*given), fullgraph=True, backend=backend)
    found = torch.autograd.grad(compiled(*tensors), tensors)
    assert all(torch.equal(x, y) for x, y in zip(found, wanted, strict=True))


def valid() -> dict[str, Any]:
    L, b, *params = (tensor.detach() for tensor in problem())
    return {"L": L, "b": b, "params": params, "network": NETWORK, "draw": DRAW}


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        pytest.param({"b": torch.zeros(4)}, ValueError, r"^L has 3 rows but b has shape \(4,\); L ", id="b"),
        pytest.param({"L": torch.zeros(3)}, ValueError, r"^L must be a matrix \(k, q\); got shape", id="L"),
        pytest.param(
            {"b": torch.zeros(3)}, TypeError, r"^b is torch.float32 but L is torch.float64", id="dtype"
        ),
        pytest.param(
            {"b": torch.full((3,), float("nan")).double()},
            ValueError,
            r"^b has entries that are not finite\.$",
            id="nan",
        ),
        pytest.param(
            {"network": Network("swish")}, ValueError, r"^activation must be one of identity, tanh", id="name"
        ),
        pytest.param(
            {"network": Network("tanh", "l1")}, ValueError, r"^loss must be one of none, mse", id="loss"
        ),
        pytest.param(
            {"network": Network("tanh", "logistic", 0.5)},
            ValueError,
            r"^target must be \+1 or -1",
            id="target",
        ),
        pytest.param(
            {"draw": Draw(4, 0.5)}, TypeError, r"^seed must be an integer; got 0\.5\.$", id="no integer"
        ),
        pytest.param({"draw": Draw(0, 1)}, ValueError, r"^n must be at least 1; got 0\.$", id="n"),
        pytest.param(
            {"draw": Draw(4, -1)}, ValueError, r"^seed must lie in \[0, 2\^63\); got -1\.$", id="seed"
        ),
        pytest.param(
            {"draw": Draw(4, 1, points=torch.zeros(4, 3))},
            ValueError,
            r"^points must have shape \(4, 2\), from n and L; got \(4, 3\)\.$",
            id="points",
        ),
        pytest.param(
            {"draw": Draw(4, 1, weights=torch.ones(4))}, ValueError, r"^weights need points", id="weights"
        ),
        pytest.param(
            {"params": [torch.zeros(3).double()]}, ValueError, r"^params must be \[A_1, c_1", id="odd"
        ),
        pytest.param(
            {"params": [torch.zeros(5).double(), torch.zeros(()).double()]},
            ValueError,
            r"^a must have shape \(3,\), the width of the last layer; got \(5,\)\.$",
            id="a",
        ),
        pytest.param(
            {"precision": "low"}, ValueError, r"^precision must be one of fast, high", id="precision"
        ),
    ],
)
def test_refusals(changes: dict[str, Any], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        expectation.value_batches(**{**valid(), **changes})


def test_directions_must_fit() -> None:
    with pytest.raises(ValueError, match=r"^directions must have shape \(m, 30\); got \(1, 29\)\.$"):
        expectation.hvp_batches(**valid(), directions=torch.zeros(1, 29, dtype=torch.float64))
