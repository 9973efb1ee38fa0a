"""Kernels of packed replicas; launchers, models and the reasons for the sizes are in `replicas.py`."""

from __future__ import annotations

import triton
import triton.language as tl

from sdp_kernels.triton._edges import LIMB

EDGES_COUNTED = 8  # edges of a thread that one pass of carry-save adders takes
_EIGHT = tl.constexpr(EDGES_COUNTED)
_WORD = tl.constexpr(32)
_LIMB_UNIT = tl.constexpr(float(1 << LIMB))
_BYTE_ONES = tl.constexpr(0x01010101)
_BYTE_PAIRS = tl.constexpr(0x00FF00FF)


@triton.jit
def _add3(a, b, c):
    """Sum bits and carry bits of three words."""
    half = a ^ b
    return half ^ c, (a & b) | (half & c)


@triton.jit
def _add2(a, b):
    """Sum bits and carry bits of two words."""
    return a ^ b, a & b


@triton.jit
def _crossings(
    columns, mask_words, stride_vertex, rows_ptr, cols_ptr, edges, count, WHOLE: tl.constexpr
):  # fmt: skip
    """Bits of the replicas that cut an edge: int32 (EDGES, WORDS), 0 for edges from `count` on.

    columns: pointers (WORDS,) to the words of vertex 0; WHOLE says that all of them exist.
    """
    mask_edges = edges < count
    # int64: vertex * stride passes 2^31 at 67 million vertices of 32 words.
    i = tl.load(rows_ptr + edges, mask=mask_edges, other=0).to(tl.int64)
    j = tl.load(cols_ptr + edges, mask=mask_edges, other=0).to(tl.int64)  # i = j cuts nothing
    place_i = columns[None, :] + (i * stride_vertex)[:, None]
    place_j = columns[None, :] + (j * stride_vertex)[:, None]
    if WHOLE:
        crossings = tl.load(place_i) ^ tl.load(place_j)
    else:
        mask = mask_words[None, :]
        crossings = tl.load(place_i, mask=mask, other=0) ^ tl.load(place_j, mask=mask, other=0)
    return crossings


@triton.jit
def _bytes(p0, p1, p2, p3, p4, p5, p6, p7, FIRST: tl.constexpr):
    """Byte q of a word: the count, below 256, that eight planes hold for bit FIRST + 8 q."""
    counts = (p0 >> FIRST) & _BYTE_ONES
    counts |= ((p1 >> FIRST) & _BYTE_ONES) << 1
    counts |= ((p2 >> FIRST) & _BYTE_ONES) << 2
    counts |= ((p3 >> FIRST) & _BYTE_ONES) << 3
    counts |= ((p4 >> FIRST) & _BYTE_ONES) << 4
    counts |= ((p5 >> FIRST) & _BYTE_ONES) << 5
    counts |= ((p6 >> FIRST) & _BYTE_ONES) << 6
    return counts | (((p7 >> FIRST) & _BYTE_ONES) << 7)


@triton.jit
def _store_halves(place, halves, mask):
    """Two 16-bit counts of a word to `place` and 16 bits of a word further."""
    tl.store(place, halves & 0xFFFF, mask=mask)
    tl.store(place + 16, (halves >> 16) & 0xFFFF, mask=mask)


