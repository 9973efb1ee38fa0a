"""Triton twin of the sparse maps of `sdp_kernels.projection`: sums by gathering, without atomics, in order of features.

Dense rows, `_panel_kernel`. A program takes ROWS rows; FEATURES of them at a time are turned over into a scratch of its
own (feature by feature, ROWS numbers each: 64 KiB that stay in the first-level cache), and every component then adds
the numbers of its features, which a table lists (`_sparse_maps.py`), to a sum that stays in registers: 1024 components
of 16 rows are 64 registers a thread. X is read once for every 1024 components. The order of a sum is that of the
features, as on the CPU engine, and so are its bits.

    model, a row of D = 10,000 to k = 1024, H100:
    memory      44 kB at 3.35 TB/s: 13.1 ns
    issue       D s entries, padded to the longest list of 64 components in a panel (2.2, 2.8 and 5.1 times at
                s = 8, 4, 1), 4.4 instructions each: 30, 21 and 11 ns
    first level D s 4 bytes at 128 a cycle: 10.4 ns at s = 8, and twice that if 64-byte rows take a cycle each
    second      the scratch written and read, and 22 kB of table (s = 8): 102 kB, 18 ns; s = 1: 16 ns

So s = 1 is within 1.3 of memory, s = 4 takes 1.6 and s = 8 2.3 times as long (H100; latencies and the first level's
rate for lines of 64 bytes are not in the model). Memory's bound at s = 8 would need gathers at 101 of 128 bytes a
cycle, with nothing beside them. What lost, by the model at s = 8: gathers from the second-level cache (320 kB a row:
58 ns); the map as a dense matrix on tensor cores (61 ns at their peak for three bfloat16 parts); `tl.gather` from
shared memory (the source is stored again at each call, and random banks collide 3.5 times: 57 ns); 1024 components in
step, not 64 (lists padded 2.5 times, words passed through shared memory, spills); 32 rows of 16 warps a program
(nothing runs while a panel is turned over).

Sparse rows, `_blocked_rows_kernel`. A lane is one block of one row, and so the only one that adds to that block's
components: it makes the word of its entry, and adds to `out` in memory, entry after entry. Nothing of the map is
stored. Model: two accesses of a line of the first-level cache an entry and block, 16 s stored entries cycles a row and
multiprocessor: 100 entries, s = 8, 7 ns a row on an H100, where memory takes 1.5. What lost: one-hot matrices on tensor
cores (half the time, but other sums), rows laid out dense (20 ns and more), a sort of each row's pairs.

`_listed_rows_kernel` makes the words of all components for every entry, and keeps sums in registers: the cost of a
dense map of signs on sparse rows, whatever the density.

float64 is done by torch: kernels hold no double precision.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from sdp_kernels.triton._philox import interleave4, words4
from sdp_kernels.triton._sparse_maps import CHUNK, FEATURES, Map, block_starts, entries, ranks, table
from sdp_kernels.triton._sparse_rows import add_in_order

ROWS = 16  # of a program: 64 bytes a feature
ROWS_A_LAUNCH = 1 << 30  # counted in int32
STAGED = 64  # features turned over at a time
PANEL_THREADS = 256
PROGRAMS_A_MULTIPROCESSOR = 2  # one turns a panel over while the other gathers
REGISTERS = 128  # a thread, so that two programs fit (NVIDIA); the compiler takes 206 where it may
BLOCKS = 1024  # of a map with more entries a feature, a program
ROWS_LANES, ROWS_LANES_INTERPRETED = 64, 1 << 14  # (row, block) pairs of a program over sparse rows
LISTED = 1024  # components
NUMBERS_AT_ONCE = 1 << 24  # float64

Rows = tuple[Tensor, Tensor, Tensor]


@triton.jit
def _stored_by_all(lane, WAIT: tl.constexpr):
    """A barrier after which every thread of the program sees what the others have stored in global memory.

    On AMD triton's barrier waits for shared memory only, so that a wave must wait for its own stores before (WAIT).
    """
    if WAIT:
        tl.inline_asm_elementwise(
            "s_waitcnt vmcnt(0)\nv_mov_b32 $0, $1",
            "=v,v,~{memory}",
            [lane],
            dtype=tl.int32,
            is_pure=False,
            pack=1,
        )
    tl.debug_barrier()


@triton.jit
def _stage(
    x_ptr, stride_x_row, stride_x_column, scratch_ptr, rows, n_rows, n_columns, first,
    ROWS: tl.constexpr, FEATURES: tl.constexpr, STAGED: tl.constexpr,
):  # fmt: skip
    """Turns columns first + [0, FEATURES) of these rows over: scratch[f, r], zeros past the end."""
    for start in range(0, FEATURES, STAGED):
        places = start + tl.arange(0, STAGED)
        columns = first + places
        mask = (rows < n_rows)[:, None] & (columns < n_columns)[None, :]
        source = x_ptr + rows[:, None] * stride_x_row + columns[None, :].to(tl.int64) * stride_x_column
        x = tl.load(source, mask=mask, other=0).to(tl.float32)
        tl.store(scratch_ptr + places[:, None] * ROWS + tl.arange(0, ROWS)[None, :], tl.trans(x))


@triton.jit(do_not_specialize=["n_rows", "k", "n_panels", "n_row_tiles"])
def _panel_kernel(
    x_ptr, stride_x_row, stride_x_column,  # float32, float16, bfloat16 or uint8 (n_rows, n_columns)
    out_ptr, stride_out_row,               # float32 (n_rows, k), unit stride along rows
    words_ptr, starts_ptr,                 # int64 (n_steps + 1, CHUNK), int32: `_sparse_maps.Table`
    scratch_ptr,                           # float32 (programs, FEATURES, ROWS)
    n_rows, n_columns, k, n_panels, n_row_tiles, scale,
    ROWS: tl.constexpr, FEATURES: tl.constexpr, STAGED: tl.constexpr, CHUNK: tl.constexpr, CHUNKS: tl.constexpr,
    WAIT: tl.constexpr,
):  # fmt: skip
    """out[i, c] = scale sum_f sign x[i, f] over the features of component c, in order."""
    n_programs, tile = tl.num_programs(0), tl.program_id(1)
    scratch = scratch_ptr + (tile * n_programs + tl.program_id(0)).to(tl.int64) * (FEATURES * ROWS)
    lane, offs_c = tl.arange(0, ROWS), tl.arange(0, CHUNK)
    for row_tile in range(tl.program_id(0), n_row_tiles, n_programs):
        rows = lane.to(tl.int64) + row_tile * ROWS
        sums = ()
        for _ in tl.static_range(CHUNKS):
            sums = sums + (tl.zeros((CHUNK, ROWS), tl.float32),)  # type: ignore[assignment]  # noqa: RUF005
        for panel in range(0, n_panels):
            tl.debug_barrier()  # the last panel has been read
            _stage(
                x_ptr, stride_x_row, stride_x_column, scratch, rows, n_rows, n_columns, panel * FEATURES,
                ROWS, FEATURES, STAGED,
            )  # fmt: skip
            _stored_by_all(lane, WAIT)
            after = ()
            for c in tl.static_range(CHUNKS):
                acc = sums[c]  # type: ignore[var-annotated]
                group = (tile * n_panels + panel) * CHUNKS + c
                first, end = tl.load(starts_ptr + group), tl.load(starts_ptr + group + 1)
                ahead = tl.load(words_ptr + first * CHUNK + offs_c)
                for step in range(first, end):
                    slots = ahead
                    ahead = tl.load(words_ptr + (step + 1) * CHUNK + offs_c)
                    for slot in tl.static_range(4):
                        word = (slots >> (16 * slot)).to(tl.int32)
                        place = ((word >> 2) & (FEATURES - 1)) * ROWS
                        is_stored = (word & 1) != 0
                        x = tl.load(
                            scratch + place[:, None] + lane[None, :], mask=is_stored[:, None], other=0.0
                        )
                        # 1 or -1 by its bits: the product is exact.
                        sign = (((word & 2) << 30) | 0x3F800000).to(tl.float32, bitcast=True)
                        acc = tl.fma(x, tl.broadcast_to(sign[:, None], (CHUNK, ROWS)), acc)
                after = after + (acc,)  # type: ignore[assignment]  # noqa: RUF005
            sums = after
        # Turned over through the scratch, chunk by chunk: through shared memory, all at once, they would spill.
        tl.debug_barrier()
        for c in tl.static_range(CHUNKS):
            tl.store(scratch + (c * CHUNK + offs_c)[:, None] * ROWS + lane[None, :], sums[c])
        _stored_by_all(lane, WAIT)
        for c in range(0, CHUNKS):
            places = c * CHUNK + offs_c
            y = tl.load(scratch + places[:, None] * ROWS + lane[None, :])
            components = tile * (CHUNKS * CHUNK) + places
            mask = (rows < n_rows)[:, None] & (components < k)[None, :]
            target = out_ptr + rows[:, None] * stride_out_row + components[None, :]
            tl.store(target, tl.trans(y) * scale, mask=mask)


@triton.jit
def _blocked_entry(
    indices_ptr, values_ptr, entry, mask, blocks, starts, lengths, seed, purpose, scale
):  # fmt: skip
    """Component and signed value, (ROWS, S), of each row's entry (ROWS, 1) in each block (1, S)."""
    feature = tl.load(indices_ptr + entry, mask=mask, other=0).to(tl.int64)
    value = tl.load(values_ptr + entry, mask=mask, other=0.0) * scale
    w0, w1, w2, w3 = words4(feature, blocks // 4, purpose, seed)
    lane = blocks % 4
    word = tl.where(lane == 0, w0, tl.where(lane == 1, w1, tl.where(lane == 2, w2, w3)))
    # (word // 2) length // 2^31 is the upper half of a product of 32-bit numbers.
    place = starts + tl.umulhi(word & 0xFFFFFFFE, lengths.to(tl.uint32)).to(tl.int32)
    bits = value.to(tl.uint32, bitcast=True) ^ (word << 31)
    return place, bits.to(tl.float32, bitcast=True)


@triton.jit(do_not_specialize=["n_rows", "n_blocks", "seed", "purpose"])
def _blocked_rows_kernel(
    indptr_ptr, indices_ptr, values_ptr,  # int32 or int64 (n_rows + 1,), (nnz,); float32 (nnz,)
    starts_ptr,                           # int32 (n_blocks + 1,), first component of each block
    out_ptr, stride_out_row,              # float32 (n_rows, k), zeros; unit stride along rows
    n_rows, n_blocks, seed, purpose, scale,
    ROWS: tl.constexpr, S: tl.constexpr,
):  # fmt: skip
    """out[i, c] += sign scale value of every entry of row i, in order; S blocks of ROWS rows a program."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    is_row = rows < n_rows
    begin = tl.load(indptr_ptr + rows, mask=is_row, other=0).to(tl.int64)
    end = tl.load(indptr_ptr + rows + 1, mask=is_row, other=0).to(tl.int64)
    blocks = tl.program_id(1) * S + tl.arange(0, S)[None, :]
    is_block = blocks < n_blocks
    starts = tl.load(starts_ptr + blocks, mask=is_block, other=0)
    lengths = tl.load(starts_ptr + blocks + 1, mask=is_block, other=0) - starts
    target = out_ptr + rows * stride_out_row
    place, value = _blocked_entry(
        indices_ptr, values_ptr, begin, begin < end, blocks, starts, lengths, seed, purpose, scale
    )
    for step in range(0, tl.max(end - begin)):
        mask = (begin + step < end) & is_block
        at, add = target + place, value
        here = tl.load(at, mask=mask, other=0.0)
        following = begin + step + 1
        place, value = _blocked_entry(
            indices_ptr, values_ptr, following, following < end, blocks, starts, lengths, seed, purpose, scale
        )
        tl.store(at, here + add, mask=mask)
        tl.debug_barrier()  # where load and store have different layouts, another thread reads this next


@triton.jit(do_not_specialize=["k", "limit", "seed", "purpose"])
def _listed_rows_kernel(
    indptr_ptr, indices_ptr, values_ptr,  # as above
    out_ptr, stride_out_row,              # float32 (n_rows, k), unit stride along rows
    k, limit, seed, purpose, scale,
    CALLS: tl.constexpr,
):  # fmt: skip
    """out[i, c] = sum_e sign scale value of the entries of row i that are stored in c; 4 CALLS components a program."""
    row = tl.program_id(0).to(tl.int64)
    begin, end = tl.load(indptr_ptr + row).to(tl.int64), tl.load(indptr_ptr + row + 1).to(tl.int64)
    calls = tl.program_id(1) * CALLS + tl.arange(0, CALLS)[None, :]
    s0, s1 = tl.zeros((1, CALLS), tl.float32), tl.zeros((1, CALLS), tl.float32)
    s2, s3 = tl.zeros((1, CALLS), tl.float32), tl.zeros((1, CALLS), tl.float32)
    for entry in range(begin, end):
        feature = tl.load(indices_ptr + entry).to(tl.int64)
        value = tl.load(values_ptr + entry) * scale
        w0, w1, w2, w3 = words4(feature, calls, purpose, seed)
        s0 += _stored(w0, value, limit)
        s1 += _stored(w1, value, limit)
        s2 += _stored(w2, value, limit)
        s3 += _stored(w3, value, limit)
    components = tl.program_id(1) * (4 * CALLS) + tl.arange(0, 4 * CALLS)[None, :]
    sums = interleave4(s0, s1, s2, s3, 1, 4 * CALLS)
    tl.store(out_ptr + row * stride_out_row + components, sums, mask=components < k)


@triton.jit
def _stored(word, value, limit):
    """Value with the word's sign where the word stores an entry, else 0."""
    return tl.where((word >> 1) < limit.to(tl.uint32), tl.where((word & 1) != 0, -value, value), 0.0)


def blocked_map(X: Tensor, s: int, out: Tensor, seed: int, purpose: int, scale: float) -> None:
    """Writes out (n, k) = scale X A^T, s signed entries a feature, one in each of s blocks of components."""
    _dense_rows(X, out, Map(X.shape[1], out.shape[1], s, 0, seed, purpose), scale)


def listed_map(X: Tensor, limit: int, out: Tensor, seed: int, purpose: int, scale: float) -> None:
    """Writes out (n, k) = scale X A^T, each entry of A stored if half its word lies below `limit` (of 2^31)."""
    _dense_rows(X, out, Map(X.shape[1], out.shape[1], 0, limit, seed, purpose), scale)


def blocked_map_of_rows(
    rows: Rows, n_features: int, s: int, out: Tensor, seed: int, purpose: int, scale: float
) -> None:
    """As `blocked_map` for sparse rows (indptr, indices, values)."""
    if out.dtype == torch.float64:
        _sparse_rows64(rows, out, Map(n_features, out.shape[1], s, 0, seed, purpose), scale)
        return
    out.zero_()
    lanes = ROWS_LANES_INTERPRETED if triton.knobs.runtime.interpret else ROWS_LANES
    S = min(BLOCKS, triton.next_power_of_2(s))
    tile = max(1, min(lanes // S, triton.next_power_of_2(len(out))))
    starts = block_starts(out.shape[1], s, out.device).to(torch.int32)
    _blocked_rows_kernel[(triton.cdiv(len(out), tile), triton.cdiv(s, S))](
        *rows, starts, out, out.stride(0), len(out), s, seed, purpose, scale,
        ROWS=tile, S=S, num_warps=max(1, min(8, tile * S // ROWS_LANES)),
    )  # fmt: skip


def listed_map_of_rows(
    rows: Rows, n_features: int, limit: int, out: Tensor, seed: int, purpose: int, scale: float
) -> None:
    """As `listed_map` for sparse rows."""
    n, k = out.shape
    if out.dtype == torch.float64:
        _sparse_rows64(rows, out, Map(n_features, k, 0, limit, seed, purpose), scale)
        return
    calls = min(LISTED // 4, triton.next_power_of_2(triton.cdiv(k, 4)))
    _listed_rows_kernel[(n, triton.cdiv(k, 4 * calls))](
        *rows, out, out.stride(0), k, limit, seed, purpose, scale,
        CALLS=calls, num_warps=max(1, min(4, calls // 64)),
    )  # fmt: skip


def _dense_rows(X: Tensor, out: Tensor, which: Map, scale: float) -> None:
    if out.dtype == torch.float64:
        _dense_rows64(X, out, which, scale)
        return
    lists = table(which, X.device)
    for start in range(0, len(X), ROWS_A_LAUNCH):
        part, target = X[start : start + ROWS_A_LAUNCH], out[start : start + ROWS_A_LAUNCH]
        n_row_tiles = triton.cdiv(len(part), ROWS)
        programs = min(n_row_tiles, _programs(X.device))
        scratch = torch.empty(
            (lists.n_tiles * programs, FEATURES, ROWS), dtype=torch.float32, device=X.device
        )
        _panel_kernel[(programs, lists.n_tiles)](
            part, *part.stride(), target, target.stride(0), lists.words, lists.starts, scratch, *part.shape,
            out.shape[1], lists.n_panels, n_row_tiles, scale,
            ROWS=ROWS, FEATURES=FEATURES, STAGED=STAGED, CHUNK=CHUNK, CHUNKS=lists.chunks,
            WAIT=torch.version.hip is not None, **_options(),
        )  # fmt: skip


def _programs(device: torch.device) -> int:
    """As many as run at once, so that their scratch stays in the caches; no bit depends on it."""
    if device.type != "cuda":
        return 1
    return PROGRAMS_A_MULTIPROCESSOR * torch.cuda.get_device_properties(device).multi_processor_count


def _options() -> dict[str, int]:
    if torch.version.hip:
        return {"num_warps": PANEL_THREADS // 64}
    return {"num_warps": PANEL_THREADS // 32, "maxnreg": REGISTERS}


def _dense_rows64(X: Tensor, out: Tensor, which: Map, scale: float) -> None:
    """In torch: pass j adds the j-th feature of every component that has one, components of long lists first."""
    features, components, is_negative = entries(which, torch.arange(which.n_features, device=X.device))
    keys, order = torch.sort(components, stable=True)
    counts = torch.zeros(which.n_components, dtype=torch.int64, device=X.device).scatter_add_(
        0, keys, torch.ones_like(keys)
    )
    by_length = torch.argsort(counts, descending=True, stable=True)
    place = torch.empty_like(by_length)
    place[by_length] = torch.arange(len(by_length), device=X.device)
    # Entries in order of (pass, place of the component).
    turn = ranks(keys)
    in_turns = torch.argsort(turn * which.n_components + place[keys])
    features, signs = features[order][in_turns], 1.0 - 2.0 * is_negative[order][in_turns].double()
    lengths = torch.unique_consecutive(turn[in_turns], return_counts=True)[1].tolist()
    step = max(1, NUMBERS_AT_ONCE // max(X.shape[1], which.n_components))
    for start in range(0, len(X), step):
        part = X[start : start + step]
        sums = torch.zeros((len(part), which.n_components), dtype=torch.float64, device=X.device)
        first = 0
        for length in lengths:
            chosen = slice(first, first + length)
            sums[:, :length] += part[:, features[chosen]] * signs[chosen]
            first += length
        out[start : start + step] = sums[:, place] * scale


def _sparse_rows64(rows: Rows, out: Tensor, which: Map, scale: float) -> None:
    """In torch, a bounded number of whole rows at a time; reads the pointers back once."""
    indptr, indices, values = rows
    bounds, (n, k) = indptr.tolist(), out.shape
    most = max(1, NUMBERS_AT_ONCE // (which.n_nonzeros or k))
    first = 0
    while first < n:
        last = first + 1
        while last < n and bounds[last + 1] - bounds[first] <= most:
            last += 1
        chosen = slice(bounds[first], bounds[last])
        lengths = torch.tensor(bounds[first : last + 1], device=out.device).diff()
        owner = torch.repeat_interleave(torch.arange(last - first, device=out.device), lengths)
        entry, components, is_negative = entries(which, indices[chosen].to(torch.int64))
        terms = values[chosen][entry] * scale
        sums = torch.zeros((last - first) * k, dtype=torch.float64, device=out.device)
        add_in_order(sums, owner[entry] * k + components, torch.where(is_negative, -terms, terms))
        out[first:last] = sums.view(-1, k)
        first = last
