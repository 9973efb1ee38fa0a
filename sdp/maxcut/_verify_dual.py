"""The part of the checker that needs float64: how far below 0 the eigenvalues of a dual vector's matrix may lie.

With D = Diag(d), d the weighted degree plus a little, the eigenvalues of M = D^-1/2 (Diag(h) + A) D^-1/2 are at least
-tau, where tau comes from

- a Cholesky factorisation of M + (tau - slack) I that runs to its end, which proves that no eigenvalue is below -tau
  (Demmel 1989; Rump 2006); or
- the block Chebyshev certificate: Y = T_k(I - 2 M / up) X of a Gaussian block X of c columns has a column of length
  q T_k(1 + 2 tau/up) at least, with probability 1 - delta, for all k at once; q = sqrt2 erfinv(delta^(1/c)).

The block follows by SHA-256 and Philox from the seed, from h and from how it is certified, so that h cannot have been
made for it.
"""

from __future__ import annotations

import hashlib
import math
from fractions import Fraction
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.special import erfinv

from sdp.maxcut._verify_numbers import Progress, Weights, arrays, demand, integers

_U = 2.0**-53  # unit roundoff
_ENTRY_ULPS = 12  # of an entry of M: its weight, two reciprocal roots, their products, the diagonal's shift
_DEGREE_SHARE = 0.05  # of the mean weighted degree, added to every d
_MOST_DENSE, _MOST_STEPS, _MOST_COLUMNS = 5000, 10**5, 64
_MOST_DELTA = (
    2.0**-60
)  # whoever made the vector may have tried many, until the random block missed what is wrong
_TOO_LARGE = 1e100
_TOLERANCE = 1e-11  # of the sum of |w|: what other machines' float64 may make of a bound
_NORM = 1 + 1e-10  # rounding of a column's length


def dual_bound(graph: Weights, part: dict[str, Any], progress: Progress) -> tuple[Fraction, Fraction]:
    """W/2 + (sum h + tau sum d) / 4, and by how much another machine's float64 may change it.

    Args:
        graph: with weights of either sign.
        part: `h` and how it was certified.
        progress: called with a stage, steps done and steps.

    Raises:
        Rejected: nothing is proved, or h does not fit the graph.
        ValueError: as `certified`.

    Complexity: O(n^3) where all eigenvalues are found, or a sparse product with `columns` columns a step.
    """
    (h,) = arrays(part, h="<f8")
    demand(h.size == graph.n and np.isfinite(h).all(), "spectral: h is not one number for each vertex.")
    exponent = graph.unit.numerator.bit_length() - graph.unit.denominator.bit_length()
    w = np.array([math.ldexp(x, exponent) for x in graph.w.tolist()])
    tau, d = certified(graph.n, graph.u, graph.v, w, h, part, progress)
    demand(math.isfinite(tau), "spectral: nothing is proved about the eigenvalues.")
    (h, fine), (d, finest) = integers(h), integers(d)
    dual = int(h.sum()) * fine + Fraction(tau) * int(d.sum()) * finest
    bound = int(graph.w.sum()) * graph.unit / 2 + dual / 4
    slack = Fraction(_TOLERANCE) * (int(np.abs(graph.w).sum()) * graph.unit + abs(dual))
    return bound, slack


