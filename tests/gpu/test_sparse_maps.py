"""On a GPU: sparse maps and Hadamard transforms, compiled, against the CPU engine: the same bits. Run by `make gpu`."""

from __future__ import annotations

import os

import pytest
import torch

from sdp_kernels import hadamard, projection
from sdp_kernels.projection import SparseRows

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    pytest.mark.skipif(
        os.environ.get("TRITON_INTERPRET") == "1", reason="triton interprets here; run make gpu"
    ),
]

SEED = 2**40 + 3
MAPS = {
    "s = 1": lambda X, k, **named: projection.blocked(X, k, 1, seed=SEED, **named),
    "s = 8": lambda X, k, **named: projection.blocked(X, k, 8, seed=SEED, **named),
    "independent": lambda X, k, **named: projection.independent(X, k, 0.02, seed=SEED, **named),
}
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.uint8]


def dense(n: int, D: int, dtype: torch.dtype) -> torch.Tensor:
    made = torch.Generator().manual_seed(n * D)
    if dtype == torch.uint8:
        return torch.randint(0, 256, (n, D), generator=made, dtype=dtype)
    return torch.randn(n, D, generator=made).to(dtype)


def compressed(n: int, D: int, most: int) -> SparseRows:
    """Rows of 0 to `most` entries; row 1 has 50 times as many, some features are repeated."""
    made = torch.Generator().manual_seed(1)
    lengths = torch.randint(0, most + 1, (n,), generator=made)
    lengths[1] = 50 * most
    indptr = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    stored = int(indptr[-1])
    indices = torch.randint(0, D, (stored,), generator=made).to(torch.int32)
    return SparseRows(indptr, indices, torch.randn(stored, generator=made), D)


def moved(X: SparseRows) -> SparseRows:
    return SparseRows(X.indptr.cuda(), X.indices.cuda(), X.values.cuda(), X.n_features)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize(("n", "D", "k"), [(1, 1, 9), (50, 1030, 70), (3000, 10_000, 1024), (40, 5000, 2500)])
def test_dense_rows(name: str, n: int, D: int, k: int, dtype: torch.dtype) -> None:
    X = dense(n, D, dtype)
    found = MAPS[name](X.cuda(), k)
    assert torch.equal(found.cpu(), MAPS[name](X, k))
    assert torch.equal(MAPS[name](X.cuda()[: n // 2], k), found[: n // 2])
    strided = torch.stack([X, X], 2).cuda()[:, :, 0]
    assert torch.equal(MAPS[name](strided, k), found)


@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
@pytest.mark.parametrize("name", MAPS)
def test_sparse_rows(name: str, dtype: torch.dtype) -> None:
    X = compressed(700, 20_000, 40)
    X = X._replace(values=X.values.to(dtype))
    first, second = (MAPS[name](moved(X), 1000) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(first.cpu(), MAPS[name](X, 1000))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("D", [1, 5, 100, 4096, 5000, 16_384, 20_001, 40_000, 2**20, 2**21 + 1])
def test_transforms(D: int, dtype: torch.dtype) -> None:
    X = dense(3 if D > 50_000 else 70, D, dtype)
    assert torch.equal(hadamard.fwht(X.cuda()).cpu(), hadamard.fwht(X))
    k = min(1000, hadamard.padded(D))
    assert torch.equal(hadamard.srht(X.cuda(), k, seed=SEED).cpu(), hadamard.srht(X, k, seed=SEED))


def test_in_place() -> None:
    X = dense(33, 8192, torch.float32).cuda()
    expected = hadamard.fwht(X)
    assert torch.equal(hadamard.fwht(X, out=X), expected)


@pytest.mark.parametrize("most", [3, 200], ids=["by columns of H", "laid out, mostly"])
def test_transforms_of_sparse_rows(most: int) -> None:
    """The engines choose between the two ways at different lengths, so that bits may differ."""
    X = compressed(300, 3000, most)
    found = hadamard.srht(moved(X), 500, seed=SEED)
    assert torch.equal(found, hadamard.srht(moved(X), 500, seed=SEED))
    torch.testing.assert_close(found.cpu(), hadamard.srht(X, 500, seed=SEED), rtol=0, atol=1e-4)
