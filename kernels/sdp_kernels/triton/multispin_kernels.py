"""Kernels of `multispin`: a sweep of packed replicas over a part of a colour class.

A word is 32 replicas. Into one bit-sliced counter of a vertex and word go

    start = 2^TOP - floor(degree / 2) - 1,   2^TOP > degree,
    a word for each neighbour: the replicas in which it agrees (for w < 0: differs),
    a word for each level j = 0, 1, ...: the replicas with u < chance of losing j pairs,

and plane TOP is the decision: chances fall, so a replica passes its first levels and no others, and the count reaches
2^TOP where the agreeing neighbours with the levels passed make a majority. Level 0 is all replicas where the degree is
even and T > 0, none otherwise.

    u < t, bit by bit from the last:  less <- majority(less, random word, bit of t),   one instruction

starting from the comparison of the word's common 32 bits. A bit of t is a mask for all replicas of the word; up to
FEW entries these masks come from a table that `_table_kernel` makes once a sweep, above that they are made on the way.

The number of levels passed is geometric, and its binary digits are independent; but each digit needs random bits of its
own: for degree 8 four digits, 8 calls of Philox of about 55 instructions, where nested levels share 2. Sixteen own bits
in place of 7 and a common word would take 4 calls (3.5 instructions a spin update more) and cut chances at 2^-17.

Model: bound by instructions, 8.8 a spin update on sm_90 for degree 8 (shared: 4.3). Of a vertex and word: 2 calls of
Philox, 8 gathers of a word, 13 words counted, 4 levels of 8 loads (of 4 words each) and 9 operations. Bytes: 4 degree
gathered, mostly from the second-level cache (32 replicas of 12 M vertices lie in 50 MB), 4 + 4 own.
"""

# Tuples grow plane by plane, in loops that the compiler unrolls.
# mypy: disable-error-code="assignment"

from __future__ import annotations

import triton
import triton.language as tl

from sdp_kernels.triton._bitplanes import add_four, add_number, add_two, ripple, start_planes
from sdp_kernels.triton._philox import interleave4, philox
from sdp_kernels.triton._rows import CHUNK, load_items

OWN_BITS = 7
MASKS = (
    OWN_BITS + 1
)  # words of a level in the table: the bits of a chance, last to first, and the common part
PART_PLANES = CHUNK.bit_length()  # of a count of up to CHUNK entries
STATE = 2  # int32: number of the sweep in the call, number of the sweep among all (as unsigned)

_OWN, _MASKS, _PART_PLANES = tl.constexpr(OWN_BITS), tl.constexpr(MASKS), tl.constexpr(PART_PLANES)
_OWN_UNIT, _WORD_UNIT = tl.constexpr(float(1 << OWN_BITS)), tl.constexpr(2.0**32)
_NO_CHANCE = tl.constexpr(2.0 ** -(32 + OWN_BITS))  # below it all bits of a chance are 0


@triton.jit
def _fixed_point(chance, SHARED: tl.constexpr):
    """The chance's first OWN_BITS bits (0 if SHARED), int32, and the 32 bits after them, uint32."""
    scaled = chance * (1.0 if SHARED else _OWN_UNIT)
    whole = scaled.to(tl.int32)
    return whole, ((scaled - whole.to(tl.float32)) * _WORD_UNIT).to(tl.uint32)


