"""Random maps: equal to explicit matrices on every path, bits that depend on the row alone, statistics, refusals."""

from __future__ import annotations

import math
from collections.abc import Callable

import numba
import numpy as np
import pytest
import scipy.sparse
import torch
from scipy import stats
from torch import Tensor

from sdp_kernels import projection
from sdp_kernels.cpu import projection as twin
from sdp_kernels.projection import SparseArrays, SparseRows
from tests.reference import projection as oracle

SEED = 2**40 + 3
S, DENSITY = 3, 0.2
Project = Callable[..., Tensor]

# name -> (operation, its explicit matrix)
MAPS: dict[str, tuple[Project, Callable[[int, int], oracle.Matrix]]] = {
    "gaussian": (projection.gaussian, lambda D, k: oracle.normals(D, k, SEED)),
    "rademacher": (projection.rademacher, lambda D, k: oracle.signs(D, k, SEED)),
    "blocked": (
        lambda X, k, **named: projection.blocked(X, k, S, **named),
        lambda D, k: oracle.blocked(D, k, S, SEED),
    ),
    "independent": (
        lambda X, k, **named: projection.independent(X, k, DENSITY, **named),
        lambda D, k: oracle.independent(D, k, DENSITY, SEED),
    ),
}
# Of |y| as if every term had its largest size: a sum of D = 1030 terms errs by about sqrt(D) roundings of 6e-8, 1e-16.
TOLERANCES = {torch.float64: 1e-13, torch.float32: 1e-5}
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.uint8]
SHAPES = [
    pytest.param(1, 1, 3, id="one number"),
    pytest.param(5, 7, 4, id="less than a tile of rows, a block of features, a panel of components"),
    pytest.param(16, 256, 64, id="whole tiles"),
    pytest.param(53, 1030, 70, id="past every tile: 48 rows, 1024 features, 64 components"),
]