@triton.jit
def _count_kernel(
    packed_ptr, stride_vertex, stride_word,  # int32 (n, n_words)
    rows_ptr, cols_ptr,  # int32 (m,)
    begins_ptr,          # int64 (n_chunks + 1,)
    partial_ptr,         # int32 (n_chunks, n_words, 32)
    n_words,
    EDGES: tl.constexpr, WORDS: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """partial[p, w, b] = how many edges of chunk p replica 32 w + b cuts; at most 8 PASSES edges a thread."""
    chunk = tl.program_id(0).to(tl.int64)
    words = tl.program_id(1) * WORDS + tl.arange(0, WORDS)
    mask_words = words < n_words
    columns = packed_ptr + words.to(tl.int64) * stride_word  # transposed words lie n apart
    begin = tl.load(begins_ptr + chunk)
    count = (tl.load(begins_ptr + chunk + 1) - begin).to(tl.int32)
    rows_ptr += begin
    cols_ptr += begin
    lanes = tl.arange(0, EDGES)
    zero = tl.zeros((EDGES, WORDS), tl.int32)
    ones, twos, fours, p3, p4, p5, p6, p7 = zero, zero, zero, zero, zero, zero, zero, zero
    for first in range(0, count, EDGES * _EIGHT):
        e = first + lanes
        x0 = _crossings(columns, mask_words, stride_vertex, rows_ptr, cols_ptr, e, count, WHOLE)
        x1 = _crossings(columns, mask_words, stride_vertex, rows_ptr, cols_ptr, e + EDGES, count, WHOLE)
        x2 = _crossings(columns, mask_words, stride_vertex, rows_ptr, cols_ptr, e + 2 * EDGES, count, WHOLE)
        x3 = _crossings(columns, mask_words, stride_vertex, rows_ptr, cols_ptr, e + 3 * EDGES, count, WHOLE)
        x4 = _crossings(columns, mask_words, stride_vertex, rows_ptr, cols_ptr, e + 4 * EDGES, count, WHOLE)
        x5 = _crossings(columns, mask_words, stride_vertex, rows_ptr, cols_ptr, e + 5 * EDGES, count, WHOLE)
        x6 = _crossings(columns, mask_words, stride_vertex, rows_ptr, cols_ptr, e + 6 * EDGES, count, WHOLE)
        x7 = _crossings(columns, mask_words, stride_vertex, rows_ptr, cols_ptr, e + 7 * EDGES, count, WHOLE)
        ones, two_a = _add3(ones, x0, x1)
        ones, two_b = _add3(ones, x2, x3)
        twos, four_a = _add3(twos, two_a, two_b)
        ones, two_a = _add3(ones, x4, x5)
        ones, two_b = _add3(ones, x6, x7)
        twos, four_b = _add3(twos, two_a, two_b)
        fours, carry = _add3(fours, four_a, four_b)
        p3, carry = _add2(p3, carry)
        p4, carry = _add2(p4, carry)
        p5, carry = _add2(p5, carry)
        p6, carry = _add2(p6, carry)
        p7 = p7 ^ carry
    place = partial_ptr + (chunk * n_words + words) * _WORD
    for bit in tl.static_range(8):
        counts = _bytes(ones, twos, fours, p3, p4, p5, p6, p7, bit)
        # Two counts a word: at most 248 a thread, and 256 threads, so that 16 bits hold their sum.
        _store_halves(place + bit, tl.sum(counts & _BYTE_PAIRS, axis=0), mask_words)
        _store_halves(place + bit + 8, tl.sum((counts >> 8) & _BYTE_PAIRS, axis=0), mask_words)


@triton.jit
def _add_bits(sums, words, limb):
    """sums[b] += limb where bit b of a word is set; a tuple of int32 (EDGES, WORDS)."""
    added = ()
    for b in tl.static_range(len(sums)):  # triton compiles no starred tuple
        added = added + (sums[b] + ((words >> b) & 1) * limb,)  # type: ignore[assignment]  # noqa: RUF005
    return added


@triton.jit
def _add(totals, sums):
    """totals[b] += sums[b]; tuples of int64 and int32 blocks."""
    added = ()
    for b in tl.static_range(len(sums)):
        added = added + (totals[b] + sums[b].to(tl.int64),)  # type: ignore[assignment]  # noqa: RUF005
    return added


@triton.jit
def _limb(weight, scale, LOW: tl.constexpr):
    """One limb of `weight * scale`, int32, cut towards zero; all products are exact (but for what LOW cuts off)."""
    scaled = weight * scale
    limb = scaled.to(tl.int32)
    if LOW:
        limb = ((scaled - limb.to(tl.float32)) * _LIMB_UNIT).to(tl.int32)
    return limb


@triton.jit
def _sum_kernel(
    packed_ptr, stride_vertex, stride_word,  # int32 (n, n_words)
    rows_ptr, cols_ptr,  # int32 (m,)
    weights_ptr, scale,  # float32 (m,); 2^exponent
    begins_ptr,          # int64 (n_chunks + 1,)
    partial_ptr,         # int64 (n_chunks, n_words, 32)
    n_words,
    LOW: tl.constexpr, EDGES: tl.constexpr, STEPS: tl.constexpr, WORDS: tl.constexpr, WHOLE: tl.constexpr,
    BITS: tl.constexpr,
):  # fmt: skip
    """partial[p, w, b] = sum of a limb of the weights of chunk p's edges that replica 32 w + b cuts.

    A thread adds up STEPS <= 32 edges in int32, then goes over to int64. A program takes BITS bits of its words.
    """
    chunk = tl.program_id(0).to(tl.int64)
    words = tl.program_id(1) * WORDS + tl.arange(0, WORDS)
    first_bit = tl.program_id(2) * BITS
    mask_words = words < n_words
    columns = packed_ptr + words.to(tl.int64) * stride_word  # transposed words lie n apart
    begin = tl.load(begins_ptr + chunk)
    count = (tl.load(begins_ptr + chunk + 1) - begin).to(tl.int32)
    rows_ptr += begin
    cols_ptr += begin
    weights_ptr += begin
    lanes = tl.arange(0, EDGES)
    totals = (tl.zeros((EDGES, WORDS), tl.int64),) * BITS
    for first in range(0, count, EDGES * STEPS):
        sums = (tl.zeros((EDGES, WORDS), tl.int32),) * BITS
        for step in range(STEPS):
            e = first + step * EDGES + lanes
            limb = _limb(tl.load(weights_ptr + e, mask=e < count, other=0.0), scale, LOW)[:, None]
            crossings = _crossings(columns, mask_words, stride_vertex, rows_ptr, cols_ptr, e, count, WHOLE)
            sums = _add_bits(sums, crossings >> first_bit, limb)
        totals = _add(totals, sums)
    for b in tl.static_range(BITS):
        place = (chunk * n_words + words) * _WORD + first_bit + b
        tl.store(partial_ptr + place, tl.sum(totals[b], axis=0), mask=mask_words)


@triton.jit
def _total_kernel(
    partial_ptr,    # int32 or int64 (n_chunks, n_words, 32)
    group_ptr_ptr,  # int32 (n_groups + 1,)
    scales_ptr,     # float64 (n_groups,)
    values_ptr,     # float64 (n_words, 32)
    n_words, n_groups,
    CHUNKS: tl.constexpr,
):  # fmt: skip
    """values[w, b] = sum over groups in order of scale * (integer sum over the group's chunks)."""
    word = tl.program_id(0).to(tl.int64)
    bits = tl.arange(0, _WORD)
    value = tl.zeros((_WORD,), tl.float64)
    for group in range(n_groups):
        begin, end = tl.load(group_ptr_ptr + group), tl.load(group_ptr_ptr + group + 1)
        total = tl.zeros((CHUNKS, _WORD), tl.int64)
        for first in range(begin, end, CHUNKS):
            chunks = first + tl.arange(0, CHUNKS)
            place = (chunks.to(tl.int64) * n_words + word)[:, None] * _WORD + bits[None, :]
            total += tl.load(partial_ptr + place, mask=(chunks < end)[:, None], other=0).to(tl.int64)
        value += tl.load(scales_ptr + group) * tl.sum(total, axis=0).to(tl.float64)
    tl.store(values_ptr + word * _WORD + bits, value)


@triton.jit
def _pack_kernel(
    signs_ptr, stride_vertex, stride_replica,  # int8 (n, n_replicas), bool as 0 and 1; any strides
    packed_ptr,  # int32 (n, n_words), contiguous
    n, n_replicas, n_words,
    ROWS: tl.constexpr, WORDS: tl.constexpr,
):  # fmt: skip
    """packed[i, w] bit b = signs[i, 32 w + b] > 0."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    words = tl.program_id(1) * WORDS + tl.arange(0, WORDS)
    replicas = tl.program_id(1) * (WORDS * _WORD) + tl.arange(0, WORDS * _WORD)
    place = signs_ptr + rows[:, None] * stride_vertex + replicas[None, :].to(tl.int64) * stride_replica
    signs = tl.load(place, mask=(rows < n)[:, None] & (replicas < n_replicas)[None, :], other=0)
    mask = (rows < n)[:, None] & (words < n_words)[None, :]
    tl.store(
        packed_ptr + rows[:, None] * n_words + words[None, :],
        _packed((signs > 0).to(tl.int32), ROWS, WORDS),
        mask=mask,
    )


@triton.jit
def _packed(bits, ROWS: tl.constexpr, WORDS: tl.constexpr):
    """Words (ROWS, WORDS) of bits (ROWS, 32 WORDS), both int32 or both uint32."""
    bits = bits << (tl.arange(0, WORDS * _WORD) % _WORD)[None, :]
    return tl.sum(bits.reshape(ROWS, WORDS, _WORD), axis=2)  # a sum of different bits is their union


@triton.jit
def _unpack_kernel(
    packed_ptr, stride_vertex, stride_word,  # int32 (n, n_words), any strides
    signs_ptr,  # int8 (n, n_replicas), contiguous
    n, n_replicas, n_words,
    ROWS: tl.constexpr, WORDS: tl.constexpr,
):  # fmt: skip
    """signs[i, 32 w + b] = 2 (bit b of packed[i, w]) - 1."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    words = tl.program_id(1) * WORDS + tl.arange(0, WORDS)
    mask = (rows < n)[:, None] & (words < n_words)[None, :]
    place = packed_ptr + rows[:, None] * stride_vertex + words[None, :].to(tl.int64) * stride_word
    packed = tl.load(place, mask=mask, other=0)
    bits = (packed[:, :, None] >> tl.arange(0, _WORD)[None, None, :]) & 1
    signs = (bits.to(tl.int8) * 2 - 1).reshape(ROWS, WORDS * _WORD)
    replicas = tl.program_id(1) * (WORDS * _WORD) + tl.arange(0, WORDS * _WORD)
    mask = (rows < n)[:, None] & (replicas < n_replicas)[None, :]
    tl.store(signs_ptr + rows[:, None] * n_replicas + replicas[None, :], signs, mask=mask)


@triton.jit
def _project_kernel(
    v_ptr,       # float32 (n, r), contiguous
    planes_ptr,  # float32 (r, n_planes), contiguous
    packed_ptr,  # int32 (n, n_words), contiguous
    n, r, n_planes, n_words,
    ROWS: tl.constexpr, WORDS: tl.constexpr, TERMS: tl.constexpr, ALIGNED: tl.constexpr,
):  # fmt: skip
    """packed[i, w] bit b = (V planes)[i, 32 w + b] >= 0; replicas beyond n_planes stay 0.

    ALIGNED says that r and n_planes are multiples of 4; then a thread loads 16 bytes at once.
    """
    if ALIGNED:  # they stay what they are; by this the compiler knows
        r = r // 4 * 4
        n_planes = n_planes // 4 * 4
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    planes = tl.program_id(1) * (WORDS * _WORD) + tl.arange(0, WORDS * _WORD)
    acc = tl.zeros((ROWS, WORDS * _WORD), tl.float32)
    for first in range(0, r, TERMS):
        terms = first + tl.arange(0, TERMS)
        mask = (rows < n)[:, None] & (terms < r)[None, :]
        v = tl.load(v_ptr + rows[:, None] * r + terms[None, :], mask=mask, other=0.0)
        mask = (terms < r)[:, None] & (planes < n_planes)[None, :]
        place = planes_ptr + terms[:, None].to(tl.int64) * n_planes + planes[None, :]
        acc = tl.dot(v, tl.load(place, mask=mask, other=0.0), acc, input_precision="ieee")
    # Sums that begin with +0 are never -0: the sign bit says all.
    packed = ~_packed(acc.to(tl.uint32, bitcast=True) >> 31, ROWS, WORDS).to(tl.int32)
    words = tl.program_id(1) * WORDS + tl.arange(0, WORDS)
    missing = tl.maximum(words * _WORD + _WORD - n_planes, 0)  # fewer than 32 in words that are stored
    packed &= (tl.full((WORDS,), -1, tl.int32).to(tl.uint32) >> missing.to(tl.uint32)).to(tl.int32)[None, :]
    mask = (rows < n)[:, None] & (words < n_words)[None, :]
    tl.store(packed_ptr + rows[:, None] * n_words + words[None, :], packed, mask=mask)
