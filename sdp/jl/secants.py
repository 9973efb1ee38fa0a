"""Pairwise secants of given points: how a linear map stretches them, and the gradient of anything that depends on that.

For points c_i in R^r and a map M (k, r), the stretch of the pair (i, j) is

    q_ij = |M (c_i - c_j)|^2 / |c_i - c_j|^2,

1 when the pair keeps its distance; |q_ij - 1| is its distortion. No secant is ever formed: with Y = C M^T,
|y_i - y_j|^2 comes from the Gram matrix of Y, and the gradient of sum_ij L(q_ij) is a graph Laplacian's product,

    dL/dY = 2 (diag(w 1) - w) Y,   w_ij = L'(q_ij) / |c_i - c_j|^2,   dL/dM = (dL/dY)^T C,

so that all n (n - 1)/2 secants cost O(n^2 k + n k r) instead of O(n^2 k r).

Derived for this project from the objective of Tsikouras, Caramanis and Tzamos, "Optimization Can Learn
Johnson-Lindenstrauss Embeddings" (arXiv 2412.07242).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Matrix = NDArray[np.float64]
Blocks = Iterator[tuple[int, int, Matrix, NDArray[np.bool_]]]  # first row, first column, q, whether a pair

BLOCK_PAIRS = 1 << 21  # pairs looked at together: 16 MB a float64 array
# |a|^2 + |b|^2 - 2 a.b loses as many digits as |a - b|^2 is smaller than |a|^2 + |b|^2: below this share
# (10 digits left of 16) the difference is formed instead.
CANCELLATION = 1e-6
COINCIDENT = (
    1e-12  # of the largest norm: points closer than this differ by the rounding of their coordinates only
)
FAINT = 1e-280  # squares below this have lost digits to underflow
RANK_TOLERANCE = (
    1e-10  # of the largest singular value; what is smaller the decomposition does not resolve well
)


class Secants(Protocol):
    """Pairs of points, as an array of whatever shape, and what a linear map does to them."""

    coordinates: Matrix  # (n, r), what maps are applied to: the points, or the points with rescaled axes
    weights: Matrix  # 1 for a pair, 1/2 where it is there twice, 0 where there is none

    def stretch(self, Y: Matrix) -> Matrix:
        """The stretch q of every pair under the embedding Y (n, k); 1 where there is no pair."""

    def stretch_change(self, Y: Matrix, dY: Matrix) -> Matrix:
        """The derivative of `stretch` at Y along dY (n, k); 0 where there is no pair."""

    def pull_back(self, slopes: Matrix, Y: Matrix) -> Matrix:
        """d/dY of sum_p weights_p L(q_p) as (n, k), from slopes_p = weights_p L'(q_p)."""


def span(X: Matrix) -> tuple[Matrix, Matrix]:
    """Coordinates of points in the span of their differences.

    Args:
        X: (n, D) float64, n >= 1.

    Returns:
        C (n, r) and an orthonormal basis V (r, D), r <= min(n - 1, D) the numerical rank; the coordinates are ordered
        by falling variance. C V = X - mean(X) but for the directions whose singular value is below `RANK_TOLERANCE` of
        the largest: beside one column of much larger numbers that may be all the others.

    Complexity: O(n D min(n, D)).
    """
    centred = X - X.mean(axis=0)
    if min(centred.shape) == 0:
        return np.empty((len(X), 0)), np.empty((0, X.shape[1]))
    U, scale, V = np.linalg.svd(centred, full_matrices=False)
    rank = int(np.count_nonzero(scale > RANK_TOLERANCE * scale[0])) if scale[0] > 0 else 0
    # The signs of singular vectors are LAPACK's whim: the largest entry of each is made positive.
    signs = np.sign(V[np.arange(rank), np.abs(V[:rank]).argmax(axis=1)]) if rank else np.empty(0)
    return U[:, :rank] * (scale[:rank] * signs), V[:rank] * signs[:, None]