@triton.jit
def _table_kernel(
    chances_ptr, state_ptr,  # float32 (3, n_sweeps, n_words); int32 (STATE,)
    table_ptr,               # int32 (2, 1 + MASKS LEVELS, n_words): of even and of odd degrees
    n_sweeps, n_words,
    LEVELS: tl.constexpr, SHARED: tl.constexpr, WORDS: tl.constexpr,
):  # fmt: skip
    """Masks of level 0 and of LEVELS levels after it, of this sweep's chances."""
    words = tl.program_id(0) * WORDS + tl.arange(0, WORDS)
    mask = words < n_words
    chances_ptr += tl.load(state_ptr).to(tl.int64) * n_words + words
    plane = tl.cast(n_sweeps, tl.int64) * n_words
    none = tl.load(chances_ptr, mask=mask, other=0.0)
    ratio = tl.load(chances_ptr + 2 * plane, mask=mask, other=0.0)
    for is_odd in tl.static_range(2):
        out_ptr = table_ptr + is_odd * (1 + _MASKS * LEVELS) * n_words + words
        chance = tl.load(chances_ptr + plane, mask=mask, other=0.0) if is_odd == 1 else ratio
        tl.store(out_ptr, tl.where(none > is_odd, -1, 0), mask=mask)
        for level in tl.static_range(LEVELS):
            whole, below = _fixed_point(chance, SHARED)
            first = 1 + level * _MASKS
            if not SHARED:
                for b in tl.static_range(_OWN):
                    tl.store(out_ptr + (first + b) * n_words, -((whole >> b) & 1), mask=mask)
            tl.store(out_ptr + (first + _OWN) * n_words, below.to(tl.int32, bitcast=True), mask=mask)
            chance *= ratio


@triton.jit
def _signed(word):
    return word.to(tl.int32, bitcast=True)


@triton.jit
def _draw(rows, numbers, sweep, seed, SHARED: tl.constexpr):
    """A tuple of the replicas' own words, int32, empty if SHARED, and the common one, uint32.

    rows int32 (ITEMS, 1), numbers of words int32 (1, WORDS).
    """
    key = tl.cast(seed, tl.uint64)
    k0, k1 = key.to(tl.uint32), (key >> 32).to(tl.uint32)
    i, number, count = rows.to(tl.uint32), numbers.to(tl.uint32), sweep.to(tl.uint32, bitcast=True)
    if SHARED:
        a, b, c, d = philox(i, tl.full((1, 1), 3, tl.uint32), count, number >> 2, k0, k1)
        lane = number & 3
        return (), tl.where(lane < 2, tl.where(lane == 0, a, b), tl.where(lane == 2, c, d))
    a, b, c, d = philox(i, tl.full((1, 1), 1, tl.uint32), count, number, k0, k1)
    e, f, g, common = philox(i, tl.full((1, 1), 2, tl.uint32), count, number, k0, k1)
    own = (_signed(a), _signed(b), _signed(c), _signed(d), _signed(e), _signed(f), _signed(g))
    return own, common


@triton.jit
def _draw_quads(rows, stream, sweep, seed, ITEMS: tl.constexpr, WORDS: tl.constexpr):
    """As `_draw` of shared numbers for this program's words, `stream` a multiple of 4: a call serves four words."""
    key = tl.cast(seed, tl.uint64)
    quads = stream // 4 + tl.program_id(1) * (WORDS // 4) + tl.arange(0, WORDS // 4)[None, :]
    a, b, c, d = philox(
        rows.to(tl.uint32), tl.full((1, 1), 3, tl.uint32), sweep.to(tl.uint32, bitcast=True), quads.to(tl.uint32),
        key.to(tl.uint32), (key >> 32).to(tl.uint32),
    )  # fmt: skip
    return interleave4(a, b, c, d, ITEMS, WORDS)


@triton.jit
def _tabled(own, common, masks_ptr, n_words, mask, SHARED: tl.constexpr):
    """The replicas with u below a chance whose MASKS words lie at `masks_ptr`."""
    below = tl.load(masks_ptr + _OWN * n_words, mask=mask, other=0).to(tl.uint32, bitcast=True)
    less = tl.where(common < below, -1, 0)
    if not SHARED:
        for b in tl.static_range(_OWN):
            bit = tl.load(masks_ptr + b * n_words, mask=mask, other=0)
            less = (less & (own[b] | bit)) | (own[b] & bit)
    return less


@triton.jit
def _passing(own, common, chance, SHARED: tl.constexpr):
    """As `_tabled`, of float32 chances."""
    whole, below = _fixed_point(chance, SHARED)
    less = tl.where(common < below, -1, 0)
    if not SHARED:
        for b in tl.static_range(_OWN):
            bit = (whole << (31 - b)) >> 31
            less = (less & (own[b] | bit)) | (own[b] & bit)
    return less


