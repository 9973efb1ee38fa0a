"""numba twin of `sdp_kernels.probit_cut`.

Each vertex gathers from its neighbours, so nothing is scattered, rows are independent, and the bits of
every result are the same whatever the number of threads; a value is the sum of its rows in order.
Rows are dealt to threads in blocks of about equally many entries.

An edge's probability p(a, b; r) needs one quadrature, over 8 or 16 Gauss-Legendre points:

    |r| < NEAR_ONE:  p = Phi(a) Phi(-b) + Phi(-a) Phi(b) - (1/pi) int_0^{asin r} exp(-E(t)) dt,
                     E(t) = (a^2 + b^2 - 2 a b sin t) / (2 cos^2 t)                     (Plackett)
    r >= NEAR_ONE:   p = |Phi(a) - Phi(b)| + (1/pi) int_{asin r}^{pi/2} exp(-E(t)) dt, whose integrand has
                     an essential singularity of width |a - b| at the end: with x = cos t, its expansion in
                     x to fourth order is integrated in closed form and the rest, which is smooth, by points
    r <= -NEAR_ONE:  p(a, b; r) = 1 - p(a, -b; -r).

E(t) >= max(a^2, b^2) / 2 for every t, so an edge with one sure vertex needs no points at all. Source: Genz,
"Numerical computation of rectangular bivariate and trivariate normal and t probabilities" (2004), after
Drezner and Wesolowsky (1990).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray
from scipy.special import ndtr
from torch import Tensor

from sdp_kernels.cpu._blocks import block_starts, threads_for
from sdp_kernels.graph import CSR
from sdp_kernels.probit_cut import Derivatives, Law

DTYPES = (torch.float64,)  # of laws and means

NEAR_ONE = 0.925  # Genz's switch: beyond it the first form would need more and more points
# Measured against 100 points over |a|, |b| <= 8: the 8-point rule is within 3e-13 for |r| <= 0.65, the
# 16-point rule within 1e-13 for |r| <= NEAR_ONE. Multiples of 8, so that whole vectors are filled.
FEW = 0.65
FEW_NODES, FEW_WEIGHTS = np.polynomial.legendre.leggauss(8)
MANY_NODES, MANY_WEIGHTS = np.polynomial.legendre.leggauss(16)
SURE = math.sqrt(2.0 * 28.0)  # |a| from which the integrand, at most exp(-a^2 / 2) < 1e-12, is dropped

SQRT_HALF = math.sqrt(0.5)
SQRT_HALF_PI = math.sqrt(0.5 * math.pi)
INV_SQRT_TWO_PI = 1.0 / math.sqrt(2.0 * math.pi)
INV_PI = 1.0 / math.pi
# 1 - r^2 below this has no correct digits left in float64.
LEAST_COMPLEMENT = 2.0**-52
# exp by Taylor's series about -20 of a 64th part, six squarings: relative error 3e-13 on [LEAST_POWER, 2].
LEAST_POWER = -40.0
EXP_CENTRE = math.exp(-20.0)
EXP_2, EXP_3, EXP_4, EXP_5, EXP_6, EXP_7, EXP_8, EXP_9, EXP_10, EXP_11 = (
    1.0 / math.factorial(k) for k in range(2, 12)
)
# sin by Taylor's series, |x| <= asin(NEAR_ONE) = 1.181: error below 1.2^19 / 19! = 3e-16.
SIN_3, SIN_5, SIN_7, SIN_9, SIN_11, SIN_13, SIN_15, SIN_17 = (
    (-1) ** (k // 2) / math.factorial(k) for k in range(3, 18, 2)
)


def second_moments(csr: CSR, V: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Covariances float64 (2m,) on the CSR entries, variances float64 (n,)."""
    rows = np.ascontiguousarray(V.numpy())
    covariances = np.empty(csr.indices.numel())
    squares = np.empty(len(rows))
    indptr, indices = csr.indptr.numpy(), csr.indices.numpy()
    if len(rows):
        starts = block_starts(indptr)
        with threads_for(starts):
            _second_moments(indptr, indices, rows, starts, covariances, squares)
    return torch.from_numpy(covariances), torch.from_numpy(squares + beta**-2)


