"""Learned maps: derivatives against differences and the heat equation, the certificate against brute force."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import check_estimator

from sdp.jl import learned as learned_module
from sdp.jl.learned import LearnedJL
from sdp.jl.objective import Cost, Deviation, Moments, Objective, Squares, Violations
from sdp.jl.secants import (
    AllPairs,
    Secants,
    SomePairs,
    coincidence,
    exact_distortion,
    span,
    squared_distances,
)
from tests.reference import secants as reference

K, SEED = 3, 5
Matrix = NDArray[np.float64]


@pytest.fixture(scope="module")
def points() -> Matrix:
    """Twelve points of R^30, two of which coincide."""
    X = np.random.default_rng(SEED).standard_normal((12, 30))
    X[7] = X[2]
    return X


def pairs_of(points: Matrix, kind: str) -> Secants:
    if kind == "all":
        return AllPairs(points)
    first, second = np.triu_indices(len(points), 1)
    differ = squared_distances(points, points)[first, second] > coincidence(points)
    return SomePairs(points, first[differ], second[differ])


COSTS = [
    pytest.param(Moments(K), 2.0, id="moments"),
    pytest.param(Moments(K), 16.0, id="high moments"),
    pytest.param(Squares(K), None, id="squares"),
    pytest.param(Violations(K, 0.3, 0.01), None, id="violations"),
    pytest.param(Violations(K, 0.3, 0.01), 3.0, id="softmax of violations"),
]


def random_point(dim: int, s: float) -> Matrix:
    x = np.random.default_rng(1).standard_normal(dim) / 2
    x[-1] = s
    return x


@pytest.mark.parametrize("kind", ["all", "some"])
def test_stretches_match_secants_one_by_one(points: Matrix, kind: str) -> None:
    C, V = span(points)
    M = np.random.default_rng(2).standard_normal((K, C.shape[1]))
    pairs = pairs_of(C, kind)
    q = pairs.stretch(C @ M.T)
    expected = reference.stretches(points, M @ V)
    found = q[np.triu(pairs.weights) > 0] if kind == "all" else q
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert pairs.weights.sum() == 12 * 11 / 2 - 1


@pytest.mark.parametrize("kind", ["all", "some"])
@pytest.mark.parametrize(("cost", "power"), COSTS)
def test_derivatives_match_differences(points: Matrix, kind: str, cost: Cost, power: float | None) -> None:
    C, _ = span(points)
    f = Objective(pairs_of(C, kind), cost, K, power=power, lam=0.7)
    x, direction = random_point(f.dim, 0.4), np.random.default_rng(3).standard_normal(f.dim)
    h = 1e-5
    (up, slope_up), (down, slope_down) = (f.value_and_grad(x + step * direction) for step in (h, -h))
    # The table of violation probabilities is good to 1e-5 of its slopes here, the rest to h^2.
    table = isinstance(cost, Violations)
    gradient = f.value_and_grad(x)[1]
    assert (up - down) / (2 * h) == pytest.approx(gradient @ direction, rel=1e-4 if table else 1e-6)
    product = f.hvp(x, direction)
    difference = (slope_up - slope_down) / (2 * h)
    assert np.abs(product - difference).max() < (1e-2 if table else 1e-5) * np.abs(product).max()


def test_the_hessian_is_symmetric(points: Matrix) -> None:
    f = Objective(pairs_of(span(points)[0], "all"), Moments(K), K, power=4.0, lam=0.1)
    hessian = f.hvp(random_point(f.dim, 0.3), np.eye(f.dim))
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-12 * np.abs(hessian).max())


@pytest.mark.parametrize("cost", [Violations(K, 0.3, 0.01), Squares(K)], ids=["violations", "squares"])
def test_expectations_obey_the_heat_equation(points: Matrix, cost: Cost) -> None:
    """df/d(s^2) = Laplacian_M f / 2k: what makes a second-order stationary point deterministic."""
    f = Objective(pairs_of(span(points)[0], "all"), cost, K, power=None, lam=0.0)
    x = random_point(f.dim, 0.4)
    by_s2 = f.value_and_grad(x)[1][-1] / (2 * x[-1])
    laplacian = np.trace(f.hvp(x, np.eye(f.dim))[:-1, :-1])
    assert by_s2 == pytest.approx(laplacian / (2 * K), rel=1e-5)
    assert abs(by_s2) > 1e-3


@pytest.mark.parametrize(
    ("k", "eps", "s2"), [(3, 0.3, 0.2), (20, 0.1, 0.01), (20, 0.1, 1.0), (30, 0.05, 0.0)]
)
def test_violations_are_the_tails_of_a_noncentral_chi_square(k: int, eps: float, s2: float) -> None:
    floor = 0.003
    q = np.linspace(0.0, 1.6, 60)
    expected = [reference.violation_probability(value, s2 + floor, k, eps) for value in q]
    found = Violations(k, eps, floor).slopes(q, s2, second=False).value
    np.testing.assert_allclose(found, expected, atol=2e-8)
    assert found.max() > 0.9


def test_moments_are_those_of_random_maps() -> None:
    rng = np.random.default_rng(4)
    mean, s2, n = rng.standard_normal(K), 0.3, 200_000
    off = ((mean + rng.standard_normal((n, K)) * (s2 / K) ** 0.5) ** 2).sum(axis=1) - 1
    q = float(mean @ mean)
    expected = reference.second_moment(q, s2, K)
    sampled, error = np.mean(off**2), np.std(off**2) / n**0.5
    assert abs(sampled - expected) < 5 * error
    slopes = Moments(K, floor=0.0).slopes(np.array([q]), s2, second=False)
    assert slopes.value[0] == pytest.approx(0.5 * np.log(expected))


def test_a_deviation_has_no_curvature() -> None:
    with pytest.raises(ValueError, match="no second derivative"):
        Deviation().slopes(np.ones(2), 0.0, second=True)


def test_the_certificate_is_the_distortion_of_all_pairs(points: Matrix) -> None:
    fitted = LearnedJL(6, random_state=0, iterations=20).fit(points)
    off = np.abs(reference.stretches(points, fitted.components_) - 1)
    assert fitted.max_distortion_ == pytest.approx(off.max(), rel=1e-9)
    assert fitted.mean_distortion_ == pytest.approx(off.mean(), rel=1e-9)
    i, j = fitted.worst_pair_
    worst = reference.stretches(points[[i, j]], fitted.components_)
    assert abs(worst[0] - 1) == pytest.approx(off.max(), rel=1e-9)


def true_distortion(X: Matrix, A: Matrix) -> float:
    """Secants formed one by one and scaled to size 1, over all rows that differ."""
    first, second = np.triu_indices(len(X), 1)
    secants = X[first] - X[second]
    size = np.abs(secants).max(axis=1)
    secants = secants[size > 0] / size[size > 0, None]
    return float(np.abs(((secants @ A.T) ** 2).sum(axis=1) / (secants**2).sum(axis=1) - 1).max())


@pytest.mark.parametrize("case", ["nanoseconds", "outlier", "twins", "float32"])
def test_the_certificate_is_of_the_points_as_given(case: str) -> None:
    """What the span cannot resolve, and points that nearly coincide, are part of what is reported."""
    rng = np.random.default_rng(SEED)
    X = rng.standard_normal((30, 20))
    if case == "nanoseconds":
        X = np.column_stack([X, 1.7e18 + rng.integers(0, 5, 30) * 3.6e15])
    elif case == "outlier":
        X[0] *= 1e12
    else:
        X[1] = X[0] * (1 + 2**-50 * rng.integers(-3, 4, 20))
    fitted = LearnedJL(8, iterations=5, certify=False).fit(X.astype(np.float32) if case == "float32" else X)
    points = X.astype(np.float32).astype(np.float64) if case == "float32" else X
    expected = true_distortion(points, fitted.components_.astype(np.float64))
    assert fitted.max_distortion_ == pytest.approx(expected, rel=1e-8)
    assert case not in ("nanoseconds", "outlier") or expected > 0.9


@pytest.mark.parametrize("scale", [1e-170, 1e160, 1e300])
def test_the_size_of_the_points_means_nothing(scale: float) -> None:
    X = np.random.default_rng(SEED).uniform(-1.0, 1.0, (20, 15))
    fitted = LearnedJL(6, iterations=5, certify=False).fit(X * scale)
    assert fitted.max_distortion_ < 0.6
    assert fitted.max_distortion_ == pytest.approx(true_distortion(X, fitted.components_), rel=1e-6)


def test_auto_says_when_it_does_not_reach_eps() -> None:
    X = np.random.default_rng(SEED).standard_normal((12, 6))
    X[:, 0] = 1e15 * (np.arange(12) % 3)
    with pytest.warns(ConvergenceWarning, match=r"no map reached eps = 0\.1: with 1 components"):
        fitted = LearnedJL(iterations=5).fit(X)
    assert fitted.max_distortion_ > 0.1


def test_close_points_keep_their_digits() -> None:
    """A Gram matrix alone would leave nothing of a distance 1e-9 times the norms."""
    points = np.ones((3, 4)) + np.array([[0.0], [1e-9], [1.0]]) * np.eye(1, 4)
    squares = squared_distances(points, points)
    assert squares[0, 1] == pytest.approx((points[1, 0] - points[0, 0]) ** 2, rel=1e-12)
    found = exact_distortion(points, points[:, :1])
    assert found.largest < 1e-6
    assert found.n_pairs == 3


@pytest.mark.parametrize(("objective", "bar"), [("moments", 0.165), ("direct", 0.165), ("violations", 0.165)])
def test_the_papers_experiment(objective: str, bar: float) -> None:
    """100 Gaussian points of R^500 in 30 dimensions, all 4950 secants; the best of 200 Gaussian maps has .865."""
    X = np.random.default_rng(0).standard_normal((100, 500))
    fitted = LearnedJL(30, objective=objective, iterations=50, certify=False, random_state=0).fit(X)
    assert fitted.max_distortion_ <= bar
    assert fitted.variance_ < 1e-4
    assert fitted.n_secants_ == 4950


def test_the_random_map_becomes_deterministic_at_a_certified_point() -> None:
    X = np.random.default_rng(7).standard_normal((40, 60))
    fitted = LearnedJL(12, random_state=0, iterations=100).fit(X)
    certificate = fitted.certificate_
    assert certificate.is_sosp is True
    assert certificate.gradient_upper <= certificate.eps
    assert certificate.curvature_lower >= -certificate.curvature_tolerance
    assert fitted.variance_ < 1e-5
    assert LearnedJL(12, objective="direct", iterations=5).fit(X).certificate_ is None


def test_active_sets_reach_what_all_pairs_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    X = rng.standard_normal((150, 12)) @ rng.standard_normal((12, 60))
    settings = {"n_components": 8, "iterations": 30, "certify": False, "random_state": 0}
    at_once = LearnedJL(**settings).fit(X)
    monkeypatch.setattr(learned_module, "DENSE_LIMIT", 100)
    by_parts = LearnedJL(**settings).fit(X)
    assert by_parts.n_secants_ < at_once.n_secants_
    assert by_parts.max_distortion_ < 1.15 * at_once.max_distortion_
    off = np.abs(reference.stretches(X, by_parts.components_) - 1)
    assert by_parts.max_distortion_ == pytest.approx(off.max(), rel=1e-9)


def test_auto_finds_the_fewest_components() -> None:
    X = np.random.default_rng(8).standard_normal((16, 40))
    fitted = LearnedJL(eps=0.2, iterations=40, random_state=0).fit(X)
    assert fitted.max_distortion_ <= 0.2
    below = LearnedJL(fitted.n_components_ - 1, iterations=40, random_state=0).fit(X)
    assert below.max_distortion_ > 0.2


def test_as_many_components_as_the_span_is_an_isometry() -> None:
    X = np.random.default_rng(9).standard_normal((5, 9))
    fitted = LearnedJL(7).fit(X)
    assert fitted.max_distortion_ < 1e-12
    assert fitted.transform(X).shape == (5, 7)


def test_scikit_learn_accepts_it() -> None:
    check_estimator(LearnedJL(random_state=0, iterations=4), on_skip=None)


def test_same_seed_same_bits_and_pickles() -> None:
    X = np.random.default_rng(10).standard_normal((20, 30)).astype(np.float32)
    fitted = LearnedJL(5, random_state=3, iterations=10).fit(X)
    again = clone(fitted).fit(X)
    assert fitted.components_.tobytes() == again.components_.tobytes()
    copied = pickle.loads(pickle.dumps(fitted))
    assert copied.transform(X).tobytes() == fitted.transform(X).tobytes()
    assert fitted.transform(X).dtype == np.float32
    assert list(fitted.get_feature_names_out()) == [f"learnedjl{i}" for i in range(5)]
    back = fitted.inverse_transform(fitted.transform(X))
    np.testing.assert_allclose(fitted.transform(back.astype(np.float32)), fitted.transform(X), atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"n_components": 0}, "`n_components` must be at least 1; got 0."),
        ({"n_components": "most"}, "`n_components` must be \"auto\" or a positive integer; got 'most'."),
        ({"n_components": 2.5}, '`n_components` must be "auto" or a positive integer; got 2.5.'),
        ({"eps": 1.5}, "`eps` must lie in (0, 1); got 1.5."),
        ({"objective": "best"}, "`objective` must be one of moments, violations, direct; got 'best'."),
        ({"iterations": 0}, "`iterations` must be a positive integer; got 0."),
    ],
)
def test_bad_parameters_get_a_sentence(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        LearnedJL(**settings).fit(np.eye(4))  # type: ignore[arg-type]


def test_random_states() -> None:
    X = np.random.default_rng(10).standard_normal((8, 12))
    settings = {"n_components": 3, "iterations": 2, "certify": False}

    def fitted(random_state: object) -> bytes:
        return LearnedJL(random_state=random_state, **settings).fit(X).components_.tobytes()

    for make in (np.random.default_rng, np.random.RandomState):
        assert fitted(make(1)) == fitted(make(1)) != fitted(make(2))
    large = [fitted(seed) for seed in (2**32, 2**40, 2**63 - 1)]
    assert len(set(large)) == 3
    assert fitted(np.int64(2**40)) == large[1]
    for seed in (-1, 2**63):
        with pytest.raises(ValueError, match=rf"^`random_state` must lie in \[0, 2\^63\); got {seed}\.$"):
            fitted(seed)


def test_nan_is_refused() -> None:
    X = np.eye(4)
    X[1, 2] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        LearnedJL(2).fit(X)
