"""The activations' device functions, interpreted, against 40 digits, and with a target's own errors put in."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor
from triton.runtime import interpreter

from sdp_kernels import activations
from sdp_kernels.triton import activations as twin
from sdp_kernels.triton._math import central_mass2, inverse_root
from tests.kernels.test_activations import CASES, LIMITS, RELATIVE
from tests.kernels.triton.guards import Guarded
from tests.reference import activations as oracle

# PTX promises exp2 and rsqrt to 2^-22 and 2^-22.9. exp2's error passes to every tail; the Newton step squares rsqrt's.
TARGET_ERROR = 2.0**-22
RELATIVE_ON_TARGETS = RELATIVE + 1.1 * TARGET_ERROR


@pytest.fixture(autouse=True)
def _interpret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDP_ENGINE", "interpret")


def worst(name: str, iota: float, x: NDArray[np.float32], found: tuple[Tensor, ...]) -> float:
    """Largest relative error of f and the derivatives."""
    rounded = float(np.float32(iota))  # as kernels get it
    error, where = oracle.worst_error(name, rounded, x, torch.stack(found).double().numpy())
    print(where)
    return error


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # relu3 of 1e12 to the third
@pytest.mark.parametrize("order", range(3))
@pytest.mark.parametrize(("name", "iota"), CASES)
def test_values_and_derivatives(name: str, iota: float, order: int) -> None:
    x = oracle.points()
    found = activations.evaluate(name, torch.from_numpy(x), order, iota)
    assert len(found) == order + 1
    assert worst(name, iota, x, found) <= RELATIVE


def bent(operation: Callable[..., Any], relative: float) -> Callable[..., Any]:
    """The interpreter's operation with a relative error."""

    def run(self: object, argument: object) -> object:
        result = operation(self, argument)
        result.data = (result.data.astype(np.float64) * (1.0 + relative)).astype(result.data.dtype)
        return result

    return run


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize(("name", "iota"), CASES)
def test_with_the_errors_of_a_target(
    name: str, iota: float, sign: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    for operation in ("create_exp2", "create_rsqrt"):
        before = getattr(interpreter.InterpreterBuilder, operation)
        monkeypatch.setattr(interpreter.InterpreterBuilder, operation, bent(before, sign * TARGET_ERROR))
    x = oracle.points()
    found = activations.evaluate(name, torch.from_numpy(x), 2, iota)
    assert worst(name, iota, x, found) <= RELATIVE_ON_TARGETS


def test_an_error_put_in_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the test above cannot pass because nothing was bent."""
    before = interpreter.InterpreterBuilder.create_exp2
    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_exp2", bent(before, 1e-5))
    x = oracle.points()
    found = activations.evaluate("phi", torch.from_numpy(x), 2)
    assert worst("phi", 1.0, x, found) > 5e-6


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
@pytest.mark.parametrize("name", activations.NAMES[1:])
def test_limits_and_nan(name: str) -> None:
    x = torch.tensor([-math.inf, math.inf, math.nan])
    found = torch.stack(activations.evaluate(name, x, 2))
    assert found[:, :2].T.tolist() == [list(map(float, side)) for side in LIMITS[name]]
    assert found[:, 2].isnan().all()


@pytest.mark.parametrize("name", activations.NAMES[1:])
def test_both_engines(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    interpreted = activations.evaluate(name, x, 2)
    monkeypatch.setenv("SDP_ENGINE", "cpu")
    for one, other in zip(interpreted, activations.evaluate(name, x, 2), strict=True):
        torch.testing.assert_close(one, other, rtol=8e-7, atol=1e-7)


@pytest.mark.parametrize("n", [1, 1023, 1024, 1025, 3000], ids=lambda n: f"n={n}")
@pytest.mark.parametrize("order", range(3))
def test_nothing_is_written_beside_the_results(n: int, order: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below, at and above a block of the size that GPUs get."""
    monkeypatch.setattr(twin, "BLOCK_INTERPRETED", twin.BLOCK)
    held: list[Guarded] = []

    def guarded(x: Tensor) -> Tensor:
        held.append(Guarded(tuple(x.shape), x.dtype))
        return held[-1].tensor

    monkeypatch.setattr(torch, "empty_like", guarded)
    inside = Guarded((n,), torch.float32)  # reading outside of x gives NaN
    inside.tensor.copy_(torch.linspace(-3, 3, n))
    found = twin.evaluate("tanh", inside.tensor, order, 1.0)
    assert len(held) == order + 1
    for buffer, part in zip(held, found, strict=True):
        assert buffer.check() is part
    torch.testing.assert_close(found[0], torch.tanh(inside.check()))


def test_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert activations.evaluate("tanh", torch.empty(0, 3), 2)[1].shape == (0, 3)
    assert activations.evaluate("tanh", torch.tensor(0.5), 0)[0].shape == ()
    x = torch.linspace(-2, 2, 15).view(3, 5).T
    (found,) = activations.evaluate("gelu", x, 0)
    torch.testing.assert_close(found, torch.nn.functional.gelu(x))


@triton.jit
def _mass_kernel(x_ptr, mass_ptr, density_ptr, root_ptr, N: tl.constexpr, ROOT: tl.constexpr):  # type: ignore[no-untyped-def]
    offs = tl.arange(0, N)
    x = tl.load(x_ptr + offs)
    mass, density = central_mass2(x)
    tl.store(mass_ptr + offs, mass)
    tl.store(density_ptr + offs, density)
    if ROOT:
        tl.store(root_ptr + offs, inverse_root(x * x))


@pytest.mark.parametrize("error", [-TARGET_ERROR, 0.0, TARGET_ERROR])
def test_central_mass_and_inverse_root(error: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Absolutely, and the mass relatively near 0; a bare rsqrt passes its error on, a Newton step squares it."""
    for operation in ("create_exp2", "create_rsqrt"):
        before = getattr(interpreter.InterpreterBuilder, operation)
        monkeypatch.setattr(interpreter.InterpreterBuilder, operation, bent(before, error))
    sizes = np.concatenate([np.logspace(-17, 0, 2000), np.linspace(1e-3, 20.0, 30_768)])
    x = np.concatenate([-sizes, sizes]).astype(np.float32)
    mass, density, root = (torch.empty(len(x)) for _ in range(3))
    _mass_kernel[(1,)](torch.from_numpy(x), mass, density, root, N=len(x), ROOT=True)
    wide = x.astype(np.float64)
    exact = scipy.special.erf(wide / math.sqrt(2.0))
    absolute = 1.5e-7 + 1.5 * abs(error)
    assert np.abs(mass.numpy() - exact).max() < absolute
    assert np.abs(density.numpy() - scipy.stats.norm.pdf(wide)).max() < absolute
    near = np.abs(x) < 1.0
    assert np.abs(mass.numpy()[near] / exact[near] - 1.0).max() < 3e-7
    assert np.abs(root.numpy() * np.abs(wide) - 1.0).max() < 1.5e-7
    limits = torch.tensor([-math.inf, math.inf, math.nan, -0.0])
    ends, heights = torch.empty(4), torch.empty(4)
    _mass_kernel[(1,)](limits, ends, heights, heights, N=4, ROOT=False)
    assert ends[:2].tolist() == [-1.0, 1.0]
    assert heights[:2].tolist() == [0.0, 0.0]
    assert ends[2].isnan()
    assert heights[2].isnan()
    assert ends[3] == 0.0
