"""Device functions of the counter-based random numbers that every kernel shares.

One call of Philox-4x32-10 makes four 32-bit words from a key and a counter,

    key     = (seed low, seed high)
    counter = (row low, row high, column // 4, purpose),    word of (row, column) = lane column % 4,

so a number depends on its position, seed and purpose and on nothing else: not on the tile, the launch or
the engine. Four words make four normals (Box and Muller 1958), by pairs (w0, w1) and (w2, w3):

    u       = (w0 + 1/2) 2^-32                      BITS = 32, or ((w0 >> 8) + 1/2) 2^-24 for BITS = 24
    radius  = sqrt(-2 ln u)                         at most 6.764 (32) or 5.887 (24)
    t       = (pi/4) (signed(w1 << 2) + 2) 2^-31    the lower 30 bits: 30 bits of angle in (-pi/4, pi/4)
    theta   = t, pi/2 - t, pi - t, t - pi/2         for the top two bits 0, 1, 2, 3
    normals = radius cos(theta), radius sin(theta)

Every quadrant is met by the same grid of t, which is symmetric and never 0, so the law is exactly symmetric.
No step needs a range reduction, a division or float64: ln u is a polynomial after its exponent is split
off (a library log2 costs 27 instructions, this 13), and near u = 1 the polynomial's argument is taken from the
word itself, read as a signed integer, so that small radii keep their relative accuracy.

Against exact arithmetic on the same words: relative error below 5e-7 everywhere. sm_90: see `catalog.py`.
Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
"""

from __future__ import annotations

import triton
import triton.language as tl

ROUNDS = tl.constexpr(10)
_MULTIPLY_0, _MULTIPLY_1 = tl.constexpr(0xD2511F53), tl.constexpr(0xCD9E8D57)
_WEYL_0, _WEYL_1 = tl.constexpr(0x9E3779B9), tl.constexpr(0xBB67AE85)
_WORD = tl.constexpr(32)

_UNIT_32, _HALF_UNIT_32 = tl.constexpr(2.0**-32), tl.constexpr(2.0**-33)
_UNIT_24, _HALF_UNIT_24 = tl.constexpr(2.0**-24), tl.constexpr(2.0**-25)
_TWO_THIRDS_BITS = tl.constexpr(0x3F2AAAAB)  # float32(2/3): mantissas are brought to [2/3, 4/3)
_EXPONENT_MASK = tl.constexpr(-0x800000)
_MINUS_2LN2_ULP = tl.constexpr(-1.3862943611198906 * 2.0**-23)  # -2 ln 2 for an exponent still 23 bits up
_ANGLE_UNIT, _HALF_ANGLE_STEP = (
    tl.constexpr(0.7853981633974483 * 2.0**-31),
    tl.constexpr(0.7853981633974483 * 2.0**-30),
)
_SIGN_BIT, _SWAP_BIT = tl.constexpr(0x80000000), tl.constexpr(0x40000000)


@triton.jit
def _round(c0, c1, c2, c3, k0, k1):
    """One round: two 32 x 32 -> 64 bit products (one IMAD.WIDE each) and two three-way xors."""
    p0 = c0.to(tl.uint64) * _MULTIPLY_0
    p1 = c2.to(tl.uint64) * _MULTIPLY_1
    high0, high1 = (p0 >> _WORD).to(tl.uint32), (p1 >> _WORD).to(tl.uint32)
    return high1 ^ c1 ^ k0, p1.to(tl.uint32), high0 ^ c3 ^ k1, p0.to(tl.uint32)


@triton.jit
def philox(c0, c1, c2, c3, k0, k1):
    """Four uint32 blocks of a counter and a key, both of uint32 blocks or scalars that broadcast."""
    for _ in tl.static_range(ROUNDS):
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
        k0 = tl.add(k0, _WEYL_0, sanitize_overflow=False)
        k1 = tl.add(k1, _WEYL_1, sanitize_overflow=False)
    return c0, c1, c2, c3


@triton.jit
def words4(rows, column_blocks, purpose, seed):
    """The four words of each position: lane l belongs to (row, 4 column_block + l).

    rows int32 or int64, column_blocks int32, of shapes that broadcast, such as (BS, 1) and (1, C): the first rounds
    then cost one row or one column, not a tile. purpose int32; seed an int64 scalar. Returns four uint32 blocks.
    """
    key = tl.cast(seed, tl.uint64)
    k0, k1 = key.to(tl.uint32), (key >> _WORD).to(tl.uint32)
    wide = tl.cast(rows, tl.uint64)
    c0, c1 = wide.to(tl.uint32), (wide >> _WORD).to(tl.uint32)
    return philox(c0, c1, tl.cast(column_blocks, tl.uint32), tl.cast(purpose, tl.uint32), k0, k1)


