"""W = L Q^T: exact, of the right rank, and a smooth function of W."""

from __future__ import annotations

import math

import pytest
import torch

from sdp.expectation.law import reduce_law
from tests.reference.gaussian_law import random_point

# Rounding of float64 or float32 QR and SVD of some ten rows, relative to |W|.
TOLERANCES = {torch.float64: 1e-14, torch.float32: 1e-6}

SHAPES = [
    pytest.param(4, 9, 4, id="full row rank"),
    pytest.param(9, 4, 4, id="full column rank"),
    pytest.param(6, 8, 2, id="low rank"),
    pytest.param(1, 5, 1, id="one row"),
    pytest.param(5, 1, 1, id="one column"),
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("k", "d", "rank"), SHAPES)
def test_factors_give_the_matrix_back(k: int, d: int, rank: int, dtype: torch.dtype) -> None:
    W = random_point(k, d, rank, seed=1)[0].to(dtype)
    law = reduce_law(W)
    assert law.rank == rank
    assert law.L.dtype == law.Q.dtype == dtype
    assert (law.L.shape, law.Q.shape) == ((k, rank), (d, rank))
    size = float(W.norm())
    assert float((law.L @ law.Q.T - W).norm()) <= TOLERANCES[dtype] * size
    assert float((law.Q.T @ law.Q - torch.eye(rank, dtype=dtype)).norm()) <= TOLERANCES[dtype] * rank**0.5


def test_zero_has_rank_zero() -> None:
    law = reduce_law(torch.zeros(3, 5))
    assert law.rank == 0
    assert (law.L.shape, law.Q.shape) == ((3, 0), (5, 0))


def test_full_row_rank_gives_the_symmetric_root() -> None:
    W = random_point(4, 9, 4, seed=2)[0]
    L = reduce_law(W).L
    torch.testing.assert_close(L, L.T, rtol=0.0, atol=1e-13)
    torch.testing.assert_close(L @ L, W @ W.T, rtol=0.0, atol=1e-13)


@pytest.mark.parametrize(("k", "d", "rank"), SHAPES)
def test_the_factor_is_smooth(k: int, d: int, rank: int) -> None:
    """A step of 1e-7 within the same rank moves L by a like amount, whatever signs LAPACK chooses."""
    W = random_point(k, d, rank, seed=3)[0]
    step = 1e-7 * W @ random_point(d, d, d, seed=4)[0]
    moved = reduce_law(W + step).L - reduce_law(W).L
    assert float(moved.norm()) <= 10.0 * float(step.norm())


def test_the_rank_falls_where_a_direction_dies() -> None:
    W = torch.diag(torch.tensor([1.0, 1.0, 1e-9]))
    assert reduce_law(W).rank == 2
    assert reduce_law(W.double()).rank == 3
    assert reduce_law(W.double(), tolerance=1e-3).rank == 2


def test_extra_rows_share_the_row_space() -> None:
    W, U = random_point(4, 9, 2, seed=5)[0], random_point(3, 9, 3, seed=6)[0]
    law = reduce_law(W, U)
    assert law.rank == 5
    torch.testing.assert_close(law.L @ law.Q.T, torch.cat([W, U]), rtol=0.0, atol=1e-14)
    assert reduce_law(W, W[:2]).rank == 2


@pytest.mark.parametrize("condition", [1.0, 5e3, 2e4])
def test_the_short_way_and_the_long_way_agree(condition: float) -> None:
    # Below a condition number of 1e4 float32 rows take the square root of W W^T; the two must meet there.
    generator = torch.Generator().manual_seed(3)
    U, _ = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64))
    V, _ = torch.linalg.qr(torch.randn(40, 6, generator=generator, dtype=torch.float64))
    W = (U * torch.logspace(0, -math.log10(condition), 6, dtype=torch.float64)) @ V.T
    law, exact = reduce_law(W.float()), reduce_law(W.float().double())
    assert law.rank == exact.rank == 6
    assert float((law.L - exact.L).abs().max()) < 1e-6
    assert float((law.Q.double().T @ law.Q.double() - torch.eye(6)).abs().max()) < 1e-6
    assert float((law.L.double() @ law.Q.double().T - W).abs().max()) < 1e-6
