"""The estimators: scikit-learn's manners, dtypes and kinds kept, distortions, one sentence for bad input."""

from __future__ import annotations

import copy
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.stats import chi2
from sklearn.base import clone
from sklearn.exceptions import DataDimensionalityWarning, NotFittedError
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import estimator_checks_generator

import sdp
from sdp import SRHT, GaussianJL, LearnedJL, RademacherJL, SparseJL
from sdp.jl.dimension import failure_probability
from sdp.jl.maps import Map
from tests.reference import projection as oracle

DATA = Path(__file__).parents[1] / "data" / "embed"
KINDS = [GaussianJL, RademacherJL, SparseJL, SRHT]
ALL = [*KINDS, lambda **named: SparseJL(density=0.3, **named)]
NAMES = ["gaussian", "rademacher", "sparse", "srht", "independent"]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=NAMES[:4])
every_map = pytest.mark.parametrize("kind", ALL, ids=NAMES)


def normals(n: int, D: int, dtype: Any = np.float64) -> Any:
    return np.random.default_rng(n * D).standard_normal((n, D)).astype(dtype)


@pytest.mark.parametrize(
    "estimator",
    [GaussianJL(), RademacherJL(), SparseJL(), SRHT(), SparseJL(n_components=3, density=0.5)],
    ids=NAMES,
)
def test_scikit_learns_checks(estimator: Any) -> None:
    """All that `check_estimator` runs, but for the array API, whose check needs a switch of the process."""
    n_checks = 0
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # small data: "auto" warns that it asks for more components than features
        for checked, check in estimator_checks_generator(estimator):
            if check.func.__name__ != "check_array_api_input":
                check(checked)
                n_checks += 1
    assert n_checks > 40


def test_maps_are_those_of_the_counters() -> None:
    X = normals(4, 30)
    cases = [
        (GaussianJL(8, random_state=5), oracle.normals(30, 8, 5)),
        (RademacherJL(8, random_state=5), oracle.signs(30, 8, 5)),
        (SparseJL(8, random_state=5, n_nonzeros=3), oracle.blocked(30, 8, 3, 5)),
        (SparseJL(8, random_state=5, density=0.25), oracle.independent(30, 8, 0.25, 5)),
        (SRHT(8, random_state=5), oracle.srht(30, 8, 5)),
    ]
    for estimator, A in cases:
        assert np.allclose(estimator.fit((4, 30)).transform(X), X @ A, rtol=1e-12)
        assert np.allclose(estimator.entries(), A, rtol=1e-12)
        assert np.allclose(estimator.entries(7, 9), A[7:9], rtol=1e-12)


@every_map
def test_dtypes_and_kinds_are_kept(kind: Any) -> None:
    X = normals(6, 20)
    estimator = kind(n_components=5).fit(X)
    reference = estimator.transform(X)
    for dtype, atol in ((np.float64, 0), (np.float32, 1e-5), (np.float16, 2e-2)):
        found = estimator.transform(X.astype(dtype))
        assert (type(found), found.dtype) == (np.ndarray, np.dtype(dtype))
        assert np.allclose(found, reference, atol=atol, rtol=0)
        tensor = estimator.transform(torch.from_numpy(X.astype(dtype)))
        assert isinstance(tensor, torch.Tensor)
        assert np.array_equal(tensor.numpy(), found)
    brain = estimator.transform(torch.from_numpy(X).bfloat16())
    assert brain.dtype == torch.bfloat16
    counts = np.arange(120, dtype=np.uint8).reshape(6, 20)
    assert estimator.transform(counts).dtype == np.float32
    for integers in (counts.astype(np.int64), torch.from_numpy(counts.astype(np.int32))):
        found = estimator.transform(integers)
        assert str(found.dtype).endswith("float64")
        assert np.allclose(np.asarray(found), estimator.transform(counts), rtol=1e-5, atol=1e-3)


@every_map
def test_sparse_rows_of_scipy_and_torch(kind: Any) -> None:
    X = normals(8, 40) * (np.random.default_rng(1).random((8, 40)) < 0.2)
    estimator = kind(n_components=7).fit((8, 40))
    dense = estimator.transform(X)
    for form in ("csr", "csc", "coo", "lil"):
        assert np.allclose(estimator.transform(scipy.sparse.csr_array(X).asformat(form)), dense)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*[Ss]parse.*")  # torch: its CSR tensors are in beta
        csr = torch.from_numpy(X).to_sparse_csr()
    assert np.allclose(estimator.transform(csr).numpy(), dense)
    assert np.allclose(estimator.transform(torch.from_numpy(X).to_sparse()).numpy(), dense)


