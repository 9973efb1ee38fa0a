"""Structures of the gradient that lost, interpreted: a table of what lost is worth something if they are right."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sdp_kernels import gaussian
from sdp_kernels.triton import expectation_candidates as candidates
from sdp_kernels.triton.expectation_law import Folded, Packing

PROGRAMS, TILES, ROWS = 2, 3, 16
N = PROGRAMS * TILES * ROWS
SEED, PURPOSE = 11, 1
TOLERANCE = 3e-5  # as the shipped kernels: float32 sums of 2 N terms


def head(width: int) -> tuple[Packing, list[Tensor]]:
    """Where tensors lie, and M, c_0, c_1, A, a, c in float64."""
    generator = torch.Generator().manual_seed(1)

    def randn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    square = randn(width, width) / width**0.5
    tensors = [
        randn(width, width) / width**0.5,
        randn(width),
        randn(width),
        square,
        randn(width),
        randn(1)[0],
    ]
    return Packing(width, width, width, [width, width]), tensors


def expected(tensors: list[Tensor], packing: Packing) -> tuple[float, Tensor]:
    """Sum of g over signs and draws, and its gradient in the layout of the kernels, by autograd."""
    M, c0, c1, A, a, c = leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    xi = gaussian.normal((N, packing.q), seed=SEED, purpose=PURPOSE, dtype=torch.float64)
    total = torch.zeros((), dtype=torch.float64)
    for sign in (1.0, -1.0):
        h = torch.tanh(c0 + sign * xi @ M.T)
        total = total + (torch.tanh(h @ A.T + c1) @ a + c).sum()
    dM, dc0, dc1, dA, da, dc = torch.autograd.grad(total, leaves)
    vectors = torch.stack([dc0, dc1, da, torch.nn.functional.pad(dc[None], (0, packing.width - 1))])
    return float(total.detach()), torch.cat([dM.flatten(), vectors.flatten(), dA.flatten()])


def carried(packed: Tensor, packing: Packing) -> tuple[Tensor, Tensor]:
    H = packing.width
    values, sums = torch.empty(PROGRAMS), torch.zeros(PROGRAMS, packing.size)
    candidates._carried_kernel[(PROGRAMS,)](
        packed, values, sums, SEED, PURPOSE, TILES, 1, 2,
        BS=ROWS, H=H, BQ=H, ACTIVATION="tanh", DOT="ieee",
    )  # fmt: skip
    return values.sum(), sums.sum(0)


def in_two_passes(packed: Tensor, packing: Packing) -> tuple[Tensor, Tensor]:
    H, columns = packing.width, 16
    n_q = packing.qp // columns
    values, vectors = torch.empty(PROGRAMS), torch.zeros(PROGRAMS, 4 * H)
    kept = torch.full((candidates.KEPT, N, H), torch.nan)
    first, layer = torch.zeros(PROGRAMS, H, packing.qp), torch.empty(PROGRAMS, H, H)
    sizes = (SEED, PURPOSE, TILES, n_q, 2, N)
    tile: dict[str, Any] = {"BS": ROWS, "H": H, "BQ": columns, "DOT": "ieee"}
    candidates._split_backward_kernel[(PROGRAMS,)](
        packed, values, kept, vectors, *sizes, ACTIVATION="tanh", **tile
    )
    candidates._split_sums_kernel[(PROGRAMS,)](kept, first, layer, *sizes, **tile)
    return values.sum(), torch.cat([part.sum(0).flatten() for part in (first, vectors, layer)])


@pytest.mark.parametrize("structure", [carried, in_two_passes], ids=["carried", "two passes"])
@pytest.mark.parametrize("width", [16, 32], ids=["one block of columns", "two"])
def test_gradient_is_that_of_autograd(structure: Any, width: int) -> None:
    packing, tensors = head(width)
    M, c0, c1, A, a, c = tensors
    value, gradient = structure(packing.pack(Folded(M, [c0, c1], [A], a, c)), packing)
    right_value, right = expected(tensors, packing)
    assert float(value) == pytest.approx(right_value, rel=TOLERANCE)
    assert float((gradient.double() - right).abs().max()) <= TOLERANCE * float(right.abs().max())