@triton.jit
def _agreeing(
    packed_ptr, columns_ptr, own_words, entry, is_entry, words, is_word, row_length, SIGNED: tl.constexpr
):  # fmt: skip
    """Replicas (ITEMS, WORDS) in which an edge is not cut, or for w < 0 cut; none where there is no entry."""
    j = tl.load(columns_ptr + entry, mask=is_entry, other=0)
    flip = -1
    if SIGNED:
        flip = ~(j >> 31)[:, None]
        j = j ^ (j >> 31)
    place = j.to(tl.int64)[:, None] * row_length + words
    other = tl.load(packed_ptr + place, mask=is_entry[:, None] & is_word, other=0)
    return tl.where(is_entry[:, None], own_words ^ other ^ flip, 0)


@triton.jit
def _add_entries(
    planes, packed_ptr, columns_ptr, own_words, starts, counts, e, words, is_word, row_length, SIGNED: tl.constexpr
):  # fmt: skip
    """Adds entries e to e + 3 of every item."""
    at = columns_ptr + e
    a = _agreeing(packed_ptr, at, own_words, starts, e < counts, words, is_word, row_length, SIGNED)
    b = _agreeing(packed_ptr, at + 1, own_words, starts, e + 1 < counts, words, is_word, row_length, SIGNED)
    c = _agreeing(packed_ptr, at + 2, own_words, starts, e + 2 < counts, words, is_word, row_length, SIGNED)
    d = _agreeing(packed_ptr, at + 3, own_words, starts, e + 3 < counts, words, is_word, row_length, SIGNED)
    return add_four(planes, a, b, c, d)


@triton.jit
def _words(n_words, WORDS: tl.constexpr, VECTOR: tl.constexpr):
    """This program's words (1, WORDS), which of them exist (whole vectors do), and the length of a row."""
    row_length = n_words // VECTOR * VECTOR  # as it is; by this the compiler knows that it is a multiple
    words = (tl.program_id(1) * WORDS + tl.arange(0, WORDS))[None, :]
    return words, words // VECTOR * VECTOR < n_words, row_length


