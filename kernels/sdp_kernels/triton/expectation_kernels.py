"""Device code of the Gaussian expectation of a narrow network: its value, and its value with the gradient.

    p_0 = c_0 +- M xi,   p_l = A_l act(p_{l-1}) + c_l  (l = 1 ... D-1),   s = a . act(p_{D-1}) + c,   g = loss(s)

with xi ~ N(0, I_q) drawn in the kernel by position, or loaded. The launcher has folded L into the first layer, so
that the first product of a pair is one GEMM and nothing of size k is left (`expectation_law.py`).

Layout. Every width is padded with zeros to H (a power of two), q to qp = NQ * BQ, and a head is one vector of float32,

    [M (H, qp) | c_0 ... c_{D-1}, a, (c, 0 ...) (D + 2, H) | A_1 ... A_{D-1} (D - 1, H, H) | their transposes]

and its gradient is the same without the transposes. Padded units meet only zero weights, so they need no mask, and
D is a run-time argument: one compiled kernel serves all depths.

A program owns tiles of BS draws of one batch. Only two or three (BS, H) blocks live in registers at a time: what the
backward pass needs later (xi, M xi, p_l) goes to a scratch area of the program in global memory, which stays in the
caches, and the gradient is summed in a partial of the program, read, added to and written once a tile and matrix.
A barrier divides each write from the reads of other threads. Programs share nothing, so sums have one order.

Operations per draw of width H, D layers, both signs: value 2 H (qp + 2 (D - 1) H) in dots, gradient
2 H (2 qp + 6 (D - 1) H). No global traffic for the value; the gradient's scratch and partials are counted in
`catalog.py`. What lost to this structure: `expectation_configs.py`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from sdp_kernels.triton._math import activate, activate1, softplus2
from sdp_kernels.triton._philox import normal_tile

# Numbers of loops and sizes: a value of 1 must not become a constant, or a loop vanishes that some compilers need
# (sm_100 refuses a drawn operand outside a loop), and one compiled kernel serves all.
SIZES = (
    "n", "batch_size", "first", "seed", "purpose", "tile_start", "tiles", "splits", "q", "n_q", "depth", "n_signs",
    "n_directions", "stride_point", "stride_point_column", "stride_weight",
)  # fmt: skip


@triton.jit
def block(ptr, stride, rows, columns):
    """Pointers to entries (rows, columns) of a row-major matrix."""
    return ptr + (rows[:, None].to(tl.int64) * stride + columns[None, :])


@triton.jit
def add_to(ptr, value):
    """Add to memory that only this program touches: one vector or scalar."""
    tl.store(ptr, tl.load(ptr) + value)


@triton.jit
def loss2(s, LOSS: tl.constexpr, target):
    """g, g', g'' of the output s."""
    if LOSS == "none":
        return s, tl.full(s.shape, 1.0, tl.float32), tl.zeros(s.shape, tl.float32)
    elif LOSS == "mse":
        return 0.5 * (s - target) * (s - target), s - target, tl.full(s.shape, 1.0, tl.float32)
    else:
        tl.static_assert(LOSS == "logistic", "unknown LOSS")
        g, d, dd = softplus2(-target * s, 1.0)
        return g, -target * d, dd  # target^2 = 1


