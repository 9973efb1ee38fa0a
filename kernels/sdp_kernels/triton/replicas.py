"""Triton twin of `sdp_kernels.replicas`.

Cut values. A thread owns a word, 32 replicas, of every EDGES-th edge of its chunk; x = s_i ^ s_j says which of them cut
the edge. Where the weights take few values (`_edges`), chunks have one weight each and crossings are counted in
bit-planes held in registers: plane k holds bit k of every replica's count, and carry-save adders turn 8 words into
one word for plane 3 (Harley and Seal):

    sum, carry of (a, b, c)  =  a ^ b ^ c,  majority(a, b, c)      2 instructions, for 32 replicas

so an edge and word costs about 2 instructions of counting beside its loads; the planes are read once a chunk. Other
weights are added up as integers of two limbs, bit after bit, once a limb. All sums are integers; a group's total or a
limb's becomes float64 at the end: no tile size or launch changes a bit, and where the weights are integers (or
multiples of one power of two) the result is the CPU twin's, bit for bit. Else it is at least as exact.

    bytes an edge and word: 4 gathered for s_j, 4 / (edges of a row) for s_i, 8 / words for the edge's ends.

Gathers bound it: words of a vertex are contiguous (128 bytes for 1024 replicas), and 32 replicas of a graph of 12 M
vertices, or 1024 of 400,000, stay within 50 MB of second-level cache.

Projection. The product is made by fused multiply-adds in the order of r, as the CPU twin does (never by tensor cores,
whose rounding would move signs): equal bits on NVIDIA. On AMD the compiler takes float32 matrix cores, and in the
interpreter numpy adds: there, signs of products within rounding of 0 may differ.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import triton
from torch import Tensor

from sdp_kernels.triton._edges import LIMB, edges_of
from sdp_kernels.triton.replicas_kernels import (
    EDGES_COUNTED,
    _count_kernel,
    _pack_kernel,
    _project_kernel,
    _sum_kernel,
    _total_kernel,
    _unpack_kernel,
)

if TYPE_CHECKING:
    from sdp_kernels.graph import CSR

WORD = 32
WORDS = 32  # words of a vertex that a program takes: 128 bytes
MAX_EDGES = 256  # edges side by side: 16 bits hold their counts
PASSES = 31  # of EDGES_COUNTED edges: as many as eight planes can count
EDGES_SUMMED = 32  # edges of a thread, of which int32 holds the sum of a limb
PASSES_SUMMED = 8  # of EDGES_SUMMED edges: as many give enough programs
TILE, TILE_SUMMED = 512, 128  # edges times words of a step: four words a thread, or one with its 16 sums
TILE_RAGGED = 256  # where the last tile of words is part filled; 512 spill 8 bytes on sm_80
SUMS = 16  # bits of a word that a program adds up for; 32 at once spill
CHUNKS = 512  # programs that a small graph should give: four for each multiprocessor of an H100
TILE_PACKED = 8192  # signs a program
PROJECT_ROWS, PROJECT_WORDS, PROJECT_TERMS = (
    64,
    4,
    32,
)  # 64 rows spill 8 bytes on sm_80 if not aligned: then half
TOTAL_CHUNKS = 32  # partial sums that a program of `_total_kernel` loads at once
TILE_INTERPRETED = 1 << 16  # a program of the interpreter costs 45 us whatever its size


def pack_signs(signs: Tensor) -> Tensor:
    """As the public `pack_signs`."""
    n, n_replicas = signs.shape
    n_words = -(-n_replicas // WORD)
    packed = signs.new_empty((n, n_words), dtype=torch.int32)
    if packed.numel():
        signs = signs.view(torch.int8)
        rows, words = _tile(n, n_words, TILE_PACKED // WORD)
        grid = (triton.cdiv(n, rows), triton.cdiv(n_words, words))
        _pack_kernel[grid](
            signs, *signs.stride(), packed, n, n_replicas, n_words, ROWS=rows, WORDS=words, num_warps=_warps()
        )
    return packed


def unpack_signs(packed: Tensor, n_replicas: int) -> Tensor:
    """As the public `unpack_signs`."""
    n, n_words = packed.shape[0], -(-n_replicas // WORD)
    signs = packed.new_empty((n, n_replicas), dtype=torch.int8)
    if signs.numel():
        rows, words = _tile(n, n_words, TILE_PACKED // WORD)
        grid = (triton.cdiv(n, rows), triton.cdiv(n_words, words))
        _unpack_kernel[grid](
            packed,
            *packed.stride(),
            signs,
            n,
            n_replicas,
            n_words,
            ROWS=rows,
            WORDS=words,
            num_warps=_warps(),
        )
    return signs


def cut_values(csr: CSR, packed: Tensor) -> Tensor:
    """As the public `cut_values`; waits for the device at the first call with a graph only."""
    n_words = packed.shape[1]
    edges = edges_of(csr)
    m = edges.rows.numel()
    values = packed.new_zeros(WORD * n_words, dtype=torch.float64)
    if not m or not n_words:
        return values
    words = min(WORDS, triton.next_power_of_2(n_words))
    shared: dict[str, Any] = {"WORDS": words, "WHOLE": n_words % words == 0, "num_warps": _warps()}
    word_tiles = triton.cdiv(n_words, words)
    common = (packed, *packed.stride(), edges.rows, edges.cols)
    if edges.groups is not None:
        tile = TILE if shared["WHOLE"] else TILE_RAGGED
        side = min(MAX_EDGES, max(1, _numbers(tile) // words))
        chunks = _chunks(edges.groups, EDGES_COUNTED * side, PASSES, str(packed.device))
        partial = _buffer(packed, chunks, n_words, torch.int32)
        grid: tuple[int, ...] = (partial.shape[0], word_tiles)
        _count_kernel[grid](*common, chunks.begins, partial, n_words, EDGES=side, **shared)
    else:
        side = max(1, _numbers(TILE_SUMMED) // words)
        n_limbs = 2 if edges.has_low else 1
        scales = tuple((2.0 ** -(edges.exponent + LIMB * limb), m) for limb in range(n_limbs))
        steps = 1 if _is_interpreted() else EDGES_SUMMED
        chunks = _chunks(scales, steps * side, PASSES_SUMMED, str(packed.device))
        partial = _buffer(packed, chunks, n_words, torch.int64)
        n_chunks = partial.shape[0] // n_limbs
        for limb in range(n_limbs):
            stretch = slice(limb * n_chunks, (limb + 1) * n_chunks)
            grid = (n_chunks, word_tiles, WORD // SUMS)
            _sum_kernel[grid](
                *common, edges.weights, 2.0**edges.exponent, chunks.begins, partial[stretch], n_words,
                LOW=limb == 1, EDGES=side, STEPS=steps, BITS=SUMS, **shared,
            )  # fmt: skip
    _total_kernel[(n_words,)](
        partial, chunks.group_ptr, chunks.scales, values, n_words, chunks.scales.numel(),
        CHUNKS=TOTAL_CHUNKS, num_warps=_warps(),
    )  # fmt: skip
    return values


def project_signs(V: Tensor, planes: Tensor) -> Tensor:
    """As the public `project_signs`."""
    (n, r), n_planes = V.shape, planes.shape[1]
    n_words = -(-n_planes // WORD)
    packed = V.new_empty((n, n_words), dtype=torch.int32)
    if packed.numel():
        words = min(PROJECT_WORDS, triton.next_power_of_2(n_words))
        is_aligned = r % 4 == 0 and n_planes % 4 == 0
        rows = PROJECT_ROWS if is_aligned else PROJECT_ROWS // 2
        if _is_interpreted():
            rows = max(16, min(TILE_INTERPRETED // (WORD * words), triton.next_power_of_2(n)))
        terms = min(PROJECT_TERMS, max(16, triton.next_power_of_2(r)))
        _project_kernel[triton.cdiv(n, rows), triton.cdiv(n_words, words)](
            V, planes, packed, n, r, n_planes, n_words,
            ROWS=rows, WORDS=words, TERMS=terms, ALIGNED=is_aligned, num_warps=_warps(), num_stages=2,
        )  # fmt: skip
    return packed


def _is_interpreted() -> bool:
    return bool(triton.knobs.runtime.interpret)


def _numbers(tile: int) -> int:
    """Entries of a tile: many where a program costs 45 us whatever its size."""
    return TILE_INTERPRETED if _is_interpreted() else tile


def _warps() -> int:
    """A wave of AMD has 64 lanes: threads enough for the same 16-byte loads."""
    return 2 if torch.version.hip else 4


def _tile(n: int, n_words: int, size: int) -> tuple[int, int]:
    """Rows and words of a tile of packed words."""
    size = _numbers(size * WORD) // WORD
    words = min(WORDS, triton.next_power_of_2(n_words))
    return min(size // words, triton.next_power_of_2(n)), words


class _Chunks(NamedTuple):
    """Stretches of edges, one a program, and the scale of each group of them.

    Attributes:
        begins: int64 (n_chunks + 1,); chunk p is edges begins[p] to begins[p + 1].
        group_ptr: int32 (n_groups + 1,); group g is chunks group_ptr[g] to group_ptr[g + 1].
        scales: float64 (n_groups,), what one of the group's counts is worth.
    """

    begins: Tensor
    group_ptr: Tensor
    scales: Tensor


@functools.lru_cache(maxsize=64)
def _chunks(groups: tuple[tuple[float, int], ...], step: int, most: int, device: str) -> _Chunks:
    """Groups of edges, each a scale and a number of edges, cut into chunks of at most `most` steps.

    Where there are few edges, chunks are shorter, so that there are CHUNKS of them; no result depends on it.
    """
    m = sum(count for _, count in groups)
    length = step * min(most, max(1, m // (step * CHUNKS)))
    begins: list[int] = []
    group_ptr, first = [0], 0
    for _, count in groups:
        begins += range(first, first + count, length)
        group_ptr.append(len(begins))
        first += count
    tensors = (
        torch.tensor([*begins, first], dtype=torch.int64),
        torch.tensor(group_ptr, dtype=torch.int32),
        torch.tensor([scale for scale, _ in groups], dtype=torch.float64),
    )
    return _Chunks(*(tensor.to(device) for tensor in tensors))


def _buffer(packed: Tensor, chunks: _Chunks, n_words: int, dtype: torch.dtype) -> Tensor:
    """Uninitialised sums (n_chunks, n_words, 32), which a kernel will write."""
    return packed.new_empty((chunks.begins.numel() - 1, n_words, WORD), dtype=dtype)
