"""Products of dense rows with a random map on tensor cores: float32 results from 16-bit operands.

    out[i, c] = scale sum_f X[i, f] A[f, c],    A of signs, made in the loop over f, or of normals, from a slab

A float32 number is the exact sum of three numbers of 8 bits,

    x = p1 + p2 + p3,    p1 = x cut to 8 bits,  p2 = (x - p1) cut to 8 bits,  p3 = the rest,

each a bfloat16 (of the same exponents), so that a product with a sign, exact in any format, is three exact bfloat16
products: half the tensor time of three tf32 ones, which keep 22 bits, and no fp32 matrix cores on AMD. A normal is cut
likewise, and of the nine products the six with i + j <= 4 are kept: x a (1 - 0.7 2^-24), give or take as much and at
most 2^-21 (emulated, 10^6 pairs; three tf32 products: give or take 1.3 2^-24, and as much at most, in as much tensor
time). Rows of float16, bfloat16 and uint8 are one part. Beside float16 and uint8 rows a normal is two float16 parts (22
bits, and 2^-25 at least: normals lie below 6.8), beside bfloat16 rows three bfloat16 ones.

Tensor cores cut off what they add (Fasi, Higham, Mikaitis and Pranesh 2021), which over thousands of terms is a bias.
So with float32 rows every CHUNK features are summed from zero on tensor cores and then added outside, rounded to
nearest (Ootomo and Yokota 2022). One-part rows are summed on tensor cores throughout a launch: uint8 rows and signs
are exact while their sums lie below 2^24, and 16-bit numbers carry larger errors of their own. An infinity in float32
rows becomes NaN: its rest is infinity - infinity.

Features ascend, so that a row's bits depend on nothing but the row and the map, chip and dtype.

Model, n rows, D features, k components, P products: 2 n D k P operations on tensor cores; size(X) n D k / BN bytes
through the second-level cache, and for planes 2 PLANES n D k / BM. A made tile of signs costs about 1 call of Philox
a 128 signs and 4 instructions a sign, and serves BM rows. A slab of normals costs 48 instructions a normal and serves
all rows; adding it to `out` costs 8 n k bytes a slab.
"""

from __future__ import annotations

import triton
import triton.language as tl

from sdp_kernels.triton._philox import interleave4, normal_tile, words4

_SIGNS = tl.constexpr(128)  # of a call of Philox
_UPPER_HALF = tl.constexpr(0xFFFF0000)  # sign, exponent and 7 bits: what a bfloat16 keeps of a float32
_POSITION = ("seed", "purpose", "first_feature", "first_call")


@triton.constexpr_function
def _dtype(name):
    return {"fp32": tl.float32, "bf16": tl.bfloat16, "fp16": tl.float16}[name]


@triton.constexpr_function
def _one(name):
    """The bits of 1, of float32 the upper half."""
    return {"fp32": 0x3F80, "bf16": 0x3F80, "fp16": 0x3C00}[name]