@triton.jit
def draw_tile(
    points_ptr, stride_row, stride_column, row, stop, first, q, jq, seed, purpose,
    BS: tl.constexpr, BQ: tl.constexpr, POINTS: tl.constexpr,
):  # fmt: skip
    """Block xi of rows row + [0, BS) and columns jq BQ + [0, BQ): (BS, BQ)."""
    if POINTS:
        rows = row + tl.arange(0, BS)
        columns = jq * BQ + tl.arange(0, BQ)
        offsets = rows[:, None] * stride_row + columns[None, :].to(tl.int64) * stride_column
        return tl.load(points_ptr + offsets, mask=(rows < stop)[:, None] & (columns < q)[None, :], other=0.0)
    else:
        # Columns past q meet zeros of M, rows past `stop` the weight 0.
        return normal_tile(first + row, jq * (BQ // 4), purpose, seed, BS, BQ)


@triton.jit
def row_weights(weights_ptr, stride_weight, row, stop, BS: tl.constexpr, WEIGHTS: tl.constexpr):
    """Weights of rows row + [0, BS), 0 past the batch: (BS,)."""
    rows = row + tl.arange(0, BS)
    if WEIGHTS:
        return tl.load(weights_ptr + rows * stride_weight, mask=rows < stop, other=0.0)
    else:
        return tl.where(rows < stop, 1.0, 0.0)


@triton.jit
def tile_range(n, batch_size, tile_start, tiles, splits, BS: tl.constexpr):
    """First row and end of this program's batch, first tile and end of its tiles (counted within the batch)."""
    pid = tl.program_id(0)
    begin = (pid // splits).to(tl.int64) * batch_size
    stop = tl.minimum(begin + batch_size, n)
    tile = tile_start + (pid % splits) * tiles
    return begin, stop, tile, tl.minimum(tile + tiles, tl.cdiv(stop - begin, BS).to(tl.int32))


@triton.jit(do_not_specialize=SIZES)
def _expectation_value_kernel(
    head_ptr,  # float32, the packed head
    points_ptr, stride_point, stride_point_column,  # float32 (n, q), if POINTS
    weights_ptr, stride_weight,  # float32 (n,), if WEIGHTS
    values_ptr,  # float32 (programs,), written: the sum over signs and draws of weight * g
    n, batch_size, first, seed, purpose,  # draws in all and a batch; row of the first draw
    tile_start, tiles, splits,  # tiles of a batch that are done, tiles of a program, programs of a batch
    q, n_q, depth, n_signs, target, iota,
    BS: tl.constexpr, H: tl.constexpr, BQ: tl.constexpr, NQ: tl.constexpr,
    ACTIVATION: tl.constexpr, LOSS: tl.constexpr, POINTS: tl.constexpr, WEIGHTS: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    begin, stop, tile, tile_end = tile_range(n, batch_size, tile_start, tiles, splits, BS)
    offs_h, offs_q = tl.arange(0, H), tl.arange(0, BQ)
    qp = NQ * BQ
    vectors_ptr = head_ptr + H * qp
    layers_ptr = vectors_ptr + (depth + 2) * H
    total = tl.zeros((BS,), tl.float32)
    for t in range(tile, tile_end):
        row = begin + tl.cast(t, tl.int64) * BS
        u = tl.zeros((BS, H), tl.float32)
        for jq in range(n_q):
            xi = draw_tile(
                points_ptr, stride_point, stride_point_column, row, stop, first, q, jq, seed, purpose,
                BS, BQ, POINTS,
            )  # fmt: skip
            m = tl.load(block(head_ptr + jq * BQ, qp, offs_h, offs_q))
            u = tl.dot(xi, tl.trans(m), u, input_precision=DOT)
        weight = row_weights(weights_ptr, stride_weight, row, stop, BS, WEIGHTS)
        for sign in range(n_signs):
            p = tl.load(vectors_ptr + offs_h)[None, :] + (1.0 - 2.0 * sign) * u
            for i in range(depth - 1):
                h = activate(p, ACTIVATION, iota)
                A = tl.load(block(layers_ptr + i * H * H, H, offs_h, offs_h))
                p = tl.dot(h, tl.trans(A), input_precision=DOT)
                p += tl.load(vectors_ptr + (i + 1) * H + offs_h)[None, :]
            h = activate(p, ACTIVATION, iota)
            a = tl.load(vectors_ptr + depth * H + offs_h)
            s = tl.sum(h * a[None, :], 1) + tl.load(vectors_ptr + (depth + 1) * H)
            g, _, _ = loss2(s, LOSS, target)
            total += weight * g
    tl.store(values_ptr + tl.program_id(0), tl.sum(total, 0))


@triton.jit
def first_product(
    head_ptr, xi_ptr, u_ptr,
    points_ptr, stride_point, stride_point_column, row, stop, first, seed, purpose, q, n_q,
    BS: tl.constexpr, H: tl.constexpr, BQ: tl.constexpr, NQ: tl.constexpr, POINTS: tl.constexpr, DOT: tl.constexpr,
    KEEP: tl.constexpr,
):  # fmt: skip
    """Draw a tile, leave xi (BS, qp), if KEEP, and u = M xi (BS, H) in the scratch area."""
    offs_h, offs_q, offs_s = tl.arange(0, H), tl.arange(0, BQ), tl.arange(0, BS)
    u = tl.zeros((BS, H), tl.float32)
    for jq in range(n_q):
        xi = draw_tile(
            points_ptr, stride_point, stride_point_column, row, stop, first, q, jq, seed, purpose, BS, BQ, POINTS
        )  # fmt: skip
        if KEEP:
            tl.store(block(xi_ptr + jq * BQ, NQ * BQ, offs_s, offs_q), xi)
        m = tl.load(block(head_ptr + jq * BQ, NQ * BQ, offs_h, offs_q))
        u = tl.dot(xi, tl.trans(m), u, input_precision=DOT)
    tl.store(block(u_ptr, H, offs_s, offs_h), u)


@triton.jit
def load_preactivation(vectors_ptr, u_ptr, p_ptr, layer, sign, BS: tl.constexpr, H: tl.constexpr):
    """p_layer (BS, H) of the tile: p_0 from u, the others as the forward pass left them."""
    offs_h, offs_s = tl.arange(0, H), tl.arange(0, BS)
    if layer == 0:
        p = tl.load(vectors_ptr + offs_h)[None, :] + sign * tl.load(block(u_ptr, H, offs_s, offs_h))
    else:
        p = tl.load(block(p_ptr + layer * BS * H, H, offs_s, offs_h))
    return p


@triton.jit
def forward(
    vectors_ptr, layers_ptr, u_ptr, p_ptr, depth, sign, iota,
    BS: tl.constexpr, H: tl.constexpr, ACTIVATION: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """p_{D-1} (BS, H); p_1 ... p_{D-2} are left in the scratch area."""
    offs_h, offs_s = tl.arange(0, H), tl.arange(0, BS)
    p = load_preactivation(vectors_ptr, u_ptr, p_ptr, 0, sign, BS, H)
    for i in range(depth - 1):
        h = activate(p, ACTIVATION, iota)
        A = tl.load(block(layers_ptr + i * H * H, H, offs_h, offs_h))
        p = tl.dot(h, tl.trans(A), input_precision=DOT)
        p += tl.load(vectors_ptr + (i + 1) * H + offs_h)[None, :]
        if i < depth - 2:
            tl.store(block(p_ptr + (i + 1) * BS * H, H, offs_s, offs_h), p)
    return p


@triton.jit
def add_first_gradient(
    sum_ptr, xi_ptr, delta_ptr, n_q,
    BS: tl.constexpr, H: tl.constexpr, BQ: tl.constexpr, CHUNK: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Add (delta of +xi - delta of -xi)^T xi, both from the scratch area, to dM: CHUNK rows at a time."""
    offs_h, offs_q = tl.arange(0, H), tl.arange(0, BQ)
    for jq in range(n_q):
        d_ptr = block(sum_ptr + jq * BQ, n_q * BQ, offs_h, offs_q)
        acc = tl.load(d_ptr)
        for j in range(BS // CHUNK):
            rows = j * CHUNK + tl.arange(0, CHUNK)
            delta = tl.load(block(delta_ptr, H, rows, offs_h))
            xi = tl.load(block(xi_ptr + jq * BQ, n_q * BQ, rows, offs_q))
            acc = tl.dot(tl.trans(delta), xi, acc, input_precision=DOT)
        tl.store(d_ptr, acc)


@triton.jit
def keep_difference(ptr, delta, sign, BS: tl.constexpr, H: tl.constexpr):
    """Leave delta (BS, H) of +xi in the scratch area, then of +xi less that of -xi."""
    d_ptr = block(ptr, H, tl.arange(0, BS), tl.arange(0, H))
    if sign > 0:
        tl.store(d_ptr, delta)
    else:
        tl.store(d_ptr, tl.load(d_ptr) - delta)


@triton.jit(do_not_specialize=SIZES)
def _expectation_grad_kernel(
    head_ptr,  # float32, the packed head
    points_ptr, stride_point, stride_point_column,  # float32 (n, q), if POINTS
    weights_ptr, stride_weight,  # float32 (n,), if WEIGHTS
    values_ptr,  # float32 (programs,), written: the sum over signs and draws of weight * g
    sums_ptr,  # float32 (programs, size of a gradient), zeros: the sums of the gradient
    scratch_ptr,  # float32 (programs, BS * (qp + (depth + 1) * H))
    n, batch_size, first, seed, purpose,  # as in the value's kernel
    tile_start, tiles, splits,
    q, n_q, depth, n_signs, target, iota,
    BS: tl.constexpr, H: tl.constexpr, BQ: tl.constexpr, NQ: tl.constexpr,
    ACTIVATION: tl.constexpr, LOSS: tl.constexpr, POINTS: tl.constexpr, WEIGHTS: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    begin, stop, tile, tile_end = tile_range(n, batch_size, tile_start, tiles, splits, BS)
    pid = tl.program_id(0).to(tl.int64)
    offs_h = tl.arange(0, H)
    qp = NQ * BQ
    vectors_ptr = head_ptr + H * qp
    layers_ptr = vectors_ptr + (depth + 2) * H
    transposes_ptr = layers_ptr + (depth - 1) * H * H
    d_first_ptr = sums_ptr + pid * (H * qp + (depth + 2) * H + (depth - 1) * H * H)
    d_vectors_ptr = d_first_ptr + H * qp
    d_layers_ptr = d_vectors_ptr + (depth + 2) * H
    xi_ptr = scratch_ptr + pid * BS * (qp + (depth + 1) * H)
    delta_ptr = xi_ptr + BS * qp
    u_ptr = delta_ptr + BS * H
    p_ptr = u_ptr  # p_l at slot l; slot 0 holds u
    total = tl.zeros((BS,), tl.float32)
    for t in range(tile, tile_end):
        row = begin + tl.cast(t, tl.int64) * BS
        first_product(
            head_ptr, xi_ptr, u_ptr,
            points_ptr, stride_point, stride_point_column, row, stop, first, seed, purpose, q, n_q,
            BS, H, BQ, NQ, POINTS, DOT, True,
        )  # fmt: skip
        weight = row_weights(weights_ptr, stride_weight, row, stop, BS, WEIGHTS)
        for i_sign in range(n_signs):
            sign = 1.0 - 2.0 * i_sign
            tl.debug_barrier()
            p = forward(vectors_ptr, layers_ptr, u_ptr, p_ptr, depth, sign, iota, BS, H, ACTIVATION, DOT)
            h, f1 = activate1(p, ACTIVATION, iota)
            a = tl.load(vectors_ptr + depth * H + offs_h)
            s = tl.sum(h * a[None, :], 1) + tl.load(vectors_ptr + (depth + 1) * H)
            g, slope, _ = loss2(s, LOSS, target)
            total += weight * g
            slope *= weight
            add_to(d_vectors_ptr + depth * H + offs_h, tl.sum(slope[:, None] * h, 0))
            add_to(d_vectors_ptr + (depth + 1) * H, tl.sum(slope, 0))
            delta = slope[:, None] * a[None, :] * f1
            tl.debug_barrier()
            for j in range(depth - 1):
                i = depth - 2 - j
                add_to(d_vectors_ptr + (i + 1) * H + offs_h, tl.sum(delta, 0))
                p = load_preactivation(vectors_ptr, u_ptr, p_ptr, i, sign, BS, H)
                h, f1 = activate1(p, ACTIVATION, iota)
                d_ptr = block(d_layers_ptr + i * H * H, H, offs_h, offs_h)
                tl.store(d_ptr, tl.dot(tl.trans(delta), h, tl.load(d_ptr), input_precision=DOT))
                A = tl.load(block(transposes_ptr + i * H * H, H, offs_h, offs_h))
                delta = tl.dot(delta, tl.trans(A), input_precision=DOT) * f1
            add_to(d_vectors_ptr + offs_h, tl.sum(delta, 0))
            keep_difference(delta_ptr, delta, sign, BS, H)
        tl.debug_barrier()
        add_first_gradient(d_first_ptr, xi_ptr, delta_ptr, NQ, BS, H, BQ, BS, DOT)
        tl.debug_barrier()
    tl.store(values_ptr + tl.program_id(0), tl.sum(total, 0))
