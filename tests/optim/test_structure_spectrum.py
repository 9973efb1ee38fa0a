"""The spectrum of a matrix against torch's SVD and what Eckart and Young say of it."""

from __future__ import annotations

import math

import pytest
import torch

from sdp.optim.spectrum import leading_directions, principal_angles, spectrum, visible_rank


def matrix(k: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(k, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def frame(r: int, d: int, seed: int = 1) -> torch.Tensor:
    return torch.linalg.qr(matrix(d, r, seed))[0].T


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (5, 5), (1, 3)], ids=str)
def test_numbers_are_those_of_the_svd(shape: tuple[int, int]) -> None:
    W, U = matrix(*shape), frame(1, shape[1])
    found = spectrum(W, U)
    values = torch.linalg.svdvals(W)
    torch.testing.assert_close(torch.tensor(found.singular_values, dtype=torch.float64), values)
    perp = W - W @ U.T @ U
    assert found.perp_norm == pytest.approx(float(perp.norm()))
    assert found.perp_share == pytest.approx(float(perp.norm() / W.norm()))
    assert found.stable_rank == pytest.approx(float(W.norm() ** 2 / values[0] ** 2))
    right = torch.linalg.svd(W, full_matrices=False)[2][:1]
    assert found.angles == pytest.approx([math.acos(min(1.0, abs(float(right @ U.T))))])


@pytest.mark.parametrize("seed", range(20))
def test_what_is_seen_without_u_bounds_w_perp_from_below(seed: int) -> None:
    r = 1 + seed % 3
    W, U = matrix(6, 8, seed), frame(r, 8, seed + 100)
    W = W @ U.T @ U + 10.0 ** -(seed % 5) * W
    found = spectrum(W, U)
    assert found.perp_norm is not None
    assert found.singular_values[r] <= found.tail(r) <= found.perp_norm * (1 + 1e-9)


def test_angles_small_and_large() -> None:
    for angle in (1e-9, 1e-3, 0.7, math.pi / 2 - 1e-7):
        left, right = torch.eye(5).double()[:2], torch.eye(5).double()[:2]
        right[1, 1], right[1, 3] = math.cos(angle), math.sin(angle)
        low, high = principal_angles(left, right)
        assert low == pytest.approx(0.0, abs=1e-15)
        assert high == pytest.approx(angle, rel=1e-7)


def test_visible_rank() -> None:
    assert visible_rank([5.0, 4.0, 3.0, 0.29, 0.28]) == 3
    assert visible_rank([5.0, 4.0, 3.0, 0.31, 0.3]) == 0
    assert visible_rank([5.0, 0.4, 0.003]) == 2  # the widest gap, not the first
    assert visible_rank([5.0, 4.0, 1e-20, 1e-30]) == 2  # what follows is rounding
    assert visible_rank([0.0, 0.0]) == 0
    assert visible_rank([1.0]) == 0


def test_gap_and_zero() -> None:
    found = spectrum(torch.zeros(3, 4), frame(2, 4))
    assert (found.norm, found.stable_rank, found.perp_share, found.visible_rank) == (0.0, 0.0, 0.0, 0)
    assert spectrum(torch.diag(torch.tensor([4.0, 2.0, 1.0]))).gap(2) == pytest.approx(2.0)
    assert spectrum(torch.eye(2)).gap(2) == math.inf


def test_leading_directions_are_the_best_subspace() -> None:
    W = matrix(6, 8)
    V = leading_directions(W, 2)
    left = float((W - W @ V.T @ V).norm())
    assert left == pytest.approx(spectrum(W).tail(2))
    with pytest.raises(ValueError, match=r"`rank` must lie in \[1, 6\]"):
        leading_directions(W, 7)


@pytest.mark.parametrize(
    ("W", "U", "kind", "sentence"),
    [
        (torch.ones(2, 3, dtype=torch.int64), None, TypeError, "`W` must be a tensor of floating-point numbers"),
        (torch.ones(3), None, ValueError, "`W` must be a matrix"),
        (torch.full((2, 2), math.nan), None, ValueError, "W has entries that are NaN or infinite"),
        (torch.ones(2, 3), torch.eye(2), ValueError, "W has 3 columns but U has 2"),
        (torch.ones(2, 3), torch.eye(3), ValueError, "`U` must have at most 2 rows"),
        (torch.ones(2, 3), 2 * torch.eye(3)[:1], ValueError, "`U` must have orthonormal rows"),
    ],
)  # fmt: skip
def test_bad_input(W: torch.Tensor, U: torch.Tensor | None, kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        spectrum(W, U)