@triton.jit
def _minus_2ln(word, BITS: tl.constexpr):
    """-2 ln u of a word's u, relative error below 3e-7."""
    if BITS == 24:
        below = (word >> 8).to(tl.float32) * _UNIT_24 + _HALF_UNIT_24
        near_1 = (word.to(tl.int32, bitcast=True) >> 8).to(tl.float32) * _UNIT_24 + _HALF_UNIT_24
    else:
        tl.static_assert(BITS == 32, "BITS is 24 or 32")
        below = word.to(tl.float32) * _UNIT_32 + _HALF_UNIT_32
        near_1 = word.to(tl.int32, bitcast=True).to(tl.float32) * _UNIT_32 + _HALF_UNIT_32
    bits = below.to(tl.int32, bitcast=True)
    exponent = (bits - _TWO_THIRDS_BITS) & _EXPONENT_MASK
    mantissa = (bits - exponent).to(tl.float32, bitcast=True)
    # u >= 2/3 has exponent 0, and the word read as signed is u - 1 without the rounding of u to 24 bits.
    x = tl.where(exponent == 0, near_1, mantissa - 1.0)
    # -2 log1p(x) / x on [-1/3, 1/3], minimax, 2.6e-8 relative.
    p = tl.fma(x, -0.2811223862, 0.3080639582)
    p = tl.fma(x, p, -0.2797529856)
    p = tl.fma(x, p, 0.3282558226)
    p = tl.fma(x, p, -0.4002388899)
    p = tl.fma(x, p, 0.5001605452)
    p = tl.fma(x, p, -0.6666633740)
    p = tl.fma(x, p, 0.9999986424)
    p = tl.fma(x, p, -2.000000007)
    return tl.fma(x, p, exponent.to(tl.float32) * _MINUS_2LN2_ULP)


@triton.jit
def box_muller(w0, w1, BITS: tl.constexpr):
    """The two normals of two words, float32 blocks."""
    radius = tl.sqrt(_minus_2ln(w0, BITS))
    t = (w1 << 2).to(tl.int32, bitcast=True).to(tl.float32) * _ANGLE_UNIT + _HALF_ANGLE_STEP
    z = t * t
    # Minimax on [0, pi/4]: sine to 3.6e-9 relative, cosine to 3.2e-8.
    s = tl.fma(z, tl.fma(z, -0.0001951729896, 0.008332178146), -0.1666665494)
    sine = tl.fma(t * z, s, t) * radius
    c = tl.fma(z, tl.fma(z, -0.001359782309, 0.04165629458), -0.4999989478)
    cosine = tl.fma(z, c, 1.0) * radius
    cosine = (cosine.to(tl.uint32, bitcast=True) ^ (w1 & _SIGN_BIT)).to(tl.float32, bitcast=True)
    is_swapped = (w1 & _SWAP_BIT) != 0
    return tl.where(is_swapped, sine, cosine), tl.where(is_swapped, cosine, sine)


@triton.jit
def normals4(rows, column_blocks, purpose, seed, BITS: tl.constexpr = 32):
    """The four normals of each position, float32 blocks; arguments as `words4`."""
    w0, w1, w2, w3 = words4(rows, column_blocks, purpose, seed)
    n0, n1 = box_muller(w0, w1, BITS)
    n2, n3 = box_muller(w2, w3, BITS)
    return n0, n1, n2, n3


@triton.jit
def interleave4(x0, x1, x2, x3, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Four (ROWS, COLUMNS / 4) blocks -> (ROWS, COLUMNS), entry [r, 4 c + l] from block l's [r, c]."""
    return tl.join(tl.join(x0, x2), tl.join(x1, x3)).reshape(ROWS, COLUMNS)


@triton.jit
def normal_tile(
    first_row,
    first_column_block,
    purpose,
    seed,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    BITS: tl.constexpr = 32,
):
    """Normals of rows first_row + [0, ROWS) and columns 4 first_column_block + [0, COLUMNS): float32 (ROWS, COLUMNS).

    first_row int64 (or int32) scalar; COLUMNS a multiple of 4 and, as ROWS, a power of two. The caller masks.
    """
    rows = first_row + tl.arange(0, ROWS)[:, None]
    blocks = first_column_block + tl.arange(0, COLUMNS // 4)[None, :]
    n0, n1, n2, n3 = normals4(rows, blocks, purpose, seed, BITS)
    return interleave4(n0, n1, n2, n3, ROWS, COLUMNS)
