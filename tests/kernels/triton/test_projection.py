"""Dense random maps of the Triton twin, interpreted: explicit matrices, a row's bits, slabs, parts, guard zones.

The interpreter's products are numpy's: what tensor cores do to 16-bit operands is told by `test_parts_are_exact` and,
on a GPU, by tests/gpu.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sdp_kernels import projection
from sdp_kernels.projection import SparseRows
from sdp_kernels.triton import projection as twin
from sdp_kernels.triton import projection_configs as configs
from sdp_kernels.triton import projection_double as double
from sdp_kernels.triton import projection_rows as by_rows
from sdp_kernels.triton.catalog import TARGETS
from sdp_kernels.triton.projection_slab import fill_slab
from tests.kernels.test_projection import DTYPES, MAPS, SEED, rows, sparse
from tests.kernels.triton.guards import Guarded
from tests.reference import projection as oracle

DENSE = ("gaussian", "rademacher")
# Of the largest that |y| could be: normals differ between engines by 2e-6 of themselves, sums by roundings.
TOLERANCE = 5e-7
SHAPES = [
    pytest.param(1, 1, 3, id="one number"),
    pytest.param(5, 7, 4, id="less than a tile"),
    pytest.param(260, 1030, 150, id="past a tile of 256 rows, 1024 features, 128 components"),
]


@pytest.fixture(autouse=True)
def _interpret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDP_ENGINE", "interpret")


@pytest.fixture
def matrix(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The map as the CPU engine makes it, float64 (D, k)."""

    def made(name: str, D: int, k: int) -> oracle.Matrix:
        with monkeypatch.context() as other:
            other.setenv("SDP_ENGINE", "cpu")
            return MAPS[name][1](D, k)

    return made


def in_a_frame(X: Tensor) -> Tensor:
    """The same numbers amid such as must not be read: NaN, or 255."""
    frame = torch.full((X.shape[0] + 2, X.shape[1] + 5), 255 if X.dtype == torch.uint8 else torch.nan).to(
        X.dtype
    )
    frame[1:-1, 2:-3] = X
    return frame[1:-1, 2:-3]


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("n", "D", "k"), SHAPES)
def test_products_are_those_of_the_explicit_matrix(
    name: str, dtype: torch.dtype, n: int, D: int, k: int, matrix: Any
) -> None:
    A, X = matrix(name, D, k), rows(n, D, dtype)
    out = Guarded((n, k), torch.float64 if dtype == torch.float64 else torch.float32, (k + 3, 1))
    assert MAPS[name][0](in_a_frame(X), k, seed=SEED, out=out.tensor) is out.tensor
    exact, size = X.double().numpy() @ A, np.abs(X.double().numpy()) @ np.abs(A) + 1e-300
    assert (np.abs(out.check().numpy() - exact) / size).max() < TOLERANCE


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64], ids=str)
def test_signs_are_exact_where_numbers_allow_it(dtype: torch.dtype, matrix: Any) -> None:
    X = rows(40, 300, torch.uint8).to(dtype)
    found = projection.rademacher(X, 64, seed=SEED)
    assert torch.equal(found.double(), torch.from_numpy(X.double().numpy() @ matrix("rademacher", 300, 64)))


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_bits_depend_on_the_row_alone(name: str, dtype: torch.dtype) -> None:
    """Not on chunks, on the other rows, or on strides."""
    project, X = MAPS[name][0], rows(270, 40, dtype)
    whole = project(X, 20, seed=SEED)
    for chunks in ([1, 269], [200, 70]):
        assert torch.equal(torch.cat([project(part, 20, seed=SEED) for part in X.split(chunks)]), whole)
    order = torch.randperm(270, generator=torch.Generator().manual_seed(1))
    assert torch.equal(project(X[order], 20, seed=SEED), whole[order])
    assert torch.equal(project(X.T.contiguous().T, 20, seed=SEED), whole)
    assert torch.equal(project(torch.stack([X, X], 2)[:, :, 0], 20, seed=SEED), whole)


