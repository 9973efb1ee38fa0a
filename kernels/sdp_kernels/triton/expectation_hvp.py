"""Device code of the Gaussian expectation's Hessian-vector products: forward over reverse, many directions at once.

With the notation of `expectation_kernels.py`, a dot for derivatives along a direction, and gbar_l the derivative of
weight * g in h_l = act(p_l),

    delta_l = gbar_l act'(p_l),   kappa_l = gbar_l act''(p_l),   h._l = act'(p_l) p._l
    p._0 = c._0 +- M. xi,         p._l = A._l h_{l-1} + A_l h._{l-1} + c._l
    s. = a. h_{D-1} + a h._{D-1} + c.,    gbar._{D-1} = g'' s. a + g' a.
    delta._l = gbar._l act'(p_l) + kappa_l p._l,    gbar._{l-1} = A_l^T delta._l + A._l^T delta_l
    products: sum delta._l h_{l-1}^T + delta_l h._{l-1}^T, sum delta._l, sum g'' s. h + g' h., sum +-delta._0 xi^T.

A tile's primal pass is made once. It gives value and gradient and leaves xi, h_l, act'(p_l), delta_l and kappa_l of
both signs in the scratch area, so that no activation is evaluated for a direction: each costs 2 half GEMMs with xi (of
a pair) and 6 (D - 1) GEMMs a sign. SHIFT_ONLY takes directions in c_0 alone and keeps only sum delta._0: 2 (D - 1)
GEMMs a sign and direction (`shift_tangent`). Two kernels, because one holds too many addresses in registers, and
operands of dots come from the scratch area CHUNK columns (or rows) at a time: whole ones spill at width 64
(`expectation_configs.py`).
"""

from __future__ import annotations

import triton
import triton.language as tl

from sdp_kernels.triton._math import activate2
from sdp_kernels.triton.expectation_kernels import (
    SIZES,
    add_first_gradient,
    add_to,
    block,
    first_product,
    keep_difference,
    loss2,
    row_weights,
    tile_range,
)


