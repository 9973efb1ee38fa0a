"""On a GPU: random maps, compiled, against explicit matrices of the CPU engine. Run by `make gpu`.

What only a GPU shows: products of 16-bit parts on tensor cores, whose sums are cut off rather than rounded.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from sdp_kernels import projection
from sdp_kernels.projection import SparseRows
from tests.reference import projection as oracle

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    pytest.mark.skipif(
        os.environ.get("TRITON_INTERPRET") == "1", reason="triton interprets here; run make gpu"
    ),
]

SEED = 2**40 + 3
DENSE: dict[str, tuple[Callable[..., Tensor], Callable[[int, int, int], oracle.Matrix]]] = {
    "gaussian": (projection.gaussian, oracle.normals),
    "rademacher": (projection.rademacher, oracle.signs),
}
# Of the largest that |y| could be. float32: parts to 2^-23, sums of 64 to 256 features cut off at 2^-23 a step of 16,
# normals to 2e-6 between engines, all of it averaging over features. One-part rows are cut off at every step of 16.
TOLERANCES = {
    torch.float32: 5e-7,
    torch.float64: 5e-7,
    torch.float16: 2e-6,
    torch.bfloat16: 2e-6,
    torch.uint8: 2e-6,
}
SHAPES = [
    pytest.param(1, 1, 3, id="one number"),
    pytest.param(5, 7, 4, id="less than a tile"),
    pytest.param(260, 1030, 150, id="past tiles"),
    pytest.param(130, 5000, 1300, id="three slabs, two panels"),
]


def rows(n: int, D: int, dtype: torch.dtype) -> Tensor:
    """Random rows on the CPU."""
    generator = torch.Generator().manual_seed(n * D)
    if dtype == torch.uint8:
        return torch.randint(0, 256, (n, D), generator=generator, dtype=dtype)
    return torch.randn((n, D), generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize(("n", "D", "k"), SHAPES)
def test_dense_products(name: str, dtype: torch.dtype, n: int, D: int, k: int) -> None:
    project, matrix = DENSE[name]
    A, X = matrix(D, k, SEED), rows(n, D, dtype)
    found = project(X.cuda(), k, seed=SEED).double().cpu().numpy()
    exact, size = X.double().numpy() @ A, np.abs(X.double().numpy()) @ np.abs(A) + 1e-300
    assert (np.abs(found - exact) / size).max() < TOLERANCES[dtype]


def test_bytes_and_signs_are_exact() -> None:
    X = rows(300, 3000, torch.uint8)
    exact = torch.from_numpy(X.double().numpy() @ oracle.signs(3000, 256, SEED))
    assert torch.equal(projection.rademacher(X.cuda(), 256, seed=SEED).double().cpu(), exact)


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_bits_depend_on_the_row_alone(name: str, dtype: torch.dtype) -> None:
    """Not on chunks, the other rows, strides, or the run."""
    project, _ = DENSE[name]
    X = rows(700, 2500, dtype).cuda()
    whole = project(X, 200, seed=SEED)
    assert torch.equal(project(X, 200, seed=SEED), whole)
    for chunks in ([1, 699], [300, 7, 393]):
        assert torch.equal(torch.cat([project(part, 200, seed=SEED) for part in X.split(chunks)]), whole)
    order = torch.randperm(700, generator=torch.Generator().manual_seed(1)).cuda()
    assert torch.equal(project(X[order], 200, seed=SEED), whole[order])
    assert torch.equal(project(X.T.contiguous().T, 200, seed=SEED), whole)


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_sparse_rows_of_dense_maps(name: str, dtype: torch.dtype) -> None:
    project, matrix = DENSE[name]
    X = rows(90, 3000, torch.float64) * (rows(90, 3000, torch.uint8) < 20)
    X[[0, -1]] = 0
    X[40] = rows(1, 3000, torch.float64)[0]
    X = X.to(dtype)
    indptr = torch.cat([torch.zeros(1, dtype=torch.int64), (X != 0).sum(1).cumsum(0)])
    indices = X.nonzero()[:, 1].to(torch.int32)
    some = SparseRows(indptr.cuda(), indices.cuda(), X[X != 0].cuda(), 3000)
    found = project(some, 600, seed=SEED)
    assert torch.equal(project(some, 600, seed=SEED), found)
    A = matrix(3000, 600, SEED)
    exact, size = X.double().numpy() @ A, np.abs(X.double().numpy()) @ np.abs(A) + 1e-300
    assert (np.abs(found.double().cpu().numpy() - exact) / size).max() < 1e-6
    last = SparseRows(some.indptr[40:] - some.indptr[40], *(part[indptr[40] :] for part in some[1:3]), 3000)
    assert torch.equal(project(last, 600, seed=SEED), found[40:])