def squared_distances(A: Matrix, B: Matrix) -> Matrix:
    """|a_i - b_j|^2 as (m, n) float64, to 10 digits even for pairs that nearly coincide, and 0 where they do."""
    norms_a, norms_b = np.einsum("ij,ij->i", A, A), np.einsum("ij,ij->i", B, B)
    total = norms_a[:, None] + norms_b[None, :]
    squares: Matrix = total - 2.0 * (A @ B.T)
    close_a, close_b = np.nonzero(squares < CANCELLATION * total)
    step = max(1, BLOCK_PAIRS // max(A.shape[1], 1))
    for start in range(0, len(close_a), step):
        i, j = close_a[start : start + step], close_b[start : start + step]
        difference = A[i] - B[j]
        squares[i, j] = np.einsum("ij,ij->i", difference, difference)
    return squares


def coincidence(points: Matrix) -> float:
    """The squared distance up to which two of these points count as one and are not learned.

    For descent only, in the coordinates of a span, whose rounding is of this size. What is reported of a map
    (`distortion_of`) leaves out no two points that differ.
    """
    return COINCIDENT**2 * float(np.einsum("ij,ij->i", points, points).max(initial=0.0))


class AllPairs:
    """All pairs of n points, each of them twice, in (n, n) arrays.

    Args:
        points: (n, r) float64. Pairs of coinciding points have no secant, and weigh nothing.
        coordinates: (n, r) what maps are applied to; the points themselves by default.
    """

    def __init__(self, points: Matrix, coordinates: Matrix | None = None) -> None:
        self.coordinates = points if coordinates is None else coordinates
        squares = squared_distances(points, points)
        np.fill_diagonal(squares, 0.0)
        is_pair = squares > coincidence(points)
        self.weights = np.where(is_pair, 0.5, 0.0)
        self._inverse = np.divide(1.0, squares, out=np.zeros_like(squares), where=is_pair)

    def stretch(self, Y: Matrix) -> Matrix:
        """As `Secants.stretch`."""
        gram = Y @ Y.T
        norms = np.diagonal(gram)
        q: Matrix = (norms[:, None] + norms[None, :] - 2.0 * gram) * self._inverse
        q[self._inverse == 0] = 1.0
        return q

    def stretch_change(self, Y: Matrix, dY: Matrix) -> Matrix:
        """As `Secants.stretch_change`."""
        mixed = Y @ dY.T
        mixed = mixed + mixed.T
        norms = np.diagonal(mixed)
        change: Matrix = (norms[:, None] + norms[None, :] - 2.0 * mixed) * self._inverse
        return change

    def pull_back(self, slopes: Matrix, Y: Matrix) -> Matrix:
        """As `Secants.pull_back`."""
        # Both triangles hold half a pair's slope: their sum is one pair, and 2 (diag(w 1) - w) Y becomes 4 times it.
        w = slopes * self._inverse
        gradient: Matrix = 4.0 * (w.sum(axis=1)[:, None] * Y - w @ Y)
        return gradient


class SomePairs:
    """A list of pairs, such as the worst ones of many points.

    Args:
        points: (n, r) float64.
        first: int64 (m,).
        second: int64 (m,), another point that does not coincide with `first`.
        coordinates: as of `AllPairs`.
    """

    def __init__(
        self,
        points: Matrix,
        first: NDArray[np.int64],
        second: NDArray[np.int64],
        coordinates: Matrix | None = None,
    ) -> None:
        self.coordinates = points if coordinates is None else coordinates
        m = len(first)
        self.weights = np.ones(m)
        self._inverse = np.empty(m)
        step = max(1, BLOCK_PAIRS // max(points.shape[1], 1))
        for start in range(0, m, step):
            part = slice(start, start + step)
            difference = points[first[part]] - points[second[part]]
            self._inverse[part] = 1.0 / np.einsum("ij,ij->i", difference, difference)
        # The incidence matrix, row p = e_first - e_second, and its transpose: both are applied at every step.
        columns = np.stack([first, second], axis=1).ravel()
        self._differ = csr_array(
            (np.tile([1.0, -1.0], m), columns, 2 * np.arange(m + 1)), shape=(m, len(points))
        )
        self._gather = csr_array(self._differ.T)

    def stretch(self, Y: Matrix) -> Matrix:
        """As `Secants.stretch`."""
        difference = self._differ @ Y
        q: Matrix = np.einsum("ij,ij->i", difference, difference) * self._inverse
        return q

    def stretch_change(self, Y: Matrix, dY: Matrix) -> Matrix:
        """As `Secants.stretch_change`."""
        change: Matrix = 2.0 * np.einsum("ij,ij->i", self._differ @ Y, self._differ @ dY) * self._inverse
        return change

    def pull_back(self, slopes: Matrix, Y: Matrix) -> Matrix:
        """As `Secants.pull_back`."""
        gradient: Matrix = 2.0 * (self._gather @ ((slopes * self._inverse)[:, None] * (self._differ @ Y)))
        return gradient


@dataclass(frozen=True)
class Distortion:
    """Of all pairs of some points.

    Attributes:
        largest: max |q - 1|; 0 where there is no pair of distinct points.
        mean: mean |q - 1|.
        lowest, highest: the smallest and the largest q; 1 where there is no pair.
        worst: the pair with the largest distortion; (0, 0) where there is none.
        n_pairs: pairs of distinct points.
    """

    largest: float
    mean: float
    lowest: float
    highest: float
    worst: tuple[int, int]
    n_pairs: int


def scale_of(X: Matrix) -> int:
    """The exponent e for which 2^-e X, exact by `numpy.ldexp`, has its largest entry in [1/2, 1)."""
    return math.frexp(float(np.abs(X).max(initial=0.0)))[1]


def given_blocks(X: Matrix, *, matrix: Matrix | None = None, images: Matrix | None = None) -> Blocks:
    """As `pair_blocks`, for rows as they were given: two of them are a pair unless they are equal, however near.

    Distances come from Gram matrices of centred rows; where those cancel, or underflow, the difference x - x' is
    formed, and its image is A (x - x'), in which no digit of a small distance is lost.

    Args:
        X: (n, D), scaled so that its squares are in range.
        matrix: A (k, D); or
        images: (n, k), of each row, scaled alike.

    Complexity: O(n^2 (D + k)), and D k more for each pair nearer than 1e-3 of its distance from the centre.
    """
    centred = X - X.mean(axis=0) if len(X) else X
    if images is None:
        assert matrix is not None
        images = centred @ matrix.T
    norms = np.einsum("ij,ij->i", centred, centred)
    side = max(1, min(len(X), int(BLOCK_PAIRS**0.5)))
    step = max(1, BLOCK_PAIRS // X.shape[1])
    for top in range(0, len(X), side):
        rows = slice(top, top + side)
        for left in range(top, len(X), side):
            columns = slice(left, left + side)
            total = norms[rows, None] + norms[None, columns]
            squares = total - 2.0 * (centred[rows] @ centred[columns].T)
            is_pair = np.ones(squares.shape, dtype=bool)
            if top == left:
                is_pair = np.triu(is_pair, 1)
            is_near = is_pair & (squares <= np.maximum(CANCELLATION * total, FAINT))
            q = np.ones_like(squares)
            np.divide(
                squared_distances(images[rows], images[columns]), squares, out=q, where=is_pair & ~is_near
            )
            near_i, near_j = np.nonzero(is_near)
            for start in range(0, len(near_i), step):
                i, j = near_i[start : start + step], near_j[start : start + step]
                difference = X[top + i] - X[left + j]
                size = np.abs(difference).max(axis=1)
                is_pair[i, j] = size > 0
                size[size == 0] = 1.0
                difference /= size[:, None]
                image = (
                    difference @ matrix.T
                    if matrix is not None
                    else (images[top + i] - images[left + j]) / size[:, None]
                )
                before, after = (np.einsum("ij,ij->i", d, d) for d in (difference, image))
                q[i, j] = np.divide(after, before, out=np.ones_like(before), where=before > 0)
            yield top, left, q, is_pair


def distortion_of(X: Matrix, A: Matrix) -> Distortion:
    """The distortion of all pairs of rows of X (n, D) that differ at all, under the map A (k, D); float64.

    Its own error is about 1e-10 |A|^2, |A| the largest singular value.

    Complexity: as `given_blocks`, in 16 MB arrays whatever n.
    """
    return _summary(given_blocks(np.ldexp(X, -scale_of(X)), matrix=A))


def pair_blocks(points: Matrix, Y: Matrix) -> Blocks:
    """Every pair once: (first row, first column, q, whether a pair) for blocks of a triangle, O(BLOCK_PAIRS) memory."""
    side = max(1, min(len(points), int(BLOCK_PAIRS**0.5)))
    coincident = coincidence(points)
    for top in range(0, len(points), side):
        rows = slice(top, top + side)
        for left in range(top, len(points), side):
            columns = slice(left, left + side)
            squares = squared_distances(points[rows], points[columns])
            is_pair = squares > coincident
            if top == left:
                is_pair &= np.triu(np.ones_like(is_pair), 1)
            images = squared_distances(Y[rows], Y[columns])
            yield top, left, np.divide(images, squares, out=np.ones_like(squares), where=is_pair), is_pair


def exact_distortion(points: Matrix, Y: Matrix) -> Distortion:
    """The distortion of all pairs of `points` (n, r) under the embedding Y (n, k), in blocks, float64.

    Points that nearly coincide (`coincidence`) are no pair.

    Complexity: O(n^2 (r + k)) operations, 16 MB arrays whatever n.
    """
    return _summary(pair_blocks(points, Y))


def _summary(blocks: Blocks) -> Distortion:
    largest, total, n_pairs, low, high, worst = 0.0, 0.0, 0, 1.0, 1.0, (0, 0)
    is_first = True
    for top, left, q, is_pair in blocks:
        count = int(np.count_nonzero(is_pair))
        if not count:
            continue
        off = np.where(is_pair, np.abs(q - 1.0), -1.0)
        place = int(off.argmax())
        i, j = divmod(place, off.shape[1])
        if is_first or off[i, j] > largest:
            largest, worst = float(off[i, j]), (top + i, left + j)
        low = min(np.inf if is_first else low, float(q.min(where=is_pair, initial=np.inf)))
        high = max(-np.inf if is_first else high, float(q.max(where=is_pair, initial=-np.inf)))
        total += float(off.sum(where=is_pair))
        n_pairs += count
        is_first = False
    return Distortion(largest, total / max(n_pairs, 1), low, high, worst, n_pairs)


def balanced_scale(lowest: float, highest: float) -> float:
    """The factor of a map after which its smallest and largest stretch lie equally far from 1: the best scale.

    >>> balanced_scale(0.0, 8.0)
    0.5
    """
    return float((2.0 / (lowest + highest)) ** 0.5) if lowest + highest > 0 else 1.0
