"""Triton twin of `sdp_kernels.anneal.anneal_packed`: how a sweep is cut into launches. Kernels: `multispin_kernels`.

A colour class takes one launch for each of four kinds of rows that it has: up to 4, 8, 16 entries (unrolled), and
more, parts of heavy rows (`_rows`) among these; heavy rows take one more. Within a class parts stand first and small
degrees last, so that the kinds are stretches of items.
Words are integers: no tile, launch or kind changes a bit. A sweep is one recorded graph; its number lies in `state`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import triton
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from sdp_kernels.triton._capture import Captured
from sdp_kernels.triton._rows import CHUNK, GROUP, RowPlan, row_plan
from sdp_kernels.triton.multispin_kernels import (
    MASKS,
    PART_PLANES,
    _few_kernel,
    _heavy_kernel,
    _many_kernel,
    _table_kernel,
)

if TYPE_CHECKING:
    from sdp_kernels.graph import CSR

FEW = (4, 8, 16)  # entries of the unrolled kinds
TABLED = FEW[-1] // 2  # levels in the table
TOPS_HEAVY = (11, 15, 22, 29)  # planes of a heavy row's counter, less one: degrees below 2^TOP
TILE_INTERPRETED = 1 << 15
VECTOR = {"few": 4, "many": 4, "heavy": 1}  # words a thread; 2 of 16 entries: fewer registers, 16% more time
LANES = 128  # a program; a thread takes one item and VECTOR of its words (two items: up to 232 registers)
MAX_WORDS = 32  # a program: 128 bytes of a row
WARPS = (
    4  # a thread has one item and as many of its words as a load takes: two items take up to 232 registers
)


@dataclass(frozen=True)
class _Kinds:
    """The items of a plan, sorted by kind.

    Attributes:
        items: starts, counts and targets.
        borders: of each class, the first item of each kind from many entries to few, and the end.
        top_heavy: planes of heavy rows' counters, less one.
    """

    items: tuple[Tensor, Tensor, Tensor]
    borders: tuple[tuple[int, ...], ...]
    top_heavy: int


_kinds = WeakIdKeyDictionary()


def anneal_packed(
    csr: CSR,
    class_ptr: Tensor,
    columns: Tensor,
    packed: Tensor,
    chances: Tensor,
    seed: int,
    stream: int,
    first_sweep: int,
    random: str,
) -> None:
    """See the public operation; `columns` and `chances` are as `sdp_kernels.anneal` makes them."""
    _, n_sweeps, n_words = chances.shape
    plan = row_plan(csr.indptr, class_ptr)
    kinds = _kinds_of(plan, csr.indptr)
    state = torch.tensor([0, wrapped(first_sweep)], dtype=torch.int32, device=packed.device)
    table = packed.new_empty((2, 1 + MASKS * TABLED, n_words))
    parts = packed.new_empty((plan.n_slots, PART_PLANES, n_words))
    items = (*kinds.items, columns)
    flags = {"SIGNED": columns is not csr.indices, "SHARED": random == "shared"}
    numbers = (n_words, seed, stream)
    quads = flags["SHARED"] and stream % 4 == 0 and n_words % 4 == 0

    def sweep() -> None:
        words = min(triton.next_power_of_2(n_words), 128)
        _table_kernel[(triton.cdiv(n_words, words),)](
            chances,
            state,
            table,
            n_sweeps,
            n_words,
            LEVELS=TABLED,
            SHARED=flags["SHARED"],
            WORDS=words,
            num_warps=1,
        )
        for c, borders in enumerate(kinds.borders):
            _launch(_many_kernel, "many", (*items, packed, chances, state, parts), borders[0], borders[1],
                    (n_sweeps, *numbers), TOP=CHUNK.bit_length(), PARTS=plan.n_slots > 0, **flags)  # fmt: skip
            for kind, entries in enumerate(reversed(FEW), 1):
                _launch(_few_kernel, "few", (*items, packed, table, state), borders[kind], borders[kind + 1],
                        numbers, ENTRIES=entries, TABLED=TABLED, TOP=entries.bit_length(),
                        QUADS=quads, **flags)  # fmt: skip
            heavy = (plan.heavy_rows, plan.heavy_slots, csr.indptr, packed, chances, state, parts)
            _launch(_heavy_kernel, "heavy", heavy, plan.class_heavy[c], plan.class_heavy[c + 1], (n_sweeps, *numbers),
                    TOP=kinds.top_heavy, SHARED=flags["SHARED"])  # fmt: skip
        state.add_(1)

    captured = Captured(packed.device, n_sweeps)
    for _ in range(n_sweeps):
        captured.run(sweep)


def _launch(
    kernel: Any, kind: str, tensors: tuple[Tensor, ...], first: int, last: int, numbers: tuple[int, ...],
    **constants: Any,
) -> None:  # fmt: skip
    """Covers items first to last and all words with tiles."""
    if first == last:
        return
    items, words, vector = tile(kind, last - first, n_words=numbers[-3])
    grid = (triton.cdiv(last - first, items), triton.cdiv(numbers[-3], words))
    kernel[grid](
        *tensors,
        first,
        last,
        *numbers,
        ITEMS=items,
        WORDS=words,
        VECTOR=vector,
        num_warps=warps(),
        **constants,
    )


def tile(kind: str, n_items: int, n_words: int) -> tuple[int, int, int]:
    """Items and words of a program, and how many words a thread takes at once."""
    is_interpreted = triton.knobs.runtime.interpret
    vector = VECTOR[kind] if n_words % VECTOR[kind] == 0 else 1
    words = min(triton.next_power_of_2(n_words), MAX_WORDS)
    items = max((TILE_INTERPRETED if is_interpreted else LANES * vector) // words, 1)
    return min(items, triton.next_power_of_2(n_items)) if is_interpreted else items, words, vector


def warps() -> int:
    """Warps of LANES lanes; AMD's have 64."""
    return LANES // (64 if torch.version.hip else 32)


