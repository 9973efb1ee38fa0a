"""Kernels of `anneal`: a thread owns a vertex in the 32 replicas of a word.

    field = sum_j w_ij s_j of every replica, in entry order,   gain = s_i field,
    s_i changes where  T (-ln u) > -gain   (annealing)   or   gain > tolerance   (one-opt)

Tiles are (32, ITEMS), replicas first, so that lanes run along vertices: neighbours in a block of 64 vertices read
neighbouring thresholds. A neighbour's word is gathered once for 32 replicas; its bit becomes the sign bit of the weight
(a shift, a logic operation and an addition a replica and entry). Product and sum of the rule are compared, not added:
a fused multiply-add would decide otherwise where they cancel.

Fields are made anew at each visit. Keeping them costs a scatter of every change into its neighbours' fields, which
wants atomics and, of float32, their order; here every bit is the order's of the entries.

Model, degree 8: 3 operations and 1/32 of a gather an entry, 35 to 55 instructions a spin update; bound by them.
Bytes: (4 + 8) degree / 32 of words, columns and weights, 4 of a threshold, 4 / 64 of places.
"""

from __future__ import annotations

import triton
import triton.language as tl

from sdp_kernels.triton._philox import philox
from sdp_kernels.triton._rows import load_items

WORD = 32
BLOCK_VERTICES = 64  # vertices that share a random place in the table, as in `sdp_kernels.anneal`
PLACE_SHIFT = 16  # of a random word: 2^16 places

_WORD, _BLOCK, _SHIFT = tl.constexpr(WORD), tl.constexpr(BLOCK_VERTICES), tl.constexpr(PLACE_SHIFT)
_SIGN = tl.constexpr(-0x80000000)
_BYTES = tl.constexpr(0x01010101)
_NUMBERS = [
    "first",
    "last",
    "class_start",
    "class_block",
    "n_blocks",
    "n_words",
    "n_replicas",
    "n_sweeps",
    "tolerance",
]


