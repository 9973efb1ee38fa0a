"""The fused pass over one batch of draws: a narrow head, its gradient and Hessian-vector products, in float32.

The lanes of every vector are draws: a layer's values are rows (unit, lane), lane = draw, and for antithetic pairs
draw + n_draws for the other sign. A block of draws is drawn, used and forgotten; it and the layers stay in the first
two caches. Products are `_tiles`; each block's sums go into float64 columns in order. One thread runs one batch, so
bits do not depend on their number. The formulas are those of `sdp_kernels._streamed`.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from sdp_kernels.cpu._activate import activate
from sdp_kernels.cpu._philox import philox
from sdp_kernels.cpu._tiles import LANES, add_product, set_product
from sdp_kernels.cpu.gaussian import CALLS, box_muller

NONE, MSE, LOGISTIC = range(3)
RESOLUTION = 32  # bits of the uniform behind a radius
_WORD, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)
_ONE, _ZERO = np.float32(1), np.float32(0)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def run(  # type: ignore[no-untyped-def]
    flat, flat_t, widths, starts, q, kind, activate_input, iota, loss, target, batches, scales, n_draws, n_signs, key,
    points, weights, order, only_b, directions, directions_t, moves, values, grads, hvps,
):  # fmt: skip
    """Sums over every batch of draws [batches[i], batches[i + 1]), times scales[i].

    flat (P,), directions (m, P) float32 columns and the same with every A transposed; widths [k, h_1, ...] and
    starts, the column of L, b, A_1, ..., a, c and P; key (seed, purpose, first row); moves[i] whether block i of
    columns is not 0 in some direction; points (n, q) or (0, q), weights (n,) or (0,), float32;
    values (B,), grads (B, P), hvps (B, m, P) or, `only_b`, (B, m, k): float64, zero.
    """
    for i in prange(len(batches) - 1):
        _batch(
            flat, flat_t, widths, starts, q, kind, activate_input, iota, loss, target, batches[i], batches[i + 1],
            n_draws, n_signs, key, points, weights, order, only_b, directions, directions_t, moves,
            values[i : i + 1], grads[i], hvps[i],
        )  # fmt: skip
        # Here the batch is still in the caches: a pass over all HVPs afterwards took a third of the time.
        values[i] *= scales[i]
        for j in range(grads.shape[1]):
            grads[i, j] *= scales[i]
        for direction in range(hvps.shape[1]):
            for j in range(hvps.shape[2]):
                hvps[i, direction, j] *= scales[i]


@njit(cache=True, nogil=True, error_model="numpy")
def _batch(  # type: ignore[no-untyped-def]
    flat, flat_t, widths, starts, q, kind, activate_input, iota, loss, target, first, last, n_draws, n_signs, key,
    points, weights, order, only_b, directions, directions_t, moves, value, grad, hvp,
):  # fmt: skip
    k, depth, S, m = widths[0], len(widths) - 1, n_draws, len(directions)
    lanes = n_signs * S
    widest = _padded(max(widths.max(), 1))
    q_columns = _padded(q)
    xi = np.zeros((4 * ((q + 3) // 4), S), np.float32)
    xi_t = np.zeros((S, q_columns), np.float32)
    row = np.empty((widest, lanes), np.float32)
    layers = (depth + 1, widest, lanes)
    h, f1, f2 = np.empty(layers, np.float32), np.empty(layers, np.float32), np.empty(layers, np.float32)
    delta = np.empty(layers, np.float32)
    h_t = np.zeros((depth + 1, lanes, widest), np.float32)
    delta_t = np.zeros((depth + 1, lanes, widest), np.float32)
    seed, curvature = np.zeros((1, lanes), np.float32), np.zeros((1, lanes), np.float32)
    scratch, bits = np.empty(widest * lanes, np.float32), np.empty(widest * lanes, np.int32)
    product = np.empty((widest, max(widest, q_columns)), np.float32)
    ht, pre, dt = np.empty(layers, np.float32), np.empty(layers, np.float32), np.empty(layers, np.float32)
    for start in range(first, last, S):
        count = min(S, last - start)
        if len(points):
            _load_points(points, start, count, q, xi)
        else:
            _draw(key, start, S, q, xi)
        set_product(flat.ctypes.data, q, xi.ctypes.data, S, row.ctypes.data, lanes, k, S, q)
        _both_signs(row, flat[starts[1] : starts[2]], k, S, n_signs, _ONE)
        # Forward.
        if activate_input:
            _activate_rows(kind, order, iota, row, h[0], f1[0], f2[0], k, lanes, scratch, bits)
        else:
            h[0, :k] = row[:k]
        for i in range(1, depth + 1):
            _fill(row, flat[starts[2 * i + 1] : starts[2 * i + 2]])
            _multiply(flat, starts[2 * i], widths[i], widths[i - 1], h[i - 1], row)
            _activate_rows(kind, order, iota, row, h[i], f1[i], f2[i], widths[i], lanes, scratch, bits)
        width = widths[depth]
        a = flat[starts[2 * depth + 2] : starts[2 * depth + 3]]
        row[0, :] = flat[starts[2 * depth + 3]]
        _multiply(flat, starts[2 * depth + 2], 1, width, h[depth], row)
        value[0] += _loss(loss, target, row[0], weights, start, count, S, n_signs, seed[0], curvature[0])
        if order == 0:
            continue
        # Backward: delta_i; the curvature dh_i f''_i takes the place of f''_i.
        for i in range(width):
            for j in range(lanes):
                row[i, j] = a[i] * seed[0, j]
        for i in range(depth, 0, -1):
            _adjoint(row, f1[i], f2[i], delta[i], widths[i], order)
            set_product(
                flat_t.ctypes.data + 4 * starts[2 * i], widths[i], delta[i].ctypes.data, lanes,
                row.ctypes.data, lanes, widths[i - 1], lanes, widths[i],
            )  # fmt: skip
        if activate_input:
            _adjoint(row, f1[0], f2[0], delta[0], k, order)
        else:
            delta[0, :k] = row[:k]
        # Gradient.
        _transpose(xi, xi_t, q, S)
        for i in range(depth):
            _transpose(h[i], h_t[i], widths[i], lanes)
        if order == 2 and not only_b:
            for i in range(1, depth + 1):
                _transpose(delta[i], delta_t[i], widths[i], lanes)
        _add_outer(delta[0], xi_t, k, q, S, n_signs, row, product, grad[: starts[1]])
        _add_row_sums(delta[0], k, grad[starts[1] : starts[2]])
        for i in range(1, depth + 1):
            _add_outer(
                delta[i], h_t[i - 1], widths[i], widths[i - 1], lanes, 1, row, product, grad[starts[2 * i] :]
            )
            _add_row_sums(delta[i], widths[i], grad[starts[2 * i + 1] :])
        _add_dots(h[depth], seed[0], width, grad[starts[2 * depth + 2] :])
        _add_row_sums(seed, 1, grad[starts[2 * depth + 3] :])
        # Hessian-vector products, one direction at a time over the same block.
        for j in range(m):
            v = directions[j]
            zt = ht[0]
            if moves[0]:
                set_product(v.ctypes.data, q, xi.ctypes.data, S, zt.ctypes.data, lanes, k, S, q)
                _both_signs(zt, v[starts[1] : starts[2]], k, S, n_signs, _ONE)
            else:
                _fill(zt, v[starts[1] : starts[2]])
            if activate_input:
                pre[0, :k] = zt[:k]
                _scale(zt, f1[0], k)
            for i in range(1, depth + 1):
                _fill(pre[i], v[starts[2 * i + 1] : starts[2 * i + 2]])
                _multiply(flat, starts[2 * i], widths[i], widths[i - 1], ht[i - 1], pre[i])
                if moves[2 * i]:
                    _multiply(v, starts[2 * i], widths[i], widths[i - 1], h[i - 1], pre[i])
                _product_rows(pre[i], f1[i], ht[i], widths[i])
            st = scratch[:lanes].reshape(1, lanes)
            st[0, :] = v[starts[2 * depth + 3]]
            _multiply(flat, starts[2 * depth + 2], 1, width, ht[depth], st)
            if moves[2 * depth + 2]:
                _multiply(v, starts[2 * depth + 2], 1, width, h[depth], st)
            for lane in range(lanes):
                st[0, lane] *= curvature[0, lane]
            va = v[starts[2 * depth + 2] : starts[2 * depth + 3]]
            for i in range(width):
                for lane in range(lanes):
                    row[i, lane] = a[i] * st[0, lane] + va[i] * seed[0, lane]
            for i in range(depth, 0, -1):
                _adjoint_tangent(row, f1[i], f2[i], pre[i], dt[i], widths[i])
                set_product(
                    flat_t.ctypes.data + 4 * starts[2 * i], widths[i], dt[i].ctypes.data, lanes,
                    row.ctypes.data, lanes, widths[i - 1], lanes, widths[i],
                )  # fmt: skip
                if moves[2 * i]:
                    _multiply(directions_t[j], starts[2 * i], widths[i - 1], widths[i], delta[i], row)
            if activate_input:
                _adjoint_tangent(row, f1[0], f2[0], pre[0], dt[0], k)
            else:
                dt[0, :k] = row[:k]
            if only_b:
                _add_row_sums(dt[0], k, hvp[j])
                continue
            out = hvp[j]
            _add_outer(dt[0], xi_t, k, q, S, n_signs, row, product, out[: starts[1]])
            _add_row_sums(dt[0], k, out[starts[1] : starts[2]])
            for i in range(1, depth + 1):
                here = out[starts[2 * i] :]
                _add_outer(dt[i], h_t[i - 1], widths[i], widths[i - 1], lanes, 1, row, product, here)
                _add_outer_transposed(ht[i - 1], delta_t[i], widths[i - 1], widths[i], lanes, product, here)
                _add_row_sums(dt[i], widths[i], out[starts[2 * i + 1] :])
            here = out[starts[2 * depth + 2] :]
            _add_dots(h[depth], st[0], width, here)
            _add_dots(ht[depth], seed[0], width, here)
            _add_row_sums(st, 1, out[starts[2 * depth + 3] :])


@njit(cache=True, nogil=True)
def _padded(n):  # type: ignore[no-untyped-def]
    return (n + LANES - 1) // LANES * LANES


@njit(cache=True, nogil=True)
def _load_points(points, start, count, q, xi):  # type: ignore[no-untyped-def]
    for j in range(q):
        for lane in range(count):
            xi[j, lane] = points[start + lane, j]
        for lane in range(count, xi.shape[1]):
            xi[j, lane] = _ZERO


@njit(cache=True, nogil=True)
def _draw(key, start, S, q, xi):  # type: ignore[no-untyped-def]
    """Normals of rows start to start + S: as `gaussian.normal`, columns of a call beside each other by S lanes."""
    k0, k1 = np.uint64(key[0]) & _LOW, np.uint64(key[0]) >> _WORD
    c3 = np.uint64(key[1])
    row0 = np.uint64(key[2] + start)
    words = np.empty((4, CALLS), np.uint32)
    u, exponents = np.empty(CALLS, np.float32), np.empty(CALLS, np.int32)
    normals = np.empty((4, CALLS), np.float32)
    n_calls = (q + 3) // 4
    calls_a_tile = CALLS // S
    for first in range(0, n_calls, calls_a_tile):
        for part in range(calls_a_tile):
            c2 = np.uint64(first + part)
            for lane in range(S):
                c = row0 + np.uint64(lane)
                w0, w1, w2, w3 = philox(c & _LOW, c >> _WORD, c2, c3, k0, k1)
                at = part * S + lane
                words[0, at], words[1, at], words[2, at], words[3, at] = w0, w1, w2, w3
        box_muller(words[0], words[1], RESOLUTION, u, exponents, normals[0], normals[1])
        box_muller(words[2], words[3], RESOLUTION, u, exponents, normals[2], normals[3])
        for part in range(min(calls_a_tile, n_calls - first)):
            for word in range(4):
                for lane in range(S):
                    xi[4 * (first + part) + word, lane] = normals[word, part * S + lane]


@njit(cache=True, nogil=True)
def _both_signs(x, shift, k, S, n_signs, one):  # type: ignore[no-untyped-def]
    """Rows u of S lanes to shift + u and, where there are two signs, shift - u in the lanes behind."""
    for i in range(k):
        c = shift[i]
        if n_signs == 2:
            for lane in range(S):
                x[i, S + lane] = c - x[i, lane]
        for lane in range(S):
            x[i, lane] = c + x[i, lane]


@njit(cache=True, nogil=True)
def _fill(x, shift):  # type: ignore[no-untyped-def]
    for i in range(len(shift)):
        for lane in range(x.shape[1]):
            x[i, lane] = shift[i]


@njit(cache=True, nogil=True)
def _multiply(columns, start, n_rows, depth, x, out):  # type: ignore[no-untyped-def]
    """Out += A x for the matrix A (n_rows, depth) at this column."""
    lanes = x.shape[1]
    add_product(
        columns.ctypes.data + 4 * start,
        depth,
        x.ctypes.data,
        lanes,
        out.ctypes.data,
        lanes,
        n_rows,
        lanes,
        depth,
    )


@njit(cache=True, nogil=True)
def _activate_rows(kind, order, iota, x, f, f1, f2, n_rows, lanes, scratch, bits):  # type: ignore[no-untyped-def]
    n = n_rows * lanes
    activate(
        kind, order, iota, x.reshape(-1)[:n], f.reshape(-1)[:n], f1.reshape(-1)[:n], f2.reshape(-1)[:n],
        scratch[:n], bits[:n],
    )  # fmt: skip


@njit(cache=True, nogil=True)
def _loss(loss, target, s, weights, start, count, S, n_signs, seed, curvature):  # type: ignore[no-untyped-def]
    """Sum of weighted losses, float64; weighted first and second derivatives of every lane (0 beyond the draws)."""
    total = 0.0
    for sign in range(n_signs):
        for i in range(S):
            lane = sign * S + i
            if i >= count:
                seed[lane], curvature[lane] = _ZERO, _ZERO
                continue
            w = weights[start + i] if len(weights) else _ONE
            x = np.float64(s[lane])
            if loss == NONE:
                g, d, dd = x, 1.0, 0.0
            elif loss == MSE:
                d = x - target
                g, dd = 0.5 * d * d, 1.0
            else:
                margin = target * x
                e = math.exp(-abs(margin))
                g = max(-margin, 0.0) + math.log1p(e)
                wrong = 1.0 / (1.0 + e) if margin < 0.0 else e / (1.0 + e)
                d = -target * wrong
                dd = target * target * e / ((1.0 + e) * (1.0 + e))
            total += w * g
            seed[lane], curvature[lane] = np.float32(w * d), np.float32(w * dd)
    return total


@njit(cache=True, nogil=True)
def _adjoint(dh, f1, f2, delta, n_rows, order):  # type: ignore[no-untyped-def]
    for i in range(n_rows):
        for lane in range(dh.shape[1]):
            delta[i, lane] = dh[i, lane] * f1[i, lane]
        if order == 2:
            for lane in range(dh.shape[1]):
                f2[i, lane] *= dh[i, lane]


@njit(cache=True, nogil=True)
def _adjoint_tangent(dht, f1, bend, pre, out, n_rows):  # type: ignore[no-untyped-def]
    for i in range(n_rows):
        for lane in range(dht.shape[1]):
            out[i, lane] = dht[i, lane] * f1[i, lane]
        for lane in range(dht.shape[1]):
            out[i, lane] += bend[i, lane] * pre[i, lane]


@njit(cache=True, nogil=True)
def _product_rows(x, y, out, n_rows):  # type: ignore[no-untyped-def]
    for i in range(n_rows):
        for lane in range(x.shape[1]):
            out[i, lane] = x[i, lane] * y[i, lane]


@njit(cache=True, nogil=True)
def _scale(x, y, n_rows):  # type: ignore[no-untyped-def]
    for i in range(n_rows):
        for lane in range(x.shape[1]):
            x[i, lane] *= y[i, lane]


@njit(cache=True, nogil=True)
def _transpose(x, out, n_rows, lanes):  # type: ignore[no-untyped-def]
    for lane in range(lanes):
        for i in range(n_rows):
            out[lane, i] = x[i, lane]


@njit(cache=True, nogil=True)
def _add_outer(x, y_t, n_rows, n_columns, lanes, n_signs, odd, product, out):  # type: ignore[no-untyped-def]
    """Out += x y^T, row-major; with two signs the odd part of x meets y, which has one."""
    if n_columns == 0:
        return
    if n_signs == 2:
        for i in range(n_rows):
            for lane in range(lanes):
                odd[i, lane] = x[i, lane] - x[i, lanes + lane]
        x = odd
    set_product(
        x.ctypes.data, x.shape[1], y_t.ctypes.data, y_t.shape[1], product.ctypes.data, product.shape[1],
        n_rows, _padded(n_columns), lanes,
    )  # fmt: skip
    for i in range(n_rows):
        # Slices: with one index of the form i n + j numba guards against negative ones and stays scalar.
        total, part = out[i * n_columns : (i + 1) * n_columns], product[i]
        for j in range(n_columns):
            total[j] += part[j]


@njit(cache=True, nogil=True)
def _add_outer_transposed(x, y_t, n_rows, n_columns, lanes, product, out):  # type: ignore[no-untyped-def]
    """Out += (x y^T)^T."""
    set_product(
        x.ctypes.data, x.shape[1], y_t.ctypes.data, y_t.shape[1], product.ctypes.data, product.shape[1],
        n_rows, _padded(n_columns), lanes,
    )  # fmt: skip
    for j in range(n_columns):
        total, part = out[j * n_rows : (j + 1) * n_rows], product[:, j]
        for i in range(n_rows):
            total[i] += part[i]


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _dot(x, y):  # type: ignore[no-untyped-def]
    total = _ZERO
    for lane in range(len(x)):
        total += x[lane] * y[lane]
    return total


@njit(cache=True, nogil=True, fastmath={"reassoc", "nsz"})
def _sum(x):  # type: ignore[no-untyped-def]
    total = _ZERO
    for lane in range(len(x)):
        total += x[lane]
    return total


@njit(cache=True, nogil=True)
def _add_dots(x, y, n_rows, out):  # type: ignore[no-untyped-def]
    for i in range(n_rows):
        out[i] += _dot(x[i], y)


@njit(cache=True, nogil=True)
def _add_row_sums(x, n_rows, out):  # type: ignore[no-untyped-def]
    for i in range(n_rows):
        out[i] += _sum(x[i])