@triton.jit
def product(
    x_ptr, stride_x, x_step, w_ptr, stride_w, w_step, n_chunks, TERMS: tl.constexpr,
    BS: tl.constexpr, H: tl.constexpr, CHUNK: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Sum of TERMS products x w^T (BS, H), x (BS, n_chunks * CHUNK) and w (H, n_chunks * CHUNK).

    The second x and w lie x_step and w_step behind the first: one dot in the machine code serves both.
    """
    offs_h, offs_s = tl.arange(0, H), tl.arange(0, BS)
    acc = tl.zeros((BS, H), tl.float32)
    for j in range(TERMS * n_chunks):
        term = j // n_chunks
        offs_k = (j - term * n_chunks) * CHUNK + tl.arange(0, CHUNK)
        x = tl.load(block(x_ptr + term * x_step, stride_x, offs_s, offs_k))
        w = tl.load(block(w_ptr + term * w_step, stride_w, offs_h, offs_k))
        acc = tl.dot(x, tl.trans(w), acc, input_precision=DOT)
    return acc


@triton.jit
def add_outer(
    sum_ptr, x_ptr, x_step, y_ptr, y_step, TERMS: tl.constexpr,
    BS: tl.constexpr, H: tl.constexpr, CHUNK: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Add TERMS products x^T y (H, H) to memory of this program, x and y (BS, H), steps as in `product`."""
    offs_h = tl.arange(0, H)
    d_ptr = block(sum_ptr, H, offs_h, offs_h)
    acc = tl.load(d_ptr)
    for j in range(TERMS * (BS // CHUNK)):
        term = j // (BS // CHUNK)
        rows = (j - term * (BS // CHUNK)) * CHUNK + tl.arange(0, CHUNK)
        x = tl.load(block(x_ptr + term * x_step, H, rows, offs_h))
        y = tl.load(block(y_ptr + term * y_step, H, rows, offs_h))
        acc = tl.dot(tl.trans(x), y, acc, input_precision=DOT)
    tl.store(d_ptr, acc)


@triton.jit
def primal(
    head_ptr, d_vectors_ptr, difference_ptr, u_ptr, h_ptr, slope_ptr, n_q, depth, sign, weight, target, iota,
    BS: tl.constexpr, H: tl.constexpr, BQ: tl.constexpr, CHUNK: tl.constexpr,
    ACTIVATION: tl.constexpr, LOSS: tl.constexpr, SHIFT_ONLY: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Value weight * g (BS,) of one sign; leaves h, act', delta, kappa, g', g'' and adds to the gradient's sums.

    Each of the four takes D tiles (BS, H), in this order, from `h_ptr` on.
    """
    offs_h, offs_s = tl.arange(0, H), tl.arange(0, BS)
    tiles, layers = depth * BS * H, (depth + 2) * H
    transposes = layers + (depth - 1) * H * H
    vectors_ptr = head_ptr + H * n_q * BQ
    f1_ptr, delta_ptr, kappa_ptr = h_ptr + tiles, h_ptr + 2 * tiles, h_ptr + 3 * tiles
    p = tl.load(vectors_ptr + offs_h)[None, :] + sign * tl.load(block(u_ptr, H, offs_s, offs_h))
    for i in range(depth - 1):
        h, f1, f2 = activate2(p, ACTIVATION, iota)
        tl.store(block(h_ptr + i * BS * H, H, offs_s, offs_h), h)
        tl.store(block(f1_ptr + i * BS * H, H, offs_s, offs_h), f1)
        tl.store(block(kappa_ptr + i * BS * H, H, offs_s, offs_h), f2)  # kappa to be
        tl.debug_barrier()
        p = product(
            h_ptr + i * BS * H, H, 0, vectors_ptr + layers + i * H * H, H, 0, H // CHUNK, 1, BS, H, CHUNK, DOT
        )  # fmt: skip
        p += tl.load(vectors_ptr + (i + 1) * H + offs_h)[None, :]
    h, f1, f2 = activate2(p, ACTIVATION, iota)
    a = tl.load(vectors_ptr + depth * H + offs_h)
    s = tl.sum(h * a[None, :], 1) + tl.load(vectors_ptr + (depth + 1) * H)
    g, slope, curvature = loss2(s, LOSS, target)
    slope *= weight
    tl.store(slope_ptr + offs_s, slope)
    tl.store(slope_ptr + 2 * BS + offs_s, weight * curvature)
    if not SHIFT_ONLY:
        tl.store(block(h_ptr + tiles - BS * H, H, offs_s, offs_h), h)
        add_to(d_vectors_ptr + depth * H + offs_h, tl.sum(slope[:, None] * h, 0))
        add_to(d_vectors_ptr + (depth + 1) * H, tl.sum(slope, 0))
    gbar = slope[:, None] * a[None, :]
    delta = gbar * f1
    if LOSS != "none" or not SHIFT_ONLY:
        tl.store(block(f1_ptr + tiles - BS * H, H, offs_s, offs_h), f1)
    tl.store(block(delta_ptr + tiles - BS * H, H, offs_s, offs_h), delta)
    tl.store(block(kappa_ptr + tiles - BS * H, H, offs_s, offs_h), gbar * f2)
    tl.debug_barrier()
    for j in range(depth - 1):
        i = depth - 2 - j
        above_ptr = delta_ptr + (i + 1) * BS * H
        if not SHIFT_ONLY:
            add_to(d_vectors_ptr + (i + 1) * H + offs_h, tl.sum(delta, 0))
            add_outer(
                d_vectors_ptr + layers + i * H * H, above_ptr, 0, h_ptr + i * BS * H, 0, 1, BS, H, CHUNK, DOT
            )  # fmt: skip
        gbar = product(
            above_ptr, H, 0, vectors_ptr + transposes + i * H * H, H, 0, H // CHUNK, 1, BS, H, CHUNK, DOT
        )  # fmt: skip
        f2_ptr = block(kappa_ptr + i * BS * H, H, offs_s, offs_h)
        delta = gbar * tl.load(block(f1_ptr + i * BS * H, H, offs_s, offs_h))
        if i > 0:  # no layer below asks for the first
            tl.store(block(delta_ptr + i * BS * H, H, offs_s, offs_h), delta)
        tl.store(f2_ptr, gbar * tl.load(f2_ptr))
        tl.debug_barrier()
    if not SHIFT_ONLY:
        add_to(d_vectors_ptr + offs_h, tl.sum(delta, 0))
        keep_difference(difference_ptr, delta, sign, BS, H)
    return weight * g


@triton.jit
def tangent(
    head_ptr, direction_ptr, step, d_vectors_ptr, tangent_ptr, h_offset, slope_ptr, n_q, depth, sign,
    BS: tl.constexpr, H: tl.constexpr, BQ: tl.constexpr, CHUNK: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Block delta._0 (BS, H) of one sign; adds to the sums of the layers above the first."""
    offs_h, offs_s = tl.arange(0, H), tl.arange(0, BS)
    tiles, first, layers = depth * BS * H, H * n_q * BQ, (depth + 2) * H
    transposes = layers + (depth - 1) * H * H
    vectors_ptr, direction_vectors_ptr = head_ptr + first, direction_ptr + first
    above_ptr = tangent_ptr + BS * H
    pd_ptr = above_ptr + BS * H
    hd_ptr, h_ptr = pd_ptr + tiles, tangent_ptr + h_offset
    f1_ptr, kappa_ptr = h_ptr + tiles, h_ptr + 3 * tiles
    from_hd_to_h = h_offset - (2 * BS * H + tiles)
    pd = tl.load(direction_vectors_ptr + offs_h)[None, :]
    pd += sign * tl.load(block(tangent_ptr, H, offs_s, offs_h))
    for i in range(depth - 1):
        tile = i * BS * H
        tl.store(block(pd_ptr + tile, H, offs_s, offs_h), pd)
        f1 = tl.load(block(f1_ptr + tile, H, offs_s, offs_h))
        tl.store(block(hd_ptr + tile, H, offs_s, offs_h), f1 * pd)
        tl.debug_barrier()
        pd = product(
            hd_ptr + tile, H, from_hd_to_h, vectors_ptr + layers + i * H * H, H, step, H // CHUNK, 2,
            BS, H, CHUNK, DOT,
        )  # fmt: skip
        pd += tl.load(direction_vectors_ptr + (i + 1) * H + offs_h)[None, :]
    delta_d = tl.load(block(kappa_ptr + tiles - BS * H, H, offs_s, offs_h)) * pd
    a = tl.load(vectors_ptr + depth * H + offs_h)
    f1 = tl.load(block(f1_ptr + tiles - BS * H, H, offs_s, offs_h))
    h = tl.load(block(h_ptr + tiles - BS * H, H, offs_s, offs_h))
    slope = tl.load(slope_ptr + offs_s)
    ad = tl.load(direction_vectors_ptr + depth * H + offs_h)
    sd = tl.sum(f1 * pd * a[None, :], 1) + tl.sum(h * ad[None, :], 1)
    sd += tl.load(direction_vectors_ptr + (depth + 1) * H)
    slope_d = tl.load(slope_ptr + 2 * BS + offs_s) * sd
    add_to(d_vectors_ptr + depth * H + offs_h, tl.sum(slope_d[:, None] * h + slope[:, None] * (f1 * pd), 0))
    add_to(d_vectors_ptr + (depth + 1) * H, tl.sum(slope_d, 0))
    delta_d += slope[:, None] * ad[None, :] * f1
    delta_d += slope_d[:, None] * a[None, :] * f1
    for j in range(depth - 1):
        i = depth - 2 - j
        tile = i * BS * H
        # Sums first, one after the other, so that no block but an accumulator lives through a loop.
        tl.store(block(above_ptr, H, offs_s, offs_h), delta_d)
        add_to(d_vectors_ptr + (i + 1) * H + offs_h, tl.sum(delta_d, 0))
        tl.debug_barrier()
        to_delta = h_offset + 2 * tiles + (i + 1) * BS * H - BS * H
        add_outer(
            d_vectors_ptr + layers + i * H * H, above_ptr, to_delta, h_ptr + tile, -from_hd_to_h, 2,
            BS, H, CHUNK, DOT,
        )  # fmt: skip
        gbar_d = product(
            above_ptr, H, to_delta, vectors_ptr + transposes + i * H * H, H, step, H // CHUNK, 2,
            BS, H, CHUNK, DOT,
        )  # fmt: skip
        delta_d = gbar_d * tl.load(block(f1_ptr + tile, H, offs_s, offs_h))
        pd = tl.load(block(pd_ptr + tile, H, offs_s, offs_h))
        delta_d += tl.load(block(kappa_ptr + tile, H, offs_s, offs_h)) * pd
        tl.debug_barrier()
    return delta_d


@triton.jit
def shift_tangent(
    head_ptr, shift_ptr, kappa_sum_ptr, work_ptr, h_offset, slope_ptr, depth,
    BS: tl.constexpr, H: tl.constexpr, BQ: tl.constexpr, NQ: tl.constexpr, CHUNK: tl.constexpr,
    LOSS: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Sum over the draws of delta._0 (H,), of one sign, where p._0 is one row v for all draws.

    (act' v) A^T = act' (v A)^T, and sum kappa_0 v = v sum kappa_0 with a sum that no direction changes, so that two
    layers read three blocks a direction and write none.
    """
    offs_h, offs_s = tl.arange(0, H), tl.arange(0, BS)
    tiles, layers = depth * BS * H, (depth + 2) * H
    transposes = layers + (depth - 1) * H * H
    vectors_ptr = head_ptr + H * NQ * BQ
    pd_ptr = work_ptr + 2 * BS * H
    hd_ptr, h_ptr = pd_ptr + tiles, work_ptr + h_offset
    f1_ptr, kappa_ptr = h_ptr + tiles, h_ptr + 3 * tiles
    v = tl.load(shift_ptr + offs_h)
    pd = v[None, :] + tl.zeros((BS, H), tl.float32)
    if depth > 1:
        pd = tl.zeros((BS, H), tl.float32)
        for j in range(H // CHUNK):
            offs_k = j * CHUNK + tl.arange(0, CHUNK)
            f1 = tl.load(block(f1_ptr, H, offs_s, offs_k))
            A = tl.load(block(vectors_ptr + layers, H, offs_h, offs_k)) * tl.load(shift_ptr + offs_k)[None, :]
            pd = tl.dot(f1, tl.trans(A), pd, input_precision=DOT)
    for i in range(1, depth - 1):
        tile = i * BS * H
        f1 = tl.load(block(f1_ptr + tile, H, offs_s, offs_h))
        tl.store(block(pd_ptr + tile, H, offs_s, offs_h), pd)
        tl.store(block(hd_ptr + tile, H, offs_s, offs_h), f1 * pd)
        tl.debug_barrier()
        pd = product(
            hd_ptr + tile, H, 0, vectors_ptr + layers + i * H * H, H, 0, H // CHUNK, 1, BS, H, CHUNK, DOT
        )  # fmt: skip
    if LOSS == "none":
        delta_d = tl.load(block(kappa_ptr + tiles - BS * H, H, offs_s, offs_h)) * pd
    else:
        a = tl.load(vectors_ptr + depth * H + offs_h)
        f1 = tl.load(block(f1_ptr + tiles - BS * H, H, offs_s, offs_h))
        slope_d = tl.load(slope_ptr + 2 * BS + offs_s) * tl.sum(f1 * pd * a[None, :], 1)
        delta_d = tl.load(block(kappa_ptr + tiles - BS * H, H, offs_s, offs_h)) * pd
        delta_d += slope_d[:, None] * a[None, :] * f1
    for j in range(depth - 2):
        i = depth - 2 - j
        tile = i * BS * H
        A = tl.load(block(vectors_ptr + transposes + i * H * H, H, offs_h, offs_h))
        gbar_d = tl.dot(delta_d, tl.trans(A), input_precision=DOT)
        delta_d = gbar_d * tl.load(block(f1_ptr + tile, H, offs_s, offs_h))
        pd = tl.load(block(pd_ptr + tile, H, offs_s, offs_h))
        delta_d += tl.load(block(kappa_ptr + tile, H, offs_s, offs_h)) * pd
    total = tl.sum(delta_d, 0)
    if depth > 1:
        A = tl.load(block(vectors_ptr + transposes, H, offs_h, offs_h))
        gbar_d = tl.dot(delta_d, tl.trans(A), input_precision=DOT)
        total = tl.sum(gbar_d * tl.load(block(f1_ptr, H, offs_s, offs_h)), 0)
        total += v * tl.load(kappa_sum_ptr + offs_h)
    return total


@triton.jit(do_not_specialize=SIZES)
def _expectation_primal_kernel(
    head_ptr,  # float32, the packed head
    points_ptr, stride_point, stride_point_column,  # float32 (n, q), if POINTS
    weights_ptr, stride_weight,  # float32 (n,), if WEIGHTS
    values_ptr,  # float32 (programs,), written: the sum over signs and draws of weight * g
    sums_ptr,  # float32 (programs, size of a gradient), zeros: the sums of the gradient (untouched if SHIFT_ONLY)
    scratch_ptr,  # float32 (programs, BS * ((2 depth + 3) H + tiles (qp + 8 depth H + 4)))
    n, batch_size, first, seed, purpose,  # as in the value's kernel
    tile_start, tiles, splits,
    q, n_q, depth, n_signs, target, iota,
    BS: tl.constexpr, H: tl.constexpr, BQ: tl.constexpr, NQ: tl.constexpr, CHUNK: tl.constexpr,
    ACTIVATION: tl.constexpr, LOSS: tl.constexpr, POINTS: tl.constexpr, WEIGHTS: tl.constexpr, DOT: tl.constexpr,
    SHIFT_ONLY: tl.constexpr,
):  # fmt: skip
    begin, stop, tile, tile_end = tile_range(n, batch_size, tile_start, tiles, splits, BS)
    pid = tl.program_id(0).to(tl.int64)
    qp = NQ * BQ
    d_first_ptr = sums_ptr + pid * (H * qp + (depth + 2) * H + (depth - 1) * H * H)
    work, state = (2 * depth + 3) * BS * H, BS * (qp + 8 * depth * H + 4)
    u_ptr = scratch_ptr + pid * (work + tiles * state)
    difference_ptr = u_ptr + 2 * (depth + 1) * BS * H
    total = tl.zeros((BS,), tl.float32)
    for t in range(tile, tile_end):
        row = begin + tl.cast(t, tl.int64) * BS
        xi_ptr = u_ptr + work + (t - tile) * state
        slope_ptr = xi_ptr + BS * qp
        first_product(
            head_ptr, xi_ptr, u_ptr,
            points_ptr, stride_point, stride_point_column, row, stop, first, seed, purpose, q, n_q,
            BS, H, BQ, NQ, POINTS, DOT, not SHIFT_ONLY,
        )  # fmt: skip
        weight = row_weights(weights_ptr, stride_weight, row, stop, BS, WEIGHTS)
        for i_sign in range(n_signs):
            tl.debug_barrier()
            total += primal(
                head_ptr, d_first_ptr + H * qp, difference_ptr, u_ptr,
                slope_ptr + 4 * BS + i_sign * 4 * depth * BS * H, slope_ptr + i_sign * BS,
                NQ, depth, 1.0 - 2.0 * i_sign, weight, target, iota,
                BS, H, BQ, CHUNK, ACTIVATION, LOSS, SHIFT_ONLY, DOT,
            )  # fmt: skip
        tl.debug_barrier()
        if not SHIFT_ONLY:
            add_first_gradient(d_first_ptr, xi_ptr, difference_ptr, NQ, BS, H, BQ, CHUNK, DOT)
            tl.debug_barrier()
    tl.store(values_ptr + tl.program_id(0), tl.sum(total, 0))


@triton.jit(do_not_specialize=SIZES)
def _expectation_tangent_kernel(
    head_ptr,  # float32, the packed head; unless SHIFT_ONLY the packed directions lie behind it
    directions_ptr, stride_direction,  # float32 (n_directions, H) if SHIFT_ONLY; else the stride of those
    products_ptr,  # float32 (programs, n_directions, size of a gradient, or H), zeros: the sums of the products
    n_directions,
    scratch_ptr,  # as the primal kernel left it
    n, batch_size, tile_start, tiles, splits, depth, n_signs,
    BS: tl.constexpr, H: tl.constexpr, BQ: tl.constexpr, NQ: tl.constexpr, CHUNK: tl.constexpr,
    LOSS: tl.constexpr, DOT: tl.constexpr, SHIFT_ONLY: tl.constexpr,
):  # fmt: skip
    _, _, tile, tile_end = tile_range(n, batch_size, tile_start, tiles, splits, BS)
    pid = tl.program_id(0).to(tl.int64)
    offs_h, offs_s = tl.arange(0, H), tl.arange(0, BS)
    qp = NQ * BQ
    size = H * qp + (depth + 2) * H + (depth - 1) * H * H
    work, state = (2 * depth + 3) * BS * H, BS * (qp + 8 * depth * H + 4)
    tangent_ptr = scratch_ptr + pid * (work + tiles * state)  # M. xi, delta._l, p._l, h._l, difference
    difference_ptr = tangent_ptr + 2 * (depth + 1) * BS * H
    for t in range(tile, tile_end):
        xi = work + (t - tile) * state
        slopes = xi + BS * qp
        if SHIFT_ONLY:
            for i_sign in range(n_signs):
                kappa_ptr = tangent_ptr + slopes + 4 * BS + (4 * i_sign + 3) * depth * BS * H
                kappa_sum = tl.sum(tl.load(block(kappa_ptr, H, offs_s, offs_h)), 0)
                tl.store(difference_ptr + i_sign * H + offs_h, kappa_sum)
            tl.debug_barrier()
        for i_direction in range(n_directions):
            step = tl.cast(i_direction + 1, tl.int64) * stride_direction
            if SHIFT_ONLY:
                d_ptr = products_ptr + (pid * n_directions + i_direction) * H
            else:
                d_ptr = products_ptr + (pid * n_directions + i_direction) * size + H * qp
                ud = product(tangent_ptr + xi, qp, 0, head_ptr + step, qp, 0, NQ, 1, BS, H, BQ, DOT)
                tl.store(block(tangent_ptr, H, offs_s, offs_h), ud)
            for i_sign in range(n_signs):
                tl.debug_barrier()
                h_offset = slopes + 4 * BS + i_sign * 4 * depth * BS * H
                slope_ptr = tangent_ptr + slopes + i_sign * BS
                if SHIFT_ONLY:
                    total = shift_tangent(
                        head_ptr, directions_ptr + step - stride_direction, difference_ptr + i_sign * H, tangent_ptr,
                        h_offset, slope_ptr, depth, BS, H, BQ, NQ, CHUNK, LOSS, DOT,
                    )  # fmt: skip
                    add_to(d_ptr + offs_h, total)
                else:
                    sign = 1.0 - 2.0 * i_sign
                    delta_d = tangent(
                        head_ptr, head_ptr + step, step, d_ptr, tangent_ptr, h_offset, slope_ptr, NQ, depth, sign,
                        BS, H, BQ, CHUNK, DOT,
                    )  # fmt: skip
                    add_to(d_ptr + offs_h, tl.sum(delta_d, 0))
                    keep_difference(difference_ptr, delta_d, sign, BS, H)
            if not SHIFT_ONLY:
                tl.debug_barrier()
                add_first_gradient(
                    d_ptr - H * qp, tangent_ptr + xi, difference_ptr, NQ, BS, H, BQ, CHUNK, DOT
                )
                tl.debug_barrier()
