"""On a GPU: compiled kernels against the CPU engine and the float64 oracles. Run by `make gpu`, alone in its process.

Everywhere else the kernels' logic is tested in triton's interpreter; what only a GPU shows is the compiled code: low
precision dots, races, memory out of bounds, the compiler.
"""

from __future__ import annotations

import itertools
import os

import pytest
import torch

from sdp_kernels import gaussian
from sdp_kernels.expectation import Draw, Network, grad_batches, hvp_batches, value_batches

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    pytest.mark.skipif(
        os.environ.get("TRITON_INTERPRET") == "1", reason="triton interprets here; run make gpu"
    ),
]

# Largest error over largest entry. high: 3e-5, as the interpreter's tests ask; fast: products of 11-bit mantissas
# (2^-11 = 5e-4), averaged over draws, through up to 4 layers.
TOLERANCES = {"high": 3e-5, "fast": 3e-3}
SHAPES = [
    pytest.param(16, 16, (16,), 4096, id="one block"),
    pytest.param(5, 3, (7, 9), 1000, id="padded everywhere"),
    pytest.param(32, 32, (32, 32), 10_000, id="ragged last tile"),
    pytest.param(64, 64, (64, 64), 8192, id="64 wide"),
    pytest.param(64, 70, (), 3000, id="no hidden layer, q above a block"),
    pytest.param(128, 128, (128,), 2048, id="128 wide"),
    pytest.param(130, 20, (17,), 2048, id="too wide to fuse"),
]


def head(k: int, q: int, hidden: tuple[int, ...], device: str, dtype: torch.dtype) -> list[torch.Tensor]:
    """L, b and the parameters of a network, the same on every device."""
    made = torch.Generator().manual_seed(1)
    sizes: list[tuple[int, ...]] = [(k, q), (k,)]
    widths = (k, *hidden)
    for fan_in, width in itertools.pairwise(widths):
        sizes += [(width, fan_in), (width,)]
    sizes += [(widths[-1],), ()]
    scale = [s[-1] ** -0.5 if len(s) == 2 else 0.5 for s in sizes]
    tensors = [
        torch.randn(s, generator=made, dtype=torch.float64) * c for s, c in zip(sizes, scale, strict=True)
    ]
    return [tensor.to(torch.float32).to(device, dtype) for tensor in tensors]


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.cpu() - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("shape", [(3, 4096), (1000, 7), (1, 5), (257, 130)], ids=str)
def test_random_numbers(shape: tuple[int, int]) -> None:
    where = {"seed": 2**40 + 1, "purpose": 3, "row_offset": 2**33, "column_offset": 5}
    bits = [gaussian.uniform_bits(shape, **where, device=device).cpu() for device in ("cpu", "cuda")]
    assert torch.equal(*bits)
    signs = [gaussian.rademacher(shape, **where, device=device).cpu() for device in ("cpu", "cuda")]
    assert torch.equal(*signs)
    cpu, cuda = (gaussian.normal(shape, **where, device=device).cpu() for device in ("cpu", "cuda"))
    torch.testing.assert_close(cuda, cpu, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize(("k", "q", "hidden", "n"), SHAPES)
def test_expectation(k: int, q: int, hidden: tuple[int, ...], n: int, precision: str) -> None:
    network, draw = Network("tanh", "mse", 0.25), Draw(n=n, seed=7)
    L, b, *params = head(k, q, hidden, "cuda", torch.float32)
    exact = head(k, q, hidden, "cpu", torch.float64)
    columns = sum(tensor.numel() for tensor in exact)
    directions = torch.randn(3, columns, generator=torch.Generator().manual_seed(2))
    found = hvp_batches(L, b, params, network, draw, directions.cuda(), precision)
    expected = hvp_batches(exact[0], exact[1], exact[2:], network, draw, directions.double(), "exact")
    for ours, theirs in zip(found, expected, strict=True):
        assert error(ours, theirs) < TOLERANCES[precision]
    value = value_batches(L, b, params, network, draw, precision)
    again = grad_batches(L, b, params, network, draw, precision)
    for ours, theirs in zip((value, *again), (expected[0], *expected[:2]), strict=True):
        assert error(ours, theirs) < TOLERANCES[precision]


@pytest.mark.parametrize("precision", TOLERANCES)
def test_same_seed_same_bits(precision: str) -> None:
    L, b, *params = head(64, 64, (64, 64), "cuda", torch.float32)
    draw = Draw(n=50_000, seed=3)
    first, second = (grad_batches(L, b, params, Network("tanh"), draw, precision) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
