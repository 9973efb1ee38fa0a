"""The order in which kernels walk the rows of a graph: one plan a graph, built once and kept while the graph lives.

A plan is a list of items. An item is a stretch of at most CHUNK entries of one row: a whole row, or a part of a heavy
row (more than CHUNK entries). Within a colour class items stand by falling ceil(count / GROUP), otherwise in row order:

    starts  : int64 (n_items,)   first entry
    counts  : int32 (n_items,)   entries, 0 to CHUNK
    targets : int32 (n_items,)   the row, or -1 - slot for a part of a heavy row

so a tile is any stretch of the list, its rows are of like degree, and as many passes of GROUP entries as its *first*
item takes suffice for all of them (`load_items`). A class is the items class_items[c] to class_items[c + 1]: one
launch, of any tile size. A part's sum goes to its slot of a scratch array (n_slots, ...); a second launch over the
heavy rows class_heavy[c] to class_heavy[c + 1] adds slots heavy_slots[h] to heavy_slots[h + 1] in order into row
heavy_rows[h]. No atomics; CHUNK is a part of the result (it says where a long sum is cut), tiles are not.

A tile reads 16 contiguous bytes an item, where a list of row numbers would read 4 and then gather 16 of `indptr`.

Source: the bins of rows are those of Greathouse and Daga, "CSR-adaptive" (SC 2014), by sorting instead of by blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

CHUNK = 128  # entries: 32 dependent gathers, about 20 us; a chunk's sum is 1 to 2% of the bytes it read
GROUP = 4  # entries a pass of the kernels' loops: their gathers are in flight together

_GROUP = tl.constexpr(GROUP)


@dataclass(frozen=True)
class RowPlan:
    """The items of a graph, on its device, and where classes begin, on the CPU.

    Attributes:
        starts: int64 (n_items,), first entry of each item.
        counts: int32 (n_items,), its entries.
        targets: int32 (n_items,), its row, or -1 - slot.
        heavy_rows: int32 (n_heavy,), rows of more than CHUNK entries, rising.
        heavy_slots: int64 (n_heavy + 1,), heavy row h is slots heavy_slots[h] to heavy_slots[h + 1].
        class_items: n_classes + 1 borders of the classes in the items; (0, n_items) without classes.
        class_heavy: n_classes + 1 borders of the classes in the heavy rows.
        n_slots: parts of heavy rows.
    """

    starts: Tensor
    counts: Tensor
    targets: Tensor
    heavy_rows: Tensor
    heavy_slots: Tensor
    class_items: tuple[int, ...]
    class_heavy: tuple[int, ...]
    n_slots: int

    @property
    def n_classes(self) -> int:
        """Number of colour classes, empty ones included; 1 without classes."""
        return len(self.class_items) - 1


@dataclass
class _Plans:
    """Plans of one `indptr`, valid as long as it has this version (torch counts in-place changes)."""

    version: int
    whole: RowPlan | None
    by_class: WeakIdKeyDictionary


_plans = WeakIdKeyDictionary()


def row_plan(indptr: Tensor, class_ptr: Tensor | None = None) -> RowPlan:
    """The plan of these rows; made at the first call with these very tensors, which are held weakly.

    Args:
        indptr: int64 (n + 1,), on the device; at most 2^31 rows.
        class_ptr: int64 (n_classes + 1,), on the CPU; None for one class of all rows.

    Returns:
        The plan. Making it costs a sort of n keys on the device and a handful of waits for it; keep the tensors and
        later calls cost nothing.

    Complexity: O(n log n) once; 16 bytes a row are kept.
    """
    plans: _Plans | None = _plans.get(indptr)
    if plans is None or plans.version != _version(indptr):
        plans = _plans[indptr] = _Plans(_version(indptr), None, WeakIdKeyDictionary())
    if class_ptr is None:
        if plans.whole is None:
            plans.whole = _make(indptr, torch.tensor([0, indptr.numel() - 1]))
        return plans.whole
    kept: tuple[int, RowPlan] | None = plans.by_class.get(class_ptr)
    if kept is None or kept[0] != _version(class_ptr):
        kept = plans.by_class[class_ptr] = (_version(class_ptr), _make(indptr, class_ptr))
    return kept[1]


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version  # inference tensors count no changes


def _make(indptr: Tensor, class_ptr: Tensor) -> RowPlan:
    device, n = indptr.device, indptr.numel() - 1
    degrees = indptr.diff()
    parts = ((degrees + CHUNK - 1) // CHUNK).clamp_(min=1)  # an empty row is an item too
    first_items = torch.nn.functional.pad(parts.cumsum(0), (1, 0))
    rows = torch.repeat_interleave(torch.arange(n, device=device), parts)
    part = torch.arange(rows.numel(), device=device) - first_items[rows]
    starts = indptr[rows] + part * CHUNK
    counts = (indptr[rows + 1] - starts).clamp_(max=CHUNK)
    is_part = degrees[rows] > CHUNK
    slots = is_part.cumsum(0) - 1
    heavy_rows = torch.nonzero(degrees > CHUNK).flatten()

    borders = class_ptr.to(device)
    class_items = first_items[borders].cpu()
    class_heavy = torch.searchsorted(heavy_rows, borders)
    classes = torch.repeat_interleave((class_items.diff()).to(device))
    passes = (counts + GROUP - 1) // GROUP
    order = torch.argsort(classes * (CHUNK // GROUP + 1) - passes, stable=True)
    return RowPlan(
        starts=starts[order],
        counts=counts[order].int(),
        targets=torch.where(is_part, -1 - slots, rows)[order].int(),
        heavy_rows=heavy_rows.int(),
        heavy_slots=torch.nn.functional.pad(parts[heavy_rows].cumsum(0), (1, 0)),
        class_items=tuple(class_items.tolist()),
        class_heavy=tuple(class_heavy.tolist()),
        n_slots=int(parts[heavy_rows].sum()),
    )


@triton.jit
def load_items(starts_ptr, counts_ptr, targets_ptr, first, last, ITEMS: tl.constexpr):
    """The tile of ITEMS items from `first` on, `first` < `last`; items from `last` on are empty.

    Returns starts int64 (ITEMS,), counts int32 (ITEMS,), targets int32 (ITEMS,), the mask (ITEMS,) and the passes of
    GROUP entries, int32, that the longest item takes: the first one.
    """
    place = first + tl.arange(0, ITEMS)
    mask = place < last
    starts = tl.load(starts_ptr + place, mask=mask, other=0)
    counts = tl.load(counts_ptr + place, mask=mask, other=0)
    targets = tl.load(targets_ptr + place, mask=mask, other=0)
    return starts, counts, targets, mask, tl.cdiv(tl.load(counts_ptr + first), _GROUP)