@every_map
def test_rows_are_embedded_one_by_one(kind: Any) -> None:
    X = normals(50, 300, np.float32)
    estimator = kind(n_components=20).fit(X)
    whole = estimator.transform(X)
    parts = [estimator.transform(X[start : start + 13]) for start in range(0, 50, 13)]
    assert np.array_equal(np.concatenate(parts), whole)
    assert np.array_equal(kind(n_components=20).fit_transform(X), whole)
    assert estimator.transform(X[:0]).shape == (0, 20)
    assert np.array_equal(estimator.transform(np.asfortranarray(X)), whole)
    assert np.array_equal(estimator.transform(X[::-1])[::-1], whole)
    frozen = X.copy()
    frozen.flags.writeable = False
    assert np.array_equal(estimator.transform(frozen[:, ::1]), whole)
    assert np.array_equal(estimator.transform(X.astype(">f4")), whole)
    odd = np.empty(X.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(X.shape)
    odd[:] = X
    assert np.array_equal(estimator.transform(odd), whole)


@every_kind
def test_fitting_needs_the_shape_only(kind: Any) -> None:
    X = normals(9, 256)
    for shape in ((9, 256), torch.Size((9, 256))):
        assert np.array_equal(kind(6).fit(shape).transform(X), kind(6).fit(X).transform(X))
    assert kind(6).fit((0, 256)).transform(X).shape == (9, 6)
    counted = kind(eps=0.9).partial_fit(X).partial_fit((1000, 256)).partial_fit(X[:0])
    assert counted.n_samples_seen_ == 1009
    needed = sdp.johnson_lindenstrauss_min_dim(1009, eps=0.9)
    assert counted.n_components_ == needed == 171
    with pytest.raises(ValueError, match="X has 5 features, but"):
        counted.partial_fit((3, 5))


@every_kind
def test_auto_says_when_its_bound_says_nothing(kind: Any) -> None:
    with pytest.warns(
        DataDimensionalityWarning, match="100 rows and eps = 0.1 ask for 3948 components, more than the 20"
    ):
        estimator = kind().fit((100, 20))
    assert estimator.n_components_ == 20


@every_kind
def test_way_back(kind: Any) -> None:
    """A^+ y has the least length among all x with A x = y."""
    X = normals(5, 60)
    estimator = kind(10).fit(X)
    Y = estimator.transform(X)
    back = estimator.inverse_transform(Y)
    A = estimator.entries().numpy()
    assert np.allclose(back, Y @ np.linalg.pinv(A))
    assert np.allclose(estimator.transform(back), Y)
    assert estimator.inverse_transform(Y.astype(np.float32)).dtype == np.float32
    assert isinstance(estimator.inverse_transform(torch.from_numpy(Y)), torch.Tensor)
    with pytest.raises(ValueError, match=r"`Y` must have shape \(n_rows, 10\); got \(5, 60\)"):
        estimator.inverse_transform(X)
    with pytest.raises(ValueError, match="`Y` must be finite"):
        estimator.inverse_transform(np.full((1, 10), np.nan))


@every_kind
def test_manners(kind: Any) -> None:
    """Pipelines, pandas, names, copies, pickles."""
    pandas = pytest.importorskip("pandas")
    X, y = normals(30, 40, np.float32), np.arange(30) % 3
    estimator = kind(4, random_state=7).fit(X)
    expected = estimator.transform(X)
    names = [f"{kind.__name__.lower()}{i}" for i in range(4)]
    assert estimator.get_feature_names_out().tolist() == names
    frame = clone(estimator).set_output(transform="pandas").fit_transform(pandas.DataFrame(X))
    assert list(frame.columns) == names
    assert np.array_equal(frame.to_numpy(), expected)
    for twin in (pickle.loads(pickle.dumps(estimator)), copy.deepcopy(estimator), clone(estimator).fit(X)):
        assert np.array_equal(twin.transform(X), expected)
    assert len(pickle.dumps(kind(100).fit((10, 10**6)))) < 2000  # nothing of the map is kept
    assert make_pipeline(kind(8), KNeighborsClassifier()).fit(X, y).predict(X).shape == (30,)


@every_map
def test_out(kind: Any) -> None:
    X = normals(6, 20, np.float32)
    estimator = kind(n_components=5).fit(X)
    expected = estimator.transform(X)
    for like in (np.float32, np.float16):
        out = np.empty((6, 5), like)
        assert estimator.transform(X.astype(like), out=out) is out
        assert np.allclose(out, expected, atol=2e-2 if like == np.float16 else 0)
    tensor = torch.empty((6, 5))
    assert estimator.transform(torch.from_numpy(X), out=tensor) is tensor
    assert np.array_equal(tensor.numpy(), expected)
    frozen = np.empty((6, 5), np.float32)
    frozen.flags.writeable = False
    for bad, error in (
        (np.empty((6, 5)), TypeError),
        (np.empty((6, 5), np.int8), TypeError),
        (np.empty((6, 5), np.complex64), TypeError),
        (np.empty((5, 6), np.float32), ValueError),
        (np.empty((5, 6), np.float32).T, ValueError),
        (np.empty((6, 5), np.float32)[:, ::-1], ValueError),
        (frozen, ValueError),
        (tensor, TypeError),
        ([0.0], TypeError),
    ):
        with pytest.raises(error, match=r"^`out` must [^\n]*\.$"):
            estimator.transform(X, out=bad)


@every_map
def test_random_states(kind: Any) -> None:
    X = normals(3, 30)

    def embedded(state: Any) -> Any:
        return kind(n_components=6, random_state=state).fit_transform(X)

    assert np.array_equal(embedded(np.int64(4)), embedded(4))
    assert np.array_equal(embedded(np.random.RandomState(1)), embedded(np.random.RandomState(1)))
    assert np.array_equal(embedded(np.random.default_rng(1)), embedded(np.random.default_rng(1)))
    assert not np.array_equal(embedded(4), embedded(5))
    assert not np.array_equal(embedded(None), embedded(None))


@pytest.mark.parametrize("kind", [GaussianJL, RademacherJL, SparseJL, SRHT], ids=NAMES[:4])
@pytest.mark.parametrize("name", ["debian-tfidf-400.npz", "patches-100.npy"])
def test_distortions_on_real_data(kind: Any, name: str) -> None:
    """At k = 256, all pairs, five maps: the mean is near that of a normal error, .80 sqrt(2 / k) = .0705 (of squares).

    A map's own mean varies by .03 on patches, which lie near few dimensions. The largest of 79,800 pairs is
    near 4.4 sqrt(2 / k) = .39; five maps, so .55 leaves room.
    """
    X = scipy.sparse.load_npz(DATA / name) if name.endswith("npz") else np.load(DATA / name)
    dense = X.toarray().astype(np.float64) if scipy.sparse.issparse(X) else X.astype(np.float64)

    def squares(Z: Any) -> Any:
        lengths = (Z * Z).sum(1)
        return (lengths[:, None] + lengths - 2 * Z @ Z.T)[np.triu_indices(len(Z), 1)]

    before = squares(dense)
    apart = before > 1e-6  # some packages share a description
    embedded = [kind(256, random_state=seed).fit_transform(X).astype(np.float64) for seed in range(5)]
    distortion = np.array([np.abs(squares(Y)[apart] / before[apart] - 1) for Y in embedded])
    assert 0.05 < distortion.mean() < 0.09
    assert distortion.max() < 0.55


def test_minimum_dimensions() -> None:
    """Never rounded down; the exact one is the first whose union bound holds."""
    least = sdp.johnson_lindenstrauss_min_dim
    assert least(10**6, eps=0.1) == 11842  # 11841.87, of which scikit-learn makes 11841
    assert least(1) == least(1, method="exact") == 1
    for n, eps, delta in ((1000, 0.3, 0.5), (50, 0.1, 0.01), (10**6, 0.5, 1e-6)):
        k = least(n, eps=eps, method="exact", delta=delta)
        tails = [chi2.sf(j * (1 + eps), j) + chi2.cdf(j * (1 - eps), j) for j in (k - 1, k)]
        assert [tail * n * (n - 1) / 2 <= delta for tail in tails] == [False, True]
        assert failure_probability(k, eps) == pytest.approx(tails[1], rel=1e-9)
    assert least(10**6, eps=0.1, method="exact", delta=0.99) < least(10**6, eps=0.1)
    for arguments, error in (
        ({"n_samples": 0}, ValueError),
        ({"n_samples": 2.5}, TypeError),
        ({"n_samples": 5, "eps": 1}, ValueError),
        ({"n_samples": 5, "eps": "a"}, TypeError),
        ({"n_samples": 5, "delta": 0}, ValueError),
        ({"n_samples": 5, "method": "best"}, ValueError),
    ):
        with pytest.raises(error, match=r"^`\w+` must [^\n]*; got [^\n]*\.$"):
            least(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("named", "error"),
    [
        ({"n_components": 0}, ValueError),
        ({"n_components": "all"}, ValueError),
        ({"n_components": 2.0}, TypeError),
        ({"n_components": True}, TypeError),
        ({"n_components": 17}, ValueError),
        ({"eps": 1.5}, ValueError),
        ({"eps": None}, TypeError),
        ({"random_state": -1}, ValueError),
        ({"random_state": 2**63}, ValueError),
        ({"random_state": "a"}, TypeError),
    ],
    ids=str,
)
def test_bad_parameters(named: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^`\w+` must [^\n]*; got [^\n]*\.$"):
        SRHT(**{"n_components": 4, **named}).fit((3, 10))


@pytest.mark.parametrize(
    ("named", "error"),
    [
        ({"n_nonzeros": 0}, ValueError),
        ({"n_nonzeros": 1.5}, TypeError),
        ({"density": 0.0}, ValueError),
        ({"density": 1.5}, ValueError),
        ({"density": float("nan")}, ValueError),
        ({"density": "some"}, ValueError),
        ({"density": [1]}, TypeError),
    ],
    ids=str,
)
def test_bad_parameters_of_sparse_maps(named: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^`\w+` must [^\n]*; got [^\n]*\.$"):
        SparseJL(4, **named).fit((3, 10))


def mutated(rng: np.random.Generator) -> Any:
    """A good matrix with one thing wrong."""
    X = rng.standard_normal((6, 10))
    csr = scipy.sparse.random_array((6, 10), density=0.5, rng=rng, format=rng.choice(["csr", "csc"]))
    csr.indices = csr.indices.astype(rng.choice([np.int32, np.int64]))
    entry = int(rng.integers(csr.nnz))
    wrong = int(rng.integers(14))
    if wrong < 3:
        X[rng.integers(6), rng.integers(10)] = (np.nan, np.inf, -np.inf)[wrong]
        return X.astype(rng.choice([np.float16, np.float32, np.float64]))
    if wrong == 3:
        csr.data[entry] = np.nan
    elif wrong == 4:
        csr.indices[entry] = rng.choice([-1, -(2**31), 10, 2**31 - 1])
    elif wrong == 5:
        csr.indptr[rng.integers(len(csr.indptr))] = rng.choice([-5, 10**6])
    elif wrong == 6:
        return torch.from_numpy(np.where(rng.random(X.shape) < 0.1, np.nan, X) * np.inf)
    elif wrong == 7:
        return [*X.astype(object).tolist()[:5], [1.0]]  # ragged
    elif wrong == 8:
        return X[:, : rng.integers(10)] if rng.random() < 0.5 else np.hstack([X, X])
    elif wrong == 9:
        return X[0] if rng.random() < 0.5 else X[None]
    elif wrong == 10:
        return X.astype(complex) if rng.random() < 0.5 else torch.from_numpy(X.astype(complex))
    elif wrong == 11:
        return X.astype(str) + rng.choice(["x", ""])  # numbers in strings are read, as by scikit-learn
    elif wrong == 12:
        return rng.choice([1e300, 3e38]) * np.ones((6, 10), np.float64 if rng.random() < 0.5 else np.float32)
    else:
        return rng.choice(np.array([None, "rows", 3.0, {}], dtype=object))
    return csr


@every_kind
def test_mutated_input_is_refused_in_a_sentence(kind: Any) -> None:
    """150 of each kind, 600 in all: no crash, no NaN that passes, no traceback of a library."""
    estimator = kind(4).fit((6, 10))
    refused = 0
    for trial in range(150):
        X = mutated(np.random.default_rng(trial))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # numpy, of 1e300 in float32
            try:
                found = estimator.transform(X)
            except (TypeError, ValueError):
                refused += 1
            else:
                assert np.isfinite(np.asarray(found)).all()
    assert refused > 100


SPARSE_DAMAGE = {
    "coo row": "`X.row` must lie in [0, 6); got 2000000000.",
    "coo negative column": "`X.col` must lie in [0, 10); got -2000000000.",
    "coo length": "`X` has parts that do not fit: 3 coo row, where 60 are needed.",
    "bsr index": "`X.indices` must lie in [0, 5); got 2147483647.",
    "bsr pointer": "`X.indptr` must rise from 0 to at most the 10 stored entries in 2 steps.",
    "dia offsets": "`X` has parts that do not fit: 2 dia offsets, where 15 are needed.",
    "lil row": "`X` has parts that do not fit: 1 columns of a lil row, where 2 are needed.",
    "torch": "indices of `X` must lie in [0, 6); got 2000000000.",
}


@pytest.mark.parametrize("damage", list(SPARSE_DAMAGE))
def test_damaged_sparse_rows_do_not_crash(damage: str) -> None:
    """In scipy's C code these read or wrote past the end of memory."""
    form = damage.split()[0]
    X: Any = torch.ones(6, 10).to_sparse() if form == "torch" else scipy.sparse.coo_array(np.ones((6, 10)))
    if form == "bsr":
        X = scipy.sparse.bsr_array(X.tocsr(), blocksize=(3, 2))
    elif form != "torch":
        X = X.asformat(form)
    if damage == "coo row":
        X.row[0] = 2_000_000_000
    elif damage == "coo negative column":
        X.col[0] = -2_000_000_000
    elif damage == "coo length":
        X.coords = (X.row[:3], X.col)
    elif damage == "bsr index":
        X.indices[0] = 2**31 - 1
    elif damage == "bsr pointer":
        X.indptr[1] = 100
    elif damage == "dia offsets":
        X.offsets = X.offsets[:2]
    elif damage == "lil row":
        X.rows[0], X.data[0] = [1], [1.0, 2.0]
    else:
        X._indices()[0, 0] = 2_000_000_000
    with pytest.raises(ValueError, match=f"^{re.escape(SPARSE_DAMAGE[damage])}$"):
        SparseJL(4).fit((6, 10)).transform(X)


def test_masked_arrays_are_refused() -> None:
    """Their mask would be ignored."""
    masked = np.ma.masked_equal(np.eye(6, 10), 1)
    estimator = SparseJL(4)
    for call in (estimator.fit, estimator.fit_transform, estimator.fit((6, 10)).transform):
        with pytest.raises(TypeError, match=r"^`X` must not be a masked array, .* first.$"):
            call(masked)
    with pytest.raises(TypeError, match=r"^`Y` must not be a masked array"):
        estimator.inverse_transform(masked[:, :4])
    with pytest.raises(TypeError, match=r"^`out` must not be a masked array"):
        estimator.transform(np.eye(6, 10), out=np.ma.masked_equal(np.ones((6, 4)), 1))
    with pytest.raises(TypeError, match=r"^`X` must not be a masked array"):
        LearnedJL(n_components=2).fit(masked)


@pytest.mark.parametrize("seed", [0.5, True])
def test_seeds_of_learned_maps_are_integers(seed: Any) -> None:
    with pytest.raises(TypeError, match=r"^`random_state` must be an integer"):
        LearnedJL(n_components=2, random_state=seed).fit(np.eye(6, 10))


@pytest.mark.parametrize("name", ["seed", "n_features", "n_components"])
@pytest.mark.parametrize("number", [4.0, True, "4"])
def test_maps_of_streams_have_integers(name: str, number: Any) -> None:
    numbers = {"seed": 0, "n_features": 10, "n_components": 4, name: number}
    with pytest.raises(TypeError, match=f"^`{name}` must be an integer; got {number!r}.$"):
        Map("sparse", **numbers)


def test_objections_are_one_sentence() -> None:
    estimator = SparseJL(4).fit((6, 10))
    X = np.ones((6, 10))
    bad = X.copy()
    bad[3, 2] = np.nan
    csr = scipy.sparse.csr_array(bad)
    outside = scipy.sparse.csr_array(X)
    outside.indices[-1] = 10
    half = np.full((1, 10), 6e4, np.float16)
    for rows, message in (
        (bad, "`X` must be finite; row 3 holds NaN."),
        (torch.from_numpy(bad), "`X` must be finite; row 3 holds NaN."),
        (csr, "`X` must be finite; row 3 holds NaN."),
        (X * np.inf, "`X` must be finite; row 0 holds infinity."),
        (outside, "`X.indices` must lie in [0, 10); got 10."),
        (half, "`X` must embed within the range of torch.float16; row 0 does not."),
        (X[:, :9], "X has 9 features, but SparseJL is expecting 10 features as input."),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            estimator.transform(rows)
    with pytest.raises(NotFittedError):
        SparseJL(4).transform(X)
