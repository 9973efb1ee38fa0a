"""Activations and two derivatives in torch, against 40 digits: near 0, at seams, in the tails, and at infinity."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sdp_kernels import activations
from tests.reference import activations as oracle

# Half a unit in the last place of float32 is 6e-8; a derivative is up to six roundings from its argument.
RELATIVE = 4e-7
# Rounding x sqrt(1/2), its constant included, moves exp(-x^2 / 2) by x^2 times 2^-52: 3.8e-14 at 13.
RELATIVE_FLOAT64 = 4e-14

# (name, iota): iota that is no power of two rounds iota * x.
CASES = [(name, 1.0) for name in activations.NAMES] + [
    ("softplus", 0.1875),
    ("softplus", 3.3),
    ("softplus", 40.0),
]
LIMITS = {  # f, f', f'' at minus and plus infinity
    "identity": ((-math.inf, 1, 0), (math.inf, 1, 0)),
    "tanh": ((-1, 0, 0), (1, 0, 0)),
    "sigmoid": ((0, 0, 0), (1, 0, 0)),
    "softplus": ((0, 0, 0), (math.inf, 1, 0)),
    "gelu": ((0, 0, 0), (math.inf, 1, 0)),
    "relu3": ((0, 0, 0), (math.inf, math.inf, math.inf)),
    "erf": ((-1, 0, 0), (1, 0, 0)),
    "phi_cdf": ((0, 0, 0), (1, 0, 0)),
    "phi": ((0, 0, 0), (0, 0, 0)),
}


@pytest.mark.parametrize(("name", "iota"), CASES)
def test_values_and_derivatives(name: str, iota: float) -> None:
    x = oracle.points()
    iota = float(np.float32(iota))
    found = torch.stack(activations.derivatives(name, torch.from_numpy(x), 2, iota))
    error, where = oracle.worst_error(name, iota, x, found.double().numpy())
    assert error <= RELATIVE, where


@pytest.mark.parametrize(("name", "iota"), CASES)
def test_float64(name: str, iota: float) -> None:
    x = oracle.points()
    x = x[np.abs(x) < 13.0]
    found = torch.stack(activations.derivatives(name, torch.from_numpy(x).double(), 2, iota))
    assert found.dtype == torch.float64
    error, where = oracle.worst_error(name, iota, x, found.numpy())
    assert error <= RELATIVE_FLOAT64, where


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", activations.NAMES)
def test_every_dtype_and_order(name: str, dtype: torch.dtype) -> None:
    x = torch.linspace(-3, 3, 12, dtype=dtype).view(3, 4).T
    all_three = activations.derivatives(name, x, 2)
    for order in range(3):
        found = activations.derivatives(name, x, order)
        assert len(found) == order + 1
        for one, other in zip(found, all_three, strict=False):
            assert one.dtype == dtype
            assert one.shape == x.shape
            assert torch.equal(one, other)
    fused = activations.evaluate(name, x, 2)
    assert all(torch.equal(one, other) for one, other in zip(fused, all_three, strict=True))


@pytest.mark.parametrize("name", activations.NAMES)
def test_limits_and_nan(name: str) -> None:
    x = torch.tensor([-math.inf, math.inf])
    found = torch.stack(activations.derivatives(name, x, 2))
    assert found.T.tolist() == [list(map(float, side)) for side in LIMITS[name]]
    assert activations.derivatives(name, torch.tensor([math.nan]), 0)[0].isnan().all()
    if name != "identity":
        assert activations.derivatives(name, torch.tensor([math.nan]), 1)[1].isnan().all()


@pytest.mark.parametrize(("name", "iota"), CASES)
def test_autograd_agrees_with_the_closed_forms(name: str, iota: float) -> None:
    x = torch.linspace(-4, 4, 41, dtype=torch.float64, requires_grad=True)
    f, d, h = activations.derivatives(name, x, 2, iota)
    (by_autograd,) = torch.autograd.grad(f.sum(), x, create_graph=True)
    torch.testing.assert_close(by_autograd, d, rtol=1e-12, atol=1e-14)
    if by_autograd.requires_grad:
        (second,) = torch.autograd.grad(by_autograd.sum(), x, allow_unused=True)
        torch.testing.assert_close(second, h, rtol=1e-11, atol=1e-13)
    else:
        assert name == "identity"


def test_evaluate_holds_no_graph() -> None:
    x = torch.ones(3, requires_grad=True)
    assert not any(part.requires_grad for part in activations.evaluate("tanh", x, 2))
    assert activations.derivatives("tanh", x, 0)[0].requires_grad


def test_the_relation_between_the_normal_family() -> None:
    x = torch.linspace(-8, 8, 101, dtype=torch.float64)
    (cdf, density, slope) = activations.derivatives("phi_cdf", x, 2)
    torch.testing.assert_close(cdf + cdf.flip(0), torch.ones_like(x))
    torch.testing.assert_close(
        torch.stack((density, slope)), torch.stack(activations.derivatives("phi", x, 1))
    )
    torch.testing.assert_close(activations.derivatives("gelu", x, 0)[0], x * cdf)
    (erf,) = activations.derivatives("erf", x / math.sqrt(2.0), 0)
    torch.testing.assert_close(0.5 * (1 + erf), cdf, rtol=0, atol=1e-15)


def test_refusals() -> None:
    x = torch.zeros(2)
    for call in (activations.derivatives, activations.evaluate):
        with pytest.raises(
            ValueError, match=r"^activation must be one of identity, tanh, .*, phi; got 'relu'\.$"
        ):
            call("relu", x, 0)
        with pytest.raises(ValueError, match=r"^`order` must be one of 0, 1, 2; got 3\.$"):
            call("tanh", x, 3)
        with pytest.raises(TypeError, match=r"^`x` must hold floating-point numbers; got torch\.int64\.$"):
            call("tanh", torch.zeros(2, dtype=torch.int64), 0)
        for iota in (0.0, -1.0, math.nan, math.inf):
            with pytest.raises(ValueError, match=rf"^`iota` must be positive and finite; got {iota}\.$"):
                call("softplus", x, 0, iota)
