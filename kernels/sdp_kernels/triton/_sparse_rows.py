"""Compressed sparse rows by torch operations on their device: what is too rare to be worth a kernel.

Sums of numbers that fall on one place are taken in the order of the entries, without atomics: entries are sorted by
place (stably), and the t-th number of every place is added in pass t, in which no place occurs twice.
"""

from __future__ import annotations

import torch
from torch import Tensor


def add_in_order(target: Tensor, places: Tensor, values: Tensor) -> None:
    """target[places[e]] += values[e], one e after the other in effect.

    Args:
        target: (m,), written to.
        places: int64 (nnz,), below m.
        values: (nnz,), of the dtype of `target`.

    Complexity: a sort of nnz, and a pass over them for each time that the most frequent place occurs.
    """
    if not len(places):
        return
    ordered, order = torch.sort(places, stable=True)
    position = torch.arange(len(places), device=places.device)
    is_first = torch.ones_like(ordered, dtype=torch.bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    rank = position - torch.where(is_first, position, 0).cummax(0).values
    for turn in range(int(rank.max()) + 1):
        chosen = order[rank == turn]
        at = places[chosen]
        target[at] = target[at] + values[chosen]


def entries_of(indptr: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Entries of some rows, row by row.

    Args:
        indptr: (n + 1,) of all rows.
        rows: int64 (m,), which ones.

    Returns:
        int64 positions of the entries, and for each the place of its row in `rows`.
    """
    begin = indptr[rows].to(torch.int64)
    counts = indptr[rows + 1].to(torch.int64) - begin
    owner = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), counts)
    before = counts.cumsum(0) - counts
    return torch.arange(len(owner), device=rows.device) - before[owner] + begin[owner], owner


def lay_out(
    indptr: Tensor, indices: Tensor, values: Tensor, rows: Tensor, n_features: int, dtype: torch.dtype
) -> Tensor:
    """Some sparse rows as dense ones (m, n_features) of this dtype; repeated features add up in order."""
    entries, owner = entries_of(indptr, rows)
    dense = torch.zeros(len(rows) * n_features, dtype=dtype, device=values.device)
    add_in_order(dense, owner * n_features + indices[entries].to(torch.int64), values[entries].to(dtype))
    return dense.view(len(rows), n_features)
