"""Every edge of a graph once, for kernels that go over edges and not over rows: made once a graph, kept with it.

CSR stores both directions of an edge; here edge e is {rows[e], cols[e]} with rows[e] < cols[e], in row order, so that
the end `rows[e]` mostly stays in the first cache. Where the weights take at most MAX_GROUPS values, edges stand
value by value: a kernel then counts them instead of adding weights up.

Fixed point. Sums of weights run in integers, which no order of addition changes:

    weight = (high + low / 2^LIMB) / 2^exponent,   |high| <= 2^LIMB, |low| < 2^LIMB, both cut towards zero,

exact for weights above 2^-26 of the largest (float32 has 24 bits), within 2^-49 of the largest for all.

12 bytes an edge are kept beside the 16 of the CSR.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

if TYPE_CHECKING:
    from sdp_kernels.graph import CSR

MAX_GROUPS = 64  # different weights: beyond, ragged last chunks of the groups would cost more than adding up
LIMB = 25  # bits of one integer: 32 of them add up within int32
MAX_EXPONENT = 120  # powers of two that kernels multiply by must be finite in float32
_SAMPLE = 1 << 16  # weights looked at to find new values


@dataclass(frozen=True)
class Edges:
    """The edges i < j of a graph, on its device.

    Attributes:
        rows: int32 (m,), the smaller end.
        cols: int32 (m,), the larger end.
        weights: float32 (m,).
        groups: the different weights with how many edges have each, in the order of the edges; None where there are
            more than MAX_GROUPS.
        largest: of the weights' magnitudes; 0 without edges.
        exponent: of the fixed point above.
        has_low: whether any weight needs its second limb.
    """

    rows: Tensor
    cols: Tensor
    weights: Tensor
    groups: tuple[tuple[float, int], ...] | None
    largest: float
    exponent: int
    has_low: bool


_kept = WeakIdKeyDictionary()


def edges_of(csr: CSR) -> Edges:
    """The edges of this graph; made at the first call with these very tensors, which are held weakly.

    Args:
        csr: the graph, weights float32 and finite.

    Returns:
        Its edges. Making them waits for the device a few times; later calls cost nothing.

    Complexity: O(m) for each different weight, at most MAX_GROUPS + 1 times; 12 bytes an edge are kept, about 30 an
        edge held while they are made.
    """
    state = tuple((tensor.data_ptr(), tensor.numel(), _version(tensor)) for tensor in csr)
    kept: tuple[object, Edges] | None = _kept.get(csr.weights)
    if kept is None or kept[0] != state:
        kept = _kept[csr.weights] = (state, _make(csr))
    return kept[1]


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version  # inference tensors count no changes


def _make(csr: CSR) -> Edges:
    n = csr.indptr.numel() - 1
    all_rows = torch.arange(n, dtype=torch.int32, device=csr.indptr.device)
    all_rows = torch.repeat_interleave(all_rows, csr.indptr.diff(), output_size=csr.indices.numel())
    upper = torch.nonzero(all_rows < csr.indices).flatten()
    rows, cols, weights = all_rows[upper], csr.indices[upper], csr.weights[upper]
    del all_rows, upper
    values = _few_values(weights)
    if values is not None and len(values) > 1:
        place = torch.searchsorted(values, weights)
        order = torch.cat([torch.nonzero(place == g).flatten() for g in range(len(values))])
        counts = torch.bincount(place, minlength=len(values)).tolist()
        rows, cols, weights = rows[order], cols[order], weights[order]
    else:
        counts = [weights.numel()]
    groups = None if values is None else tuple(zip(values.tolist(), counts, strict=False))
    largest = float(weights.abs().max()) if weights.numel() else 0.0
    exponent = min(LIMB - math.frexp(largest)[1], MAX_EXPONENT)
    scaled = weights * 2.0**exponent  # exact in float32, as in kernels
    return Edges(rows, cols, weights, groups, largest, exponent, bool((scaled != scaled.trunc()).any()))


def _few_values(weights: Tensor) -> Tensor | None:
    """The different weights, rising; None where there are more than MAX_GROUPS."""
    values: Tensor = torch.unique(weights[:_SAMPLE])
    while 0 < len(values) <= MAX_GROUPS:
        nearest = values[torch.searchsorted(values, weights).clamp_(max=len(values) - 1)]
        others = weights[nearest != weights]
        if not others.numel():
            return values
        values = torch.unique(torch.cat([values, others[:_SAMPLE]]))
    return values if not len(values) else None