@triton.jit(do_not_specialize=["n_blocks", "n_columns", "seed", "stream"])
def _places_kernel(
    blocks_ptr, state_ptr,  # int32 (n_blocks,) first vertices; int32 (2,)
    places_ptr,             # int32 (n_columns, n_blocks): lanes of one replica read it together
    n_blocks, n_columns, seed, stream,
    BLOCKS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The random places in the table of thresholds of this sweep, a column a replica."""
    blocks = tl.program_id(0) * BLOCKS + tl.arange(0, BLOCKS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    firsts = tl.load(blocks_ptr + blocks, mask=blocks < n_blocks, other=0).to(tl.uint32)[:, None]
    key = tl.cast(seed, tl.uint64)
    sweep = tl.load(state_ptr + 1).to(tl.uint32, bitcast=True)
    stream = (stream + columns).to(tl.uint32)[None, :]
    word, _, _, _ = philox(
        firsts, tl.zeros((1, 1), tl.uint32), sweep, stream, key.to(tl.uint32), (key >> 32).to(tl.uint32)
    )
    place = columns.to(tl.int64)[None, :] * n_blocks + blocks[:, None]
    mask = (blocks < n_blocks)[:, None] & (columns < n_columns)[None, :]
    tl.store(places_ptr + place, (word >> _SHIFT).to(tl.int32), mask=mask)


@triton.jit
def _signed(values, words, lanes):
    """Values (32, ITEMS) or (1, ITEMS), negated where bit `lane` of words (ITEMS,) is 0; float32."""
    sign = ((~words)[None, :] << (31 - lanes)) & _SIGN
    return (values.to(tl.int32, bitcast=True) ^ sign).to(tl.float32, bitcast=True)


@triton.jit
def _move(
    sums, rows, mask, word,
    packed_ptr, places_ptr, thresholds_ptr, temperatures_ptr, state_ptr,
    class_start, class_block, n_blocks, n_words, n_replicas, n_sweeps, tolerance,
    RULE: tl.constexpr,
):  # fmt: skip
    """Decides rows (ITEMS,) of fields (32, ITEMS) and writes their words."""
    lanes = tl.arange(0, _WORD)[:, None]
    rows = tl.where(
        mask, rows, class_start
    )  # a vertex of the class, so that tables can be read without masks
    place = packed_ptr + rows.to(tl.int64) * n_words + word
    own = tl.load(place, mask=mask, other=0)
    gains = _signed(sums, own, lanes)
    if RULE == "anneal":
        # 32-bit offsets from the word's first replica: 32 n_blocks is about n / 2.
        inside = rows - class_start
        places_ptr += word.to(tl.int64) * (_WORD * n_blocks) + class_block
        chosen = tl.load(places_ptr + (lanes * n_blocks + (inside // _BLOCK)[None, :]))
        thresholds = tl.load(thresholds_ptr + (chosen + (inside % _BLOCK)[None, :]))
        temperatures_ptr += (word * _WORD).to(tl.int64) * n_sweeps + tl.load(state_ptr)
        is_replica = word * _WORD + lanes < n_replicas
        temperatures = tl.load(temperatures_ptr + lanes * n_sweeps, mask=is_replica, other=0.0)
        moves = temperatures * thresholds > -gains
    else:
        moves = gains > tolerance
    bits = tl.sum(tl.where(moves, 1 << lanes, 0), axis=0)  # modulo 2^32
    tl.store(place, own ^ bits, mask=mask)


@triton.jit(do_not_specialize=_NUMBERS)
def _move_kernel(
    starts_ptr, counts_ptr, targets_ptr, indices_ptr, weights_ptr,  # the items (`_rows`), the graph
    parts_ptr, packed_ptr,                                        # float32 (n_slots, 32 n_words), int32 (n, n_words)
    places_ptr, thresholds_ptr, temperatures_ptr, state_ptr,      # of the rule; temperatures float32 (R, n_sweeps)
    first, last, class_start, class_block, n_blocks, n_words, n_replicas, n_sweeps, tolerance,
    RULE: tl.constexpr, PARTS: tl.constexpr, ITEMS: tl.constexpr,
):  # fmt: skip
    """Items first to last: rows are decided; of parts of heavy rows (if PARTS) the sums are kept."""
    word = tl.program_id(1)
    item = first + tl.program_id(0) * ITEMS
    starts, counts, rows, mask, passes = load_items(starts_ptr, counts_ptr, targets_ptr, item, last, ITEMS)
    lanes = tl.arange(0, _WORD)[:, None]
    sums = tl.zeros((_WORD, ITEMS), tl.float32)
    for p in range(passes):
        for k in tl.static_range(4):
            is_entry = 4 * p + k < counts
            entry = starts + 4 * p + k
            j = tl.load(indices_ptr + entry, mask=is_entry, other=0).to(tl.int64)
            weights = tl.load(weights_ptr + entry, mask=is_entry, other=0.0)
            words = tl.load(packed_ptr + j * n_words + word, mask=is_entry, other=0)
            sums += _signed(weights[None, :], words, lanes)
    if PARTS:
        slot = (-1 - rows).to(tl.int64)[None, :] * (n_words * _WORD) + word * _WORD + lanes
        tl.store(parts_ptr + slot, sums, mask=(mask & (rows < 0))[None, :])
        mask = mask & (rows >= 0)
    _move(
        sums, rows, mask, word, packed_ptr, places_ptr, thresholds_ptr, temperatures_ptr, state_ptr,
        class_start, class_block, n_blocks, n_words, n_replicas, n_sweeps, tolerance, RULE,
    )  # fmt: skip


@triton.jit(do_not_specialize=_NUMBERS)
def _heavy_kernel(
    heavy_rows_ptr, heavy_slots_ptr, parts_ptr,  # int32 (n_heavy,), int64 (n_heavy + 1,), as `_move_kernel`
    packed_ptr, places_ptr, thresholds_ptr, temperatures_ptr, state_ptr,
    first, last, class_start, class_block, n_blocks, n_words, n_replicas, n_sweeps, tolerance,
    RULE: tl.constexpr, ITEMS: tl.constexpr,
):  # fmt: skip
    """Heavy rows first to last, from the sums of their parts in order."""
    word = tl.program_id(1)
    item = first + tl.program_id(0) * ITEMS + tl.arange(0, ITEMS)
    mask = item < last
    rows = tl.load(heavy_rows_ptr + item, mask=mask, other=0)
    slots = tl.load(heavy_slots_ptr + item, mask=mask, other=0)
    n_slots = (tl.load(heavy_slots_ptr + item + 1, mask=mask, other=0) - slots).to(tl.int32)
    lanes = tl.arange(0, _WORD)[:, None]
    sums = tl.zeros((_WORD, ITEMS), tl.float32)
    for part in range(tl.max(n_slots)):
        at = (slots + part)[None, :] * (n_words * _WORD) + word * _WORD + lanes
        sums += tl.load(parts_ptr + at, mask=(part < n_slots)[None, :], other=0.0)
    _move(
        sums, rows, mask, word, packed_ptr, places_ptr, thresholds_ptr, temperatures_ptr, state_ptr,
        class_start, class_block, n_blocks, n_words, n_replicas, n_sweeps, tolerance, RULE,
    )  # fmt: skip


@triton.jit(do_not_specialize=["n", "n_words"])
def _changes_kernel(
    packed_ptr, previous_ptr,  # int32 (n, n_words)
    changes_ptr,               # int64 (n_chunks, 32 n_words)
    n, n_words,
    ROWS: tl.constexpr, PASSES: tl.constexpr,
):  # fmt: skip
    """Adds the changes of a chunk of ROWS PASSES vertices since `previous`, and brings that up to date.

    Bits 8 b + k of a word, b = 0 to 3, are counted in the four bytes of counter k: PASSES is below 256.
    """
    word = tl.program_id(1)
    counters = tl.arange(0, 8)
    counts = tl.zeros((8, ROWS), tl.int32)
    for p in range(PASSES):
        rows = (tl.program_id(0).to(tl.int64) * PASSES + p) * ROWS + tl.arange(0, ROWS)
        mask = rows < n
        now = tl.load(packed_ptr + rows * n_words + word, mask=mask, other=0)
        before = tl.load(previous_ptr + rows * n_words + word, mask=mask, other=0)
        counts += ((now ^ before)[None, :] >> counters[:, None]) & _BYTES
        tl.store(previous_ptr + rows * n_words + word, now, mask=mask)
    out_ptr = changes_ptr + (tl.program_id(0).to(tl.int64) * n_words + word) * _WORD + counters
    for b in tl.static_range(4):
        made = tl.sum((counts >> (8 * b)) & 255, axis=1)
        tl.store(out_ptr + 8 * b, tl.load(out_ptr + 8 * b) + made)