def certified(
    n: int, u: Any, v: Any, w: Any, h: Any, part: dict[str, Any], progress: Progress
) -> tuple[float, NDArray[np.float64]]:
    """Tau and d with Diag(h + tau d) + A >= 0, where edge e joins u[e] and v[e] and weighs w[e] within one rounding.

    Args:
        n: number of vertices.
        u: one end of each edge.
        v: the other.
        w: float64 weights.
        h: float64 (n,), finite.
        part: its `steps`, `seed`, `columns` and `delta`; steps = 0 for Cholesky, where the others are 0 too.
        progress: called with a stage, steps done and steps.

    Returns:
        tau, infinite if nothing is proved, and d float64 (n,), 0 for vertices without an edge.

    Raises:
        ValueError: h is negative at such a vertex, or a parameter is out of range.
    """
    adjacency = scipy.sparse.coo_array(
        (np.concatenate([w, w]), (np.concatenate([u, v]), np.concatenate([v, u]))), shape=(n, n)
    ).tocsr()
    degree = np.asarray(abs(adjacency).sum(axis=1))
    linked = degree > 0
    if (h[~linked] < 0).any():
        raise ValueError("h is negative at a vertex without an edge")
    mean = float(degree[linked].mean()) if linked.any() else 0.0
    d = np.where(linked, degree + _DEGREE_SHARE * mean, 0.0)
    root = np.where(linked, 1 / np.sqrt(np.where(linked, d, 1.0)), 1.0)
    scaled = (
        scipy.sparse.diags_array(root) @ adjacency @ scipy.sparse.diags_array(root)
        + scipy.sparse.diags_array(h * root * root)
    ).tocsr()
    steps, seed, columns, delta = (part[name] for name in ("steps", "seed", "columns", "delta"))
    if (
        type(steps) is not int
        or type(seed) is not int
        or type(columns) is not int
        or type(delta) is not float
    ):
        raise ValueError("steps, seed, columns or delta is no number of its kind")
    if steps == 0:
        if (seed, columns, delta) != (0, 0, 0.0) or n > _MOST_DENSE:
            raise ValueError("no dual vector that all eigenvalues certify")
        return _by_cholesky(scaled.toarray()), d
    if not (
        2 <= steps <= _MOST_STEPS and 1 <= columns <= _MOST_COLUMNS and 0 < delta <= _MOST_DELTA and seed >= 0
    ):
        raise ValueError("steps, seed, columns or delta is out of range")
    upper = max(1.0, float(((h + degree) * root * root).max()))
    key = hashlib.sha256(f"{seed} {steps} {columns} {delta} ".encode() + h.astype("<f8").tobytes()).digest()
    block = _normals(key, n, columns)
    return _by_chebyshev(scaled, upper, block, steps, delta, progress), d


def _by_cholesky(matrix: NDArray[np.float64]) -> float:
    """Tau of a dense matrix M."""
    n = matrix.shape[0]
    if not n:
        return 0.0
    lowest = float(np.linalg.eigvalsh(matrix)[0])  # says where to look; what it proves does not matter
    size = 1 + float(np.abs(np.diag(matrix)).sum()) + n * abs(lowest)
    slack = 4 * (n + _ENTRY_ULPS) * _U * size
    tau: float = max(0.0, -lowest) + 2 * slack
    try:
        np.linalg.cholesky(matrix + (tau - slack) * np.eye(n))
    except np.linalg.LinAlgError:
        return math.inf
    return tau


def _by_chebyshev(
    scaled: Any,
    upper: float,
    block: NDArray[np.float64],
    steps: int,
    delta: float,
    progress: Progress,
) -> float:
    """Tau of a sparse matrix M from T_k(B) X, B = I - 2 M / upper, k = 2 to `steps`.

    A step in float64 errs by e = u (entries of a row + 12) (2 | |B| | + 1) max |Y| at most, where
    | |B| | <= max_i |B_ii| + 2 / upper; an error made j steps before the end grows by (j + 1) T_j(1 + 2 tau/upper) at
    most. So the component along the lowest eigenvector is at least T_k (q - (k + 1) (k + 2) e / 2).
    """
    n, columns = block.shape
    twice = (2 * scipy.sparse.eye_array(n) - (4 / upper) * scaled).tocsr()
    norm_of_b = float(np.abs(twice.diagonal()).max()) / 2 + 2 / upper
    step_error = _U * (int(np.diff(twice.indptr).max()) + _ENTRY_ULPS) * (2 * norm_of_b + 1)
    quantile = math.sqrt(2.0) * float(erfinv(delta ** (1.0 / columns))) * (1 - 1e-12)
    previous, current = block, (twice @ block) / 2
    largest, tau = max(_length(previous), _length(current)), math.inf
    for k in range(2, steps + 1):
        progress("dual vector", k, steps)
        previous, current = current, twice @ current - previous
        length = _length(current)
        largest = max(largest, length)
        sure = quantile - 0.5 * (k + 1) * (k + 2) * step_error * largest
        if sure > 0:
            tau = min(tau, upper * math.sinh(math.acosh(max(1.0, length / sure)) / (2 * k)) ** 2)
        if not length < _TOO_LARGE:
            break
    return tau


def _length(block: NDArray[np.float64]) -> float:
    return math.sqrt(float(np.einsum("ij,ij->j", block, block).max())) * _NORM


def _normals(key: bytes, n: int, columns: int) -> NDArray[np.float64]:
    """Gaussian block (n, columns): Box and Muller on words of Philox, whose stream numpy promises to keep."""
    words = np.random.Philox(key=int.from_bytes(key[:16], "little")).random_raw(2 * n * columns)
    uniform = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    radius, turn = np.sqrt(-2 * np.log(uniform[: n * columns])), uniform[n * columns :]
    return np.asarray((radius * np.cos(2 * np.pi * turn)).reshape(n, columns))