def wrapped(number: int) -> int:
    """A number below 2^32 as the int32 of the same bits."""
    return (number + 2**31) % 2**32 - 2**31


def _kinds_of(plan: RowPlan, indptr: Tensor) -> _Kinds:
    """Kept while the plan lives; made with two waits for the device."""
    kept: _Kinds | None = _kinds.get(plan.starts)
    if kept is None:
        kept = _kinds[plan.starts] = _make_kinds(plan, indptr)
    return kept


def _make_kinds(plan: RowPlan, indptr: Tensor) -> _Kinds:
    borders = torch.tensor(plan.class_items, device=indptr.device)
    classes = torch.repeat_interleave(borders.diff(), output_size=plan.starts.numel())
    all_passes = CHUNK // GROUP + 1
    passes = (plan.counts + GROUP - 1) // GROUP + all_passes * (plan.targets < 0)
    keys = 2 * all_passes * classes - passes
    items = (plan.starts, plan.counts, plan.targets)
    if plan.n_slots:  # without parts the plan is in order
        keys, order = keys.sort(stable=True)
        items = (plan.starts[order], plan.counts[order], plan.targets[order])
    # Of each class the first item of at most so many passes.
    most = torch.tensor([entries // GROUP for entries in reversed(FEW)], device=indptr.device)
    wanted = 2 * all_passes * torch.arange(plan.n_classes, device=indptr.device)[:, None] - most
    inner = torch.searchsorted(keys, wanted)
    rows = torch.cat([borders[:-1, None], inner, borders[1:, None]], dim=1).tolist()
    degree = int(indptr.diff().max()) if indptr.numel() > 1 else 0
    return _Kinds(items, tuple(map(tuple, rows)), next(top for top in TOPS_HEAVY if degree < 1 << top))
