"""The Hadamard transform against Sylvester's matrix at every size of its blocks, and the subsampled map it makes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from sdp_kernels import hadamard
from sdp_kernels.projection import SparseArrays, SparseRows
from tests.kernels.test_projection import DTYPES, SEED, rows, sparse
from tests.reference import projection as oracle

# Of the sum of absolute values: log2 N <= 13 roundings of 6e-8, 1.1e-16.
TOLERANCES = {torch.float64: 2e-15, torch.float32: 1e-6}


@pytest.mark.parametrize("p", range(14))
def test_transforms_are_products_with_sylvesters_matrix(p: int) -> None:
    """2^0 to 2^6 in a loop, 2^7 in registers, above by radix 2, 4, 8, 16 and 8 x 8."""
    N = 2**p
    H = oracle.hadamard(N)
    for dtype in (torch.float32, torch.float64):
        X = rows(3, N, dtype)
        scale = X.abs().sum(1, keepdim=True).numpy()
        found = hadamard.fwht(X)
        assert found.dtype == dtype
        assert (np.abs(found.numpy() - X.double().numpy() @ H) / scale).max() < TOLERANCES[dtype]


@pytest.mark.parametrize("p", [14, 15, 17], ids=["16 x 8", "16 x 16", "16 x 8 x 8"])
def test_large_transforms(p: int) -> None:
    """A column of H, whose entries are known, and twice H is N: exact, for small integers."""
    N = 2**p
    X = torch.zeros((3, N))
    X[0, N - 3] = X[1, 77] = 1.0
    X[2] = torch.arange(N) % 5
    once = hadamard.fwht(X)
    for row, column in ((0, N - 3), (1, 77)):
        parity = np.array([(a & column).bit_count() % 2 for a in range(N)])
        assert np.array_equal(once[row].numpy(), 1.0 - 2 * parity)
    assert torch.equal(hadamard.fwht(once), X * N)


def test_rows_are_filled_up_and_may_be_overwritten() -> None:
    X = rows(9, 200, torch.float32)
    padded = torch.nn.functional.pad(X, (0, 56))
    expected = hadamard.fwht(padded)
    assert torch.equal(hadamard.fwht(X), expected)
    assert hadamard.fwht(padded, out=padded) is padded
    assert torch.equal(padded, expected)


@pytest.mark.parametrize("is_torch", [True, False], ids=["tensor", "array"])
def test_results_must_not_lie_on_rows_to_be_read(is_torch: bool) -> None:
    """One row further on it was silently wrong; X itself, and what lies beside it in one buffer, may be written to."""
    tensor = rows(60, 64, torch.float32)
    Z: Any = tensor if is_torch else tensor.numpy()
    expected = hadamard.fwht(tensor[:20, :32].clone()).numpy()
    for X, out in (
        (Z[:21], Z[1:22]),
        (Z[1:22], Z[:21]),
        (Z[:20, :32], Z[:20, 16:48]),
        (Z[:40:2, :32], Z[:20, :32]),
        (Z[:20, :50], Z[:20]),
    ):
        with pytest.raises(ValueError, match="`out` must be `X` itself or share no memory with `X`"):
            hadamard.fwht(X, out=out)
    beside = Z[:20, 32:]
    assert hadamard.fwht(Z[:20, :32], out=beside) is beside
    assert np.array_equal(np.asarray(beside), expected)
    again = Z[:20, :32]
    hadamard.fwht(Z[:20, :32], out=again)  # the same rows by another name
    assert np.array_equal(np.asarray(again), expected)


def test_samples_given_away_are_not_those_remembered() -> None:
    X = rows(3, 64, torch.float32)
    expected = hadamard.srht(X, 10, seed=3)
    hadamard.sampled_rows(64, 10, seed=3)[:] = 0
    assert torch.equal(hadamard.srht(X, 10, seed=3), expected)


def test_samples_are_remembered_up_to_so_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hadamard, "REMEMBERED", 1000)
    for seed in range(30):
        hadamard.sampled_rows(256, 50, seed=seed)  # 400 bytes each
    assert [key[2] for key in hadamard._samples] == [28, 29]
    hadamard.sampled_rows(1024, 1000, seed=0)  # the last stays whatever its size
    assert list(hadamard._samples) == [(1024, 1000, 0)]


def test_arrays_get_the_bits_of_tensors() -> None:
    for dtype in (torch.float32, torch.float64, torch.float16, torch.uint8):
        X = rows(9, 200, dtype)
        for read in (X.numpy(), np.asfortranarray(X.numpy())):
            assert np.array_equal(hadamard.fwht(read), hadamard.fwht(X).numpy())
            assert np.array_equal(hadamard.srht(read, 70, seed=SEED), hadamard.srht(X, 70, seed=SEED).numpy())
    tensors = sparse(rows(9, 200, torch.float32) * (rows(9, 200, torch.uint8) < 20))
    arrays = SparseArrays(*(part.numpy() for part in tensors[:3]), 200)
    assert np.array_equal(hadamard.srht(arrays, 70, seed=SEED), hadamard.srht(tensors, 70, seed=SEED).numpy())


@pytest.mark.parametrize(
    ("n", "D", "k"),
    [
        pytest.param(1, 1, 1, id="one number"),
        pytest.param(4, 5, 8, id="all rows of a short transform"),
        pytest.param(7, 128, 50, id="no filling"),
        pytest.param(19, 600, 300, id="filled up to 1024"),
    ],
)
def test_maps_are_those_of_the_explicit_matrix(n: int, D: int, k: int) -> None:
    A = oracle.srht(D, k, SEED)
    for dtype in DTYPES:
        X = rows(n, D, dtype)
        expected = X.double().numpy() @ A
        scale = np.abs(X.double().numpy()) @ np.abs(A) + 1e-300
        found = hadamard.srht(X, k, seed=SEED)
        precision = torch.float64 if dtype == torch.float64 else torch.float32
        assert found.dtype == precision
        assert (np.abs(found.numpy() - expected) / scale).max() < TOLERANCES[precision]
        if dtype == precision:
            error = hadamard.srht(sparse(X), k, seed=SEED).numpy() - expected
            assert (np.abs(error) / scale).max() < 10 * TOLERANCES[precision]  # by columns: a sum of D terms


@pytest.mark.parametrize("stored", [3, 250], ids=["by columns of H", "by a transform"])
def test_sparse_rows(stored: int) -> None:
    X = torch.zeros((11, 300))
    X[:, torch.randperm(300, generator=torch.Generator().manual_seed(1))[:stored]] = rows(
        11, stored, torch.float32
    )
    whole = hadamard.srht(sparse(X), 64, seed=SEED)
    torch.testing.assert_close(whole, hadamard.srht(X, 64, seed=SEED), rtol=0, atol=1e-4)
    parts = [hadamard.srht(sparse(part), 64, seed=SEED) for part in X.split(4)]
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_bits_depend_on_the_row_alone(dtype: torch.dtype) -> None:
    X = rows(23, 300, dtype)
    whole = hadamard.srht(X, 40, seed=SEED)
    assert torch.equal(torch.cat([hadamard.srht(part, 40, seed=SEED) for part in X.split(5)]), whole)
    assert torch.equal(hadamard.srht(X.flip(0), 40, seed=SEED).flip(0), whole)
    assert torch.equal(hadamard.srht(X.T.contiguous().T, 40, seed=SEED), whole)


def test_all_components_make_an_isometry() -> None:
    X = rows(5, 100, torch.float64)
    lengths = hadamard.srht(X, 128, seed=4).norm(dim=1)
    torch.testing.assert_close(lengths, X.norm(dim=1), rtol=1e-14, atol=0)


def test_squared_lengths_are_right_on_average() -> None:
    """Mean of 2000 maps, within 4 standard errors."""
    X = torch.ones((2, 20), dtype=torch.float64)
    X[1, 3] = 12.0
    squares = torch.stack([hadamard.srht(X, 6, seed=seed).square().sum(1) for seed in range(2000)])
    error = squares.mean(0) - X.square().sum(1)
    assert (error.abs() <= 4 * squares.std(0) / math.sqrt(2000)).all()


def test_no_rows_are_fine() -> None:
    assert hadamard.srht(torch.empty((0, 7)), 4, seed=0).shape == (0, 4)
    assert hadamard.fwht(torch.empty((0, 7))).shape == (0, 8)


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"must lie in \[1, 8\], 5 features being filled up to 8; got 9"):
        hadamard.srht(torch.ones((1, 5)), 9, seed=0)
    for seed in (0.5, True):
        with pytest.raises(TypeError, match=f"`seed` must be an integer; got {seed}"):
            hadamard.srht(torch.ones((1, 5)), 2, seed=seed)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="`X` must not be a masked array"):
        hadamard.fwht(np.ma.masked_equal(np.ones((1, 4)), 1))
    with pytest.raises(ValueError, match="`seed` must lie in"):
        hadamard.srht(torch.ones((1, 5)), 2, seed=2**63)
    with pytest.raises(ValueError, match="`out` must have shape"):
        hadamard.fwht(torch.ones((1, 5)), out=torch.ones((1, 5)))
    none = SparseRows(torch.tensor([0]), torch.tensor([], dtype=torch.int32), torch.tensor([]), 2)
    with pytest.raises(TypeError, match="dense"):
        hadamard.fwht(none)  # type: ignore[arg-type]