@triton.jit
def signs_of(
    features, calls, purpose, seed, ROWS: tl.constexpr, COLUMNS: tl.constexpr, OPERAND: tl.constexpr
):
    """Signs of features (ROWS, 1) and of calls (1, COLUMNS / 128), 128 columns each: OPERAND (ROWS, COLUMNS)."""
    w0, w1, w2, w3 = words4(features, calls, purpose, seed)
    words = interleave4(w0, w1, w2, w3, ROWS, COLUMNS // 32)
    is_minus = ((words[:, :, None] >> tl.arange(0, 32).to(tl.uint32)) & 1) ^ 1
    bits = (is_minus << 15) | _one(OPERAND)
    if OPERAND == "fp32":
        signs = (bits << 16).to(tl.float32, bitcast=True)
    else:
        signs = bits.to(tl.uint16).to(_dtype(OPERAND), bitcast=True)
    return signs.reshape(ROWS, COLUMNS)


@triton.jit
def _sign_tile(
    first_feature, first_call, purpose, seed,
    FEATURES: tl.constexpr, COLUMNS: tl.constexpr, OPERAND: tl.constexpr,
):  # fmt: skip
    features = first_feature + tl.arange(0, FEATURES)[:, None]
    calls = first_call + tl.arange(0, COLUMNS // _SIGNS)[None, :]
    return signs_of(features, calls, purpose, seed, FEATURES, COLUMNS, OPERAND)


@triton.jit
def _cut(x):
    """float32 -> its first 8 bits, and the rest; both exact."""
    first = (x.to(tl.uint32, bitcast=True) & _UPPER_HALF).to(tl.float32, bitcast=True)
    return first, x - first


@triton.jit
def _narrow(part, OPERAND: tl.constexpr):
    """A part of 8 bits as OPERAND, by its bits: a conversion that rounds takes five instructions on gfx942."""
    if OPERAND == "fp32":
        return part
    return (part.to(tl.uint32, bitcast=True) >> 16).to(tl.uint16).to(tl.bfloat16, bitcast=True)


@triton.jit
def three_parts(x, OPERAND: tl.constexpr):
    """float32 -> three OPERANDs of 8 bits whose sum it is."""
    p1, rest = _cut(x)
    p2, p3 = _cut(rest)
    return _narrow(p1, OPERAND), _narrow(p2, OPERAND), _narrow(p3, OPERAND)


@triton.jit
def _dot(x, a, acc):
    # "ieee" matters where operands are float32, in the interpreter alone.
    return tl.dot(x, a, acc, input_precision="ieee")


@triton.jit(do_not_specialize=_POSITION)
def _dense_map_kernel(
    x_ptr, stride_x_row, stride_x_column,  # any number (n, n_features), any strides
    planes_ptr, stride_plane, stride_planes_row,  # OPERAND (PLANES, n_features and more, k and more), unit stride
    out_ptr, stride_out_row,  # float32 (n, k), unit stride
    n, n_features, k, first_feature, first_call, seed, purpose, scale,
    SOURCE: tl.constexpr, PARTS: tl.constexpr, PLANES: tl.constexpr, OPERAND: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, CHUNK: tl.constexpr,
    IS_FIRST: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Writes out = scale ((0 if IS_FIRST else out) + X A), for these features and components.

    SOURCE: "signs" or "normals" makes A's features from first_feature on and components from first_call on (calls of
    128 signs, of 4 normals); "planes" reads it, padded to whole tiles by numbers that are finite. PARTS of X, 1 or 3.
    CHUNK: features summed on tensor cores before they are added outside; 0 for all. WIDE: offsets within a tile pass
    32 bits.
    """
    column_tiles = tl.cdiv(k, BN)
    row = (tl.program_id(0) // column_tiles).to(tl.int64) * BM
    tile = tl.program_id(0) % column_tiles
    offs_n = tile * BN + tl.arange(0, BN)
    offs_k = tl.arange(0, BK)
    # Rows past the last are the last again, so that loads need no mask for rows.
    rows = tl.minimum(tl.arange(0, BM), (n - 1 - row).to(tl.int32))[:, None]
    columns = offs_k[None, :]
    out_rows = tl.arange(0, BM)[:, None]
    if WIDE:
        rows, columns, out_rows = rows.to(tl.int64), columns.to(tl.int64), out_rows.to(tl.int64)
    x_ptr += row * stride_x_row
    x_offsets = rows * stride_x_row + columns * stride_x_column
    plane_offsets = offs_k[:, None] * stride_planes_row + offs_n[None, :]
    acc = tl.zeros((BM, BN), tl.float32)
    STEPS: tl.constexpr = CHUNK // BK if CHUNK else 1
    for start in range(0, n_features, STEPS * BK):
        part = tl.zeros((BM, BN), tl.float32) if CHUNK else acc
        for step in tl.static_range(STEPS):
            first = tl.cast(start + step * BK, tl.int64)
            is_feature = (offs_k < n_features - start - step * BK)[None, :]
            x = tl.load(x_ptr + first * stride_x_column + x_offsets, mask=is_feature, other=0)
            if SOURCE == "signs":
                call = first_call + tile * (BN // _SIGNS)
                a1 = _sign_tile(first_feature + first, call, purpose, seed, BK, BN, OPERAND)
            elif SOURCE == "normals":
                call = first_call + tile * (BN // 4)
                a1, a2, a3 = three_parts(
                    normal_tile(first_feature + first, call, purpose, seed, BK, BN), OPERAND
                )
            else:
                place = planes_ptr + first * stride_planes_row + plane_offsets
                a1 = tl.load(place)
                if PLANES > 1:
                    a2 = tl.load(place + stride_plane)
                if PLANES > 2:
                    a3 = tl.load(place + 2 * stride_plane)
            # Small products first.
            if PARTS == 1:
                x1 = x.to(_dtype(OPERAND))
                if PLANES > 2:
                    part = _dot(x1, a3, part)
                if PLANES > 1:
                    part = _dot(x1, a2, part)
                part = _dot(x1, a1, part)
            else:
                x1, x2, x3 = three_parts(x, OPERAND)
                part = _dot(x3, a1, part)
                if PLANES > 1:
                    part = _dot(x1, a3, part)
                    part = _dot(x2, a2, part)
                    part = _dot(x1, a2, part)
                part = _dot(x2, a1, part)
                part = _dot(x1, a1, part)
        acc = acc + part if CHUNK else part
    out_ptr += row * stride_out_row
    place = out_ptr + out_rows * stride_out_row + offs_n[None, :]
    mask = (row + tl.arange(0, BM) < n)[:, None] & (offs_n < k)[None, :]
    if not IS_FIRST:
        acc += tl.load(place, mask=mask, other=0.0)
    tl.store(place, acc * scale, mask=mask)
