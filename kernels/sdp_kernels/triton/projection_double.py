"""float64 rows times the dense maps: torch products with slabs of the map, whose entries are float32 numbers.

Every product has one shape, ROWS rows by at most SLAB features by at most PANEL components, whatever the number of rows
(the last ones are filled up with zeros): a library may choose another order of summation for another shape, and a row's
bits are to depend on the row and the map alone. Memory: 18 MB at most.

Sparse rows are taken ENTRIES at a time: the map for the features that occur, gathered, scaled and summed by segments in
order. A row that is longer is cut every ENTRIES from its own beginning. Memory: 64 MB.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
from torch import Tensor

from sdp_kernels.triton.projection_slab import COLUMNS, fill_slab

ROWS = 256
SLAB, PANEL = 1024, 1024
ENTRIES, PANEL_OF_ROWS = 1 << 14, 128  # 16 MB of terms, and as many of the map twice

Rows = tuple[Tensor, Tensor, Tensor]


def dense_map(X: Tensor, out: Tensor, seed: int, purpose: int, is_normal: bool, scale: float) -> None:
    """Writes out (n, k) = scale X A, float64."""
    (n, n_features), k = X.shape, out.shape[1]
    for start in range(0, k, PANEL):
        width = min(PANEL, k - start)
        for first in range(0, n_features, SLAB):
            deep = min(SLAB, n_features - first)
            a = _entries(first, deep, start, width, (seed, purpose), is_normal, X.device)
            factor = scale if first + deep == n_features else 1.0
            for row in range(0, n, ROWS):
                x = X[row : row + ROWS, first : first + deep]
                target = out[row : row + ROWS, start : start + width]
                if len(x) < ROWS:
                    x = torch.cat((x, x.new_zeros((ROWS - len(x), deep))))
                sums = (x.contiguous() @ a)[: len(target)]
                target.copy_((sums if first == 0 else target + sums) * factor)


def dense_map_of_rows(
    rows: Rows, out: Tensor, seed: int, purpose: int, is_normal: bool, scale: float
) -> None:
    """Writes out (n, k) = scale (sparse rows) A, float64."""
    indptr, indices, values = rows
    bounds = indptr.tolist()
    k = out.shape[1]
    for first, last, begin, end in _pieces(bounds):
        target = out[first:last]
        is_continued = begin > bounds[first]
        if begin == end:
            target.zero_()
            continue
        features, places = torch.unique(indices[begin:end], return_inverse=True)
        offsets = (indptr[first : last + 1].long() - begin).clamp_(0, end - begin)
        for start in range(0, k, PANEL_OF_ROWS):
            width = min(PANEL_OF_ROWS, k - start)
            a = _entries(features, len(features), start, width, (seed, purpose), is_normal, values.device)
            terms = a[places].mul_(values[begin:end, None])
            sums = torch.segment_reduce(terms, "sum", offsets=offsets, axis=0, initial=0.0)
            columns = target[:, start : start + width]
            columns.copy_(columns + sums if is_continued else sums)
    out *= scale


def _pieces(bounds: list[int]) -> Iterator[tuple[int, int, int, int]]:
    """(first row, last row, first entry, last entry): whole rows of at most ENTRIES, or a piece of one longer row."""
    first, n = 0, len(bounds) - 1
    while first < n:
        last = first
        while last < n and bounds[last + 1] - bounds[first] <= ENTRIES:
            last += 1
        if last > first:
            yield first, last, bounds[first], bounds[last]
            first = last
            continue
        for begin in range(bounds[first], bounds[first + 1], ENTRIES):
            yield first, first + 1, begin, min(begin + ENTRIES, bounds[first + 1])
        first += 1


def _entries(
    first: int | Tensor, deep: int, start: int, width: int, key: tuple[int, int], is_normal: bool, device: torch.device
) -> Tensor:  # fmt: skip
    """The map's entries (deep, width), float64: float32 numbers."""
    padded = triton.cdiv(width, COLUMNS) * COLUMNS
    planes = torch.empty((1, deep, padded), dtype=torch.float32, device=device)
    fill_slab(planes, first, start, key, is_normal)
    return planes[0, :, :width].double()