@pytest.mark.parametrize("name", DENSE)
def test_tiles_of_rows_and_components_change_no_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of whole numbers and signs are exact, so that numpy's own order does not show."""
    project, X = MAPS[name][0], rows(70, 40, torch.uint8)
    usual, whole = configs.tile, project(X, 300, seed=SEED)
    for shape in ({"rows": 16}, {"columns": 256}):
        monkeypatch.setattr(twin, "tile", lambda *about, shape=shape: usual(*about)._replace(**shape))
        found = project(X, 300, seed=SEED)
        torch.testing.assert_close(found, whole, rtol=1e-6, atol=1e-5)
        assert name == "gaussian" or torch.equal(found, whole)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8], ids=str)
def test_slabs_give_what_the_loop_makes(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on chips that read signs from slabs: two slabs, three panels, ragged tiles; sums of integers are exact."""
    X = rows(20, 70, torch.uint8).to(dtype)
    made = projection.rademacher(X, 300, seed=SEED)
    usual = configs.tile
    chunk = 64 if dtype == torch.float32 else 0
    monkeypatch.setattr(
        twin, "tile", lambda *about: usual(*about)._replace(source="planes", features=32, chunk=chunk)
    )
    monkeypatch.setattr(twin, "SLAB", 64)
    monkeypatch.setattr(twin, "PANEL", 128)
    assert torch.equal(projection.rademacher(X, 300, seed=SEED), made)


def test_pieces_of_rows_and_wide_strides(monkeypatch: pytest.MonkeyPatch) -> None:
    """More rows than a grid holds, and rows so far apart that offsets within a tile pass 2^31."""
    X = rows(600, 5, torch.float32)
    whole = projection.rademacher(X, 200, seed=SEED)
    monkeypatch.setattr(twin, "PROGRAMS", 2)  # of two columns of tiles: 256 rows at a time
    assert torch.equal(projection.rademacher(X, 200, seed=SEED), whole)
    far = torch.zeros(9_000_000, dtype=torch.uint8).as_strided((2, 5), (8_900_000, 1))
    far.copy_(rows(2, 5, torch.uint8))
    assert torch.equal(
        projection.rademacher(far, 200, seed=SEED), projection.rademacher(far.clone(), 200, seed=SEED)
    )


@pytest.mark.filterwarnings("ignore:invalid value encountered")  # numpy's, of infinity - infinity
@pytest.mark.parametrize("name", DENSE)
def test_what_is_not_finite_stays_in_its_row(name: str) -> None:
    X = rows(6, 9, torch.float32)
    X[1, 3], X[4, 8] = torch.inf, torch.nan
    found = MAPS[name][0](X, 10, seed=SEED).isfinite()
    assert not found[[1, 4]].any()
    assert found[[0, 2, 3, 5]].all()


def test_parts_are_exact() -> None:
    """Three parts of 8 bits are a normal; two of float16 are within 2^-22 of it, or 2^-25."""
    whole, three = torch.empty(1, 50, 256), torch.empty(3, 50, 256)
    two = torch.empty(2, 50, 256, dtype=torch.float16)
    for planes in (whole, three, two):
        fill_slab(planes, 3, 128, (SEED, projection.PURPOSE_NORMALS), True)
    assert torch.equal(three.double().sum(0), whole[0].double())
    assert torch.equal(three.bfloat16().float(), three)
    error = (two.double().sum(0) - whole[0]).abs()
    assert (error <= (whole[0].abs().double() * 2**-22).clamp_min(2.0**-25)).all()
    listed = torch.empty(1, 2, 256)
    fill_slab(listed, torch.tensor([4, 52]), 128, (SEED, projection.PURPOSE_NORMALS), True)
    assert torch.equal(listed[0], whole[0, [1, 49]])


def test_every_slab_is_whole_chunks() -> None:
    """A product over a slab reads it in whole steps."""
    for about in configs.TILES.values():
        assert set(about) == set(TARGETS)
        for shape in about.values():
            assert configs.SLAB % max(shape.chunk, shape.features) == 0
            assert configs.PANEL % shape.columns == 0
            assert shape.chunk % shape.features == 0


def some_rows(n: int, D: int, dtype: torch.dtype) -> SparseRows:
    """Rows of very different lengths, the first and the last empty."""
    X = rows(n, D, torch.float64) * (rows(n, D, torch.uint8) < 60)
    X[[0, -1]] = 0
    return sparse(X.to(dtype))


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize(
    ("dtype", "index"), [(torch.float32, torch.int32), (torch.float64, torch.int64)], ids=["32", "64"]
)
def test_sparse_rows(name: str, dtype: torch.dtype, index: torch.dtype, matrix: Any) -> None:
    X = some_rows(12, 300, dtype)._replace(indices=some_rows(12, 300, dtype).indices.to(index))
    dense = rows(12, 300, torch.float64) * (rows(12, 300, torch.uint8) < 60)
    dense[[0, -1]] = 0
    A, values = matrix(name, 300, 150), dense.to(dtype).double().numpy()
    out = Guarded((12, 150), dtype, (152, 1))
    MAPS[name][0](X, 150, seed=SEED, out=out.tensor)
    error = np.abs(out.check().numpy() - values @ A)
    assert (error <= TOLERANCE * (np.abs(values) @ np.abs(A))).all()


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_bits_of_sparse_rows_depend_on_the_row_alone(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, X = MAPS[name][0], some_rows(12, 300, dtype)
    whole = project(X, 150, seed=SEED)
    bounds = X.indptr.tolist()
    for first, last in ((0, 5), (5, 12)):
        part = slice(bounds[first], bounds[last])
        some = SparseRows(X.indptr[first : last + 1] - bounds[first], X.indices[part], X.values[part], 300)
        assert torch.equal(project(some, 150, seed=SEED), whole[first:last])
    monkeypatch.setattr(by_rows, "COLUMNS_INTERPRETED", 128)
    monkeypatch.setattr(double, "ENTRIES", 400)  # several rows a piece
    monkeypatch.setattr(double, "PANEL_OF_ROWS", 128)
    assert torch.equal(project(X, 150, seed=SEED), whole)


def test_panels_and_entries_give_one_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """Normals read from panels of components, several of them, and normals made for each entry."""
    X = some_rows(6, 300, torch.float32)
    whole = projection.gaussian(X, 200, seed=SEED)
    monkeypatch.setattr(by_rows, "PANEL_BYTES", 300 * 4 * 128)
    assert torch.equal(projection.gaussian(X, 200, seed=SEED), whole)
    monkeypatch.setattr(by_rows, "FEATURES", 299)
    assert torch.equal(projection.gaussian(X, 200, seed=SEED), whole)


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_long_row_with_repeated_features(
    name: str, dtype: torch.dtype, matrix: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10,000 entries of 30 features among short rows; in float64 also cut into pieces."""
    generator = torch.Generator().manual_seed(5)
    indices = torch.randint(0, 30, (10_003,), generator=generator)
    values = torch.randn(10_003, generator=generator, dtype=torch.float64).to(dtype)
    X = SparseRows(torch.tensor([0, 1, 10_001, 10_003]), indices, values, 30)
    dense = torch.zeros(3, 30, dtype=torch.float64)
    row = torch.repeat_interleave(torch.arange(3), X.indptr.diff())
    dense.index_put_((row, indices), values.double(), accumulate=True)
    exact = dense.numpy() @ matrix(name, 30, 9)
    for entries in (double.ENTRIES, 3000):
        monkeypatch.setattr(double, "ENTRIES", entries)
        found = MAPS[name][0](X, 9, seed=SEED)
        np.testing.assert_allclose(
            found.numpy(), exact, rtol=0, atol=2e-4 if dtype == torch.float32 else 1e-5
        )


def test_no_rows_and_no_entries() -> None:
    assert projection.gaussian(torch.empty((0, 7)), 4, seed=0).shape == (0, 4)
    none = torch.tensor([], dtype=torch.int32)
    for dtype in (torch.float32, torch.float64):
        X = SparseRows(torch.tensor([0, 0, 0]), none, torch.tensor([], dtype=dtype), 7)
        assert (projection.gaussian(X, 4, seed=0) == torch.zeros((2, 4))).all()
