"""`LearnedJL`: a linear map learned for given points, with the exact largest distortion over all of their pairs.

Oblivious maps hold for any points, at the price of many dimensions. A map made for n given points needs far fewer: its
certificate is `max_distortion_`, computed over all n (n - 1)/2 pairs. It promises nothing for other points.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from sdp.jl.learning import OBJECTIVES, Learned, learn_all
from sdp.jl.rows import refuse_mask
from sdp.jl.secants import Distortion, Matrix, balanced_scale, distortion_of, exact_distortion, scale_of, span
from sdp_kernels.gaussian import SEEDS

DENSE_LIMIT = (
    2000  # points whose pairs are all held at once: 32 MB a matrix of them, about ten of which are alive
)
MAX_SEED = 2**31 - 1
NUMPY_SEED = 2**32 - 1  # the largest that a `RandomState` takes; larger integers are used as they are


class LearnedJL(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Learned Johnson-Lindenstrauss map: y = A x with | |A (x - x')|^2 / |x - x'|^2 - 1 | small on given points.

    Entries of A begin as N(M, s^2/k) about M near 0 with s = 1. Descent on a smooth cost of all pairwise secants moves
    M and takes s to 0 (`variance_`), so that the random map becomes one map; descent on the logsumexp of distortions
    then lowers the largest of them. All of it happens in the span of the points' differences, in float64.

    Args:
        n_components: k; or "auto", the fewest that reach `eps` on these points, found by bisection (one fit a step).
        eps: largest distortion of squared distances asked of "auto", in (0, 1); the fit of a given k does not use it.
        objective: "moments" (root mean square distortions of random maps, in rising powers), "violations" (the
            noncentral chi-square probability of a violated secant), or "direct" (M itself from a Gaussian start, no
            random maps), which is there for comparison.
        iterations: iterations of each stage of descent.
        certify: whether to certify the point that the descent on random maps reached (`certificate_`).
        random_state: an integer in [0, 2^63), a numpy `RandomState` or `Generator`, or None for another start every
            time.
        verbose: print each stage's largest distortion to standard error.

    Attributes:
        components_: A (k, n_features), of the dtype of the fitted points.
        n_components_: k.
        max_distortion_: the largest | |A (x - x')|^2 / |x - x'|^2 - 1 | over all pairs of fitted points that differ
            at all, for `components_` as stored, computed in float64 from the points as given, with an error of about
            1e-10 times the square of A's largest singular value. This is the certificate for these points.
        mean_distortion_: the mean over those pairs.
        worst_pair_: indices of the pair with the largest.
        variance_: s^2 where the descent on random maps ended, before s was set to 0; 0 for "direct".
        certificate_: an `sdp` certificate of that point: bounds on the gradient of the mean cost of a random map plus
            s^2 / 2 and on its lowest curvature, in all entries of M and s. At a second-order stationary point of it the
            map is deterministic, s = 0. None for "direct", without `certify`, and for isometries. Rounding and the
            descent that follows leave that point: what holds for `components_` is `max_distortion_`. Beyond 2,000
            points the cost is the mean over the pairs sampled at first, about 40 a point, and not over all. For
            "violations" derivatives come from a table whose third ones err by about 3e-7 of their size, which the
            certificate's own account of rounding does not count.
        n_secants_: pairs that were learned; fewer than all beyond 2,000 points, which go by active sets.
        n_features_in_: n_features.

    Where k reaches the dimension of the span, A is an isometry there. Directions in which the points spread less than
    1e-10 of what they do in the widest are no part of that span: bring columns of very different size to one scale
    first. Beside nanoseconds since 1970, columns of size 1 are dropped, and `max_distortion_` is 1.

    The component of other points outside the span is dropped: for points unlike the fitted ones the map shrinks, and
    `sdp.GaussianJL` or `sdp.SparseJL` is the choice.

    Complexity: O(n D min(n, D)) once, then O(n^2 k + n k r) an iteration, r <= min(n - 1, D); memory O(n^2) up to 2,000
    points and O(n r) beyond.

    Source: Tsikouras, Caramanis and Tzamos, "Optimization Can Learn Johnson-Lindenstrauss Embeddings" (arXiv
    2412.07242); active sets after Hegde, Sankaranarayanan, Yin and Baraniuk, "NuMax" (2015).

    >>> import numpy as np
    >>> X = np.random.default_rng(0).standard_normal((20, 50))
    >>> learned = LearnedJL(n_components=12, random_state=0).fit(X)
    >>> bool(learned.max_distortion_ < 0.2), learned.transform(X).shape
    (True, (20, 12))
    """

    def __init__(
        self,
        n_components: int | str = "auto",
        *,
        eps: float = 0.1,
        objective: str = "moments",
        iterations: int = 150,
        certify: bool = True,
        random_state: Any = 0,
        verbose: bool = False,
    ) -> None:
        self.n_components = n_components
        self.eps = eps
        self.objective = objective
        self.iterations = iterations
        self.certify = certify
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> LearnedJL:
        """Learns a map for the rows of X (n, n_features), n >= 2.

        Raises:
            ValueError, TypeError: a parameter out of range; X is not finite, not a matrix, or has fewer than two rows.
        """
        self._check_parameters()
        refuse_mask("X", X)
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
        seed = _seed_of(self.random_state)
        # One thread: BLAS may split its sums otherwise, and the same seed must give the same bits on any machine load.
        with threadpool_limits(1, user_api="blas"):
            self._fit(X, seed)
        return self

    def transform(self, X: Any) -> NDArray[Any]:
        """X A^T, (n, n_components_), of the dtype of X where that is float32 or float64.

        One product for all rows: the last bits may depend on how many there are and on BLAS's threads. `sdp embed`
        goes row by row, where they do not.
        """
        check_is_fitted(self)
        refuse_mask("X", X)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        embedded: NDArray[Any] = X @ self.components_.T.astype(X.dtype, copy=False)
        return embedded

    def inverse_transform(self, X: Any) -> NDArray[Any]:
        """The points of least norm with this image: the pseudo-inverse of A, which is exact for A itself."""
        check_is_fitted(self)
        refuse_mask("X", X)
        Y = np.asarray(X)
        if Y.ndim != 2 or Y.shape[1] != self.n_components_:
            raise ValueError(
                f"X must have {self.n_components_} columns, as transform gives; got shape {Y.shape}."
            )
        lifted: NDArray[Any] = Y @ np.linalg.pinv(self.components_).T
        return lifted

    @property
    def _n_features_out(self) -> int:
        return int(self.n_components_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _check_parameters(self) -> None:
        k: Any = self.n_components
        if isinstance(k, (str, bool)) or not isinstance(k, Integral):
            if k != "auto":
                raise ValueError(f'`n_components` must be "auto" or a positive integer; got {k!r}.')
        elif int(k) < 1:
            raise ValueError(f"`n_components` must be at least 1; got {k}.")
        eps: Any = self.eps
        if not isinstance(eps, Real) or not 0.0 < float(eps) < 1.0:
            raise ValueError(f"`eps` must lie in (0, 1); got {eps!r}.")
        if self.objective not in OBJECTIVES:
            raise ValueError(f"`objective` must be one of {', '.join(OBJECTIVES)}; got {self.objective!r}.")
        iterations: Any = self.iterations
        if not isinstance(iterations, Integral) or int(iterations) < 1:
            raise ValueError(f"`iterations` must be a positive integer; got {iterations!r}.")

    def _fit(self, X: NDArray[Any], seed: int) -> None:
        dtype, X = X.dtype, X.astype(np.float64)
        X = np.ldexp(X, -scale_of(X))  # squares of rows of 1e160 overflow, and of 1e-170 vanish
        points, basis = span(X)

        def attempt(k: int, certify: bool) -> _Fitted:
            return self._fit_for(X, points, basis, k, dtype, seed, certify)

        k: Any = self.n_components
        if k == "auto":
            k = _fewest(lambda k: attempt(k, False)[2].largest <= self.eps, len(basis))
        self._learned, self.components_, found = attempt(int(k), bool(self.certify))
        if self.n_components == "auto" and found.largest > self.eps:
            warnings.warn(
                f"no map reached eps = {self.eps}: with {k} components, as many as the points span numerically, the "
                f"largest distortion is {found.largest:.3g}.",
                ConvergenceWarning,
                stacklevel=3,
            )
        self.n_components_ = len(self.components_)
        self.max_distortion_ = found.largest
        self.mean_distortion_ = found.mean
        self.worst_pair_ = found.worst
        self.variance_ = self._learned.s**2
        self.certificate_ = self._learned.certificate
        self.n_secants_ = self._learned.n_pairs

    def _fit_for(
        self, X: Matrix, points: Matrix, basis: Matrix, k: int, dtype: Any, seed: int, certify: bool
    ) -> _Fitted:
        """A map of k rows, as stored, and what it does to all pairs."""
        rank = len(basis)
        if k >= rank:
            M = np.zeros((k, rank))
            M[:rank] = np.eye(rank)
            learned = Learned(M, 0.0, None, 0)
        else:
            learned = learn_all(
                points,
                k,
                objective=self.objective,
                seed=seed,
                iterations=int(self.iterations),
                certify=certify,
                dense_limit=DENSE_LIMIT,
                report=_say if self.verbose else _say_nothing,
            )
            ends = exact_distortion(points, points @ learned.M.T)
            learned = Learned(
                learned.M * balanced_scale(ends.lowest, ends.highest),
                learned.s,
                learned.certificate,
                learned.n_pairs,
            )
        components = (learned.M @ basis).astype(dtype)
        # Of the rows as given: what rounding the map costs and what the span left out is part of what is reported.
        return learned, components, distortion_of(X, components.astype(np.float64))


def _seed_of(random_state: Any) -> int:
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(MAX_SEED))
    if isinstance(random_state, bool | float):
        raise TypeError(
            f"`random_state` must be an integer, a numpy generator or None; got {random_state!r}."
        )
    if isinstance(random_state, Integral):
        if not 0 <= int(random_state) < SEEDS:
            raise ValueError(f"`random_state` must lie in [0, 2^63); got {random_state}.")
        if int(random_state) > NUMPY_SEED:
            return int(random_state)
    return int(check_random_state(random_state).randint(MAX_SEED))


_Fitted = tuple[Learned, NDArray[Any], Distortion]


def _fewest(reaches: Callable[[int], bool], rank: int) -> int:
    """The fewest components for which `reaches` is true, by bisection.

    The span's own dimension always does (up to rounding). More components are taken to do no worse.
    """
    low, high = 0, max(rank, 1)
    while high - low > 1:
        middle = (low + high) // 2
        if reaches(middle):
            high = middle
        else:
            low = middle
    return high


def _say(stage: str, largest: float) -> None:
    print(f"LearnedJL: {stage}: largest distortion {largest:.4f}", file=sys.stderr)


def _say_nothing(stage: str, largest: float) -> None: ...
