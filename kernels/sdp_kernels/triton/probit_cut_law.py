"""What a law makes of a graph's edges: expected cut, gradient and Hessian in one pass over the CSR entries.

Items of the row plan stand in a tile of ITEMS x GROUP lanes, one entry a lane. An entry (i, j) gives all three from

    r = c_ij / (s_i s_j),   q = 1 - |r| = delta / (1 + |r|)           delta = 1 - r^2 is given, never computed
    t = (a_j - r a_i) / sqrt(delta) = ((a_j - +-a_i) + q +-a_i) / sqrt(delta),   +- the sign of r

so that nothing is lost where r nears 1 or -1: a_j -+ a_i is exact there (Sterbenz). Derivatives are the formulas of
`sdp_kernels.probit_cut`. The value splits into a share of each direction of an edge, so visiting both wastes nothing:

    p(a, b; r) = h(a, t_ab) + h(b, t_ba),    h(a, t) = 2 T(a, t / a) + [a b < 0] / 2,

T Owen's function, and with lo, hi = sorted(|a|, |t|), x = lo / hi <= 1, E(y) = erf(y / sqrt 2):

    T(hi, x)      = x phi(hi) / sqrt(2 pi)  int_0^1 exp(-lo^2 u^2 / 2) / (1 + x^2 u^2) du
    T(a, t / a)   = T(hi, x) where |t| <= |a|,  else (1 - E(a) E(t)) / 4 - T(hi, x), with the sign of a t

The integrand is smooth for every r, so there is one rule and no branch: three points within 5e-8 of 2 T (fitted from
the positive half of the 6-point Gauss-Legendre rule, by the largest error; that rule itself is within 1e-5, 4 fitted
points within 4e-10). A mean of exactly 0 counts as 2^-60 standard deviations: p has a limit at a = b = 0, t / a none.

An entry costs 16 bytes read, 8 gathered, 4 written, and 11 transcendental instructions; memory bounds it. GROUP lanes
add every GROUP-th entry of a row in order, then one tree: no tile changes a bit.

Source: Owen, "Tables for computing bivariate normal probabilities" (1956); Patefield and Tandy (2000).
"""

from __future__ import annotations

import triton
import triton.language as tl

from sdp_kernels.triton._math import at_most, central_mass2, copy_sign, inverse_root, reciprocal
from sdp_kernels.triton._rows import GROUP, load_items
from sdp_kernels.triton._sparse import slot_sums

LEAST_MEAN = 2.0**-60  # standard deviations
LARGEST_MEAN = 2.0**20  # phi is 0 from 15 on, and squares stay finite
LEAST_COMPLEMENT = 2.0**-60
SUMS = 4  # numbers of a part of a heavy row

_GROUP = tl.constexpr(GROUP)
_LEAST_MEAN = tl.constexpr(LEAST_MEAN)
_LARGEST_MEAN = tl.constexpr(LARGEST_MEAN)
_LEAST_COMPLEMENT = tl.constexpr(LEAST_COMPLEMENT)
_SUMS = tl.constexpr(SUMS)
_HALF_LOG2_E = tl.constexpr(0.7213475204444817)
_INV_SQRT_2PI = tl.constexpr(0.3989422804014327)
# u_k^2 and weights of the rule on [0, 1].
_U0, _U1, _U2 = (tl.constexpr(u) for u in (0.03873742230, 0.34264061771, 0.81814096212))
_W0, _W1, _W2 = (tl.constexpr(w) for w in (0.39368652042, 0.37432484845, 0.23198717479))


@triton.jit
def _point(lo_square, ratio_square, u: tl.constexpr, w: tl.constexpr):
    """One term of the rule, w exp(-lo^2 u / 2) / (1 + x^2 u); a bare rsqrt costs 4e-7 of a T of at most 1/8."""
    root = tl.rsqrt(tl.fma(ratio_square, u, 1.0))
    return (w * tl.exp2(lo_square * (-_HALF_LOG2_E * u))) * (root * root)