@triton.jit(do_not_specialize=["first", "last", "n_words", "seed", "stream"])
def _few_kernel(
    starts_ptr, counts_ptr, targets_ptr, columns_ptr,  # the items (`_rows`); int32 (nnz,), ~j where w < 0
    packed_ptr, table_ptr, state_ptr,                  # int32 (n, n_words), of `_table_kernel`, int32 (STATE,)
    first, last, n_words, seed, stream,
    ENTRIES: tl.constexpr, TABLED: tl.constexpr, TOP: tl.constexpr, SIGNED: tl.constexpr, SHARED: tl.constexpr,
    QUADS: tl.constexpr, VECTOR: tl.constexpr, ITEMS: tl.constexpr, WORDS: tl.constexpr,
):  # fmt: skip
    """Items first to last, whole rows of at most ENTRIES entries (a multiple of 4); TABLED levels in the table.

    QUADS: SHARED, and words and `stream` are multiples of 4.
    """
    item = first + tl.program_id(0) * ITEMS
    starts, counts, rows, mask, _ = load_items(starts_ptr, counts_ptr, targets_ptr, item, last, ITEMS)
    words, is_word, row_length = _words(n_words, WORDS, VECTOR)
    is_own = mask[:, None] & is_word
    place = packed_ptr + rows.to(tl.int64)[:, None] * row_length + words
    own_words = tl.load(place, mask=is_own, other=0)
    planes = start_planes(((1 << TOP) - 1 - (counts >> 1))[:, None], TOP)
    for e in tl.static_range(0, ENTRIES, 4):
        planes = _add_entries(
            planes, packed_ptr, columns_ptr, own_words, starts, counts, e, words, is_word, row_length, SIGNED
        )
    sweep = tl.load(state_ptr + 1)
    if QUADS:
        own = ()
        common = _draw_quads(rows[:, None], stream, sweep, seed, ITEMS, WORDS)
    else:
        own, common = _draw(rows[:, None], stream + words, sweep, seed, SHARED)
    masks_ptr = table_ptr + (counts & 1)[:, None] * ((1 + _MASKS * TABLED) * row_length) + words
    planes = ripple(planes, tl.load(masks_ptr, mask=is_own, other=0), 0)
    masks_ptr += row_length
    for level in tl.static_range(0, ENTRIES // 2, 2):
        at = masks_ptr + level * _MASKS * row_length
        a = _tabled(own, common, at, row_length, is_own, SHARED)
        b = _tabled(own, common, at + _MASKS * row_length, row_length, is_own, SHARED)
        planes = add_two(planes, a, b)
    tl.store(place, own_words ^ planes[TOP], mask=is_own)


@triton.jit
def _decided(
    planes, own, common, degrees, chances_ptr, plane, is_own, TOP: tl.constexpr, SHARED: tl.constexpr
):  # fmt: skip
    """Plane TOP of counters of agreeing neighbours after the levels of rows of any degree, int32 (ITEMS, 1)."""
    is_odd = (degrees & 1) == 1
    none = tl.load(chances_ptr, mask=is_own, other=0.0)
    ratio = tl.load(chances_ptr + 2 * plane, mask=is_own, other=0.0)
    chance = tl.where(is_odd, tl.load(chances_ptr + plane, mask=is_own, other=0.0), ratio)
    planes = ripple(planes, tl.where(is_odd | (none == 0), 0, -1), 0)
    left = (tl.max(degrees) + 1) // 2
    while (left > 0) & (tl.max(chance) >= _NO_CHANCE):
        a = _passing(own, common, chance, SHARED)
        chance *= ratio
        b = _passing(own, common, chance, SHARED)
        chance *= ratio
        c = _passing(own, common, chance, SHARED)
        chance *= ratio
        d = _passing(own, common, chance, SHARED)
        chance *= ratio
        planes = add_four(planes, a, b, c, d)
        left -= 4
    return planes[TOP]


@triton.jit(do_not_specialize=["first", "last", "n_sweeps", "n_words", "seed", "stream"])
def _many_kernel(
    starts_ptr, counts_ptr, targets_ptr, columns_ptr,  # as `_few_kernel`
    packed_ptr, chances_ptr, state_ptr, parts_ptr,     # ..., int32 (n_slots, PART_PLANES, n_words)
    first, last, n_sweeps, n_words, seed, stream,
    TOP: tl.constexpr, SIGNED: tl.constexpr, SHARED: tl.constexpr, PARTS: tl.constexpr,
    VECTOR: tl.constexpr, ITEMS: tl.constexpr, WORDS: tl.constexpr,
):  # fmt: skip
    """Items first to last: rows are decided; of parts of heavy rows (if PARTS) the sides +1 are counted."""
    item = first + tl.program_id(0) * ITEMS
    starts, counts, rows, mask, _ = load_items(starts_ptr, counts_ptr, targets_ptr, item, last, ITEMS)
    words, is_word, row_length = _words(n_words, WORDS, VECTOR)
    is_row = (mask & (rows >= 0))[:, None]
    is_own = is_row & is_word
    place = packed_ptr + rows.to(tl.int64)[:, None] * row_length + words
    # A part's counter starts at 0, and whoever agrees with -1 (all bits) is on side +1.
    own_words = tl.load(place, mask=is_own, other=-1)
    planes = start_planes(tl.where(is_row, (1 << TOP) - 1 - (counts >> 1)[:, None], 0), TOP)
    zero = tl.zeros((ITEMS, WORDS), tl.int32)
    full = ()
    for p in tl.static_range(TOP + 1):
        full += (planes[p] | zero,)
    for p in range((tl.max(counts) + 3) // 4):
        full = _add_entries(
            full,
            packed_ptr,
            columns_ptr,
            own_words,
            starts,
            counts,
            4 * p,
            words,
            is_word,
            row_length,
            SIGNED,
        )
    if PARTS:
        slot = (-1 - rows).to(tl.int64)[:, None] * _PART_PLANES
        is_part = (mask & (rows < 0))[:, None] & is_word
        for p in tl.static_range(_PART_PLANES):
            tl.store(parts_ptr + (slot + p) * row_length + words, full[p], mask=is_part)
    sweep = tl.load(state_ptr).to(tl.int64)
    chances_ptr += sweep * row_length + words
    own, common = _draw(rows[:, None], stream + words, tl.load(state_ptr + 1), seed, SHARED)
    degrees = tl.where(is_row, counts[:, None], 0)
    plane = tl.cast(n_sweeps, tl.int64) * row_length
    moved = _decided(full, own, common, degrees, chances_ptr, plane, is_own, TOP, SHARED)
    tl.store(place, own_words ^ moved, mask=is_own)


@triton.jit(do_not_specialize=["first", "last", "n_sweeps", "n_words", "seed", "stream"])
def _heavy_kernel(
    heavy_rows_ptr, heavy_slots_ptr, indptr_ptr,    # int32 (n_heavy,), int64 (n_heavy + 1,), int64 (n + 1,)
    packed_ptr, chances_ptr, state_ptr, parts_ptr,  # as `_many_kernel`
    first, last, n_sweeps, n_words, seed, stream,
    TOP: tl.constexpr, SHARED: tl.constexpr, VECTOR: tl.constexpr, ITEMS: tl.constexpr, WORDS: tl.constexpr,
):  # fmt: skip
    """Heavy rows first to last, from the counts of their parts."""
    item = first + tl.program_id(0) * ITEMS + tl.arange(0, ITEMS)
    mask = item < last
    rows = tl.load(heavy_rows_ptr + item, mask=mask, other=0)
    slots = tl.load(heavy_slots_ptr + item, mask=mask, other=0)
    n_slots = (tl.load(heavy_slots_ptr + item + 1, mask=mask, other=0) - slots).to(tl.int32)
    degrees = tl.load(indptr_ptr + rows + 1, mask=mask, other=0) - tl.load(
        indptr_ptr + rows, mask=mask, other=0
    )
    degrees = degrees.to(tl.int32)[:, None]
    words, is_word, row_length = _words(n_words, WORDS, VECTOR)
    is_own = mask[:, None] & is_word
    place = packed_ptr + rows.to(tl.int64)[:, None] * row_length + words
    own_words = tl.load(place, mask=is_own, other=0)
    zero = tl.zeros((ITEMS, WORDS), tl.int32)
    up = ()
    for _ in tl.static_range(TOP + 1):
        up += (zero,)
    for part in range(tl.max(n_slots)):
        is_part = is_own & (part < n_slots)[:, None]
        at = parts_ptr + (slots + part)[:, None] * (_PART_PLANES * row_length) + words
        number = ()
        for p in tl.static_range(_PART_PLANES):
            number += (tl.load(at + p * row_length, mask=is_part, other=0),)
        up = add_number(up, number)
    # On side +1 `up` neighbours agree, on side -1 degree - up = degree + 1 + not up (mod 2^(TOP + 1)).
    above = start_planes((1 << TOP) - 1 - (degrees >> 1), TOP)
    below = start_planes((1 << TOP) + degrees - (degrees >> 1), TOP)
    start = ()
    agreeing = ()
    for p in tl.static_range(TOP + 1):
        start += ((own_words & above[p]) | (~own_words & below[p]),)
        agreeing += (~(own_words ^ up[p]),)
    planes = add_number(start, agreeing)
    chances_ptr += tl.load(state_ptr).to(tl.int64) * row_length + words
    own, common = _draw(rows[:, None], stream + words, tl.load(state_ptr + 1), seed, SHARED)
    plane = tl.cast(n_sweeps, tl.int64) * row_length
    moved = _decided(planes, own, common, degrees, chances_ptr, plane, is_own, TOP, SHARED)
    tl.store(place, own_words ^ moved, mask=is_own)