def law_value(csr: CSR, moments: Law, mean: Tensor) -> float:
    """As the public `law_value`."""
    indptr, indices, weights = (tensor.numpy() for tensor in csr)
    inverse_deviation, standard = _standardised(moments, mean)
    rows = np.zeros(len(standard))
    if len(indices):
        starts = block_starts(indptr)
        with threads_for(starts):
            _value_rows(
                indptr, indices, weights, moments.covariances.numpy(), inverse_deviation, standard,
                ndtr(standard), ndtr(-standard), starts, rows,
            )  # fmt: skip
    return float(np.add.reduce(rows))


def law_derivatives(csr: CSR, moments: Law, mean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As the public `law_derivatives`."""
    indptr, indices, weights = (tensor.numpy() for tensor in csr)
    inverse_deviation, standard = _standardised(moments, mean)
    gradient, diagonal = np.zeros(len(standard)), np.zeros(len(standard))
    entries = np.empty(len(indices))
    if len(indices):
        starts = block_starts(indptr)
        with threads_for(starts):
            _derivative_rows(
                indptr, indices, weights, moments.covariances.numpy(), inverse_deviation, standard,
                starts, gradient, entries, diagonal,
            )  # fmt: skip
    return torch.from_numpy(gradient), torch.from_numpy(entries), torch.from_numpy(diagonal)


def law_value_and_derivatives(
    csr: CSR, moments: Law, mean: Tensor
) -> tuple[float, tuple[Tensor, Tensor, Tensor]]:
    """As the public `law_value_and_derivatives`: two passes, the derivatives are a fifth of the quadrature."""
    return law_value(csr, moments, mean), law_derivatives(csr, moments, mean)


def scaled_moments(csr: CSR, moments: Law, beta: float, scale: float) -> tuple[Tensor, Tensor]:
    """As `second_moments`, of scale V, from the law of V."""
    squares = moments.variances - beta**-2
    return moments.covariances * scale**2, squares * scale**2 + beta**-2


def hessian_product(csr: CSR, derivatives: Derivatives, X: Tensor) -> Tensor:
    """As the public `hessian_product`."""
    rows = np.ascontiguousarray(X.numpy())
    product = np.empty_like(rows)
    indptr = csr.indptr.numpy()
    if product.size:
        starts = block_starts(indptr)
        with threads_for(starts):
            _hessian_product(
                indptr, csr.indices.numpy(), derivatives.entries.numpy(), derivatives.diagonal.numpy(),
                rows, starts, product,
            )  # fmt: skip
    return torch.from_numpy(product)


def conditional_rounding(csr: CSR, probabilities: Tensor) -> Tensor:
    """As the public `conditional_rounding`."""
    chances = probabilities.numpy()
    order = np.argsort(-np.abs(chances - 0.5), kind="stable")
    signs = np.empty(len(chances), dtype=np.int8)
    indptr, indices, weights = (tensor.numpy() for tensor in csr)
    _round(indptr, indices, weights, order, 1.0 - 2.0 * chances, signs)
    return torch.from_numpy(signs)


def _standardised(moments: Law, mean: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """1 / s_i and a_i = mu_i / s_i."""
    inverse = 1.0 / np.sqrt(moments.variances.numpy())
    return inverse, mean.numpy() * inverse


@njit(inline="always")
def _exp(x):  # type: ignore[no-untyped-def]
    """exp(x) for LEAST_POWER <= x <= 2, without branch or call, so that loops over points vectorise."""
    z = (x + 20.0) / 64.0
    p = EXP_11 * z + EXP_10
    p = p * z + EXP_9
    p = p * z + EXP_8
    p = p * z + EXP_7
    p = p * z + EXP_6
    p = p * z + EXP_5
    p = p * z + EXP_4
    p = p * z + EXP_3
    p = p * z + EXP_2
    p = p * z + 1.0
    p = p * z + 1.0
    p *= p
    p *= p
    p *= p
    p *= p
    p *= p
    p *= p
    return EXP_CENTRE * p


@njit(inline="always")
def _sin(x):  # type: ignore[no-untyped-def]
    """sin(x) for |x| <= asin(NEAR_ONE)."""
    q = x * x
    p = SIN_17 * q + SIN_15
    p = p * q + SIN_13
    p = p * q + SIN_11
    p = p * q + SIN_9
    p = p * q + SIN_7
    p = p * q + SIN_5
    p = p * q + SIN_3
    return x + x * q * p


# reassoc, contract: vectorise the sum over points, fuse multiply-adds (3 times faster); no NaN or inf is
# assumed away. error_model: numba's check for a zero divisor would stop the vectoriser; none is zero here.
@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"}, error_model="numpy")
def _plackett(a, b, r, nodes, weights):  # type: ignore[no-untyped-def]
    """int_0^{asin r} exp(-(a^2 + b^2 - 2 a b sin t) / (2 cos^2 t)) dt, |r| < NEAR_ONE."""
    half = 0.5 * math.asin(r)
    squares, product, total = 0.5 * (a * a + b * b), a * b, 0.0
    for k in range(nodes.shape[0]):
        sine = _sin(half + half * nodes[k])
        power = (product * sine - squares) / (1.0 - sine * sine)
        total += weights[k] * _exp(power if power > LEAST_POWER else LEAST_POWER)
    return half * total


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"}, error_model="numpy")
def _near_one(a, b, r):  # type: ignore[no-untyped-def]
    """int_{asin r}^{pi/2} of the same integrand, NEAR_ONE <= r <= 1, |a|, |b| <= SURE."""
    complement = (1.0 - r) * (1.0 + r)
    if complement <= 0.0:
        return 0.0
    product, gap, width = a * b, (a - b) * (a - b), math.sqrt(complement)
    c, d = (4.0 - product) / 8.0, (12.0 - product) / 80.0
    series = 1.0 - c * (gap - complement) * (1.0 - d * gap) / 3.0 + c * d * complement * complement
    total = width * math.exp(-0.5 * (gap / complement + product)) * series
    root = abs(a - b)
    tail = SQRT_HALF_PI * math.erfc(SQRT_HALF * root / width)
    total -= math.exp(-0.5 * product) * tail * root * (1.0 - c * gap * (1.0 - d * gap) / 3.0)
    rest = 0.0
    for k in range(MANY_NODES.shape[0]):
        x = 0.5 * width * (1.0 + MANY_NODES[k])
        square = x * x
        power = -0.5 * (gap / square + product)
        cosine = math.sqrt(1.0 - square)
        exact = _exp(-0.5 * product * square / ((1.0 + cosine) * (1.0 + cosine))) / cosine
        expanded = 1.0 + c * square * (1.0 + 5.0 * d * square)
        rest += MANY_WEIGHTS[k] * _exp(power if power > LEAST_POWER else LEAST_POWER) * (exact - expanded)
    return total + 0.5 * width * rest


@njit(cache=True, nogil=True)
def _cut_probability(a, b, r, up_a, up_b, down_a, down_b):  # type: ignore[no-untyped-def]
    """Phi(a) + Phi(b) - 2 Phi2(a, b; r) to 1e-12; up and down are Phi(a), Phi(-a), ..., once a vertex."""
    if a == 0.0 and b == 0.0:
        return INV_PI * math.acos(min(1.0, max(-1.0, r)))
    apart = up_a * down_b + down_a * up_b
    if abs(a) > SURE or abs(b) > SURE:
        return apart
    if r >= NEAR_ONE:
        return abs(up_a - up_b) + INV_PI * _near_one(a, b, r)
    if r <= -NEAR_ONE:
        return 1.0 - abs(up_a - down_b) - INV_PI * _near_one(a, -b, -r)
    if abs(r) <= FEW:
        return apart - INV_PI * _plackett(a, b, r, FEW_NODES, FEW_WEIGHTS)
    return apart - INV_PI * _plackett(a, b, r, MANY_NODES, MANY_WEIGHTS)


# reassoc, contract: let the compiler keep several partial sums and vectorise; no NaN or inf is assumed away.
@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _dot(x, y):  # type: ignore[no-untyped-def]
    """sum_k x_k y_k in float64."""
    total = 0.0
    for k in range(x.shape[0]):
        total += np.float64(x[k]) * np.float64(y[k])
    return total


@njit(cache=True, nogil=True, parallel=True)
def _second_moments(indptr, indices, V, starts, covariances, squares):  # type: ignore[no-untyped-def]
    """covariances[e] = v_i . v_j, squares[i] = |v_i|^2."""
    for p in prange(starts.shape[0] - 1):
        for i in range(starts[p], starts[p + 1]):
            squares[i] = _dot(V[i], V[i])
            for e in range(indptr[i], indptr[i + 1]):
                covariances[e] = _dot(V[i], V[indices[e]])


@njit(cache=True, nogil=True, parallel=True)
def _value_rows(  # type: ignore[no-untyped-def]
    indptr, indices, weights, covariances, inverse_deviation, standard, up, down, starts, rows
):
    """rows[i] = sum of w p over the edges that vertex i owns."""
    for p in prange(starts.shape[0] - 1):
        for i in range(starts[p], starts[p + 1]):
            acc = 0.0
            for e in range(indptr[i], indptr[i + 1]):
                j = indices[e]
                # Each edge once: the lower end owns it where i + j is even, so both halves of a
                # row-block's entries are alike in number whatever the numbering of the vertices.
                if (i < j) == ((i + j) % 2 == 0):
                    r = covariances[e] * inverse_deviation[i] * inverse_deviation[j]
                    acc += weights[e] * _cut_probability(
                        standard[i], standard[j], r, up[i], up[j], down[i], down[j]
                    )
            rows[i] = acc


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _derivative_rows(  # type: ignore[no-untyped-def]
    indptr, indices, weights, covariances, inverse_deviation, standard, starts, gradient, entries, diagonal
):
    """The formulas of `sdp_kernels.probit_cut`, a row a vertex."""
    for p in prange(starts.shape[0] - 1):
        for i in range(starts[p], starts[p + 1]):
            a, inverse = standard[i], inverse_deviation[i]
            density = INV_SQRT_TWO_PI * math.exp(-0.5 * a * a)
            slope, twist = 0.0, 0.0
            for e in range(indptr[i], indptr[i + 1]):
                j = indices[e]
                weight = np.float64(weights[e])
                r = covariances[e] * inverse * inverse_deviation[j]
                scale = 1.0 / math.sqrt(max((1.0 - r) * (1.0 + r), LEAST_COMPLEMENT))
                t = (standard[j] - r * a) * scale
                slope += weight * math.erf(SQRT_HALF * t)
                entry = weight * math.exp(-0.5 * t * t) * scale * inverse_deviation[j]
                entries[e] = -2.0 * INV_SQRT_TWO_PI * density * inverse * entry
                twist += covariances[e] * entries[e]
            gradient[i] = -density * inverse * slope
            diagonal[i] = -(a * gradient[i] / inverse + twist) * inverse * inverse


@njit(cache=True, nogil=True, parallel=True)
def _hessian_product(indptr, indices, entries, diagonal, X, starts, product):  # type: ignore[no-untyped-def]
    """H @ X, each row summed in float64."""
    columns = X.shape[1]
    for p in prange(starts.shape[0] - 1):
        acc = np.empty(columns)
        for i in range(starts[p], starts[p + 1]):
            row = X[i]
            for k in range(columns):
                acc[k] = diagonal[i] * row[k]
            for e in range(indptr[i], indptr[i + 1]):
                entry, other = entries[e], X[indices[e]]
                for k in range(columns):
                    acc[k] += entry * other[k]
            for k in range(columns):
                product[i, k] = acc[k]


@njit(cache=True, nogil=True)
def _round(indptr, indices, weights, order, lean, signs):  # type: ignore[no-untyped-def]
    """lean[j] = 1 - 2 p_j turns into -s_j as vertices are decided; dF/dp_i = sum_j w_ij lean[j]."""
    for position in range(order.shape[0]):
        i = order[position]
        pull = 0.0
        for e in range(indptr[i], indptr[i + 1]):
            pull += weights[e] * lean[indices[e]]
        signs[i] = 1 if pull > 0.0 or (pull == 0.0 and lean[i] <= 0.0) else -1
        lean[i] = -signs[i]
