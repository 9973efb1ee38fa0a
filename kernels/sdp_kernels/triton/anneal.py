"""Triton twin of `sdp_kernels.anneal`: packs the signs once a call, sweeps over words, unpacks them at the end.

Kernels: `anneal_kernels`; packed replicas: `multispin`. A sweep is one recorded graph: a launch for the random places,
one or two (heavy rows) a colour class and one that counts the changes; its number and temperatures lie on the device.
Where the sums of weights are exact in float32 every decision is the CPU twin's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import triton
from torch import Tensor

from sdp_kernels.triton import graph, replicas
from sdp_kernels.triton._capture import Captured
from sdp_kernels.triton._rows import RowPlan, row_plan
from sdp_kernels.triton.anneal_kernels import (
    BLOCK_VERTICES,
    WORD,
    _changes_kernel,
    _heavy_kernel,
    _move_kernel,
    _places_kernel,
)
from sdp_kernels.triton.crossover import partition_crossover as partition_crossover
from sdp_kernels.triton.multispin import anneal_packed as anneal_packed
from sdp_kernels.triton.multispin import warps, wrapped

if TYPE_CHECKING:
    from sdp_kernels.graph import CSR

MAX_PASSES = 1000  # of one_opt, as on the CPU
PASSES_A_LOOK = 8  # passes of one_opt between two looks of the host at what has changed
ITEMS = 128  # rows a program: one a lane
PLACES = (16, 32)  # blocks and replicas a program
CHUNK_PASSES = 16
ITEMS_INTERPRETED = 1 << 11


def anneal(
    csr: CSR,
    class_ptr: Tensor,
    signs: Tensor,
    gains: Tensor,
    temperatures: Tensor,
    thresholds: Tensor,
    seed: int,
    stream: int,
    first_sweep: int,
) -> Tensor:
    """See the public operation."""
    (n_replicas, n), n_sweeps = signs.shape, temperatures.shape[1]
    if not signs.numel() or not n_sweeps:
        return torch.zeros(n_replicas, dtype=torch.int64, device=signs.device)
    packed = replicas.pack_signs(signs.t())
    previous, n_words = packed.clone(), packed.shape[1]
    blocks, class_blocks = _blocks(class_ptr, signs.device)
    places = packed.new_empty((WORD * n_words, blocks.numel()))
    rows = _items()
    grid_changes = (triton.cdiv(n, rows * CHUNK_PASSES), n_words)
    changes = torch.zeros((grid_changes[0], WORD * n_words), dtype=torch.int64, device=signs.device)
    state = torch.tensor([0, wrapped(first_sweep)], dtype=torch.int32, device=signs.device)
    rule = (places, thresholds, temperatures, state)
    visit = _Visit(csr, class_ptr, packed, rule, class_blocks, (n_replicas, n_sweeps, 0.0), "anneal")
    at_once = (max(rows // WORD, 1), WORD) if _is_interpreted() else PLACES

    def sweep() -> None:
        grid = (triton.cdiv(blocks.numel(), at_once[0]), triton.cdiv(WORD * n_words, at_once[1]))
        _places_kernel[grid](
            blocks, state, places, blocks.numel(), WORD * n_words, seed, stream,
            BLOCKS=at_once[0], COLUMNS=at_once[1], num_warps=warps(),
        )  # fmt: skip
        visit.classes()
        _changes_kernel[grid_changes](
            packed, previous, changes, n, n_words, ROWS=rows, PASSES=CHUNK_PASSES, num_warps=warps()
        )
        state.add_(1)

    captured = Captured(signs.device, n_sweeps)
    for _ in range(n_sweeps):
        captured.run(sweep)
    _unpack(csr, packed, signs, gains)
    return changes.sum(0)[:n_replicas]


def one_opt(csr: CSR, class_ptr: Tensor, signs: Tensor, gains: Tensor, tolerance: float) -> None:
    """See the public operation."""
    if not signs.numel():
        return
    packed = replicas.pack_signs(signs.t())
    none = packed.new_zeros(1)  # annealing's tensors, not read
    visit = _Visit(csr, class_ptr, packed, (none,) * 4, None, (signs.shape[0], 0, tolerance), "one_opt")
    captured = Captured(signs.device)
    look = 1 if _is_interpreted() else PASSES_A_LOOK
    for _ in range(MAX_PASSES // look):
        before = packed.clone()
        for _ in range(look):
            captured.run(visit.classes)
        if torch.equal(before, packed):
            break
    _unpack(csr, packed, signs, gains)


class _Visit:
    """Launches that visit every vertex once, class after class."""

    def __init__(
        self,
        csr: CSR,
        class_ptr: Tensor,
        packed: Tensor,
        rule: tuple[Tensor, ...],
        class_blocks: list[int] | None,
        numbers: tuple[int, int, float],
        name: str,
    ) -> None:
        self._plan: RowPlan = row_plan(csr.indptr, class_ptr)
        self._csr, self._packed, self._rule, self._numbers, self._name = csr, packed, rule, numbers, name
        self._class_ptr: list[int] = class_ptr.tolist()
        self._class_blocks = class_blocks or [0] * (self._plan.n_classes + 1)
        self._parts = packed.new_empty((self._plan.n_slots, WORD * packed.shape[1]), dtype=torch.float32)

    def classes(self) -> None:
        """One visit."""
        plan, csr, decide = self._plan, self._csr, (self._parts, self._packed, *self._rule)
        items = (plan.starts, plan.counts, plan.targets, csr.indices, csr.weights)
        for c in range(plan.n_classes):
            first, last = plan.class_items[c : c + 2]
            self._launch(_move_kernel, (*items, *decide), first, last, c, PARTS=plan.n_slots > 0)
            first, last = plan.class_heavy[c : c + 2]
            self._launch(_heavy_kernel, (plan.heavy_rows, plan.heavy_slots, *decide), first, last, c)

    def _launch(
        self, kernel: Any, tensors: tuple[Tensor, ...], first: int, last: int, c: int, **constants: Any
    ) -> None:
        if first == last:
            return
        items = min(_items(), triton.next_power_of_2(last - first)) if _is_interpreted() else ITEMS
        n_words = self._packed.shape[1]
        kernel[triton.cdiv(last - first, items), n_words](
            *tensors, first, last, self._class_ptr[c], self._class_blocks[c], self._class_blocks[-1],
            n_words, *self._numbers,
            RULE=self._name, ITEMS=items, num_warps=warps(), **constants,
        )  # fmt: skip


def _blocks(class_ptr: Tensor, device: torch.device) -> tuple[Tensor, list[int]]:
    """First vertex of each block of BLOCK_VERTICES, int32 on the device; the first block of each class."""
    blocks = (class_ptr.diff() + BLOCK_VERTICES - 1) // BLOCK_VERTICES
    first_blocks = torch.nn.functional.pad(blocks.cumsum(0), (1, 0))
    classes = torch.repeat_interleave(blocks)
    inside = torch.arange(classes.numel()) - first_blocks[classes]
    return (class_ptr[classes] + BLOCK_VERTICES * inside).int().to(device), first_blocks.tolist()


def _unpack(csr: CSR, packed: Tensor, signs: Tensor, gains: Tensor) -> None:
    signs.copy_(replicas.unpack_signs(packed, signs.shape[0]).t())
    gains.copy_(graph.gains(csr, signs))


def _items() -> int:
    return ITEMS_INTERPRETED if _is_interpreted() else ITEMS


def _is_interpreted() -> bool:
    return bool(triton.knobs.runtime.interpret)