@triton.jit
def _share(a, mass_a, density_a, t, mass_t, density_t):
    """2 T(a, t / a) for a != 0."""
    size_a, size_t = tl.abs(a), tl.abs(t)
    is_steep = size_t > size_a
    high, low = tl.where(is_steep, size_t, size_a), tl.where(is_steep, size_a, size_t)
    ratio = low * tl.rsqrt(high * high)
    lo_square, ratio_square = low * low, ratio * ratio
    total = _point(lo_square, ratio_square, _U0, _W0) + _point(lo_square, ratio_square, _U1, _W1)
    total += _point(lo_square, ratio_square, _U2, _W2)
    small = ratio * tl.where(is_steep, density_t, density_a) * (2.0 * _INV_SQRT_2PI) * total
    size = tl.where(is_steep, tl.fma(tl.abs(mass_a * mass_t), -0.5, 0.5) - small, small)
    return tl.where((a < 0.0) != (t < 0.0), -size, size)


@triton.jit
def _standardise_kernel(
    mean_ptr, variances_ptr,  # float32 (n,)
    vertices_ptr,             # float32 (n, 2): a_i = mu_i / s_i and 1 / s_i
    n,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """The two numbers that an entry gathers, side by side."""
    offs = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < n
    inverse = inverse_root(tl.load(variances_ptr + offs, mask=mask, other=1.0))
    a = tl.load(mean_ptr + offs, mask=mask, other=0.0) * inverse
    size = at_most(tl.abs(a), _LARGEST_MEAN)
    a = tl.where(size < _LEAST_MEAN, _LEAST_MEAN, copy_sign(size, a))
    tl.store(vertices_ptr + 2 * offs, a, mask=mask)
    tl.store(vertices_ptr + 2 * offs + 1, inverse, mask=mask)


@triton.jit
def _finish(
    rows, mask, a, inverse, density, slope, twist, value, gradient_ptr, diagonal_ptr, values_ptr,
    VALUE: tl.constexpr, DERIVATIVES: tl.constexpr,
):  # fmt: skip
    """Writes what a row's sums give."""
    if DERIVATIVES:
        gradient = -density * inverse * slope
        tl.store(gradient_ptr + rows, gradient, mask=mask)
        # a s dF/dmu, without dividing by 1 / s.
        tl.store(diagonal_ptr + rows, (a * density * slope - twist) * inverse * inverse, mask=mask)
    if VALUE:
        tl.store(values_ptr + rows, value, mask=mask)


@triton.jit
def _law_kernel(
    starts_ptr, counts_ptr, targets_ptr, slot_rows_ptr,  # the row plan; int32 (n_slots,), the row of each slot
    indices_ptr, weights_ptr,             # int32, float32 (2m,)
    covariances_ptr, complements_ptr,     # float32 (2m,); complements are not read without COMPLEMENTS
    vertices_ptr,                         # float32 (n, 2)
    entries_ptr,                          # float32 (2m,)
    gradient_ptr, diagonal_ptr, values_ptr,  # float32 (n,)
    sums_ptr,                             # float32 (n_slots, 4): slope, twist, value of a part of a heavy row, -
    n_items,
    ITEMS: tl.constexpr, VALUE: tl.constexpr, DERIVATIVES: tl.constexpr, COMPLEMENTS: tl.constexpr,
):  # fmt: skip
    """The tile's rows and entries of what VALUE and DERIVATIVES ask for; the other results are not touched."""
    first = tl.program_id(0).to(tl.int64) * ITEMS
    starts, counts, targets, mask, passes = load_items(
        starts_ptr, counts_ptr, targets_ptr, first, n_items, ITEMS
    )
    is_row = targets >= 0
    slots = -1 - targets
    rows = tl.load(slot_rows_ptr + slots, mask=mask & (slots >= 0), other=0)
    rows = tl.where(is_row, targets, rows).to(tl.int64)
    a = tl.load(vertices_ptr + 2 * rows, mask=mask, other=1.0)
    inverse = tl.load(vertices_ptr + 2 * rows + 1, mask=mask, other=1.0)
    mass, density = central_mass2(a)

    lanes = tl.arange(0, _GROUP)[None, :]
    a_i, inverse_i, mass_i, density_i = a[:, None], inverse[:, None], mass[:, None], density[:, None]
    zero = tl.zeros((ITEMS, _GROUP), tl.float32)
    slope, twist, value = zero, zero, zero
    for p in range(passes):
        place = p * _GROUP + lanes
        live = place < counts[:, None]
        offs = starts[:, None] + place
        j = tl.load(indices_ptr + offs, mask=live, other=0).to(tl.int64)
        weight = tl.load(weights_ptr + offs, mask=live, other=0.0)  # lanes without an entry add 0
        covariance = tl.load(covariances_ptr + offs, mask=live, other=0.0)
        a_j = tl.load(vertices_ptr + 2 * j, mask=live, other=1.0)
        inverse_j = tl.load(vertices_ptr + 2 * j + 1, mask=live, other=1.0)
        inverses = inverse_i * inverse_j
        size_r = tl.abs(covariance * inverses)
        above = 1.0 + size_r
        complement = above * (1.0 - size_r)
        if COMPLEMENTS:
            complement = tl.load(complements_ptr + offs, mask=live, other=1.0)
        complement = tl.maximum(complement, _LEAST_COMPLEMENT, propagate_nan=tl.PropagateNan.ALL)
        scale = tl.rsqrt(complement)
        root = tl.rsqrt(above)
        signed = tl.where(covariance < 0.0, -a_i, a_i)
        t = tl.fma(complement * (root * root), signed, a_j - signed) * scale
        mass_t, density_t = central_mass2(t)
        if DERIVATIVES:
            slope = tl.fma(weight, mass_t, slope)
            entry = -2.0 * weight * (density_i * density_t) * (scale * inverses)
            tl.store(entries_ptr + offs, entry, mask=live)
            twist = tl.fma(covariance, entry, twist)
        if VALUE:
            share = _share(a_i, mass_i, density_i, t, mass_t, density_t)
            share += tl.where((a_i < 0.0) != (a_j < 0.0), 0.5, 0.0)
            value = tl.fma(weight, share, value)
    slope, twist, value = tl.sum(slope, axis=1), tl.sum(twist, axis=1), tl.sum(value, axis=1)
    _finish(
        rows, mask & is_row, a, inverse, density, slope, twist, value, gradient_ptr, diagonal_ptr, values_ptr,
        VALUE, DERIVATIVES,
    )  # fmt: skip
    sums_ptr += slots.to(tl.int64) * _SUMS
    is_part = mask & (slots >= 0)
    if DERIVATIVES:
        tl.store(sums_ptr, slope, mask=is_part)
        tl.store(sums_ptr + 1, twist, mask=is_part)
    if VALUE:
        tl.store(sums_ptr + 2, value, mask=is_part)


@triton.jit
def _law_heavy_kernel(
    heavy_rows_ptr, heavy_slots_ptr,  # int32 (n_heavy,), int64 (n_heavy + 1,)
    vertices_ptr, sums_ptr, gradient_ptr, diagonal_ptr, values_ptr,  # as in `_law_kernel`
    VALUE: tl.constexpr, DERIVATIVES: tl.constexpr,
):  # fmt: skip
    """Adds the parts of a heavy row in order and finishes the row; a program a row."""
    columns = tl.arange(0, _SUMS)
    sums, rows, mask = slot_sums(
        sums_ptr, heavy_rows_ptr, heavy_slots_ptr, tl.program_id(0), columns, _SUMS, _SUMS
    )
    rows = rows.to(tl.int64)
    # A column that was not asked for is unwritten, so it is left out and not multiplied by 0.
    slope = tl.sum(tl.where(columns[None, :] == 0, sums, 0.0), axis=1)
    twist = tl.sum(tl.where(columns[None, :] == 1, sums, 0.0), axis=1)
    value = tl.sum(tl.where(columns[None, :] == 2, sums, 0.0), axis=1)
    a = tl.load(vertices_ptr + 2 * rows, mask=mask, other=1.0)
    inverse = tl.load(vertices_ptr + 2 * rows + 1, mask=mask, other=1.0)
    _, density = central_mass2(a)
    _finish(
        rows, mask, a, inverse, density, slope, twist, value, gradient_ptr, diagonal_ptr, values_ptr,
        VALUE, DERIVATIVES,
    )  # fmt: skip


@triton.jit
def _total_kernel(
    values_ptr,   # float32 or float64 (n,)
    partial_ptr,  # float64 (n_programs,)
    n,
    LANES: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """partial[p] = float64 sum of values [p LANES STEPS, (p + 1) LANES STEPS): lane by lane, then one tree."""
    first = tl.program_id(0).to(tl.int64) * (LANES * STEPS)
    acc = tl.zeros((LANES,), tl.float64)
    for step in range(STEPS):
        offs = first + step * LANES + tl.arange(0, LANES)
        acc += tl.load(values_ptr + offs, mask=offs < n, other=0.0).to(tl.float64)
    tl.store(partial_ptr + tl.program_id(0), tl.sum(acc, axis=0))


@triton.jit
def _scaled_law_kernel(
    starts_ptr, counts_ptr, targets_ptr, slot_rows_ptr,  # the row plan
    indices_ptr,                      # int32 (2m,)
    covariances_ptr, complements_ptr, variances_ptr,  # float32 (2m,), (2m,), (n,): of V
    scaled_covariances_ptr, scaled_complements_ptr,   # float32 (2m,): of scale V
    n_items, scale_square, noise,     # noise = beta^-2
    ITEMS: tl.constexpr,
):  # fmt: skip
    """Covariances and 1 - r^2 of scale V, 0 <= scale <= 1; the latter as a sum of terms that are not negative:

    s_i'^2 s_j'^2 - c'^2 = k^4 delta s_i^2 s_j^2 + b (1 - k^2) (b (1 + k^2) + k^2 (|v_i|^2 + |v_j|^2)),
    k the scale, b the noise, s^2 = b + |v|^2 and s'^2 = b + k^2 |v|^2.
    """
    first = tl.program_id(0).to(tl.int64) * ITEMS
    starts, counts, targets, mask, passes = load_items(
        starts_ptr, counts_ptr, targets_ptr, first, n_items, ITEMS
    )
    slots = -1 - targets
    rows = tl.load(slot_rows_ptr + slots, mask=mask & (slots >= 0), other=0)
    rows = tl.where(targets >= 0, targets, rows)
    variance_i = tl.load(variances_ptr + rows, mask=mask, other=1.0)[:, None]
    square_i = tl.maximum(variance_i - noise, 0.0)
    inverse_i = reciprocal(tl.fma(square_i, scale_square, noise))
    rest = noise * (1.0 - scale_square)
    lanes = tl.arange(0, _GROUP)[None, :]
    for pair in range(tl.cdiv(passes, 2)):
        for half in tl.static_range(2):
            place = (2 * pair + half) * _GROUP + lanes
            live = place < counts[:, None]
            offs = starts[:, None] + place
            j = tl.load(indices_ptr + offs, mask=live, other=0).to(tl.int64)
            variance_j = tl.load(variances_ptr + j, mask=live, other=1.0)
            covariance = tl.load(covariances_ptr + offs, mask=live, other=0.0)
            complement = tl.load(complements_ptr + offs, mask=live, other=0.0)
            square_j = tl.maximum(variance_j - noise, 0.0)
            inverse_j = reciprocal(tl.fma(square_j, scale_square, noise))
            left_i, left_j = scale_square * variance_i * inverse_i, scale_square * variance_j * inverse_j
            gained = tl.fma(scale_square, square_i + square_j, noise * (1.0 + scale_square))
            scaled = tl.fma(rest * inverse_i, gained * inverse_j, complement * left_i * left_j)
            tl.store(scaled_covariances_ptr + offs, covariance * scale_square, mask=live)
            tl.store(scaled_complements_ptr + offs, scaled, mask=live)
