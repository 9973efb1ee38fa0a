"""Johnson-Lindenstrauss embeddings as scikit-learn estimators: four oblivious maps, one manner.

    GaussianJL      independent normals: the exact theory, the dearest product
    RademacherJL    independent signs: as good, and cheaper to make
    SparseJL        a few signed entries a feature: the fastest, and the one for sparse rows
    SRHT            random signs, a Hadamard transform, a sample of its components: dense, and nearly as fast

A map is fixed by (kind, seed, n_features, n_components) and, for `SparseJL`, its non-zeros or density: fitting needs
only the rows' shape, and nothing of the map's size is kept. Every row is embedded by itself: chunks, threads and
order leave its bits as they are.

Source: Johnson and Lindenstrauss (1984); `sdp_kernels.projection` and `sdp_kernels.hadamard` for the maps.
"""

from __future__ import annotations

import math
import secrets
import warnings
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import DataDimensionalityWarning
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sdp.jl import rows as _rows
from sdp.jl.dimension import johnson_lindenstrauss_min_dim
from sdp.jl.inverse import pseudo_inverse
from sdp_kernels import hadamard, projection

SEED_BITS = 63


class _Embedding(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """What the four estimators share; a subclass names its kind and says how rows are projected."""

    kind: ClassVar[str]

    def __init__(self, n_components: int | str = "auto", *, eps: float = 0.1, random_state: Any = 0) -> None:
        self.n_components = n_components
        self.eps = eps
        self.random_state = random_state

    def fit(self, X: Any, y: object = None) -> Any:
        """Fix the map for rows of this shape.

        Args:
            X: rows, as `transform` takes them, which are checked and not otherwise read; or the tuple
                (n_samples, n_features) alone.
            y: ignored.

        Returns:
            The estimator.

        Raises:
            TypeError, ValueError: a parameter out of range; rows that are none, or not finite.
        """
        self._check_parameters()
        shape = self._see(X, reset=True)
        self._fix(*shape, seed=_seed_of(self.random_state))
        return self

    def partial_fit(self, X: Any, y: object = None) -> Any:
        """As `fit`, for one chunk of many, whose rows are counted together.

        With n_components="auto" the number of components grows with the rows seen, and with it the map changes: show
        all chunks before the first is transformed.
        """
        if not hasattr(self, "seed_"):
            return self.fit(X)
        self._check_parameters()
        n_samples, n_features = self._see(X, reset=False)
        self._fix(self.n_samples_seen_ + n_samples, n_features, seed=self.seed_)
        return self

    def transform(self, X: Any, out: Any = None) -> Any:
        """Embed rows.

        Args:
            X: (n_rows, n_features): numpy, pandas, torch, or sparse rows of scipy or torch; n_rows may be 0.
            out: takes the result instead of a new array: (n_rows, n_components_), numpy or torch as the result would
                be, row-major, of the result's dtype.

        Returns:
            (n_rows, n_components_), dense. float64, float32, float16 and bfloat16 keep their dtype, uint8 becomes
            float32, other integers float64. Of torch rows, a tensor on their device.

        Raises:
            TypeError, ValueError: rows of another width or dtype, not finite, or too large for the result's dtype;
                sparse rows whose indices lie outside the matrix; an `out` that does not fit.
            NotFittedError: before `fit`.

        Complexity: see the class; the map is made once a call, so pass hundreds of rows at a time. Memory beside the
        result: what `sdp_kernels.projection` says of maps.
        """
        check_is_fitted(self, "seed_")
        source = _rows.read(X, self, reset=False, check_finite=not self._spreads())
        return self._embed(source, out)

    def fit_transform(self, X: Any, y: object = None) -> Any:
        """As `fit(X).transform(X)`, but X is read once."""
        self._check_parameters()
        source = _rows.read(X, self, reset=True, check_finite=not self._spreads(), least_rows=1)
        self._fix(*source.shape, seed=_seed_of(self.random_state))
        return self._embed(source, None)

    def inverse_transform(self, Y: Any) -> Any:
        """Rows of least length that embed to these: A^+ y, with the pseudo-inverse A^+ = A^T (A A^T)^+ of the map A.

        The pseudo-inverse, and not the transpose, so that `transform(inverse_transform(Y))` is Y again whenever A has
        full row rank. It is computed in float64, from slices of the map.

        Args:
            Y: (n_rows, n_components_), numpy or torch.

        Returns:
            (n_rows, n_features_in_), of Y's kind and dtype; float64 of integers.

        Raises:
            TypeError, ValueError: another shape, no real numbers, or some that are not finite.

        Complexity: O(D k^2 + k^3 + n D k); float64 (k, k) and (n, D).
        """
        check_is_fitted(self, "seed_")
        source = _rows.read_embedded(Y, self.n_components_)
        assert isinstance(source.rows, Tensor)  # `read_embedded` reads nothing else
        full = pseudo_inverse(source.rows, self.entries, self.n_features_in_)
        return source.result(full, None, check_finite=True)

    def entries(self, first: int = 0, last: int | None = None) -> Tensor:
        """Columns [first, last) of the map A, transposed: the embeddings of those features' unit vectors.

        Returns:
            float64 (last - first, n_components_), on the CPU.
        """
        check_is_fitted(self, "seed_")
        last = self.n_features_in_ if last is None else last
        count = last - first
        unit = projection.SparseRows(
            torch.arange(count + 1),
            torch.arange(first, last),
            torch.ones(count, dtype=torch.float64),
            self.n_features_in_,
        )
        out = torch.empty((count, self.n_components_), dtype=torch.float64)
        return self._project(unit, out)

    def _project(self, rows: projection.Rows, out: Tensor) -> Tensor:
        raise NotImplementedError

    def _spreads(self) -> bool:
        """Whether NaN or infinity in a row is sure to reach its embedding."""
        return True

    def _most_components(self, n_features: int) -> int | None:
        """Components that the map can have at most, if there is a limit."""
        return None

    @property
    def _n_features_out(self) -> int:
        return int(self.n_components_)

    def _embed(self, source: _rows.Source, out: Any) -> Any:
        target = source.target_for(out, self.n_components_)
        return source.result(self._project(source.rows, target), out, check_finite=True)

    def _see(self, X: Any, reset: bool) -> tuple[int, int]:
        """(n_samples, n_features) of rows, which are checked, or of a shape."""
        if not _rows.is_shape(X):
            return _rows.read(X, self, reset=reset, check_finite=True, least_rows=1 if reset else 0).shape
        n_samples, n_features = (int(size) for size in X)
        if n_samples < 0 or n_features < 1:
            raise ValueError(f"`X` must have no negative size and at least 1 feature; got shape {tuple(X)}.")
        _rows.set_features(self, n_features, reset=reset)
        return n_samples, n_features

    def _fix(self, n_samples: int, n_features: int, seed: int) -> None:
        k = self.n_components
        if k == "auto":
            k = johnson_lindenstrauss_min_dim(max(1, n_samples), eps=self.eps)
            if k > n_features:
                warnings.warn(
                    f"{n_samples} rows and eps = {self.eps} ask for {k} components, more than the {n_features} "
                    f"features; n_components_ is {n_features}, to which the bound does not apply.",
                    DataDimensionalityWarning,
                    stacklevel=3,
                )
                k = n_features
        most = self._most_components(n_features)
        if most is not None and int(k) > most:
            raise ValueError(f"`n_components` must be at most {most} for {n_features} features; got {k}.")
        self.n_samples_seen_, self.n_components_, self.seed_ = n_samples, int(k), seed

    def _check_parameters(self) -> None:
        k = self.n_components
        if isinstance(k, str):
            if k != "auto":
                raise ValueError(f'`n_components` must be an integer or "auto"; got {k!r}.')
        else:
            _check_integer("n_components", k)
        _check_number("eps", self.eps)
        if not 0 < self.eps < 1:
            raise ValueError(f"`eps` must lie in (0, 1); got {self.eps}.")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32", "float16"]
        return tags


class GaussianJL(_Embedding):
    """Embedding by independent normals, A ~ N(0, 1/k).

    Args:
        n_components: k, or "auto": `johnson_lindenstrauss_min_dim(n_samples, eps=eps)`, but at most n_features (with a
            warning, since the bound then says nothing).
        eps: distortion of squared distances that "auto" allows, in (0, 1).
        random_state: seed of the map, 0 <= seed < 2^63; the same seed gives the same map, always. A numpy RandomState
            or Generator, or None for fresh entropy, draws one at `fit`.

    Attributes:
        n_components_: k.
        n_features_in_: D.
        n_samples_seen_: rows that "auto" counted.
        seed_: the seed in use.

    Complexity: 2 n D k operations at the speed of a matrix product; the map, D k normals, is made in each call.

    >>> Y = GaussianJL(n_components=2, random_state=1).fit_transform(np.eye(3, dtype=np.float32))
    >>> Y.shape, Y.dtype
    ((3, 2), dtype('float32'))
    """

    kind: ClassVar[str] = "gaussian"

    def _project(self, rows: projection.Rows, out: Tensor) -> Tensor:
        return projection.gaussian(rows, self.n_components_, seed=self.seed_, out=out)


class RademacherJL(_Embedding):
    """Embedding by independent signs, entries +-1/sqrt(k); parameters, attributes and cost as `GaussianJL`.

    >>> RademacherJL(n_components=1).fit_transform(np.eye(2)).tolist()
    [[1.0], [1.0]]
    """

    kind: ClassVar[str] = "rademacher"

    def _project(self, rows: projection.Rows, out: Tensor) -> Tensor:
        return projection.rademacher(rows, self.n_components_, seed=self.seed_, out=out)


class SparseJL(_Embedding):
    """Embedding by a few signed entries a feature: the fastest map, and the one for sparse rows.

    Args:
        n_components: as `GaussianJL`.
        eps: as `GaussianJL`.
        random_state: as `GaussianJL`.
        n_nonzeros: s, entries a feature, one in each of s blocks of components so that no two collide (SJLT). From
            s = 4 on the distortions measured are those of a Gaussian map; s = 1 is CountSketch, faster and with
            heavier tails. At most n_components_ are used.
        density: None for the above; or scikit-learn's form, every entry stored independently with this
            probability in (0, 1], "auto" being 1 / sqrt(n_features). It loses features that get no entry.

    Attributes:
        n_components_, n_features_in_, n_samples_seen_, seed_: as `GaussianJL`.
        n_nonzeros_: entries a feature; None with a density.
        density_: probability of an entry; None without.

    Complexity: n D s signed sums, or one a stored entry of X and non-zero of its feature.

    >>> Y = SparseJL(n_components=8, n_nonzeros=4).fit_transform(np.eye(2))
    >>> (Y != 0).sum(axis=1).tolist()
    [4, 4]
    """

    kind: ClassVar[str] = "sparse"

    def __init__(
        self,
        n_components: int | str = "auto",
        *,
        eps: float = 0.1,
        random_state: Any = 0,
        n_nonzeros: int = 8,
        density: float | str | None = None,
    ) -> None:
        super().__init__(n_components, eps=eps, random_state=random_state)
        self.n_nonzeros = n_nonzeros
        self.density = density

    def _project(self, rows: projection.Rows, out: Tensor) -> Tensor:
        if self.n_nonzeros_ is not None:
            return projection.blocked(rows, self.n_components_, self.n_nonzeros_, seed=self.seed_, out=out)
        return projection.independent(rows, self.n_components_, self.density_, seed=self.seed_, out=out)

    def _spreads(self) -> bool:
        return self.density is None

    def _fix(self, n_samples: int, n_features: int, seed: int) -> None:
        super()._fix(n_samples, n_features, seed)
        self.n_nonzeros_: Any = None
        self.density_: Any = None
        if self.density is None:
            self.n_nonzeros_ = min(int(self.n_nonzeros), self.n_components_)
        else:
            self.density_ = 1 / math.sqrt(n_features) if self.density == "auto" else float(self.density)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        _check_integer("n_nonzeros", self.n_nonzeros)
        if isinstance(self.density, str):
            if self.density != "auto":
                raise ValueError(f'`density` must be None, a number or "auto"; got {self.density!r}.')
        elif self.density is not None:
            _check_number("density", self.density)
            projection.check_density(self.density)


class SRHT(_Embedding):
    """Embedding by random signs, a Hadamard transform and a sample of its components, without replacement.

    Parameters and attributes as `GaussianJL`; rows are filled up with zeros to N, the next power of two, and
    n_components is at most N (with N components the map is an isometry).

    Complexity: n N log2 N sums; sparse rows of few entries k operations an entry.

    >>> X = np.arange(4.0).reshape(1, 4)
    >>> bool(np.isclose(np.linalg.norm(SRHT(n_components=4).fit_transform(X)), np.linalg.norm(X)))
    True
    """

    kind: ClassVar[str] = "srht"

    def _project(self, rows: projection.Rows, out: Tensor) -> Tensor:
        return hadamard.srht(rows, self.n_components_, seed=self.seed_, out=out)

    def _most_components(self, n_features: int) -> int | None:
        return hadamard.padded(n_features)


def _seed_of(random_state: Any) -> int:
    """The seed that a `random_state` means."""
    if random_state is None:
        return secrets.randbits(SEED_BITS)
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**SEED_BITS - 1, dtype=np.int64))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**SEED_BITS - 1))
    if isinstance(random_state, bool) or not isinstance(random_state, Integral):
        raise TypeError(
            f"`random_state` must be an integer, a numpy generator or None; got {random_state!r}."
        )
    seed = int(random_state)
    if not 0 <= seed < 2**SEED_BITS:
        raise ValueError(f"`random_state` must lie in [0, 2^63); got {seed}.")
    return seed


def _check_integer(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"`{name}` must be an integer; got {value!r}.")
    if int(value) < 1:
        raise ValueError(f"`{name}` must be at least 1; got {value}.")


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"`{name}` must be a number; got {value!r}.")