def rows(n: int, D: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(n * D)
    if dtype == torch.uint8:
        return torch.randint(0, 256, (n, D), generator=generator, dtype=dtype)
    return torch.randn((n, D), generator=generator, dtype=torch.float64).to(dtype)


def sparse(X: Tensor) -> SparseRows:
    csr = scipy.sparse.csr_array(X.numpy())
    indptr, indices, data = (torch.from_numpy(part) for part in (csr.indptr, csr.indices, csr.data))
    return SparseRows(indptr, indices, data, X.shape[1])


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize(("n", "D", "k"), SHAPES)
def test_products_are_those_of_the_explicit_matrix(name: str, n: int, D: int, k: int) -> None:
    project, matrix = MAPS[name]
    A = matrix(D, k)
    for dtype in DTYPES:
        X = rows(n, D, dtype)
        expected = X.double().numpy() @ A
        size = np.abs(X.double().numpy()) @ np.abs(A) + 1e-300
        precision = torch.float64 if dtype == torch.float64 else torch.float32
        kinds = [X, sparse(X)] if dtype in (torch.float32, torch.float64) else [X]
        for read in kinds:
            found = project(read, k, seed=SEED)
            assert found.dtype == precision
            assert found.shape == (n, k)
            assert (np.abs(found.numpy() - expected) / size).max() < TOLERANCES[precision]


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
def test_bits_depend_on_the_row_alone(name: str, dtype: torch.dtype) -> None:
    """Not on chunks, on the other rows, on strides, on threads."""
    project, _ = MAPS[name]
    X = rows(53, 300, dtype)
    whole = project(X, 70, seed=SEED)
    for chunks in ([1, 52], [7, 30, 16]):
        assert torch.equal(torch.cat([project(part, 70, seed=SEED) for part in X.split(chunks)]), whole)
    order = torch.arange(52, -1, -1)
    assert torch.equal(project(X[order], 70, seed=SEED), whole[order])
    assert torch.equal(project(X.T.contiguous().T, 70, seed=SEED), whole)
    assert torch.equal(project(torch.stack([X, X], 2)[:, :, 0], 70, seed=SEED), whole)
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        assert torch.equal(project(X, 70, seed=SEED), whole)
    finally:
        numba.set_num_threads(before)


@pytest.mark.parametrize(
    ("D", "k", "s"),
    [
        pytest.param(9001, 40, 3, id="steps of four, three panels"),
        pytest.param(700, 250, 1, id="steps of two, a ragged block of components"),
        pytest.param(4100, 5000, 2, id="steps of one, two panels, components without entries"),
    ],
)
def test_sums_take_features_in_order(D: int, k: int, s: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every output is one sum of single roundings, in order of features, whatever the steps; kept steps or new ones."""
    density = s / k
    tables = {
        "blocked": (np.arange(D + 1) * s, twin.blocked_table(np.arange(D), s, k, SEED, 203).T.ravel()),
        "independent": twin.listed_table(np.arange(D), round(density * 2**31), k, SEED, 204),
    }
    for dtype in (np.float32, np.float64):
        X = rows(19, D, torch.float64).numpy().astype(dtype)
        X[3, ::5] = -0.0
        for name, (pointers, table) in tables.items():
            scale = 1 / math.sqrt(s if name == "blocked" else round(density * 2**31) * 2.0**-31 * k)
            expected = np.zeros((19, k), dtype)
            for f in range(D):
                words = table[pointers[f] : pointers[f + 1]]
                signs = np.where(words & 1, -1, 1).astype(dtype)
                expected[:, words >> 1] += X[:, f : f + 1] * signs
            expected *= dtype(scale)
            for kept in (0, 1 << 20, 1 << 20):
                monkeypatch.setattr(twin, "KEPT_ENTRIES", kept)
                if name == "blocked":
                    found = projection.blocked(X, k, s, seed=SEED)
                else:
                    found = projection.independent(X, k, density, seed=SEED)
                assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", MAPS)
def test_bits_of_sparse_rows_depend_on_the_row_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor on whether the map's table or panel is made whole or for the features of a few rows."""
    project, _ = MAPS[name]
    X = rows(90, 300, torch.float32) * (rows(90, 300, torch.uint8) < 60)
    X[17] = 0
    whole = project(sparse(X), 70, seed=SEED)
    assert torch.equal(torch.cat([project(sparse(part), 70, seed=SEED) for part in X.split(31)]), whole)
    monkeypatch.setattr(twin, "FEATURES_AT_ONCE", 64)
    monkeypatch.setattr(twin, "TABLE_ENTRIES", 64)
    monkeypatch.setattr(twin, "ENTRIES_AT_ONCE", 100)  # a row and a half
    assert torch.equal(project(sparse(X), 70, seed=SEED), whole)


def test_repeated_features_add_up() -> None:
    indices = torch.tensor([4, 2, 4], dtype=torch.int32)
    twice = SparseRows(torch.tensor([0, 3]), indices, torch.tensor([1.0, 5.0, 2.0]), 6)
    once = SparseRows(torch.tensor([0, 2]), indices[1:], torch.tensor([5.0, 3.0]), 6)
    for project, _ in MAPS.values():
        torch.testing.assert_close(project(twice, 8, seed=0), project(once, 8, seed=0))


@pytest.mark.parametrize(("k", "s"), [(10, 3), (8, 8), (5, 1), (1024, 8)], ids=str)
def test_each_block_of_components_gets_one_entry(k: int, s: int) -> None:
    A = projection.blocked(torch.eye(50, dtype=torch.float64), k, s, seed=1).numpy()
    assert np.allclose(np.abs(A[A != 0]), 1 / math.sqrt(s))
    for b in range(s):
        assert (np.count_nonzero(A[:, b * k // s : (b + 1) * k // s], axis=1) == 1).all()


def test_places_and_signs_of_a_sparse_map_are_even() -> None:
    """Chi-square of 40,000 features over 8 places and 2 signs; fixed seed, chance of failure 1e-3."""
    unit = SparseRows(torch.arange(40_001), torch.arange(40_000), torch.ones(40_000), 40_000)
    A = projection.blocked(unit, 8, 1, seed=2)
    counts = [int((A[:, j] == sign).sum()) for j in range(8) for sign in (1.0, -1.0)]
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("name", MAPS)
def test_squared_lengths_are_right_on_average(name: str) -> None:
    """E |A x|^2 = |x|^2, for a flat and for a peaked x: mean of 2000 maps, within 4 standard errors."""
    project, _ = MAPS[name]
    X = torch.ones((2, 20), dtype=torch.float64)
    X[1, 3] = 12.0
    squares = torch.stack([project(X, 6, seed=seed).square().sum(1) for seed in range(2000)])
    error = squares.mean(0) - X.square().sum(1)
    assert (error.abs() <= 4 * squares.std(0) / math.sqrt(2000) + 1e-12).all()


def test_maps_of_different_seeds_and_kinds_differ() -> None:
    eye = torch.eye(30)
    images = [project(eye, 16, seed=seed) for project, _ in MAPS.values() for seed in (0, 1)]
    signs = {tuple(image.sign().flatten().tolist()) for image in images}
    assert len(signs) == len(images)


def test_components_do_not_depend_on_how_many_there_are() -> None:
    eye = torch.eye(5)
    for project in (projection.gaussian, projection.rademacher):
        few, many = project(eye, 9, seed=3) * 3, project(eye, 100, seed=3) * 10
        torch.testing.assert_close(few, many[:, :9])


@pytest.mark.parametrize("name", MAPS)
def test_out_is_written_and_its_surroundings_are_not(name: str) -> None:
    project, _ = MAPS[name]
    X = rows(20, 40, torch.float32)
    frame = torch.full((22, 40), 7.0)
    out = frame[1:21, 3:36]
    assert project(X, 33, seed=SEED, out=out) is out
    assert torch.equal(out, project(X, 33, seed=SEED))
    frame[1:21, 3:36] = 7.0
    assert (frame == 7.0).all()


@pytest.mark.parametrize("name", MAPS)
def test_no_rows_and_no_features_are_fine(name: str) -> None:
    project, _ = MAPS[name]
    assert project(torch.empty((0, 7)), 4, seed=0).shape == (0, 4)
    assert (project(torch.empty((3, 0)), 4, seed=0) == torch.zeros((3, 4))).all()
    none = SparseRows(torch.tensor([0, 0, 0]), torch.tensor([], dtype=torch.int32), torch.tensor([]), 7)
    assert (project(none, 4, seed=0) == torch.zeros((2, 4))).all()


@pytest.mark.parametrize("name", MAPS)
def test_arrays_get_the_bits_of_tensors(name: str) -> None:
    """Of every dtype, whatever their strides, writeable or not, dense or sparse, with and without `out`."""
    project: Callable[..., object] = MAPS[name][0]
    for dtype in (torch.float32, torch.float64, torch.float16, torch.uint8):
        X = rows(21, 300, dtype)
        expected = MAPS[name][0](X, 70, seed=SEED).numpy()
        array = X.numpy()
        read_only = array.copy()
        read_only.setflags(write=False)
        odd = np.frombuffer(b"?" + array.tobytes(), np.uint8)[1:].view(array.dtype).reshape(array.shape)
        out = np.empty((21, 80), expected.dtype)[:, :70]
        for read in (
            array,
            np.asfortranarray(array),
            array[::-1][::-1],
            array[:, ::-1][:, ::-1],
            read_only,
            odd,
        ):
            found = project(read, 70, seed=SEED)
            assert isinstance(found, np.ndarray)
            assert found.dtype == expected.dtype
            assert np.array_equal(found, expected)
        assert np.array_equal(project(array[::-1], 70, seed=SEED), expected[::-1])  # type: ignore[call-overload]
        assert project(array, 70, seed=SEED, out=out) is out
        assert np.array_equal(out, expected)
    few = rows(21, 300, torch.float32) * (rows(21, 300, torch.uint8) < 60)
    tensors = sparse(few)
    arrays = SparseArrays(*(part.numpy() for part in tensors[:3]), 300)
    found = project(arrays, 70, seed=SEED)
    assert isinstance(found, np.ndarray)
    assert np.array_equal(found, MAPS[name][0](tensors, 70, seed=SEED).numpy())


def test_arrays_of_no_rows_and_no_features() -> None:
    for project, _ in MAPS.values():
        assert project(np.ones((0, 7), np.float32), 3, seed=0).shape == (0, 3)
        assert not project(np.ones((2, 0)), 3, seed=0).any()


CSR = SparseRows(torch.tensor([0, 1, 2]), torch.tensor([0, 2]), torch.tensor([1.0, 2.0]), 3)
ONES = torch.ones((2, 2))
HOST = np.ones((2, 2), np.float32)
Keys = dict[str, object]
REFUSALS: list[tuple[object, Keys, type[Exception], str]] = [
    (
        [[1.0]],
        {},
        TypeError,
        "`X` must be a torch tensor, a numpy array, SparseRows or SparseArrays; got list",
    ),
    (torch.ones(3), {}, ValueError, "`X` must be a dense matrix"),
    (torch.ones((2, 2), dtype=torch.int64), {}, TypeError, "`X` must be one of"),
    (ONES, {"n_components": 0}, ValueError, r"`n_components` must lie in \[1, 2\^31\); got 0"),
    (ONES, {"seed": 0.5}, TypeError, "`seed` must be an integer; got 0.5"),
    (ONES, {"seed": True}, TypeError, "`seed` must be an integer; got True"),
    (ONES, {"n_components": 2.0}, TypeError, "`n_components` must be an integer; got 2.0"),
    (CSR._replace(n_features=37.0), {}, TypeError, "`X.n_features` must be an integer; got 37.0"),
    (CSR._replace(n_features="37"), {}, TypeError, "`X.n_features` must be an integer; got '37'"),
    (CSR._replace(n_features=True), {}, TypeError, "`X.n_features` must be an integer; got True"),
    (CSR._replace(n_features=-1), {}, ValueError, "`X.n_features` must not be negative; got -1"),
    (ONES, {"out": ONES}, ValueError, "`out` must share no memory with `X`"),
    (HOST, {"out": HOST}, ValueError, "`out` must share no memory with `X`"),
    (np.ma.masked_equal(HOST, 1), {}, TypeError, "`X` must not be a masked array"),
    (HOST, {"out": np.ma.masked_equal(HOST, 1)}, TypeError, "`out` must not be a masked array"),
    (
        SparseArrays(np.array([0, 1]), np.array([2]), np.ma.masked_equal(np.ones(1), 1), 3),
        {},
        TypeError,
        "`X.values` must not be a masked array",
    ),
    (ONES, {"seed": -1}, ValueError, r"`seed` must lie in \[0, 2\^63\); got -1"),
    (CSR._replace(indices=torch.tensor([0, 3])), {}, ValueError, r"must lie in \[0, 3\); got 3"),
    (CSR._replace(indices=torch.tensor([-1, 2])), {}, ValueError, r"must lie in \[0, 3\); got -1"),
    (CSR._replace(indptr=torch.tensor([0, 3, 2])), {}, ValueError, "`X.indptr` must rise"),
    (CSR._replace(indptr=torch.tensor([0, 1, 9])), {}, ValueError, "must rise from 0 to the 2 stored"),
    (CSR._replace(values=torch.ones(3)), {}, ValueError, "equal length; got 2 and 3"),
    (CSR._replace(values=torch.ones(2).half()), {}, TypeError, "`X.values` must be torch.float32"),
    (ONES, {"out": torch.ones((2, 2), dtype=torch.float64)}, TypeError, "`out` must be torch.float32"),
    (ONES, {"out": torch.ones((3, 2))}, ValueError, "`out` must have shape"),
    (ONES, {"out": torch.ones((2, 2)).T}, ValueError, "`out` must be row-major"),
    (ONES, {"out": torch.ones((2, 2), requires_grad=True)}, ValueError, "must not require a gradient"),
    (ONES, {"out": np.ones((2, 2), np.float32)}, TypeError, "`out` must be a torch tensor as the rows are"),
    (ONES.to_sparse(), {}, ValueError, "dense matrix .*torch.sparse_coo"),
    (HOST, {"out": torch.ones((2, 2))}, TypeError, "`out` must be a numpy array as the rows are; got Tensor"),
    (HOST, {"out": np.ones((2, 2))}, TypeError, "`out` must be float32 for rows of float32; got float64"),
    (HOST, {"out": np.ones((2, 2), np.float32).T}, ValueError, "`out` must be row-major"),
    (HOST, {"out": np.broadcast_to(np.float32(0), (2, 2))}, ValueError, "`out` must be writeable"),
    (HOST[0], {}, ValueError, r"dense matrix \(n, D\); got shape \(2,\)\."),
    (HOST.astype(">f4"), {}, TypeError, "`X` must be one of float32, .*; got >f4"),
    (HOST.astype(object), {}, TypeError, "got object"),
    (SparseArrays(*CSR), {}, TypeError, "`X.indptr` must be a numpy array; got Tensor"),
    (CSR._replace(values=np.ones(2)), {}, TypeError, "`X.values` must be a torch tensor; got ndarray"),
    (
        SparseArrays(np.array([0, 1]), np.array([3]), np.ones(1), 3),
        {},
        ValueError,
        r"must lie in \[0, 3\); got 3",
    ),
    (
        SparseArrays(np.array([0, 1]), np.array([0, 9, 0])[::2], np.ones(2), 3),
        {},
        ValueError,
        "`X.indices` must be a contiguous vector",
    ),
]


@pytest.mark.parametrize(("X", "keys", "error", "message"), REFUSALS, ids=[row[3] for row in REFUSALS])
def test_refusals(X: object, keys: Keys, error: type[Exception], message: str) -> None:
    arguments: Keys = {"n_components": 2, "seed": 0, **keys}
    with pytest.raises(error, match=message):
        projection.gaussian(X, **arguments)  # type: ignore[arg-type]


def test_integers_of_numpy_are_integers() -> None:
    found = projection.blocked(ONES, np.int32(2), np.uint8(1), seed=np.int64(3))  # type: ignore[call-overload]
    assert torch.equal(found, projection.blocked(ONES, 2, 1, seed=3))


def test_refusals_of_sparse_maps() -> None:
    with pytest.raises(TypeError, match=r"`n_nonzeros` must be an integer; got 1\.5"):
        projection.blocked(ONES, 2, 1.5, seed=0)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match=r"`n_nonzeros` must lie in \[1, n_components = 2\]; got 3"):
        projection.blocked(ONES, 2, 3, seed=0)
    with pytest.raises(ValueError, match=r"`density` must lie in \[2\^-31, 1\]; got 1e-10"):
        projection.independent(ONES, 2, 1e-10, seed=0)
